"""Bad input, at scale: every outcome is a correct result, or one clear error before anything has changed."""

import dataclasses
import math
import re
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from bad_inputs import (
    CASES,
    DTYPES,
    LAYERS,
    NO_KEYS,
    NO_NUMBERS,
    NO_REALS,
    NO_TENSORS,
    SPECIAL,
    attempt,
    bits,
    everything,
    fill,
    kinds,
    laid_out,
    layer_specs,
    layouts,
    made,
    results,
    seeds,
    shapes,
)
from hypothesis import strategies as st
from optree import tree_leaves, tree_map
from torch import nn
from worlds import FEATURES, LAWFUL, kept

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, BioState, ConfigError, Distribution, init, key, sample_rates
from funcbio.base import KEPT

pytestmark = [  # Generated models often leave nothing to do.
    pytest.mark.filterwarnings("ignore::funcbio.IdleWarning"),
    pytest.mark.filterwarnings("ignore:apply_dales_principle should find weights that are trained:UserWarning"),
]

every_feature = pytest.mark.parametrize("name", FEATURES)
at_length = pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
KEY = key(42)
CLEAR = re.compile(r"\w.* (should|must) .*found", re.DOTALL)
DOCUMENTED = re.compile(
    "No gradients found for the weights|Weights do not require gradients|Can not enforce dales principle"
    r"|weight_splitting_Gamma .*must evenly divide the number of features"
)
METHODS = [*BioModule.exposed_functions]


@pytest.fixture(autouse=True)
def _counted(record_property):
    """Hands the number of cases to the summary; see conftest."""
    before = CASES.total()
    yield
    record_property("bad input cases", CASES.total() - before)


def refused(call, *errors, names=""):
    """The result of a call, or None if it raised one of ``errors``; anything else raised, or a vague one, fails."""
    try:
        return call()
    except errors as error:
        message = str(error)
    assert CLEAR.search(message) or DOCUMENTED.search(message), message
    assert names in message
    return None


# The pure functions: any numbers


def world(leaves, updates, seed):
    """Parameters, gradients and state of leaves with these shapes, types, numbers and layouts."""
    params, grads, state = {}, {}, {"rate": {}, "sign": {}, "activity": {}}
    for number, (shape, dtype, kind, grad_kind, layout, signed) in enumerate(leaves):
        name, seed = f"leaf{number}", seed + 10
        params[name] = laid_out(fill(shape, kind, dtype, seed), layout)
        grads[name] = laid_out(fill(shape, grad_kind, dtype, seed + 1), layout)
        synapse, along = len(shape) > 1, [1] * (len(shape) - 1)
        rate = fill(shape, SPECIAL[seed % len(SPECIAL)], dtype, seed + 2).abs()
        state["rate"][name] = laid_out(rate, layout) if synapse else torch.ones(())
        sign = fill((1, *shape[1:2], *along[1:]), "one", dtype, seed + 3)
        state["sign"][name] = sign if synapse and signed else torch.ones(())
        counts = fill((shape[0], *along), "usual", torch.float64, seed + 4).abs() * 10 ** (seed % 17)
        state["activity"][name] = counts.long() if synapse else torch.tensor(0)
    return params, grads, BioState(**state, updates=torch.tensor(updates))


dtypes = st.sampled_from(DTYPES)
leaves = st.lists(st.tuples(shapes, dtypes, kinds, kinds, layouts, st.booleans()), min_size=1, max_size=3)
worlds = st.builds(world, leaves, st.sampled_from([0, 9, 99, 999, 2**62]), seeds)
positive = [1e-300, 1e-15, 1e-6, 0.3, 1.0, 7, 1e6, 1e15]
LIMITS = {
    "base_lr": [1e-300, 0.1, 1 - 1e-9],
    "dampening": [1e-300, 0.6, 1 - 1e-9],
    "decay": [1e-300, 0.9995, 1.0],
    "floor": [0.0, 1e-300, 0.8, 1e15],
    "gamma": [0.0, *positive],
    "minimum": [0.0, 1e-300, 0.5],
    "maximum": [0.6, 2.0, 1e15],
}


def hyper_of(name):
    """Values at their limits for some of a feature's hyper-parameters, as numbers or as tensors."""
    options = {h: st.sampled_from(LIMITS.get(h, positive)) for h in FEATURES[name][1]}
    # Not rounded: 0 and 1 are out of some limits.
    wide = lambda v: torch.float32 if float(torch.tensor(float(v))) == v else torch.float64
    as_tensor = {h: s | s.map(lambda v: torch.tensor(float(v), dtype=wide(v))) for h, s in options.items()}
    return st.fixed_dictionaries({}, optional=as_tensor)


def contiguous(leaf):
    return leaf.clone(memory_format=torch.contiguous_format)


def finite(*tensors):
    return all(bool(t.isfinite().all()) for t in tensors)


