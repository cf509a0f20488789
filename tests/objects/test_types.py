"""Converted models in every floating type, on other devices, in evaluation mode, frozen and thawed."""

import pytest
import torch
from citizens import CITIZENS, batch, bio_mods, citizen, gradients, mechanisms, snapshot
from torch.nn import functional as F

every_model = pytest.mark.parametrize("name", CITIZENS)


@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_trains_in_every_floating_type(name, dtype):
    model = citizen(name).to(dtype)
    x, y = batch(name)
    x = x.to(dtype) if x.is_floating_point() else x
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x).float(), y).backward()
        mechanisms(model, step)
        optimizer.step()
    for n, t in model.state_dict().items():
        counts = n.endswith(("key", "updates", "activation_count", "observations", "num_batches_tracked"))
        assert t.dtype == (t.dtype if counts else dtype)
        assert not t.is_floating_point() or bool(t.isfinite().all()), n
    assert all(p.grad.dtype == dtype for p in model.parameters() if p.grad is not None)


def test_half_bfloat16_and_double_leave_keys_and_counts_whole():
    model = citizen("mlp")
    before = snapshot(model)
    model.half().bfloat16().double()
    for n, t in model.state_dict().items():
        assert n.endswith(("weight", "bias", "parameters", "sign")) or torch.equal(t, before[n])


def test_a_model_moves_to_another_device_and_its_methods_follow():
    model = citizen("resnet").to("meta")
    assert all(t.device.type == "meta" for t in model.state_dict().values())
    back = model.to_empty(device="cpu")
    back.load_state_dict(citizen("resnet").state_dict())
    gradients(back, "resnet")
    mechanisms(back)


@every_model
def test_evaluation_mode_changes_no_rate_and_training_mode_comes_back(name):
    model = citizen(name).eval()
    assert not any(m.training for m in model.modules())
    rates = [bio.fuzzy_learning_rate_parameters.clone() for bio in bio_mods(model)]
    model(batch(name)[0])
    assert all(torch.equal(r, b.fuzzy_learning_rate_parameters) for r, b in zip(rates, bio_mods(model), strict=True))
    assert all(m.training for m in model.train().modules())


@every_model
def test_layers_frozen_and_thawed_are_passed_over_and_taken_up_again(name):
    model = citizen(name, fuzzy_lr_distribution="uniform", crystal_thresh=0.01)
    first = bio_mods(model)[0]
    first.weight.requires_grad_(False)
    gradients(model, name)
    rates = first.fuzzy_learning_rate_parameters.clone()
    model.crystallize()
    assert torch.equal(first.fuzzy_learning_rate_parameters, rates)
    with pytest.raises(RuntimeError, match="Weights do not require gradients"):
        first.crystallize()
    first.weight.requires_grad_(True)
    gradients(model, name)
    model.crystallize()
    assert not torch.equal(first.fuzzy_learning_rate_parameters, rates)
