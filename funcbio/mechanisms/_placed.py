"""Mechanisms of a training step, each with its place in the step and how often it acts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from funcbio._checks import (
    CONTRACT,
    PRESETS,
    brief,
    is_count,
    is_feature,
    nearest,
    order_hint,
    perhaps,
    plain_integer,
    preset_hint,
    settings,
    unlike_default,
)
from funcbio.anatomy._units import Units
from funcbio.base import KEPT, Feature, check_option
from funcbio.mechanisms import PLACES, ROWS, Row
from funcbio.mechanisms._row import name_of, parts_of

SPLITTING = ": weights are split when a model is converted, by BioConfig(weight_splitting_Gamma=2)"
"""For a message, how weights are split, which no mechanism does."""

SETTINGS = {"BioConfig": ": give it as config=", "BioConverter": ": give config=converter.config"}
"""For a message, where settings belong that were given as mechanisms, by the name of their class."""


@dataclass(frozen=True)
class Mechanism:
    """Describes one mechanism of a training step.

    Args:
        feature: Name of a documented method, such as "crystallize", or any function with the contract of ``Feature``.
        every: Acts in every so many steps: in steps ``every``, ``2 * every``, ..., counted from 1.
        where: "gradient": on the gradient, before the optimizer. "update": on what the optimizer is about to add to
            the weights, in the gradient's place. "after": after the update. None: the place where it makes sense with
            every optimizer, "update" for the three that scale learning, "after" for rejuvenation and Dale's
            principle, "gradient" for all others.
        hyper: For a function of your own, the field of the configuration that sets a keyword.
        units: For a mechanism on units the table of the model's units, from ``funcbio.units``.
        made_for: The configuration that a preset made it for.

    Raises:
        ValueError: If the name is unknown, or a value is out of its limits.

    Example:
        >>> Mechanism("rejuvenate_weights", every=100).where
        'after'
    """

    feature: str | Feature
    every: int = 1
    where: str | None = None
    hyper: Mapping[str, str] = field(default_factory=dict)
    units: Units | None = None
    made_for: Any = field(default=None, repr=False, compare=False)

    def __new__(cls, *args: Any, **kwargs: Any) -> "Mechanism":
        """Refuses hyper-parameters before the generated ``__init__`` sees them: the configuration sets them."""
        feature = args[0] if args else kwargs.get("feature")
        names = [item.name for item in fields(cls)]
        for name in kwargs:
            row = ROWS.get(feature) if isinstance(feature, str) else None
            if name not in names and row is not None and name in row.fields:
                should = f"given by the configuration, as BioConfig({row.fields[name]}=...)"
                raise ValueError(f"{name} of {feature} should be {should}; found it in Mechanism")
            if name not in names:
                raise TypeError(
                    f"{name} should be an argument of Mechanism{perhaps(name, names)}; found an unknown name"
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks every value and fills in the place."""
        object.__setattr__(self, "every", plain_integer(self.every))
        _check_feature(self.feature, self.hyper)
        if isinstance(self.feature, str) and self.hyper:
            should = f"left out for {self.feature!r}, whose hyper-parameters are fields of the configuration"
            raise ValueError(f"hyper should be {should}; found {dict(self.hyper)}")
        if not is_count(self.every):
            raise ValueError(f"every should be an integer >= 1; found {brief(self.every)}")
        row = self.ours
        usual = "gradient" if row is None else row.place
        place = usual if self.where is None else self.where
        check_option("where", place, PLACES)
        object.__setattr__(self, "where", place)
        if row is not None and row.keeps_place and place != row.place:
            raise ValueError(f"where should be {row.place!r} for {self.name}, or left out; found {brief(place)}")

    def __repr__(self) -> str:
        """Returns the feature, its place, and what differs from the defaults."""
        optional = {"every": (self.every, 1), "hyper": (dict(self.hyper), {}), "units": (self.units, None)}
        given = {name: value for name, (value, default) in optional.items() if value != default}
        feature = repr(self.feature) if isinstance(self.feature, str) else name_of(self.feature)
        return f"Mechanism({feature}, {settings({'where': self.where, **given})})"

    @property
    def in_words(self) -> str:
        """Returns the name, the place and the period, such as "rejuvenate_weights (after, every 100)"."""
        return f"{self.name} ({self.where}{f', every {self.every}' if self.every > 1 else ''})"

    @property
    def name(self) -> str:
        """Returns the name of the method or function."""
        return self.feature if isinstance(self.feature, str) else neighbour_of(self.feature) or name_of(self.feature)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the row out of copies and pickles: it is looked up again."""
        return {name: value for name, value in vars(self).items() if name != "row"}

    @cached_property
    def row(self) -> Row:
        """Returns the row of the table, or one made for a function of the user's own."""
        row = self._row()
        told = row.by_unit and self.units is not None
        return replace(row, fixed={**row.fixed, "units": self.units}) if told else row

    def _row(self) -> Row:
        if isinstance(self.feature, str):
            return ROWS[self.feature]
        neighbour = neighbour_of(self.feature)
        if neighbour is not None:  # What it keeps and where it acts is known; its hyper-parameters are the user's.
            return replace(ROWS[neighbour], feature=self.feature, fields=self.hyper)
        options = {"needs_grad": self.where != "after", "draws": True, "kept": kept_by(self.feature)}
        requires = None if self.ours is None else self.ours.requires
        return Row(self.feature, fields=self.hyper, requires=requires, **options)

    @property
    def ours(self) -> Row | None:
        """Returns the row of the table behind a name or a function of ours; None for a function of the user's own."""
        return ROWS.get(self.feature if isinstance(self.feature, str) else known_of(self.feature) or "")

    def idle(self, config: Any) -> str | None:
        """Returns why it does nothing under a configuration; None if it does something, or that is not known."""
        if self.ours is None or self.ours.idle is None:
            return None
        return self.ours.idle(config if isinstance(self.feature, str) else self._told(self.ours, config))

    def _told(self, row: Row, config: Any) -> Any:
        """Returns a configuration with what a function of ours is told by its own keywords and defaults."""
        hyper = {keyword: getattr(config, name) for keyword, name in self.hyper.items()}
        hyper = {**row.defaults, **parts_of(self.feature)[1], **hyper}
        return replace(config, **{field: hyper[keyword] for keyword, field in row.fields.items() if keyword in hyper})

    def require(self, config: Any) -> None:
        """Raises an error if a configuration does not allow it, or has lost what a preset made it for."""
        self.row.require(config)
        wanted = {} if self.made_for is None else unlike_default(self.made_for)
        lost = {name: value for name, value in wanted.items() if name in self.row.read(self.made_for)}
        if lost and not unlike_default(config).keys() & lost.keys():
            should = f"that of the preset of {self.name}, or made from it by replace: give config=preset.config"
            raise ValueError(f"config should be {should}; found the defaults in the place of {settings(lost)}")

    def with_units(self, units: Units) -> "Mechanism":
        """Returns the same with a table of units, if it is one on units."""
        return replace(self, units=units) if self.row.by_unit else self

    @property
    def scales(self) -> bool:
        """Returns True if it multiplies gradients by factors, also as a partial of a function of ours."""
        return self.ours is not None and self.ours.scales

    @property
    def is_own(self) -> bool:
        """Returns True for a function of the user's own."""
        return not isinstance(self.feature, str)

    def acts(self, step: int) -> bool:
        """Returns True if it acts in a step, counted from 0."""
        return (step + 1) % self.every == 0

    def describe(self) -> dict[str, Any]:
        """Describes the mechanism, for a file that tells sweeps apart."""
        return {"feature": self.name, "every": self.every, "where": self.where, "hyper": dict(self.hyper)}


