"""What the laws are tried on: models, their parameters, gradients and states, and the table of features."""

import math
from functools import partial

import torch
from optree import tree_map
from tables import in_line
from torch import nn

import funcbio
from funcbio import BioConfig, fold_in, init, key, normal
from funcbio._checks import is_within
from funcbio.base import KEPT
from funcbio.engine._kernel import bare
from funcbio.mechanisms import ROWS
from funcbio.mechanisms._unit_fields import UNIT_FIELDS
from funcbio.mechanisms._unit_utility import UTILITIES


class Classifier(nn.Module):
    """A convolutional network with batch norm, nested containers, a grouped and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        )
        self.up = nn.ConvTranspose2d(4, 2, 2)
        self.head = nn.Linear(2 * 5 * 5, 3)

    def forward(self, x):
        return self.head(self.up(self.features(x)).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.gru(x)[0])


def mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def transformer():
    return nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, dropout=0.0)


# A model, and the shape of one batch of its input.
MODELS = {
    "mlp": (mlp, (7, 5)),
    "cnn": (Classifier, (3, 1, 4, 4)),
    "transformer": (transformer, (2, 3, 8)),
    "gru": (Recurrent, (2, 5, 3)),
}

EVERYTHING = BioConfig(apply_dales_principle=True, record_activity=True)


def _all_in_one(params, grads, state, /, *, key=None):
    return funcbio.chain(
        funcbio.volume_dependent_lr,
        funcbio.fuzzy_learning_rates,
        funcbio.crystallize,
        funcbio.rejuvenate_weights,
        partial(funcbio.update_fuzzy_learning_rates, every=1),
        funcbio.enforce_dales_principle,
    )(params, grads, state, key=key)


# Feature, and the hyper-parameters a sweep may reach, each with a value.
FEATURES = {
    "fuzzy_learning_rates": (funcbio.fuzzy_learning_rates, {}),
    "volume_dependent_lr": (funcbio.volume_dependent_lr, {"base_lr": 0.3, "stability": 1.5, "variability": 0.4}),
    "crystallize": (funcbio.crystallize, {"threshold": 0.5, "dampening": 0.7, "floor": 0.6}),
    "rejuvenate_weights lognormal": (partial(funcbio.rejuvenate_weights, variant="lognormal"), {"strength": 2.0}),
    "rejuvenate_weights uniform": (partial(funcbio.rejuvenate_weights, variant="uniform"), {"strength": 4.0}),
    "rejuvenate_weights 0.0.5": (partial(funcbio.rejuvenate_weights, variant="0.0.5"), {"strength": 2.0}),
    "apply_dales_principle": (funcbio.apply_dales_principle, {}),
    "enforce_dales_principle": (funcbio.enforce_dales_principle, {}),
    "scale_grad": (funcbio.scale_grad, {"target": 1.1, "gamma": 0.7, "minimum": 0.8, "maximum": 1.5}),
    "update temporal": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="temporal", every=1),
        {"nu": 0.3, "decay": 0.9, "minimum": 0.95, "maximum": 1.05},
    ),
    "update weight_adaptive": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="weight_adaptive"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update activity": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="activity"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update weight_adaptive 0.0.5": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="weight_adaptive", dynamic=False, variant="0.0.5"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update activity 0.0.5": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="activity", variant="0.0.5"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "a chain of them": (_all_in_one, {}),
}


def _neighbours(params, grads, state, /, *, key=None):
    return funcbio.chain(
        funcbio.spectral_regularization,
        funcbio.l2_init,
        partial(funcbio.upgd, sigma=0.1),
        funcbio.fuzzy_learning_rates,
        funcbio.exponentiated_gradient,
        partial(funcbio.rejuvenate_weights, variant="swr", rule="proportional", fraction=0.2),
        partial(funcbio.prune_and_regrow, grow="gradient", newborn="start"),
        partial(funcbio.shrink_and_perturb, shrink=0.9),
        partial(funcbio.hare_and_tortoise, every=1),
        funcbio.clip_weights,
        funcbio.rejuvenate_weights,
        funcbio.apply_mask,
    )(params, grads, state, key=key)


def _rejuvenate(**options):
    return partial(funcbio.rejuvenate_weights, **options)


def _sparse(**options):
    return partial(funcbio.prune_and_regrow, **options)


SHRINK = {"shrink": 0.8, "perturb": 0.3}
# Mechanisms that act on all parameters or whole layers, and keep fields of their own in the state.
NEIGHBOURS = {
    "l2_init": (funcbio.l2_init, {"strength": 0.1}),
    "l2_init huber": (partial(funcbio.l2_init, penalty="huber"), {"strength": 0.1, "delta": 0.05}),
    "l2_init l1": (partial(funcbio.l2_init, penalty="l1", decoupled=True), {"strength": 0.1}),
    "shrink_and_perturb init": (funcbio.shrink_and_perturb, SHRINK),
    "shrink_and_perturb start": (partial(funcbio.shrink_and_perturb, noise="start"), SHRINK),
    "shrink_and_perturb normal": (partial(funcbio.shrink_and_perturb, noise="normal"), SHRINK),
    "shrink_and_perturb scaled": (partial(funcbio.shrink_and_perturb, noise="scaled"), SHRINK),
    "rejuvenate_weights swr": (_rejuvenate(variant="swr"), {"fraction": 0.3}),
    "rejuvenate_weights share": (_rejuvenate(utility="|g w|", rule="proportional"), {"fraction": 0.3}),
    "rejuvenate_weights random": (
        _rejuvenate(variant="uniform", utility="random", rule="probability"),
        {"strength": 2.0},
    ),
    "clip_weights": (funcbio.clip_weights, {"kappa": 0.5}),
    "project_norms": (funcbio.project_norms, {}),
    "spectral_regularization": (funcbio.spectral_regularization, {"strength": 0.1}),
    "parseval": (funcbio.parseval, {"strength": 0.1, "scale": 0.7}),
    "fire": (funcbio.fire, {}),
    "upgd": (funcbio.upgd, {"sigma": 0.1, "beta": 0.9, "decay": 0.01}),
    "upgd local": (partial(funcbio.upgd, scope="local", protect=False), {"sigma": 0.1, "beta": 0.9}),
    "exponentiated_gradient": (funcbio.exponentiated_gradient, {}),
    "apply_mask": (funcbio.apply_mask, {}),
    "prune_and_regrow random": (_sparse(newborn="start"), {"drop": 0.3}),
    "prune_and_regrow gradient": (_sparse(grow="gradient", until=4), {"drop": 0.3}),
    "prune_and_regrow static": (_sparse(grow="static", newborn="start"), {"drop": 0.3}),
    "hare_and_tortoise": (partial(funcbio.hare_and_tortoise, every=1), {"momentum": 0.9}),
    "dash": (partial(funcbio.dash, every=1), {"alpha": 0.2, "floor": 0.1}),
    "a chain of neighbours": (_neighbours, {}),
}
LAWFUL = {**FEATURES, **NEIGHBOURS}


def rounds_by_layout(name):
    """Whether a feature multiplies matrices: many at once are summed in another order."""
    return any(word in name for word in ("spectral", "parseval", "fire", "neighbours"))


def _rows(name):
    feature = LAWFUL[name][0]
    function, options = getattr(feature, "func", feature), getattr(feature, "keywords", {})
    row = ROWS.get(function.__name__)
    if row is None:
        return (
            [(ROWS[one], {}) for one in ROWS if ROWS[one].on_trees and not ROWS[one].by_unit]
            if function is _neighbours
            else []
        )
    return [(row, options)]


def kept(name):
    """Names of the fields that a feature needs, and of its counters."""
    needed = {field for row, options in _rows(name) for kernel in row.kernels(**options) for field in kernel.needs()}
    return [*sorted(needed & {*KEPT}), *(row.name for row, _ in _rows(name) if row.counts_calls)]


def marks(name):
    """Names of the fields whose leaves have dimensions where a feature acts."""
    rows = _rows(name)
    if not rows:
        return {"rate"}
    return {bare(mark) for row, options in rows for kernel in row.kernels(**options) for mark in kernel.marks}


def within_limits(name, hyper):
    """Tells whether a feature takes these hyper-parameters, by its row of the table."""
    feature = FEATURES[name][0]
    limits = ROWS[getattr(feature, "func", feature).__name__].limits
    inside = all(is_within(value, limits[one]) for one, value in hyper.items() if one in limits)
    return inside and hyper.get("minimum", 0) < hyper.get("maximum", math.inf)


class Normed(nn.Module):
    """Convolutions with batch norms, a grouped one, and a flatten with several columns for each unit."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 4, 1, bias=False)
        self.last = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        return self.head(torch.relu(self.last(self.third(x))).flatten(1))


