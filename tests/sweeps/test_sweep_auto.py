"""``compile="auto"`` compiles where that pays, says so, and keeps to what it chose first."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import ConfigError, sweep
from funcbio.sweeps import _choice, _engine, _sweep
from funcbio.sweeps._choice import Choice, estimate

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def run(**options):
    given = {"steps": 6, "batch_size": 8, "lr": 0.1, "seeds": 3, "progress": False, "compile": "auto"}
    return sweep(lambda: nn.Linear(5, 3), F.cross_entropy, (X, Y), **{**given, **options})


@pytest.fixture
def traced(monkeypatch):
    """Lets torch trace instead of compile; lists what was compiled."""
    graphs, real = [], _engine.Kind.graph

    def graph(self, acting):
        graphs.append(acting)
        return real(self, acting)

    monkeypatch.setattr(_engine.Kind, "backend", "eager")
    monkeypatch.setattr(_engine.Kind, "graph", graph)
    monkeypatch.setattr(_sweep, "compiles", lambda device: True)
    return graphs


def test_a_short_sweep_is_eager_to_the_bit_and_says_why(traced):
    result = run()
    assert traced == []
    (why,) = result.compiled
    assert why.startswith("eager: an estimated ")
    assert "s to compile 1 x " in why
    assert result.params["weight"].equal(run(compile=False).params["weight"])


def test_a_sweep_for_which_it_pays_is_compiled(traced, monkeypatch):
    monkeypatch.setattr(_choice, "SECONDS_AN_OPERATION", 0.0)
    monkeypatch.setattr(_choice, "SECONDS_TO_START", 0.0)
    result = run()
    assert traced
    assert result.compiled[0].startswith("compiled: an estimated ")
    assert result.params["weight"].equal(run(compile=True).params["weight"])


def test_true_and_false_estimate_nothing(traced, monkeypatch):
    monkeypatch.setattr(_choice, "estimate", None)
    assert run(compile=False).compiled == run(compile=True).compiled == ()


def test_every_kind_is_chosen_for_itself(monkeypatch):
    choices = [Choice(False, "one"), Choice(False, "two")]
    monkeypatch.setattr(_choice, "_choice", lambda *_: choices.pop(0))
    assert run(optimizer=torch.optim.SGD, grid={"momentum": [0.0, 0.9]}).compiled == ("one", "two")


def test_members_that_train_one_by_one_are_not_compiled():
    def loss(output, target):
        return F.cross_entropy(output, target) if output.sum() > -1e9 else output.sum()

    with pytest.warns(UserWarning, match="trains member by member"):
        result = sweep(
            lambda: nn.Linear(5, 3), loss, (X, Y), steps=2, batch_size=8, seeds=2, compile="auto", progress=False
        )
    assert result.compiled == ("eager: members train one by one",)


def test_a_folder_keeps_what_was_chosen_first(traced, tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(_sweep, "train", stop)
        with pytest.raises(StopError):
            run(output=tmp_path)
    kept = json.loads((tmp_path / "sweep.json").read_text())["compile"]
    assert [compile for compile, _ in kept] == [False]
    monkeypatch.setattr(_choice, "estimate", None)
    result = run(output=tmp_path)
    assert traced == []
    assert result.compiled == (kept[0][1],)


def test_an_estimate_grows_with_graphs_and_operations():
    costs = [estimate(100.0, *size).compile for size in ((10, 1), (10_000, 1), (100, 100))]
    assert costs == [True, False, False]


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_other_values_are_refused(value):
    with pytest.raises((ValueError, ConfigError), match="compile should be True, False or 'auto'; found "):
        run(compile=value)
