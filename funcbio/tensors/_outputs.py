"""Outputs of layers that are not plain dense tensors: batches of examples of different lengths, and quantized numbers.

Torch makes the first of padded batches itself, when ``nn.TransformerEncoder`` evaluates with a padding mask.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def parts(output: Tensor) -> list[Tensor]:
    """Returns dense tensors that hold all elements of an output, without padding and gaps."""
    if output.is_quantized:
        output = output.dequantize()
    jagged: Any = output
    if output.layout is torch.jagged and jagged.lengths() is None:
        return [jagged.values()]
    return list(output.unbind()) if output.is_nested else [output]


def on_values(function: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """Returns an output like the given one, with a function applied to its values.

    Args:
        function: From a dense tensor to one of the same shape; it finds the dimension of the units from the end.
        output: A layer's output. A quantized one gets a new scale, from its new values.

    Returns:
        Tensor of the layout of ``output``.
    """
    if output.is_quantized:
        # In seven bits, as torch's own observers: eight may overflow in the products that follow.
        return torch.quantize_per_tensor_dynamic(function(output.dequantize()), output.dtype, reduce_range=True)
    if not output.is_nested:
        return function(output)
    if output.layout is torch.strided:
        return torch.nested.as_nested_tensor([function(part) for part in output.unbind()])
    jagged: Any = output
    # With the offsets of the input torch knows that both have the same lengths, and adds them.
    places = {"offsets": jagged.offsets(), "lengths": jagged.lengths(), "jagged_dim": ragged(output)}
    return torch.nested.nested_tensor_from_jagged(function(jagged.values()), **places)


def ragged(output: Tensor) -> int:
    """Returns the dimension along which the examples of a jagged batch differ."""
    return getattr(output, "_ragged_idx", 1)


def first_input(args: Any, kwargs: Any) -> Any:
    """Returns the first argument of a module, given by position or by name; of a packed sequence its values."""
    first = next(iter((*args, *kwargs.values())), None)
    return first.data if isinstance(first, PackedSequence) else first
