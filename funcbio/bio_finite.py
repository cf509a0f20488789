"""Whether gradients have overflowed: then ``torch.amp.GradScaler`` skips the step, and nothing must move on."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from funcbio.sharding import holds_everywhere, is_plain, local


@torch.no_grad()
def finite_gradients(modules: Sequence[nn.Module], *, heals: bool = False) -> bool | Tensor:
    """Whether all gradients are finite; if ``heals``, they may also not be where weights are not.

    Returns:
        A tensor of no dimensions where the answer lies on another device than the CPU: asking would make the CPU wait.
    """
    parameters = [p for module in modules for p in module._parameters.values() if p is not None]
    grads = [p.grad for p in parameters if p.grad is not None]
    if all(map(is_plain, grads)) and len({grad.device for grad in grads}) == 1:
        if grads[0].device.type != "cpu":
            verdict = _verdict(grads)
            return verdict | ~_verdict(parameters) if heals else verdict
        if math.isfinite(sum(float(grad.sum()) for grad in grads)):
            return True
    return all_finite(grads) or (heals and not all_finite(parameters))


def _verdict(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([tensor.isfinite().all() for tensor in tensors]).all()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all elements are finite: a sum shows it fast, unless the sum itself overflows."""
    tensors = list(tensors)
    parts = [local(tensor) for tensor in tensors]
    sums = [part.sum() for part in parts]
    finite = all(bool(s.isfinite()) or bool(p.isfinite().all()) for s, p in zip(sums, parts, strict=True))
    return holds_everywhere(finite, tensors)