@at_length
@every_feature
def test_any_numbers_in_any_layout(name, times):
    def any_numbers(args, hyper):
        before = bits(args)
        feature = partial(FEATURES[name][0], key=KEY, **hyper)
        result = feature(*args)
        assert bits(args) == before
        params, grads, state = args
        new_params, new_grads, new_state = result
        assert results(feature(*tree_map(contiguous, args))) == results(result)
        for n, weight in params.items():
            for old, new in ((weight, new_params[n]), (grads[n], new_grads[n]), (state.rate[n], new_state.rate[n])):
                assert (old.shape, old.dtype) == (new.shape, new.dtype)
            if finite(weight):
                assert finite(new_params[n])
            assert finite(new_state.rate[n])
            if finite(weight, grads[n]):
                assert not new_grads[n].isnan().any()
                # Only what the type cannot hold may become infinite.
                small = grads[n].abs().double() < torch.finfo(weight.dtype).max / largest_factor(args, n, hyper)
                assert new_grads[n][small].isfinite().all()
            if state.rate[n].ndim == 0:
                assert bits((new_params[n], new_grads[n])) == bits((weight, grads[n]))
            elif name in CORRECT:
                CORRECT[name](args, result, n, hyper)

    attempt(150 * times, any_numbers, worlds, hyper_of(name))


def largest_factor(args, n, hyper):
    """Bound on what any feature multiplies a gradient by."""
    volume = hyper.get("base_lr", 0.3) * (1 + 9 * hyper.get("variability", 0.4))
    rate = float(args[2].rate[n].double().amax()) if args[2].rate[n].numel() else 1.0
    return 2 * max(1.0, float(volume), float(hyper.get("maximum", 2.0)), rate, rate * float(volume))


def fuzzy_is_right(args, result, n, hyper):
    product = args[1][n].double() * args[2].rate[n].double()
    product = torch.where(product.isnan(), args[1][n].double(), product)  # An overflowed gradient stays infinite.
    assert torch.equal(result[1][n].nan_to_num(7.0), product.to(result[1][n].dtype).nan_to_num(7.0))


def crystallization_is_right(args, result, n, hyper):
    weight, grad, rate = (t.abs().double() for t in (args[0][n], args[1][n], args[2].rate[n]))
    if not finite(weight, grad) or "threshold" in hyper or args[0][n].dtype not in (torch.float32, torch.float64):
        return
    scale = weight.amax().clamp_min(1e-300) if weight.numel() else 1.0
    mean = (weight / scale).mean() * scale
    bound = 4.5e-5 * weight
    dampened = (grad < 0.99 * bound) | (grad > 1.01 * mean)
    kept = (grad > 1.01 * bound) & (grad < 0.99 * mean)
    dampening, floor = float(hyper.get("dampening", 0.6)), float(hyper.get("floor", 0.0))
    expected = (dampening * rate).clamp(floor, torch.finfo(args[0][n].dtype).max)
    new = result[2].rate[n]
    normal = dampening * rate > 10 * torch.finfo(new.dtype).smallest_normal
    torch.testing.assert_close(new[dampened & normal].double(), expected[dampened & normal], rtol=1e-5, atol=0)
    assert bits(new[kept]) == bits(args[2].rate[n][kept])


def regrowth_is_right(args, result, n, hyper):
    weight, new, replaced = args[0][n], result[0][n], result[2].replaced[n]
    if weight.numel() == 0:
        return
    assert bool(replaced[~weight.isfinite()].all())
    assert bits(new[~replaced]) == bits(weight[~replaced])
    assert finite(new)
    top = torch.where(weight.isfinite(), weight.abs(), 0).amax()
    assert bool((new[replaced].abs() <= top).all())
    sign = args[2].sign[n]
    if sign.ndim:
        assert bool((new * sign >= 0)[replaced].all())


def dale_is_right(args, result, n, hyper, *, given):
    weight, sign = args[0][n], args[2].sign[n]
    if not sign.ndim:
        assert bits(result[0][n]) == bits(weight)
    elif finite(weight):
        expected = weight.abs() * sign if given else sign * (sign * weight).clamp_min(0)
        assert torch.equal(result[0][n], expected)


def update_is_right(args, result, n, hyper):
    old, new = args[2].rate[n], result[2].rate[n]
    low, high = float(hyper.get("minimum", 0.5)), float(hyper.get("maximum", 2.0))
    within = (new.double() >= low * 0.99 - 1e-37) & (new.double() <= high * 1.01)
    assert bool((within | (new == old)).all())


def scaling_is_right(args, result, n, hyper):
    grad, count = args[1][n].double(), args[2].activity[n].double()
    if hyper or not grad.numel() or not finite(grad):
        return
    factor = (count.mean() / count).clamp(0.5, 2.0) if count.any() else torch.ones_like(count)
    expected = grad * factor
    normal = expected.abs() > 10 * torch.finfo(args[1][n].dtype).smallest_normal
    eps = max(torch.finfo(args[1][n].dtype).eps, torch.finfo(torch.float32).eps)  # Mean counts are in float32.
    close = (result[1][n].double() - expected).abs() <= 4 * eps * expected.abs() + 1e-5
    assert bool((close | ~normal | (expected.abs() > torch.finfo(args[1][n].dtype).max / 2)).all())


