"""Errors in the words of release 0.0.5: programs match on them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from funcbio.bio_config import ConfigError
from funcbio.mechanisms import NO_DALE
from funcbio.objects._checks import FROZEN, NO_GRADIENTS, NO_SIGN

SIGN_NOT_FOUND = "sign attribute not found. Make sure dalian_network_initialization has been applied."
GAMMA = re.compile(r"(weight_splitting_Gamma .*must evenly divide the number of features \(\d+\))")
LIMITS = {
    "fuzzy_learning_rate_factor_nu": (lambda value: value > 0, "must be positive"),
    "dampening_factor": (lambda value: 0 < value < 1, "must be between 0 and 1"),
    "crystal_thresh": (lambda value: value > 0, "must be positive"),
    "rejuvenation_parameter_dre": (lambda value: value > 0, "must be positive"),
    "weight_splitting_Gamma": (lambda value: value >= 0, "cannot be negative"),
    "weight_splitting_activation_function": (callable, "must be Callable"),
    "base_lr": (lambda value: 0 < value < 1, "must be between 0 and 1"),
    "stability_factor": (lambda value: value > 0, "must be positive"),
    "lr_variability": (lambda value: value > 0, "must be positive"),
}
"""Assertions of the release, in its order and its words."""


class UnknownFieldError(ConfigError, TypeError):
    """Reports an unknown field: the release raised a TypeError, or a ValueError when fields were replaced."""


def limit_broken(values: dict[str, object]) -> str | None:
    """Returns the release's message for values that it refuses; None if it accepts them."""
    for name, (holds, text) in LIMITS.items():
        try:
            broken = not holds(values[name])
        except TypeError:  # No number at all.
            return None
        if broken:
            return f"{name} {text}"
    return None


@contextmanager
def in_its_words(method: str = "") -> Iterator[None]:
    """Rewrites errors that the release had too in its words; some are those of one method."""
    try:
        yield
    except (RuntimeError, AttributeError, ValueError) as error:
        text = str(error)
        if text.startswith(NO_SIGN):
            raise AttributeError(SIGN_NOT_FOUND) from None
        gamma = GAMMA.match(text)
        if text.startswith(NO_GRADIENTS):
            error.args = (FROZEN if method == "crystallize" and text.endswith(FROZEN) else NO_GRADIENTS,)
        elif text == NO_DALE:
            error.args = (f"{NO_DALE}.",)
        elif gamma is not None:
            error.args = (f"{gamma[1]}.",)
        raise
