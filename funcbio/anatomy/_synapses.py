"""Description of a model's synapses: their parameters, and the pre- and post-synaptic axes of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import optree
import torch
from torch import Size, Tensor, nn

from funcbio._checks import brief, settings, unlike_default
from funcbio.anatomy._choice import INPUT_FIRST, LAYERS, Choice, choose
from funcbio.anatomy._layout import input_dim, is_torch_weight
from funcbio.base import Tree
from funcbio.tensors._outputs import ragged
from funcbio.tensors._overlap import find_overlap, part_of

READOUT_MARK = "last_module_token"
"""Attribute that marks a layer as read-out; set by ``BioConverter.set_last_module_token_for_module``."""


@dataclass(frozen=True)
class Synapse:
    """Describes one weight tensor that holds synapses.

    Attributes:
        weight: Name of the weight parameter, such as "fc1.weight".
        kind: Name of the layer's class, such as "Linear".
        pre: Axis of the pre-synaptic units.
        post: Axis of the post-synaptic units.
        groups: Number of groups of a grouped convolution; 1 otherwise.
        index: Position from the input side, in the order in which the layers are registered.
        total: Number of weights that hold synapses.
        readout: Whether it is the read-out, exempt from weight splitting and Dale's principle.
        bias: Name of the bias of the same units, if there is one.
        observable: Whether the layer's output shows the units, so that activity and splitting make sense.
        attribute: Name of the weight within its module.
        named: Whether it was chosen by its full name: then it is treated even if it is not trained.
        trained: Whether it was trained, or named, when the model was described; if not, ``init`` marks it as one that
            the features leave alone.
        layout_known: Whether ``pre`` and ``post`` are known, from the layer's class or the user's word. If not, they
            are a guess, and mechanisms that depend on them raise ValueError.

    Example:
        >>> synapses(torch.nn.Linear(3, 2))["weight"].post_units(torch.Size([2, 3]))
        2
    """

    weight: str
    kind: str = "Linear"
    pre: int = 1
    post: int = 0
    groups: int = 1
    index: int = 0
    total: int = 1
    readout: bool = False
    bias: str | None = None
    observable: bool = True
    attribute: str = "weight"
    named: bool = False
    trained: bool = True
    layout_known: bool = True

    def __repr__(self) -> str:
        """Returns the weight, the kind of its layer, and what differs from the defaults."""
        return f"Synapse({settings({'weight': self.weight, 'kind': self.kind, **unlike_default(self)})})"

    @property
    def depth(self) -> float:
        """Returns the relative depth: ``index / total``."""
        return self.index / self.total

    def splits(self, gamma: int) -> bool:
        """Returns True if weight splitting by ``gamma`` changes the layer."""
        return gamma > 1 and not self.readout

    def pre_units(self, shape: Size) -> int:
        """Returns the number of units that a weight of this shape comes from."""
        return shape[self.pre] * (self.groups if self.pre == 1 else 1)

    def post_units(self, shape: Size) -> int:
        """Returns the number of units that a weight of this shape goes to."""
        return shape[self.post] * (self.groups if self.post == 1 else 1)

    def along_pre(self, values: Tensor, shape: Size) -> Tensor:
        """Lays one value for each pre-synaptic unit out so that it broadcasts with the weight."""
        return self._along(values, self.pre, shape)

    def along_post(self, values: Tensor, shape: Size) -> Tensor:
        """Lays one value for each post-synaptic unit out so that it broadcasts with the weight."""
        return self._along(values, self.post, shape)

    def _along(self, values: Tensor, axis: int, shape: Size) -> Tensor:
        if axis != 1 or self.groups == 1:
            return values.reshape([-1 if dim == axis else 1 for dim in range(len(shape))])
        # In a grouped convolution, axis 1 counts within the group that the row of axis 0 belongs to.
        rows = values.reshape(self.groups, -1).repeat_interleave(shape[0] // self.groups, 0)
        return rows.reshape(shape[0], shape[1], *[1] * (len(shape) - 2))


class Holder(NamedTuple):
    """Holds a synapse, the module that owns its weight, and the module whose output shows its units."""

    synapse: Synapse
    module: nn.Module
    output_module: nn.Module


def synapses(model: nn.Module, choice: Choice = None) -> dict[str, Synapse]:
    """Describes a model's synapses once, statically.

    By default synapses are the weights of Linear, Conv1d/2d/3d and ConvTranspose1d/2d/3d layers, at any depth of
    nesting. A choice may name any parameters of two and more dimensions instead, of recurrent layers, attention
    projections, embeddings or layers of your own; biases and normalisation parameters are never synapses.
    The read-out is the last of them, or every layer that the user marked. A layer that is itself the model is no
    read-out unless it is marked.
    A weight that is not trained (``requires_grad=False``) is described too, and left alone, unless a choice
    gives its full name.

    Args:
        model: Any module; it is only looked at.
        choice: None for the default, or glob patterns of parameter names (``"*"``, ``["gru.weight_*", "fc.*"]``), or
            a predicate that takes a parameter's name and the module that owns it. A mapping from patterns or
            predicates to numbers also says which dimension of a weight belongs to the inputs, for layers of your
            own (``{"mine.weight": 0}``); None leaves that to the layer's class.

    Returns:
        A description for each weight, by parameter name, in order of depth.

    Raises:
        ValueError: If nothing is chosen, a pattern matches nothing, a chosen weight is not (yet) a real
            floating-point parameter of its own, or two of them share memory, or a dimension given is not one of the
            weight, or not the one of torch's layer.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.GRU(3, 4), torch.nn.Linear(4, 2))
        >>> list(synapses(net))
        ['1.weight']
        >>> list(synapses(net, "0.weight_*"))
        ['0.weight_ih_l0', '0.weight_hh_l0']
    """
    return {holder.synapse.weight: holder.synapse for holder in holders(model, choice)}


def holders(model: nn.Module, choice: Choice = None) -> list[Holder]:
    """Describes a model's synapses and says where they are; see ``synapses``."""
    chosen = choose(model, choice)
    # A tied weight goes by the name that named_parameters gives it.
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = [one.weight for one in chosen]
    _require_apart({names[id(weight)]: weight for weight in weights})
    # Functional code may train a model none of whose parameters requires gradients: then all of them count as trained.
    training = any(parameter.requires_grad for parameter in model.parameters())
    # The output projection of attention is called as a function: its output is the attention's.
    output_modules = {id(m.out_proj): m for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    any_marked = any(is_marked(one.module) for one in chosen)
    described = []
    for index, (one, weight) in enumerate(zip(chosen, weights, strict=True)):
        module = one.module
        last = module is not model and index == len(chosen) - 1
        of_torch, inputs = is_torch_weight(module, one.attribute), input_dim(one)
        observable = of_torch and isinstance(module, (*LAYERS, *INPUT_FIRST))
        synapse = Synapse(
            weight=names[id(weight)],
            kind=type(module).__name__,
            pre=1 if inputs is None else inputs,
            post=1 if inputs == 0 else 0,
            groups=getattr(module, "groups", 1) if of_torch else 1,
            index=index,
            total=len(chosen),
            readout=is_marked(module) if any_marked else last,
            bias=names.get(id(getattr(module, "bias", None))) if observable else None,
            observable=observable,
            attribute=one.attribute,
            named=one.named,
            trained=one.named or weight.requires_grad or not training,
            layout_known=inputs is not None,
        )
        described.append(Holder(synapse, module, output_modules.get(id(module), module)))
    return described


def is_treated(synapse: Synapse, weight: Tensor) -> bool:
    """Returns True if the mechanisms treat a weight: it is trained, or chosen by its full name."""
    return synapse.named or weight.requires_grad


def require_layout(synapse: Synapse, what: str) -> None:
    """Raises ValueError if it is not known which dimension of a weight belongs to its inputs."""
    if not synapse.layout_known:
        raise ValueError(
            f"{what} should be told which dimension of {synapse.weight} belongs to the inputs; found a {synapse.kind}, "
            f"none of torch's layers with one input: say it, as by synapses={{'*': None, {synapse.weight!r}: 0}}"
        )


def is_marked(module: nn.Module) -> bool:
    """Returns True if the user marked a layer as read-out."""
    return getattr(module, READOUT_MARK, False) is True


def _require_apart(weights: Mapping[str, Any]) -> None:
    """Raises ValueError if two parameters share memory, as after ``second.weight.data = first.weight.data``."""
    parts = [part_of(weight, name, written=True) for name, weight in weights.items()]
    overlap = find_overlap(part for part in parts if part is not None)
    if overlap is not None:
        names = " and ".join(str(part.name) for part in overlap)
        raise ValueError(
            f"{names} should be one parameter, or have memory of their own; found two parameters on the same memory: "
            "tie layers by assigning the parameter, not its data"
        )


def infer_synapses(params: Tree) -> dict[str, Synapse]:
    """Describes a bare tree: leaves of two and more dimensions are synapses, in the layout of Linear and Conv.

    Args:
        params: Any tree of tensors; the order of its leaves is taken as depth, the last one as read-out.

    Returns:
        A description for each such leaf, by its dotted path.

    Example:
        >>> list(infer_synapses({"w": torch.ones(2, 3), "b": torch.ones(2)}))
        ['w']
    """
    with optree.dict_insertion_ordered(True, namespace="funcbio"):
        leaves = optree.tree_leaves(params, namespace="funcbio")
        paths = optree.tree_paths(params, namespace="funcbio")
    named = {".".join(map(str, path)): leaf for path, leaf in zip(paths, leaves, strict=True)}
    names = [name for name, leaf in named.items() if leaf.ndim >= 2]
    total = len(names)
    described = {}
    for index, name in enumerate(names):
        bias = name.removesuffix("weight") + "bias"
        readout = index == total - 1
        described[name] = Synapse(name, index=index, total=total, readout=readout, bias=bias if bias in named else None)
    return described


def unit_axis(values: object, dim: object, name: str = "values") -> int:
    """Returns the dimension of the units, counted from the start.

    Raises:
        ValueError: If ``values`` is no dense tensor, or has no such dimension.
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} should be a tensor; found {type(values).__name__}")
    if values.layout not in (torch.strided, torch.jagged):
        raise ValueError(f"{name} should be a dense tensor; found the layout {values.layout}")
    valid = isinstance(dim, int) and not isinstance(dim, bool) and -values.ndim <= dim < values.ndim
    if not isinstance(dim, int) or not valid or (values.is_nested and dim % values.ndim in (0, ragged(values))):
        shape = "nested in examples" if values.is_nested else f"of shape {tuple(values.shape)}"
        raise ValueError(f"dim should be a dimension of {name}, {shape}; found {brief(dim)}")
    return dim % values.ndim