CORRECT = {
    "fuzzy_learning_rates": fuzzy_is_right,
    "crystallize": crystallization_is_right,
    "rejuvenate_weights lognormal": regrowth_is_right,
    "rejuvenate_weights uniform": regrowth_is_right,
    "apply_dales_principle": partial(dale_is_right, given=True),
    "enforce_dales_principle": partial(dale_is_right, given=False),
    "scale_grad": scaling_is_right,
    "update temporal": update_is_right,
    "update weight_adaptive": update_is_right,
    "update activity": update_is_right,
}


# The pure functions: what does not fit


def parts(params, grads, state):
    return {"params": params, "grads": grads, **state._asdict()}


def small_world(name="fuzzy_learning_rates"):
    specs = [(shape, torch.float32, "usual", "usual", "contiguous", True) for shape in ((2, 3), (3,), (4, 2, 3))]
    params, grads, state = world(specs, 9, 8)
    start = funcbio.init(params, key=KEY, keep=kept(name))
    return params, grads, state._replace(calls=start.calls, **{field: getattr(start, field) for field in KEPT})


TREES = ["params", "grads", "rate", "sign", "activity"]
WRONG_LEAVES = {
    **{f"no tensor {i}": (lambda leaf, v=v: v) for i, v in enumerate(NO_TENSORS)},
    **{f"of {dtype}": (lambda leaf, d=dtype: leaf.to(d)) for dtype in NO_REALS},
    "longer": lambda leaf: torch.cat((leaf, leaf)),
    "longer at the end": lambda leaf: torch.cat((leaf, leaf), -1),
    "with a dimension more": lambda leaf: leaf.unsqueeze(0),
    "with a dimension less": lambda leaf: leaf[0],
    "flat": lambda leaf: leaf.flatten(),
    "turned": lambda leaf: leaf.transpose(0, -1),
    "without elements": lambda leaf: leaf[:0],
    "on another device": lambda leaf: leaf.to("meta"),
}
WRONG_TREES = {
    "a leaf too few": lambda tree: {n: leaf for n, leaf in tree.items() if n != "leaf0"},
    "a leaf too many": lambda tree: {**tree, "more": torch.ones(2, 2)},
    "another name": lambda tree: {f"{n}!": leaf for n, leaf in tree.items()},
    "a list": lambda tree: list(tree.values()),
    "nested": lambda tree: {"tree": tree},
    "empty": lambda tree: (),
    "None": lambda tree: None,
}
NO_UPDATES = [(), None, 3, "x", torch.tensor(1.0), torch.zeros(2, dtype=torch.int64), torch.tensor(True)]


@st.composite
def misfits(draw, name):
    """One thing that does not fit: a name, and the parts, key and hyper-parameters with it in place."""
    hypers, given = LAWFUL[name][1], parts(*small_world(name))
    trees = [*TREES, *(field for field in KEPT if given[field] != ())]
    where = draw(st.sampled_from([*trees, *trees, *trees, "updates", "key", "hyper"]))
    if where == "key":
        return where, given, draw(st.sampled_from([*NO_KEYS, KEY.to("meta")])), {}
    if where == "updates":
        return where, {**given, "updates": draw(st.sampled_from(NO_UPDATES))}, KEY, {}
    if where == "hyper" and hypers:
        name = draw(st.sampled_from(sorted(hypers)))
        return name, given, KEY, {name: draw(st.sampled_from(NO_NUMBERS))}
    where = "params" if where == "hyper" else where
    if draw(st.integers(0, 3)) == 0:
        change = WRONG_TREES[draw(st.sampled_from(sorted(WRONG_TREES)))]
        return where, {**given, where: change(given[where])}, KEY, {}
    leaf, change = draw(st.sampled_from(["leaf0", "leaf2"])), WRONG_LEAVES[draw(st.sampled_from(sorted(WRONG_LEAVES)))]
    return where, {**given, where: {**given[where], leaf: change(given[where][leaf])}}, KEY, {}


@at_length
@pytest.mark.parametrize("name", LAWFUL)
def test_what_does_not_fit_is_named_or_not_read(name, times):
    refusals, right = set(), parts(*LAWFUL[name][0](*small_world(name), key=KEY))

    def does_not_fit(case):
        where, given, k, hyper = case
        before = bits(given)
        fields = {field: given[field] for field in BioState._fields}
        call = lambda: LAWFUL[name][0](given["params"], given["grads"], BioState(**fields), key=k, **hyper)
        result = refused(call, ValueError, names="should" if where == "params" else where)
        assert bits(given) == before
        if result is None:
            refusals.add(where)
            return
        # Not refused: then it made no difference, and what does not fit comes back as it is.
        got = parts(*result)
        if where in ("sign", "mask") and given[where] in ((), None):
            return  # No Dale signs, or every connection: that is allowed where they are not needed.
        if where in ("bound", "norm"):
            return  # One for every row is as good as one for all.
        if where in given:
            assert all(a is b for a, b in zip(tree_leaves(got[where]), tree_leaves(given[where]), strict=True)) or (
                bits(got[where]) == bits(given[where])
            )
        assert all(bits(got[part]) == bits(right[part]) for part in got if part != where)

    attempt(120 * times, does_not_fit, misfits(name))
    assert "params" in refusals or name.startswith("update")
    assert "grads" in refusals


