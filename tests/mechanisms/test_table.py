"""The table of mechanisms: what a row says holds by every door."""

import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from worlds import model_world

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, ConfigError, Mechanism, attach, bind, chain, key
from funcbio._checks import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_NONE,
    FRACTION,
    FRACTION_OR_ONE,
    INTEGER,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
)
from funcbio.compat import release
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms import METHODS, ROWS, Row

OUT = {
    POSITIVE: (0, -1.0),
    NOT_NEGATIVE: (-0.1,),
    FRACTION: (0.0, 1.0, 2.0),
    FRACTION_OR_ONE: (0.0, 1.5),
    COUNT: (0, 2.5),
    COUNT_OR_NONE: (-1, 2.5),
    INTEGER: (2.5,),
    SHARE: (-0.1, 1.5),
    BELOW_ONE: (-0.1, 1.0),
}
LIMITED = [(name, keyword) for name, row in ROWS.items() for keyword in row.limits]


def refused(name, keyword, value):
    row = ROWS[name]
    params, grads, state = model_world("mlp", keep=[name, *row.keeps(BioConfig())])
    choice = {"distribution": "temporal", "dynamic": True} if name == "update_fuzzy_learning_rates" else {}
    with pytest.raises(ValueError, match=f"^{keyword} should be ") as caught:
        row.feature(params, grads, state, key=key(0), **choice, **{keyword: value})
    return str(caught.value)


@pytest.mark.parametrize(("name", "keyword"), LIMITED)
def test_functions_and_configurations_have_the_same_limits(name, keyword):
    row = ROWS[name]
    limit, field = row.limits[keyword], row.fields[keyword]
    for value in OUT[limit]:
        with pytest.raises(ConfigError, match=f"^{field} should be {re.escape(limit.should)}") as caught:
            BioConfig(**{field: value})
        assert refused(name, keyword, value).removeprefix(keyword) == str(caught.value).removeprefix(field)


@pytest.mark.parametrize(("name", "keyword"), LIMITED)
def test_tensors_have_the_limits_of_numbers_outside_of_transforms(name, keyword):
    limit = ROWS[name].limits[keyword]
    for value in (*OUT[limit], float("inf"), float("nan"), 1e16):
        assert limit.should in refused(name, keyword, torch.tensor(float(value)))
    assert limit.should in refused(name, keyword, torch.tensor(True))


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)])
def test_numbers_of_other_kinds_are_those_of_python(number):
    params, grads, state = model_world("mlp")
    for one in (0.5, torch.tensor(0.5, dtype=torch.float64)):
        expected = funcbio.crystallize(params, grads, state, dampening=one)[2].rate
        found = funcbio.crystallize(params, grads, state, dampening=number)[2].rate
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="every should be"):
        funcbio.update_fuzzy_learning_rates(
            params, grads, state, key=key(0), every=number, distribution="temporal", dynamic=True
        )


def test_a_count_may_be_a_tensor_of_any_type():
    params, grads, state = model_world("mlp")
    choice = {"distribution": "temporal", "dynamic": True}
    numbers = [2, np.int64(2), torch.tensor(2), torch.tensor(2.0), torch.tensor(2.0, dtype=torch.bfloat16)]
    rates = [
        funcbio.update_fuzzy_learning_rates(params, grads, state, key=key(0), every=every, **choice)[2].rate["0.weight"]
        for every in numbers
    ]
    assert all(torch.equal(rate, rates[0]) for rate in rates)


