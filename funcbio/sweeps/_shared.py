"""Settings of the whole process, changed while a thread needs them changed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, ExitStack
from typing import Any

import torch

from funcbio.files._cleanup import cleaned_up

LOCK = threading.RLock()
"""Held while settings of the whole process change: its generators, names in ``torch.random``."""


class Alone(ContextDecorator):
    """Runs a function while no other thread changes settings of the process; an interrupt frees the lock too."""

    __enter__, __exit__ = LOCK.__enter__, LOCK.__exit__


class Shared:
    """Changes a setting of the process for the first user, and restores it after the last one.

    If each thread restored what it had seen, the second of two would restore the change of the first.

    Args:
        change: Changes the setting; may be called again.
        restore: Restores it.
    """

    def __init__(self, change: Callable[[], None], restore: Callable[[], None]) -> None:
        self.change, self.restore, self.users = change, restore, set[object]()

    def changed(self) -> AbstractContextManager[None]:
        """Keeps the setting changed for as long as the context lasts."""
        return _needed(self)

    @Alone()
    def _need(self, user: object) -> None:
        self.users.add(user)
        self.change()

    @Alone()
    def _leave(self, user: object) -> None:
        self.users.discard(user)
        if not self.users:
            self.restore()


@cleaned_up
def _needed(stack: ExitStack, shared: Shared) -> Iterator[None]:
    user = object()
    for _ in range(2):  # Should an interrupt stop one of them.
        stack.callback(shared._leave, user)
    shared._need(user)
    yield


_torch: Any = torch._C


def _warn_of_loops(warn: bool) -> None:
    _torch._functorch._set_vmap_fallback_warning_enabled(warn)


QUIET = Shared(lambda: _warn_of_loops(False), lambda: _warn_of_loops(True))
"""Ignores torch's warning of recurrent layers: its fallback is still several times faster than a loop over members."""
