"""Choosing the parameters of a module that are synapses."""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from funcbio.checks import is_real

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
INPUT_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

Choice: TypeAlias = Callable[[str, nn.Module], bool] | str | Sequence[str] | None
"""Which parameters are synapses: a predicate on parameter name and owning module, glob patterns, or the default."""


def choose(model: nn.Module, choice: Choice) -> list[tuple[nn.Module, str]]:
    """Module and attribute of every synapse, tied weights once, in order of registration."""
    candidates = list(_candidates(model))
    if choice is None:
        chosen = [(name, module) for name, module in candidates if isinstance(module, LAYERS)]
        _require_weights(model)
    elif callable(choice):
        chosen = [(name, module) for name, module in candidates if choice(name, module)]
    elif not isinstance(choice, str | Sequence) or not all(isinstance(pattern, str) for pattern in choice):
        raise ValueError(f"synapses should be None, patterns of names or a predicate; found {choice!r}")
    else:
        chosen = _match(candidates, [choice] if isinstance(choice, str) else list(choice))
    if not chosen:
        wanted = f"a layer with synapses ({', '.join(kind.__name__ for kind in LAYERS)})"
        wanted = wanted if choice is None else "a parameter that synapses chooses"
        raise ValueError(f"model should contain {wanted}; found none in {type(model).__name__}")
    once: dict[int, tuple[nn.Module, str]] = {}
    for name, module in chosen:
        attribute = name.rpartition(".")[2]
        _require_real(name, module._parameters[attribute])
        once.setdefault(id(module._parameters[attribute]), (module, attribute))
    return list(once.values())


def _match(candidates: list[tuple[str, nn.Module]], patterns: list[str]) -> list[tuple[str, nn.Module]]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name, _ in candidates):
            names = ", ".join(name for name, _ in candidates)
            raise ValueError(f"synapses should match parameters ({names}); found no match for {pattern!r}")
    return [pair for pair in candidates if any(fnmatchcase(pair[0], pattern) for pattern in patterns)]


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every parameter that could hold synapses; a tied one comes once for each module."""
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
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"model should be initialized, run it once; found the uninitialized weight {name}")
    if not is_real(weight):
        found = weight if weight is None else weight.dtype
        raise ValueError(f"{name} should hold real floating-point numbers to be synapses; found {found}")
