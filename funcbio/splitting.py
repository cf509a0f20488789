"""Weight splitting on the weights: a layer multiplies with one summed row for every group of sub-synapses.

With the identity as activation, a group of units puts out together what the sum of its rows puts out. That product is
Gamma times smaller than the one whose output ``split_output`` sums.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from funcbio.choice import LAYERS
from funcbio.mechanisms import grouped, has_summable_rows, identity, repeated
from funcbio.observe import unit_dim
from funcbio.sharding import is_plain
from funcbio.synapses import Synapse

PRODUCTS = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
TRACED = torch.__version__ >= "2.13"  # Whether the compiler is known to follow a ``Split``.

# The sums take as long as some products with every weight, and a few calls more than sums of outputs. They pay from so
# many products with each weight on, and so many with all of them; on a processor, that is where both were as fast.
LEAST = {"cpu": (32, 2**20)}
LEAST_ELSEWHERE = (256, 2**28)  # Accelerators multiply faster than they read, or are called.


class Split:
    """Stands for the input of one call of a layer: a product with it takes the sums of the weights over groups.

    The layer itself stays as it is. Whoever looks at its weight meanwhile, in another thread too, finds the parameter,
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
        """Torch calls this in the place of a function that was given such an input."""
        del cls, types
        given, *rest = args
        if func in PRODUCTS:
            weight, bias, *rest = rest
            bias = None if bias is None else grouped(bias, given.gamma, dim=0)
            rest = grouped(weight, given.gamma, dim=given.post), bias, *rest
            given.done = True
        return func(given.x, *rest, **(kwargs or {}))


def before_forward(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook of a layer that splits: has its rows summed where that gives the same and is faster."""
    bio: Any = layer._modules["bio_mod"]
    weight = layer._parameters.get("weight")
    if len(args) != 1 or not is_plain(args[0]) or not is_plain(weight):
        return None
    if not _pays(args[0], weight, bio.synapse) or not _may_sum(bio, weight) or not _is_plain(layer, args[0]):
        return None
    return (Split(args[0], bio.config.weight_splitting_Gamma, bio.synapse.post),)


def after_forward(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of a layer: repeats the output of summed rows; else the BioModule counts and splits the output."""
    bio: Any = layer._modules["bio_mod"]
    if args and type(args[0]) is Split and args[0].done:
        return repeated(output, args[0].gamma, dim=unit_dim(bio.fuzzy_learning_rate_parameters) % output.ndim)
    return bio(output)


def _pays(x: Tensor, weight: Any, synapse: Synapse) -> bool:
    """Whether a layer multiplies often enough; asked first, because it is known soonest."""
    uses = x.numel() // max(1, synapse.pre_units(weight.shape))
    least_uses, least_products = LEAST.get(x.device.type, LEAST_ELSEWHERE)
    return uses >= least_uses and uses * weight.numel() >= least_products


def _may_sum(bio: Any, weight: Any) -> bool:
    """Whether the sum of rows says all that is asked of the layer's units."""
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
    """Whether a layer computes as its class does, and nobody else is called who should find all of its output."""
    hooks = len(layer._forward_pre_hooks) + len(layer._forward_hooks)
    others = hooks > 2 or layer._backward_pre_hooks or layer._backward_hooks or _has_any_global_hook()
    own = type(layer) in LAYERS and "forward" not in layer.__dict__ and x.layout == torch.strided
    return own and not others and not _is_recorded()


def _is_recorded() -> bool:
    """Whether the call becomes a graph for inputs of other sizes, or one that the compiler may not be able to make."""
    if torch.compiler.is_compiling():
        return not TRACED or torch.compiler.is_exporting()
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
