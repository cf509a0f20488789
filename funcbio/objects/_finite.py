"""Overflowed gradients: ``torch.amp.GradScaler`` skips the step then, and the mechanisms change nothing either."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from funcbio._checks import FLOATING
from funcbio.tensors._sharding import holds_everywhere, is_plain, local

PLAIN = (Tensor, nn.Parameter)


@torch.no_grad()
def finite_gradients(modules: Sequence[nn.Module], *, heals: bool = False) -> bool | Tensor:
    """Returns True if all gradients are finite or, with ``heals``, if some weights are not.

    Gradients and parameters of every type and layout are looked at: those of a model that are no synapses, too.

    Returns:
        A tensor of no dimensions where the answer lies on another device than the CPU: asking would make the CPU wait.
    """
    parameters = [p for module in modules for p in module._parameters.values() if p is not None]
    grads = [p.grad for p in parameters if p.grad is not None]
    asked = [*grads, *parameters] if heals else grads
    devices = {tensor.device for tensor in asked}
    if grads and grads[0].device.type != "cpu" and len(devices) == 1 and all(map(is_plain, asked)):
        verdict = _verdict(grads)
        return verdict | ~_verdict(parameters) if heals else verdict
    usual = all(
        type(grad) in PLAIN and grad.dtype in FLOATING and grad.layout == torch.strided and not grad.is_nested
        for grad in grads
    )
    if usual and math.isfinite(sum(float(grad.sum()) for grad in grads)):
        return True
    return all_finite(grads) or (heals and not all_finite(parameters))


def _verdict(tensors: Sequence[Tensor]) -> Tensor:
    answers = [part.isfinite().all() for tensor in tensors for part in numbers(tensor)]
    return torch.stack([torch.ones((), dtype=torch.bool, device=tensors[0].device), *answers]).all()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Returns True if all elements are finite: a sum shows it fast, unless the sum itself overflows."""
    tensors = list(tensors)
    parts = [part for tensor in tensors for part in numbers(local(tensor))]
    sums = [part.sum() for part in parts]
    finite = all(bool(s.isfinite()) or bool(p.isfinite().all()) for s, p in zip(sums, parts, strict=True))
    return holds_everywhere(finite, tensors)


def numbers(tensor: Tensor) -> Iterator[Tensor]:
    """Yields the values of a tensor of any type and layout that may not be finite, as dense floating-point tensors."""
    if is_lazy(tensor) or tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex()):
        return
    if tensor.is_nested:
        for part in tensor.unbind():
            yield from numbers(part)
    elif tensor.layout == torch.sparse_coo:
        yield from numbers(tensor.coalesce().values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        yield from numbers(tensor.values())
    elif tensor.layout != torch.strided:
        yield tensor.to_dense()
    elif tensor.is_complex():
        yield torch.view_as_real(tensor.resolve_conj())
    else:
        yield tensor.float() if tensor.dtype.itemsize == 1 else tensor  # Torch computes little with 8 bits.


@torch.no_grad()
def peak(values: Tensor) -> float:
    """Returns the largest magnitude of real numbers; nan if one of them is."""
    if values.numel() == 0:
        return 0.0
    low, high = torch.aminmax(values)
    return max(abs(float(low)), abs(float(high)))
