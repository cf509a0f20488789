"""Sparse training: exact counts, where connections grow, and that missing ones stay missing under any optimizer."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.func import grad as gradient_of

import funcbio
from funcbio import BioConfig, BioState, apply_mask, chain, fold_in, init, key, normal, prune_and_regrow, split
from funcbio.mechanisms._density import densities
from funcbio.mechanisms._sparse import GROWTHS, NEWBORNS, pruned, regrown


def of(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def truth(*numbers):
    return torch.tensor(numbers, dtype=torch.bool)


# Worked out by hand: weights, which exist, the share that goes, and which are dropped.
DROPPED = {
    "the weakest": (of(0.3, -0.1, 2, 0, 0.2), truth(1, 1, 1, 0, 1), 0.5, [0, 1, 0, 0, 1]),
    "rounded down": (of(0.3, -0.1, 2, 0, 0.2), truth(1, 1, 1, 0, 1), 0.49, [0, 1, 0, 0, 0]),
    "ties by position": (of(1, -1, 1, 0, 1), truth(1, 1, 1, 0, 1), 0.5, [1, 1, 0, 0, 0]),
    "only zeros": (of(0, 0, 0, 0, 0), truth(0, 1, 1, 0, 1), 0.7, [0, 1, 1, 0, 0]),
    "not finite first": (of(math.nan, 0.1, 5, 0, -math.inf), truth(1, 1, 1, 0, 1), 0.5, [1, 0, 0, 0, 1]),
    "none": (of(1, 2, 3, 4, 5), truth(0, 0, 0, 0, 0), 1.0, [0, 0, 0, 0, 0]),
}
SCORE = of(9, 1, 3, 3, math.nan, 3)
GROWN = {  # Exists, dropped, static, and what then exists and is new; scores as above.
    "largest score": (truth(1, 1, 0, 0, 0, 0), truth(0, 1, 0, 0, 0, 0), False, [1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]),
    "just dropped": (truth(1, 1, 0, 0, 0, 0), truth(1, 1, 0, 0, 0, 0), False, [1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]),
    "static": (truth(1, 1, 0, 0, 0, 0), truth(1, 0, 0, 0, 0, 0), True, [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
    "nan last": (truth(1, 1, 1, 1, 0, 0), truth(0, 1, 1, 0, 0, 0), False, [1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1]),
}


@pytest.mark.parametrize(("weight", "active", "share", "expected"), DROPPED.values(), ids=DROPPED)
def test_pruning_drops_the_frozen_connections(weight, active, share, expected):
    assert pruned(weight, active, torch.tensor(share)).int().tolist() == expected


@pytest.mark.parametrize(("active", "dropped", "static", "exists", "new"), GROWN.values(), ids=GROWN)
def test_the_frozen_connections_grow(active, dropped, static, exists, new):
    mask, found = regrown(active, dropped, SCORE, static=static)
    assert mask.int().tolist() == exists
    assert found.int().tolist() == new


def world(seed=0, density=0.3, dtype=torch.float32, grow=None, **shapes):
    shapes = shapes or {"a": (13, 17), "c": (4, 3, 3, 3), "z": (5, 7)}
    config = BioConfig(density=density, density_law="erdos_renyi")
    params = {name: normal(key(seed), shape, stream=name, dtype=dtype) for name, shape in shapes.items()}
    grads = {name: normal(key(seed), shape, stream=f"g/{name}", dtype=dtype) for name, shape in shapes.items()}
    state = init(params, key=key(seed), config=config, keep=["prune_and_regrow", "start"])
    return *apply_mask(params, grads, state)[:2], state


def counts(state):
    return {name: int(mask.sum()) for name, mask in state.mask.items()}


@pytest.mark.parametrize("grow", GROWTHS)
@pytest.mark.parametrize("newborn", NEWBORNS)
@pytest.mark.parametrize("drop", [0.0, 1e-9, 0.1, 0.3, 1 / 3, 0.999, 1.0])
@pytest.mark.parametrize("weights", ["normal", "ties", "zeros", "broken"])
def test_as_many_grow_as_are_dropped(grow, newborn, drop, weights):
    params, grads, state = world()
    change = {
        "normal": lambda w: w,
        "ties": lambda w: w.sign(),
        "zeros": torch.zeros_like,
        "broken": lambda w: torch.where(w > 0.5, math.nan, torch.where(w < -0.5, math.inf, w)),
    }[weights]
    params, grads = ({name: change(leaf) for name, leaf in tree.items()} for tree in (params, grads))
    before, old = counts(state), state.mask
    for share in (drop, torch.tensor(drop)):
        after, _, found = prune_and_regrow(params, grads, state, key=key(1), drop=share, grow=grow, newborn=newborn)
        assert counts(found) == before
        for name, mask in found.mask.items():
            assert not after[name][~mask].any()  # Also nan would be True.
            most = math.floor(before[name] * drop + 1e-4)
            gone = int((old[name] & ~mask).sum())
            assert gone == 0 if grow == "static" else gone <= most
            new = found.replaced[name]
            assert torch.equal(new, mask & ~old[name]) if grow != "static" else int(new.sum()) == most
            same = old[name] & mask & ~new & after[name].isfinite()
            assert torch.equal(after[name][same], params[name][same])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rigl_grows_where_the_gradient_is_largest(dtype):
    params, grads, state = world(dtype=dtype)
    _, _, found = prune_and_regrow(params, grads, state, drop=0.3, grow="gradient")
    for name, mask in state.mask.items():
        number = math.floor(0.3 * int(mask.sum()) + 1e-4)
        weakest = params[name].abs()[mask].float().sort(stable=True).values[number - 1]
        dropped = mask & (params[name].abs().float() <= weakest)
        if dtype == torch.bfloat16 and int(dropped.sum()) != number:
            continue  # Ties, which have a test of their own.
        missing = (~mask | dropped).flatten().nonzero().flatten()
        order = grads[name].abs().float().flatten()[missing].argsort(descending=True, stable=True)
        expected = (mask & ~dropped).flatten()
        expected[missing[order[:number]]] = True
        assert torch.equal(found.mask[name].flatten(), expected)


def test_random_growth_takes_every_missing_connection_alike():
    params, grads, state = world(w=(1, 20), density=0.5)
    draws = 3000
    masks = torch.vmap(lambda k: prune_and_regrow(params, grads, state, key=k, drop=0.4)[2].mask["w"])(
        split(key(8), draws)
    )
    weakest = params["w"].abs().where(state.mask["w"], torch.tensor(math.inf)).flatten().argsort()[:4]
    kept = state.mask["w"].flatten().clone()
    kept[weakest] = False
    assert masks.flatten(1)[:, kept].all()
    share = masks.flatten(1)[:, ~kept].double().mean(0)  # 4 of 14 places.
    assert (share - 4 / 14).abs().max() < 4.5 * math.sqrt(4 / 14 * 10 / 14 / draws)


def test_the_share_falls_by_a_cosine_and_stops():
    params, grads, state = world(w=(40, 50), density=0.5)
    new = []
    for _ in range(6):
        state = prune_and_regrow(params, grads, state, drop=0.4, grow="static", until=4, key=key(0))[2]
        new.append(int(state.replaced["w"].sum()))
    # 1000 connections: 400 (1 + cos(pi t / 4)) / 2 for t = 0, 1, 2, 3, then 0.
    assert new == [400, 341, 200, 58, 0, 0]
    assert state.calls["prune_and_regrow"] == 6


def test_newborn_weights():
    params, grads, state = world(w=(30, 40))
    shifted = state._replace(start={"w": state.start["w"].abs() + 10.0})
    for newborn, holds in (("zero", lambda w: (w == 0).all()), ("start", lambda w: (w > 10.0).all())):
        after, _, found = prune_and_regrow(params, grads, shifted, key=key(1), newborn=newborn)
        assert found.replaced["w"].any()
        assert holds(after["w"][found.replaced["w"]])


def test_newborn_weights_have_the_sign_of_dale():
    params = {"a": normal(key(0), (20, 30)), "b": normal(key(1), (20, 20))}
    config = BioConfig(apply_dales_principle=True, density=0.3, density_law="erdos_renyi")
    state = init(params, key=key(2), config=config, keep=["prune_and_regrow", "start"])
    params = apply_mask(params, params, state)[0]
    after, _, found = prune_and_regrow(params, params, state, key=key(3), newborn="start")
    new = found.replaced["a"]
    assert new.any()
    assert torch.equal(after["a"].sign()[new], state.sign["a"].expand(20, 30)[new])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x).relu().flatten(1)))


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1, weight_decay=0.01),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=0.01),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("grow", ["random", "gradient"])
def test_missing_weights_stay_zero_in_training(name, grow):
    torch.manual_seed(0)
    net = Net()
    params = dict(net.named_parameters())
    config = BioConfig(density=0.4, density_law="erdos_renyi_kernel")
    state = init(params, key=key(0), config=config, synapses=funcbio.synapses(net), keep=["prune_and_regrow", "start"])
    before, first = {n: int(m.sum()) for n, m in state.mask.items() if m.ndim}, state.mask
    grown = chain(partial(prune_and_regrow, grow=grow, newborn="start"), funcbio.rejuvenate_weights, apply_mask)
    optimizer = OPTIMIZERS[name](params.values())
    x, y = torch.randn(64, 1, 4, 4), torch.randint(0, 3, (64,))

    def write(new):
        with torch.no_grad():
            for own, value in zip(params.values(), new.values(), strict=True):
                own.copy_(value)

    write(apply_mask(params, params, state)[0])
    losses = []
    for step in range(200):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(net(x), y))
        losses[-1].backward()
        grads = {n: p.grad for n, p in params.items()}
        optimizer.step()
        assert any(params[n][~m].any() for n, m in state.mask.items() if m.ndim)  # There was something to undo.
        acting = grown if step % 20 == 10 and step < 150 else apply_mask
        with torch.no_grad():
            new, _, state = acting(params, grads, state, key=fold_in(key(1), step))
        write(new)
        for n, mask in state.mask.items():
            assert mask.ndim == 0 or (not params[n][~mask].any() and int(mask.sum()) == before[n])
    assert losses[-1] < losses[0]
    assert not torch.equal(state.mask["conv.weight"], first["conv.weight"])


def test_missing_weights_have_gradients_that_rigl_can_read():
    torch.manual_seed(0)
    net = nn.Linear(8, 3)
    params = {n: p.detach() for n, p in net.named_parameters()}
    state = init(params, key=key(0), config=BioConfig(density=0.2), keep=["prune_and_regrow"])
    params = apply_mask(params, params, state)[0]
    loss = lambda p: functional_call(net, p, (torch.ones(4, 8),)).square().sum()
    grads = apply_mask(params, gradient_of(loss)(params), state)[1]
    assert (grads["weight"][~state.mask["weight"]] != 0).any()


def test_masks_under_vmap_over_keys_equal_a_loop():
    params = {"a": torch.ones(6, 9), "b": torch.ones(4, 6)}
    keys = split(key(5), 4)
    made = lambda k: init(params, key=k, config=BioConfig(density=0.3), keep=["prune_and_regrow"]).mask
    together, loop = torch.vmap(made)(keys), [made(k) for k in keys]
    for name in params:
        assert torch.equal(together[name], torch.stack([mask[name] for mask in loop]))
    assert len({tuple(mask["b"].flatten().tolist()) for mask in loop}) > 1
    assert {int(mask["b"].sum()) for mask in loop} == {round(0.3 * 24)}


# By hand, 784-300-100-10: N = 235200, 30000, 1000; n_in + n_out = 1084, 400, 110, together 1594.
LENET = {"a": (300, 784), "b": (100, 300), "c": (10, 100)}


@pytest.mark.parametrize(
    ("law", "density", "expected"),
    [
        ("uniform", 0.1, [1.0, 0.1, 0.1]),
        # eps = 0.05 * 266200 / 1594 = 8.35007: densities 0.03848, 0.11133, 0.91851.
        ("erdos_renyi", 0.05, [8.350063 * 1084 / 235200, 8.350063 * 400 / 30000, 8.350063 * 110 / 1000]),
        # eps = 0.1 * 266200 / 1594 = 16.7 would be 1.837 of the last: it is dense, and the others share
        # 26620 - 1000 over 1484: eps = 17.2642.
        ("erdos_renyi", 0.1, [17.264151 * 1084 / 235200, 17.264151 * 400 / 30000, 1.0]),
        ("erdos_renyi", 0.0, [0.0, 0.0, 0.0]),
        ("erdos_renyi", 1.0, [1.0, 1.0, 1.0]),
    ],
)
def test_densities_of_layers(law, density, expected):
    assert [*densities(LENET, density, law).values()] == pytest.approx(expected, rel=1e-6)


def test_the_layer_that_stays_dense_is_the_first_of_the_model_and_not_of_the_alphabet():
    net = nn.Sequential()
    net.add_module("zoo", nn.Linear(8, 6))
    net.add_module("ape", nn.Linear(6, 4))
    params = dict(net.named_parameters())
    for synapses in (None, funcbio.synapses(net)):
        state = init(params, key=key(0), synapses=synapses, config=BioConfig(density=0.5), keep=["prune_and_regrow"])
        assert {name: n for name, n in counts(state).items() if n} == {"zoo.weight": 48, "ape.weight": 12}


def test_kernels_count_where_they_are_told_to():
    """Shapes (8, 4, 3, 3) and (10, 32): N = 288, 320. With kernels 18/288 against 42/320, else 12/32 against 42/320."""
    shapes = {"conv": (8, 4, 3, 3), "head": (10, 32)}
    assert densities(shapes, 0.2, "erdos_renyi_kernel") == pytest.approx(
        {"conv": 121.6 / 60 * 18 / 288, "head": 121.6 / 60 * 42 / 320}
    )
    assert densities(shapes, 0.2, "erdos_renyi") == pytest.approx(
        {"conv": 121.6 / 150 * 12 / 32, "head": 121.6 / 150 * 42 / 320}
    )


def test_the_epsilon_of_set_is_a_density():
    """Density eps (n_in + n_out) / (n_in n_out) of every layer, if the model's is eps * sum(n_in + n_out) / sum(N)."""
    epsilon = 5.0
    found = densities(LENET, epsilon * 1594 / 266200, "erdos_renyi")
    for name, (post, pre) in LENET.items():
        assert found[name] == pytest.approx(epsilon * (pre + post) / (pre * post))


