"""The configuration: documented names, defaults and limits, checked when it is created."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import lru_cache, partial
from typing import Any

import torch

from funcbio._checks import (
    COUNT_OR_NONE,
    INTEGER,
    SHARE,
    Limit,
    brief,
    is_among,
    is_within,
    kind_of,
    large_hint,
    perhaps,
    plain_number,
    require_order,
    settings,
    unlike_default,
)
from funcbio.mechanisms import hyper_parameter, identity
from funcbio.mechanisms._density import LAWS
from funcbio.mechanisms._l2_init import SLOPES
from funcbio.mechanisms._rates import VARIANTS
from funcbio.mechanisms._rejuvenate import DEFAULT
from funcbio.mechanisms._rejuvenate import VARIANTS as REJUVENATIONS
from funcbio.mechanisms._release import VERSION
from funcbio.mechanisms._renew import OUTGOING
from funcbio.mechanisms._select import RULES, UTILITIES
from funcbio.mechanisms._shrink import NOISES
from funcbio.mechanisms._sparse import GROWTHS, NEWBORNS
from funcbio.mechanisms._unit_utility import UTILITIES as UTILITIES_OF_UNITS
from funcbio.mechanisms._upgd import SCOPES

PLAIN = (int, float, bool, str)


class Distribution(str, Enum):
    """Names the ten distributions of the rate factors; see ``funcbio.sample_rates``."""

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
    """Reports a configuration that is not valid: the field, what it should be and what was given."""


def _from_table(name: str) -> Any:
    """Returns a field whose default and limit are those of the mechanism that it sets; see ``funcbio.mechanisms``."""
    row, keyword = hyper_parameter(name)
    return _option(row.defaults[keyword], row.limits[keyword])


def _option(default: Any, limit: Limit) -> Any:
    return _field(default, limit.should, partial(is_within, limit=limit))


def _flag(default: bool) -> Any:
    return _field(default, "True or False", lambda value: isinstance(value, bool))


def _choice(default: str, options: Collection[str]) -> Any:
    should = f"one of {', '.join(options)}"
    return _field(default, should, lambda value: is_among(value, options))


def _field(default: Any, should: str, holds: Callable[[Any], bool]) -> Any:
    return field(default=default, metadata={"should": should, "holds": holds})


@dataclass(frozen=True)
class BioConfig:
    """Holds all settings, with the documented names; immutable, checked when created.

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
        rejuvenation_variant: "lognormal", "uniform" as in the paper's experiments, "0.0.5", or "swr".
        rejuvenation_utility: What counts as weak: "|w|", "|g w|", "random", or "default", that of the variant.
        rejuvenation_rule: How many are replaced: "probability", "threshold", "proportional", or "default".
        rejuvenation_fraction: Share for the rules "threshold" and "proportional".
        fuzzy_lr_variant: "default", or "0.0.5": what that release of ``bio_transformations`` drew.
        dales_variant: "unit": one sign for each unit, in all weights that leave it, which needs the table of units;
            "matrix": one for each unit in each weight matrix; "default": the first where there is a table, else the
            second; "0.0.5": one for each row of a Linear, each kernel of a convolution.
        dales_balance: Whether weights of inhibitory units are larger in the beginning, as these are fewer.
        crystallization_floor: Rate under which no weight is dampened; 0 is no floor.
        dales_excitatory_fraction: Chance of a unit to be excitatory; 0.8 is customary in the literature.
        scaling_target: Target activity of ``scale_grad``, relative to the layer's mean.
        scaling_gamma: Strength of ``scale_grad``.
        l2_init_strength: Strength of ``l2_init``.
        l2_init_penalty: "l2", "l1" or "huber".
        l2_init_delta: Distance from which the penalty "huber" grows no faster.
        shrink_and_perturb_shrink: Factor on the weights in ``shrink_and_perturb``.
        shrink_and_perturb_perturb: Factor on the noise.
        shrink_and_perturb_noise: "init", "start", "normal" or "scaled".
        clip_weights_kappa: Bound of ``clip_weights``, in units of the one below.
        clip_weights_bound: "fan_in", "spread" or "maximum": what a layer's bound is measured by at the beginning.
        spectral_regularization_strength: Strength of ``spectral_regularization``.
        spectral_regularization_power: Power of the largest singular value in it.
        parseval_strength: Strength of ``parseval``.
        parseval_scale: Squared length of the rows in it.
        fire_iterations: Newton-Schulz steps of ``fire``.
        upgd_sigma: Standard deviation of the noise of ``upgd``, in units of the update.
        upgd_beta: Decay of its running utility.
        upgd_decay: Its decay of weights, each step.
        upgd_protect: Whether it protects weights from the update, not only from the noise.
        upgd_scope: "global" or "local": what utilities are compared with.
        prune_and_regrow_drop: Share of connections that ``prune_and_regrow`` replaces.
        prune_and_regrow_grow: "random", "gradient" or "static": where new ones grow.
        prune_and_regrow_newborn: "zero" or "start": the weights of new ones.
        prune_and_regrow_until: Calls over which the share falls to 0 by a cosine; 0 is a constant share.
        density: Share of the connections of a model that exist under ``prune_and_regrow``.
        density_law: "uniform", "erdos_renyi" or "erdos_renyi_kernel": how it is spread over layers.
        hare_and_tortoise_momentum: Decay of the slow average.
        hare_and_tortoise_every: Steps from one return to it to the next.
        dash_alpha: Share of the newest gradient in the running average of ``dash``.
        dash_floor: Smallest factor on a row of weights.
        dash_every: Steps from one shrinking to the next.
        redo_threshold: A unit is dormant up to this part of its layer's mean signal.
        redo_every: Steps from one replacement of dormant units to the next.
        redo_outgoing: What becomes of the weights that leave a new unit: "zero", "keep" or "start".
        continual_backprop_utility: What a unit is good for: "contribution", "zero_contribution",
            "adaptable_contribution", "feature_by_input", "weight", "adaptation" or "random".
        continual_backprop_replacement_rate: Share of a layer's mature units that is replaced at every step.
        continual_backprop_maturity: Steps for which a new unit is safe.
        continual_backprop_decay: What the running averages of utility and signal keep at every step.
        continual_backprop_accumulate: Whether parts of a unit that are due add up from step to step.
        continual_backprop_correct_bias: Whether the next biases take over what a unit brought on average.
        continual_backprop_outgoing: As ``redo_outgoing``.
        self_normalized_resets_percentile: Share of a unit's silent stretches that are no longer than its patience.
        self_normalized_resets_every: Steps from one time that patience is learned to the next.
        self_normalized_resets_patience: Steps for which a unit may be silent before that is learned.
        self_normalized_resets_minimum: Least patience that is learned.
        self_normalized_resets_maximum: Largest patience that is learned.
        self_normalized_resets_silent: Largest signal of a unit that counts as silent.
        self_normalized_resets_outgoing: As ``redo_outgoing``.
        regrama_threshold: A unit is replaced up to this part of its layer's mean gradient.
        regrama_every: Steps from one replacement of units to the next.
        regrama_outgoing: As ``redo_outgoing``.
        calibrated_partial_resets_replacement_rate: Largest share by which a unit starts anew.
        calibrated_partial_resets_sharpness: How fast that share falls beyond the threshold.
        calibrated_partial_resets_threshold: The part of its layer's mean gradient up to which a unit gets that share.
        calibrated_partial_resets_decay: What the running average of gradients keeps at every step.
        calibrated_partial_resets_every: Steps from one partial reset to the next.
        treat_norms: Whether mechanisms that act on biases too also act on scales and offsets of norms.
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

    fuzzy_learning_rate_factor_nu: float = _from_table("fuzzy_learning_rate_factor_nu")
    dampening_factor: float = _from_table("dampening_factor")
    crystal_thresh: float = _from_table("crystal_thresh")
    rejuvenation_parameter_dre: float = _from_table("rejuvenation_parameter_dre")
    weight_splitting_Gamma: int = _option(0, COUNT_OR_NONE)  # noqa: N815 - the documented name
    weight_splitting_activation_function: Callable[[torch.Tensor], torch.Tensor] = _field(
        identity, "callable", callable
    )
    apply_dales_principle: bool = _flag(False)
    base_lr: float = _from_table("base_lr")
    stability_factor: float = _from_table("stability_factor")
    lr_variability: float = _from_table("lr_variability")
    fuzzy_lr_distribution: Distribution | str = _choice(Distribution.UNIFORM, Distribution)
    fuzzy_lr_min: float = _from_table("fuzzy_lr_min")
    fuzzy_lr_max: float = _from_table("fuzzy_lr_max")
    fuzzy_lr_dynamic: bool = _flag(False)
    fuzzy_lr_decay: float = _from_table("fuzzy_lr_decay")
    fuzzy_lr_update_freq: int = _from_table("fuzzy_lr_update_freq")
    fuzzy_lr_layer_index: int = _option(-1, INTEGER)
    fuzzy_lr_total_layers: int = _option(-1, INTEGER)
    rejuvenation_variant: str = _choice("lognormal", REJUVENATIONS)
    rejuvenation_utility: str = _choice(DEFAULT, (DEFAULT, *UTILITIES))
    rejuvenation_rule: str = _choice(DEFAULT, (DEFAULT, *RULES))
    rejuvenation_fraction: float = _from_table("rejuvenation_fraction")
    fuzzy_lr_variant: str = _choice("default", VARIANTS)
    dales_variant: str = _choice("default", ("default", "unit", "matrix", VERSION))
    dales_balance: bool = _flag(False)
    crystallization_floor: float = _from_table("crystallization_floor")
    dales_excitatory_fraction: float = _option(0.5, SHARE)
    scaling_target: float = _from_table("scaling_target")
    scaling_gamma: float = _from_table("scaling_gamma")
    record_activity: bool = _flag(False)
    l2_init_strength: float = _from_table("l2_init_strength")
    l2_init_penalty: str = _choice("l2", SLOPES)
    l2_init_delta: float = _from_table("l2_init_delta")
    shrink_and_perturb_shrink: float = _from_table("shrink_and_perturb_shrink")
    shrink_and_perturb_perturb: float = _from_table("shrink_and_perturb_perturb")
    shrink_and_perturb_noise: str = _choice("init", NOISES)
    clip_weights_kappa: float = _from_table("clip_weights_kappa")
    clip_weights_bound: str = _choice("fan_in", ("fan_in", "spread", "maximum"))
    spectral_regularization_strength: float = _from_table("spectral_regularization_strength")
    spectral_regularization_power: int = _from_table("spectral_regularization_power")
    parseval_strength: float = _from_table("parseval_strength")
    parseval_scale: float = _from_table("parseval_scale")
    fire_iterations: int = _from_table("fire_iterations")
    upgd_sigma: float = _from_table("upgd_sigma")
    upgd_beta: float = _from_table("upgd_beta")
    upgd_decay: float = _from_table("upgd_decay")
    upgd_protect: bool = _flag(True)
    upgd_scope: str = _choice("global", SCOPES)
    prune_and_regrow_drop: float = _from_table("prune_and_regrow_drop")
    prune_and_regrow_grow: str = _choice("random", GROWTHS)
    prune_and_regrow_newborn: str = _choice("zero", NEWBORNS)
    prune_and_regrow_until: int = _from_table("prune_and_regrow_until")
    density: float = _option(0.1, SHARE)
    density_law: str = _choice("uniform", LAWS)
    hare_and_tortoise_momentum: float = _from_table("hare_and_tortoise_momentum")
    hare_and_tortoise_every: int = _from_table("hare_and_tortoise_every")
    dash_alpha: float = _from_table("dash_alpha")
    dash_floor: float = _from_table("dash_floor")
    dash_every: int = _from_table("dash_every")
    redo_threshold: float = _from_table("redo_threshold")
    redo_every: int = _from_table("redo_every")
    redo_outgoing: str = _choice("zero", OUTGOING)
    continual_backprop_utility: str = _choice("contribution", UTILITIES_OF_UNITS)
    continual_backprop_replacement_rate: float = _from_table("continual_backprop_replacement_rate")
    continual_backprop_maturity: int = _from_table("continual_backprop_maturity")
    continual_backprop_decay: float = _from_table("continual_backprop_decay")
    continual_backprop_accumulate: bool = _flag(True)
    continual_backprop_correct_bias: bool = _flag(True)
    continual_backprop_outgoing: str = _choice("zero", OUTGOING)
    self_normalized_resets_percentile: float = _from_table("self_normalized_resets_percentile")
    self_normalized_resets_every: int = _from_table("self_normalized_resets_every")
    self_normalized_resets_patience: int = _from_table("self_normalized_resets_patience")
    self_normalized_resets_minimum: int = _from_table("self_normalized_resets_minimum")
    self_normalized_resets_maximum: int = _from_table("self_normalized_resets_maximum")
    self_normalized_resets_silent: float = _from_table("self_normalized_resets_silent")
    self_normalized_resets_outgoing: str = _choice("zero", OUTGOING)
    regrama_threshold: float = _from_table("regrama_threshold")
    regrama_every: int = _from_table("regrama_every")
    regrama_outgoing: str = _choice("zero", OUTGOING)
    calibrated_partial_resets_replacement_rate: float = _from_table("calibrated_partial_resets_replacement_rate")
    calibrated_partial_resets_sharpness: float = _from_table("calibrated_partial_resets_sharpness")
    calibrated_partial_resets_threshold: float = _from_table("calibrated_partial_resets_threshold")
    calibrated_partial_resets_decay: float = _from_table("calibrated_partial_resets_decay")
    calibrated_partial_resets_every: int = _from_table("calibrated_partial_resets_every")
    treat_norms: bool = _flag(False)

    def __new__(cls, *args: Any, **kwargs: Any) -> "BioConfig":
        """Refuses a dictionary and unknown names before the generated ``__init__`` sees them."""
        if args and isinstance(args[0], Mapping):
            raise ConfigError(f"config should be given field by field; found {kind_of(args[0])}{config_hint(args[0])}")
        check_names(cls, kwargs)
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keeps ``dataclass`` from giving a subclass a ``__repr__`` that lists every field."""
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):
            cls.__repr__ = BioConfig.__repr__

    def __repr__(self) -> str:
        """Returns the fields that differ from the defaults."""
        return f"{type(self).__name__}({settings(unlike_default(self))})"

    def __post_init__(self) -> None:
        """Checks every value and turns a distribution's name into the member."""
        sound = _sound_defaults(type(self))
        for item in fields(self):
            value, should = getattr(self, item.name), item.metadata.get("should")
            if item.name in sound and value is item.default:
                continue
            if should is not None and not item.metadata["holds"](value):
                options = should.removeprefix("one of ").split(", ") if should.startswith("one of ") else []
                near = perhaps(value, options) if isinstance(value, str) else ""
                raise ConfigError(f"{item.name} should be {should}{large_hint(value)}{near}; found {brief(value)}")
            if type(value) not in PLAIN:
                object.__setattr__(self, item.name, plain_number(value))
        try:
            require_order("fuzzy_lr_min", self.fuzzy_lr_min, "fuzzy_lr_max", self.fuzzy_lr_max)
        except ValueError as error:
            raise ConfigError(*error.args) from None
        object.__setattr__(self, "fuzzy_lr_distribution", Distribution(self.fuzzy_lr_distribution))

    @property
    def records_activity(self) -> bool:
        """Returns True if layers count their active outputs."""
        return self.record_activity or self.fuzzy_lr_distribution == Distribution.ACTIVITY

    def replace(self, **changes: Any) -> "BioConfig":
        """Returns a copy with some fields changed, checked anew."""
        check_names(type(self), changes)
        return replace(self, **changes)

    _replace = replace  # The name of earlier code, where the configuration was a named tuple.


