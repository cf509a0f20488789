"""The ends of every type: no NaN that was not there before, and hyper-parameters that are numbers or tensors alike."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from bad_inputs import results
from worlds import FEATURES, within_limits

import funcbio
from funcbio import BioConverter, BioState, key

KEY = key(5)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LIMITS = {
    "base_lr": [1e-300, 0.1, 1 - 1e-9],
    "dampening": [1e-300, 0.6, 1 - 1e-9],
    "decay": [1e-300, 0.9995, 1.0],
    "floor": [0.0, 1e-300, 0.8, 1e15],
    "gamma": [0.0, 1e-15, 0.3, 1.0, 2.0, 7.5, 1e15],
    "minimum": [0.0, 1e-300, 0.5],
    "maximum": [0.6, 2.0, 1e15],
}
POSITIVE = [1e-300, 1e-15, 0.3, 1.0, 8.0, 1e6, 1e15]


def ends(dtype):
    """Zero, the smallest, the largest and what is no number, with both signs."""
    limits = torch.finfo(dtype)
    positive = [0.0, limits.smallest_normal * 2.0**-3, limits.smallest_normal, 1.0, limits.max, math.inf]
    return torch.tensor([*positive, *(-number for number in positive), math.nan], dtype=torch.float64).to(dtype)


def trees(dtype, rate_dtype):
    """Every end beside every other, as weight, gradient and rate; and layers of which all weights are one of them."""
    weight, grad, rate = torch.cartesian_prod(ends(dtype).double(), ends(dtype).double(), ends(rate_dtype).double()).T
    rows = len(ends(dtype))
    columns = {"all": weight}
    columns |= {f"all {number:.2g} {i}": torch.full_like(weight, number) for i, number in enumerate(ends(dtype))}
    shaped = lambda values, kind: values.to(kind).view(rows, -1)
    counts = torch.tensor([0, 0, 1, 3, 10**6, 2**53, 2**62, 5, 0, 1, 1, 2, 7])[:rows].view(rows, 1)
    signs = torch.where(torch.arange(weight.numel() // rows) % 2 == 0, 1.0, -1.0).to(dtype).view(1, -1)
    params = {name: shaped(values, dtype) for name, values in columns.items()}
    grads = {name: shaped(grad, dtype) for name in columns}
    state = BioState(
        rate={name: shaped(rate, rate_dtype) for name in columns},
        sign=dict.fromkeys(columns, signs),
        activity={name: counts if number % 3 else 0 * counts for number, name in enumerate(columns, 1)},
        updates=torch.tensor(9),
    )
    return params, grads, state


def only_where(new, old):
    return not bool((new.isnan() & ~old.isnan()).any())


def check(args, result):
    params, grads, state = args
    for name, weight in params.items():
        for old, new in ((weight, result[0][name]), (grads[name], result[1][name])):
            assert new.dtype == old.dtype
            assert only_where(new, old), name
            infinite = (old.isinf() & ~new.isinf()).any() and new is result[1][name]
            assert not infinite, f"an overflowed gradient of {name} was hidden"
        assert only_where(result[2].rate[name], state.rate[name]), name
        assert weight.isinf().any() or not result[0][name].isinf().any(), name
        assert state.rate[name].isinf().any() or not result[2].rate[name].isinf().any(), name


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", [name for name in FEATURES if name != "a chain of them"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_feature_makes_nan(name, dtype):
    feature, hyper = FEATURES[name]
    for rate_dtype in (dtype, torch.float32):
        args = trees(dtype, rate_dtype)
        for one in hyper or ["none"]:
            for value in LIMITS.get(one, POSITIVE) if hyper else [0.0]:
                given = {**hyper, one: value} if hyper else {}
                if one == "maximum":
                    given["minimum"] = min(given["minimum"], 0.5 * value)
                result = feature(*args, key=KEY, **given)
                check(args, result)
                tensors = {n: torch.tensor(v, dtype=torch.float64) for n, v in given.items()}
                assert results(feature(*args, key=KEY, **tensors)) == results(result)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", [name for name, (_, hyper) in FEATURES.items() if hyper])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [*DTYPES, torch.int64], ids=str)
def test_a_tensor_acts_as_its_number_in_every_type(name, dtype, kind):
    feature, hyper = FEATURES[name]
    args = trees(dtype, dtype)
    compared = 0
    for one, value in product(hyper, [0.75, 1, 3]):
        tensor = torch.tensor(value).to(kind)
        given = {**hyper, one: tensor.item()}
        if within_limits(name, given):
            expected = results(feature(*args, key=KEY, **given))
            assert results(feature(*args, key=KEY, **{**given, one: tensor})) == expected
            compared += 1
    assert compared


METHODS = ["fuzzy_learning_rates", "volume_dependent_lr", "scale_grad"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(7, 5), (600, 300)], ids=str)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_that_have_overflowed_stay_infinite_through_every_method(dtype, size, compiled):
    options = {"record_activity": True, "fuzzy_lr_min": 0.0, "compile": compiled}
    model = BioConverter(**options)(torch.nn.Sequential(torch.nn.Linear(*size).to(dtype)))
    bio = model[0].bio_mod
    bio.activation_count.copy_(torch.arange(size[1]) % 3)
    bio.fuzzy_learning_rate_parameters.flatten()[::2] = 0.0
    for method in METHODS:
        for number in (math.inf, -math.inf, math.nan, 3.0):
            grad = torch.ones_like(model[0].weight)
            grad.flatten()[::3] = number
            model[0].weight.grad = grad.clone()
            getattr(bio, method)()  # A layer's own method looks at no gradients before.
            after = model[0].weight.grad
            assert torch.equal(after.isnan(), grad.isnan()), method
            assert torch.equal(after.isinf(), grad.isinf()), method
            assert torch.equal(after[after.isinf()], grad[grad.isinf()]), method


@pytest.mark.parametrize("layout", ["contiguous", "turned"])
def test_rates_that_are_infinite_leave_a_gradient_of_zero_as_it_is(layout):
    layer = BioConverter()(torch.nn.Linear(20, 30))
    layer.weight.grad = torch.zeros(30, 20) if layout == "contiguous" else torch.zeros(20, 30).T
    layer.bio_mod.fuzzy_learning_rate_parameters[3, 3] = math.inf
    layer.fuzzy_learning_rates()
    assert not layer.weight.grad.isnan().any()
    args = {"w": layer.weight.grad}, {"w": layer.weight.grad}
    state = BioState(rate={"w": layer.bio_mod.fuzzy_learning_rate_parameters})
    assert not torch.vmap(partial(funcbio.fuzzy_learning_rates, *args))(_doubled(state))[1]["w"].isnan().any()


def _doubled(state):
    return state._replace(rate={"w": torch.stack([state.rate["w"]] * 2)})
