"""Distances of reconstructions from images: mean squared error, PSNR and SSIM of scikit-image."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from scipy.optimize import linear_sum_assignment
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

METRICS = {"psnr": "PSNR, dB", "recovered": "share recovered", "ssim": "SSIM", "mse": "mean squared error"}
"""Metrics, and their names in tables and figures."""

WINDOW = 7
"""Pixels across SSIM's window, scikit-image's default; the largest odd number that fits into smaller images."""

MOST = 60.0
"""Cap of the PSNR in dB: errors are then smaller than those of eight bits a pixel."""

RECOVERED = 30.0
"""Lowest PSNR in dB at which an image counts as recovered: it then looks the same."""

NEVER = 1e6
"""Cost of a pair of different classes: above that of any other assignment."""


def matched(reconstructed: ndarray, true: ndarray, labels: Sequence[int]) -> ndarray:
    """Puts reconstructions, shape ``(images, channels, height, width)``, in the order of the images.

    A gradient does not say in which order the images of one class stood. So the images of each class are matched such
    that the sum of squared errors is smallest; the attacker knows the classes.
    """
    cost = ((true[:, None] - reconstructed[None]) ** 2).mean((2, 3, 4))
    cost = cost + NEVER * (np.asarray(labels)[:, None] != np.asarray(labels)[None])
    return reconstructed[linear_sum_assignment(cost)[1]]


def scores(reconstructed: ndarray, true: ndarray) -> dict[str, list[float]]:
    """Measures reconstructions of images in the same order, with values in [0, 1].

    Returns one number for every image, by the name of the metric; "recovered" is 1 or 0.
    """
    pairs = list(zip(true.astype(np.float64), reconstructed.astype(np.float64), strict=True))
    errors = [float(mean_squared_error(*pair)) for pair in pairs]
    ratios = [_ratio(*pair) if error > 0.0 else MOST for pair, error in zip(pairs, errors, strict=True)]
    recovered = [float(ratio >= RECOVERED) for ratio in ratios]
    return {"psnr": ratios, "recovered": recovered, "ssim": [_similarity(*pair) for pair in pairs], "mse": errors}


def _ratio(true: ndarray, reconstructed: ndarray) -> float:
    return min(MOST, float(peak_signal_noise_ratio(true, reconstructed, data_range=1.0)))


def _similarity(true: ndarray, reconstructed: ndarray) -> float:
    size = min(WINDOW, *(side - 1 + side % 2 for side in true.shape[1:]))
    return float(structural_similarity(true, reconstructed, data_range=1.0, win_size=size, channel_axis=0))  # pyright: ignore[reportArgumentType]
