"""What an attached model records of its units while something else runs it: transforms, tracers, compilers."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, vmap

from funcbio import attach, units


def attached():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return model, x, optimizer, attach(optimizer, model, ["redo"], units=units(model, x))


def signal_after_a_step(model, x, optimizer, handle):
    model(x).square().mean().backward()
    optimizer.step()
    return handle.trees()[2].units["signal"]["0.weight"]


def expected(model, x):
    return torch.relu(model[0](x)).mean(0).detach()


def gradients_of_each_example(model, x):
    one = lambda params, example: functional_call(model, params, (example,)).square().mean()
    return vmap(grad(one), (None, 0))(dict(model.named_parameters()), x)


def on_fake_tensors(model, x):
    with FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(parameter) for name, parameter in model.named_parameters()}
        return functional_call(model, fake, (mode.from_tensor(x),))


def exported(model, x):
    return torch.export.export(model, (10.0 * x,))


@pytest.mark.parametrize("run", [gradients_of_each_example, on_fake_tensors, exported])
def test_numbers_that_do_not_outlive_a_call_are_not_recorded(run):
    model, x, optimizer, handle = attached()
    run(model, x)
    torch.testing.assert_close(signal_after_a_step(model, x, optimizer, handle), expected(model, x))


def test_a_gradient_of_a_function_is_a_training_pass():
    model, x, optimizer, handle = attached()
    params = dict(model.named_parameters())
    for name, value in grad(lambda params: functional_call(model, params, (x,)).square().mean())(params).items():
        model.get_parameter(name).grad = value
    optimizer.step()
    torch.testing.assert_close(handle.trees()[2].units["signal"]["0.weight"], expected(model, x))


def test_evaluation_compiles_and_exports_as_a_whole():
    model, x, _, _ = attached()
    model.eval()
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))
    torch.testing.assert_close(torch.export.export(model, (x,), strict=True).module()(x), model(x))


def test_copies_in_the_middle_of_a_step_go_on_alike():
    parts = attached()
    model, x, *_ = parts
    model(3.0 * x).sum().backward()
    copies = copy.deepcopy(parts), pickle.loads(pickle.dumps(parts))
    for each in (parts, *copies):
        signal = signal_after_a_step(*each)
        torch.testing.assert_close(signal, (expected(model, x) + expected(model, 3.0 * x)) / 2)