def wide_mlp():
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.GELU(), nn.Linear(7, 2))


# A model whose layers feed one another in a line, its norms as ``in_line`` takes them, and the shape of its input.
UNIT_MODELS = {
    "mlp": (wide_mlp, (), (7, 5)),
    "cnn": (Normed, (("first.weight", "norm"), ("third.weight", "last")), (3, 1, 4, 4)),
}


def _of_units(feature, **options):
    return partial(feature, **options)


_cbp = partial(_of_units, funcbio.continual_backprop)
OFTEN = {"replacement_rate": 0.3, "decay": 0.9, "maturity": 2}


def _several_on_units(params, grads, state, /, *, key=None, units=None):
    return funcbio.chain(
        partial(funcbio.redo, units=units, every=1, threshold=0.3),
        partial(funcbio.continual_backprop, units=units, **OFTEN),
        partial(funcbio.self_normalized_resets, units=units, every=1, patience=3),
        partial(funcbio.regrama, units=units, every=1, threshold=0.8),
        partial(funcbio.calibrated_partial_resets, units=units, every=1),
    )(params, grads, state, key=key)


# Mechanisms that act on units, each with the hyper-parameters a sweep may reach, and a value for each.
UNIT_FEATURES = {
    "redo": (_of_units(funcbio.redo, every=1), {"threshold": 0.5}),
    "redo keep": (_of_units(funcbio.redo, every=1, outgoing="keep"), {"threshold": 0.5}),
    "redo start": (_of_units(funcbio.redo, every=1, outgoing="start"), {"threshold": 0.5}),
    **{f"continual_backprop {utility}": (_cbp(utility=utility), OFTEN) for utility in UTILITIES},
    "continual_backprop by chance": (_cbp(accumulate=False, correct_bias=False), OFTEN),
    "self_normalized_resets": (
        _of_units(funcbio.self_normalized_resets, every=2),
        {"percentile": 0.5, "patience": 3, "minimum": 1, "maximum": 7, "silent": 0.3},
    ),
    "regrama": (_of_units(funcbio.regrama, every=1), {"threshold": 0.9}),
    "calibrated_partial_resets": (
        _of_units(funcbio.calibrated_partial_resets, every=1),
        {"replacement_rate": 0.3, "sharpness": 4.0, "threshold": 0.9, "decay": 0.5},
    ),
    "a chain on units": (_several_on_units, {}),
}
ON_UNITS = tuple(name for name, row in ROWS.items() if row.by_unit)


