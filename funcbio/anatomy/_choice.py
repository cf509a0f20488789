"""Choosing the parameters of a module that are synapses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from funcbio._checks import brief, is_real, require_module
from funcbio.base import listed

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
INPUT_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

Rule: TypeAlias = str | Callable[[str, nn.Module], bool]
"""Chooses parameters: a glob pattern of names, or a predicate on name and owning module."""
Choice: TypeAlias = Rule | Sequence[str] | Mapping[Rule, int | None] | None
"""Which parameters are synapses: a rule, several patterns, rules with the dimension of the inputs, or the default."""


class Chosen(NamedTuple):
    """Describes a parameter that holds synapses.

    Attributes:
        module: The module that owns it.
        attribute: Its name there.
        name: Its name in the model; of a tied one, the first.
        named: Whether it was chosen by its full name.
        inputs: The dimension that belongs to the inputs, if the choice gives it.
    """

    module: nn.Module
    attribute: str
    name: str
    named: bool = False
    inputs: int | None = None

    @property
    def weight(self) -> nn.Parameter:
        """Returns the parameter."""
        return self.module._parameters[self.attribute]  # pyright: ignore[reportReturnType]


def choose(model: nn.Module, choice: Choice) -> list[Chosen]:
    """Returns the parameters chosen, tied ones once, in order of registration."""
    require_module(model)
    if choice is None:
        _require_weights(model)
    candidates, rules = list(_candidates(model)), _rules(choice)
    chosen: dict[int, Chosen] = {}
    for name, module in candidates:
        dims = [dim for rule, dim in rules if _matches(rule, name, module)]
        if dims:
            named = any(rule == name for rule, _ in rules)
            one = Chosen(module, name.rpartition(".")[2], name, named, _one_of(name, dims))
            weight = one.weight
            _require_real(name, weight)
            chosen[id(weight)] = _tied(chosen.get(id(weight), one), one)
    for rule, _ in rules:
        if isinstance(rule, str) and not any(_matches(rule, *pair) for pair in candidates):
            names = listed(name for name, _ in candidates)
            raise ValueError(f"synapses should match parameters ({names}); found no match for {brief(rule)}")
    if not chosen:
        wanted = f"a layer with synapses ({', '.join(kind.__name__ for kind in LAYERS)})"
        wanted = wanted if choice is None else "a parameter that synapses chooses"
        raise ValueError(f"model should contain {wanted}; found none in {type(model).__name__}")
    return list(chosen.values())


def _tied(first: Chosen, second: Chosen) -> Chosen:
    """Returns one description for a parameter of two modules: the first one's layout counts."""
    alike = first.inputs is None and type(first.module) is type(second.module)
    return first._replace(named=first.named or second.named, inputs=second.inputs if alike else first.inputs)


def _rules(choice: Choice) -> list[tuple[Rule, int | None]]:
    """Returns every rule of a choice, and the dimension of the inputs that the choice gives for it."""
    if choice is None:
        # Only "weight": further parameters that a subclass of a layer adds are not synapses.
        return [(lambda name, module: isinstance(module, LAYERS) and name.rpartition(".")[2] == "weight", None)]
    if isinstance(choice, str) or callable(choice):
        return [(choice, None)]
    if isinstance(choice, Mapping):
        _require_dims(choice)
        return list(choice.items())
    if not isinstance(choice, Sequence) or not all(isinstance(pattern, str) for pattern in choice):
        raise ValueError(f"synapses should be None, patterns of names or a predicate; found {brief(choice)}")
    return [(pattern, None) for pattern in choice]


def _require_dims(choice: Mapping[Any, Any]) -> None:
    for rule, dim in choice.items():
        whole = dim is None or (isinstance(dim, int) and not isinstance(dim, bool))
        if not whole or not (isinstance(rule, str) or callable(rule)):
            raise ValueError(
                "synapses should map patterns or predicates to the dimension of the inputs, an integer or None; "
                f"found {brief(rule)}: {brief(dim)}"
            )


def _one_of(name: str, dims: Sequence[int | None]) -> int | None:
    """Returns the dimension that the choice gives for a parameter; None if it gives none."""
    distinct = dict.fromkeys(dim for dim in dims if dim is not None)
    if len(distinct) > 1:
        raise ValueError(f"synapses should say one dimension for {name}; found {' and '.join(map(str, distinct))}")
    return next(iter(distinct), None)


def _matches(rule: Rule, name: str, module: nn.Module) -> bool:
    return fnmatchcase(name, rule) if isinstance(rule, str) else bool(rule(name, module))


def is_scripted(module: nn.Module) -> bool:
    """Returns True for a program of ``torch.jit``, whose attributes and parameters cannot be replaced."""
    return isinstance(module, torch.jit.ScriptModule)


def is_compiled(module: nn.Module) -> bool:
    """Returns True for a module compiled by ``torch.compile``, in place or as a wrapper."""
    return "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields name and module of every parameter that could hold synapses; a tied one once for each module."""
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None or isinstance(module, NORMS) or "bias" in attribute:
                continue
            if isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.ndim >= 2:
                yield f"{prefix}.{attribute}" if prefix else attribute, module


def _require_weights(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and module._parameters.get("weight") is None:
            raise ValueError(
                f"the weight of layer {name!r} should be a parameter; found one that is computed from others"
            )


def _require_real(name: str, weight: nn.Parameter | None) -> None:
    require_initialized(name, weight)
    if not is_real(weight):
        kind = weight if weight is None else weight.dtype
        raise ValueError(f"{name} should hold real floating-point numbers to be synapses; found {kind}")


def require_initialized(name: str, weight: nn.Parameter | None) -> None:
    """Raises ValueError for a parameter of a lazy module that has not run yet."""
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"model should be initialized, run it once; found the uninitialized weight {name}")
