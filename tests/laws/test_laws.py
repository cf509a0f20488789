"""The laws every feature keeps. A new feature joins by one row in ``worlds.LAWFUL``."""

import inspect
from collections import OrderedDict, defaultdict
from functools import partial
from itertools import permutations
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optree import tree_leaves, tree_map, tree_structure
from worlds import LAWFUL, MODELS, TYPES, kept, marks, model_world, rounds_by_layout, world

import funcbio
from funcbio import BioConfig, BioState, Distribution, chain, fold_in, init, key, metrics, split
from funcbio.engine._options import OPTIONS

every_feature = pytest.mark.parametrize("name", LAWFUL)
every_model = pytest.mark.parametrize("model", MODELS)
every_type = pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
DECIDE = {(name, hyper) for name in LAWFUL for hyper in ("threshold", "drop", "fraction")} | {
    (name, "strength") for name in LAWFUL if name.startswith("rejuvenate")
}
SWEPT = [(name, hyper) for name, (_, hypers) in LAWFUL.items() for hyper in hypers]
KEY = key(42)


def bits(tree):
    """Leaves as bytes, so that NaN equals NaN and -0 differs from 0."""
    return [leaf.detach().contiguous().view(-1).view(torch.uint8) for leaf in tree_leaves(tree)]


def same(first, second):
    assert tree_structure(first) == tree_structure(second)
    for a, b in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
    assert all(torch.equal(a, b) for a, b in zip(bits(first), bits(second), strict=True))


def close(first, second, ulps=20):
    """The coarsest type decides: between the features of a chain, numbers may round to it on either side."""
    eps = max((torch.finfo(leaf.dtype).eps for leaf in tree_leaves(first) if leaf.is_floating_point()), default=0.0)
    for a, b in zip(tree_leaves(first), tree_leaves(second), strict=True):
        off = ulps * eps if a.is_floating_point() else 0.0
        torch.testing.assert_close(a, b, rtol=off, atol=off)


def equal(name):
    return close if rounds_by_layout(name) else same


def equal_sums(name):
    """Of products of large matrices, whose sums of hundreds of numbers round otherwise on several threads."""
    return partial(close, ulps=100) if rounds_by_layout(name) else same


def stacked(trees):
    return tree_map(lambda *leaves: torch.stack(leaves), *trees)


@every_feature
@every_model
def test_pure_and_repeatable(name, model):
    feature, _ = LAWFUL[name]
    args = model_world(model, keep=kept(name))
    before = tree_map(torch.clone, args)
    first = feature(*args, key=KEY)
    same(args, before)
    same(feature(*args, key=KEY), first)


@every_feature
@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_structure_shape_and_type_are_kept(name, model, dtype):
    args = model_world(model, dtype=dtype, keep=kept(name))
    result = LAWFUL[name][0](*args, key=KEY)
    assert tree_structure(result) == tree_structure(args)
    for before, after in zip(tree_leaves(args), tree_leaves(result), strict=True):
        assert (before.shape, before.dtype, before.device) == (after.shape, after.dtype, after.device)
        assert after.isfinite().all()


@pytest.mark.sampled(11)
@pytest.mark.parametrize("tile", [100, 1 << 17])
@every_feature
@every_model
@every_type
def test_tiles_equal_leaves(name, model, types, tile, monkeypatch):
    dtype, rate_dtype = types
    feature, args = LAWFUL[name][0], model_world(model, 1, dtype, rate_dtype=rate_dtype, keep=kept(name))
    before = tree_map(torch.clone, args)
    by_leaf = feature(*args, key=KEY)
    monkeypatch.setattr(OPTIONS, "tree_elements", 0)
    monkeypatch.setattr(OPTIONS, "tile_elements", tile)
    monkeypatch.setattr(OPTIONS, "launch_elements", tile)
    by_tile = feature(*args, key=KEY)
    same(by_tile, by_leaf)
    same(args, before)
    written = {leaf.data_ptr() for leaf in tree_leaves(args)} & {
        leaf.data_ptr()
        for old, leaf in zip(tree_leaves(args), tree_leaves(by_tile), strict=False)
        if leaf.shape == old.shape and not torch.equal(leaf, old)
    }
    assert not written - {0}  # What has changed lies in memory of its own.


