"""Binding: a configuration closed over the features, for one model."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optree
from torch import nn

from funcbio._checks import kind_of, names_arguments, perhaps, require, settings
from funcbio.anatomy._synapses import Choice, Synapse, infer_synapses
from funcbio.anatomy._synapses import synapses as describe
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Feature, Key, Tree, leaf_names, listed
from funcbio.bio_config import DEFAULT_BIO_CONFIG, IN_CONFIG, BioConfig, require_config
from funcbio.functional._idle import warn
from funcbio.functional._init import init
from funcbio.functional._keep import keep_fields
from funcbio.mechanisms import ROWS, split_weights
from funcbio.tensors._kept import is_watched


@dataclass(frozen=True)
class Bound:
    """Holds the features with their hyper-parameters from a configuration, for one model; made by ``bind``.

    Every feature of the library is an attribute that takes ``(params, grads, state, *, key=None)``.

    Attributes:
        config: The configuration.
        synapses: The model's synapses.
        units: The table of its units, if one was given.
        said: Why features would do nothing, as far as it has been said: each once.
    """

    config: BioConfig
    synapses: Mapping[str, Synapse]
    units: Units | None = None
    said: set[str] = field(default_factory=set, init=False, compare=False)

    def __getattr__(self, name: str) -> Feature:
        """Returns a feature with its hyper-parameters."""
        if name not in ROWS:
            near = "" if name.startswith("_") else perhaps(name, [*ROWS, "init", "keep"])
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{near}")
        row = ROWS[name]
        idle = None if row.idle is None or is_watched() else row.idle(self.config)
        if idle is not None and idle not in self.said:
            self.said.add(idle)
            warn([idle])
        return row.bound(self.config, units=self.units)

    def __repr__(self) -> str:
        """Returns the configuration, and every feature with its hyper-parameters in a line."""
        lines = [f"Bound to {listed(self.synapses)} with {self.config}:"]
        for name, row in ROWS.items():
            need = "; needs units=" if row.by_unit and self.units is None else ""
            lines.append(f"  {name}({settings(row.configured(self.config))}){need}")
        return "\n".join(lines)

    def __dir__(self) -> list[str]:
        """Lists the attributes, features included."""
        return sorted({*super().__dir__(), *ROWS})

    def init(self, params: Tree, *, key: Key, keep: Collection[str] = ()) -> BioState:
        """Makes the state that the features start from; see ``funcbio.init``."""
        return init(params, key=key, config=self.config, synapses=self.synapses, keep=keep, units=self.units)

    def keep(self, params: Tree, keep: Collection[str], *, key: Key) -> dict[str, Any]:
        """Makes the fields of the state that mechanisms need, from parameters as they are now."""
        synapses = {name: synapse for name, synapse in self.synapses.items() if name in set(leaf_names(params))}
        return keep_fields(params, keep, key=key, config=self.config, synapses=synapses, units=self.units)

    def split_weights(self, params: Any) -> Any:
        """Splits weights by the configured number of sub-synapses; see ``funcbio.split_weights``."""
        return split_weights(params, self.config.weight_splitting_Gamma, synapses=self.synapses)


@names_arguments(IN_CONFIG)
def bind(
    model: nn.Module | Tree,
    config: BioConfig = DEFAULT_BIO_CONFIG,
    synapses: Choice = None,
    *,
    units: Units | None = None,
) -> Bound:
    """Binds a configuration to the features, so that a research loop reads like its method section.

    Args:
        model: A module, or a bare tree of parameters (see ``funcbio.init``). Which weights of a module are trained is
            looked up now: what is frozen later is treated until it is bound again.
        config: The configuration.
        synapses: Which parameters of a module are synapses; see ``funcbio.synapses``.
        units: Table of the model's units from ``funcbio.units``; mechanisms that act on units need it.

    Returns:
        An object with ``init``, ``split_weights`` and every feature.

    Raises:
        ValueError: If a module holds no synapses, or an argument is not as it should be.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> bio = bind(net, BioConfig(dampening_factor=0.5))
        >>> params = dict(net.named_parameters())
        >>> state = bio.init(params, key=key(0))
        >>> step = chain(bio.crystallize, bio.volume_dependent_lr, bio.fuzzy_learning_rates)
        >>> params, grads, state = step(params, params, state, key=key(1))
    """
    _check(model, config, units)
    described = describe(model, synapses) if isinstance(model, nn.Module) else infer_synapses(model)
    return Bound(config, described, units)


def _check(model: Any, config: object, units: object) -> None:
    """Raises ValueError if an argument of ``bind`` is not as it should be."""
    leaves = [] if isinstance(model, nn.Module) else optree.tree_leaves(model)
    require("model", model, "a module, or a tree of tensors", model is not None)
    odd = next((leaf for leaf in leaves if not hasattr(leaf, "ndim") or isinstance(leaf, type)), None)
    if odd is not None:
        named = isinstance(odd, Iterator)
        hint = ": dict(model.named_parameters()) is one" if named else ": call it" if isinstance(odd, type) else ""
        raise ValueError(f"model should be a module, or a tree of tensors; found {kind_of(odd)}{hint}")
    require_config(config)
    require("units", units, "a table made by funcbio.units, or None", units is None or isinstance(units, Units))
