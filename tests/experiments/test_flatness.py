"""Curvature against the exact Hessian, and the measurement as a whole at a tiny size."""

import doctest
import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian
from torch.nn import functional as F

import funcbio
from funcbio import __main__ as command
from funcbio.experiments.data import digits
from funcbio.experiments.flatness import curvature, results, training
from funcbio.experiments.flatness.settings import Settings

TINY = ["--seeds", "2", "--epochs", "2", "--points", "2", "--hidden", "4", "--batch-size", "700", "--threads", "1"]
TINY += ["--iterations", "3", "--probes", "2"]
NET = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loss_at(params):
    x = funcbio.normal(funcbio.key(5), (20, 3))
    return F.cross_entropy(functional_call(NET, params, (x,)), (x[:, 0] > 0).long())


def params_of(key):
    def draw(name, parameter):
        return funcbio.normal(funcbio.fold_in(key, name), parameter.shape)

    return {name: draw(name, parameter) for name, parameter in NET.named_parameters()}


def exact(params):
    """The Hessian as a matrix, by torch.func.hessian."""
    sizes = [value.shape for value in params.values()]

    def flat_loss(vector):
        parts = vector.split([math.prod(size) for size in sizes])
        return loss_at({name: part.reshape(size) for name, part, size in zip(params, parts, sizes, strict=True)})

    return hessian(flat_loss)(torch.cat([value.flatten() for value in params.values()]))


@pytest.fixture
def params():
    return params_of(funcbio.key(1))


def test_product_is_that_of_the_exact_hessian(params):
    product, size = curvature.hessian_product(loss_at, {name: params[name] for name in sorted(params)})
    matrix = exact({name: params[name] for name in sorted(params)})
    vector = funcbio.normal(funcbio.key(2), (size,))
    torch.testing.assert_close(product(vector), matrix @ vector, rtol=1e-4, atol=1e-6)


def test_extremes_are_those_of_the_exact_hessian(params):
    product, size = curvature.hessian_product(loss_at, params)
    low, high = curvature.extremes(product, size, funcbio.key(3), iterations=size)
    values = torch.linalg.eigvalsh(exact(params))
    torch.testing.assert_close(torch.stack([low, high]), values[[0, -1]], rtol=1e-4, atol=1e-5)
    assert values[0] < -1e-3  # So that both ends say something.


def test_few_iterations_find_a_top_that_stands_apart_and_never_more_than_it():
    spectrum = torch.cat([torch.linspace(-1.0, 1.0, 299), torch.tensor([4.0])])
    tops = [
        float(curvature.extremes(lambda v: spectrum * v, 300, funcbio.key(3), iterations=n)[1]) for n in (1, 3, 6, 12)
    ]
    assert all(later > earlier - 1e-5 for earlier, later in pairwise(tops))  # But for rounding.
    assert tops[0] < 3.0
    assert tops[-1] == pytest.approx(4.0, abs=1e-4)
    assert max(tops) <= 4.0 + 1e-5


def test_iterations_stop_where_no_direction_is_left():
    low, high = curvature.extremes(lambda v: 2.0 * v, 6, funcbio.key(0), iterations=6)
    assert float(high) == pytest.approx(2.0, abs=1e-5)
    assert float(low) >= -1e-5


def test_trace_lies_within_the_spread_that_theory_gives(params):
    product, size = curvature.hessian_product(loss_at, params)
    matrix, probes = exact(params), 400
    found = curvature.trace(product, size, funcbio.key(4), probes=probes)
    beside = matrix - torch.diag(matrix.diagonal())
    deviation = (2.0 * beside.square().sum() / probes).sqrt()
    assert abs(float(found - matrix.trace())) < 5.0 * float(deviation)
    assert 5.0 * float(deviation) < abs(float(matrix.trace()))  # Else this would show nothing.


def test_a_member_of_a_vmapped_measurement_equals_itself_alone():
    def both(key):
        product, size = curvature.hessian_product(loss_at, params_of(key))
        top = curvature.extremes(product, size, key, iterations=8)[1]
        return torch.stack([top, curvature.trace(product, size, key, probes=3)])

    keys = funcbio.split(funcbio.key(9), 3)
    torch.testing.assert_close(torch.vmap(both)(keys)[1], both(keys[1]), rtol=1e-4, atol=1e-5)


def test_examples_run():
    assert doctest.testmod(curvature) == (0, 6)


def test_tiny_run_writes_consistent_files_and_goes_on(tmp_path, capsys, monkeypatch):
    arguments = ["flatness", *TINY, "--output", str(tmp_path)]
    assert command.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    content = json.loads((tmp_path / "results.json").read_text())
    assert [row["variant"] for row in content["table"]] == [variant.name for variant in training.VARIANTS]
    assert content["versions"]["funcbio"] == funcbio.__version__
    assert content["moments"] == [0, 2]
    for run, row in zip(content["runs"], content["table"], strict=True):
        assert row["largest"]["mean"] == pytest.approx(sum(seed[-1] for seed in run["largest"]) / 2)
        assert all(torch.tensor(run["largest"]).flatten() > torch.tensor(run["smallest"]).flatten())
    assert b"<svg" in (tmp_path / "flatness-curvature.svg").read_bytes()
    monkeypatch.setattr("funcbio.experiments.flatness.run.train", lambda: None)  # Fails if it is called again.
    assert command.main(arguments) == 0
    with pytest.raises(SystemExit):
        command.main([*arguments, "--lr", "0.5"])
    assert "output should be a new folder" in capsys.readouterr().err


def test_variants_start_alike_and_plain_is_gradient_descent():
    settings, data = Settings(epochs=1, points=2, hidden=4, seeds=2, iterations=2, probes=1), digits()
    starts = [training.train(settings, data, v, lambda: None)["train_loss"] for v in training.VARIANTS[:2]]
    assert [seed[0] for seed in starts[0]] == [seed[0] for seed in starts[1]]
    assert starts[0][0][1] != starts[1][0][1]
    assert starts[0][0][1] < starts[0][0][0]


def test_measures_at_an_equal_loss_lie_between_two_measurements():
    run = {"train_loss": [[1.0, 0.2, 0.05]], "largest": [[3.0, 8.0, 2.0]]}
    assert results.at_loss(run, "largest", 0.1) == pytest.approx([4.0])  # Halfway on both log scales.
    assert math.isnan(results.at_loss(run, "largest", 0.01)[0])
    assert results.at_loss(run, "largest", 0.5)[0] > 3.0


def test_ratios_are_paired_and_geometric():
    found = results.ratio([2.0, 8.0, -1.0], [1.0, 1.0, 1.0])
    assert found["mean"] == pytest.approx(4.0)
    assert found["seeds"] == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--points", "1"], "points should be an integer from 2"),
        (["--lr", "nan"], "lr should be a number > 0"),
        (["--batch-size", "1500"], "--batch-size should be at most 1437"),
        (["--output", __file__], "output should be a directory"),
    ],
)
def test_bad_option_gives_one_line(options, names, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["flatness", *options])
    assert left.value.code == 2
    assert names in capsys.readouterr().err
