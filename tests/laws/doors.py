"""Mixes of models, gradients and methods, each made from a number, and how every door runs them."""

import math
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import torch
from bad_inputs import fill, laid_out, results
from optree import tree_map
from torch import nn

import funcbio
from funcbio import BioConverter, BioModule, BioState

DTYPES = [torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]
METHODS = [
    "fuzzy_learning_rates",
    "volume_dependent_lr",
    "crystallize",
    "scale_grad",
    "rejuvenate_weights",
    "rejuvenate_weights_old",
    "update_fuzzy_learning_rates",
    "enforce_dales_principle",
]
NEEDS_GRADIENT = METHODS[:4]
DRAWING = ["volume_dependent_lr", "rejuvenate_weights", "rejuvenate_weights_old", "update_fuzzy_learning_rates"]

# Mixes


def linear(random):
    return nn.Linear(random.choice([1, 2, 5, 17]), random.choice([1, 3, 8, 40]), bias=random.random() < 0.5)


def grouped(random):
    groups = random.choice([1, 2, 3])
    kind = random.choice([nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d])
    return kind(groups * random.choice([1, 2]), groups * random.choice([1, 3]), random.choice([1, 2]), groups=groups)


def depthwise(random):
    width = random.choice([2, 5])
    return nn.Conv2d(width, width * random.choice([1, 2]), 3, groups=width)


@dataclass(frozen=True)
class LayerMix:
    """One layer: how it is made, and what is unusual about it."""

    make: object
    seed: int
    weights: str
    grads: str
    layout: str
    frozen: bool
    rates: str
    rate_dtype: torch.dtype | None
    other_key: bool


@dataclass(frozen=True)
class Mix:
    """A model, its configuration and the methods to call."""

    layers: tuple[LayerMix, ...]
    dtype: torch.dtype
    config: dict
    methods: tuple[str, ...]
    seed: int
    overridden: str | None = None
    beside: str | None = None


USUAL = ["usual"] * 6
WEIGHTS = [*USUAL, "zero", "one", "tiny", "huge", "mixed", "some inf", "some nan"]
GRADS = [*USUAL, *USUAL, "none", "zero", "tiny", "large", "large", "mixed", "huge", "some inf", "some nan"]
ODD_GRADS = ["expanded", "sparse"]
CONFIG = {
    "fuzzy_lr_distribution": [*funcbio.Distribution, "temporal", "weight_adaptive", "activity", "activity"],
    "fuzzy_lr_dynamic": [True, True, False],
    "fuzzy_lr_update_freq": [1, 1, 2, 10],
    "fuzzy_lr_decay": [0.9, 1.0, 1e-9],
    "fuzzy_learning_rate_factor_nu": [0.16, 0.9, 5.0, 1e15],
    "fuzzy_lr_min": [0.5, 0.0, 0.01],
    "fuzzy_lr_max": [2.0, 1.1, 1e3, 1e15],
    "fuzzy_lr_variant": ["default", "default", "0.0.5"],
    "record_activity": [True, True, True, False],
    "apply_dales_principle": [True, True, False],
    "dales_variant": ["default", "default", "0.0.5"],
    "weight_splitting_Gamma": [0, 0, 1],
    "crystal_thresh": [4.5e-5, 0.3, 1e15],
    "dampening_factor": [0.6, 1e-9],
    "crystallization_floor": [0.0, 0.3, 1e15],
    "base_lr": [0.1, 0.99, 1e-300],
    "stability_factor": [2.0, 1e-15, 1e15],
    "lr_variability": [0.2, 1e-15, 1e15],
    "rejuvenation_parameter_dre": [8.0, 1.0, 1e-300, 1e15],
    "rejuvenation_variant": ["lognormal", "uniform", "0.0.5"],
    "scaling_target": [1.0, 0.7, 1e15],
    "scaling_gamma": [1.0, 0.3, 0.0, 2.0, 1e15],
}


def mix(number):
    """The mix of that number."""
    random = Random(number)
    odd = random.random() < 0.15

    def layer():
        return LayerMix(
            make=random.choice([linear, linear, grouped, depthwise]),
            seed=random.randrange(2**31),
            weights=random.choice(WEIGHTS),
            grads=random.choice(GRADS + (ODD_GRADS if odd else [])),
            layout=random.choice(["contiguous"] * 4 + ["turned", "channels last", "every other"]),
            frozen=random.random() < 0.15,
            rates=random.choice(["own"] * 6 + ["some zero", "some inf", "huge"]),
            rate_dtype=random.choice([None] * 4 + DTYPES[1:]),
            other_key=random.random() < 0.2,
        )

    chosen = {name: random.choice(values) for name, values in CONFIG.items() if random.random() < 0.4}
    dynamic = {"fuzzy_lr_dynamic": True} if random.random() < 0.5 else {}
    return Mix(
        layers=tuple(layer() for _ in range(random.choice([1, 2, 2, 3, 4]))),
        dtype=random.choice(DTYPES),
        config={"record_activity": random.random() < 0.8, "apply_dales_principle": random.random() < 0.8}
        | chosen
        | dynamic,
        methods=tuple(random.choice(METHODS) for _ in range(random.choice([1, 2, 3, 3, 4, 6]))),
        seed=random.randrange(2**31),
        overridden=random.choice(METHODS) if random.random() < 0.05 else None,
        beside=random.choice([None] * 6 + ["norm", "complex", "embedding"]),
    )


