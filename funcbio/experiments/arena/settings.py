"""Settings of the arena."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from funcbio.experiments.arena.methods import NAMES, OPTIMIZERS, PLAIN, QUICK
from funcbio.experiments.arena.tasks import ROWS
from funcbio.experiments.frame.only import chosen
from funcbio.experiments.frame.settings import Checked, Checks, SettingError, option

DATA = ("digits", "mnist-5k", "fashion-mnist")
ALL = "all"
SEPARATOR = ";"
"""Between names of methods, which hold commas."""


def _some(names: Any, separator: str = ",") -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, str) and (value == ALL or all(name in names for name in split(value, separator)))

    return check


def split(value: str, separator: str = ",") -> list[str]:
    """Returns the names in a setting."""
    return [name.strip() for name in value.split(separator)]


SOME_TASKS = f"all, or some of {', '.join(ROWS)}"
SOME_METHODS = "all, or names of methods with semicolons between; --list shows them"
SOME_OPTIMIZERS = f"all, or some of {', '.join(OPTIMIZERS)}"
ARENA_CHECKS: Checks = {
    SOME_TASKS: _some(ROWS),
    SOME_METHODS: _some(NAMES, SEPARATOR),
    SOME_OPTIMIZERS: _some(OPTIMIZERS),
    "folders with commas between": lambda value: isinstance(value, str),
    "a folder": lambda value: isinstance(value, str),
}

QUICK_SETTINGS: dict[str, Any] = {
    "tasks": "pixels,labels",
    "optimizers": "adam",
    "methods": SEPARATOR.join(QUICK),
    "steps": 1500,
    "seeds": 8,
    "rounds": 1,
    "tuning_seeds": 1,
    "blocks": 15,
    "compile": "no",
}
"""Settings of ``--quick``."""


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of the arena.

    Seeds of the results are 0, 1, 2, ..., those of the search 1000, 1001, ...
    """

    selects = ("tasks", "methods", "optimizers", "also", "folder")

    data: str = option("digits", ", ".join(DATA), f"the images: {', '.join(DATA)}")
    tasks: str = option(ALL, SOME_TASKS, f"rows of tasks: all, or some of {', '.join(ROWS)}, with commas between")
    methods: str = option(ALL, SOME_METHODS, "methods: all, or names with semicolons between")
    optimizers: str = option(ALL, SOME_OPTIMIZERS, f"optimizers: all, or some of {', '.join(OPTIMIZERS)}")
    steps: int = option(5000, "an integer from 1 to 1000000", "steps of every run")
    blocks: int = option(50, "an integer from 5 to 1000", "blocks of steps over which results are averaged")
    seeds: int = option(24, "an integer from 2 to 1000", "runs of every method")
    rounds: int = option(3, "an integer from 1 to 100", "rounds of 12 candidates in the search")
    tuning_seeds: int = option(2, "an integer from 1 to 100", "runs of every candidate")
    compile: str = option("yes", "yes, no", "whether steps are compiled")
    threads: int = option(1, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    folder: str = option("data", "a folder", "where the files of data sets are; see python -m funcbio data")
    also: str = option("", "folders with commas between", "folders of other runs, whose finished parts are taken over")
    output: str = option("results/arena", "a directory", "directory of the results; goes on where it was stopped")

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        if self.steps % self.blocks:
            raise SettingError(f"blocks should divide the {self.steps} steps; found {self.blocks}")

    def checks(self) -> Checks:
        """Returns the checks of all experiments, and those of the arena."""
        return {**super().checks(), **ARENA_CHECKS}

    def chosen(self, name: str, every: Any) -> list[str]:
        """Returns the names that a setting chooses, in the order of all of them."""
        value = getattr(self, name)
        names = split(value, SEPARATOR if name == "methods" else ",")
        return [one for one in every if value == ALL or one in names]

    def only(self, names: Sequence[str] | None) -> "Settings":
        """Returns the same for the named tasks, methods and optimizers; plain training comes along.

        Raises:
            SettingError: If there is no such name, or the settings choose tasks, methods or optimizers themselves.
        """
        groups = {"tasks": [*ROWS], "optimizers": [*OPTIMIZERS], "methods": [*NAMES]}
        some = {
            name: SEPARATOR.join(each) if name == "methods" else ",".join(each)
            for name, each in chosen(names, groups, [PLAIN]).items()
            if each != groups[name]
        }
        for name in groups if names else ():
            if getattr(self, name) != ALL:
                raise SettingError(f"only should be given without {name}; found both")
        return replace(self, **some)

    def quick(self) -> "Settings":
        """Returns the same at a size that takes minutes; settings other than the defaults stay."""
        defaults = {item.name: item.default for item in fields(self)}
        return replace(self, **{n: v for n, v in QUICK_SETTINGS.items() if getattr(self, n) == defaults[n]})
