"""Contexts that clean up behind themselves, wherever an interrupt comes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

Given = ParamSpec("Given")
Yielded = TypeVar("Yielded")


def cleaned_up(
    make: Callable[Concatenate[ExitStack, Given], Iterator[Yielded]],
) -> Callable[Given, AbstractContextManager[Yielded]]:
    """Makes a context manager of a generator that puts all that is to be undone on a stack, its first argument.

    Python calls no ``__exit__`` where an interrupt comes just before the end of a ``with``: then it is undone when the
    context is let go.
    """

    @contextmanager
    @wraps(make)
    def context(*args: Given.args, **kwargs: Given.kwargs) -> Iterator[Yielded]:
        stack = ExitStack()
        try:
            with stack:
                yield from make(stack, *args, **kwargs)
        finally:
            stack.close()  # Unless an interrupt came before it, this has nothing left to do.

    return context


@cleaned_up
def switched_on(stack: ExitStack, flag: ContextVar[bool]) -> Iterator[None]:
    """Sets a flag for as long as the context lasts."""
    stack.callback(flag.set, flag.get())
    flag.set(True)
    yield