@pytest.mark.sampled(11)
@every_feature
@every_model
@every_type
def test_vmap_equals_a_loop(name, model, types):
    dtype, rate_dtype = types
    worlds = [model_world(model, seed, dtype, rate_dtype=rate_dtype, keep=kept(name)) for seed in range(3)]
    keys = split(key(7), 3)
    call = lambda k, *args: LAWFUL[name][0](*args, key=k)
    together = torch.vmap(call)(keys, *stacked(worlds))
    equal(name)(together, stacked([call(k, *args) for k, args in zip(keys, worlds, strict=True)]))


@pytest.mark.sampled(8)
@every_feature
@every_type
def test_vmap_equals_a_loop_on_large_layers_and_any_number_of_threads(name, types):
    shapes, (dtype, rate_dtype) = {"a.weight": (130, 700), "b.weight": (7, 9)}, types
    tensors = [{n: torch.randn(shape) for n, shape in shapes.items()} for _ in range(3)]
    worlds = [
        world(params, seed, dtype=dtype, rate_dtype=rate_dtype, keep=kept(name)) for seed, params in enumerate(tensors)
    ]
    keys, call = split(key(7), 3), lambda k, *args: LAWFUL[name][0](*args, key=k)
    loop = stacked([call(k, *args) for k, args in zip(keys, worlds, strict=True)])
    torch.set_num_threads(2)
    equal_sums(name)(torch.vmap(call)(keys, *stacked(worlds)), loop)
    equal_sums(name)(stacked([call(k, *args) for k, args in zip(keys, worlds, strict=True)]), loop)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "hyper"), SWEPT)
@every_type
def test_vmap_and_grad_reach_every_hyper_parameter(name, hyper, types):
    feature, hypers = LAWFUL[name]
    params, grads, state = model_world("mlp", dtype=types[0], rate_dtype=types[1], keep=kept(name))
    shaking = state._replace(updates=torch.tensor(9)) if name == "update temporal" else state
    args = params, grads, shaking

    def call(value):
        return feature(*args, key=KEY, **{**hypers, hyper: value})

    for kind in (torch.float32, torch.float64, types[0]):
        factors = [1.0, 1.1, 1.5] if hyper == "maximum" else [0.5, 1.0, 1.1]  # It stays above the minimum.
        values = (torch.tensor(factors) * hypers[hyper]).to(kind)
        together = torch.vmap(call)(values)
        equal(name)(together, stacked([call(value) for value in values]))
        equal(name)(together, stacked([call(value.item()) for value in values]))

    def total(value):
        return sum(leaf.double().sum() for leaf in tree_leaves(call(value)) if leaf.is_floating_point())

    slope = torch.func.grad(total)(torch.tensor(hypers[hyper]))
    assert slope.isfinite()
    if (name, hyper) not in DECIDE:  # These decide yes or no: the slope is zero almost everywhere.
        assert slope != 0


@pytest.mark.sampled(22)
@every_feature
@every_type
def test_full_graph_equals_eager(name, types):
    shapes = {"a": (4, 3, 3, 3), "b": (5, 4), "c": (5,)}  # Compiling a whole model takes three times as long.
    params = {name: torch.randn(shape) for name, shape in shapes.items()}
    args = world(params, 0, dtype=types[0], rate_dtype=types[1], keep=kept(name))
    traced = torch.compile(LAWFUL[name][0], fullgraph=True, backend="aot_eager")(*args, key=KEY)
    same(traced, LAWFUL[name][0](*args, key=KEY))


@pytest.mark.slow
@every_feature
def test_compiled_equals_eager(name):
    args = model_world("mlp", keep=kept(name))
    compiled = torch.compile(LAWFUL[name][0], fullgraph=True)(*args, key=KEY)
    for a, b in zip(tree_leaves(compiled), tree_leaves(LAWFUL[name][0](*args, key=KEY)), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)


@every_feature
def test_leaf_order_and_container_do_not_matter(name):
    feature, _ = LAWFUL[name]
    params, grads, state = model_world("mlp", keep=kept(name))

    def shaped(make, back):
        names = trees_in(state)
        moved = [make(tree) for tree in (params, grads, *(getattr(state, field) for field in names))]
        result = feature(*moved[:2], state._replace(**dict(zip(names, moved[2:], strict=True))), key=KEY)
        return [back(tree) for tree in (*result[:2], *(getattr(result[2], field) for field in names))]

    plain = shaped(lambda tree: tree, lambda tree: tree)
    turned = shaped(lambda tree: OrderedDict(reversed(tree.items())), dict)
    nested = shaped(nest, unnest)
    for name_ in params:
        for a, b, c in zip(plain, turned, nested, strict=True):
            same((a[name_], a[name_]), (b[name_], c[name_]))


