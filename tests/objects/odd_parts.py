"""Parts of models that are no plain layers, each from 8 numbers to 8, and a model that holds one between its layers."""

import copy
import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune


class Spectral(nn.Module):
    """A layer of a Fourier neural operator: complex weights between two transforms."""

    def __init__(self):
        super().__init__()
        self.modes = nn.Parameter(torch.randn(5, 5, dtype=torch.complex64) / 5)

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x).to(self.modes.dtype) @ self.modes, n=8).to(x.dtype)


class Scaled(nn.Module):
    """Holds a matrix of any type that is not trained."""

    def __init__(self, dtype):
        super().__init__()
        self.table = nn.Parameter(torch.ones(8, 8).to(dtype), requires_grad=False)

    def forward(self, x):
        return x * self.table[0].to(x.dtype)


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.eye(8).to_sparse())

    def forward(self, x):
        return torch.sparse.mm(self.mix, x.T).T


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixes = nn.ParameterList([nn.Parameter(torch.randn(8, 8) / 4) for _ in range(2)])
        self.scales = nn.ParameterDict({"one": nn.Parameter(torch.ones(8))})

    def forward(self, x):
        for mix in self.mixes:
            x = x @ mix
        return x * self.scales["one"]


class Lora(nn.Module):
    """An adapter, which takes the place of a layer and keeps it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base_layer.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Gated(nn.Linear):
    """A layer with a further matrix of its own, as adapters have that extend a layer's class."""

    def __init__(self):
        super().__init__(8, 8)
        self.gate = nn.Parameter(torch.randn(8, 2))

    def forward(self, x):
        return super().forward(x) * (self.gate @ self.gate.T).diagonal()


def block():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())


def quiet(make):
    """Makes something by a way that torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def dynamic():
    return quiet(lambda: torch.ao.quantization.quantize_dynamic(block().eval(), {nn.Linear}))


def aware():
    def make():
        part = block().train()
        part.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
        return torch.ao.quantization.prepare_qat(part)

    return quiet(make)


def compiled_in_place():
    part = block()
    part.compile(backend="eager")
    return part


SCRIPTED = {
    "scripted": lambda: quiet(lambda: torch.jit.script(block())),
    "traced": lambda: quiet(lambda: torch.jit.trace(block(), torch.randn(2, 8))),
    "a scripted function": lambda: quiet(lambda: torch.jit.script(nn.ReLU())),
    "scripted and frozen": lambda: quiet(lambda: torch.jit.freeze(torch.jit.script(block().eval()))),
}
# Of other types than weights have.
TYPES = {"complex": Spectral, "sparse": Sparse} | {
    str(dtype): lambda dtype=dtype: Scaled(dtype)
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn)
}
PROGRAMS = {
    "fx": lambda: torch.fx.symbolic_trace(block()),
    "exported": lambda: torch.export.export(block(), (torch.randn(6, 8),)).module(),
    "compiled": lambda: torch.compile(block(), backend="eager"),
    "compiled in place": compiled_in_place,
}
OTHERS = {
    "lists of parameters": Lists,
    "dynamically quantized": dynamic,
    "aware of quantization": aware,
    "data parallel": lambda: nn.DataParallel(block()),
    "a module list": lambda: nn.Sequential(*nn.ModuleList([nn.Linear(8, 8), nn.ReLU()])),
    "an adapter": lambda: Lora(nn.Linear(8, 8)),
    "a further matrix": Gated,
    "a norm to be initialized": nn.LazyBatchNorm1d,
}
PARTS = {**SCRIPTED, **TYPES, **PROGRAMS, **OTHERS}
# What the conversion refuses, by the name of the layer.
REFUSED = {
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
    "weight norm of earlier torch": lambda: quiet(lambda: nn.utils.weight_norm(nn.Linear(8, 8))),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(8, 8)),
    "spectral norm of earlier torch": lambda: quiet(lambda: nn.utils.spectral_norm(nn.Linear(8, 8))),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.3),
    "lazy": lambda: nn.LazyLinear(8),
    "a complex layer": lambda: nn.Linear(8, 8, dtype=torch.complex64),
    "a complex convolution": lambda: nn.Conv1d(1, 1, 3, dtype=torch.complex64),
}


class Net(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.first, self.part = nn.Linear(5, 8), part
        self.then, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.relu(self.then(self.part(torch.relu(self.first(x))))))


def net(make):
    torch.manual_seed(0)
    return Net(make())


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 5, generator=generator), torch.randn(6, 3, generator=generator)


def gradients(model, seed=0):
    x, y = batch(seed)
    (model(x) - y).square().mean().backward()


def part_of(model):
    """Copies of the parameters of the part; of converted layers in it, only of those that are no synapses."""
    from funcbio import BioModule

    treated = {id(bio.weight) for bio in model.modules() if isinstance(bio, BioModule)}
    named = model.part.named_parameters()
    return {
        name: copy.deepcopy(p.detach()) for name, p in named if id(p) not in treated and p.layout != torch.sparse_coo
    }
