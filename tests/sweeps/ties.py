"""Models that hold one tensor in several places, in every way that people write it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

TOKENS = 12


def gpt2(dropout=0.0):
    """Of transformers: its read-out is its token embedding."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": TOKENS,
        "n_positions": 8,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    chances = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **chances, use_cache=False))


class Language(nn.Module):
    """Token embedding and read-out are one weight."""

    def __init__(self, middle=lambda: nn.Linear(6, 6)):
        super().__init__()
        self.emb, self.mid, self.head = nn.Embedding(TOKENS, 6), middle(), nn.Linear(6, TOKENS, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, tokens):
        x = self.mid(self.emb(tokens))
        return self.head(torch.tanh(x[0] if isinstance(x, tuple) else x))


class ThreeWays(Language):
    """A third use of the embedding, by a layer in a container in a container."""

    def __init__(self):
        super().__init__()
        self.more = nn.ModuleDict({"deep": nn.ModuleList([nn.Linear(6, TOKENS, bias=False)])})
        self.more["deep"][0].weight = self.emb.weight

    def forward(self, tokens):
        return super().forward(tokens) + self.more["deep"][0](self.emb(tokens))


class Kernels(nn.Module):
    """Convolutions that share a kernel, norms that share a running mean, and a bias that is also a buffer."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv1d(6, 6, 3, padding=1), nn.Conv1d(6, 6, 3, padding=1, bias=False)
        self.two.weight = self.one.weight
        self.norm, self.again = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.again.running_mean = self.norm.running_mean
        self.head = nn.Linear(6, TOKENS)
        self.register_buffer("shift", self.head.bias)

    def forward(self, tokens):
        x = F.one_hot(tokens, TOKENS).float()[..., :6].transpose(1, 2)
        x = self.again(self.two(torch.tanh(self.norm(self.one(x)))))
        return self.head(x.transpose(1, 2)) + self.shift


class Recurrent(nn.Module):
    """Two recurrent layers with common weights."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(TOKENS, 6), nn.Linear(6, TOKENS)
        self.one, self.two = nn.GRU(6, 6, batch_first=True), nn.GRU(6, 6, batch_first=True)
        self.two.weight_hh_l0, self.two.bias_ih_l0 = self.one.weight_hh_l0, self.one.bias_ih_l0

    def forward(self, tokens):
        return self.head(self.two(self.one(self.emb(tokens))[0])[0])


class Shared(nn.Module):
    """A whole layer under two names, with a norm in it."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(TOKENS, 6)
        self.body, self.head = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), nn.Linear(6, TOKENS)
        self.twin = self.body

    def forward(self, tokens):
        return self.head(self.twin(torch.tanh(self.body(self.emb(tokens)))))


class Transposed(Language):
    """The weight is read by hand, as in an autoencoder; a function of the model's own reads it too."""

    def __init__(self):
        super().__init__()
        self.read = lambda x: x @ self.emb.weight.t()

    def forward(self, tokens):
        return self.head(self.emb(tokens)) + self.read(torch.relu(self.mid(self.emb(tokens))))


class Listed(Language):
    """Further references to the weight: an attribute, a list, a dictionary, a list within an object, a hook."""

    def __init__(self):
        super().__init__()
        weight = self.emb.weight
        vars(self)["plain"] = weight
        self.listed, self.named, self.inner = [weight], {"w": [weight]}, Holder(weight)
        self.mid.register_forward_hook(lambda layer, _, output: output + 0.1 * layer.weight.sum(0))

    def forward(self, tokens):
        x = super().forward(tokens)
        return x + (self.plain[0] * self.listed[0][1] * self.named["w"][0][2] * self.inner.held[0][3]).sum()


class Holder:
    def __init__(self, *held):
        self.held = list(held)


class Normalised(nn.Module):
    """Weights computed from others, one of which is tied."""

    def __init__(self, normalise=parametrizations.weight_norm):
        super().__init__()
        self.emb = nn.Embedding(TOKENS, 6)
        self.mid, self.head = normalise(nn.Linear(6, 6)), nn.Linear(6, TOKENS)
        self.last = nn.Linear(6, TOKENS, bias=False)
        self.last.weight = self.head.weight
        if normalise is parametrizations.weight_norm:
            parametrize.register_parametrization(self.last, "weight", Half())

    def forward(self, tokens):
        x = torch.tanh(self.mid(self.emb(tokens)))
        return self.head(x) + self.last(x)


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


TIES = {
    "language model": Language,
    "three ways": ThreeWays,
    "recurrent language model": lambda: Language(lambda: nn.LSTM(6, 6, batch_first=True)),
    "kernels and norms": Kernels,
    "recurrent": Recurrent,
    "shared layers": Shared,
    "transposed": Transposed,
    "listed": Listed,
    "parametrized": Normalised,
}


def tokens(count=6, length=5, seed=1):
    drawn = torch.randint(0, TOKENS, (count, length), generator=torch.Generator().manual_seed(seed))
    return drawn, drawn.roll(-1, 1)


def loss(output, target):
    return F.cross_entropy(output.flatten(0, 1), target.flatten())
