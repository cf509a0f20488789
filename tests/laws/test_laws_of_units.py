"""The laws that every feature on units keeps. A new one joins by a row in ``worlds.UNIT_FEATURES``."""

import inspect
from functools import partial

import pytest
import torch
from optree import tree_leaves, tree_map, tree_structure
from test_laws import bits, nest, same, stacked, unnest
from worlds import UNIT_FEATURES, UNIT_MODELS, unit_world

import funcbio
from funcbio import Units, chain, init, key, split

every_feature = pytest.mark.parametrize("name", UNIT_FEATURES)
every_model = pytest.mark.parametrize("model", UNIT_MODELS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
SWEPT = [(name, hyper) for name, (_, hypers) in UNIT_FEATURES.items() for hyper in hypers]
SOFT = {("calibrated_partial_resets", hyper) for hyper in ("replacement_rate", "sharpness", "threshold", "decay")}
KEY = key(42)


def call(name, units, **options):
    """A feature with the table of units, and values of its hyper-parameters under which it acts."""
    feature, hypers = UNIT_FEATURES[name]
    return partial(feature, units=units, **{**hypers, **options})


def swapped(tree, change):
    """Changes the trees that are like the parameters, and no others."""
    params, grads, state = tree
    like = {field: change(value) for field, value in state._asdict().items() if field not in NOT_LIKE and value != ()}
    return change(params), change(grads), state._replace(**like)


NOT_LIKE = ("updates", "calls", "units")


@every_feature
@every_model
def test_pure_and_repeatable(name, model):
    *args, units = unit_world(model)
    before, table = tree_map(torch.clone, args), Units.from_state_dict(units.state_dict())
    first = call(name, units)(*args, key=KEY)
    same(args, before)
    assert units == table
    same(call(name, units)(*args, key=KEY), first)
    changed = [not torch.equal(a, b) for a, b in zip(bits(args), bits(first), strict=True)]
    assert any(changed)  # What does nothing keeps every law.


@every_feature
@every_model
@every_dtype
def test_structure_shape_and_type_are_kept(name, model, dtype):
    *args, units = unit_world(model, dtype=dtype)
    result = call(name, units)(*args, key=KEY)
    assert tree_structure(result) == tree_structure(tuple(args))
    for before, after in zip(tree_leaves(args), tree_leaves(result), strict=True):
        assert (before.shape, before.dtype, before.device) == (after.shape, after.dtype, after.device)
        assert not after.is_floating_point() or after.isfinite().all()
    assert any(mask.any() for mask in tree_leaves(result[2].replaced)) == (name != "calibrated_partial_resets")


@pytest.mark.sampled(5)
@every_feature
@every_model
@every_dtype
def test_vmap_equals_a_loop(name, model, dtype):
    worlds = [unit_world(model, seed, dtype) for seed in range(3)]
    units, keys = worlds[0][-1], split(key(7), 3)
    run = lambda k, *args: call(name, units)(*args, key=k)
    together = torch.vmap(run)(keys, *stacked([args for *args, _ in worlds]))
    same(together, stacked([run(k, *args) for k, (*args, _) in zip(keys, worlds, strict=True)]))


@pytest.mark.parametrize(("name", "hyper"), SWEPT)
def test_vmap_and_grad_reach_every_hyper_parameter(name, hyper):
    *args, units = unit_world("mlp")
    run = lambda value: call(name, units, **{hyper: value})(*args, key=KEY)
    whole = isinstance(UNIT_FEATURES[name][1][hyper], int)
    factors = [1, 2, 3] if whole else [0.5, 1.0, 1.1]
    values = torch.tensor(factors) * UNIT_FEATURES[name][1][hyper]
    together = torch.vmap(run)(values)
    same(together, stacked([run(value) for value in values]))
    same(together, stacked([run(value.item()) for value in values]))
    if not whole:
        total = lambda value: sum(leaf.double().sum() for leaf in tree_leaves(run(value)) if leaf.is_floating_point())
        slope = torch.func.grad(total)(values[1].clone())
        assert slope.isfinite()
        assert (name, hyper) not in SOFT or slope != 0


@pytest.mark.sampled(11)
@every_feature
@every_model
def test_full_graph_equals_eager(name, model):
    *args, units = unit_world(model)
    traced = torch.compile(call(name, units), fullgraph=True, backend="aot_eager")(*args, key=KEY)
    same(traced, call(name, units)(*args, key=KEY))


@every_feature
def test_order_and_nesting_of_leaves_do_not_matter(name):
    *args, units = unit_world("mlp")
    plain = call(name, units)(*args, key=KEY)
    turn = lambda tree: dict(reversed(tree.items()))
    for there, back in ((turn, lambda tree: {n: tree[n] for n in args[0]}), (nest, unnest)):
        same(swapped(call(name, units)(*swapped(args, there), key=KEY), back), plain)


@every_feature
def test_chain_is_associative_and_has_a_neutral_element(name):
    *args, units = unit_world("mlp")
    feature, other = call(name, units), funcbio.volume_dependent_lr
    expected = chain(feature, other, feature)(*args, key=KEY)
    same(chain(chain(feature, other), feature)(*args, key=KEY), expected)
    same(chain(feature, chain(other, feature))(*args, key=KEY), expected)
    same(chain(feature, chain())(*args, key=KEY), feature(*args, key=KEY))


@every_feature
def test_the_empty_tree_passes(name):
    _, _, _, units = unit_world("mlp")
    keep = sorted({one for one in funcbio.mechanisms.ROWS if funcbio.mechanisms.ROWS[one].by_unit})
    state = init({}, key=KEY, keep=keep, units=units)._replace(updates=torch.tensor(0))
    for table in (units, Units()):
        params, grads, after = call(name, table)({}, {}, state, key=KEY)
        assert (params, grads, after.replaced) == ({}, {}, {})


@every_feature
def test_what_is_missing_is_refused(name):
    params, grads, state, units = unit_world("mlp")
    fewer = {n: leaf for n, leaf in params.items() if n != "0.weight"}
    with pytest.raises(ValueError, match="grads should be a tree of the structure of params"):
        call(name, units)(params, fewer, state, key=KEY)
    with pytest.raises(ValueError, match="start should be a tree of the structure of params"):
        call(name, units)(params, grads, state._replace(start=fewer), key=KEY)
    with pytest.raises(ValueError, match="units should be a table of the model's units"):
        call(name, None)(params, grads, state, key=KEY)
    with pytest.raises(ValueError, match=r"state.start should be kept"):
        call(name, units)(params, grads, state._replace(start=()), key=KEY)
    with pytest.raises(ValueError, match="key should be a key"):
        call(name, units)(params, grads, state, key=None)
    if "regrama" not in name:
        with pytest.raises(ValueError, match=r"state.units should hold .* of '0.weight'"):
            call(name, units)(params, grads, state._replace(units={}), key=KEY)


@every_feature
def test_the_signature_is_the_contract(name):
    feature = UNIT_FEATURES[name][0]
    parameters = inspect.signature(getattr(feature, "func", feature)).parameters.values()
    assert [p.name for p in parameters][:5] == ["params", "grads", "state", "key", "units"]
    for p in parameters:
        assert p.kind is (p.POSITIONAL_ONLY if p.name in ("params", "grads", "state") else p.KEYWORD_ONLY)
        assert p.name in ("params", "grads", "state") or p.default is not p.empty


@every_feature
@every_model
def test_signs_of_dale_and_connections_that_do_not_exist_stay(name, model):
    params, grads, state, units = unit_world(model, keep=["mask"])
    params = {n: p.copysign(state.sign[n]) if state.sign[n].ndim else p for n, p in params.items()}
    params = {n: p * state.mask[n] if state.mask[n].ndim else p for n, p in params.items()}
    new, _, after = call(name, units)(params, grads, state, key=KEY)
    masked = [n for n in params if state.mask[n].ndim and not state.mask[n].all()]
    signed = [n for n in params if state.sign[n].ndim]
    assert masked
    assert signed
    for n in masked:
        assert (new[n][~state.mask[n]] == 0.0).all()
        assert not after.replaced[n][~state.mask[n]].any()
    for n in signed:
        assert (new[n] * state.sign[n].expand(new[n].shape) >= 0.0).all()


@every_feature
@every_model
def test_units_that_are_not_treated_stay(name, model):
    params, grads, state, units = unit_world(model)
    none = Units(
        tuple(
            one.mapped(lambda values: values & False if values.dtype is torch.bool else values)
            for one in units.populations
        )
    )
    same((call(name, none)(params, grads, state, key=KEY)[0],), (params,))
    # The weights behind the first units are not trained: nothing that belongs to those changes.
    following = units.populations[1].name
    start = {**state.start, following: torch.zeros(())}
    new = call(name, units)(params, grads, state._replace(start=start), key=KEY)[0]
    first = units.populations[0]
    for part in first.parts:
        if part.name in params:
            same((new[part.name],), (params[part.name],))
    same((new[following],), (params[following],))


@every_feature
def test_memory_layout_does_not_matter(name):
    *args, units = unit_world("cnn")
    turned = tree_map(lambda leaf: leaf.to(memory_format=torch.channels_last) if leaf.ndim == 4 else leaf, args)
    turned = tree_map(lambda leaf: leaf.T.contiguous().T if leaf.ndim == 2 else leaf, turned)
    same(call(name, units)(*turned, key=KEY), call(name, units)(*args, key=KEY))


def test_a_row_can_be_used_whose_fields_were_never_filled():
    """Before any forward pass signals are nan: then nothing is known of the units, and nothing happens to them."""
    params, grads, state, units = unit_world("mlp")
    unseen = {
        field: {n: v * torch.nan if "signal" in field else v for n, v in tree.items()}
        for field, tree in state.units.items()
    }
    state = state._replace(units=unseen)
    for name in ("redo", "continual_backprop contribution", "self_normalized_resets"):
        new, _, after = call(name, units, **({"maturity": 100} if "backprop" in name else {}))(
            params, grads, state, key=KEY
        )
        same((new,), (params,))
        for field in ("unit_age", "unit_utility", "unit_mean", "unit_silence"):
            same((after.units[field],), (state.units[field],))
