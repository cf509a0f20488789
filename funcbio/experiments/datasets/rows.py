"""Images as rows of numbers with commas between, the label last: the format of the 5,000 digits of MNIST."""

import io

import numpy as np

from funcbio.experiments.frame.settings import SettingError

FILE = "mnist_5k.csv"
SHAPE = 1, 28, 28
PIXELS = 28 * 28
ONE_TEST_IMAGE_IN = 5


def read_rows(names: tuple[str, ...], contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Reads rows of 784 pixels and a label, all from 0 to 255.

    Raises:
        SettingError: If there are no rows, or a row is not one of 785 such numbers.
    """
    try:
        lines = io.BytesIO(contents[0])
        table = np.loadtxt(lines, np.uint8, delimiter=",", comments=None, ndmin=2) if contents[0].strip() else None
    except ValueError as error:
        raise SettingError(f"{names[0]} should hold rows of numbers from 0 to 255; found {error}") from None
    if table is None or table.shape[1] != PIXELS + 1:
        columns = "nothing" if table is None else f"{table.shape[1]} columns"
        raise SettingError(f"{names[0]} should hold rows of {PIXELS + 1} numbers; found {columns}")
    return table[:, :-1].reshape(-1, *SHAPE), np.ascontiguousarray(table[:, -1])


def split_evenly(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Orders images at random, the same on every machine; a fifth of every class comes last, as the test set.

    Returns:
        The order, and the number of images before the test set.

    Example:
        >>> order, train = split_evenly(np.repeat([3, 8], 10))
        >>> train, np.repeat([3, 8], 10)[order[train:]].tolist()
        (16, [3, 8, 8, 3])
    """
    draws = np.random.RandomState(0)  # What it draws never changes; newer generators may draw otherwise one day.
    test, drawn = np.zeros(len(labels), bool), draws.permutation(len(labels))
    for label in np.unique(labels):
        members = drawn[labels[drawn] == label]
        test[members[: len(members) // ONE_TEST_IMAGE_IN]] = True
    # A second order: in the first one, classes whose test part was still to be filled would come late.
    order = draws.permutation(len(labels))
    return np.concatenate([order[~test[order]], order[test[order]]]), int((~test).sum())
