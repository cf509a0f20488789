"""Weights and layers that are replaced, tied or added after conversion."""

import pytest
import torch
from citizens import EVERYTHING, batch, citizen, equal, gradients, snapshot
from torch import nn

from funcbio import BioConverter, BioModule

METHODS = [*BioModule.exposed_functions]


def test_a_weight_replaced_by_one_of_its_shape_is_taken_up():
    model = citizen("mlp")
    model.head.weight = nn.Parameter(torch.randn(4, 8))
    gradients(model, "mlp")
    grad = model.head.weight.grad.clone()
    model.fuzzy_learning_rates()
    assert torch.equal(model.head.weight.grad, grad * model.head.bio_mod.fuzzy_learning_rate_parameters)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "l1_reg"])
def test_a_weight_of_another_shape_is_refused_before_anything_changes(method):
    model = citizen("mlp")
    model.head.weight = nn.Parameter(torch.randn(5, 8))
    model.head.bias = nn.Parameter(torch.zeros(5))
    with pytest.raises(RuntimeError, match=r"head\.weight should have the shape"):
        model(batch("mlp")[0])
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before, grads = snapshot(model), [p.grad.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"head\.weight should have the shape \(4, 8\).*found \(5, 8\)"):
        getattr(model, method)()
    assert equal(snapshot(model), before)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


def test_weights_tied_after_conversion_are_treated_once():
    model = BioConverter(fuzzy_lr_distribution="lognormal")(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)))
    model[2].weight = model[0].weight
    model(torch.randn(3, 6)).sum().backward()
    grad = model[0].weight.grad.clone()
    model.fuzzy_learning_rates()
    assert torch.equal(model[0].weight.grad, grad * model[0].bio_mod.fuzzy_learning_rate_parameters)


def test_layers_added_after_conversion_are_named_in_a_warning_and_left_plain():
    model = citizen("mlp")
    model.head = nn.Linear(8, 4)
    gradients(model, "mlp")
    grad = model.head.weight.grad.clone()
    with pytest.warns(UserWarning, match="found head, added or replaced since: convert the model again"):
        model.fuzzy_learning_rates()
    assert torch.equal(model.head.weight.grad, grad)
    state = model.state_dict()
    with pytest.warns(UserWarning, match=r"the signs of head\.weight should be loaded with it"):
        BioConverter(**EVERYTHING)(model).load_state_dict(state, strict=False)
    gradients(model, "mlp")
    model.fuzzy_learning_rates()


def test_layers_left_out_on_purpose_bring_no_warning():
    model = citizen("mlp", synapses="body.*", fuzzy_lr_distribution="uniform")
    gradients(model, "mlp")
    model.fuzzy_learning_rates()
    assert not hasattr(model.head, "bio_mod")
