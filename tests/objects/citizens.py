"""Real kinds of models, converted with every mechanism on, and one training step that uses them all.

Importable by name, because copies, files and other processes must find the classes again.
"""

import copy
import io
import pickle
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, IdleWarning, load_checkpoint, save_checkpoint


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x))


class Block(nn.Module):
    """A residual block with batch norm, as in the CIFAR networks."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.short = nn.Sequential()
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2), Block(8, 8, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8, padding_idx=0)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        return self.head(self.encoder(self.embed(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.mix(self.lstm(self.gru(x)[0])[0][:, -1])))


def numbers(*shape):
    return lambda generator: torch.randn(shape, generator=generator)


def tokens(*shape):
    return lambda generator: torch.randint(0, 20, shape, generator=generator)


# Class, and what draws a batch of its input.
CITIZENS = {
    "mlp": (Mlp, numbers(6, 12)),
    "resnet": (ResNet, numbers(6, 3, 8, 8)),
    "transformer": (Transformer, tokens(6, 5)),
    "recurrent": (Recurrent, numbers(6, 5, 6)),
}
EVERYTHING = {
    "apply_dales_principle": True,
    "fuzzy_lr_distribution": "activity",
    "fuzzy_lr_dynamic": True,
    "weight_splitting_Gamma": 2,
    "fuzzy_lr_update_freq": 2,
}


COUNTED = {
    "apply_dales_principle": True,
    "record_activity": True,
    "weight_splitting_Gamma": 2,
    "fuzzy_lr_distribution": "activity",
    "fuzzy_lr_dynamic": True,
}
"""All that acts on signs and on the outputs of layers."""


def citizen(name, seed=0, synapses=None, **config):
    torch.manual_seed(seed)
    return BioConverter(synapses=synapses, **{**EVERYTHING, **config})(CITIZENS[name][0]())


def batch(name, step=0):
    generator = torch.Generator().manual_seed(step)
    return CITIZENS[name][1](generator), torch.randint(0, 4, (6,), generator=generator)


def gradients(model, name, step=0):
    x, y = batch(name, step)
    F.cross_entropy(model(x), y).backward()


def mechanisms(model, step=0):
    """Every documented method once."""
    model.volume_dependent_lr()
    model.fuzzy_learning_rates()
    model.crystallize()
    model.scale_grad()
    if step % 3 == 0:
        model.rejuvenate_weights()
    model.update_fuzzy_learning_rates()
    model.enforce_dales_principle()


def train(model, optimizer, name, steps):
    for step in steps:
        optimizer.zero_grad()
        gradients(model, name, step)
        mechanisms(model, step)
        with warnings.catch_warnings():  # That Adam cancels factors is said, and tested elsewhere.
            warnings.filterwarnings("ignore", "[a-z_, ]+ should act on the update of Adam", IdleWarning)
            optimizer.step()


def snapshot(model):
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


DUPLICATE = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}


def bio_mods(model):
    return [m for m in model.modules() if isinstance(m, BioModule)]


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}


def forget(params, grads, state, /, *, key=None, share=0.5):
    """A feature of a user's own: some weights are lost."""
    unit = funcbio.uniform(key, next(iter(params.values())).shape, stream="forget")
    return {n: torch.where(unit < share, 0.0, w) for n, w in params.items()}, grads, state


@dataclass(frozen=True)
class ForgetfulConfig(BioConfig):
    forgotten: float = 0.25


def forgetful():
    return BioConverter(ForgetfulConfig()).expose(forget, needs_grad=False, share="forgotten")(Mlp())


halved = BioConverter(dampening_factor=0.5)
BioMlp = halved(Mlp)


@halved
class Decorated(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.first = nn.Linear(4, width)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Child(BioMlp):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(4, 4)

    def forward(self, x):
        return self.extra(super().forward(x))


class DecoratedChild(Decorated):
    pass


def resume(path, name, kind):
    """Goes on from a checkpoint in a process of its own, and writes where it got."""
    model = citizen(name, seed=99)
    optimizer = OPTIMIZERS[kind](model.parameters())
    parts = load_checkpoint(path, model=model, optimizer=optimizer)
    torch.set_rng_state(parts["rng"])
    train(model, optimizer, name, range(parts["step"], 40))
    save_checkpoint(path, model=model, optimizer=optimizer)


def used(content):
    """Loads and uses an instance, in a spawned process: is its class known here, how many layers, what state."""
    instance = pickle.loads(content)
    x = torch.ones(1, 4 if isinstance(instance, Decorated) else 12)
    instance(x).sum().backward()
    instance.crystallize()
    cls = type(instance)
    named = {c for c in vars(sys.modules[__name__]).values() if isinstance(c, type)}
    return cls in named, len(bio_mods(instance)), snapshot(instance)


if __name__ == "__main__":
    torch.set_num_threads(1)
    import citizens  # Under its own name, so that pickles agree on it.

    citizens.resume(*sys.argv[1:])
