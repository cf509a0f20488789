"""Folds: which rows of the data a member learns from, and on which it is measured."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import brief, is_listing, order_hint, require, shown
from funcbio.sweeps._given import folds_hint
from funcbio.sweeps._trials import FOLD, Trial

Folds = Sequence[tuple[Tensor, Tensor]]


def as_folds(pairs: Any, data: Any, test: Any) -> Folds:
    """Takes pairs of row numbers, for training and for measuring; as those of scikit-learn's ``split``.

    Raises:
        ValueError: If they are no such pairs, differ in length, or do not belong to the data.
    """
    if pairs is None:
        return ()
    if not is_listing(pairs):
        should = "pairs of row numbers, for training and for testing"
        raise ValueError(f"folds should be {should}; found {brief(pairs)}{folds_hint(pairs) or order_hint(pairs)}")
    require("test", test, "left out with folds", test is None)
    tensors = isinstance(data, Sequence) and len(data) > 0 and isinstance(data[0], Tensor) and data[0].ndim > 0
    require("data", shown(data), "a sequence of tensors with folds", tensors)
    folds = [_pair(item, len(data[0])) for item in pairs]
    require("folds", pairs, "one or more pairs", bool(folds))
    for part, name in enumerate(("training", "test")):
        sizes = {len(fold[part]) for fold in folds}
        require("folds", sorted(sizes), f"given {name} parts of one length", len(sizes) == 1)
    return folds


def _pair(item: Any, count: int) -> tuple[Tensor, Tensor]:
    should = f"pairs of row numbers from 0 to {count - 1}, none of them in both"
    require("folds", item, should, isinstance(item, Sequence) and len(item) == 2)
    train, test = (torch.as_tensor(part) for part in item)
    for part in (train, test):
        whole = part.ndim == 1 and len(part) > 0 and not part.is_floating_point() and part.dtype != torch.bool
        require("folds", shown(part), should, whole and int(part.min()) >= 0 and int(part.max()) < count)
    require("folds", "rows in both", should, not torch.isin(train, test).any())
    return train.long(), test.long()


def rows_of(folds: Folds, trials: Sequence[Trial], part: int, device: torch.device) -> Tensor | None:
    """Returns the rows of every member, shape ``(members, rows)``; part 0 is for training, 1 for measuring."""
    if not folds:
        return None
    return torch.stack([folds[trial.values[FOLD]][part] for trial in trials]).to(device)
