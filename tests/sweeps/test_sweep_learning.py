"""What cannot be learned from is refused before training, and says whether the loss or the model is at fault."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :2].argmax(1)


class Changed(nn.Module):
    """A network whose output is changed at the end."""

    def __init__(self, change):
        super().__init__()
        self.change, self.layer = change, nn.Linear(4, 2)

    def forward(self, x):
        return self.change(self.layer, x)


def without_gradient(layer, x):
    with torch.no_grad():
        return layer(x)


def run(model=lambda: nn.Linear(4, 2), loss=F.cross_entropy, **options):
    return funcbio.sweep(model, loss, (X, Y), steps=2, batch_size=8, seeds=2, progress=False, **options)


LOSSES = {
    "a constant": lambda o, t: torch.tensor(1.0),
    "a number": lambda o, t: 1.0,
    "an integer": lambda o, t: 1,
    "a number of it": lambda o, t: F.cross_entropy(o, t).item(),
    "detached": lambda o, t: F.cross_entropy(o.detach(), t),
    "detached itself": lambda o, t: F.cross_entropy(o, t).detach(),
    "a count": lambda o, t: (o.argmax(-1) != t).sum(),
    "of the target": lambda o, t: t.float().mean(),
}


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_without_a_gradient_is_refused(name, chunk, tmp_path):
    message = r"loss should be a function whose result depends on the output, .*; found .* without one"
    with pytest.raises(ValueError, match=message):
        run(loss=LOSSES[name], chunk=chunk, output=tmp_path / "folder")
    run(output=tmp_path / "folder")  # What was refused has left nothing that stands in the way.


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), r"shape \(8,\)"),
        (lambda o, t: [F.cross_entropy(o, t)], r"\[tensor"),
        (lambda o, t: None, "None"),
    ],
    ids=["elements", "list", "none"],
)
@pytest.mark.parametrize("chunk", [None, 2])
def test_a_loss_that_is_no_single_number_is_refused(loss, found, chunk):
    with pytest.raises(
        ValueError, match=f"loss should return a single number, a tensor of no dimensions; found {found}"
    ):
        run(loss=loss, chunk=chunk)


MODELS = {
    "detached": lambda layer, x: layer(x).detach(),
    "under no_grad": without_gradient,
    "of the input": lambda layer, x: x[:, :2],
    "a copy of its weights": lambda layer, x: x @ layer.weight.data.T,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_a_gradient_is_refused(name):
    message = r"model should be a network whose output depends on its parameters, .*; found .* that does not"
    with pytest.raises(ValueError, match=message):
        run(lambda: Changed(MODELS[name]))


def test_what_has_a_gradient_trains():
    run(loss=lambda o, t: F.cross_entropy(o, t) + 1.0)
    run(lambda: Changed(lambda layer, x: layer(x) + x[:, :2].detach()))
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    frozen[0].requires_grad_(False)
    run(lambda: frozen, share=["weights"])
    run(loss=lambda o, t: 0.0 * o.sum())  # All gradients are zero, as in a study of noise alone.


def test_an_error_of_the_loss_stays_its_own():
    def failing(output, target):
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        run(loss=failing)
