"""Rows: all the facts about one mechanism, for every interface."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

from funcbio._checks import Limit, brief, is_number, require_result
from funcbio.anatomy._synapses import Synapse
from funcbio.anatomy._units import Units
from funcbio.base import KEPT, Feature, Key, Tree
from funcbio.engine._kernel import Kernel, bare
from funcbio.engine._layers import Step
from funcbio.mechanisms._unit_fields import NEW

PLACES = ("gradient", "update", "after")
"""Where in a training step a mechanism may act."""


class Requirement(NamedTuple):
    """Describes a field of the configuration that must be true for a method to run, and the error if it is not."""

    field: str
    error: type[Exception]
    message: str


def name_of(feature: Feature) -> str:
    """Returns the name of a function; that of the function within a partial."""
    return getattr(parts_of(feature)[0], "__name__", "feature")


def parts_of(feature: Any) -> tuple[Any, Mapping[str, Any]]:
    """Returns the function within a partial, and its keywords; a function as it is."""
    return (feature.func, feature.keywords) if isinstance(feature, partial) else (feature, {})


def units_of(rows: "Iterable[Row]") -> Units | None:
    """Returns the table of units that was given to some mechanisms; None if there is none."""
    given = ({**parts_of(row.feature)[1], **row.fixed}.get("units") for row in rows if row.by_unit)
    return next((units for units in given if units is not None), None)


@dataclass(frozen=True, eq=False)
class Row:
    """Describes one mechanism.

    Where there is a kernel, ``needs_grad``, ``draws``, ``replaces`` and ``counts`` are read from it.

    Attributes:
        feature: The pure function behind it.
        kernel: The kernel behind the function, or what chooses one by hyper-parameters; None if there is none.
        leafwise: The kernels that the function runs one after the other, leaf by leaf, on all parameters and not only
            on synapses; or what chooses them by hyper-parameters.
        limited: Limits of hyper-parameters that its kernels do not have.
        counts_calls: Whether it counts its calls, in the field ``calls``.
        kept: Fields of the state that have to be kept for a function whose kernels are not known.
        by_unit: Whether it acts on units: its keyword ``units`` is the table of the model's units.
        unit_fields: Fields of ``state.units`` that it needs, or what names them from a configuration.
        companion: Another mechanism that acts after it in every step, also where it does not act itself.
        fields: Which field of the configuration sets which keyword of the function.
        fixed: Keywords that the row sets itself.
        starts_by: Fields of the configuration that what it reads of the state is made by.
        place: Where it acts in a training step unless told otherwise, one of ``PLACES``.
        placed: Whether it makes sense in that place only.
        needs_grad: Whether it makes no sense without gradients.
        draws: Whether it uses its key.
        replaces: Whether it replaces weights, also those that are not finite, and says which.
        counts: Whether it counts its calls, and takes the activity recorded since the last one.
        per_unit: Whether it needs layers whose output shows their units.
        spares_readout: Whether it leaves a read-out alone, even one that has all it needs.
        ignores_overflow: Whether gradients that have overflowed are nothing to it, because they stay infinite.
        applied_by: Another method, without which what this one changes has no effect.
        requires: What the configuration must allow.
        idle: From a configuration to the reason why the method does nothing under it; None if it does something.
        is_method: Whether converted models and their layers offer it as a method.
    """

    feature: Feature
    kernel: Kernel | Callable[..., tuple[Kernel | None, dict[str, Any]]] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    _: KW_ONLY
    leafwise: tuple[Kernel, ...] | Callable[..., tuple[Kernel, ...]] = ()
    limited: Mapping[str, Limit] = field(default_factory=dict)
    counts_calls: bool = False
    kept: tuple[str, ...] = ()
    by_unit: bool = False
    unit_fields: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()
    companion: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    starts_by: tuple[str, ...] = ()
    place: str = "gradient"
    placed: bool = False
    needs_grad: bool = False
    draws: bool = False
    replaces: bool = field(init=False, default=False)
    counts: bool = field(init=False, default=False)
    per_unit: bool = False
    spares_readout: bool = False
    ignores_overflow: bool = False
    applied_by: str | None = None
    requires: Requirement | None = None
    idle: Callable[[Any], str | None] | None = None
    is_method: bool = True

    def __post_init__(self) -> None:
        """Reads from the kernel what it says; raises ValueError if the function has not the keywords of ``fields``."""
        unknown = sorted({*self.fields} - {*(self.keywords or self.fields)})
        if unknown:
            raise ValueError(f"{self.name} should take every keyword that is set for it; found no {unknown[0]!r}")
        kernels = self.kernels()
        if kernels:
            facts = {
                "needs_grad": any("grad" in kernel.needs() for kernel in kernels),
                "draws": any(kernel.draws for kernel in kernels),
                "counts": any(kernel.advances for kernel in kernels),
                "replaces": any("replaced" in kernel.writes for kernel in kernels),
            }
            vars(self).update(facts)
        if self.leafwise or self.by_unit:
            vars(self).update(is_method=False)
        if self.by_unit:
            vars(self).update(replaces=True)

    @property
    def name(self) -> str:
        """Returns the name of the function, under which it also counts its calls."""
        return name_of(self.feature)

    @property
    def keywords(self) -> frozenset[str]:
        """Returns the keywords of the function; none if it takes any, or does not say."""
        try:
            parameters = inspect.signature(self.feature).parameters.values()
        except (TypeError, ValueError):
            return frozenset()
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return frozenset() if takes_any else frozenset(p.name for p in parameters)

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """Returns the feature's hyper-parameters, by name, with their defaults."""
        parameters = inspect.signature(self.feature).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "key"}

    @property
    def limits(self) -> Mapping[str, Limit]:
        """Returns the limits of the feature's hyper-parameters, by name."""
        limits = {name: limit for kernel in self.kernels() for name, limit in kernel.limits.items()}
        return {**limits, **self.limited}

    @property
    def on_trees(self) -> bool:
        """Returns True if it runs on trees of all parameters, not on layers."""
        return bool(self.leafwise) or self.by_unit

    @property
    def keeps_place(self) -> bool:
        """Returns True if it makes sense in its own place only."""
        return self.placed or self.on_trees

    def kernels(self, **hyper: Any) -> tuple[Kernel, ...]:
        """Returns the kernels under some hyper-parameters, else their defaults."""
        if callable(self.leafwise):
            return self.leafwise(**{**self.defaults, **hyper})
        step = None if self.kernel is None else self.step("", hyper)
        return self.leafwise if step is None else (step.kernel,)

    def required(self, config: Any) -> frozenset[str]:
        """Returns the names of the operands that it cannot do without under a configuration."""
        kernels = self.kernels(**self.configured(config))
        return frozenset(n for one in kernels for n in (*one.reads, *one.marks, *one.of) if bare(n) == n)

    def reads_gradient(self, config: Any) -> bool:
        """Returns True if it makes no sense without gradients under a configuration."""
        choosing = callable(self.kernel) or callable(self.leafwise)
        return self.needs_grad or (choosing and "grad" in self.required(config))

    def keeps(self, config: Any) -> list[str]:
        """Returns the fields of the state that have to be kept for it under a configuration."""
        return [field for field in KEPT if field in self.kept or field in self.required(config)]

    def keeps_for_units(self, config: Any) -> tuple[str, ...]:
        """Returns the fields of ``state.units`` that have to be kept for it under a configuration."""
        fields = self.unit_fields(config) if callable(self.unit_fields) else self.unit_fields
        return (*fields, NEW) if self.by_unit else fields

    def configured(self, config: Any) -> dict[str, Any]:
        """Returns the hyper-parameters, from a configuration and from the row itself."""
        return {keyword: getattr(config, name) for keyword, name in self.fields.items()} | dict(self.fixed)

    def read(self, config: Any) -> frozenset[str]:
        """Returns the names of the fields that change what it does under a configuration."""
        told = self.configured(config)
        step = self.step("", told) if callable(self.kernel) else None
        names = {
            name for key, name in self.fields.items() if step is None or key in step.hyper or not is_number(told[key])
        }
        return frozenset({*names, *self.starts_by})

    def bound(self, config: Any, *, units: Units | None = None, **hyper: Any) -> Feature:
        """Returns the feature with its hyper-parameters taken from ``hyper``, else from a configuration.

        One that acts on units also gets their table, unless it has one of its own.
        """
        told = {"units": units} if self.by_unit and units is not None else {}
        feature = partial(self.feature, **told | self.configured(config) | hyper)
        ours = self.kernel is not None or self.leafwise or self.by_unit
        return feature if ours else partial(self._run_checked, feature)

    def _run_checked(
        self, feature: Feature, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None
    ) -> tuple[Tree, Tree, Any]:
        """Runs a function of the user's own; raises ValueError if its result does not fit."""
        result = feature(params, grads, state, key=key)
        require_result(self.name, result, params, state, grads=self.needs_grad)
        return result

    def step(self, name: str, hyper: Mapping[str, Any]) -> Step | None:
        """Returns the kernel with its hyper-parameters, else their defaults; None if there is nothing to run."""
        if self.kernel is None:
            return None
        hyper = {**self.defaults, **hyper}
        kernel, rest = self.kernel(**hyper) if callable(self.kernel) else (self.kernel, hyper)
        return None if kernel is None else Step(name, kernel, rest, kernel.needs())

    def require(self, config: Any) -> None:
        """Raises the row's error if a configuration does not allow the method, or lacks a field that sets a keyword."""
        for keyword, name in self.fields.items():
            if not (isinstance(name, str) and hasattr(config, name)):
                should = f"set by a field of {type(config).__name__}"
                raise ValueError(f"{keyword} of {self.name} should be {should}; found {brief(name)}")
        if self.requires is not None and not getattr(config, self.requires.field):
            raise self.requires.error(self.requires.message)

    def is_for(self, synapse: Synapse) -> bool:
        """Returns True if the method acts on layers of this kind."""
        return (synapse.observable or not self.per_unit) and not (synapse.readout and self.spares_readout)

    @property
    def scales(self) -> bool:
        """Returns True if the mechanism scales learning, and so acts on the update by default."""
        return self.place == "update"
