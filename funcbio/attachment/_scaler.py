"""GradScaler and fused optimizers: they get scaled gradients, and are told whether the step is to be skipped."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from funcbio.mechanisms._placed import Mechanism
from funcbio.objects._finite import finite_gradients


def verdict(optimizer: Optimizer) -> bool | Tensor:
    """Returns True if a step will be made; a tensor if reading it would make the CPU wait for another device.

    An optimizer that is not fused is never called for a step that is skipped.
    """
    overflow = getattr(optimizer, "found_inf", None)
    if not isinstance(overflow, Tensor):
        return True
    finite = overflow.reshape(()) == 0
    return bool(finite) if finite.device.type == "cpu" else finite


@torch.no_grad()
def unscale(optimizer: Optimizer) -> None:
    """Divides the gradients by the scale that a fused optimizer was given, and removes it from the optimizer.

    The fused step would have left them so as well.
    """
    scale = getattr(optimizer, "grad_scale", None)
    if not isinstance(scale, Tensor):
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if grads:
        # In one call.
        torch._foreach_div_(grads, [scale.to(grad.device) for grad in grads])  # pyright: ignore[reportPrivateImportUsage]
    vars(optimizer)["grad_scale"] = None  # The scaler deletes the attribute after the step.


def will_step(modules: Sequence[nn.Module], mechanisms: Iterable[Mechanism]) -> bool | Tensor:
    """Returns False if gradients have overflowed, so that a scaler will skip the step; methods check the same way.

    It is a tensor where reading it would make the CPU wait for another device.
    """
    return finite_gradients(modules, heals=any(mechanism.row.replaces for mechanism in mechanisms))