def trees_in(state):
    """Names of the fields that are trees like the parameters, and there."""
    return [field for field in state._fields if field not in ("updates", "calls") and getattr(state, field) != ()]


def nest(flat):
    result = {}
    for path, leaf in flat.items():
        layer, kind = path.split(".")
        result.setdefault(layer, {})[kind] = leaf
    return result


def unnest(deep):
    return {f"{layer}.{kind}": leaf for layer, kinds in deep.items() for kind, leaf in kinds.items()}


def ordered(tree):
    return OrderedDict(reversed(tree.items()))  # Of another order too, as a ``state_dict`` may be.


def with_defaults(tree):
    return defaultdict(list, tree)


@pytest.mark.parametrize("kinds", [*permutations([dict, ordered, with_defaults])])
@every_feature
def test_kinds_of_dictionaries_fit_together_and_come_back_as_they_came(name, kinds):
    feature, (params, grads, state) = LAWFUL[name][0], model_world("cnn", keep=kept(name))
    expected = feature(params, grads, state, key=KEY)
    of_params, of_grads, of_state = kinds
    mixed = type(state)(*(of_state(tree) if isinstance(tree, dict) else tree for tree in state))
    found = feature(of_params(params), of_grads(grads), mixed, key=KEY)
    for made, was in zip((*found[:2], *found[2]), (of_params(params), of_grads(grads), *mixed), strict=True):
        assert type(made) is type(was)
    for made, should in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        if isinstance(should, dict):
            assert made.keys() == should.keys()
            same([made[n] for n in should], [should[n] for n in should])
    measured = metrics(*found)
    for layer, entries in metrics(*expected).items():
        if layer != "all":  # Pooled in the order of params, to rounding.
            same(measured[layer], entries)


def test_dictionaries_within_other_containers_fit_together_too():
    params, grads, state = model_world("mlp")
    deep = lambda tree, kind: [kind({"z": tree["0.weight"], "b": tree["2.weight"]}), (tree["4.weight"],)]
    inner = {field: deep(getattr(state, field), ordered) for field in ("rate", "sign", "activity", "replaced")}
    mixed = funcbio.crystallize(deep(params, dict), deep(grads, with_defaults), state._replace(**inner))[2].rate
    alone = funcbio.crystallize(deep(params, dict), deep(grads, dict), BioState(deep(state.rate, dict)))[2].rate
    assert [*mixed[0]] == ["b", "z"]
    same((mixed[0]["z"], mixed[0]["b"], mixed[1]), (alone[0]["z"], alone[0]["b"], alone[1]))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda tree: {n: leaf for n, leaf in tree.items() if n != "0.bias"}, "no leaf '0.bias'"),
        (lambda tree: {**tree, "x": tree["0.bias"]}, "a further leaf 'x'"),
        (lambda tree: [*tree.values()], "no leaf '0.bias'"),
        (MappingProxyType, "mappingproxy, a single leaf"),
    ],
)
def test_the_message_says_what_differs(wrong, found):
    params, grads, state = model_world("mlp")
    with pytest.raises(ValueError, match=f"grads should be a tree of the structure of params; found {found}"):
        funcbio.crystallize(params, wrong(grads), state)
    with pytest.raises(ValueError, match=r"structure of params; found|params should be a tree"):
        funcbio.crystallize(wrong(params), grads, state)
    if wrong is MappingProxyType:
        with pytest.raises(ValueError, match="params should be a tree of tensors; found mappingproxy"):
            init(wrong(params), key=KEY)


@every_feature
@every_type
def test_memory_layout_does_not_matter(name, types):
    args = model_world("cnn", dtype=types[0], rate_dtype=types[1], keep=kept(name))
    turned = tree_map(lambda leaf: leaf.to(memory_format=torch.channels_last) if leaf.ndim == 4 else leaf, args)
    turned = tree_map(lambda leaf: leaf.T.contiguous().T if leaf.ndim == 2 else leaf, turned)
    same(LAWFUL[name][0](*turned, key=KEY), LAWFUL[name][0](*args, key=KEY))


