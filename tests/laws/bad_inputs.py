"""Strange input on purpose: tensors, trees, configurations and models, and how to tell whether something changed."""

import math
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optree import tree_leaves
from torch import nn

PHASES = [Phase.generate]  # A failure is shown as it was found: shrinking takes minutes.
CASES = Counter()
"""How many cases each test has tried."""

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SPECIAL = ["usual", "zero", "one", "tiny", "huge", "mixed"]
BROKEN = ["nan", "inf", "some nan", "some inf"]


def attempt(examples, check, *strategies):
    """Runs ``check`` on so many drawn cases, counts them, and fails on the smallest that fails."""

    def body(case):
        CASES[check.__qualname__] += 1
        with warnings.catch_warnings():
            # Torch warns of layers without elements when it initializes them.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            check(*case)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=examples, suppress_health_check=checks, deadline=None, derandomize=True, phases=PHASES
    )
    limits(given(st.tuples(*strategies))(body))()


# Tensors


def fill(shape, kind, dtype, seed):
    """A tensor of one kind of numbers, finite unless ``kind`` is of ``BROKEN``; the same ones on every device."""
    with torch.device("cpu"):
        made = _filled(shape, kind, dtype, seed)
    return made.to(torch.get_default_device())


def _filled(shape, kind, dtype, seed):
    generator, limits = torch.Generator().manual_seed(seed), torch.finfo(dtype)
    usual = torch.randn(shape, generator=generator, dtype=torch.float64)
    sign = torch.where(usual < 0, -1.0, 1.0).double()
    extremes = {
        "usual": usual,
        "zero": 0 * usual,
        "one": sign,
        "tiny": sign * limits.smallest_normal * 2.0**-3,
        "huge": sign * limits.max * torch.where(usual.abs() < 0.5, 0.6, 1.0).double(),
        "nan": torch.full_like(usual, math.nan),
        "inf": sign * math.inf,
    }
    if kind in extremes:
        return extremes[kind].to(dtype)
    pool = ["usual", kind.removeprefix("some ")] if kind.startswith("some") else ["usual", "zero", "tiny", "huge"]
    which = torch.randint(len(pool), shape, generator=generator)
    return torch.stack([extremes[name] for name in pool]).gather(0, which.unsqueeze(0))[0].to(dtype)


LAYOUTS = ["contiguous", "turned", "channels last", "every other", "shifted", "expanded"]


def laid_out(tensor, layout):
    """The same numbers in another layout; for "expanded", the first ones, again and again."""
    if tensor.ndim == 0:
        return tensor
    if layout == "turned":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "channels last" and tensor.ndim == 4:
        return tensor.to(memory_format=torch.channels_last)
    if layout == "every other":
        return torch.stack((tensor, tensor), -1).flatten(-2)[..., ::2]
    if layout == "shifted":
        return torch.cat((tensor.flatten()[:1], tensor.flatten()))[min(1, tensor.numel()) :].view(tensor.shape)
    if layout == "expanded" and tensor.shape[0]:
        return tensor[:1].expand(tensor.shape)
    return tensor


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5]), min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**31)
kinds = st.sampled_from([*SPECIAL, *BROKEN])
layouts = st.sampled_from(LAYOUTS)


def bits(tree):
    """Type, shape and bytes of every leaf: NaN equals NaN, -0 differs from 0."""
    return [_bits(leaf) for leaf in tree_leaves(tree, none_is_leaf=True)]


def results(tree):
    """As ``bits``, but all NaN are alike, as processors have several."""
    floats = lambda leaf: isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    return bits([torch.where(leaf.isnan(), math.nan, leaf) if floats(leaf) else leaf for leaf in tree_leaves(tree)])


def _bits(leaf):
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.is_meta:
        return "meta", tuple(leaf.shape)
    plain = leaf.detach().flatten().clone(memory_format=torch.contiguous_format)
    return str(leaf.dtype), tuple(leaf.shape), plain.view(torch.uint8).cpu().numpy().tobytes()


# What nothing should be

