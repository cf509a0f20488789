"""A model cut at every weight: what arrives at each of them is recorded, and a tag takes the place of what leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from funcbio.anatomy._names import Names
from funcbio.anatomy._synapses import Synapse


@dataclass
class Site:
    """Describes one place in a forward pass where a weight is used, or a norm.

    Attributes:
        weight: Name of the weight; of a norm, of its scale, "" if it has none.
        synapse: Layout of the weight; None for a norm.
        start: The first of the weight's rows that this use computes.
        rows: How many rows it computes; 0 for a norm.
        size: How many units the population has; a recurrent layer has several rows for each.
        bias: Name of the bias, if it is a parameter.
        entries: Of a norm, names of parameters and buffers by their role.
        channels: Position of the channels of the input, counted from the end; 0 if it has none.
        width: How many dimensions are channels.
        readable: Whether the input is that of the module that owns the weight.
        source: Name of the population of its units.
    """

    weight: str
    synapse: Synapse | None
    start: int = 0
    rows: int = 0
    size: int = 0
    bias: str | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    channels: int = -1
    width: int = 1
    readable: bool = False
    source: str = ""


Tag = Callable[[Site, torch.Size, int, Any], Tensor]
"""Makes the tag of a site: from the shape of the output, its dimension of the units, and a tensor of its type."""


class Cut(TorchFunctionMode):
    """Runs a model with its weights cut: records what arrives, and lets a function make what leaves.

    Args:
        model: The model, which may be changed.
        names: Names of its tensors.
        tag: Makes tags.
    """

    def __init__(self, model: nn.Module, names: Names, tag: Tag) -> None:
        super().__init__()
        self.model, self.names, self.tag = model, names, tag
        self.sites: list[Site] = []
        self.inputs: list[Tensor | None] = []
        self.unknown: list[str] = []
        self.computed: set[str] = set()
        self.running: list[tuple[str, nn.Module, Any]] = []
        self.layouts: dict[str, int] = {}
        self.before: list[Site] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch, or what takes its place."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        replaced = RULES.get(name)
        if replaced is not None:
            result = replaced(self, name, args, kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self._note_computed(args, kwargs, result)
        return result

    def _note_computed(self, args: Any, kwargs: Any, result: Any) -> None:
        """Records the parameters that a function of torch computes with: the result is no view of theirs."""
        for one in (*args, *kwargs.values()):
            for tensor in one if isinstance(one, list | tuple) else (one,):
                name = self.names.base(tensor)
                if name is not None and name in self.names.parameters and _is_new(result, tensor):
                    self.computed.add(name)

    def source(self, weight: str, post: int) -> str:
        """Returns the name of a weight's population; one of its own if the weight is also used turned around."""
        return weight if self.layouts.setdefault(weight, post) == post else f"{weight} (turned)"

    def where(self) -> str:
        """Returns the name of the module that is running."""
        return (self.running[-1][0] or "the model") if self.running else "the model"

    def note(self, sentence: str) -> None:
        """Records what cannot be known, once."""
        if sentence not in self.unknown:
            self.unknown.append(sentence)

    def record(self, site: Site, x: Tensor | None) -> None:
        """Records a use of a weight, and what arrives at it."""
        self._require_usual(site, x)
        owner = site.weight.rpartition(".")[0]
        if self.running and x is not None and site.synapse is not None:
            name, _, first = self.running[-1]
            site.readable = name == owner and isinstance(first, Tensor) and _same(first, x, site)
        self.sites.append(site)
        self.inputs.append(x)

    def _require_usual(self, site: Site, x: Tensor | None) -> None:
        """Raises ValueError if what arrives does not fit a weight, or another weight was used in its place before."""
        at, weight = len(self.sites), self.names.tensors.get(site.weight)
        if self.before is not None and (at >= len(self.before) or self.before[at].weight != site.weight):
            found = site.weight or "a norm"
            raise ValueError(f"model should use the same weights at every call; found {found} used at some calls only")
        if x is not None and weight is not None and site.synapse is not None:
            inputs = site.synapse.pre_units(weight.shape)
            if x.shape[site.channels] != inputs or not x.numel():
                wanted = f"example should bring numbers to the {inputs} inputs of {site.weight}"
                raise ValueError(f"{wanted}; found the shape {tuple(x.shape)}")

    def use(self, x: Tensor | None, site: Site, shape: torch.Size, dim: int, like: Tensor) -> Tensor:
        """Records a use of a weight, and returns the tag in the place of its output."""
        self.record(site, x)
        return self.tag(site, shape, dim, like)


def _is_new(result: Any, tensor: Tensor) -> bool:
    """Returns True if a result holds numbers that are not those of a tensor."""
    results = result if isinstance(result, list | tuple) else (result,)
    tensors = [one for one in results if isinstance(one, Tensor) and one.is_floating_point()]
    return any(one.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr() for one in tensors)


def _same(one: Tensor, other: Tensor, site: Site) -> bool:
    """Returns True if two tensors hold the same channels at the same places; others than the last may be flattened."""
    flat = site.channels == -1 and one.shape[-1:] == other.shape[-1:] and one.numel() == other.numel()
    flat = flat and one.is_contiguous() and other.is_contiguous()
    return one.data_ptr() == other.data_ptr() and (one.shape == other.shape or flat)


RULES: dict[str, Callable[[Cut, str, Any, Any], Any]] = {}
"""What takes the place of torch's functions, by their names; filled by the files of rules."""
