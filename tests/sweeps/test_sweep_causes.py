"""What makes members train or be measured one by one is named: the model only where the model is at fault."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :2].argmax(1)


class Branching(nn.Module):
    """A network that torch cannot vmap."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x) if float(self.layer.weight.detach().sum()) < 1e9 else x


def net():
    return nn.Linear(4, 2)


def number(output, target):
    return float((output.argmax(-1) == target).float().mean())


def item(output, target):
    return (output.argmax(-1) == target).float().mean().item()


def in_numpy(output, target):
    return (output.detach().numpy().argmax(-1) == target.numpy()).mean()


def branching(output, target):
    return F.cross_entropy(output, target) * (1.0 if bool(output.isfinite().all()) else 0.0)


def drawn(key):
    x = torch.randn(8, 4)
    return x, x[:, :2].argmax(1)


TRAINS, MEASURES = "this model trains member by member", "this model is measured member by member"
TEST = {"test": (X, Y)}
CAUSES = {
    "model": ({"model": Branching}, TRAINS, "it"),
    "data": ({"data": drawn}, TRAINS, "data"),
    "loss": ({"loss": branching}, TRAINS, "loss"),
    "metric": (TEST | {"metrics": {"a": F.cross_entropy, "b": number}}, MEASURES, r"metrics\['b'\]"),
    "item": (TEST | {"metrics": {"b": item}}, MEASURES, r"metrics\['b'\]"),
    "numpy": (TEST | {"metrics": {"b": in_numpy}}, MEASURES, r"metrics\['b'\]"),
    "metric of batches": ({"train_metrics": {"a": F.cross_entropy, "b": number}}, TRAINS, r"train_metrics\['b'\]"),
    "folds": (
        {"folds": [(range(12), range(12, 24))], "metrics": {"b": number}},
        MEASURES,
        r"metrics\['b'\]",
    ),
    "loss of a recurrent network": (TEST | {"loss": branching}, TRAINS, "loss"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named(name):
    options, what, cause = CAUSES[name]
    arguments = {"model": net, "loss": F.cross_entropy, "data": (X, Y), "steps": 2, "batch_size": 8, "seeds": 2}
    with pytest.warns(UserWarning, match=rf"^{what}: torch cannot vmap {cause} \(") as seen:
        found = funcbio.sweep(**arguments | {"progress": False} | options)
    assert len(seen) == 1
    assert found.members == 2


def test_a_loss_counts_the_same_when_members_train_one_by_one():
    run = lambda loss: funcbio.sweep(net, loss, (X, Y), steps=3, batch_size=8, seeds=2, test=(X, Y), progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = run(branching)
    assert one.table["test_loss"] == pytest.approx(run(F.cross_entropy).table["test_loss"], rel=1e-5)
