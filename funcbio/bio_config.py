"""The configuration: documented names, defaults and limits, checked when it is created."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from numbers import Integral, Real
from typing import Any

import torch

from funcbio import mechanisms
from funcbio.checks import LARGEST, perhaps
from funcbio.rates import sample_rates


class Distribution(str, Enum):
    """The ten distributions of the rate factors; see ``funcbio.sample_rates``."""

    BASELINE = "baseline"
    UNIFORM = "uniform"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    GAMMA = "gamma"
    BETA = "beta"
    LAYER_ADAPTIVE = "layer_adaptive"
    WEIGHT_ADAPTIVE = "weight_adaptive"
    TEMPORAL = "temporal"
    ACTIVITY = "activity"


class ConfigError(ValueError, AssertionError):
    """A configuration that cannot be: names the field, what it should be and what was given."""


def _hyper(function: Callable[..., Any], keyword: str, should: str) -> Any:
    """A field whose default stands in the signature of the function that uses it."""
    return field(default=inspect.signature(function).parameters[keyword].default, metadata={"should": should})


def _option(default: Any, should: str) -> Any:
    return field(default=default, metadata={"should": should})


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not _large(value)


def _integer(value: Any) -> bool:
    return isinstance(value, Integral) and _number(value)


def _large(number: Any) -> bool:
    """Whether a number is out of the range of the rules; also if it is not finite."""
    return not -LARGEST <= number <= LARGEST


def _plain(value: Any) -> Any:
    """A Python number in the place of one of numpy or of fractions, with which tensors may not multiply."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


CHECKS: dict[str, Callable[[Any], bool]] = {
    "a number > 0": lambda v: _number(v) and v > 0,
    "a number >= 0": lambda v: _number(v) and v >= 0,
    "a number in (0, 1)": lambda v: _number(v) and 0 < v < 1,
    "a number in (0, 1]": lambda v: _number(v) and 0 < v <= 1,
    "a number in [0, 1]": lambda v: _number(v) and 0 <= v <= 1,
    "an integer >= 0": lambda v: _integer(v) and v >= 0,
    "an integer >= 1": lambda v: _integer(v) and v >= 1,
    "an integer": _integer,
    "True or False": lambda v: isinstance(v, bool),
    "callable": callable,
    "'lognormal', 'uniform' or '0.0.5'": lambda v: v in ("lognormal", "uniform", "0.0.5"),
    "'default' or '0.0.5'": lambda v: v in ("default", "0.0.5"),
    f"one of {', '.join(Distribution)}": lambda v: v in list(Distribution),
}


