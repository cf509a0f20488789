"""Mechanisms that act on all parameters: the same by every door, with all that they keep."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy

import funcbio
from funcbio import BioConfig, BioConverter, BioState, Mechanism, attach, bind, key, sweep, trees
from funcbio.mechanisms import ROWS

NEIGHBOURS = [name for name, row in ROWS.items() if row.on_trees and not row.by_unit]
BY_ATTACH = [name for name in NEIGHBOURS if name != "apply_mask"]
CONFIG = BioConfig(
    l2_init_strength=0.1,
    shrink_and_perturb_shrink=0.9,
    spectral_regularization_strength=0.1,
    clip_weights_kappa=0.8,
    parseval_strength=0.1,
    upgd_sigma=1e-3,
    density=0.4,
    hare_and_tortoise_momentum=0.9,
    hare_and_tortoise_every=2,
    dash_every=2,
)
SELECTING = BioConfig(rejuvenation_variant="swr", rejuvenation_rule="proportional", rejuvenation_fraction=0.2)
X = torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
WORDS, Y = torch.arange(8) % 7, torch.arange(8) % 3


class Net(nn.Module):
    """A convolution, norms, recurrent weights and an embedding: only two weights hold synapses."""

    def __init__(self, seed=0):
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
        # A bias before a norm has a gradient of nothing but rounding.
        self.conv, self.bn = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.words = nn.Embedding(7, 4, padding_idx=0)
        self.gru, self.norm, self.head = nn.GRU(4, 5, batch_first=True), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x, words):
        rows = self.bn(self.conv(x)).flatten(2).transpose(1, 2) + self.words(words)[:, None]
        return self.head(self.norm(self.gru(rows)[0][:, -1]))


def learn(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(X, WORDS), Y).backward()
        optimizer.step()


def numbers(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


GRADIENT_DESCENT = partial(optim.SGD, lr=0.1)


def handled(names, config=CONFIG, make=GRADIENT_DESCENT, **options):
    model = Net()
    optimizer = make(model.parameters())
    return model, optimizer, attach(optimizer, model, names, config=config, **options)


def by_hand(name, params, grads, state, own_key, lr=0.1):
    """One step of gradient descent around the pure function, in its place."""
    feature, place = ROWS[name].bound(CONFIG), ROWS[name].place
    step = partial(feature, key=own_key)
    if place == "gradient":
        params, grads, state = step(params, grads, state)
    update = {n: -lr * grad for n, grad in grads.items()}
    if place == "update":
        params, update, state = step(params, update, state)
    params = {n: weight + update[n] for n, weight in params.items()}
    if place == "after":
        params, _, state = step(params, grads, state)
    return params, state


def padded(params, before):
    """The padding row of an embedding is no parameter."""
    words = params["words.weight"].clone()
    words[0] = before["words.weight"][0]
    return {**params, "words.weight": words}


@pytest.mark.parametrize("name", BY_ATTACH)
def test_a_step_is_that_of_the_pure_function(name):
    model, optimizer, handle = handled([name])
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(X, WORDS), Y).backward()
        own_key = model.conv.bio_mod.key.clone()
        params, grads, state = copy.deepcopy(handle.trees())
        expected, after = by_hand(name, params, grads, state, own_key)
        expected = padded(expected, params)
        if name == "prune_and_regrow":
            expected, _, after = funcbio.apply_mask(expected, grads, after)
        optimizer.step()
        found, _, kept = handle.trees()
        assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
        for n in found:
            torch.testing.assert_close(found[n], expected[n], rtol=1e-5, atol=1e-6, msg=lambda m, n=n: f"{n}: {m}")
        for field in ("start", "tortoise", "utility", "direction", "mask", "singular"):
            for n in getattr(kept, field) or ():
                values = getattr(after, field)[n]
                if n != "words.weight":
                    torch.testing.assert_close(getattr(kept, field)[n], values, rtol=1e-5, atol=1e-6)
        assert {n: int(count) for n, count in dict(kept.calls or {}).items()} == {
            n: int(count) for n, count in dict(after.calls or {}).items()
        }


DETERMINISTIC = [name for name in BY_ATTACH if not ROWS[name].draws and "singular" not in ROWS[name].keeps(CONFIG)]


@pytest.mark.parametrize("name", [*DETERMINISTIC, "partial"])
def test_a_sweep_is_the_attached_run(name):
    assert len(DETERMINISTIC) >= 8
    mechanism = partial(funcbio.l2_init, strength=0.1) if name == "partial" else name
    model, optimizer, _ = handled(["l2_init" if name == "partial" else name])
    learn(model, optimizer, 4)
    found = sweep(
        Net,
        cross_entropy,
        (X, WORDS, Y),
        steps=4,
        batch_size=8,
        lr=0.1,
        mechanisms=[mechanism],
        config=CONFIG,
        seeds=2,
        share=["weights"],
        progress=False,
    )
    for seed in range(2):
        member = found.member(seed)
        for n, weight in model.named_parameters():
            torch.testing.assert_close(member[n], weight.detach(), rtol=1e-4, atol=1e-5, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("name", [*BY_ATTACH, "swr"])
def test_a_member_does_not_depend_on_the_others(name):
    config = SELECTING if name == "swr" else CONFIG
    run = partial(
        sweep,
        partial(Net, None),
        cross_entropy,
        (X, WORDS, Y),
        steps=3,
        batch_size=4,
        mechanisms=["rejuvenate_weights" if name == "swr" else name],
        config=config,
        optimizer=optim.Adam,
        progress=False,
    )
    together, alone = run(seeds=3).member(2), run(seeds=[2]).member(0)
    for n in together:
        torch.testing.assert_close(together[n], alone[n], rtol=1e-4, atol=1e-5, msg=lambda m, n=n: f"{n}: {m}")


MIXES = [*([name] for name in BY_ATTACH), ["l2_init", "upgd", "prune_and_regrow", "hare_and_tortoise"]]


@pytest.mark.parametrize("names", MIXES, ids="+".join)
def test_a_resumed_run_goes_on_to_the_bit(names):
    model, optimizer, handle = handled(names, make=optim.Adam)
    learn(model, optimizer, 3)
    saved = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict(), handle.state_dict()), saved)
    learn(model, optimizer, 3)
    saved.seek(0)
    weights, moments, state = torch.load(saved, weights_only=True)
    other, other_optimizer, other_handle = handled(names, make=optim.Adam)
    other.load_state_dict(weights)
    other_optimizer.load_state_dict(moments)
    other_handle.load_state_dict(state)
    learn(other, other_optimizer, 3)
    same(numbers(model), numbers(other))


@pytest.mark.parametrize("name", [*BY_ATTACH, "swr"])
def test_a_copy_learns_alike_and_removal_leaves_a_plain_model(name):
    names, config = ("rejuvenate_weights", SELECTING) if name == "swr" else (name, CONFIG)
    model, optimizer, handle = handled([names], config)
    learn(model, optimizer, 2)
    other, other_optimizer, other_handle = pickle.loads(pickle.dumps((model, optimizer, handle)))
    learn(model, optimizer, 2)
    learn(other, other_optimizer, 2)
    same(numbers(model), numbers(other))
    other_handle.remove()
    handle.remove()
    assert numbers(model).keys() == numbers(Net()).keys()


OPTIMIZERS = {
    "momentum": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(optim.Adam, lr=0.01, weight_decay=0.1),
    "adamw": partial(optim.AdamW, lr=0.01),
    "rmsprop": partial(optim.RMSprop, lr=0.01, momentum=0.5),
    "adagrad": optim.Adagrad,
    "nadam": optim.NAdam,
    "adadelta": optim.Adadelta,
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("grow", ["random", "gradient", "static"])
def test_what_does_not_exist_stays_zero_under_every_optimizer_and_mechanism(make, grow):
    config = CONFIG.replace(prune_and_regrow_grow=grow, prune_and_regrow_newborn="start", apply_dales_principle=True)
    names = ["fuzzy_learning_rates", "upgd", Mechanism("prune_and_regrow", every=3), "rejuvenate_weights"]
    names += ["shrink_and_perturb", "hare_and_tortoise", "enforce_dales_principle"]
    model, optimizer, handle = handled(names, config, make)
    before = {n: int(mask.sum()) for n, mask in handle.trees()[2].mask.items() if mask.ndim}
    assert before == {"conv.weight": 36, "head.weight": 6}  # The first layer stays dense.
    moved = 0
    first = handle.trees()[2].mask["head.weight"].clone()
    for _ in range(9):
        learn(model, optimizer)
        params, _, state = handle.trees()
        for n, count in before.items():
            assert int(state.mask[n].sum()) == count
            assert not params[n][~state.mask[n]].any()
        moved += int((state.mask["head.weight"] != first).sum())
    assert (moved > 0) == (grow != "static")


def test_grown_connections_begin_without_momentum():
    model, optimizer, handle = handled(
        [Mechanism("prune_and_regrow", every=4)],
        CONFIG.replace(prune_and_regrow_drop=0.9),
        partial(optim.SGD, lr=0.1, momentum=0.9),
    )
    learn(model, optimizer, 4)
    _, _, state = handle.trees()
    new, momentum = state.replaced["head.weight"], optimizer.state[model.head.weight]["momentum_buffer"]
    assert new.any()
    assert not momentum[new].any()
    assert momentum[~new].any()


def test_methods_of_a_converted_model_are_the_pure_functions():
    names = [name for name in NEIGHBOURS if ROWS[name].place != "update"]
    model = BioConverter(CONFIG).expose(*(ROWS[name].feature for name in names))(Net())
    for name in names:
        model.zero_grad()
        cross_entropy(model(X, WORDS), Y).backward()
        params, grads, state = copy.deepcopy(trees(model))
        expected, changed, after = ROWS[name].bound(CONFIG)(params, grads, state, key=model.conv.bio_mod.key.clone())
        getattr(model, name)()
        found, changed_found, kept = trees(model)
        same(padded(expected, params), found)
        if ROWS[name].needs_grad and ROWS[name].place == "gradient":
            for n in changed:
                assert torch.equal(changed[n], changed_found[n])
        assert dict(kept.calls) == dict(after.calls)
    kept = io.BytesIO()
    torch.save(model.state_dict(), kept)
    kept.seek(0)
    other = BioConverter(CONFIG).expose(*(ROWS[name].feature for name in names))(Net(seed=1))
    other.load_state_dict(torch.load(kept))
    same(numbers(model), numbers(other))
    assert not [name for name in numbers(BioConverter(CONFIG)(other)) if "kept" in name]


def test_what_cannot_be_a_method_is_refused():
    with pytest.raises(ValueError, match=r"acts on the update of an optimizer: name it in funcbio\.attach"):
        BioConverter().expose(funcbio.upgd)
    with pytest.raises(ValueError, match="hyper should be left out for l2_init"):
        BioConverter().expose(funcbio.l2_init, strength="base_lr")
    model = BioConverter().expose(funcbio.l2_init)(Net())
    with pytest.raises(RuntimeError, match=r"call backward\(\) before l2_init\(\)"):
        model.l2_init()


def test_a_neighbour_acts_in_its_own_place_only():
    assert Mechanism(partial(funcbio.l2_init, decoupled=True)).where == "update"
    assert Mechanism(partial(funcbio.l2_init, strength=0.1)).where == "gradient"
    for name in NEIGHBOURS:
        assert Mechanism(name).where == ROWS[name].place
        for place in {"gradient", "update", "after"} - {ROWS[name].place}:
            with pytest.raises(ValueError, match=f"where should be '{ROWS[name].place}' for {name}"):
                Mechanism(name, where=place)


def test_a_whole_model_has_nothing_to_prune():
    with pytest.warns(funcbio.IdleWarning, match=r"prune_and_regrow should .* found density=1\.0"):
        handled(["prune_and_regrow"], CONFIG.replace(density=1.0))


def test_what_is_new_starts_anew_with_fresh_rates_and_ages():
    config = CONFIG.replace(prune_and_regrow_drop=0.9)
    names = ["fuzzy_learning_rates", Mechanism("prune_and_regrow", every=3)]
    model, optimizer, handle = handled(names, config, fresh_rates=True, ages=True)
    before = handle.trees()[2].rate["head.weight"].clone()
    learn(model, optimizer, 3)
    state = handle.trees()[2]
    new = state.replaced["head.weight"]
    assert new.any()
    assert torch.equal(state.rate["head.weight"] != before, new)
    assert state.age["head.weight"][new].unique().tolist() == [0]
    assert state.age["head.weight"][~new].unique().tolist() == [3]


def test_what_is_not_kept_is_asked_for():
    params = {"w": torch.ones(2, 2)}
    state = BioState(rate=params)
    with pytest.raises(ValueError, match=r"state.start should be kept, by init\(..., keep=\['start'\]\)"):
        funcbio.l2_init(params, params, state)
    with pytest.raises(ValueError, match=r"state.calls should hold .* under 'dash'"):
        funcbio.dash(params, params, state)
    with pytest.raises(ValueError, match=r"keep should name .*, perhaps start; found 'stat'"):
        bind(Net()).init(dict(Net().named_parameters()), key=key(0), keep=["stat"])
    with pytest.raises(ValueError, match="keep should be a list of names"):
        bind(Net()).init(dict(Net().named_parameters()), key=key(0), keep="start")


def test_a_state_of_before_loads():
    old = (*({"w": torch.ones(2, 2)} for _ in range(4)), torch.tensor(3), ())
    state = BioState(*old)
    assert (state.start, state.mask, state.calls) == ((), (), ())
    again = pickle.loads(pickle.dumps(state))
    assert torch.equal(again.updates, torch.tensor(3))
    funcbio.crystallize({"w": torch.ones(2, 2)}, {"w": torch.ones(2, 2)}, state)


def test_memory_is_paid_for_by_those_who_use_it():
    model, _, handle = handled(["crystallize", "fuzzy_learning_rates"])
    assert not [name for name in numbers(model) if "kept" in name]
    assert handle.trees()[2].start == ()
    _, _, handle = handled(["clip_weights"])
    state = handle.trees()[2]
    assert sum(bound.numel() for bound in state.bound.values() if bound.ndim) < 20
    assert state.start == ()


@pytest.mark.parametrize("name", BY_ATTACH)
def test_steps_in_which_little_has_a_gradient_are_made(name):
    model, optimizer, handle = handled([name], make=partial(optim.Adam, lr=0.1))
    before = numbers(model)
    optimizer.zero_grad()
    optimizer.step()
    assert handle.steps == 1
    if ROWS[name].place != "after":
        same(before, numbers(model))
    model.norm.bias.grad = torch.ones(5)
    optimizer.step()
    learn(model, optimizer)
    assert handle.steps == 3


@pytest.mark.parametrize(
    "feature",
    [
        partial(funcbio.prune_and_regrow, drop=0.5),
        partial(funcbio.hare_and_tortoise, every=2),
        partial(funcbio.dash, every=2),
        partial(funcbio.rejuvenate_weights, variant="swr", rule="proportional", fraction=0.2),
        funcbio.dash,
    ],
    ids=["sparse", "hare", "dash", "swr", "plain"],
)
@pytest.mark.filterwarnings("ignore:dash should act by step 3")
def test_a_partial_keeps_what_its_keywords_need(feature):
    model, optimizer, handle = handled([feature])
    learn(model, optimizer, 3)
    assert handle.trees()[2].calls or handle.trees()[2].start
    data = (X, WORDS, Y)
    options = {"steps": 3, "batch_size": 4, "seeds": 2, "config": CONFIG, "progress": False}
    sweep(partial(Net, None), cross_entropy, data, mechanisms=[feature], **options)


def test_layers_that_come_later_are_kept_for_too():
    model = Net()
    optimizer = optim.SGD(model.conv.parameters(), lr=0.1)
    names = ["l2_init", "prune_and_regrow", "fuzzy_learning_rates"]
    handle = attach(optimizer, model, names, config=CONFIG)
    optimizer.add_param_group({"params": model.head.parameters()})
    learn(model, optimizer)
    params, _, state = handle.trees()
    assert {n for n, leaf in state.start.items() if leaf.ndim} == {"conv.weight", "head.weight", "head.bias"}
    assert not params["head.weight"][~state.mask["head.weight"]].any()
    handle.remove()
    assert numbers(model).keys() == numbers(Net()).keys()


def test_a_mask_on_a_converted_model_holds_under_attach():
    model = BioConverter(CONFIG).expose(funcbio.prune_and_regrow, funcbio.apply_mask)(Net())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, ["l2_init"])
    learn(model, optimizer, 2)
    params, _, state = trees(model)
    assert (~state.mask["head.weight"]).any()
    assert not params["head.weight"][~state.mask["head.weight"]].any()


def test_a_layer_that_is_sparse_already_keeps_its_connections():
    converter = BioConverter(CONFIG).expose(funcbio.prune_and_regrow)
    model = converter(Net())
    mask = trees(model)[2].mask["head.weight"].clone()
    again = trees(converter(model))[2].mask["head.weight"]
    assert torch.equal(again, mask)
    assert torch.equal(model.head.weight != 0.0, mask)


def test_what_grows_by_gradients_passes_over_layers_without_one():
    model, optimizer, handle = handled(["prune_and_regrow"], CONFIG.replace(prune_and_regrow_grow="gradient"))
    before = handle.trees()[2].mask["head.weight"].clone()
    learn(model, optimizer)
    moved = handle.trees()[2].mask["head.weight"].clone()
    optimizer.zero_grad()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    optimizer.step()
    assert not torch.equal(before, moved)
    assert torch.equal(handle.trees()[2].mask["head.weight"], moved)


@pytest.mark.parametrize("name", ["upgd", "dash", "hare_and_tortoise"])
def test_one_broken_gradient_breaks_one_weight(name):
    model, optimizer, handle = handled([name])
    learn(model, optimizer)
    optimizer.zero_grad()
    cross_entropy(model(X, WORDS), Y).backward()
    model.head.weight.grad[0, 0] = torch.nan
    optimizer.step()
    with torch.no_grad():
        assert [n for n, p in model.named_parameters() if not p.isfinite().all()] == ["head.weight"]
        assert model.head.weight.isnan().sum() == 1
        model.head.weight[0, 0] = 0.1  # Healed by hand.
    learn(model, optimizer, 4)
    assert all(p.isfinite().all() for p in model.parameters())
    assert handle.steps == 6


def test_hyper_parameters_of_a_name_are_those_of_the_configuration():
    with pytest.raises(ValueError, match="hyper should be left out for 'l2_init'"):
        Mechanism("l2_init", hyper={"strength": "upgd_beta"})


def test_options_and_names_are_checked():
    params = {"w": torch.ones(2, 2)}
    state = funcbio.init(params, key=key(0), keep=["upgd", "l2_init"])
    with pytest.raises(ValueError, match="protect should be True or False; found 'zz'"):
        funcbio.upgd(params, params, state, key=key(0), protect="zz")
    with pytest.raises(ValueError, match="decoupled should be True or False"):
        funcbio.l2_init(params, params, state, decoupled=["l2"])
    for keep in (None, [["x"]], 3):
        with pytest.raises(ValueError, match="keep should be a list of names"):
            funcbio.init(params, key=key(0), keep=keep)
    with pytest.raises(ValueError, match="iterations should be an integer within vmap"):
        torch.vmap(lambda n: funcbio.fire(params, params, state, iterations=n)[0])(torch.tensor([1, 2]))
