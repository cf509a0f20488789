"""What belongs to the whole process, and is another while somebody needs it, in whatever thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, ExitStack
from typing import Any

import torch

from funcbio.files._cleanup import cleaned_up

LOCK = threading.RLock()
"""Held by whoever changes what belongs to the whole process: its generators, names in ``torch.random``."""


class Alone(ContextDecorator):
    """Lets a function run while nobody else changes what belongs to the process; an interrupt frees the lock too."""

    __enter__, __exit__ = LOCK.__enter__, LOCK.__exit__


class Shared:
    """Something of the process that the first who needs it changes, and the last one puts back.

    Each putting back what he found would, of two threads, leave what the first one had changed.

    Args:
        change: Changes it; may be called again.
        restore: Puts it back.
    """

    def __init__(self, change: Callable[[], None], restore: Callable[[], None]) -> None:
        self.change, self.restore, self.needing = change, restore, set[object]()

    def changed(self) -> AbstractContextManager[None]:
        """Keeps it changed for as long as the context lasts."""
        return _needed(self)

    @Alone()
    def _need(self, mark: object) -> None:
        self.needing.add(mark)
        self.change()

    @Alone()
    def _leave(self, mark: object) -> None:
        self.needing.discard(mark)
        if not self.needing:
            self.restore()


@cleaned_up
def _needed(stack: ExitStack, shared: Shared) -> Iterator[None]:
    mark = object()
    for _ in range(2):  # Should an interrupt stop one of them.
        stack.callback(shared._leave, mark)
    shared._need(mark)
    yield


_torch: Any = torch._C


def _warn_of_loops(warn: bool) -> None:
    _torch._functorch._set_vmap_fallback_warning_enabled(warn)


QUIET = Shared(lambda: _warn_of_loops(False), lambda: _warn_of_loops(True))
"""Ignores what torch says of recurrent layers: its way is still several times faster than a loop over members."""
