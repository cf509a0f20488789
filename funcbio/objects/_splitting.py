"""Weight splitting on the weights: a layer multiplies with one summed row for every group of sub-synapses.

With the identity as activation, a group of units puts out together what the sum of its rows puts out. That product is
Gamma times smaller than the one whose output ``split_output`` sums.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from funcbio.anatomy._choice import LAYERS
from funcbio.anatomy._synapses import Synapse
from funcbio.engine._options import OPTIONS
from funcbio.mechanisms import grouped, has_summable_rows, identity, repeated, split_output
from funcbio.tensors._sharding import is_plain

PRODUCTS = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Split:
    """Stands for the input of one call of a layer: a product with it takes the sums of the weights over groups.

    The layer itself stays as it is. Its weight remains the parameter meanwhile, for other threads too,
    and nothing has to be put back after a call, failed and interrupted ones included.

    Args:
        x: The input.
        gamma: Number of sub-synapses.
        post: Axis of the units in the weight.

    Attributes:
        done: Whether the product was taken.
    """

    def __init__(self, x: Tensor, gamma: int, post: int) -> None:
        self.x, self.gamma, self.post, self.done = x, gamma, post, False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        """Runs a function of torch on this input: torch calls this in the function's place."""
        del cls, types
        given, *rest = args
        if func in PRODUCTS:
            weight, bias, *rest = rest
            bias = None if bias is None else grouped(bias, given.gamma, dim=0)
            rest = grouped(weight, given.gamma, dim=given.post), bias, *rest
            given.done = True
        return func(given.x, *rest, **(kwargs or {}))


@dataclass(frozen=True)
class AfterForward:
    """Runs after the forward of a converted layer, as a hook: has its BioModule count and split the output.

    Torch hands hooks on to the module that it puts in a layer's place, as when it quantizes, and leaves the BioModule
    behind. The hook then goes on splitting, and no activity is counted any more. It knows no layer, so that copies and
    pickles act on their own.

    Args:
        gamma: Number of sub-synapses.
        activation: What is applied to each of them.
        dim: Dimension of the units in the output.
        path: Where the layer is, seen from the module that is called.
    """

    gamma: int
    activation: Callable[[Tensor], Tensor]
    dim: int
    path: str = ""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Returns the output, split; of attention, the first of its outputs."""
        if self.path:
            first, *rest = output
            return self._split(module.get_submodule(self.path), (), first), *rest
        return self._split(module, args, output)

    def _split(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        bio = bio_of(layer)
        if bio is None:
            done = self.gamma <= 1 or _holds_bio(layer)
            return output if done else split_output(output, self.gamma, activation=self.activation, dim=self.dim)
        if args and type(args[0]) is Split and args[0].done:
            return repeated(output, self.gamma, dim=self.dim % output.ndim)
        return bio(output)


def bio_of(layer: nn.Module) -> Any:
    """Returns the BioModule of a layer's weight; None if there is none."""
    bio_mod = getattr(layer, "bio_mod", None)
    return bio_mod._modules.get("weight") if isinstance(bio_mod, nn.ModuleDict) else bio_mod


def _holds_bio(module: nn.Module) -> bool:
    return any("bio_mod" in part._modules for part in module.modules())


def before_forward(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Replaces a layer's input, as a forward pre-hook, so that its rows are summed where that is equal and faster.

    Raises:
        RuntimeError: If the layer was fused into another module, and its splitting is lost.
    """
    bio = bio_of(layer)
    if bio is None:
        _check_splits(layer)
        return None
    weight = layer._parameters.get("weight")
    if len(args) != 1 or not is_plain(args[0]) or args[0].is_nested or not is_plain(weight):
        return None
    if not _pays(args[0], weight, bio.synapse) or not _may_sum(bio, weight) or not _is_plain(layer, args[0]):
        return None
    return (Split(args[0], bio.config.weight_splitting_Gamma, bio.synapse.post),)


def _check_splits(module: nn.Module) -> None:
    """Raises RuntimeError if a module that got the pre-hook of a layer has no hook that splits its output."""
    if not _holds_bio(module) and not any(isinstance(hook, AfterForward) for hook in module._forward_hooks.values()):
        raise RuntimeError(
            f"{type(module).__name__} should split its output, as the layer did that was fused into it; found that the "
            "fusion left this out: sum the weights before (funcbio.split_weights), or do not fuse layers that split"
        )


def _pays(x: Tensor, weight: Any, synapse: Synapse) -> bool:
    """Returns True if a layer multiplies so often that summed rows are faster; the cheapest check, so the first."""
    uses = x.numel() // max(1, synapse.pre_units(weight.shape))
    if x.device.type == "cpu":
        return uses >= OPTIONS.summed_uses and uses * weight.numel() >= OPTIONS.summed_products
    return uses >= OPTIONS.launched_uses and uses * weight.numel() >= OPTIONS.launched_products


def _may_sum(bio: Any, weight: Any) -> bool:
    """Returns True if the sums of rows are all that the layer has to compute: its single units are not needed."""
    config, synapse = bio.config, bio.synapse
    activation, gamma = config.weight_splitting_activation_function, config.weight_splitting_Gamma
    return (
        synapse.splits(gamma)
        and (activation is identity or type(activation) is nn.Identity)
        and not config.records_activity  # It counts the units one by one.
        and has_summable_rows(synapse, weight.shape, gamma)
        and weight.shape == bio.fuzzy_learning_rate_parameters.shape  # Else the BioModule says what is wrong.
    )


def _is_plain(layer: nn.Module, x: Tensor) -> bool:
    """Returns True if a layer runs its class's own forward and no other hook reads its output."""
    hooks = len(layer._forward_pre_hooks) + len(layer._forward_hooks)
    others = hooks > 2 or layer._backward_pre_hooks or layer._backward_hooks or _has_any_global_hook()
    as_its_class = type(layer) in LAYERS and "forward" not in layer.__dict__ and x.layout == torch.strided
    return as_its_class and not others and not _is_recorded()


def _is_recorded() -> bool:
    """Returns True if the call becomes a graph that runs with other input sizes: it is traced or exported."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
