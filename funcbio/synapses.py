"""Which parameters are synapses, and which of their axes are pre- and post-synaptic."""

from collections.abc import Iterator
from dataclasses import dataclass

import optree
from torch import Size, Tensor, nn

from funcbio.base import Tree

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
READOUT_MARK = "last_module_token"
"""Attribute that marks a layer as read-out; set by ``BioConverter.set_last_module_token_for_module``."""


@dataclass(frozen=True)
class Synapse:
    """One weight tensor that holds synapses.

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

    @property
    def depth(self) -> float:
        """Relative depth: ``index / total``."""
        return self.index / self.total

    def pre_units(self, shape: Size) -> int:
        """Number of units a weight of this shape comes from."""
        return shape[self.pre] * (self.groups if self.pre == 1 else 1)

    def post_units(self, shape: Size) -> int:
        """Number of units a weight of this shape goes to."""
        return shape[self.post] * (self.groups if self.post == 1 else 1)

    def along_pre(self, values: Tensor, shape: Size) -> Tensor:
        """Lays one value for each pre-synaptic unit out so that it broadcasts with the weight."""
        return self._along(values, self.pre, shape)

    def along_post(self, values: Tensor, shape: Size) -> Tensor:
        """Lays one value for each post-synaptic unit out so that it broadcasts with the weight."""
        return self._along(values, self.post, shape)

    def _along(self, values: Tensor, axis: int, shape: Size) -> Tensor:
        ones = [1] * (len(shape) - 2)
        if axis == 0:
            return values.reshape(-1, 1, *ones)
        if self.groups == 1:
            return values.reshape(1, -1, *ones)
        # In a grouped convolution, axis 1 counts within the group that the row of axis 0 belongs to.
        rows = values.reshape(self.groups, -1).repeat_interleave(shape[0] // self.groups, 0)
        return rows.reshape(shape[0], shape[1], *ones)


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields name and module of every layer that holds synapses, each once, in order of registration."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            yield name, module


def synapses(model: nn.Module) -> dict[str, Synapse]:
    """Describes a model's synapses once, statically.

    Synapses are the weights of Linear, Conv1d/2d/3d and ConvTranspose1d/2d/3d layers, at any depth of nesting.
    The read-out is the last of them, unless the user marked a layer; a layer that is itself the model is none.

    Args:
        model: Any module; it is only looked at.

    Returns:
        A description for each weight, by parameter name, in order of depth.

    Raises:
        ValueError: If the model holds no such layer, or one whose weight is not (yet) a parameter of its own.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> [(name, synapse.readout) for name, synapse in synapses(net).items()]
        [('0.weight', False), ('2.weight', True)]
    """
    found = list(layers(model))
    if not found:
        looked_for = ", ".join(kind.__name__ for kind in LAYERS)
        raise ValueError(
            f"model should contain a layer with synapses ({looked_for}); found none in {type(model).__name__}"
        )
    # A tied weight goes by the name that named_parameters gives it.
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    marked = any(hasattr(module, READOUT_MARK) for _, module in found)
    described = {}
    for index, (name, module) in enumerate(found):
        _require_weight(name, module)
        last = module is not model and index == len(found) - 1
        weight = names[id(module.weight)]
        described[weight] = Synapse(
            weight=weight,
            kind=type(module).__name__,
            pre=0 if isinstance(module, TRANSPOSED) else 1,
            post=1 if isinstance(module, TRANSPOSED) else 0,
            groups=getattr(module, "groups", 1),
            index=index,
            total=len(found),
            readout=hasattr(module, READOUT_MARK) if marked else last,
            bias=names.get(id(module.bias)),
        )
    return described


def _require_weight(name: str, module: nn.Module) -> None:
    weight = module._parameters.get("weight")
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"model should be initialized, run it once; found the uninitialized layer {name!r}")
    if weight is None:
        raise ValueError(f"the weight of layer {name!r} should be a parameter; found one that is computed from others")


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
