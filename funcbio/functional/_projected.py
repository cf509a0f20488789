"""Layers whose weights are projected after every step of an optimizer."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from funcbio._checks import require


def keep_projected(optimizer: Optimizer, model: nn.Module) -> Any:
    """Calls ``project_()`` of every layer that has it, after each step of an optimizer.

    Call it after ``funcbio.attach``: hooks run in the order in which they were set, and mechanisms may change weights.

    Args:
        optimizer: Any optimizer.
        model: The model whose layers are projected.

    Returns:
        A handle whose ``remove()`` ends it.

    Raises:
        ValueError: If no layer of the model has the method.

    Example:
        >>> net = torch.nn.Sequential(DANNLinear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        >>> handle = keep_projected(optimizer, net)
        >>> net(torch.rand(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> bool((net[0].weight_ex >= 0).all())
        True
    """
    layers: list[Any] = [module for module in model.modules() if callable(getattr(module, "project_", None))]
    require("model", type(model).__name__, "one with a layer that has project_()", bool(layers))

    def project(*_: Any) -> None:
        for layer in layers:
            layer.project_()

    return optimizer.register_step_post_hook(project)
