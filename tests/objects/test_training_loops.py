"""A converted model in the training loops of everyone: in parallel, accumulated, clipped, scaled."""

import contextlib
import warnings

import pytest
import torch
from citizens import CITIZENS, batch, citizen, equal, gradients, mechanisms, snapshot
from torch import nn
from torch.nn import functional as F

every_model = pytest.mark.parametrize("name", CITIZENS)


def test_data_parallel_trains_the_converted_model():
    model = citizen("resnet")
    parallel = nn.DataParallel(model)
    x, y = batch("resnet")
    F.cross_entropy(parallel(x), y).backward()
    mechanisms(parallel.module)


@every_model
def test_gradients_accumulate_and_clip_around_the_methods(name):
    model, whole = citizen(name, fuzzy_lr_distribution="uniform"), citizen(name, fuzzy_lr_distribution="uniform")
    if name in ("resnet", "transformer"):  # Batch statistics and dropout differ between halves and whole.
        model.eval(), whole.eval()
    x, y = batch(name)
    for half in (slice(0, 3), slice(3, 6)):
        (F.cross_entropy(model(x[half]), y[half]) / 2).backward()
    F.cross_entropy(whole(x), y).backward()
    for m in (model, whole):
        m.volume_dependent_lr()
        m.fuzzy_learning_rates()
        m.crystallize()
        norm = torch.nn.utils.clip_grad_norm_(m.parameters(), 1e-3)
        assert norm > 1e-3
    for p, q in zip(model.parameters(), whole.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


@contextlib.contextmanager
def without_one_dnn():
    """On some processors oneDNN refuses an LSTM in bfloat16 that torch's own code computes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # Torch's own: it sets every flag that oneDNN has.
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@every_model
@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_step_that_the_scaler_skips_advances_nothing(name, broken):
    model = citizen(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    x, y = batch(name)

    def step(poison):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16), without_one_dnn():
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        if poison:
            model.head.bias.grad[0] = broken
        scaler.unscale_(optimizer)
        before = snapshot(model)
        mechanisms(model)
        model.rejuvenate_weights_old()
        scaler.step(optimizer)
        scaler.update()
        return equal(before, snapshot(model))

    assert not step(poison=False)
    assert step(poison=True)
    assert not step(poison=False)


def test_a_gradient_that_is_large_but_finite_is_no_overflow():
    model = citizen("mlp", fuzzy_lr_distribution="baseline")
    gradients(model, "mlp")
    for p in model.parameters():
        p.grad.fill_(3e38)
    rates = model.l1_reg()
    model.crystallize()
    assert model.l1_reg() < rates


def test_weights_that_are_not_finite_are_healed_although_their_gradients_are_not_either():
    model = citizen("mlp")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    gradients(model, "mlp")
    replaced = model.rejuvenate_weights()
    assert replaced["head.weight"][0, 0]
    assert all(p.isfinite().all() for p in model.parameters())