def unit_world(name, seed=0, dtype=torch.float32, *, config=EVERYTHING, keep=()):
    """Parameters, gradients, a lived-in state with all that mechanisms on units keep, and the table of units."""
    torch.manual_seed(seed)
    make, norms, _ = UNIT_MODELS[name]
    model = make()
    params, described, units = dict(model.named_parameters()), funcbio.synapses(model), in_line(model, norms)
    keep = [*ON_UNITS, *UNIT_FIELDS, *keep]
    params, grads, state = world(params, seed, described, config, dtype, None, keep, units)
    # As after a first call: what is replaced is said of biases and norms too.
    replaced = tree_map(lambda p, r: r if r.ndim else torch.zeros_like(p, dtype=torch.bool), params, state.replaced)
    return params, grads, state._replace(replaced=replaced), units


# Types of the weights and of the rate factors.
TYPES = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16, rates float32": (torch.float16, torch.float32),
    "float64, rates float32": (torch.float64, torch.float32),
    "float32, rates bfloat16": (torch.float32, torch.bfloat16),
}


def world(params, seed=0, synapses=None, config=EVERYTHING, dtype=torch.float32, rate_dtype=None, keep=(), units=None):
    """Parameters, gradients and a lived-in state for a tree of parameters."""
    k = key(seed)
    params = tree_map(lambda p: p.detach().to(dtype), params)
    state = init(params, key=k, config=config, synapses=synapses, keep=keep, units=units)
    names = iter(range(10_000))
    grads = tree_map(lambda p: normal(fold_in(k, next(names)), p.shape, dtype=p.dtype), params)
    busy = tree_map(lambda c: c + 10 * torch.arange(c.numel()).reshape(c.shape) if c.ndim else c, state.activity)
    rate = tree_map(lambda r: r.to(rate_dtype or r.dtype), state.rate)
    if keep:  # The parameters have moved since the beginning.
        params = tree_map(lambda p: (1.1 * p + 0.05 * normal(fold_in(k, next(names)), p.shape)).to(p.dtype), params)
    if units is not None and state.units != ():
        state = state._replace(units=_lived_in(state.units, k))
    return params, grads, state._replace(rate=rate, activity=busy)


def _lived_in(fields, k):
    """Fields of units as a run would leave them: a fifth of the units silent, the others different."""
    filled = {}
    for index, (field, tree) in enumerate(sorted(fields.items())):
        filled[field] = {}
        for number, (name, old) in enumerate(sorted(tree.items())):
            unit = funcbio.uniform(fold_in(fold_in(k, 20_000 + index), number), old.shape)
            value = torch.where(unit < 0.2, 0.0, unit) if field == "signal" else unit
            filled[field][name] = value if old.is_floating_point() else (5 * unit).to(old.dtype)
    return filled


def model_world(name, seed=0, dtype=torch.float32, config=EVERYTHING, rate_dtype=None, keep=()):
    torch.manual_seed(seed)
    model = MODELS[name][0]()
    units = in_line(model) if any(one in ROWS and ROWS[one].by_unit for one in keep) else None
    described = funcbio.synapses(model)
    return world(dict(model.named_parameters()), seed, described, config, dtype, rate_dtype, keep, units)