NO_NUMBERS = ["x", None, True, math.nan, math.inf, -math.inf, 1e300, 10**400, 1j, [1.0], {}, np.array([1.0]), print]
NO_NUMBERS += [torch.ones(2), torch.ones((), dtype=torch.complex64)]
NO_TENSORS = [None, 1.0, "x", [1.0], np.ones((2, 2)), nn.Linear(1, 1)]
NO_KEYS = [None, 0, "x", np.zeros(2, dtype=np.int32), torch.zeros(2), torch.zeros(2, dtype=torch.int64)]
NO_KEYS += [torch.zeros(3, dtype=torch.int32), torch.zeros(1, 2, dtype=torch.int32), torch.zeros((), dtype=torch.int32)]
NO_REALS = [torch.int64, torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn]

# Models

LAYERS = {
    "Linear": lambda i, o, k: nn.Linear(i, o),
    "without bias": lambda i, o, k: nn.Linear(i, o, bias=False),
    "Conv1d": lambda i, o, k: nn.Conv1d(i, o, k),
    "Conv2d": lambda i, o, k: nn.Conv2d(i, o, k),
    "Conv3d": lambda i, o, k: nn.Conv3d(i, o, k),
    "ConvTranspose1d": lambda i, o, k: nn.ConvTranspose1d(i, o, k),
    "ConvTranspose2d": lambda i, o, k: nn.ConvTranspose2d(i, o, k),
    "ConvTranspose3d": lambda i, o, k: nn.ConvTranspose3d(i, o, k),
    "grouped": lambda i, o, k: nn.Conv2d(2 * i, 2 * o, k, groups=2),
    "depthwise": lambda i, o, k: nn.Conv1d(max(i, 1), 2 * max(i, 1), k, groups=max(i, 1)),
    "grouped transposed": lambda i, o, k: nn.ConvTranspose2d(2 * i, 2 * o, k, groups=2),
    "Embedding": lambda i, o, k: nn.Embedding(max(i, 1), max(o, 1), padding_idx=0),
    "GRU": lambda i, o, k: nn.GRU(max(i, 1), max(o, 1)),
    "LSTM": lambda i, o, k: nn.LSTM(max(i, 1), max(o, 1), num_layers=2),
    "attention": lambda i, o, k: nn.MultiheadAttention(2 * max(i, 1), 2),
    "norm": lambda i, o, k: nn.BatchNorm1d(max(i, 1)),
    "in a container": lambda i, o, k: nn.ModuleDict({"one": nn.Sequential(nn.Linear(i, o), nn.ReLU())}),
}


@dataclass(frozen=True)
class LayerSpec:
    kind: str
    inputs: int
    outputs: int
    kernel: int
    weights: str
    grads: str
    layout: str
    frozen: bool
    seed: int


sizes = st.sampled_from([0, 1, 2, 4])
layer_specs = st.builds(
    LayerSpec,
    st.sampled_from(sorted(LAYERS)),
    sizes,
    sizes,
    st.sampled_from([1, 3]),
    kinds,
    st.sampled_from(["none", *SPECIAL, *SPECIAL, *BROKEN]),
    st.sampled_from(LAYOUTS[:-1]),
    st.sampled_from([False, False, True]),
    seeds,
)


def made(specs, dtype):
    """A model of these layers, and a gradient for each parameter that should have one."""
    layers = []
    for spec in specs:
        try:
            layer = LAYERS[spec.kind](spec.inputs, spec.outputs, spec.kernel)
        except (ValueError, RuntimeError):  # Torch makes no layer of this kind without units.
            layer = nn.Linear(spec.inputs, spec.outputs)
        layers.append(layer.to(dtype))
    for spec, layer in zip(specs, layers, strict=True):
        for number, parameter in enumerate(layer.parameters()):
            parameter.data = laid_out(fill(parameter.shape, spec.weights, dtype, spec.seed + number), spec.layout)
            parameter.requires_grad_(not spec.frozen)
            if spec.grads != "none":
                grad = fill(parameter.shape, spec.grads, dtype, spec.seed - number - 1 & 0xFFFF)
                parameter.grad = laid_out(grad, spec.layout)
    return nn.Sequential(*layers)


def everything(model):
    """All that a method could change: state, gradients, hooks, children, attributes, and torch's generator."""
    modules = {
        name: (sorted(vars(module), key=str), list(module._modules), len(module._forward_hooks))
        for name, module in model.named_modules()
    }
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    return bits(model.state_dict()), bits(grads), list(model.state_dict()), modules, bits(torch.get_rng_state())
