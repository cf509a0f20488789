"""Features that count their calls: to act at some of them, or by a schedule."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import COUNT, require_within, shown

EVERY = {"every": COUNT}
"""The limit of what says how often a feature is due."""


def counted(state: Any, name: str) -> tuple[Tensor, Any]:
    """Counts a call of a feature.

    Args:
        state: The state; its ``calls`` hold a 0-d int64 tensor under the name.
        name: Name of the feature.

    Returns:
        The number of calls before this one, and the state with the new number.

    Raises:
        ValueError: If the state holds no such number.
    """
    count = state.calls.get(name) if isinstance(state.calls, dict) else None
    if not isinstance(count, Tensor) or count.ndim or count.dtype not in (torch.int64, torch.int32):
        should = f"hold an int64 tensor of no dimensions under {name!r}: make it by init(..., keep=[{name!r}])"
        raise ValueError(f"state.calls should {should}; found {shown(state.calls if count is None else count)}")
    return count, state._replace(calls=state.calls | {name: count + 1})


def due_at(calls: Tensor, every: Any) -> Tensor:
    """Returns 1.0 at every so manieth call, counted from 1, else 0.0; raises ValueError if ``every`` is not >= 1."""
    require_within(EVERY, {"every": every})
    return ((calls + 1) % every == 0).float()