# Keys, draws, rates


def odd(*good):
    """Mostly what an argument may be, sometimes what nothing should be."""
    strange = [
        "x",
        None,
        1.5,
        -1,
        2**70,
        [],
        (2, -1),
        (1.5,),
        math.nan,
        torch.ones(2),
        torch.int64,
        True,
        np.float64(2),
    ]
    return st.sampled_from([*good, *good, *strange])


some_keys = st.sampled_from([KEY] * 20 + NO_KEYS)
some_shapes = odd((), (0,), (3,), (2, 0), [2, 3], torch.Size([4, 1, 2]), (np.int64(3),), (2**20, 2**20))
some_dtypes = odd(*DTYPES)
some_numbers = odd(*positive, torch.tensor(0.3), torch.tensor(1e15))
SAMPLERS = {
    "uniform": (funcbio.uniform, {"low": some_numbers, "high": some_numbers, "dtype": some_dtypes}),
    "normal": (funcbio.normal, {"mean": some_numbers, "std": some_numbers, "dtype": some_dtypes}),
    "gamma": (funcbio.gamma, {"concentration": some_numbers, "dtype": some_dtypes}),
    "beta": (funcbio.beta, {"first": some_numbers, "second": some_numbers, "dtype": some_dtypes}),
    "bernoulli": (funcbio.bernoulli, {"probability": odd(0.0, 0.3, 1, torch.tensor(0.5), torch.ones(1, 2))}),
}
LEAST = {"gamma": ["concentration"], "beta": ["first", "second"]}


@at_length
@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_with_any_arguments(name, times):
    sampler, options = SAMPLERS[name]

    def any_arguments(k, arguments):
        if (
            all(isinstance(size, int) for size in arguments["shape"] or ())
            if isinstance(arguments["shape"], list | tuple)
            else False
        ):
            arguments = {**arguments, "shape": [min(size, 8) for size in arguments["shape"]]}
        before = bits(k)
        result = refused(lambda: sampler(k, **arguments), ValueError)
        assert bits(k) == before
        if result is None:
            return
        assert tuple(result.shape) == tuple(arguments["shape"])
        assert result.dtype == (torch.bool if name == "bernoulli" else arguments.get("dtype", torch.float32))
        numbers = [v for v in arguments.values() if isinstance(v, int | float | torch.Tensor)]
        largest = max((float(torch.as_tensor(v).max()) for v in numbers), default=0)
        if largest < 1e4 or name == "beta":
            assert result.isfinite().all()
        if name in LEAST:
            assert (result >= 0).all()

    least = {h: options[h] for h in LEAST.get(name, [])}
    rest = {h: s for h, s in options.items() if h not in least}
    rest |= {} if name == "bernoulli" else {"offset": odd(0, 1, 7, 2**20)}
    arguments = st.fixed_dictionaries({"shape": some_shapes, **least}, optional=rest)
    attempt(200 * times, any_arguments, some_keys, arguments)


@at_length
def test_keys_of_any_seed(times):
    values = [0, -1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**400, True, 1.0, "name", "", None, np.int64(3), [1]]
    values += [torch.tensor(5), torch.tensor(-1, dtype=torch.int8), torch.tensor(1.0), torch.ones(2).long(), 1j]

    def any_seed(k, seed, count):
        for make in (lambda: key(seed), lambda: funcbio.fold_in(k, seed), lambda: funcbio.split(k, count)):
            made_key = refused(make, ValueError)
            assert made_key is None or (made_key.dtype, made_key.shape[-1]) == (torch.int32, 2)

    attempt(150 * times, any_seed, some_keys, st.sampled_from(values), odd(0, 1, 2, 5))


@at_length
@pytest.mark.parametrize("distribution", list(Distribution))
def test_rates_of_any_weights(distribution, times):
    spreads = st.sampled_from([0.16, 1, *positive, *positive, *map(torch.tensor, (0.3, 1e6)), *NO_NUMBERS, 0, -1.0])
    limits = st.sampled_from([{}, {"minimum": 0.0, "maximum": 1e15}, {"maximum": math.nan}, {"minimum": "x"}])

    def any_weights(shape, dtype, kind, layout, seed, nu, limit, k):
        weight = laid_out(fill(shape, kind, dtype, seed), layout)
        before = bits(weight)
        draw = lambda w: sample_rates(k, w, distribution=distribution.value, nu=nu, depth=0.5, **limit)
        rates = refused(lambda: draw(weight), ValueError)
        assert bits(weight) == before
        if rates is None:
            return
        low, high = limit.get("minimum", 0.5), limit.get("maximum", 2.0)
        assert (rates.shape, rates.dtype) == (weight.shape, weight.dtype)
        assert bool(((rates >= low) & (rates <= high)).all())
        assert bits(draw(contiguous(weight))) == bits(rates)
        if nu in (1e-300, 1e-15):  # No spread at all; that of a gamma distribution is the root.
            spread = 1e-6 if distribution == "gamma" else 1e-14
            assert bool((rates.double() - 1).abs().le(spread + torch.finfo(dtype).eps).all())

    attempt(80 * times, any_weights, shapes, dtypes, kinds, layouts, seeds, spreads, limits, some_keys)


