"""Newborn weights in sweeps: a member is trained as by attach, which moves them as a fresh optimizer would."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

import funcbio
from funcbio import Mechanism, attach
from funcbio.sweeps._engine import Engine

EVERY, STEPS = 7, 24
CASES = {
    "Adam": partial(optim.Adam, weight_decay=0.01, amsgrad=True),
    "AdamW": optim.AdamW,
    "NAdam": partial(optim.NAdam, weight_decay=0.01),
    "RAdam": optim.RAdam,
    "Adamax": optim.Adamax,
}


def net():
    layer = nn.Linear(6, 3, bias=False).double()
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(2))
    return layer


def reborn(params, grads, state, /, *, key=None):
    masks = {name: (torch.arange(p.numel()) % 3 == 0).view(p.shape) for name, p in params.items()}
    return {n: torch.where(masks[n], 0.1, p) for n, p in params.items()}, grads, state._replace(replaced=masks)


def later(params, grads, state, /, *, key=None):
    """Sees the mask of the last replacement, in steps where none acts."""
    return params, grads, state


MECHANISMS = [Mechanism(reborn, where="after", every=EVERY), Mechanism(later, where="after")]
X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).double()
DATA = (X, X[:, :3].argmax(1))


def swept(make, newborn, **keywords):
    keywords = {"steps": STEPS, "seeds": 2, **keywords}
    if isinstance(make, partial):  # The grid sets the decay.
        make = partial(make.func, **{name: value for name, value in make.keywords.items() if name != "weight_decay"})
    return funcbio.sweep(
        net, F.cross_entropy, DATA, batch_size=16, optimizer=make, lr=0.05, mechanisms=MECHANISMS, newborn=newborn,
        share=["weights"], grid={"weight_decay": [0.0, 0.1]}, progress=False, record_every=1, **keywords
    )  # fmt: skip


def alone(make, newborn, decay):
    """The weights of a plain loop, whose batch is all examples."""
    model = net()
    optimizer = make(model.parameters(), lr=0.05, weight_decay=decay)
    attach(optimizer, model, MECHANISMS, newborn=newborn)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(DATA[0]), DATA[1]).backward()
        optimizer.step()
    return model.weight.detach()


@pytest.mark.parametrize("newborn", ["zero", "mean", "exact"])
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_member_is_trained_as_by_attach(make, newborn):
    result = swept(make, newborn)
    for member, decay in enumerate([0.0, 0.0, 0.1, 0.1]):
        weight = alone(make, newborn, decay)
        torch.testing.assert_close(result.member(member)["weight"], weight, rtol=1e-6, atol=1e-8)


def test_each_way_gives_other_weights_and_none_keeps_the_moments():
    results = [swept(optim.Adam, newborn).member(0)["weight"] for newborn in (None, "zero", "mean", "exact")]
    assert all(not a.allclose(b) for i, a in enumerate(results) for b in results[:i])


@pytest.mark.slow
@pytest.mark.parametrize("newborn", ["mean", "exact"])
def test_it_compiles(newborn):
    plain, compiled = (swept(optim.Adam, newborn, compile=flag) for flag in (False, True))
    for member in range(4):
        pair = [one.member(member)["weight"] for one in (plain, compiled)]
        # Compiled, torch's Adam corrects its bias in single precision: without newborn too.
        torch.testing.assert_close(*pair, rtol=1e-4, atol=2e-5)


def test_a_killed_sweep_goes_on_to_the_bit(tmp_path, monkeypatch):
    whole, step = swept(optim.Adam, "exact"), Engine.step

    def dying(self, number, batch, keys):
        if number == 2 * EVERY + 3:
            raise KeyboardInterrupt
        return step(self, number, batch, keys)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            swept(optim.Adam, "exact", output=tmp_path, save_seconds=0)
    again = swept(optim.Adam, "exact", output=tmp_path)
    assert all(whole.member(i)["weight"].equal(again.member(i)["weight"]) for i in range(4))
    with pytest.raises(ValueError, match="newborn"):
        swept(optim.Adam, "zero", output=tmp_path)


class Functional:
    def init(self, params):
        return {}

    def update(self, grads, state, params=None):
        return grads, state


@pytest.mark.parametrize(
    ("make", "newborn", "message"),
    [
        (optim.SGD, "exact", "optimizer should be one of Adam"),
        (optim.SGD, "mean", "second moments"),
        (optim.Adam, "hot", "newborn should be"),
        (Functional(), "zero", "newborn should be None"),
    ],
)
def test_what_cannot_be_done_is_refused(make, newborn, message):
    with pytest.raises(ValueError, match=message):
        swept(make, newborn)
