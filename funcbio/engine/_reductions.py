"""Reductions compiled: sums and maxima of elementwise functions in one loop, by one program for layers of any size."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import lru_cache
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from funcbio.engine._compiling import with_own_code
from funcbio.files._cleanup import switched_on

CHUNK = 4096
"""Elements of a row; short enough that torch never splits the sum of one over threads."""
_wanted: ContextVar[bool] = ContextVar("compiled_reductions", default=False)


def compiled_reductions() -> AbstractContextManager[None]:
    """Compiles statistics of plain tensors within the context."""
    return switched_on(_wanted)


def are_compiled() -> bool:
    """Returns True if statistics are to be compiled here: not within a graph, where they are compiled anyway."""
    return not torch.compiler.is_compiling() and _wanted.get()


def reduced_rows(flat: Tensor, of: Callable[[Tensor], Any], kind: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Reduces an elementwise function over rows of ``CHUNK`` elements.

    Args:
        flat: Tensor of one dimension.
        of: From a tensor to a tuple of tensors. A function within a function may use tensors of the outer one.
        kind: "sum" or "amax".

    Returns:
        For each result of ``of`` its rows, in float32 or better; and the elements that are not among them.
    """
    count = len(flat) // CHUNK
    if count < 2:  # Of a single row torch would make a program of its own.
        return (), flat
    rows = flat[: count * CHUNK].view(count, CHUNK)
    torch._dynamo.mark_dynamic(rows, 0)
    code: Any = of.__code__  # pyright: ignore[reportFunctionMemberAccess]
    return _program(code, kind, flat.dtype, flat.device.type)(of, rows), flat[count * CHUNK :]


@lru_cache(maxsize=64)
def _program(code: CodeType, kind: str, dtype: torch.dtype, device: str) -> Callable[..., tuple[Tensor, ...]]:
    del code, dtype, device
    reduce: Any = {"sum": _sums, "amax": _tops}[kind]
    return torch.compile(with_own_code(reduce), fullgraph=True)


def _sums(of: Callable[[Tensor], Any], rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(item.to(torch.promote_types(item.dtype, torch.float32)).sum(-1) for item in of(rows))


def _tops(of: Callable[[Tensor], Any], rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(item.amax(-1) for item in of(rows))