@at_length
def test_outputs_counted_and_split(times):
    dims = odd(0, 1, -1, -2, 3, -5)

    def any_output(shape, dtype, kind, layout, seed, dim, gamma, activation):
        output = laid_out(fill(shape, kind, dtype, seed), layout)
        before = bits(output)
        count = refused(lambda: funcbio.count_active(output, dim=dim), ValueError)
        split = refused(lambda: funcbio.split_output(output, gamma, dim=dim, activation=activation), ValueError)
        assert bits(output) == before
        if count is not None:
            assert (count.dtype, tuple(count.shape)) == (torch.int64, (output.shape[dim],))
            assert int(count.sum()) == int((output.abs() > 0.01).sum())
        if split is not None:
            assert (split.shape, split.dtype) == (output.shape, output.dtype)
            if kind in ("zero", "one") and activation is None and gamma > 1 and output.numel():
                units = output.double().movedim(dim, -1).reshape(-1, output.shape[dim])
                whole = [
                    [float(row[u - u % gamma : u - u % gamma + gamma].sum()) for u in range(len(row))] for row in units
                ]
                assert split.double().movedim(dim, -1).reshape(units.shape).tolist() == whole

    arguments = shapes, dtypes, kinds, layouts, seeds, dims, odd(0, 1, 2, 3, 5), odd(None, torch.relu)
    attempt(300 * times, any_output, *arguments)
    for value in NO_TENSORS:
        assert refused(lambda v=value: funcbio.count_active(v, dim=0), ValueError) is None
        assert refused(lambda v=value: funcbio.split_output(v, 2), ValueError) is None


@at_length
def test_states_of_any_tree(times):
    def any_tree(leaves, seed, k, broken, config, choice):
        params = world(leaves, 0, seed)[0]
        if broken is not None:
            params["leaf0"] = broken
        before = bits(params)
        state = refused(lambda: init(params, key=k, config=config, synapses=choice), ValueError)
        assert bits(params) == before
        if state is not None:
            for n, weight in params.items():
                synapse = weight.ndim > 1 if choice is None else n in choice
                assert state.rate[n].shape == (weight.shape if synapse else ())
                assert finite(state.rate[n])

    synapse = {"leaf0": funcbio.Synapse("leaf0")}
    bad = [None] * 8 + NO_TENSORS + [torch.ones(2, 2, dtype=dtype) for dtype in NO_REALS]
    choices = st.sampled_from([None, None, None, synapse, {"other": funcbio.Synapse("other")}])
    configs = st.sampled_from([BioConfig(), BioConfig(apply_dales_principle=True, record_activity=True), None, "x", {}])
    attempt(300 * times, any_tree, leaves, seeds, some_keys, st.sampled_from(bad), configs, choices)


# The configuration

