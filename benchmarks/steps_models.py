"""What ``steps.py`` measures: networks with batches, the methods, and each contender ready to be called."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import bio_transformations
import torch
from torch import Tensor, nn

import funcbio

CHAIN = ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates")
ACTIVITY = "update_fuzzy_learning_rates"
METHODS = ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "rejuvenate_weights", "chain", ACTIVITY)
CONVERTERS: dict[str, Callable[..., Any]] = {
    "release": bio_transformations.BioConverter,
    "eager": funcbio.BioConverter,
    "compiled": partial(funcbio.BioConverter, compile=True),
}
RATES = "fuzzy_learning_rate_parameters"


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        narrow = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Sequential(narrow, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Passes a batch of images on."""
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


def resnet() -> nn.Module:
    """ResNet-18 for images of 32x32."""
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [BasicBlock(*sizes) for a, b, stride in widths for sizes in ((a, b, stride), (b, b, 1))]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class Transformer(nn.Module):
    """Twelve encoder layers between a linear input and a read-out of the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(64, 256)
        layer = nn.TransformerEncoderLayer(256, 4, dim_feedforward=1024, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.readout = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Maps a batch of sequences to scores of the classes."""
        return self.readout(self.encoder(self.inputs(x)).mean(dim=1))


def mlp(width: int) -> nn.Module:
    """Two hidden layers of the same width."""
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


class Task(NamedTuple):
    """A network's factory and the shape of its batches."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def on(self, device: str) -> tuple[nn.Module, Tensor, Tensor]:
        """The network, random inputs and classes; equal seeds make equal ones on every device."""
        model = self.make()
        x, y = torch.randn(self.shape), torch.randint(10, (self.shape[0],))
        return model.to(device), x.to(device), y.to(device)


MODELS = {
    **{f"mlp-{width}": Task(partial(mlp, width), (100, 784)) for width in (32, 256, 1000, 3000)},
    "resnet": Task(resnet, (8, 3, 32, 32)),
    "transformer": Task(Transformer, (8, 32, 64)),
    "layer": Task(partial(nn.Linear, 784, 1000), (100, 784)),
}
"""The layer is there for ``update_fuzzy_learning_rates`` alone: given a model's input, the release takes it for that
of every layer, and ends with an error where their sizes differ."""


def methods_of(model: str) -> tuple[str, ...]:
    """The methods measured on a model."""
    return (ACTIVITY,) if model == "layer" else METHODS[:-1]


class Case(NamedTuple):
    """What is measured: a call, and what has to be put in order before it, outside the time measured."""

    reset: Callable[[], None]
    call: Callable[[], Any]


class Trainee(NamedTuple):
    """A model with gradients, its batch, and what puts weights, gradients and rates back."""

    model: Any
    x: Tensor
    y: Tensor
    reset: Callable[[], None]


def trainee(name: str, contender: str | None = None, device: str = "cpu") -> Trainee:
    """Makes a model with the gradients of one batch, converted for a contender; equal seeds make equal weights."""
    torch.manual_seed(0)
    model, x, y = MODELS[name].on(device)
    if contender is not None:
        options = {"fuzzy_lr_distribution": "activity", "fuzzy_lr_dynamic": True} if name == "layer" else {}
        model = CONVERTERS[contender](**options).convert(model)
    nn.functional.cross_entropy(model(x), y).backward()
    return Trainee(model, x, y, saved(partial(state_of, model)))


def state_of(model: nn.Module) -> Iterator[Tensor]:
    """Weights, gradients and rates of a model, wherever they are now: the release replaces its tensors."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is not None:
            yield from (parameter.data, parameter.grad)
    yield from rates_of(model)


def rates_of(model: nn.Module) -> list[Tensor]:
    """The rate factors of a converted model."""
    return [getattr(module, RATES) for module in model.modules() if hasattr(module, RATES)]


def saved(state: Callable[[], Iterator[Tensor]]) -> Callable[[], None]:
    """Copies tensors; returns what puts the copies back."""
    copies = [tensor.detach().clone() for tensor in state()]

    def reset() -> None:
        with torch.no_grad():
            for tensor, copy in zip(state(), copies, strict=True):
                tensor.copy_(copy)

    return reset


def method_case(made: Trainee, contender: str, method: str) -> Case:
    """A method of a converted model; it is tried once, so that no call that changes nothing is measured."""
    model = made.model
    if method == ACTIVITY:
        case = activity_case(made, contender)
    else:
        case = Case(made.reset, chained(model) if method == "chain" else getattr(model, method))
    case.reset()
    before = [tensor.detach().clone() for tensor in state_of(model)]
    case.call()
    if all(map(torch.equal, before, state_of(model))):
        raise RuntimeError(f"{method} of {contender} changed nothing")
    return case


def chained(model: Any) -> Callable[[], Any]:
    """The usual mechanisms of a step: in one call where the model has it, one after another in the release."""
    methods = [getattr(model, name) for name in CHAIN]
    return getattr(model, "bio_step", None) or (lambda: [method() for method in methods])


def activity_case(made: Trainee, contender: str) -> Case:
    """The update from activity; counters are put back too, so that every call is a first one, which redraws all."""
    bio = made.model.bio_mod

    def reset_release() -> None:
        made.reset()
        bio.activity_initialized = False

    def reset_ours() -> None:
        made.reset()
        bio.updates.zero_()
        with torch.no_grad():
            made.model(made.x)

    if contender == "release":
        return Case(reset_release, lambda: bio.update_fuzzy_learning_rates(made.x))
    return Case(reset_ours, made.model.update_fuzzy_learning_rates)


def step_case(name: str, device: str) -> Case:
    """The plain training step of a model that is not converted."""
    model, x, y, reset = trainee(name, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return Case(reset, step)


def count_synapses(name: str) -> int:
    """How many rate factors a converted model has."""
    return sum(rate.numel() for rate in rates_of(funcbio.BioConverter().convert(MODELS[name].make())))


def floor_case(size: int, method: str, device: str) -> Case:
    """A pass over flat tensors that reads and writes as many bytes, in place, as the method must."""
    weight, grad, rate = torch.randn(3, size, device=device).unbind()
    scale = lambda: torch.mul(grad, rate, out=grad)
    passes: dict[str, Callable[[], Any]] = {
        "volume_dependent_lr": scale,  # Reads 2, writes 1.
        "fuzzy_learning_rates": scale,
        "crystallize": lambda: torch.addcmul(rate, weight, grad, out=rate),  # Reads 3, writes 1.
        "rejuvenate_weights": lambda: torch.mul(weight, 0.5, out=weight),  # Reads 1, writes 1.
        "chain": lambda: (torch.mul(grad, weight, out=grad), torch.mul(rate, 0.5, out=rate)),  # Reads 3, writes 2.
        ACTIVITY: lambda: rate.fill_(0.5),  # Writes 1.
    }
    return Case(saved(lambda: iter((weight, grad, rate))), passes[method])
