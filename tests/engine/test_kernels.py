"""Kernels of any make run leaf by leaf, in tiles and in a graph alike."""

from dataclasses import replace

import pytest
import torch
from optree import tree_leaves
from torch import nn

from funcbio import BioState, key
from funcbio.engine._example import SECOND, SIZES, example
from funcbio.engine._kernel import Draw, Kernel, apply
from funcbio.engine._lanes import names_of
from funcbio.engine._options import OPTIONS
from funcbio.engine._program import Loop, Statistics
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import CHUNK, Stack
from funcbio.mechanisms import REJUVENATIONS, ROWS
from funcbio.mechanisms._crystallize import CRYSTALLIZE
from funcbio.rng import UNIFORM

STEPS = {name: row.step(name, {}) for name, row in ROWS.items() if not row.on_trees}
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


@pytest.mark.parametrize("size", [1, 7, 1000, CHUNK, CHUNK + 1, 5 * CHUNK + 17])
@pytest.mark.parametrize("kernel", [CRYSTALLIZE, *REJUVENATIONS.values()], ids=lambda kernel: kernel.rule.__name__)
def test_statistics_of_layers_together_are_those_of_each(kernel, size):
    layers = [torch.randn(size) * scale for scale in (1e-3, 1.0, 30.0)]
    layers.append(torch.zeros(size))
    layers[0][0] = float("inf")
    together = kernel.take_statistics([Stack(torch.stack(layers))])
    for at, layer in enumerate(layers):
        alone = kernel.take_statistics([layer])
        for fact, other in zip(together, alone, strict=True):
            assert torch.equal(fact[at, 0], other) or (fact[at, 0].isnan() and other.isnan())
    only = [layer for layer in layers if layer.isfinite().all()]
    finite = kernel.take_statistics([Stack(torch.stack(only))])
    for fact, other in zip(finite, kernel.take_statistics([only[0]]), strict=True):
        assert torch.equal(fact[0, 0], other)


@pytest.mark.parametrize("kernel", [CRYSTALLIZE, *REJUVENATIONS.values()], ids=lambda kernel: kernel.rule.__name__)
def test_statistics_within_a_program_are_those_of_the_layer(kernel):
    program = Statistics(kernel, (torch.float32,))
    rows, tail, present, size = example(program, {**SIZES, "groups": 3})
    tail[:, int(present) :] = float("nan")  # What lies behind a layer does not count.
    whole = torch.cat((rows.flatten(), tail[0, : int(present)]))
    found = program(rows, tail, present, torch.full_like(size, len(whole)))
    torch.testing.assert_close(found, tuple(kernel.take_statistics([whole])), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("names", [("crystallize", "volume_dependent_lr"), ("rejuvenate_weights",)])
def test_a_loop_takes_the_statistics_of_every_layer_by_itself(names):
    """In a loop over several layers, the numbers of one change nothing in another."""
    steps = [ROWS[name].step(name, {}) for name in names]
    kernels = tuple(step.kernel for step in steps)
    types = tuple(torch.uint8 if name == "replaced" else torch.float32 for name in names_of(kernels))
    loop = Loop(kernels, tuple(tuple(step.hyper) for step in steps), types, (-1, *[0] * (len(kernels) - 1)))
    inputs = example(loop, SECOND)
    others = [tensor.clone() for tensor in inputs]
    owner = inputs[4 * len(loop.names) + 1]
    for lane in others[:4]:
        lane[owner != 0] *= 3.0
    loop(*inputs)
    loop(*others)
    for one, other in zip(inputs[: 4 * len(loop.names)], others, strict=False):
        assert torch.equal(one[owner == 0], other[owner == 0])