NUMBERS = [*positive, 0, -0.0, -1e-9, 0.5, 1, 1 - 1e-16, 1 + 1e-9, 2, 1e15, 1.1e15, 10**400, -(10**400), 2**63]
NUMBERS += [np.float32(0.25), np.float64(0.25), np.int64(2), Fraction(1, 4), Fraction(10**400), math.nan, math.inf]
WORDS = ["uniform", "lognormal", "default", "0.0.5", "activity", Distribution.TEMPORAL, "", "true", b"uniform"]
WORDS += [
    "swr",
    "|g w|",
    "random",
    "threshold",
    "huber",
    "l1",
    "start",
    "scaled",
    "spread",
    "maximum",
    "local",
    "global",
]
WORDS += ["static", "gradient", "zero", "erdos_renyi"]
THINGS = [True, False, np.True_, None, torch.tensor(0.25), torch.ones(2), [0.25], {}, 1j, torch.relu, nn.ReLU(), int]
REASONABLE = {
    "fuzzy_lr_distribution": lambda v: isinstance(v, str) and v in list(Distribution),
    "rejuvenation_variant": lambda v: isinstance(v, str) and v in ("lognormal", "uniform", "0.0.5", "swr"),
    "rejuvenation_utility": lambda v: isinstance(v, str) and v in ("default", "|w|", "|g w|", "random"),
    "rejuvenation_rule": lambda v: isinstance(v, str) and v in ("default", "probability", "threshold", "proportional"),
    "l2_init_penalty": lambda v: isinstance(v, str) and v in ("l2", "l1", "huber"),
    "shrink_and_perturb_noise": lambda v: isinstance(v, str) and v in ("init", "start", "normal", "scaled"),
    "clip_weights_bound": lambda v: isinstance(v, str) and v in ("fan_in", "spread", "maximum"),
    "upgd_scope": lambda v: isinstance(v, str) and v in ("global", "local"),
    "prune_and_regrow_grow": lambda v: isinstance(v, str) and v in ("random", "gradient", "static"),
    "prune_and_regrow_newborn": lambda v: isinstance(v, str) and v in ("zero", "start"),
    "density_law": lambda v: isinstance(v, str) and v in ("uniform", "erdos_renyi", "erdos_renyi_kernel"),
    "fuzzy_lr_variant": lambda v: isinstance(v, str) and v in ("default", "0.0.5"),
    "dales_variant": lambda v: isinstance(v, str) and v in ("default", "0.0.5"),
    "weight_splitting_activation_function": callable,
}
WHOLE = {"weight_splitting_Gamma": 0, "fuzzy_lr_update_freq": 1, "fuzzy_lr_layer_index": -1e15}
WHOLE |= {"fuzzy_lr_total_layers": -1e15, "spectral_regularization_power": 1, "fire_iterations": 0}
WHOLE |= {"prune_and_regrow_until": 0, "hare_and_tortoise_every": 1, "dash_every": 1}
FLAGS = ["apply_dales_principle", "fuzzy_lr_dynamic", "record_activity", "upgd_protect", "treat_norms"]
RANGES = {"dampening_factor": "()1", "base_lr": "()1", "fuzzy_lr_decay": "(]1", "dales_excitatory_fraction": "[]1"}
NOT_NEGATIVE = [
    "l2_init_strength",
    "shrink_and_perturb_shrink",
    "shrink_and_perturb_perturb",
    "upgd_sigma",
    "upgd_decay",
]
NOT_NEGATIVE += ["spectral_regularization_strength", "parseval_strength"]
SHARES = ["rejuvenation_fraction", "upgd_beta", "prune_and_regrow_drop", "density", "hare_and_tortoise_momentum"]
RANGES |= dict.fromkeys(NOT_NEGATIVE, "[]inf") | dict.fromkeys([*SHARES, "dash_alpha", "dash_floor"], "[]1")
RANGES |= {"fuzzy_lr_min": "[]2", "crystallization_floor": "[]inf", "scaling_gamma": "[]inf", "fuzzy_lr_max": "(]inf"}
# Those of mechanisms on units.
WORDS += ["keep", "contribution", "adaptation", "weight"]
OF_UNITS = ("contribution", "zero_contribution", "adaptable_contribution", "feature_by_input")
OF_UNITS += ("weight", "adaptation", "random")
REASONABLE |= {"continual_backprop_utility": lambda v: isinstance(v, str) and v in OF_UNITS}
RESETS = ("redo", "continual_backprop", "self_normalized_resets", "regrama")
REASONABLE |= {f"{name}_outgoing": lambda v: isinstance(v, str) and v in ("zero", "keep", "start") for name in RESETS}
WHOLE |= {f"{name}_every": 1 for name in ("redo", "self_normalized_resets", "regrama", "calibrated_partial_resets")}
WHOLE |= {f"self_normalized_resets_{name}": 1 for name in ("patience", "minimum", "maximum")}
WHOLE |= {"continual_backprop_maturity": 0}
FLAGS += ["dales_balance", "continual_backprop_accumulate", "continual_backprop_correct_bias"]
RANGES |= {f"{name}_threshold": "[]inf" for name in ("redo", "regrama", "calibrated_partial_resets")}
RANGES |= {"self_normalized_resets_silent": "[]inf", "calibrated_partial_resets_sharpness": "[]inf"}
RANGES |= {f"{name}_replacement_rate": "[]1" for name in ("continual_backprop", "calibrated_partial_resets")}
RANGES |= {"continual_backprop_decay": "[)1", "calibrated_partial_resets_decay": "[]1"}
RANGES |= {"self_normalized_resets_percentile": "()1"}


def allowed(field, value):
    """Whether the documentation allows a value, decided apart from the library."""
    if field in REASONABLE:
        return REASONABLE[field](value)
    if field in FLAGS:
        return value is True or value is False
    number = isinstance(value, int | float | Fraction | np.integer | np.floating) and not isinstance(value, bool)
    if not number or value != value or abs(value) > 1e15:
        return False
    if field in WHOLE:
        return isinstance(value, int | np.integer) and value >= WHOLE[field]
    if field == "fuzzy_lr_min":
        return 0 <= value < 2
    if field == "fuzzy_lr_max":
        return value > 0.5
    (opens, closes), top = RANGES.get(field, "(]inf")[:2], float(RANGES.get(field, "(]inf")[2:])
    return (value > 0 or (value == 0 and opens == "[")) and (value < top or (value == top and closes == "]"))


