"""Modules that are cut as a whole: recurrent layers, attention, and norms that are written by hand."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from funcbio.anatomy._choice import NORMS
from funcbio.anatomy._cut import RULES, Cut, Site
from funcbio.anatomy._embeddings import EMBEDDINGS
from funcbio.anatomy._rules import given, product, record_norm
from funcbio.anatomy._synapses import Synapse


def cut_modules(cut: Cut) -> None:
    """Gives modules that torch computes as a whole a forward pass in which their weights are cut."""
    for name, module in cut.model.named_modules():
        if isinstance(module, nn.RNNBase) and not getattr(module, "proj_size", 0):
            module.forward = partial(_recurrent, cut, module, name)
        elif isinstance(module, nn.RNNCellBase):
            module.forward = partial(_cell, cut, module, name)
        elif isinstance(module, nn.RNNBase):
            cut.note(f"{name or 'the model'}: a recurrent layer with projections")
        elif _is_norm(module):
            module.forward = partial(_named_norm, cut, module, name)


def _is_norm(module: nn.Module) -> bool:
    """Returns True for a norm that is none of torch's: by its name, with nothing but vectors of its own."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    named = "norm" in type(module).__name__.lower() and not isinstance(module, NORMS)
    return named and bool(own) and not module._modules and all(one.ndim == 1 for one in own)


