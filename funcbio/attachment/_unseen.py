"""Steps that hooks do not see, as of optimizers that are called by other names than ``step``."""

import warnings
from collections.abc import Callable
from typing import Any
from weakref import ref

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from funcbio.attachment._closure import version

PATIENCE = 2
"""After so many moves of the weights without a call of the hooks a warning is given: one may be a loaded checkpoint."""


def watch(weight: Tensor, cycle: Any) -> RemovableHandle | None:
    """Warns, once, if a weight moves from one backward pass to the next, and the mechanisms are never called.

    Args:
        weight: One that is treated.
        cycle: Counts in ``begun`` the steps that it was told of, and holds the one that is ``open``.

    Returns:
        What takes the watch away; None if the weight is not trained.
    """
    if not weight.requires_grad or not weight.is_leaf:
        return None
    return weight.register_post_accumulate_grad_hook(_watcher(ref(cycle)))


def _watcher(cycle: Callable[[], Any]) -> Callable[[Tensor], None]:
    before: list[tuple[int, int]] = []
    missed = 0

    def look(weight: Tensor) -> None:
        nonlocal missed
        told = cycle()
        if told is None or told.open is not None or missed > PATIENCE:
            return
        now = version(weight), told.begun
        if before and now[1] != before[0][1]:
            missed = 0
        elif before and now[0] != before[0][0]:
            missed += 1
        before[:] = [now]
        if missed == PATIENCE:
            missed += 1
            warnings.warn(
                "the optimizer attached should move the weights by its step(); found weights that moved while no hook "
                "of it was called, so that no mechanism acts: attach to the optimizer whose step() is called, or call "
                "before_step() and after_step() with hooks=False",
                stacklevel=2,
            )

    return look