def _check_feature(feature: object, hyper: Iterable[str] = (), hint: str = "") -> None:
    """Raises ValueError if a feature is neither the name of a method nor a function with the contract of one."""
    if isinstance(feature, str):
        check_option("feature", feature, ROWS, _name_hint(feature))
    elif not is_feature(feature, [*hyper, "units"]):
        should = f"the name of a method or a function {CONTRACT}"
        raise ValueError(f"feature should be {should}; found {brief(feature)}{hint or preset_hint(feature)}")


def _name_hint(name: str) -> str:
    """Returns, for a message, what is not a mechanism but was meant by a name; "" if that is not known."""
    if "split" in name:
        return SPLITTING
    return "" if nearest(name, [*ROWS, *PRESETS]) in ROWS else preset_hint(name)


def known_of(feature: object) -> str | None:
    """Returns the name of the mechanism of ours that is given as a function or a partial of it; None for others."""
    function, keywords = parts_of(feature)
    rows = {name: row for name, row in ROWS.items() if row.feature is function}
    fitting = [name for name, row in rows.items() if row.fixed.items() <= keywords.items()]
    return max(fitting, key=lambda name: len(rows[name].fixed), default=None)


def neighbour_of(feature: object) -> str | None:
    """Returns the name of a mechanism of ours that acts on all parameters, given as a function or a partial of it."""
    name = known_of(feature)
    return name if name is not None and ROWS[name].on_trees else None


def kept_by(feature: object) -> tuple[str, ...]:
    """Returns the fields that have to be kept for a function of ours, perhaps within a partial; none for others."""
    function, keywords = parts_of(feature)
    kernels = [kernel for row in ROWS.values() if row.feature is function for kernel in row.kernels(**keywords)]
    return tuple(field for field in KEPT if any(field in (*kernel.reads, *kernel.marks) for kernel in kernels))


def with_companions(mechanisms: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    """Returns mechanisms, with those behind them that have to act in every step for them to make sense."""
    chosen = tuple(mechanisms)
    names = {mechanism.name for mechanism in chosen}
    further = {m.row.companion for m in chosen if m.row.companion is not None} - names
    return (*chosen, *(Mechanism(name) for name in sorted(further)))


def mechanisms_hint(given: Any) -> str:
    """Returns, for a message, how to make a list of mechanisms of something else; "" if that is not known."""
    if preset_hint(given) or order_hint(given):
        return preset_hint(given) or order_hint(given)
    if isinstance(given, str | Mechanism):
        return f": give a list, [{brief(given)}]"
    if isinstance(given, Mapping):
        return ": several lists by name are for sweep"
    kind = type(given).__name__
    if kind in SETTINGS:
        return SETTINGS[kind]
    if is_feature(given):
        return f": give a list, [{name_of(given)}]"  # pyright: ignore[reportArgumentType]
    return ""


def as_mechanisms(given: Iterable[Any]) -> tuple[Mechanism, ...]:
    """Makes mechanisms with the defaults from names and functions, and those that have to act with them."""
    items = list(given)
    for item in items:
        if isinstance(item, Sequence) and not isinstance(item, str):
            _check_feature(item, hint=_list_hint(item, len(items)))
    return with_companions(item if isinstance(item, Mechanism) else Mechanism(item) for item in items)


def _list_hint(given: Sequence[Any], count: int) -> str:
    """Returns, for a message, how to give a list or preset that is one of so many entries of a list."""
    if count == 1 or len(given) == 1:
        return ": leave out the list around it"
    preset = hasattr(given, "config")
    return ": give [*preset, ...] and config=preset.config" if preset else ": give one list of all"
