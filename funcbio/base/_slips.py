"""Names that are not known, and which known one was meant."""

import difflib
from collections.abc import Iterable
from typing import Any

from funcbio.base._words import MOST_NAMES, brief, listed

SYNONYMS = {
    "learning_rate": "lr",
    "epochs": "steps",
    "num_steps": "steps",
    "max_steps": "steps",
    "iterations": "steps",
    "epoch": "steps",
    "preset": "mechanisms",
    "presets": "mechanisms",
    "batch": "batch_size",
    "bs": "batch_size",
    "learning_rates": "lr",
    "step_size": "lr",
    "criterion": "loss",
    "loss_fn": "loss",
    "network": "model",
    "dataset": "data",
    "val": "test",
    "validation": "test",
    "validation_data": "test",
    "test_data": "test",
    "hyperparameters": "grid",
    "param_grid": "grid",
    "verbose": "progress",
    "repeats": "seeds",
    "num_seeds": "seeds",
    "n_seeds": "seeds",
    "cv": "folds",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "spine_turnover": "rejuvenate_weights",
    "turnover": "rejuvenate_weights",
    "selective": "rejuvenate_weights",
    "swr": "rejuvenate_weights",
    "homeostasis": "scale_grad",
    "homeostatic_scaling": "scale_grad",
    "volume_dependent_plasticity": "volume_dependent_lr",
    "cbp": "continual_backprop",
    "snr": "self_normalized_resets",
    "weight_clipping": "clip_weights",
}
"""Names that other libraries give to what has one here."""

SPELT = str.maketrans(" -", "__")
"""How names of methods in prose become names in code."""

ALIKE = 0.6
"""Share of the letters that a name has in common, in order, with one that it may be a slip of."""


def by_nearness(name: object, names: Iterable[str]) -> list[str]:
    """Returns names in the order in which another one may have meant them, whatever the case of its letters.

    Example:
        >>> by_nearness("Relu", ["tanh", "relu"])
        ['relu', 'tanh']
    """
    text = str(name)

    def distance(one: str) -> list[float]:
        pairs = (one.lower(), text.lower()), (one, text)
        return [SYNONYMS.get(text) != one, *(-difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)]

    return sorted(names, key=distance)


def nearest(name: object, names: Iterable[str]) -> str:
    """Returns the one of some names that another name is likely to be a slip of; "" if none is.

    Example:
        >>> nearest("adamw", ["SGD", "AdamW"]), nearest("lion", ["SGD", "AdamW"])
        ('AdamW', '')
    """
    text, small = f"{name}".lower().translate(SPELT), {each.lower(): each for each in names}
    if SYNONYMS.get(text) in small:
        return small[SYNONYMS[text]]
    near = difflib.get_close_matches(text, small, n=1, cutoff=ALIKE)
    return small[near[0]] if near else ""


def perhaps(name: object, names: Iterable[str]) -> str:
    """Returns what a name is likely to be a slip of, for a message that refuses it; "" if that is not known."""
    near = nearest(name, names)
    return f", perhaps {near}" if near else ""


def is_among(value: object, options: Iterable[Any]) -> bool:
    """Returns True if a value is one of some options; False for arrays, which compare element by element."""
    try:
        return value in list(options)
    except (ValueError, RuntimeError):
        return False


def check_option(name: str, value: object, options: Iterable[str], hint: str = "") -> None:
    """Raises ValueError if ``value`` is not among the options; the message ends with the hint, if there is one."""
    options = list(options)
    if not is_among(value, options):
        near = perhaps(value, options) if len(options) > MOST_NAMES and not hint else ""
        raise ValueError(f"{name} should be one of {listed(options)}{near}; found {brief(value)}{hint}")
