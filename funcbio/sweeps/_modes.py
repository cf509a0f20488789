"""Removal of torch's modes that an interrupt left on a thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.overrides import _get_current_function_mode_stack
from torch.overrides import _pop_mode as _pop_function_mode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils._python_dispatch import _pop_mode as _pop_dispatch_mode

STACKS = (
    (_get_current_function_mode_stack, _pop_function_mode),
    (_get_current_dispatch_mode_stack, _pop_dispatch_mode),
)


@contextmanager
def modes_taken_off() -> Iterator[None]:
    """Removes at the end the modes that an interrupt left on, such as one just before the end of a ``with``."""
    before = [len(modes()) for modes, _ in STACKS]
    try:
        yield
    finally:
        for (modes, pop), count in zip(STACKS, before, strict=True):
            for _ in modes()[count:]:
                pop()
