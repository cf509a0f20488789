"""Tables of units by hand, for models whose layers feed one another in a line."""

import torch

from funcbio import Units, synapses
from funcbio.anatomy._units import NONE, Edge, Part, Population


def in_line(model, norms=(), choice=None):
    """The table of layers in a row: the columns of each are those of the units before it, in runs of equal length.

    ``norms`` are pairs of a layer's weight and the norm behind it.
    """
    described, named = synapses(model, choice), {**dict(model.named_parameters()), **dict(model.named_buffers())}
    layers, populations = list(described.values()), []
    for index, layer in enumerate(layers):
        size = layer.post_units(named[layer.weight].shape)
        each = torch.arange(size)
        parts = [Part(layer.weight, "incoming", each, layer)]
        parts += [Part(layer.bias, "bias", each)] if layer.bias else []
        for weight, norm in norms:
            roles = {"weight": "scale", "bias": "offset", "running_mean": "mean", "running_var": "variance"}
            found = {f"{norm}.{name}": role for name, role in roles.items() if f"{norm}.{name}" in named}
            parts += [Part(name, role, each) for name, role in found.items() if weight == layer.weight]
        edges = []
        for following in layers[index + 1 : index + 2]:
            columns = following.pre_units(named[following.weight].shape)
            owner = each.repeat_interleave(columns // size) if columns % size == 0 else torch.full((columns,), NONE)
            edges.append(Edge(following.weight, owner, owner >= 0, following, following.bias))
        replaceable = torch.full((size,), bool(edges))
        populations.append(Population(layer.weight, size, tuple(parts), tuple(edges), replaceable))
    return Units(tuple(populations))
