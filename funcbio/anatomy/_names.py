"""The parameters and buffers of a model, found by the tensors that are given to functions."""

from typing import Any, NamedTuple

from torch import Tensor, nn


class Place(NamedTuple):
    """Says which part of a parameter a tensor is, as a matrix from inputs to outputs.

    Attributes:
        name: Name of the parameter.
        pre: Its dimension of the inputs.
        start: The first of its units.
    """

    name: str
    pre: int
    start: int = 0


class Names:
    """Finds the parameters and buffers of a model by the tensors that are given to functions."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self.tensors = {**self.parameters, **dict(model.named_buffers())}
        self.by_id = {id(tensor): name for name, tensor in self.tensors.items()}
        self.by_memory = {t.untyped_storage().data_ptr(): n for n, t in self.tensors.items() if t.numel()}

    def of(self, tensor: Any) -> str | None:
        """Returns the name of a parameter or buffer given as it is."""
        return self.by_id.get(id(tensor))

    def is_buffer(self, tensor: Any) -> bool:
        """Returns True for a buffer: what it does is computed, as that of any function."""
        return self.base(tensor) in self.tensors.keys() - self.parameters.keys()

    def base(self, tensor: Any) -> str | None:
        """Returns the name of the parameter that a tensor is a view of, or is."""
        if not isinstance(tensor, Tensor):
            return None
        name = self.by_id.get(id(tensor))
        if name is None and tensor._is_view():
            name = self.by_memory.get(tensor.untyped_storage().data_ptr())
        return name

    def matrix(self, tensor: Tensor, *, outputs_first: bool) -> Place | None:
        """Returns the place of a matrix; None if it is no parameter, nor whole rows or columns of one.

        Args:
            tensor: Two dimensions.
            outputs_first: Whether its first dimension is that of the outputs.
        """
        name = self.base(tensor) or ""
        if name not in self.parameters or tensor.ndim != 2 or self.tensors[name].ndim != 2:
            return None
        whole, offset = self.tensors[name], tensor.storage_offset()
        turned = tensor.stride() != whole.stride()
        if turned and tensor.stride() != whole.stride()[::-1]:
            return None
        pre = (0 if turned else 1) if outputs_first else (1 if turned else 0)
        post, step = 1 - pre, whole.stride(1 - pre)
        inputs = tensor.shape[1 if outputs_first else 0]
        rest = offset - whole.storage_offset()
        return Place(name, pre, rest // step) if inputs == whole.shape[pre] and rest % step == 0 and post >= 0 else None
