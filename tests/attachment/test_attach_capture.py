"""A step with mechanisms is refused while a CUDA graph is captured, with nothing changed."""

import copy

import pytest
import torch
from attached import EVERY_STATE, OPTIMIZERS, bio_net, everything, loss_of, same
from torch import optim

from funcbio import Mechanism, attach

ALL = ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)]
REFUSED = "a step with mechanisms should be made outside of a CUDA graph"


@pytest.fixture
def captured(monkeypatch):
    """Lets torch say that a stream is captured, from the moment that a test calls this."""

    def begin(answer=True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: answer)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: answer)

    return begin


def attached(name="adam", **options):
    model = bio_net(0, **EVERY_STATE)
    optimizer = OPTIMIZERS[name](model.parameters())
    handle = attach(optimizer, model, ALL, ages=True, **options)
    loss_of(model, 0).backward()
    return model, optimizer, handle


@pytest.mark.parametrize("name", ["sgd", "adam", "adam foreach"])
def test_a_captured_step_is_refused_and_the_next_one_is_as_usual(name, captured):
    (model, optimizer, handle), (other, other_optimizer, _) = attached(name), attached(name)
    before = copy.deepcopy(everything(model))
    captured()
    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step()
    same(everything(model), before)
    assert handle.steps == 0
    captured(False)
    optimizer.step()
    other_optimizer.step()
    same(everything(model), everything(other))


def test_a_closure_is_not_evaluated_in_a_captured_step(captured):
    _, optimizer, _ = attached()
    calls = []
    captured()
    with pytest.raises(RuntimeError, match=REFUSED):
        optimizer.step(lambda: calls.append(1))
    assert not calls


def test_calls_by_hand_go_around_a_replay_not_into_the_graph(captured):
    model, optimizer, handle = attached(hooks=False)
    captured()
    with pytest.raises(RuntimeError, match=REFUSED):
        handle.before_step()
    captured(False)
    handle.before_step()
    before = copy.deepcopy(everything(model))
    captured()
    with pytest.raises(RuntimeError, match=REFUSED):
        handle.after_step()
    same(everything(model), before)
    optimizer.step()  # What is captured: the optimizer's step alone.
    captured(False)
    handle.after_step()
    assert handle.steps == 1


def test_without_cuda_nothing_is_asked(monkeypatch):
    def asked():
        raise AssertionError("the stream was asked for")

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", asked)
    _, optimizer, handle = attached()
    optimizer.step()
    assert handle.steps == 1


def test_an_optimizer_whose_mechanisms_were_removed_can_be_captured(captured):
    _, optimizer, handle = attached()
    handle.remove()
    captured()
    optimizer.step()
    assert isinstance(optimizer, optim.Adam)
