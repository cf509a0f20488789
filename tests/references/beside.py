"""What both sides of a comparison start from, and how their results are compared."""

from types import SimpleNamespace

import torch
from references import load
from torch import nn
from torch.nn import functional

import funcbio
from funcbio.mechanisms._continual_backprop import center


def network():
    """A convolution, linear layers and a norm, all with biases."""
    layers = nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 4)
    return nn.Sequential(*layers)


def plain_network(*, bias=True):
    """Two linear layers."""
    return nn.Sequential(nn.Linear(6, 5, bias=bias), nn.ReLU(), nn.Linear(5, 3, bias=bias))


def moved(model):
    """Moves every parameter by noise, and gives it a gradient; returns copies of the parameters, by name."""
    with torch.no_grad():
        for param in model.parameters():
            param += 0.3 * torch.randn_like(param)
            param.grad = torch.randn_like(param)
    return values(model)


def values(model):
    """Returns copies of the parameters, by name."""
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def gradients(model):
    """Returns copies of the gradients, by name."""
    return {name: param.grad.clone() for name, param in model.named_parameters()}


def start(params, name, **fields):
    """Makes the state of a mechanism, with some of its fields replaced."""
    return funcbio.init(params, key=funcbio.key(1), keep=[name])._replace(**fields)


def observed(state, hidden, decay):
    """The state with the signals of a batch, as a forward pass leaves them."""
    name, mean = "0.weight", hidden.mean(0)
    middle = center(mean, state.units["unit_mean"][name], state.units["unit_age"][name], decay)
    told = {"signal": hidden.abs().mean(0), "signal_mean": mean, "signal_deviation": (hidden - middle).abs().mean(0)}
    units = {field: {**tree, name: told.get(field, tree[name])} for field, tree in state.units.items()}
    return state._replace(units=units)


def each(rule, *trees):
    """Returns what a function gives for the leaves of flat dictionaries."""
    return {name: rule(*(tree[name] for tree in trees)) for name in trees[0]}


def difference(ours, theirs):
    """Returns the largest difference of two trees, in units of the last place of each leaf's largest number."""
    assert ours.keys() == theirs.keys()
    found = [_difference(ours[name], theirs[name].detach()) for name in ours]
    return max(found)


def _difference(ours, theirs):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if not ours.is_floating_point():
        return float((ours != theirs).sum())
    assert ours.isfinite().all()
    assert theirs.isfinite().all()
    return float((ours - theirs).abs().amax() / theirs.abs().amax() / torch.finfo(ours.dtype).eps)


def replay(monkeypatch, name, numbers):
    """Makes a function of torch return given numbers, one after the other, in place of its draws."""
    queue = iter(numbers)
    monkeypatch.setattr(torch, name, lambda *args, **options: next(queue).clone())


def with_gradients(model, grads):
    """Returns a closure for a step: a loss of these gradients."""

    def closure():
        return sum((param * grads[name]).sum() for name, param in model.named_parameters())

    return closure


def authors_of_dash():
    """Returns the module of DASH's authors, with the one thing that it needs of einops."""
    fakes = "wandb", "einops", "torchvision", "utils", "models", "DataLoader"
    module = load("DASH-Direction-Aware-SHrinking", "utils/train_utils.py", fakes=fakes)
    module.rearrange = lambda tensor, pattern: tensor.flatten(2)
    return module


def dash_of_authors(model, loader):
    module = authors_of_dash()
    options = SimpleNamespace(dash_alpha=0.3, dash_lambda=0.05, device="cpu")
    module.dash(options, model, functional.cross_entropy, loader)


def dash_of_fire(model, loader):
    module = load("FIRE", "vision/interventions/dash.py")
    module.dash(model, 0.3, 0.05, loader, functional.cross_entropy, "cpu")


def rigl_scheduler(model, optimizer, step):
    module = load("rigl-torch", "rigl_torch/RigL.py", fakes=("torchvision",))
    options = {"dense_allocation": 0.4, "T_end": 100, "delta": 10, "ignore_linear_layers": False}
    scheduler = module.RigLScheduler(model, optimizer, **options)
    scheduler.step = step - 1
    return scheduler
