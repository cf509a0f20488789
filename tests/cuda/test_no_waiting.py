"""No step makes the CPU wait for another device: on the meta device, where no number can be read, and on a GPU."""

import pytest
import torch
from devices import needs_cuda, no_waiting
from doors import METHODS
from optree import tree_map
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from worlds import FEATURES, model_world

import funcbio
from funcbio import BioConverter, Mechanism, attach, fold_in, key, split
from funcbio.engine._options import OPTIONS

pytestmark = pytest.mark.filterwarnings("ignore::funcbio.IdleWarning")
every_device = pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=needs_cuda)])
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.1),
    "adamw capturable": lambda p: torch.optim.AdamW(p, 0.1, capturable=True),
}
EVERY_STATE = {"apply_dales_principle": True, "record_activity": True, "fuzzy_lr_dynamic": True}
COPIES = ("to", "copy_", "_foreach_copy_", "where", "cuda", "masked_fill_", "fill_", "__setitem__")


class NoCopies(TorchFunctionMode):
    """Refuses what copies from the CPU to the meta device: on a GPU the CPU would wait."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        there = any(leaf.is_meta for leaf in (*given, *made))
        copied = name in COPIES and any(leaf.device.type == "cpu" for leaf in given)
        assert not (there and (copied or name in ("tensor", "as_tensor"))), f"{name} copies to the device"
        return result


def on(device, seed=0, **config):
    """A converted model with gradients."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    model = BioConverter(**{**EVERY_STATE, **config})(net).to(device)
    model(torch.ones(8, 9, device=device)).square().mean().backward()
    return model


def twice(step, device):
    """Makes a step; what is kept between calls is there then. Makes another one, in which nothing waits."""
    step()
    with no_waiting(device):
        if device == "meta":
            with NoCopies():
                step()
        else:
            step()


def test_what_copies_is_seen():
    for copy in (lambda: torch.tensor(1.0, device="meta"), lambda: torch.ones(2).to("meta")):
        with pytest.raises(AssertionError, match="copies to the device"), NoCopies():
            copy()


@every_device
@pytest.mark.parametrize("name", [*METHODS, "bio_step"])
def test_methods_of_a_model(name, device):
    twice(getattr(on(device), name), device)


@every_device
@pytest.mark.parametrize("name", METHODS)
def test_methods_of_a_layer(name, device):
    twice(getattr(on(device)[0].bio_mod, name), device)


@every_device
@pytest.mark.parametrize("variant", ["default", "0.0.5"])
@pytest.mark.parametrize("distribution", list(funcbio.Distribution), ids=str)
def test_updates_of_every_distribution(distribution, variant, device):
    model = on(device, fuzzy_lr_distribution=distribution, fuzzy_lr_variant=variant)
    twice(model.update_fuzzy_learning_rates, device)


@every_device
def test_a_forward_pass_that_counts_and_splits(device):
    model = on(device, weight_splitting_Gamma=2)
    x = torch.ones(8, 9, device=device)
    twice(lambda: model(x), device)


@every_device
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"ages": True, "fresh_rates": True}], ids=str)
def test_a_step_of_an_attached_optimizer(optimizer, options, device):
    if device == "meta" and "capturable" in optimizer:
        pytest.skip("torch captures on GPUs only")
    model = on(device)
    made = OPTIMIZERS[optimizer](model.parameters())
    handle = attach(made, model, [*METHODS[:4], Mechanism("rejuvenate_weights", every=1), *METHODS[5:]], **options)
    twice(made.step, device)
    assert handle.steps == 2


@every_device
def test_a_step_by_hand(device):
    model = on(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = attach(optimizer, model, METHODS, hooks=False, ages=True)

    def step():
        handle.before_step()
        optimizer.step()
        handle.after_step()

    twice(step, device)


@every_device
@pytest.mark.parametrize("tree_elements", [0, OPTIONS.tree_elements])
@pytest.mark.parametrize("name", FEATURES)
def test_pure_functions(name, tree_elements, device, monkeypatch):
    monkeypatch.setattr(OPTIONS, "tree_elements", tree_elements)
    feature, hypers = FEATURES[name]
    args = tree_map(lambda leaf: leaf.to(device), model_world("mlp"))
    k = key(3, device=device)
    tensors = {name: torch.tensor(value).to(device) for name, value in hypers.items()}
    twice(lambda: feature(*args, key=k, **hypers), device)
    twice(lambda: feature(*args, key=k, **tensors), device)
    twice(lambda: torch.vmap(lambda k: feature(*args, key=k, **hypers))(torch.stack([k, k])), device)


@every_device
def test_hyper_parameters_that_change_in_every_step(device):
    params, grads, state = tree_map(lambda leaf: leaf.to(device), model_world("mlp"))
    numbers = iter((0.3, 0.2))
    twice(lambda: funcbio.crystallize(params, grads, state, threshold=next(numbers)), device)


@every_device
def test_keys(device):
    k = key(3, device=device)
    step = torch.tensor(5).to(device)
    twice(lambda: (fold_in(k, 4), fold_in(k, "name"), fold_in(k, step), split(k, 5)), device)


@needs_cuda
def test_a_fused_step_under_a_scaler():
    model = on("cuda")
    optimizer = torch.optim.Adam(model.parameters(), 0.1, fused=True)
    handle = attach(optimizer, model, ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates"], ages=True)
    scaler = torch.amp.GradScaler("cuda")
    grads = [parameter.grad.clone() for parameter in model.parameters()]

    def step():
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter.grad = scaler.scale(grad)
        scaler.step(optimizer)
        scaler.update()

    twice(step, "cuda")
    assert handle.steps == 2
