"""Chains: features as one feature; with ``compile=True`` the same numbers from one loop over memory."""

from functools import partial

import pytest
import torch
from optree import tree_leaves, tree_map
from torch import nn

import funcbio
from funcbio import BioConfig, bind, chain, key
from funcbio.engine._options import OPTIONS
from funcbio.functional._chain import _merged


def world(width=40, dtype=torch.float32, seed=0, **config):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 3)).to(dtype)
    bio = bind(net, BioConfig(**config))
    params = {name: p.detach() for name, p in net.named_parameters()}
    grads = {name: torch.randn_like(p) * 1e-2 for name, p in params.items()}
    return bio, (params, grads, bio.init(params, key=key(seed)))


def forget(params, grads, state, /, *, key=None):
    return tree_map(lambda w: 0.9 * w, params), grads, state


def features(bio):
    return (
        bio.volume_dependent_lr,
        bio.fuzzy_learning_rates,
        forget,
        bio.rejuvenate_weights,
        chain(bio.crystallize, bio.update_fuzzy_learning_rates),
        bio.fuzzy_learning_rates,
    )


def same(first, second):
    for a, b in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.fixture
def tiled(monkeypatch):
    """Without the compiler: then the loop over tiles does the same, bit for bit."""
    monkeypatch.setattr(OPTIONS, "compiler", False)
    monkeypatch.setattr(OPTIONS, "tree_elements", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_fused_chain_is_the_chain(dtype, tiled):
    bio, args = world(dtype=dtype, fuzzy_lr_distribution="temporal", fuzzy_lr_dynamic=True, fuzzy_lr_update_freq=1)
    before = tree_map(torch.clone, args)
    found = chain(*features(bio), compile=True)(*args, key=key(1))
    same(found, chain(*features(bio))(*args, key=key(1)))
    same(args, before)
    assert found[2].replaced["0.weight"].any()
    assert not found[2].replaced["0.bias"].any()


def test_what_follows_one_another_fuses():
    bio, _ = world()
    ours = bio.volume_dependent_lr, partial(funcbio.crystallize, threshold=1e-3)
    parts = _merged([*ours, forget, bio.crystallize], True)
    assert [part is forget for part in parts] == [False, True, False]
    assert len(_merged(ours, False)) == 1


@pytest.mark.parametrize("transform", ["vmap", "grad", "signs", "lists"])
def test_where_it_cannot_fuse_it_is_the_chain_all_the_same(transform, tiled):
    bio, (params, grads, state) = world(apply_dales_principle=transform == "signs")
    fast, plain = (chain(bio.volume_dependent_lr, bio.rejuvenate_weights, compile=c) for c in (True, False))
    if transform == "vmap":
        keys = torch.stack([key(i) for i in range(3)])
        runs = [torch.vmap(lambda k, f=f: f(params, grads, state, key=k))(keys) for f in (fast, plain)]
    elif transform == "grad":
        runs = [
            torch.func.grad(lambda g, f=f: f(params, g, state, key=key(1))[1]["0.weight"].sum())(grads)
            for f in (fast, plain)
        ]
    else:
        if transform == "lists":
            params, grads, state = list(params.values()), list(grads.values()), funcbio.BioState([*state.rate.values()])
        runs = [f(params, grads, state, key=key(1)) for f in (fast, plain)]
    same(*runs)


def test_what_is_wrong_is_said_as_without_it():
    bio, (params, grads, state) = world()
    step = chain(bio.volume_dependent_lr, bio.fuzzy_learning_rates, compile=True)
    with pytest.raises(ValueError, match=r"key should be a key made by funcbio\.key"):
        step(params, grads, state)
    with pytest.raises(ValueError, match=r"grads should hold a tensor of shape"):
        step(params, {**grads, "0.weight": torch.ones(3)}, state, key=key(0))
    with pytest.raises(ValueError, match="threshold should be a number"):
        chain(partial(funcbio.crystallize, threshold="x"), compile=True)(params, grads, state)
    with pytest.raises(ValueError, match="compile should be True, False or None; found 1"):
        chain(compile=1)


def test_recorded_gradients_are_not_lost(tiled):
    bio, (params, grads, state) = world()
    tracked = {name: p.clone().requires_grad_() for name, p in params.items()}
    step = chain(bio.volume_dependent_lr, compile=True)
    with pytest.warns(UserWarning, match="compile=True has no effect while gradients are recorded"):
        new = step(tracked, grads, state, key=key(0))[1]
    assert new["0.weight"].requires_grad
    with torch.no_grad():
        same(step(tracked, grads, state, key=key(0))[1], new)


@pytest.mark.slow
def test_compiled_it_is_the_chain_to_rounding_and_compiles_once():
    for number, width in enumerate((3000, 5000)):
        bio, args = world(width, base_lr=0.1 + 0.1 * number, rejuvenation_parameter_dre=8.0 + number)
        steps = (bio.volume_dependent_lr, bio.fuzzy_learning_rates, bio.crystallize, bio.rejuvenate_weights)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            found = chain(*steps, compile=True)(*args, key=key(number))
        for a, b in zip(tree_leaves(found), tree_leaves(chain(*steps)(*args, key=key(number))), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
