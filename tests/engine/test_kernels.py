"""Kernels of any make run leaf by leaf, in tiles and in a graph alike."""

from dataclasses import replace

import pytest
import torch
from optree import tree_leaves
from torch import nn

from funcbio import BioState, key
from funcbio.engine._kernel import Draw, Kernel, apply
from funcbio.engine._options import OPTIONS
from funcbio.engine._run import run_kernel
from funcbio.mechanisms import ROWS
from funcbio.rng import UNIFORM

STEPS = {name: row.step(name, {}) for name, row in ROWS.items()}
STEPS["update_fuzzy_learning_rates"] = ROWS["update_fuzzy_learning_rates"].step(
    "", {"distribution": "activity", "dynamic": True}
)


@pytest.mark.parametrize("name", STEPS)
def test_a_kernel_that_was_just_made_compiles_as_one_graph(name):
    step = STEPS[name]
    weight = torch.linspace(-1, 1, 12).view(3, 4)
    operands = {
        "weight": weight,
        "grad": weight * 0.1,
        "rate": weight.abs() + 0.5,
        "sign": weight.sign() + (weight == 0),
    }
    operands |= {"activity": torch.arange(3).view(3, 1), "updates": torch.tensor(0)}
    draws = [torch.full_like(weight, 0.3) for _ in step.kernel.draws]

    def run(kernel):
        statistics = kernel.take_statistics([operands[name] for name in kernel.of])
        return apply(kernel, operands, draws, statistics, step.hyper)

    expected = run(step.kernel)
    compiled = torch.compile(run, fullgraph=True, backend="eager")(replace(step.kernel))  # Nothing of it was asked yet.
    for field, value in expected.items():
        torch.testing.assert_close(compiled[field], value)


def toss(weight, sign, unit):
    tossed = unit < 0.5
    return torch.where(tossed, sign, weight), tossed.expand(weight.shape)


TOSS = Kernel(toss, ("weight", "sign"), ("weight", "replaced"), (Draw("toss", UNIFORM, "one"),), marks=("sign",))


def both_ways(monkeypatch, kernel, params, state):
    for most in (1 << 60, 0):
        monkeypatch.setattr(OPTIONS, "tree_elements", most)
        yield run_kernel(kernel, params, params, state, key=key(3))


def test_a_kernel_may_read_no_rates_and_draw_one_number_for_a_layer(monkeypatch):
    params = {"a": torch.randn(4, 3), "b": torch.randn(3), "c": torch.randn(2, 2)}
    sign = {"a": torch.ones(1, 3), "b": torch.ones(()), "c": torch.ones(1, 2)}
    leaves, tiles = both_ways(monkeypatch, TOSS, params, BioState(rate=(), sign=sign))
    assert all(map(torch.equal, tree_leaves(leaves), tree_leaves(tiles)))
    assert tiles[2].replaced["b"].shape == ()
    assert tiles[2].replaced["a"].unique().numel() == 1


def test_a_weight_without_elements_comes_back_as_a_new_one(monkeypatch):
    params = {"a": torch.randn(4, 3), "empty": nn.Parameter(torch.ones(0, 3))}
    state = BioState(rate={name: torch.ones(leaf.shape) for name, leaf in params.items()})
    kernel = STEPS["rejuvenate_weights"].kernel
    with torch.no_grad():
        for result in both_ways(monkeypatch, kernel_with_default(kernel), params, state):
            assert result[0]["empty"] is not params["empty"]
            assert not isinstance(result[0]["empty"], nn.Parameter)
            assert result[2].replaced["empty"].shape == (0, 3)


def kernel_with_default(kernel):
    rule = kernel.rule
    return replace(kernel, rule=lambda *args, **given: rule(*args, **{"strength": 8.0, **given}), limits={})