@every_feature
@every_type
def test_other_leaves_do_not_matter(name, types):
    feature, _ = LAWFUL[name]
    params, grads, state = model_world("mlp", dtype=types[0], rate_dtype=types[1], keep=kept(name))
    only = lambda tree: {"2.weight": tree["2.weight"]}
    if "upgd" in name or "neighbours" in name:
        pytest.skip("it compares utilities with the largest one of the model")
    names = trees_in(state)
    alone = state._replace(**{field: only(getattr(state, field)) for field in names})
    few = feature(only(params), only(grads), alone, key=KEY)
    all_of_them = feature(params, grads, state, key=KEY)
    pairs = [*zip(few[:2], all_of_them[:2], strict=True)]
    for a, b in [*pairs, *((getattr(few[2], field), getattr(all_of_them[2], field)) for field in names)]:
        same(a, only(b))


@every_feature
def test_leaves_that_are_no_synapses_are_left_alone(name):
    params, grads, state = model_world("cnn", keep=kept(name))
    new_params, new_grads, new_state = LAWFUL[name][0](params, grads, state, key=KEY)
    if not any(getattr(state, field) for field in marks(name)):
        return  # It acts on every parameter.
    marked = {n for field in marks(name) for n, leaf in getattr(state, field).items() if leaf.ndim > 0}
    exempt = [n for n in params if n not in marked]
    assert "features.1.weight" in exempt or marks(name) & {"utility", "tortoise"}
    for n in exempt:
        same((new_params[n], new_grads[n], new_state.rate[n]), (params[n], grads[n], state.rate[n]))


@every_feature
def test_the_empty_tree_passes(name):
    state = init({}, key=KEY, keep=kept(name))._replace(updates=torch.tensor(0))
    params, grads, after = LAWFUL[name][0]({}, {}, state, key=KEY)
    assert (params, grads, after.rate) == ({}, {}, {})


@every_feature
def test_mismatched_trees_are_refused(name):
    params, grads, state = model_world("mlp", keep=kept(name))
    fewer = {n: leaf for n, leaf in params.items() if n != "0.weight"}
    less = lambda tree: {n: leaf for n, leaf in tree.items() if n != "0.weight"}
    wrong = state._replace(**{field: less(getattr(state, field)) for field in trees_in(state)})
    with pytest.raises(ValueError, match="grads should be a tree of the structure of params"):
        LAWFUL[name][0](params, fewer, state, key=KEY)
    if not marks(name):
        return  # It reads nothing but weights and updates.
    with pytest.raises(ValueError, match=r"\w+ should be a tree of the structure of params"):
        LAWFUL[name][0](params, grads, wrong, key=KEY)


@pytest.mark.parametrize("name", [name for name in LAWFUL if "chain" not in name])
def test_the_signature_is_the_contract(name):
    feature = LAWFUL[name][0]
    feature = feature.func if isinstance(feature, partial) else feature
    parameters = inspect.signature(feature).parameters.values()
    assert [p.name for p in parameters][:3] == ["params", "grads", "state"]
    for p in parameters:
        if p.name in ("params", "grads", "state"):
            assert p.kind is p.POSITIONAL_ONLY
        else:
            assert p.kind is p.KEYWORD_ONLY
            assert p.default is not p.empty


@every_feature
def test_chain_is_associative_and_has_a_neutral_element(name):
    feature, args = LAWFUL[name][0], model_world("mlp", keep=kept(name))
    other = funcbio.volume_dependent_lr
    expected = chain(feature, other, feature)(*args, key=KEY)
    same(chain(chain(feature, other), feature)(*args, key=KEY), expected)
    same(chain(feature, chain(other, feature))(*args, key=KEY), expected)
    same(chain(feature, chain())(*args, key=KEY), feature(*args, key=KEY))
    assert all(a is b for a, b in zip(chain()(*args), args, strict=True))


def test_leaving_a_feature_out_does_not_change_the_draws_of_the_others():
    args = model_world("mlp")
    both = chain(funcbio.rejuvenate_weights, funcbio.volume_dependent_lr)(*args, key=KEY)
    one = funcbio.rejuvenate_weights(*args, key=KEY)
    same(both[0], one[0])


shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)
trees = st.recursive(
    shapes.map(torch.zeros),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@every_feature
@given(tree=trees, seed=st.integers(0, 2**62))
def test_any_tree_goes_through(name, tree, seed):
    args = world(tree, seed, keep=kept(name))
    result = LAWFUL[name][0](*args, key=key(seed))
    assert tree_structure(result) == tree_structure(args)
    for before, after in zip(tree_leaves(args), tree_leaves(result), strict=True):
        assert before.shape == after.shape
        assert after.isfinite().all()


every_distribution = pytest.mark.parametrize("distribution", list(Distribution))


@pytest.mark.sampled(7)
@every_distribution
@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_init_under_vmap_equals_a_loop(distribution, model, dtype):
    torch.manual_seed(0)
    net = MODELS[model][0]().to(dtype)
    params = {n: p.detach() for n, p in net.named_parameters()}
    config = BioConfig(fuzzy_lr_distribution=distribution, apply_dales_principle=True)
    described = funcbio.synapses(net)
    work = torch.promote_types(dtype, torch.float32)  # Torch multiplies half precision otherwise under vmap.
    make = lambda k, factor: init(
        {n: (p.to(work) * factor.to(work)).to(dtype) for n, p in params.items()},
        key=k,
        config=config,
        synapses=described,
    )
    keys, factors = split(key(3), 3), torch.tensor([1.0, 0.3, 7.0])
    loop = stacked([make(k, factor) for k, factor in zip(keys, factors, strict=True)])
    same(torch.vmap(make)(keys, factors), loop)


@pytest.mark.sampled(7)
@every_distribution
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["nu", "minimum", "maximum", "depth"])
def test_rates_under_vmap_over_hyper_parameters_equal_a_loop(distribution, dtype, name):
    weight = torch.randn(9, 7).to(dtype)
    hyper = {"nu": 1.3, "minimum": 0.6, "maximum": 1.7, "depth": 0.4}
    make = lambda value: funcbio.sample_rates(KEY, weight, distribution=distribution.value, **{**hyper, name: value})
    for kind in (torch.float32, torch.float64, dtype):
        values = (torch.tensor([0.5, 1.0, 1.1]) * hyper[name]).to(kind)
        same(torch.vmap(make)(values), torch.stack([make(value) for value in values]))
        same(torch.vmap(make)(values), torch.stack([make(value.item()) for value in values]))


@every_distribution
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rates_keep_type_and_limits(distribution, dtype):
    config = BioConfig(fuzzy_lr_distribution=distribution, fuzzy_learning_rate_factor_nu=0.9)
    params, _, state = model_world("cnn", dtype=dtype, config=config)
    for n, rate in state.rate.items():
        assert rate.dtype == params[n].dtype or rate.ndim == 0
        assert (rate >= 0.5).all()
        assert (rate <= 2.0).all()


@every_distribution
def test_rates_of_a_leaf_do_not_depend_on_other_leaves(distribution):
    config = BioConfig(fuzzy_lr_distribution=distribution)
    params = {"a": torch.ones(3, 3), "b": torch.rand(4, 5)}
    described = funcbio.synapses(torch.nn.Linear(5, 4))
    b = {"b": funcbio.Synapse("b", index=1, total=2)}
    both = init(params, key=KEY, config=config, synapses={"a": funcbio.Synapse("a", total=2), **b})
    same(init({"b": params["b"]}, key=KEY, config=config, synapses=b).rate["b"], both.rate["b"])
    assert described["weight"].total == 1


@pytest.mark.sampled(5)
@pytest.mark.filterwarnings("ignore:update_fuzzy_learning_rates should have rates:funcbio.IdleWarning")
@every_distribution
def test_a_step_of_every_distribution_compiles_whole(distribution):
    config = BioConfig(fuzzy_lr_distribution=distribution, fuzzy_lr_dynamic=True, record_activity=True)
    params, grads, state = model_world("mlp", config=config)
    bio = funcbio.bind(params, config)
    step = chain(bio.update_fuzzy_learning_rates, bio.fuzzy_learning_rates)
    same(
        torch.compile(step, fullgraph=True, backend="aot_eager")(params, grads, state, key=fold_in(KEY, 1)),
        step(params, grads, state, key=fold_in(KEY, 1)),
    )