def test_masks_have_exactly_as_many_connections_as_the_density_asks_for():
    params = {name: torch.ones(shape) for name, shape in LENET.items()}
    for law in ("uniform", "erdos_renyi"):
        config = BioConfig(density=0.1, density_law=law)
        found = counts(init(params, key=key(0), config=config, keep=["prune_and_regrow"]))
        asked = densities(LENET, 0.1, law)
        assert found == {name: round(asked[name] * leaf.numel()) for name, leaf in params.items()}


def test_layers_without_elements_or_mask_are_left_alone():
    params = {"w": torch.ones(2, 3), "none": torch.ones(0, 3), "b": torch.ones(3)}
    masks = {"w": torch.zeros(()), "none": torch.zeros(0, 3, dtype=torch.bool), "b": torch.zeros(())}
    state = BioState(rate=(), mask=masks, calls={"prune_and_regrow": torch.tensor(0)})
    after, _, found = prune_and_regrow(params, params, state, key=key(0), drop=1.0)
    assert torch.equal(after["w"], params["w"])
    assert found.mask["none"].shape == (0, 3)
    assert torch.equal(apply_mask(params, params, state)[0]["b"], params["b"])


def test_bad_options_are_refused():
    params, grads, state = world()
    bad = [
        ({"grow": "weights"}, "grow should be one of random, gradient, static; found 'weights'"),
        ({"newborn": "one"}, "newborn should be one of zero, start; found 'one'"),
        ({"drop": 1.2}, "drop should be a number in [0, 1]; found 1.2"),
        ({"until": 1.5}, "until should be an integer >= 0; found 1.5"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match="should be") as caught:
            prune_and_regrow(params, grads, state, key=key(0), **options)
        assert message in str(caught.value)
    with pytest.raises(ValueError, match=r"state\.calls should hold"):
        prune_and_regrow(params, grads, state._replace(calls=()), key=key(0))
    with pytest.raises(ValueError, match=r"state\.mask should be kept"):
        apply_mask(params, grads, state._replace(mask=()))
    for field, value in {"density": 1.5, "density_law": "even", "prune_and_regrow_grow": "all"}.items():
        with pytest.raises(funcbio.ConfigError, match=field):
            BioConfig(**{field: value})
