"""Compiled steps that are called without torch's checks compute what checked ones do, and notice what changes."""

from functools import partial

import pytest
import torch
from test_sweep_members import data
from torch import nn
from torch.nn import functional as F

from funcbio import BioConfig, Mechanism
from funcbio.sweeps import _direct, _graph
from funcbio.sweeps._batches import Batches, StepKeys
from funcbio.sweeps._job import Job
from funcbio.sweeps._optimizers import recipe
from funcbio.sweeps._trials import as_variants, make_trials


def shrink(params, grads, state, /, *, key=None):
    return {name: 0.9 * weight for name, weight in params.items()}, grads, state


def halve(params, grads, state, /, *, key=None):
    return params, {name: 0.5 * grad for name, grad in grads.items()}, state


TWO_GRAPHS = [halve, Mechanism(shrink, every=2)]


class Scaled(nn.Module):
    """Holds a number that others may change between steps."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(12, 4), 1.0

    def forward(self, x):
        return self.layer(x) * self.scale


def net():
    return nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4))


class Run:
    """Trains a stack of members step by step, by a compiler that only traces."""

    def __init__(
        self, *, seeds=(4, 5), model=net, mechanisms=TWO_GRAPHS, optimizer=torch.optim.SGD, loss=F.cross_entropy
    ):
        made = recipe(optimizer, 0.1)
        trials = make_trials(list(seeds), (), as_variants(mechanisms), BioConfig(), made)
        fields = {"steps": 9, "batch_size": 16, "shared": (), "test": None, "metrics": {}, "record_every": 9}
        fields |= {"synapses": None, "compile": True, "device": torch.device("cpu"), "trials": trials, "recipe": made}
        self.job = Job(model=model, loss=loss, data=data(), **fields)
        self.engine = self.job.engine(trials)
        self.engine.kind.backend = "eager"
        self.batches = Batches(self.job, self.engine.members.keys["batches"])
        self.noise, self.losses = StepKeys(self.engine.members.keys["noise"]), []

    def steps(self, *numbers):
        for number in numbers:
            self.losses.append(self.engine.step(number, self.batches.at(number), self.noise.at(number)))
        return self

    @property
    def leaves(self):
        return [leaf.clone() for leaf in self.engine.members.leaves()] + self.losses


def assert_bits(first, second):
    assert len(first) == len(second)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def counts(monkeypatch):
    """Counts direct calls, and those that torch checked."""
    count = {"direct": 0, "checked": 0}

    def counting(name, function):
        def call(*args):
            count[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(_direct.Direct, "__call__", counting("direct", _direct.Direct.__call__))
    monkeypatch.setattr(_graph.Graph, "_checked", counting("checked", _graph.Graph._checked))
    return count


OPTIMIZERS = [partial(torch.optim.SGD, momentum=0.9), torch.optim.SGD, torch.optim.Adam]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_direct_calls_compute_what_checked_ones_do_to_the_bit(optimizer, counts, monkeypatch):
    direct = Run(optimizer=optimizer).steps(*range(9)).leaves
    # Step 0 is eager; two graphs take turns, and each is checked twice.
    assert counts == {"direct": 4, "checked": 4}
    monkeypatch.setattr(_direct.Direct, "fits", lambda *_: False)
    checked = Run(optimizer=optimizer).steps(*range(9)).leaves
    assert counts == {"direct": 4, "checked": 4 + 8}
    assert_bits(direct, checked)


def test_after_reading_the_tensors_torch_checks_once(counts):
    run = Run(mechanisms=[], model=lambda: nn.Linear(12, 4)).steps(*range(5))
    assert counts == {"direct": 2, "checked": 2}
    assert run.engine.members.params["weight"].shape == (2, 4, 12)
    run.steps(5, 6, 7)
    assert counts == {"direct": 4, "checked": 3}


def test_torch_checks_again_after_so_many_steps(counts, monkeypatch):
    monkeypatch.setattr(_direct, "CHECKED_EVERY", 3)
    Run(mechanisms=[], model=lambda: nn.Linear(12, 4)).steps(*range(11))
    assert counts == {"direct": 6, "checked": 4}


def test_a_batch_of_another_size_is_checked(counts):
    run = Run(mechanisms=[], model=lambda: nn.Linear(12, 4)).steps(*range(5))
    smaller = run.batches.at(5)[:, :7].contiguous()
    loss = run.engine.step(5, smaller, run.noise.at(5))
    assert counts == {"direct": 2, "checked": 3}
    eager = Run(mechanisms=[], model=lambda: nn.Linear(12, 4))
    eager.engine.kind.compile = False
    expected = eager.steps(*range(5)).engine.step(5, smaller, eager.noise.at(5))
    torch.testing.assert_close(loss, expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("what", ["threads", "dtype", "precision"])
def test_under_another_setting_of_torch_a_step_is_checked(what, counts):
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    run = Run(mechanisms=[], model=lambda: nn.Linear(12, 4)).steps(*range(5))
    try:
        torch.set_num_threads(threads + (what == "threads"))
        torch.set_default_dtype(torch.float64 if what == "dtype" else torch.float32)
        torch.set_float32_matmul_precision("high" if what == "precision" else precision)
        run.steps(5)
        assert counts == {"direct": 2, "checked": 3}
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(precision)


def test_what_a_metric_changes_is_noticed(counts):
    def steps(*, compile):
        scaled = Scaled()
        run = Run(
            mechanisms=[], model=Scaled, loss=lambda output, target: scaled.scale * F.cross_entropy(output, target)
        )
        run.engine.kind.compile = compile
        run.steps(*range(6))
        scaled.scale = 3.0
        assert set(run.engine.measure({"loss": F.cross_entropy}, run.job.examples)) == {"loss"}
        return run.steps(*range(6, 9)).leaves

    for compiled, eager in zip(steps(compile=True), steps(compile=False), strict=True):
        torch.testing.assert_close(compiled, eager)
    assert counts["direct"] > 0


def test_a_loss_that_changes_from_step_to_step_is_never_called_directly(counts):
    seen = []

    def loss(output, target):
        seen.append(1)
        return F.cross_entropy(0.0 * output, target) * len(seen)

    run = Run(mechanisms=[], loss=loss, model=lambda: nn.Linear(12, 4)).steps(*range(4))
    assert counts["direct"] == 0
    assert run.losses[3].mean() > run.losses[2].mean() > run.losses[1].mean()


def test_tensors_that_two_leaves_share_are_not_taken_for_one(counts):
    def same(params, grads, state, /, *, key=None):
        return params, grads, state._replace(rate=dict(params))

    direct = Run(mechanisms=[same], model=lambda: nn.Linear(12, 4, bias=False)).steps(*range(6))
    assert direct.engine.members.state.rate["weight"].shape == (2, 4, 12)
    assert counts["checked"] + counts["direct"] == 5


@pytest.mark.slow
def test_what_is_resumed_goes_on_to_the_bit(counts):
    whole, first = Run().steps(*range(9)), Run().steps(*range(5))
    state = first.engine.state_dict()
    copied = {"own": [leaf.clone() for leaf in state["own"]], "moments": state["moments"]}
    second = Run()
    second.engine.load_state_dict(copied)
    second.steps(*range(5, 9))
    assert_bits(whole.engine.members.leaves(), second.engine.members.leaves())
    assert counts["direct"] > 0


@pytest.mark.slow
def test_compiled_steps_are_the_same_bits_with_and_without_checks(counts, monkeypatch):
    def leaves():
        run = Run()
        run.engine.kind.backend = "inductor"
        return run.steps(*range(9)).leaves

    direct = leaves()
    assert counts["direct"] == 4
    monkeypatch.setattr(_direct.Direct, "fits", lambda *_: False)
    assert_bits(direct, leaves())
