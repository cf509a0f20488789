"""Examples, outputs and models that are out of the ordinary: what is answered, and what is refused by name."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, fields

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from answers import alone, found
from asking import Model, ask, feeds, hidden, replaceable
from torch import Tensor, nn

from funcbio import units


def test_names_of_arguments_will_do():
    assert feeds(ask(lambda m, *, x: m.head(hidden(m, x)), x=torch.ones(4, 2))) == {"head.weight": alone(0, 1, 2)}


def test_examples_may_be_nested():
    table = ask(lambda m, batch: m.head(hidden(m, batch["x"][0])), {"x": (torch.ones(4, 2), "name", None)})
    assert replaceable(table) == [0, 1, 2]


@dataclass
class Plain:
    """The output of a model."""

    logits: Tensor
    states: tuple | None = None


class ModelOutput(OrderedDict):
    """The output of a model as Transformers has it: a dictionary that is a dataclass, too."""

    def __post_init__(self):
        for field in fields(self):
            self[field.name] = getattr(self, field.name)


@dataclass
class Both(ModelOutput):
    """Logits and hidden states."""

    logits: Tensor
    states: tuple | None = None


Named = namedtuple("Named", ["logits", "states"])


@pytest.mark.parametrize("output", [Plain, Both, Named, lambda *pair: [*pair], lambda *pair: {"a": pair}])
def test_units_that_reach_the_output_as_they_are_are_not_replaced(output):
    """Whatever holds the tensors that a model returns."""
    assert replaceable(ask(lambda m, x: output(m.head(hidden(m, x)), None))) == [0, 1, 2]
    assert replaceable(ask(lambda m, x: output(m.head(hidden(m, x)), (hidden(m, x),)))) == []


def test_units_that_nothing_reads_are_not_replaced():
    table = ask(lambda m, x: m.head(F.pad(hidden(m, x)[:, :2], (0, 1))))
    assert feeds(table) == {"head.weight": alone(0, 1, -1)}
    assert replaceable(table) == [0, 1]


def sometimes(m, x):
    return m.head(m.fc(x)) if m.fc(x).sum() > 0.0 else m.fc(x)


REFUSED = {
    "no example": (lambda: units(Model(hidden)), ValueError, "example should hold the arguments"),
    "no model": (
        lambda: units(hidden, torch.ones(4, 2)),
        TypeError,
        "model should be an nn.Module; found the function",
    ),
    "other inputs": (lambda: ask(hidden, torch.ones(4, 5)), ValueError, r"2 inputs of fc.weight; found .* \(4, 5\)"),
    "empty": (lambda: ask(hidden, torch.ones(0, 2)), ValueError, r"2 inputs of fc.weight; found .* \(0, 2\)"),
    "lazy": (
        lambda: units(nn.Sequential(nn.LazyLinear(3)), torch.ones(4, 2)),
        ValueError,
        "run it once; found the uninitialized weight 0.weight",
    ),
    "a program": (
        lambda: units(torch.jit.trace(nn.Linear(2, 3), torch.ones(4, 2)), torch.ones(4, 2)),
        ValueError,
        "should be written in Python; found a program of torch.jit",
    ),
    "weights by chance": (lambda: ask(sometimes), ValueError, "should use the same weights at every call; found head"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused(case):
    asked, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        asked()


def broken(m, x):
    raise RuntimeError("broken in the model")


def test_what_a_model_raises_is_seen_and_nothing_is_left_behind():
    model = Model(broken)
    before = [*vars(model.fc)], torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError, match="broken in the model"):
        units(model, torch.ones(4, 2))
    assert [*vars(model.fc)] == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.backends.mha.get_fastpath_enabled() == before[2]
    assert not model.fc._forward_hooks
    assert not model.fc._forward_pre_hooks


def test_a_layer_that_is_the_model_has_units_that_nothing_reads():
    table = units(nn.Linear(2, 3), torch.ones(4, 2))
    assert found(table)["weight"].replaceable == []
    assert str(table) == "weight (3) -> no weight\n              can be replaced: 0 of 3"


def keeps(m, x):
    m.last, m.history = m.fc(x).relu(), [m.fc(x)]
    return m.head(m.last)


def test_model_may_keep_what_it_computed():
    model = Model(keeps)
    model(torch.rand(4, 2))
    last = model.last
    assert replaceable(units(model, torch.rand(4, 2))) == [0, 1, 2]
    assert model.last is last
    assert last.requires_grad


def test_pruned_weights_are_computed_by_the_model():
    model = Model(lambda m, x: m.head(hidden(m, x)))
    torch.nn.utils.prune.l1_unstructured(model.head, "weight", 0.5)
    table = units(model, torch.rand(4, 2))
    assert [*table] == ["fc.weight"]
    assert replaceable(table) == []
    assert len(table.unknown) == 1


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_models_are_run_as_they_were_written(in_place):
    model = Model(lambda m, x: m.head(hidden(m, x)))
    if in_place:
        model.compile(backend=refuse)
    asked = model if in_place else torch.compile(model, backend=refuse)
    first = "fc.weight" if in_place else "_orig_mod.fc.weight"
    assert replaceable(units(asked, torch.rand(4, 2)), first) == [0, 1, 2]


def refuse(*_):
    raise AssertionError("compiled")
