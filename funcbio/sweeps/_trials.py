"""Members: one run for every seed and every combination of hyper-parameters, each with all of its settings."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from funcbio._checks import brief, is_listing, is_number, large_hint, order_hint, perhaps, require
from funcbio.base import Key, listed
from funcbio.bio_config import BioConfig
from funcbio.functional._presets import Preset
from funcbio.mechanisms._placed import Mechanism, as_mechanisms, mechanisms_hint
from funcbio.rng import fold_in, key
from funcbio.sweeps._given import grid_hint
from funcbio.sweeps._optimizers import Recipe

SHARED = ("weights", "rates", "batches", "noise")
"""Names of the draws of a member, each from a separate key."""

STRUCTURE = ("weight_splitting_Gamma", "fuzzy_lr_layer_index", "fuzzy_lr_total_layers", "fire_iterations")
"""Numbers of the configuration that change the computation, not only its values."""

VARIANT = "mechanisms"
"""Hyper-parameter that chooses among several lists of mechanisms."""

DECAY = "weight_decay"

FOLD = "fold"
"""Hyper-parameter that says which rows of the data a member learns from."""


@dataclass(frozen=True)
class Trial:
    """Describes one member, with all settings resolved.

    Attributes:
        index: Position in the sweep's table.
        seed: Its seed.
        values: Its hyper-parameters, by name, as they stand in the table.
        config: Its configuration.
        numbers: Settings that may differ between members that train together: learning rate, weight decay, fields.
        options: Options of its optimizer.
        mechanisms: Its mechanisms in order.
    """

    index: int
    seed: int
    values: Mapping[str, Any]
    config: BioConfig
    numbers: Mapping[str, float]
    options: Mapping[str, Any]
    mechanisms: tuple[Mechanism, ...]

    @property
    def kind(self) -> str:
        """Returns a text that is the same for all members that can train together."""
        static = {name: value for name, value in vars(self.config).items() if name not in self.numbers}
        acting = [(one.feature, one.every, one.where, sorted(one.hyper.items())) for one in self.mechanisms]
        return repr((sorted(static.items()), sorted(self.options.items()), acting))

    def key(self, what: str, shared: Sequence[str]) -> Key:
        """Returns the key of one thing that is drawn; that of all members if it is shared."""
        return fold_in(key(0 if what in shared else self.seed), what)


def numbers_of(config: BioConfig) -> dict[str, float]:
    """Returns the fields that rules take as numbers: counts as integers, all others as floats.

    So members with 1 and 2.5 in one field share a tensor.
    """
    numbers: dict[str, float] = {}
    for item in fields(config):
        value, counts = getattr(config, item.name), item.metadata.get("should", "").startswith("an integer")
        if isinstance(value, int | float) and not isinstance(value, bool) and item.name not in STRUCTURE:
            numbers[item.name] = value if counts else float(value)
    return numbers


def make_trials(
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    variants: Mapping[str, Sequence[Mechanism]],
    config: BioConfig,
    recipe: Recipe,
    folds: int = 0,
) -> list[Trial]:
    """Lists the members: every combination of hyper-parameters in the order of the grid, each with all seeds."""
    combinations = _combinations(grid)
    if is_named(variants) and not any(VARIANT in combination for combination in combinations):
        combinations = [{VARIANT: name, **combination} for name in variants for combination in combinations]
    if folds and not any(FOLD in combination for combination in combinations):
        combinations = [{**combination, FOLD: fold} for combination in combinations for fold in range(folds)]
    _require_distinct(combinations)
    trials = []
    for combination in combinations:
        _require_free(combination, recipe.given)
        _check_fold(combination, folds)
        resolved = _resolve(combination, variants, config, recipe, [FOLD] if folds else [])
        for seed in seeds:
            trials.append(Trial(len(trials), seed, combination, **resolved))
    if not any(trial.numbers.get(DECAY) for trial in trials):
        # Without weight decay, no step needs to read all weights for it.
        trials = [replace(trial, numbers={n: v for n, v in trial.numbers.items() if n != DECAY}) for trial in trials]
    return trials


def as_variants(mechanisms: Any) -> dict[str, Sequence[Mechanism]]:
    """Takes a list of mechanisms, or several by name; a preset among them stays one, as it has a configuration."""
    named = mechanisms if isinstance(mechanisms, Mapping) else {"": mechanisms}
    if not named:
        raise ValueError("mechanisms should be a list, or one or more lists by name; found {}")
    for name, items in named.items():
        if not is_listing(items):
            where = f"mechanisms[{name!r}]" if name else "mechanisms"
            raise ValueError(f"{where} should be a list of mechanisms; found {brief(items)}{mechanisms_hint(items)}")
    names = [str(name) for name in named]
    require("mechanisms", names, "lists by different names", len({*names}) == len(names))
    return {str(name): items if isinstance(items, Preset) else as_mechanisms(items) for name, items in named.items()}


def is_named(variants: Mapping[str, Any]) -> bool:
    """Returns True if lists of mechanisms have names, be it one, so that the table has a column of them."""
    return [*variants] != [""]


def _combinations(grid: Any) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        columns = [list(v) if is_listing(v) else [] for v in grid.values()]
        for (name, values), column in zip(grid.items(), columns, strict=True):
            if not column:
                raise ValueError(
                    f"grid[{name!r}] should be a list of one or more values; found {brief(values)}{order_hint(values)}"
                )
        return [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*columns)]
    listed: list[Any] = list(grid) if isinstance(grid, list | tuple) else [grid]
    for item in listed:
        if not isinstance(item, Mapping):
            raise ValueError(f"grid should be a mapping, or a list of them; found {brief(item)}")
        if item.keys() != listed[0].keys():
            raise ValueError(f"grid should name the same hyper-parameters in every entry; found {brief(item)}")
    return [dict(item) for item in listed] or [{}]


def _resolve(
    combination: Mapping[str, Any],
    variants: Mapping[str, Sequence[Mechanism]],
    config: BioConfig,
    recipe: Recipe,
    others: Sequence[str],
) -> dict[str, Any]:
    """Resolves one combination of hyper-parameters: configuration, numbers, options, mechanisms."""
    config_fields = {item.name for item in fields(config)}
    names = [*config_fields, *recipe.numbers, *recipe.options, *([VARIANT] if is_named(variants) else []), *others]
    for name in combination:
        if name not in names:
            hint = grid_hint(name)
            near = "" if hint else perhaps(name, names)
            raise ValueError(f"grid should name hyper-parameters{near}; found {brief(name)}{hint}")
    chosen = variants[_variant(combination, variants)]
    preset, mechanisms = chosen.fields if isinstance(chosen, Preset) else {}, as_mechanisms(chosen)
    config = config.replace(**preset | {name: value for name, value in combination.items() if name in config_fields})
    _check_mechanisms(mechanisms, config)
    numbers = {**recipe.numbers, **{n: v for n, v in combination.items() if n in recipe.numbers}}
    for name, value in numbers.items():
        if not is_number(value) or value < 0:
            raise ValueError(f"{name} should be a number >= 0{large_hint(value)}; found {brief(value)}")
    numbers = {name: float(value) for name, value in numbers.items()} | numbers_of(config)
    options = {**recipe.fixed, **{n: v for n, v in combination.items() if n in recipe.options}}
    return {"config": config, "numbers": numbers, "options": options, "mechanisms": mechanisms}


def table_value(value: Any) -> Any:
    """Returns a value of a hyper-parameter as it can stand in a table."""
    value = value.value if isinstance(value, Enum) else value
    return value if type(value) in (int, float, str, bool) else str(value)


def _require_distinct(combinations: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError if two combinations look alike in a table: a seed would count twice there."""
    seen = set[tuple[Any, ...]]()
    for combination in combinations:
        at = {name: table_value(value) for name, value in combination.items()}
        values = tuple(at[name] for name in combinations[0])
        if values in seen:
            raise ValueError(f"grid should hold every combination once; found {at} twice")
        seen.add(values)


def _require_free(combination: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError if an argument sets what the grid sets too."""
    for name, value in given.items():
        if name in combination:
            raise ValueError(f"{name} should be left out where the grid sets it; found {name}={brief(value)} beside it")


def _check_fold(combination: Mapping[str, Any], folds: int) -> None:
    fold = combination.get(FOLD)
    if folds and (not isinstance(fold, int) or not 0 <= fold < folds):
        raise ValueError(f"grid['{FOLD}'] should be a number from 0 to {folds - 1}; found {brief(fold)}")


def _variant(combination: Mapping[str, Any], variants: Mapping[str, Sequence[Mechanism]]) -> str:
    name = combination.get(VARIANT, next(iter(variants)))
    if name not in variants:
        raise ValueError(f"grid[{VARIANT!r}] should be among {listed(variants)}; found {brief(name)}")
    return name


def _check_mechanisms(mechanisms: Sequence[Mechanism], config: BioConfig) -> None:
    try:
        for mechanism in mechanisms:
            mechanism.require(config)
    except (AttributeError, RuntimeError) as error:
        raise ValueError(f"mechanisms should suit the configuration; found: {error}") from None