FIELDS = [field.name for field in dataclasses.fields(BioConfig)]


@at_length
def test_every_field_at_its_limits_and_beyond(times):
    def any_value(field, value, by):
        converter = BioConverter()
        make = {
            "config": lambda: BioConfig(**{field: value}),
            "replace": lambda: BioConfig().replace(**{field: value}),
            "override": lambda: BioConverter(**{field: value}).get_config(),
            "from_dict": lambda: BioConverter.from_dict({field: value}).get_config(),
            "update": lambda: converter.update_config(**{field: value}) or converter.get_config(),
        }[by]
        config = refused(make, ConfigError, names="fuzzy_lr" if field.startswith("fuzzy_lr_m") else field)
        assert (config is not None) == allowed(field, value)
        if config is None:
            assert converter.get_config() == BioConfig()
        elif field not in REASONABLE:
            assert type(getattr(config, field)) in (int, float, bool)
            assert getattr(config, field) == value

    ways = st.sampled_from(["config", "replace", "override", "from_dict", "update"])
    attempt(
        1200 * times, any_value, st.sampled_from(FIELDS), st.sampled_from([*NUMBERS, *NUMBERS, *WORDS, *THINGS]), ways
    )


@pytest.mark.parametrize("wrong", [{}, "x", 3, BioConfig, nn.Linear(1, 1)])
def test_what_is_no_configuration_is_refused(wrong):
    assert refused(lambda: BioConverter(wrong), TypeError, names="config") is None
    assert wrong == {} or refused(lambda: BioConverter.from_dict(wrong), TypeError, names="config_dict") is None
    assert refused(lambda: BioConverter.from_dict({1: 2}), ConfigError) is None


# Converted models

GOOD = {field: [value for value in [*NUMBERS, *WORDS, True, False] if allowed(field, value)] for field in FIELDS}
GOOD["weight_splitting_activation_function"] = [torch.relu, torch.tanh]
GOOD["weight_splitting_Gamma"] = [0, 1, 2, 2, 3, 10**14]
FULL = {"apply_dales_principle": True, "record_activity": True, "fuzzy_lr_dynamic": True, "fuzzy_lr_update_freq": 1}
anything = st.fixed_dictionaries({}, optional={field: st.sampled_from(values) for field, values in GOOD.items()})
moving = st.sampled_from(["temporal", "weight_adaptive", "activity"]).map(
    lambda d: {**FULL, "fuzzy_lr_distribution": d}
)
configs = anything | moving | st.tuples(anything, moving).map(lambda pair: {**pair[0], **pair[1]})
CHOICES = [
    None,
    None,
    None,
    "*",
    "*weight*",
    ["0.*"],
    lambda name, module: "hh" in name,
    5,
    [3],
    "",
    {"x"},
    torch.ones(2),
]


def bio_mods(model):
    return [module for module in model.modules() if isinstance(module, BioModule)]


@at_length
def test_models_of_any_layers_through_every_method(times):
    def any_model(specs, dtype, config, choice, methods):
        model = made(specs, dtype)
        converter = refused(lambda: BioConverter(synapses=choice, **config), ConfigError)
        if converter is None:  # A smallest rate over the largest.
            return
        before = everything(model)
        if refused(lambda: converter(model), ValueError) is None:
            assert everything(model) == before
            return
        for bio in bio_mods(model):
            assert finite(bio.fuzzy_learning_rate_parameters)
            assert bio.fuzzy_learning_rate_parameters.shape == bio.weight.shape
            if bio.records_activity:
                bio.activation_count += torch.arange(bio.activation_count.numel()) ** 5
            bio.weight.data.neg_()
        for method in methods:
            checked_call(model, model, method)
        for bio in bio_mods(model)[:2]:
            checked_call(model, bio, methods[0])

    some_methods = st.lists(st.sampled_from(METHODS), min_size=1, max_size=4)
    lists = st.lists(layer_specs, min_size=1, max_size=3)
    attempt(400 * times, any_model, lists, dtypes, configs, st.sampled_from(CHOICES), some_methods)


def checked_call(model, owner, method):
    """Calls a method: finite stays finite, types stay, and a refusal comes before any change."""
    treated = {bio.synapse.weight for bio in bio_mods(model)}
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    before = everything(model)
    try:
        getattr(owner, method)()
    except (RuntimeError, AttributeError) as error:
        message = str(error)
        assert CLEAR.search(message) or DOCUMENTED.search(message) or "No activity recorded" in message, message
        assert everything(model) == before
        return
    for name, tensor in model.state_dict().items():
        old = state[name]
        assert (tensor.shape, tensor.dtype) == (old.shape, old.dtype)
        if name.endswith("fuzzy_learning_rate_parameters") or finite(old):
            assert finite(tensor), name
        if ".bio_mod." not in name and name not in treated:
            assert bits(tensor) == bits(old), name
    for name, parameter in model.named_parameters():
        if name in grads and finite(grads[name], state[name]):
            assert not parameter.grad.isnan().any()
            small = grads[name].abs().double() < torch.finfo(parameter.dtype).max / 1e17
            assert parameter.grad[small].isfinite().all()
            assert name in treated or bits(parameter.grad) == bits(grads[name])