def numbers(shape, kind, dtype, seed):
    """A gradient; "large" ones are such that the next factor may make them overflow."""
    if kind == "large":
        return (fill(shape, "usual", torch.float64, seed).clamp(-1, 1) * torch.finfo(dtype).max).to(dtype)
    return fill(shape, kind, dtype, seed)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.modes = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))


BESIDE = {"norm": lambda: nn.BatchNorm1d(3), "complex": Complex, "embedding": lambda: nn.Embedding(4, 2)}


def overriding(name):
    """A BioModule of which one method is its own."""

    def own(self):
        getattr(super(kind, self), name)()
        self.fuzzy_learning_rate_parameters.mul_(0.5)

    return (kind := type("Own", (BioModule,), {name: own}))


class SpoiledError(Exception):
    """A mix that makes no model."""


def made(mix):
    """The model of a mix, with gradients and a lived-in state."""
    torch.manual_seed(mix.seed)
    random = Random(mix.seed)
    layers = [one.make(Random(one.seed)).to(mix.dtype) for one in mix.layers]
    for one, layer in zip(mix.layers, layers, strict=True):
        layer.weight.data = laid_out(fill(layer.weight.shape, one.weights, mix.dtype, one.seed), one.layout)
        layer.weight.requires_grad_(not one.frozen)
    model = nn.Sequential(*layers, *([BESIDE[mix.beside]()] if mix.beside else []))
    try:
        converter = BioConverter(**mix.config)
        if mix.overridden:
            converter.bio_module_class = overriding(mix.overridden)
        converter(model)
    except ValueError as error:
        raise SpoiledError from error
    for one, layer in zip(mix.layers, layers, strict=True):
        if one.grads != "none":
            layer.weight.grad = gradient(layer.weight, one, mix.dtype)
        if getattr(layer, "bias", None) is not None and random.random() < 0.7:
            layer.bias.grad = torch.ones_like(layer.bias)
        if hasattr(layer, "bio_mod"):
            live(layer.bio_mod, one, random)
    for parameter in model[len(layers) :].parameters():
        parameter.grad = torch.full_like(parameter, math.inf if random.random() < 0.2 else 1.0)
    return model


def gradient(weight, one, dtype):
    if one.grads == "expanded":
        return torch.ones((), dtype=dtype).expand(weight.shape)
    if one.grads == "sparse":
        return torch.ones(weight.shape, dtype=dtype).to_sparse()
    return laid_out(numbers(weight.shape, one.grads, dtype, one.seed + 1), one.layout)


def live(bio, one, random):
    """Gives a layer's state a past."""
    rates = bio.fuzzy_learning_rate_parameters
    if one.rates != "own":
        odd = {"some zero": 0.0, "some inf": math.inf, "huge": torch.finfo(rates.dtype).max}[one.rates]
        which = fill(rates.shape, "usual", torch.float64, one.seed + 2) > 0.5
        rates = torch.where(which, torch.tensor(odd, dtype=rates.dtype), rates)
    bio.fuzzy_learning_rate_parameters = rates.to(one.rate_dtype or rates.dtype)
    bio.updates.fill_(random.choice([0, 0, 1, 9, 99]))
    if bio.records_activity:
        counts = fill(bio.activation_count.shape, "usual", torch.float64, one.seed + 3).abs()
        bio.activation_count.copy_((counts * random.choice([0, 3, 3, 1e3, 1e9])).long())
    if one.other_key:
        bio.key.copy_(funcbio.fold_in(bio.key, one.seed))


class Start:
    """A model as it was: every door starts from there."""

    def __init__(self, model):
        self.model = model
        self.state = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
        self.grads = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()]

    def __enter__(self):
        with torch.no_grad():
            for tensor, value in self.state:
                tensor.copy_(value)
            for parameter, grad, value in self.grads:
                parameter.grad = grad
                if grad is not None and not expanded(grad):
                    grad.copy_(value)
        return self.model

    def __exit__(self, *error):
        pass


def expanded(grad):
    return grad.layout == torch.strided and 0 in grad.stride() and grad.numel() > 1


