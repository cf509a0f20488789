"""Copies of models and examples for a probe, and the tensors in what a model returns."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from funcbio.anatomy._choice import LAYERS, is_compiled


def shared_weights(model: nn.Module) -> list[nn.Parameter]:
    """Returns the weights of torch's layers, which a model that is cut does not use."""
    layers = [module for module in model.modules() if type(module) in (*LAYERS, nn.Embedding)]
    return [one for one in (module._parameters.get("weight") for module in layers) if one is not None]


def copied(model: nn.Module, weights: Sequence[nn.Parameter]) -> nn.Module:
    """Returns a copy in float64 that shares some weights, which are neither used nor written to."""
    shared = {id(one): one for one in weights}
    # What the model keeps of an earlier pass, as a weight that is computed: torch refuses to copy it.
    kept = [one for module in model.modules() for one in tensors_in(vars(module)) if not one.is_leaf]
    copy_of = copy.deepcopy(model, {**shared, **{id(one): one.detach() for one in kept}}).eval()
    for module in copy_of.modules():
        _run_plainly(module)
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if is_floating(tensor) and id(tensor) not in shared:
                    assert tensor is not None
                    tensor.data = tensor.data.double()
        vars(module).update(
            {name: double(value) for name, value in _own(module) if any(map(is_floating, tensors_in(value)))}
        )
    return copy_of


def _own(module: nn.Module) -> list[tuple[str, Any]]:
    """Returns the tensors that a module keeps beside its parameters and buffers, and its lists and dictionaries."""
    torch_own = ("_parameters", "_buffers", "_modules")
    kinds = (Tensor, list, tuple, dict)
    return [(name, one) for name, one in vars(module).items() if name not in torch_own and isinstance(one, kinds)]


def _run_plainly(module: nn.Module) -> None:
    """Undoes ``torch.compile``: programs would be made for every tag."""
    if is_compiled(module):
        vars(module)["_compiled_call_impl"] = None
        if "_orig_mod" in module._modules:
            vars(module)["forward"] = module._modules["_orig_mod"]


def double(tree: Any) -> Any:
    """Returns inputs with all floating-point tensors in float64."""
    return mapped(lambda one: one.detach().double() if is_floating(one) else one, tree)


def fresh(tree: Any) -> Any:
    """Returns inputs with copies of all tensors, which the model may write to."""
    return mapped(lambda one: one.clone() if isinstance(one, Tensor) else one, tree)


def is_floating(value: Any) -> bool:
    """Returns True for a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """Changes the tensors in nested lists, tuples and dictionaries."""
    if isinstance(tree, Mapping):
        return {name: mapped(change, one) for name, one in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(change, one) for one in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(change, one) for one in tree)
    return change(tree)


def tensors_inside(output: Any) -> Iterator[Tensor]:
    """Yields the tensors in an output, also those that an object of another kind holds, such as a distribution."""
    left, seen = [output], set()
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | nn.Module):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
        else:
            left += getattr(one, "__dict__", {}).values()


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yields the tensors in nested lists, tuples, dictionaries and dataclasses."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for one in tree.values():
            yield from tensors_in(one)
    elif isinstance(tree, list | tuple):
        for one in tree:
            yield from tensors_in(one)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from tensors_in(getattr(tree, field.name))


@contextmanager
def plain_attention() -> Iterator[None]:
    """Makes forward derivatives ready, and switches the fused forms of torch's Transformers off."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # Torch's own, when it loads its forward derivatives.
        forward_ad.make_dual(torch.ones(()), torch.ones(()))
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def wide_numbers() -> Iterator[None]:
    """Makes new tensors in float64, as those that a model makes in its forward pass have to fit the tags."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