class Parent(nn.Module):
    """Two layers, so that an error at the second would show a change at the first."""

    def __init__(self, kind):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = LAYERS[kind](2, 4, 3)


def replaced(change):
    """Puts another weight in the place of the second layer's."""

    def sabotage(layer):
        weight = change(layer.weight.detach())
        gradient = weight.is_floating_point() and weight.dtype.itemsize > 1
        layer.weight = nn.Parameter(weight, requires_grad=gradient)
        layer.weight.requires_grad or layer.weight.detach_()
        if gradient:
            layer.weight.grad = torch.ones_like(layer.weight)

    return sabotage


def assigned(name, change):
    def sabotage(layer):
        setattr(layer.bio_mod, name, change(getattr(layer.bio_mod, name)))

    return sabotage


def expanded_gradient(layer):
    layer.weight.grad = torch.ones(()).expand(layer.weight.shape)


def without_weight(layer):
    layer.weight = None


def of_other_type(layer):
    layer.weight = nn.Parameter(layer.weight.detach().double())
    layer.weight.grad = torch.ones_like(layer.weight)


SABOTAGE = {
    **{f"weight of {dtype}": replaced(lambda w, d=dtype: w.to(d)) for dtype in NO_REALS},
    "longer weight": replaced(lambda w: torch.cat((w, w))),
    "flat weight": replaced(lambda w: w.flatten()),
    "weight without elements": replaced(lambda w: w[:0]),
    "weight on another device": replaced(lambda w: w.to("meta")),
    "expanded weight": replaced(lambda w: w[:1].expand(w.shape)),
    "no weight": without_weight,
    "expanded gradient": expanded_gradient,
    "longer rates": assigned("fuzzy_learning_rate_parameters", lambda r: torch.cat((r, r))),
    "whole rates": assigned("fuzzy_learning_rate_parameters", lambda r: r.long()),
    "complex rates": assigned("fuzzy_learning_rate_parameters", lambda r: r.to(torch.complex64)),
    "rates on another device": assigned("fuzzy_learning_rate_parameters", lambda r: r.to("meta")),
    "longer signs": assigned("sign", lambda s: torch.cat((s, s))),
    "signs on another device": assigned("sign", lambda s: s.to("meta")),
    "longer counts": assigned("activation_count", lambda c: torch.cat((c, c))),
    "counts on another device": assigned("activation_count", lambda c: c.to("meta")),
    "no key": assigned("key", lambda k: k[:1]),
    "key of floats": assigned("key", lambda k: k.float()),
    "counts of updates": assigned("updates", lambda u: torch.ones(3)),
    "another type": of_other_type,
    "nothing": lambda layer: None,
}


@at_length
def test_models_broken_after_conversion(times):
    def any_sabotage(kind, sabotage, method):
        torch.manual_seed(0)
        model = Parent(kind)
        config = {"fuzzy_lr_distribution": "activity", "fuzzy_lr_dynamic": True, "apply_dales_principle": True}
        BioConverter.set_last_module_token_for_module(model.first)
        BioConverter(**config)(model)
        for bio in bio_mods(model):
            bio.activation_count += torch.arange(bio.activation_count.numel())
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        SABOTAGE[sabotage](model.second)
        before = everything(model)
        try:
            getattr(model, method)()
        except (RuntimeError, ValueError, AttributeError) as error:
            message = str(error)
            assert CLEAR.search(message), message
            assert sabotage not in ("nothing", "another type")
            assert everything(model) == before

    kinds = st.sampled_from(["Linear", "Conv1d", "ConvTranspose2d", "Conv3d", "grouped", "depthwise"])
    attempt(400 * times, any_sabotage, kinds, st.sampled_from(sorted(SABOTAGE)), st.sampled_from(METHODS))


@at_length
def test_an_input_that_fails_halfway_counts_nothing(times):
    inputs = ["x", None, 3, [], {}, torch.ones(3), torch.ones(2, 4), torch.ones(2, 5), torch.ones(2, 4).long()]
    inputs += [torch.ones(0, 4), torch.ones(2, 4).to("meta"), torch.full((2, 4), math.nan), torch.ones(2, 4).double()]

    def any_input(x, width, distribution):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(width, 2))
        BioConverter(fuzzy_lr_distribution=distribution, fuzzy_lr_dynamic=True, record_activity=True)(model)
        before = everything(model)
        try:
            model.update_fuzzy_learning_rates(x)
        except Exception:  # Whatever the model itself says of its input.
            assert everything(model) == before
        for bio in bio_mods(model):
            assert finite(bio.fuzzy_learning_rate_parameters)

    attempt(
        60 * times,
        any_input,
        st.sampled_from(inputs),
        st.sampled_from([3, 4]),
        st.sampled_from(["activity", "temporal"]),
    )