@lru_cache(maxsize=32)
def _sound_defaults(config_class: type[BioConfig]) -> frozenset[str]:
    """Returns the fields whose defaults are plain values within their limits, so that they are checked once."""
    checked = [item for item in fields(config_class) if type(item.default) in PLAIN and "holds" in item.metadata]
    return frozenset(item.name for item in checked if item.metadata["holds"](item.default))


def check_names(config_class: type[BioConfig], given: Mapping[str, Any]) -> None:
    """Raises ConfigError, with the nearest known name, if a name is no field of the configuration."""
    known = [item.name for item in fields(config_class)]
    for name in map(str, given):
        if name not in known:
            should = f"a field of {config_class.__name__}{perhaps(name, known)}"
            raise ConfigError(f"{name} should be {should}; found an unknown name")


def config_hint(given: object) -> str:
    """Returns, for a message, how to make a configuration of something else; "" if that is not known."""
    if isinstance(given, Mapping):
        return ": BioConfig(**fields) makes one of fields"
    if isinstance(given, type) and issubclass(given, BioConfig):
        return ": call it, BioConfig()"
    if isinstance(getattr(given, "config", None), BioConfig):  # A converter, or a preset.
        return f": give {type(given).__name__.removeprefix('Bio').lower()}.config"
    return ""


def require_config(config: object) -> None:
    """Raises ValueError if an argument is no configuration; the message says how to make one."""
    if not isinstance(config, BioConfig):
        raise ValueError(f"config should be a BioConfig; found {kind_of(config)}{config_hint(config)}")


IN_CONFIG = {item.name: f"given by the configuration, config=BioConfig({item.name}=...)" for item in fields(BioConfig)}
"""Where the fields of the configuration belong, for functions that do not take them themselves."""

DEFAULT_BIO_CONFIG = BioConfig()
"""The configuration with every default."""
