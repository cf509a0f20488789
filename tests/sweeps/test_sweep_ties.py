"""Tied weights and shared layers in a sweep: each is one weight, and a member is the plain loop with its seed."""

from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from ties import TIES, Language, Normalised, gpt2, loss, tokens
from torch import nn

import funcbio
from funcbio.sweeps._stack import build
from funcbio.sweeps._trials import Trial

STEPS, LR = 4, 0.1


class Logits(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = gpt2()

    def forward(self, x):
        return self.net(x, use_cache=False).logits


MODELS = {**TIES, "GPT-2": Logits}
every_tie = pytest.mark.parametrize("name", MODELS)
# Torch cannot vmap a one-hot coding of tokens that differ: that model trains in a loop.
pytestmark = pytest.mark.filterwarnings("ignore:this model trains member by member")


def sweep(make, seeds=(3, 7), **options):
    choice = "emb.*" if isinstance(make(), Normalised) else None
    given = {"steps": STEPS, "batch_size": 6, "lr": LR, "record_every": 1, "synapses": choice, "progress": False}
    return funcbio.sweep(make, loss, tokens(), seeds=seeds, **{**given, **options})


def start(make, seed):
    """The network of a seed before its first step."""
    return build(make, Trial(0, seed, {}, funcbio.BioConfig(), {}, {}, ()), ())


def plain_loop(net, seed, optimizer=torch.optim.SGD):
    """Trains as a member of the seed does, in the same order of examples; returns the losses."""
    x, y = tokens()
    optimizer, losses = optimizer(net.parameters(), lr=LR), []
    for number in range(STEPS):
        order = funcbio.uniform(funcbio.fold_in(funcbio.fold_in(funcbio.key(seed), "batches"), number), (6,)).argsort()
        optimizer.zero_grad()
        losses.append(loss(net(x[order]), y[order]))
        losses[-1].backward()
        optimizer.step()
    return [value.item() for value in losses]


@every_tie
# Not Adam: of gradients that are zero but for rounding, as of a bias before a norm, it takes the sign.
@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9)], ids=["SGD", "momentum"]
)
def test_a_member_is_the_plain_loop_and_loads_strictly(name, optimizer):
    make = MODELS[name]
    found = sweep(make, optimizer=optimizer)
    for index, seed in enumerate((3, 7)):
        net = start(make, seed).train()
        losses = plain_loop(net, seed, optimizer)
        part = found.table["train_loss"][index * STEPS : (index + 1) * STEPS]
        torch.testing.assert_close(part, losses, rtol=1e-3, atol=1e-4)
        mine, theirs = found.member(index), net.state_dict()
        assert mine.keys() == theirs.keys()
        for leaf, value in theirs.items():
            torch.testing.assert_close(mine[leaf], value, rtol=1e-3, atol=1e-4)
        other = make().train(net.training)
        other.load_state_dict(mine, strict=True)
        again = make()
        again.load_state_dict(other.state_dict())
        x = tokens()[0]
        torch.testing.assert_close(again.eval()(x), net.eval()(x), rtol=1e-3, atol=1e-4)


@every_tie
def test_files_of_members_load_strictly(name, tmp_path):
    found = sweep(MODELS[name])
    for index, path in enumerate(found.save_parameters(tmp_path)):
        saved = load_file(path)
        MODELS[name]().load_state_dict(saved, strict=True)
        assert all(torch.equal(saved[leaf], value) for leaf, value in found.member(index).items())


def test_a_tied_weight_takes_memory_once_and_is_one_tensor():
    found = sweep(Language)
    assert "head.weight" not in found.params
    member = found.member(0)
    assert member["head.weight"] is member["emb.weight"]


def test_mechanisms_treat_a_tied_weight_once():
    mechanisms = ["crystallize", "fuzzy_learning_rates", funcbio.Mechanism("rejuvenate_weights", every=2)]
    together, alone = sweep(Language, mechanisms=mechanisms), sweep(Language, (7,), mechanisms=mechanisms)
    for leaf, value in alone.member(0).items():
        torch.testing.assert_close(together.member(1)[leaf], value)


def test_a_sweep_of_tied_weights_goes_on_in_its_folder(tmp_path):
    whole = sweep(Language, output=tmp_path)
    again = sweep(Language, output=tmp_path)
    assert again.table == whole.table
    Language().load_state_dict(again.member(1), strict=True)


class Doubled(nn.Module):
    """A buffer under two names, only the second of which is saved."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(12, 6)
        self.head = nn.Linear(6, 12)
        self.register_buffer("own", torch.zeros(12), persistent=False)
        self.register_buffer("shift", self.own)

    def forward(self, x):
        self.own += 1
        return self.head(self.emb(x)) + self.shift


def test_a_buffer_is_saved_if_any_of_its_names_is():
    member = sweep(Doubled).member(0)
    assert "own" not in member
    assert (member["shift"] == STEPS).all()
    Doubled().load_state_dict(member, strict=True)
