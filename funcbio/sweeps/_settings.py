"""The settings that all members of a sweep share: what has to be the same in results that are joined."""

import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import outside
from funcbio.identity._compare import compare
from funcbio.identity._describe import Seen, describe
from funcbio.mechanisms import ROWS
from funcbio.sweeps._job import Job
from funcbio.sweeps._trials import VARIANT

ARGUMENTS = ("steps", "batch_size", "record_every", "model", "loss", "folds", "metrics", "train_metrics")
"""Arguments of a sweep that are described as they are."""

OWNED = frozenset(name for row in ROWS.values() for name in row.fields.values())
"""Fields of the configuration that mechanisms read: they belong to lists of mechanisms."""

MOST_ELEMENTS = 1 << 20
"""Elements of a tensor of the data that are compared, evenly spread: a checksum of gigabytes takes seconds."""


def settings_of(job: Job) -> Seen:
    """Describes what the members of a sweep have in common; each entry by the name of its hyper-parameter."""
    first = job.trials[0]
    common = next((one for one in job.trials if not any(each.made_for for each in one.mechanisms)), first)
    values = {**vars(common.config), **common.numbers, **first.options}
    things: dict[str, Any] = {
        **{name: getattr(job, name) for name in ARGUMENTS},
        **{name: _sampled(getattr(job, name)) for name in ("data", "test")},
        "share": sorted(job.shared),
        "synapses": job.synapses,
        "optimizer": job.recipe.make,
        "newborn": job.recipe.newborn,
        "no_decay": job.recipe.no_decay,
        **{name: value for name, value in values.items() if name not in first.values},
        **_mechanisms(job),
    }
    # One by one: in a description of several, the second of two equal objects only names the first.
    return {path: entry for name, thing in things.items() for path, entry in describe({name: thing}).items()}


def _sampled(data: Any) -> Any:
    """Returns shapes and some elements in the place of tensors; a function that makes batches as it is."""
    if data is None or callable(data):
        return data
    return [_some_of(part) if part.layout == torch.strided else part for part in data]


def _some_of(values: Tensor) -> tuple[tuple[int, ...], Tensor]:
    return tuple(values.shape), values.reshape(-1)[:: 1 + values.numel() // MOST_ELEMENTS]


def _mechanisms(job: Job) -> dict[str, Any]:
    """Returns the list of mechanisms, or each of several by name, with its length: an empty one has no parts."""
    if VARIANT not in job.trials[0].values:
        return {f"{VARIANT}.length": len(job.trials[0].mechanisms), VARIANT: job.trials[0].mechanisms}
    named = {f"{VARIANT}[{trial.values[VARIANT]!r}]": trial.mechanisms for trial in job.trials}
    return {**{f"{name}.length": len(listed) for name, listed in named.items()}, **named}


def require_same(one: Seen, other: Seen, hyper: Collection[str]) -> None:
    """Raises ValueError if two sweeps have other settings than the hyper-parameters; warns of what it cannot compare.

    Lists of mechanisms have to be the same where their names are.
    """
    if not one or not other:
        return
    shared = [path for path in {**one, **other} if _is_compared(path, one, other, hyper)]
    comparison = compare(*({path: seen[path] for path in shared if path in seen} for seen in (one, other)))
    if comparison.different is not None:
        path, first, second = comparison.different
        label = f"{VARIANT}={{{_name(path)}: ...}}" if _name(path) else f"{_root(path)}=..."
        should = f"of the same settings, or told apart: result.label({label})"
        raise ValueError(f"results should be {should}; found another {path}: {first:.80} and {second:.80}")
    if comparison.unseen:
        text = f"{', '.join(comparison.unseen[:5])} should be the same in results that are joined, which cannot be seen"
        warnings.warn(text, stacklevel=outside())


def _is_compared(path: str, one: Seen, other: Seen, hyper: Collection[str]) -> bool:
    """Returns True if an entry has to be the same: those of lists where their names are, as what such lists read."""
    if VARIANT not in hyper or _root(path) not in (VARIANT, *OWNED):
        return _root(path) not in hyper
    names = [{_name(each) for each in seen if _root(each) == VARIANT} for seen in (one, other)]
    common = names[0] & names[1]
    return _name(path) in common if _root(path) == VARIANT else bool(common) and _root(path) not in hyper


def renamed(seen: Seen, names: Mapping[str, Any]) -> Seen:
    """Returns settings with lists of mechanisms named anew; "" stands for a list without a name."""
    if not names:
        return seen
    spelled = {repr(old) if old else "": f"{VARIANT}[{new!r}]" for old, new in names.items()}
    paths = {path: _named(path) for path in seen if _root(path) == VARIANT and _name(path) in spelled}
    return {spelled[_name(path)] + path[len(paths[path]) :] if path in paths else path: seen[path] for path in seen}


def _named(path: str) -> str:
    """Returns the beginning of a path, up to the name of a list of mechanisms."""
    found = re.match(rf"{VARIANT}(\[(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\])?", path)
    return "" if found is None else found[0]


def _name(path: str) -> str:
    """Returns the name of a list of mechanisms as a path spells it; "" if the list has none."""
    return _named(path)[len(VARIANT) + 1 : -1]


def _root(path: str) -> str:
    """Returns the name of the argument that a path begins with; behind it stand parts: [0], .field, :global."""
    found = re.match(r"\w*", path)
    return "" if found is None else found[0]
