"""Binding: one table says which field of the configuration sets which hyper-parameter of which feature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from funcbio import mechanisms
from funcbio.base import BioState, Feature, Key, Tree
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig
from funcbio.initial import init
from funcbio.inplace import Step
from funcbio.kernel import Kernel
from funcbio.synapses import Choice, Synapse, infer_synapses
from funcbio.synapses import synapses as describe


@dataclass(frozen=True)
class Row:
    """One documented method.

    Attributes:
        feature: The pure function behind it.
        hyper: Which field of the configuration sets which keyword of the function.
        needs_grad: Whether it makes no sense without gradients.
        draws: Whether it uses its key.
        kernel: The kernel behind the function, or what chooses one by hyper-parameters; None if there is none.
    """

    feature: Feature
    hyper: Mapping[str, str]
    needs_grad: bool = False
    draws: bool = False
    kernel: Kernel | Callable[..., tuple[Kernel | None, dict[str, Any]]] | None = None

    def configured(self, config: BioConfig, **hyper: Any) -> dict[str, Any]:
        """The hyper-parameters, taken from a configuration or from ``hyper``."""
        return {keyword: getattr(config, name) for keyword, name in self.hyper.items()} | hyper

    def bound(self, config: BioConfig, **hyper: Any) -> Feature:
        """Returns the feature with its hyper-parameters taken from a configuration, or from ``hyper``."""
        return partial(self.feature, **self.configured(config, **hyper))

    def step(self, name: str, hyper: Mapping[str, Any]) -> Step | None:
        """Returns the kernel with its hyper-parameters; None if there is nothing to run."""
        kernel, given = self.kernel(**hyper) if callable(self.kernel) else (self.kernel, hyper)
        return None if kernel is None else Step(name, kernel, given, kernel.needs())


CLAMP = {"minimum": "fuzzy_lr_min", "maximum": "fuzzy_lr_max"}
ROWS: dict[str, Row] = {
    "fuzzy_learning_rates": Row(mechanisms.fuzzy_learning_rates, {}, needs_grad=True, kernel=mechanisms.FUZZY),
    "volume_dependent_lr": Row(
        mechanisms.volume_dependent_lr,
        {"base_lr": "base_lr", "stability": "stability_factor", "variability": "lr_variability"},
        needs_grad=True,
        draws=True,
        kernel=mechanisms.VOLUME,
    ),
    "crystallize": Row(
        mechanisms.crystallize,
        {"threshold": "crystal_thresh", "dampening": "dampening_factor", "floor": "crystallization_floor"},
        needs_grad=True,
        kernel=mechanisms.CRYSTALLIZE,
    ),
    "scale_grad": Row(
        mechanisms.scale_grad,
        {"target": "scaling_target", "gamma": "scaling_gamma", **CLAMP},
        needs_grad=True,
        kernel=mechanisms.SCALING,
    ),
    "rejuvenate_weights": Row(
        mechanisms.rejuvenate_weights,
        {"strength": "rejuvenation_parameter_dre", "variant": "rejuvenation_variant"},
        draws=True,
        kernel=mechanisms.rejuvenation,
    ),
    "update_fuzzy_learning_rates": Row(
        mechanisms.update_fuzzy_learning_rates,
        {
            "distribution": "fuzzy_lr_distribution",
            "dynamic": "fuzzy_lr_dynamic",
            "variant": "fuzzy_lr_variant",
            "nu": "fuzzy_learning_rate_factor_nu",
            "decay": "fuzzy_lr_decay",
            "every": "fuzzy_lr_update_freq",
            **CLAMP,
        },
        draws=True,
        kernel=mechanisms.rate_update,
    ),
    "apply_dales_principle": Row(mechanisms.apply_dales_principle, {}, kernel=mechanisms.GIVE_SIGN),
    "enforce_dales_principle": Row(mechanisms.enforce_dales_principle, {}, kernel=mechanisms.KEEP_SIGN),
}


@dataclass(frozen=True)
class Bound:
    """A configuration closed over the features, for one model; made by ``bind``.

    Every feature of the library is an attribute that takes ``(params, grads, state, *, key=None)``.

    Attributes:
        config: The configuration.
        synapses: The model's synapses.
    """

    config: BioConfig
    synapses: Mapping[str, Synapse]
    fuzzy_learning_rates: Feature
    volume_dependent_lr: Feature
    crystallize: Feature
    scale_grad: Feature
    rejuvenate_weights: Feature
    update_fuzzy_learning_rates: Feature
    apply_dales_principle: Feature
    enforce_dales_principle: Feature

    def init(self, params: Tree, *, key: Key) -> BioState:
        """Makes the state that the features start from; see ``funcbio.init``."""
        return init(params, key=key, config=self.config, synapses=self.synapses)

    def split_weights(self, params: Any) -> Any:
        """Splits weights by the configured number of sub-synapses; see ``funcbio.split_weights``."""
        return mechanisms.split_weights(params, self.config.weight_splitting_Gamma, synapses=self.synapses)


def bind(model: nn.Module | Tree, config: BioConfig = DEFAULT_BIO_CONFIG, synapses: Choice = None) -> Bound:
    """Closes a configuration over the features, so that a research loop reads like its method section.

    Args:
        model: A module, or a bare tree of parameters (see ``funcbio.init``). Which weights of a module are trained is
            looked up now: what is frozen later is treated until it is bound again.
        config: The configuration.
        synapses: Which parameters of a module are synapses; see ``funcbio.synapses``.

    Returns:
        An object with ``init``, ``split_weights`` and every feature.

    Raises:
        ValueError: If a module holds no synapses.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> bio = bind(net, BioConfig(dampening_factor=0.5))
        >>> params = dict(net.named_parameters())
        >>> state = bio.init(params, key=key(0))
        >>> step = chain(bio.crystallize, bio.volume_dependent_lr, bio.fuzzy_learning_rates)
        >>> params, grads, state = step(params, params, state, key=key(1))
    """
    described = describe(model, synapses) if isinstance(model, nn.Module) else infer_synapses(model)
    return Bound(config, described, **{name: row.bound(config) for name, row in ROWS.items()})