def _named_norm(cut: Cut, module: nn.Module, name: str, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Takes a norm for the identity; its channels are the last dimension, or the second, by their number."""
    roles = {"weight": "scale", "scale": "scale", "gamma": "scale", "bias": "offset", "beta": "offset"}
    own = {one: parameter for one, parameter in module._parameters.items() if parameter is not None}
    entries = {roles[one]: _path(name, one) for one in own if one in roles}
    size = next(iter(own.values())).numel()
    channels = -1 if x.shape[-1] == size else 1 - x.ndim
    if x.shape[channels] == size:
        record_norm(cut, entries, x, channels)
    return x * 1.0


def _path(name: str, attribute: str) -> str:
    return f"{name}.{attribute}".lstrip(".")


def _states(cut: Cut, module: Any, name: str, suffix: str, x: Tensor, before: Any) -> Tensor:
    """Records a layer's input and its states, and returns these: the tag of its units, and what came before."""
    source = _path(name, f"weight_hh{suffix}")
    sites = [_site(cut, module, name, f"{kind}{suffix}", source) for kind in ("ih", "hh")]
    cut.record(sites[0], x)
    states = cut.tag(sites[1], torch.Size([*x.shape[:-1], module.hidden_size]), -1, x)
    states = states if before is None else states + before
    cut.record(sites[1], states)
    return states * 1.0


def _site(cut: Cut, module: Any, name: str, suffix: str, source: str) -> Site:
    """Describes the use of one of a layer's weights."""
    weight, bias = _path(name, f"weight_{suffix}"), _path(name, f"bias_{suffix}")
    synapse = Synapse(weight, type(module).__name__, attribute=f"weight_{suffix}", observable=False)
    rows = cut.names.tensors[weight].shape[0]
    return Site(
        weight, synapse, 0, rows, module.hidden_size, bias if bias in cut.names.tensors else None, source=source
    )


def _recurrent(cut: Cut, module: Any, name: str, given_input: Any, hx: Any = None) -> Any:
    """Runs a recurrent layer: every layer of it is cut, in each direction."""
    packed = isinstance(given_input, PackedSequence)
    x = given_input.data if packed else given_input
    batched = not packed and x.ndim == 3
    time = 1 if batched and module.batch_first else 0
    directions, last = ("", "_reverse") if module.bidirectional else ("",), []
    for layer in range(module.num_layers):
        tags = []
        for way in directions:
            before = _before(hx, len(last) + len(tags), time, batched=batched, packed=packed)
            tags.append(_states(cut, module, name, f"_l{layer}{way}", x, before))
        x = torch.cat(tags, -1)
        last += tags
    output = PackedSequence(x, *given_input[1:]) if packed else x
    many = x.shape[0] if not packed else int(given_input.batch_sizes[0])
    steps = [tag[:many] if packed else tag.select(time, -1) for tag in last]
    hidden = torch.stack(steps) if packed or batched else torch.stack([tag[-1] for tag in last])
    return output, (hidden, hidden * 0.5) if isinstance(module, nn.LSTM) else hidden


def _before(hx: Any, at: int, time: int, *, batched: bool, packed: bool) -> Any:
    """Returns the first state of a layer, laid out along its states, which it goes on into; None if there is none."""
    if hx is None:
        return None
    first: Any = sum(one[at] for one in hx) if isinstance(hx, tuple) else hx[at]
    if packed:
        return first.sum(0)
    return first.unsqueeze(time) if batched else first


def _cell(cut: Cut, module: Any, name: str, x: Tensor, hx: Any = None) -> Any:
    """Runs one step of a recurrent cell."""
    before: Any = None if hx is None else sum(hx) if isinstance(hx, tuple) else hx
    sites = [_site(cut, module, name, kind, _path(name, "weight_hh")) for kind in ("ih", "hh")]
    cut.record(sites[0], x)
    if before is not None:
        cut.record(sites[1], before)
    tag = cut.tag(sites[1], torch.Size([*x.shape[:-1], module.hidden_size]), -1, x)
    tag = tag if before is None else tag + before
    return (tag, tag * 0.5) if isinstance(module, nn.LSTMCell) else tag


def _many_heads(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Runs attention with several heads, its four projections cut."""
    del name
    names = ("query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias")
    names = (*names, "bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias")
    call = {one: given(args, kwargs, at, one) for at, one in enumerate(names)}
    heads, weight, bias = call["num_heads"], call["in_proj_weight"], call["in_proj_bias"]
    size = call["query"].shape[-1]
    weights = [kwargs.get(f"{one}_proj_weight") for one in "qkv"] if weight is None else weight.split(size)
    biases = [None] * 3 if bias is None else bias.split(size)
    projected = []
    for x, w, b in zip((call["query"], call["key"], call["value"]), weights, biases, strict=True):
        y = product(cut, "linear", (x, w, b), {})
        y = y.unsqueeze(1) if y.ndim == 2 else y
        more = call["bias_k"] if len(projected) == 1 else call["bias_v"] if projected else None
        y = y if more is None else torch.cat([y, more.expand(1, y.shape[1], -1)])
        projected.append(y.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3))
    query, key, value = projected
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    weighting = torch.softmax(_masked(scores, kwargs), -1)
    heads_out = (weighting @ value).permute(2, 0, 1, 3).flatten(-2)
    heads_out = heads_out.squeeze(1) if call["query"].ndim == 2 else heads_out
    output = product(cut, "linear", (heads_out, call["out_proj_weight"], call["out_proj_bias"]), {})
    wanted = kwargs.get("need_weights", True)
    mean = weighting.mean(1) if kwargs.get("average_attn_weights", True) else weighting
    mean = mean.squeeze(0) if call["query"].ndim == 2 else mean
    return output, mean if wanted else None


def _masked(scores: Tensor, kwargs: Any) -> Tensor:
    """Adds masks of numbers, which units may have made; those that only hide hide no unit everywhere."""
    batch, heads, queries, keys = scores.shape
    mask, padding = kwargs.get("attn_mask"), kwargs.get("key_padding_mask")
    laid = [None if mask is None else mask.reshape(*((batch, heads) if mask.ndim == 3 else (1, 1)), *mask.shape[-2:])]
    laid.append(None if padding is None else padding.reshape(-1, 1, 1, padding.shape[-1]))
    for one in laid:
        if one is not None and one.is_floating_point():
            seen = one.masked_fill(one.isinf(), 0.0).expand(-1, -1, queries, -1)
            scores = scores + torch.nn.functional.pad(seen, (0, keys - seen.shape[-1]))
    return scores


RULES |= {"multi_head_attention_forward": _many_heads, **EMBEDDINGS}