@dataclass(frozen=True)
class BioConfig:
    """Everything that can be set, with the documented names; immutable, checked when created.

    A frozen dataclass that extends it may add fields of its own, for features of its own.

    Attributes:
        fuzzy_learning_rate_factor_nu: Spread of the rate factors.
        dampening_factor: Factor on the rate at crystallization.
        crystal_thresh: Relative gradient under which a weight counts as settled.
        rejuvenation_parameter_dre: Larger means fewer weights replaced.
        weight_splitting_Gamma: Sub-synapses for each connection; 0 and 1 turn splitting off.
        weight_splitting_activation_function: Applied to every sub-synapse's output before the sum.
        apply_dales_principle: Whether the units of a weight matrix are excitatory or inhibitory.
        base_lr: Volume-dependent rule: factor of a vanishing weight.
        stability_factor: Volume-dependent rule: how fast the factor falls with volume.
        lr_variability: Volume-dependent rule: relative spread of the factor.
        fuzzy_lr_distribution: Distribution of the rate factors, a ``Distribution`` or its name.
        fuzzy_lr_min: Smallest rate factor at creation and at updates.
        fuzzy_lr_max: Largest rate factor at creation and at updates.
        fuzzy_lr_dynamic: Whether ``update_fuzzy_learning_rates`` changes the rates.
        fuzzy_lr_decay: Temporal distribution: decay towards 1.
        fuzzy_lr_update_freq: Temporal distribution: period in update calls.
        fuzzy_lr_layer_index: Position of the layer; set by the converter.
        fuzzy_lr_total_layers: Number of layers; set by the converter.
        rejuvenation_variant: "lognormal", "uniform" as in the paper's experiments, or "0.0.5".
        fuzzy_lr_variant: "default", or "0.0.5": what that release of ``bio_transformations`` drew.
        dales_variant: "default", or "0.0.5": one sign for each row of a Linear, each kernel of a convolution.
        crystallization_floor: Rate under which no weight is dampened; 0 is no floor.
        dales_excitatory_fraction: Chance of a unit to be excitatory; 0.8 is customary in the literature.
        scaling_target: Target activity of ``scale_grad``, relative to the layer's mean.
        scaling_gamma: Strength of ``scale_grad``.
        record_activity: Whether layers count their active outputs; the activity distribution always does.

    Raises:
        ConfigError: If a value is out of its limits or a name is unknown; both a ValueError and an AssertionError.

    Example:
        >>> BioConfig(dampening_factor=0.5).dampening_factor
        0.5
        >>> BioConfig(dampening_factor=2.0)
        Traceback (most recent call last):
        ...
        funcbio.bio_config.ConfigError: dampening_factor should be a number in (0, 1); found 2.0
    """

    fuzzy_learning_rate_factor_nu: float = _hyper(sample_rates, "nu", "a number > 0")
    dampening_factor: float = _hyper(mechanisms.crystallize, "dampening", "a number in (0, 1)")
    crystal_thresh: float = _hyper(mechanisms.crystallize, "threshold", "a number > 0")
    rejuvenation_parameter_dre: float = _hyper(mechanisms.rejuvenate_weights, "strength", "a number > 0")
    weight_splitting_Gamma: int = _option(0, "an integer >= 0")  # noqa: N815 - the documented name
    weight_splitting_activation_function: Callable[[torch.Tensor], torch.Tensor] = _option(
        mechanisms.identity, "callable"
    )
    apply_dales_principle: bool = _option(False, "True or False")
    base_lr: float = _hyper(mechanisms.volume_dependent_lr, "base_lr", "a number in (0, 1)")
    stability_factor: float = _hyper(mechanisms.volume_dependent_lr, "stability", "a number > 0")
    lr_variability: float = _hyper(mechanisms.volume_dependent_lr, "variability", "a number > 0")
    fuzzy_lr_distribution: Distribution | str = _option(Distribution.UNIFORM, f"one of {', '.join(Distribution)}")
    fuzzy_lr_min: float = _hyper(sample_rates, "minimum", "a number >= 0")
    fuzzy_lr_max: float = _hyper(sample_rates, "maximum", "a number > 0")
    fuzzy_lr_dynamic: bool = _option(False, "True or False")
    fuzzy_lr_decay: float = _hyper(mechanisms.update_fuzzy_learning_rates, "decay", "a number in (0, 1]")
    fuzzy_lr_update_freq: int = _hyper(mechanisms.update_fuzzy_learning_rates, "every", "an integer >= 1")
    fuzzy_lr_layer_index: int = _option(-1, "an integer")
    fuzzy_lr_total_layers: int = _option(-1, "an integer")
    rejuvenation_variant: str = _hyper(mechanisms.rejuvenate_weights, "variant", "'lognormal', 'uniform' or '0.0.5'")
    fuzzy_lr_variant: str = _hyper(sample_rates, "variant", "'default' or '0.0.5'")
    dales_variant: str = _option("default", "'default' or '0.0.5'")
    crystallization_floor: float = _hyper(mechanisms.crystallize, "floor", "a number >= 0")
    dales_excitatory_fraction: float = _option(0.5, "a number in [0, 1]")
    scaling_target: float = _hyper(mechanisms.scale_grad, "target", "a number > 0")
    scaling_gamma: float = _hyper(mechanisms.scale_grad, "gamma", "a number >= 0")
    record_activity: bool = _option(False, "True or False")

    def __new__(cls, *args: Any, **kwargs: Any) -> "BioConfig":
        """Refuses unknown names before the generated ``__init__`` sees them."""
        del args
        check_names(cls, kwargs)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks every value and turns a distribution's name into the member."""
        for item in fields(self):
            value, should = getattr(self, item.name), item.metadata.get("should")
            if should is not None and not CHECKS[should](value):
                limit = f", of magnitude {LARGEST:g} at most" if isinstance(value, Real) and _large(value) else ""
                raise ConfigError(f"{item.name} should be {should}{limit}; found {value!r}")
            object.__setattr__(self, item.name, _plain(value))
        if self.fuzzy_lr_min >= self.fuzzy_lr_max:
            raise ConfigError(
                f"fuzzy_lr_min should be less than fuzzy_lr_max; found {self.fuzzy_lr_min} and {self.fuzzy_lr_max}"
            )
        object.__setattr__(self, "fuzzy_lr_distribution", Distribution(self.fuzzy_lr_distribution))

    @property
    def records_activity(self) -> bool:
        """Whether layers count their active outputs."""
        return self.record_activity or self.fuzzy_lr_distribution == Distribution.ACTIVITY

    def replace(self, **changes: Any) -> "BioConfig":
        """Returns a copy with some fields changed, checked anew."""
        check_names(type(self), changes)
        return replace(self, **changes)

    _replace = replace  # The name of earlier code, where the configuration was a named tuple.


def check_names(config_class: type[BioConfig], given: Mapping[str, Any]) -> None:
    """Raises ConfigError, with the nearest known name, if a name is no field of the configuration."""
    known = [item.name for item in fields(config_class)]
    for name in map(str, given):
        if name not in known:
            should = f"a field of {config_class.__name__}{perhaps(name, known)}"
            raise ConfigError(f"{name} should be {should}; found an unknown name")


DEFAULT_BIO_CONFIG = BioConfig()
"""The configuration with every default."""
