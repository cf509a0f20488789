"""The numbers of the page of recipes, measured again: what each recipe does, and what its warning is about."""

import pytest
import torch
from places import DOCS
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from funcbio import BioConfig, BioConverter, Mechanism, attach, trees
from funcbio.experiments.data import digits

DATA = digits()
SETTLING = BioConfig(fuzzy_lr_distribution="baseline", crystal_thresh=1e-4)
CHAIN = ["crystallize", "fuzzy_learning_rates"]
ADAM = lambda parameters: torch.optim.Adam(parameters, lr=0.01)
SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
PAGE = " ".join((DOCS / "recipes.md").read_text().split())


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(len(DATA.train_x), (64,), generator=generator) for _ in range(steps))


def loss(model, rows, shift=0):
    return F.cross_entropy(model(DATA.train_x[rows]), (DATA.train_y[rows] + shift) % 10)


def accuracy(model, shift=0):
    with torch.no_grad():
        return float((model(DATA.test_x).argmax(1) == (DATA.test_y + shift) % 10).float().mean())


def dampened(state):
    rates = torch.cat([rate.flatten() for rate in state.rate.values() if rate.ndim])
    return 100 * float((rates < 1).float().mean())


def attached(make, backward, steps=60, scaler=None):
    """Trains under `attach`, with what a recipe does before the step; returns model, handle and share dampened."""
    model = network()
    optimizer = make(model.parameters())
    handle = attach(optimizer, model, CHAIN, config=SETTLING)
    for rows in batches(steps):
        optimizer.zero_grad()
        backward(model, rows)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    return model, handle, dampened(handle.trees()[2])


def plain(model, rows):
    loss(model, rows).backward()


def test_a_scaler_changes_nothing_and_a_skipped_step_counts_nothing():
    model = attached(ADAM, plain)[0]
    scaler = torch.amp.GradScaler("cpu")
    scaled, handle, _ = attached(ADAM, lambda m, rows: scaler.scale(loss(m, rows)).backward(), scaler=scaler)
    assert scaled[0].weight.equal(model[0].weight)
    assert handle.steps == 60
    large = torch.amp.GradScaler("cpu", init_scale=3e38)
    handle = attached(ADAM, lambda m, rows: large.scale(100 * loss(m, rows)).backward(), 12, large)[1]
    assert 0 < handle.steps < 12


@pytest.mark.parametrize(("unscaled", "share"), [(True, 46), (False, 100)])
def test_methods_need_unscaled_gradients(unscaled, share):
    model = BioConverter(SETTLING)(network())
    optimizer, scaler = SGD(model.parameters()), torch.amp.GradScaler("cpu")
    assert f"{scaler.get_scale():,.0f} times too large" in PAGE
    for rows in batches(40):
        optimizer.zero_grad()
        scaler.scale(loss(model, rows)).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        model.crystallize()
        model.fuzzy_learning_rates()
        scaler.step(optimizer)
        scaler.update()
    assert dampened(trees(model)[2]) == pytest.approx(share, abs=2)
    assert "dampens every weight, instead of 46 % after 40 steps" in PAGE


@pytest.mark.parametrize(("divided", "share"), [(True, 54), (False, 67)])
def test_accumulation_is_the_whole_batch_if_the_loss_is_divided(divided, share):
    def accumulated(model, rows):
        for part in rows.chunk(4):
            (loss(model, part) / (4 if divided else 1)).backward()

    whole = attached(ADAM, plain)[0]
    model, handle, found = attached(ADAM, accumulated)
    assert torch.allclose(model[0].weight, whole[0].weight, atol=1e-5) == divided
    assert handle.steps == 60
    assert found == pytest.approx(share, abs=2)
    assert "67 % of the weights instead of 54 % after 60 steps" in PAGE


@pytest.mark.parametrize(("norm", "share"), [(None, 48), (1.0, 48), (0.01, 83)])
def test_crystallization_sees_clipped_gradients(norm, share):
    def clipped(model, rows):
        plain(model, rows)
        if norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), norm)

    assert attached(SGD, clipped)[2] == pytest.approx(share, abs=2)
    assert (
        "48 % of the weights were dampened without clipping and with a norm of 1, and 83 % with a norm of 0.01" in PAGE
    )


def test_an_average_made_before_attach_is_refused():
    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    attach(ADAM(model.parameters()), model, CHAIN)
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is longer than argument 1"):
        average.update_parameters(model)


@pytest.mark.parametrize("late", [False, True])
def test_a_frozen_layer_is_left_alone_until_it_joins(late):
    model = network()
    model[0].requires_grad_(False)
    optimizer = ADAM([p for p in model.parameters() if p.requires_grad])
    handle = attach(optimizer, model, CHAIN, config=SETTLING)
    if late:
        model[0].requires_grad_(True)
        optimizer.add_param_group({"params": model[0].parameters()})
    for rows in batches(5):
        optimizer.zero_grad()
        plain(model, rows)
        optimizer.step()
    assert model[0].weight.equal(network()[0].weight) != late
    assert ("0.weight" in handle.trees()[2].rate) == late
    assert bool((model[0].bio_mod.fuzzy_learning_rate_parameters < 1).any()) == late


def adapter():
    """The class of the page."""
    names = {"nn": nn}
    exec("class LoRA" + (DOCS / "recipes.md").read_text().split("class LoRA")[1].split("\n\n\n")[0], names)
    return names["LoRA"]


def adapted(mechanisms, shift=1):
    """Trains a network, then its adapters on other labels; returns network, handle and start of the frozen layer."""
    model = network()
    optimizer = ADAM(model.parameters())
    for rows in batches(100):
        optimizer.zero_grad()
        plain(model, rows)
        optimizer.step()
    base, lora = model[0].weight.detach().clone(), adapter()
    model[0], model[2] = lora(model[0]), lora(model[2])
    optimizer = ADAM([p for p in model.parameters() if p.requires_grad])
    handle = attach(optimizer, model, mechanisms) if mechanisms else None
    for rows in batches(200, seed=1):
        optimizer.zero_grad()
        loss(model, rows, shift).backward()
        optimizer.step()
    return model, handle, base


def test_adapters_learn_under_rate_factors_and_not_under_crystallization():
    model, handle, base = adapted(["fuzzy_learning_rates"])
    assert model[0].base.weight.equal(base)
    assert {name for name, rate in handle.trees()[2].rate.items() if rate.ndim} == {
        f"{layer}.{part}.weight" for layer in (0, 2) for part in ("down", "up")
    }
    alone = accuracy(adapted([])[0], shift=1)
    assert alone == pytest.approx(0.73, abs=0.03)
    assert accuracy(model, shift=1) > alone - 0.05
    model, handle, _ = adapted(CHAIN)
    assert accuracy(model, shift=1) == pytest.approx(0.03, abs=0.03)
    assert (handle.trees()[2].rate["2.up.weight"] < 1e-3).all()
    assert "3 % right answers on a new task, against 73 % without mechanisms" in PAGE


@pytest.mark.slow
@pytest.mark.parametrize(("every", "cost"), [(75, False), (190, True)])
def test_a_late_replacement_has_no_time_to_learn(every, cost):
    def trained(seed, mechanisms):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=200)
        if mechanisms:
            attach(optimizer, model, mechanisms)
        for rows in batches(200, seed):
            optimizer.zero_grad()
            plain(model, rows)
            optimizer.step()
            scheduler.step()
        return accuracy(model)

    replaced = [Mechanism("rejuvenate_weights", every=every)]
    lost = torch.tensor([trained(seed, []) - trained(seed, replaced) for seed in range(8)])
    assert (float(lost.mean()) > 0.01) == cost
