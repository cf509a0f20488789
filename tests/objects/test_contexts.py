"""Conversion and its siblings give the same, to the last bit, whatever torch makes by default where they are called."""

import contextlib

import pytest
import torch
from citizens import COUNTED
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, attach
from funcbio.mechanisms import fixed_rates

X = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


CONTEXTS = {
    "with a meta device": lambda: torch.device("meta"),
    "with a default device": lambda: default_device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


def net(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 8, 3), nn.Flatten(), nn.Linear(32, 8), nn.Linear(8, 2)).to(dtype)
    torch.manual_seed(3)
    return model


def used(model):
    """The state before and after a step of every method."""
    before = {f"before {name}": value.clone() for name, value in model.state_dict().items()}
    model(X.to(model[0].weight.dtype)).square().sum().backward()
    for method in ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates", "rejuvenate_weights"):
        getattr(model, method)()
    if fixed_rates(model[0].bio_mod.config) is None:
        model.update_fuzzy_learning_rates()
    model.bio_step()
    return {**before, **model.state_dict()}


def converted(context, dtype=torch.float32, **config):
    model = net(dtype)
    with context():
        BioConverter(**config)(model)
    return used(model)


def by_hand(context):
    layer = net()[2]
    with context():
        bio = BioModule(layer, BioConfig(**COUNTED))
    bio.rejuvenate_weights()
    layer.bio_mod = bio
    return layer.state_dict()


def of_class(context):
    class Model(nn.Sequential):
        def __init__(self):
            super().__init__(*net())

    with context():
        made = BioConverter(**COUNTED)(Model)
    return used(made())


def attached(context):
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    names = ["crystallize", "fuzzy_learning_rates", "rejuvenate_weights"]
    with context():
        handle = attach(optimizer, model, names, config=BioConfig(**COUNTED), ages=True, fresh_rates=True)
    for _ in range(2):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    return {**model.state_dict(), **{f"age of {name}": age for name, age in handle.trees()[2].age.items()}}


def flat(params, grads, state):
    trees = {"params": params, "grads": grads, **{n: t for n, t in state._asdict().items() if isinstance(t, dict)}}
    return {f"{tree} {name}": leaf for tree, leaves in trees.items() for name, leaf in leaves.items()}


def as_trees(context):
    model = BioConverter(**COUNTED)(net())
    model(X).sum().backward()
    with context():
        return flat(*funcbio.trees(model))


def initial(context):
    params, key = {name: p.detach() for name, p in net().named_parameters()}, funcbio.key(0)
    with context():
        state = funcbio.init(params, key=key, config=BioConfig(**COUNTED))
    return flat(params, params, state)


def functions(context):
    params, key = {name: p.detach() for name, p in net().named_parameters()}, funcbio.key(0)
    state = funcbio.init(params, key=key, config=BioConfig(**COUNTED))
    step = funcbio.chain(
        funcbio.crystallize, funcbio.volume_dependent_lr, funcbio.rejuvenate_weights, funcbio.scale_grad
    )
    with context():
        found = step(params, params, state, key=key)
        return {**flat(*found), **funcbio.metrics(*found)["all"]}


def observed(context):
    model = net()
    with context():
        call = funcbio.observe(model, config=BioConfig(**COUNTED))
    output, activity = call(dict(model.named_parameters()), X)
    return {"output": output, **activity}


def loaded(context):
    model, other = BioConverter(**COUNTED)(net()), BioConverter(**COUNTED)(net())
    other.rejuvenate_weights()
    with context():
        model.load_state_dict(other.state_dict())
    return used(model)


def run_within(context):
    model = BioConverter(**COUNTED)(net())
    with context(), torch.no_grad():
        model(X)
    return used(model)


DOORS = {
    "a conversion": lambda context: converted(context),
    "a conversion with everything": lambda context: converted(context, **COUNTED),
    "a model in half precision": lambda context: converted(context, torch.bfloat16, **COUNTED),
    "a converted class": of_class,
    "a BioModule by hand": by_hand,
    "attach": attached,
    "trees": as_trees,
    "init": initial,
    "functions": functions,
    "observe": observed,
    "loading": loaded,
    "a forward pass": run_within,
} | {
    kind: lambda context, kind=kind: converted(context, fuzzy_lr_distribution=kind)
    for kind in ("gamma", "beta", "normal", "lognormal", "weight_adaptive", "temporal", "layer_adaptive", "baseline")
}


@pytest.mark.sampled(7)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_what_torch_makes_by_default_does_not_matter(context, door):
    found, should = DOORS[door](CONTEXTS[context]), DOORS[door](contextlib.nullcontext)
    assert found.keys() == should.keys()
    for name, value in should.items():
        assert (found[name].dtype, found[name].device) == (value.dtype, value.device), name
        assert torch.equal(found[name], value), name


def test_keys_are_made_where_torch_makes_tensors_unless_told():
    with torch.device("meta"):
        assert funcbio.key(0).is_meta
        assert torch.equal(funcbio.key(0, device="cpu").cpu(), torch.zeros(2, dtype=torch.int32, device="cpu"))


def test_a_model_without_numbers_is_refused():
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="weight should hold numbers; found a meta tensor"):
        BioConverter()(model)
