"""Tensors kept between calls: made outside of every mode of torch, so that one call leaves no trace in the next."""

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import Thread
from typing import Any, TypeVar

import torch
from optree import tree_leaves

Made = TypeVar("Made")


def is_watched() -> bool:
    """Returns True inside anything that has to see every operation: vmap, grad, a graph, a trace, a dispatch mode."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._is_tracing()  # pyright: ignore[reportAttributeAccessIssue]
    )


def is_bare() -> bool:
    """Returns True if a tensor made here is an ordinary one that may outlive the call."""
    return not (is_watched() or torch.is_inference_mode_enabled() or is_captured())


def kept(maxsize: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Keeps the results of a function that makes tensors, the last ``maxsize`` of them, as ``lru_cache`` does.

    They are made outside of inference mode, transforms and other modes, whatever the call is in. The function should
    state the device and the type of all that it makes; its results must never be written to.
    """

    def decorate(make: Callable[..., Made]) -> Callable[..., Made]:
        @lru_cache(maxsize, typed=True)
        def cached(*args: Any) -> Made:
            made = _outside(make, *args)
            if is_captured():  # Its values exist only after the graph has run.
                raise _NotKeptError(made)
            return made

        @wraps(make)
        def wrapper(*args: Any) -> Made:
            if torch.compiler.is_compiling():  # The compiler warns of a cache, and looks through it.
                return make(*args)
            try:
                return cached(*args)
            except _NotKeptError as error:
                return error.args[0]

        wrapper.cache_info, wrapper.cache_clear = cached.cache_info, cached.cache_clear  # pyright: ignore[reportAttributeAccessIssue]
        return wrapper

    return decorate


class _NotKeptError(Exception):
    """Carries a result past ``lru_cache``."""


def is_captured() -> bool:
    """Returns True if operations go into a CUDA graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _outside(make: Callable[..., Made], *args: Any) -> Made:
    """Runs a function outside of every mode, on a new thread: modes belong to their thread."""
    if not is_watched() and not torch._C._is_torch_function_mode_enabled():
        with torch.inference_mode(False):
            return make(*args)
    made: list[Made] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            made.append(make(*args))
            leaves: Any = made[0]
            for leaf in tree_leaves(leaves):
                if isinstance(leaf, torch.Tensor) and leaf.device.type not in ("cpu", "meta"):
                    leaf.cpu()  # Another thread has another stream: waits until the numbers are there.
        except Exception as error:
            errors.append(error)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return made[0]
