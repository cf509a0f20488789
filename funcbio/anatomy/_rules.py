"""Rules of a cut model, in the place of torch's functions: products, convolutions and norms."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._cut import RULES, Cut, Site
from funcbio.anatomy._synapses import Synapse

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
PRODUCTS = ("linear", "matmul", "mm", "__matmul__", "addmm")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
GROUPS_AT = 6
"""Position of the number of groups among the arguments of every convolution."""


def given(args: Any, kwargs: Any, at: int, name: str, default: Any = None) -> Any:
    """Returns an argument of a function, given by name or by position."""
    return kwargs.get(name, args[at] if len(args) > at else default)


def _meta(value: Any) -> Any:
    return torch.empty_like(value, dtype=torch.float64, device="meta") if isinstance(value, Tensor) else value


def _shape(func: Any, args: Any, kwargs: Any) -> torch.Size:
    """Returns the shape of the output of a function, without computing it."""
    return func(*map(_meta, args), **{name: _meta(value) for name, value in kwargs.items()}).shape


def product(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Cuts a matrix product with a parameter."""
    first = 1 if name == "addmm" else 0
    x = given(args, kwargs, first, "mat1" if first else "input")
    weight = given(args, kwargs, first + 1, "weight")
    weight = kwargs.get("mat2", kwargs.get("other", weight))
    if not isinstance(weight, Tensor) or not isinstance(x, Tensor) or cut.names.is_buffer(weight):
        return NotImplemented
    outputs_first = name == "linear"
    place = cut.names.matrix(weight, outputs_first=outputs_first)
    if place is None:
        return _unlisted(cut, name, (x, weight), {}, computed=outputs_first)
    units = weight.shape[0 if outputs_first else 1]
    bias = given(args, kwargs, 0, "input") if first else given(args, kwargs, 2, "bias")
    synapse = Synapse(place.name, "Linear", pre=place.pre, post=1 - place.pre, attribute=last_of(place.name))
    size, source = cut.names.tensors[place.name].shape[1 - place.pre], cut.source(place.name, 1 - place.pre)
    site = Site(place.name, synapse, place.start, units, size, cut.names.base(bias), source=source)
    return _added(cut, cut.use(x, site, torch.Size([*x.shape[:-1], units]), -1, x), bias)


def _added(cut: Cut, output: Tensor, bias: Any) -> Tensor:
    """Adds a bias that the model computes: units arrive by it, as by the first argument of ``addmm``."""
    return output if bias is None or cut.names.base(bias) is not None else output + bias


def _unlisted(cut: Cut, name: str, args: Any, kwargs: Any, *, computed: bool = False) -> Any:
    """Records that a product has a weight whose units are not listed; it is computed as it is."""
    given_all = [*args, *kwargs.values()]
    tensors = [*given_all, *(one for several in given_all if isinstance(several, list | tuple) for one in several)]
    if computed or any(cut.names.base(one) in cut.names.parameters and one.ndim > 1 for one in tensors):
        kind = "a convolution" if name in (*CONVOLUTIONS, *TRANSPOSED) else "a product"
        cut.note(f"{cut.where()}: {kind} with a weight that is no parameter of the model, or a part of one")
    return NotImplemented


def _convolution(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Cuts a convolution with a parameter."""
    x, weight = given(args, kwargs, 0, "input"), given(args, kwargs, 1, "weight")
    found = cut.names.of(weight)
    if found not in cut.names.parameters:
        return _unlisted(cut, name, (), {}, computed=not cut.names.is_buffer(weight))
    groups, turned = given(args, kwargs, GROUPS_AT, "groups", 1), name in TRANSPOSED
    pre, post = (0, 1) if turned else (1, 0)
    kind = f"Conv{'Transpose' if turned else ''}{weight.ndim - 2}d"
    synapse = Synapse(found, kind, pre=pre, post=post, groups=groups, attribute=last_of(found))
    dim = 1 - weight.ndim
    size, bias = synapse.post_units(weight.shape), given(args, kwargs, 2, "bias")
    site = Site(found, synapse, 0, size, size, cut.names.of(bias), channels=dim, source=cut.source(found, post))
    output = cut.use(x, site, _shape(getattr(torch, name), args, kwargs), dim, x)
    return _added(cut, output, None if bias is None or cut.names.base(bias) else along_second(bias, x))


def _norm(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Takes a norm for the identity, channel by channel, and records what belongs to its entries."""
    x = given(args, kwargs, 0, "input")
    at = {"batch_norm": (3, 4), "group_norm": (2, 3), "instance_norm": (3, 4)}.get(name, (2, 3))
    tensors = {"scale": given(args, kwargs, at[0], "weight"), "offset": given(args, kwargs, at[1], "bias")}
    if name in ("batch_norm", "instance_norm"):
        tensors |= {"mean": given(args, kwargs, 1, "running_mean"), "variance": given(args, kwargs, 2, "running_var")}
    elif name == "rms_norm":
        tensors.pop("offset")
    entries = {role: cut.names.of(tensor) for role, tensor in tensors.items()}
    shape = given(args, kwargs, 1, "normalized_shape") if name in ("layer_norm", "rms_norm") else None
    channels, width = (1 - x.ndim, 1) if shape is None else (-1, len(shape))
    record_norm(cut, {role: found for role, found in entries.items() if found}, x, channels, width)
    computed = {role: one for role, one in tensors.items() if one is not None and cut.names.base(one) is None}
    laid = {role: along_second(one, x) if shape is None else one for role, one in computed.items()}
    return x * laid.get("scale", 1.0) + laid.get("offset", 0.0)  # Units arrive by what the model computes.


def along_second(values: Tensor, x: Tensor) -> Tensor:
    """Lays values for each channel out along the second dimension of an input, the first if it has no batch."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def record_norm(cut: Cut, entries: Mapping[str, str], x: Tensor, channels: int, width: int = 1) -> None:
    """Records what arrives at a norm."""
    if entries:
        cut.record(Site("", None, entries=entries, channels=channels, width=width), x)


def last_of(name: str) -> str:
    """Returns the name of a tensor within its module."""
    return name.rpartition(".")[2]


def _kept(_: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Keeps all that dropout would drop, also of a model that forgot to switch it off."""
    del name
    return given(args, kwargs, 0, "input") * 1.0


def _attention(_: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Computes plain attention: the fast forms have no derivative forward."""
    del name
    query, key, value = args[:3] if len(args) > 2 else (kwargs["query"], kwargs["key"], kwargs["value"])
    mask = given(args, kwargs, 3, "attn_mask")
    if query.ndim > 2 and query.shape[-3] != key.shape[-3] and query.ndim == key.ndim:  # Queries in groups.
        times = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    elif kwargs.get("is_causal", False):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return torch.softmax(scores, -1) @ value


RULES |= {
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED), _convolution),
    **dict.fromkeys(DROPOUTS, _kept),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys(("einsum", "bilinear", "bmm", "baddbmm", "tensordot"), _unlisted),
    "scaled_dot_product_attention": _attention,
}