@pytest.mark.parametrize("name", ["scale_grad", "update_fuzzy_learning_rates"])
def test_the_clamp_is_in_order_by_every_door(name):
    assert "minimum should be less than maximum; found 2.0 and 1.0" in refused_clamp(name)
    with pytest.raises(ConfigError, match="fuzzy_lr_min should be less than fuzzy_lr_max"):
        BioConfig(fuzzy_lr_min=2.0, fuzzy_lr_max=1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_are_compared_by_what_they_hold(dtype):
    params, grads, state = model_world("mlp")
    least, most = torch.tensor(1.0466, dtype=dtype), torch.tensor(1.05, dtype=dtype)
    assert torch.tensor(1.05, dtype=torch.bfloat16) == torch.tensor(1.0466, dtype=torch.bfloat16)
    funcbio.scale_grad(params, grads, state, minimum=least, maximum=1.05)
    funcbio.scale_grad(params, grads, state, minimum=1.046, maximum=most)
    with pytest.raises(ValueError, match="minimum should be less than maximum"):
        funcbio.scale_grad(params, grads, state, minimum=least, maximum=1.0)


def refused_clamp(name):
    params, grads, state = model_world("mlp")
    with pytest.raises(ValueError, match="less than") as caught:
        ROWS[name].feature(params, grads, state, key=key(0), minimum=2.0, maximum=1.0)
    return str(caught.value)


def test_within_transforms_hyper_parameters_are_not_looked_at():
    params, grads, state = model_world("mlp")
    step = lambda dampening: funcbio.crystallize(params, grads, state, dampening=dampening)[2].rate["0.weight"]
    assert torch.vmap(step)(torch.tensor([0.5, 2.0])).shape == (2, 6, 5)


def test_a_bound_configuration_has_every_row_and_survives_pickling():
    net = nn.Linear(3, 2)
    bound = pickle.loads(pickle.dumps(bind(net, BioConfig(dampening_factor=0.5))))
    assert {*ROWS} <= {*dir(bound)}
    assert bound.crystallize.keywords["dampening"] == 0.5
    assert bound.rejuvenate_weights_old.keywords["variant"] == "uniform"
    with pytest.raises(AttributeError, match="'Bound' object has no attribute 'crystalize'"):
        _ = bound.crystalize


def halve(params, grads, state, /, *, key=None):
    return {name: weight / 2 for name, weight in params.items()}, grads, state


def test_a_new_row_is_known_by_every_door(monkeypatch):
    """What it takes is the row: no name is looked for anywhere else."""
    monkeypatch.setitem(ROWS, "halve", Row(halve, place="after"))
    monkeypatch.setattr(BioModule, "exposed_functions", (*METHODS, "halve", "l1_reg"))
    assert Mechanism("halve").where == "after"
    net = BioConverter()(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    before = [layer.weight.detach().clone() for layer in net]
    net.halve()
    net[0].bio_mod.halve()
    assert torch.equal(net[0].weight, before[0] / 4)
    assert torch.equal(net[1].weight, before[1] / 2)
    params = {"w": torch.ones(2)}
    assert torch.equal(chain(bind(params).halve)(params, params, None)[0]["w"], torch.ones(2) / 2)


def shrink_rule(weight, *, factor):
    return weight * factor


SHRINK = Kernel(shrink_rule, reads=("weight",), writes=("weight",), limits={"factor": POSITIVE})


def shrink(params, grads, state, /, *, key=None, factor=0.5):
    return run_kernel(SHRINK, params, grads, state, key=key, factor=factor)


def test_a_new_kernel_runs_by_every_door(monkeypatch):
    """Hyper-parameters that no field of the configuration sets have the defaults of the function."""
    monkeypatch.setitem(ROWS, "shrink", Row(shrink, SHRINK, place="after"))
    monkeypatch.setattr(BioModule, "exposed_functions", (*METHODS, "shrink", "l1_reg"))
    net = BioConverter()(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    before = net[0].weight.detach().clone()
    net.shrink()
    net[0].bio_mod.shrink()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    handle = attach(optimizer, net, ["shrink"])
    handle._cycle.begin()
    handle._cycle.end()
    assert torch.equal(net[0].weight, before / 8)
    params, grads, state = model_world("mlp")
    small = shrink(params, grads, state)[0]
    assert torch.equal(small["0.weight"], params["0.weight"] / 2)
    assert small["0.bias"] is params["0.bias"]


class Uniform(BioModule):
    rows = ROWS | {"rejuvenate_weights": ROWS["rejuvenate_weights_old"]}


class UniformConverter(BioConverter):
    bio_module_class = Uniform


def attached(model, name):
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    for weight in optimizer.param_groups[0]["params"]:
        weight.grad = torch.zeros_like(weight)
    attach(optimizer, model, [name])
    optimizer.step()


DOORS = {
    "model": lambda model, name: getattr(model, name)(),
    "layers": lambda model, name: [getattr(layer.bio_mod, name)() for layer in model],
    "bio_step": lambda model, name: model.bio_step(name),
    "attach": attached,
}


@pytest.mark.parametrize("door", DOORS)
def test_a_row_of_a_subclass_holds_by_every_door(door):
    weights = []
    for converter, name in ((BioConverter, "rejuvenate_weights_old"), (UniformConverter, "rejuvenate_weights")):
        torch.manual_seed(0)
        net = converter(rejuvenation_parameter_dre=1.0)(nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 2)))
        before = net[0].weight.detach().clone()
        DOORS[door](net, name)
        assert not torch.equal(net[0].weight, before)
        weights.append([layer.weight for layer in net])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))


@pytest.mark.parametrize("door", DOORS)
def test_the_drop_in_spares_the_signed_read_out_by_every_door(door):
    net = release.BioConverter(apply_dales_principle=True)(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    wrong = [-layer.bio_mod.sign.detach().expand_as(layer.weight) for layer in net]
    with torch.no_grad():
        for layer, weight in zip(net, wrong, strict=True):
            layer.weight.copy_(weight)
    DOORS[door](net, "enforce_dales_principle")
    assert not net[0].weight.any()
    assert torch.equal(net[1].weight, wrong[1])


def test_every_method_of_the_table_is_on_models_and_layers():
    net = BioConverter(apply_dales_principle=True, record_activity=True)(
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    )
    for name in METHODS:
        assert callable(getattr(net, name)), name
        assert callable(getattr(net[0].bio_mod, name)), name