def state_of(model):
    """All that a method could change, to the bit."""
    grads = {
        name: p.grad.to_dense() if p.grad.layout != torch.strided else p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return results(dict(model.state_dict())), list(grads), results(list(grads.values()))


def bio_mods(model):
    """The layers' objects, in order."""
    return [module for module in model.modules() if isinstance(module, BioModule)]


# Doors. Each returns what its methods returned, or the error.


@dataclass
class Outcome:
    """What came of a door: the last mask, the error, and the model as it is then."""

    masks: object
    error: tuple[type, str] | None
    state: object


def outcome(start, door, methods):
    """Runs methods by a door, from the start."""
    masks = error = None
    with start as model:
        try:
            masks = door(model, methods)
        except (RuntimeError, AttributeError, ValueError, KeyError) as raised:
            error = type(raised), str(raised)
        return Outcome(None if masks is None else (list(masks), results(list(masks.values()))), error, state_of(model))


def one_by_one(model, methods):
    masks = None
    for name in methods:
        found = getattr(model, name)()
        masks = masks if found is None else found
    return masks


def combined(model, methods):
    return model.bio_step(*methods)


def acts(model, name):
    """Whether a method of the model acts, as the documents say it."""
    if name == "fuzzy_learning_rates":
        return True
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    finite = all(bool(grad.to_dense().isfinite().all()) for grad in grads)
    heals = name.startswith("rejuvenate") and not all(bool(p.isfinite().all()) for p in model.parameters())
    return finite or heals


def taking_part(model, name):
    """The layers that a method runs on."""
    chosen = [bio for bio in bio_mods(model) if bio.participates]
    if name == "scale_grad":
        chosen = [bio for bio in chosen if bio.synapse.observable]
    if name in NEEDS_GRADIENT:
        chosen = [bio for bio in chosen if bio.weight.requires_grad and bio.weight.grad is not None]
    return chosen


def by_layers(model, methods):
    """Every layer's own methods, one layer after the other."""
    masks = None
    for name in methods:
        chosen = taking_part(model, name)
        if acts(model, name):
            found = {bio.synapse.weight: getattr(bio, name)() for bio in chosen}
        else:
            found = {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in chosen}
        masks = found if name.startswith("rejuvenate") else masks
    return masks


def features(config):
    """The pure functions of a configuration, by the names of the methods."""
    bound = funcbio.bind({"w": torch.ones(2, 2)}, config)
    found = {name: getattr(bound, name) for name in METHODS if name != "rejuvenate_weights_old"}
    strength = config.rejuvenation_parameter_dre
    return {
        **found,
        "rejuvenate_weights_old": partial(funcbio.rejuvenate_weights, strength=strength, variant="uniform"),
    }


def only(args, name):
    """Trees of one leaf."""
    params, grads, state = args
    leaf = lambda tree: {name: tree[name]} if isinstance(tree, dict) else tree
    return leaf(params), leaf(grads or params), BioState(*map(leaf, state))


def by_functions(model, methods):
    """Pure functions on the trees of the model, layer by layer, and written back by hand."""
    masks = None
    for name in methods:
        chosen, acting = taking_part(model, name), acts(model, name)
        found = {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in chosen}
        for bio in chosen if acting else []:
            leaf = bio.synapse.weight
            args = only(funcbio.trees(model), leaf)
            args = args[0], args[1], args[2]._replace(updates=bio.updates)
            feature = features(bio.config)[name]
            params, grads, state = feature(*args, key=bio.key)
            with torch.no_grad():
                bio.weight.copy_(params[leaf])
                if name in NEEDS_GRADIENT:
                    bio.weight.grad.copy_(grads[leaf])
                bio.fuzzy_learning_rate_parameters.copy_(state.rate[leaf])
                after(bio, name)
            if name.startswith("rejuvenate"):
                found[leaf] = state.replaced[leaf]
        masks = found if name.startswith("rejuvenate") else masks
    return masks


def after(bio, name):
    """Moves a layer's key and counters on as its method does."""
    moves = name != "update_fuzzy_learning_rates" or bio.moves()
    if name in DRAWING and moves:
        bio.key.add_(funcbio.rng.step_of(bio.key.device))
    if name == "update_fuzzy_learning_rates" and moves:
        bio.updates.add_(1)
        if bio.records_activity:
            bio.observations.zero_()


# Transforms


def widened(args, names):
    """The trees with only those synapses that every feature can run on."""
    params, grads, state = args
    keep = lambda tree: {name: tree[name] for name in names} if isinstance(tree, dict) else tree
    return keep(params), keep(grads), BioState(*map(keep, state))


def stacked(trees):
    return tree_map(lambda *leaves: torch.stack(leaves), *trees)


def turned(args, seed):
    """The same trees with other numbers in them: a second member."""
    flip = lambda leaf: leaf.flatten().roll(seed).view(leaf.shape) if leaf.ndim and leaf.is_floating_point() else leaf
    return tree_map(flip, args)


def plainly(mix):
    """The mix without what only objects can have."""
    layers = tuple(replace(one, grads="usual" if one.grads in ODD_GRADS else one.grads) for one in mix.layers)
    return replace(mix, layers=layers, overridden=None)
