"""Every public object prints as what it is: never an address, never settings that are the defaults."""

import copy
import re
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioConverter, Mechanism, attach, bind, chain, key, presets, units
from funcbio.compat import release
from funcbio.experiments import data, datasets
from funcbio.integrations import lightning, transformers

pytestmark = pytest.mark.filterwarnings("ignore::funcbio.IdleWarning")
MODULES = (
    "experiments.data",
    "experiments.datasets",
    "compat.release",
    "integrations.lightning",
    "integrations.transformers",
    "monitor",
    "plot",
    "presets",
    "rng",
)
ALIASES = {torch.Tensor, Any}
"""What has another name here: ``Key`` and ``Tree``."""


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def public_classes():
    """Every class with a public name."""
    found = {getattr(funcbio, name) for name in funcbio.__all__}
    for path in MODULES:
        module = getattr(funcbio, path, None) or import_module(f"funcbio.{path}")
        own = [name for name, item in vars(module).items() if getattr(item, "__module__", "") == module.__name__]
        found |= {getattr(module, name) for name in getattr(module, "__all__", own)}
    return {item for item in found if isinstance(item, type)} - ALIASES


def handle():
    model = net()
    rejuvenation = Mechanism("rejuvenate_weights", every=100)
    made = attach(torch.optim.SGD(model.parameters(), lr=0.1), model, ["fuzzy_learning_rates", rejuvenation])
    model(torch.ones(2, 4)).sum().backward()
    made.optimizer.step()
    return made


def state():
    model = net()
    return bind(model).init(dict(model.named_parameters()), key=key(0))


def table_of_units():
    return units(net(), torch.randn(3, 4))


def result():
    table = {"member": [0, 1], "seed": [3, 4], "lr": [0.1, 0.1], "step": [9, 9], "loss": [0.5, 0.75]}
    return funcbio.SweepResult(table, ["lr"], {}, {})


def halve(params, grads, state, /, *, key=None):
    return params, grads, state


@dataclass(frozen=True)
class Own(BioConfig):
    mine: float = 1.0


CHANGED = {"dampening_factor": 0.3, "fuzzy_lr_distribution": "gamma", "weight_splitting_activation_function": F.relu}
PRINTED = {
    funcbio.BioConfig: (lambda: BioConfig(**CHANGED), ["BioConfig(dampening_factor=0.3, ", "=relu", "='gamma'"]),
    funcbio.BioConverter: (
        lambda: BioConverter(dampening_factor=0.3, synapses="gru.*", steps=["crystallize"]).expose(halve),
        ["BioConverter(dampening_factor=0.3, synapses='gru.*', steps=('crystallize',)).expose(halve)"],
    ),
    funcbio.BioModule: (
        lambda: BioConverter(dampening_factor=0.3)(net())[0].bio_mod,
        ["BioModule(distribution=uniform, dampening_factor=0.3)"],
    ),
    funcbio.BioState: (state, ["BioState:\n", "\n  rate: 0.weight (8, 4), 2.weight (1, 8); 2 of no dimensions\n"]),
    funcbio.Bound: (
        lambda: bind(net(), BioConfig(dampening_factor=0.3)),
        [
            "Bound to 0.weight, 2.weight with BioConfig(dampening_factor=0.3):\n",
            "\n  crystallize(threshold=4.5e-05, dampening=0.3, floor=0.0)\n",
            "\n  redo(threshold=0.025, every=1000, outgoing='zero'); needs units=\n",
        ],
    ),
    funcbio.CReLU: (funcbio.CReLU, ["CReLU(dim=-1)"]),
    funcbio.ConfigError: (lambda: funcbio.ConfigError("what is wrong"), ["ConfigError('what is wrong')"]),
    funcbio.DANNConv2d: (lambda: funcbio.DANNConv2d(3, 4, 3), ["DANNConv2d(3, 4, kernel_size=(3, 3), inhibitory="]),
    funcbio.DANNLinear: (lambda: funcbio.DANNLinear(3, 2), ["DANNLinear(3, 2, inhibitory=1)"]),
    funcbio.DaleWarning: (lambda: funcbio.DaleWarning("no table"), ["DaleWarning('no table')"]),
    funcbio.Distribution: (lambda: funcbio.Distribution.GAMMA, ["<Distribution.GAMMA: 'gamma'>"]),
    funcbio.Feature: (lambda: chain(funcbio.crystallize, chain(halve)), ["chain(crystallize, chain(halve))"]),
    funcbio.FileError: (lambda: funcbio.FileError("damaged"), ["FileError('damaged')"]),
    funcbio.Handle: (
        handle,
        ["Handle(fuzzy_learning_rates (update), rejuvenate_weights (after, every 100); 0.weight, 2.weight; 1 step)"],
    ),
    funcbio.IdleWarning: (lambda: funcbio.IdleWarning("idle"), ["IdleWarning('idle')"]),
    funcbio.Mechanism: (lambda: Mechanism("redo", every=3), ["Mechanism('redo', where='after', every=3)"]),
    funcbio.SweepResult: (result, ["SweepResult(members=2, hyper=['lr'], metrics=['loss'])"]),
    funcbio.Synapse: (
        lambda: funcbio.synapses(net())["2.weight"],
        ["Synapse(weight='2.weight', kind='Linear', index=1, total=2, readout=True, bias='2.bias')"],
    ),
    funcbio.Units: (table_of_units, ["Units(2 populations; can be replaced: 8 of 9 units)"]),
    presets.Preset: (lambda: presets.keep_plasticity(quiet=True), ["keep_plasticity(", "\n  does: ", "\n  evidence: "]),
    release.BioConfig: (lambda: release.BioConfig(dampening_factor=0.3), ["BioConfig(dampening_factor=0.3)"]),
    release.BioConverter: (
        lambda: release.BioConverter(release.BioConfig(dampening_factor=0.3)),
        ["BioConverter(dampening_factor=0.3)"],
    ),
    release.BioModule: (
        lambda: release.BioConverter(release.BioConfig())(net())[0].bio_mod,
        ["BioModule(distribution=uniform)"],
    ),
    data.Digits: (data.digits, ["Digits(1437 images to train on, 360 to measure)"]),
    datasets.Images: (
        lambda: datasets.load("digits"),
        ["Images('digits': 1797 of shape (1, 8, 8), 1797 to train on, 10 classes)"],
    ),
    lightning.BioCallback: (
        lambda: lightning.BioCallback(["crystallize", Mechanism("fuzzy_learning_rates", every=2)]),
        ["BioCallback(crystallize (gradient), fuzzy_learning_rates (update, every 2))"],
    ),
    transformers.BioCallback: (
        lambda: transformers.BioCallback(["fuzzy_learning_rates"]),
        ["BioCallback(fuzzy_learning_rates (update))"],
    ),
}
BESIDE = {
    "population": (lambda: table_of_units()["0.weight"], ["Population(0.weight: 8 units -> 2.weight; can be"]),
    "a method": (lambda: BioConverter()(net()).crystallize, ["<crystallize() of Sequential>"]),
    "the combined call": (lambda: BioConverter()(net()).bio_step, ["<bio_step('crystallize', "]),
    "an exposed method": (lambda: BioConverter().expose(funcbio.l2_init)(net()).l2_init, ["<l2_init() of Sequential>"]),
    "an observed model": (lambda: funcbio.observe(net()), ["observe(Sequential: 0.weight"]),
    "a partial": (
        lambda: Mechanism(partial(funcbio.crystallize, floor=0.1)),
        ["Mechanism(crystallize, where='gradient')"],
    ),
    "a function": (lambda: Mechanism(halve), ["Mechanism(halve, where='gradient')"]),
    "defaults": (lambda: [BioConfig(), BioConverter()], ["[BioConfig(), BioConverter()]"]),
    "a configuration of one's own": (
        lambda: Own(dampening_factor=0.3, mine=2.0),
        ["Own(dampening_factor=0.3, mine=2.0)"],
    ),
    "a converter with it": (lambda: BioConverter(Own(mine=2.0)), ["BioConverter(config=Own(mine=2.0))"]),
    "a long chain": (lambda: chain(*[halve] * 12), ["chain(" + "halve, " * 9 + "halve and 2 more)"]),
}


CASES = {**{f"{item.__module__}.{item.__name__}": case for item, case in PRINTED.items()}, **BESIDE}


def test_no_public_class_is_forgotten():
    assert public_classes() == {*PRINTED}


@pytest.mark.parametrize("case", CASES)
def test_it_prints_as_what_it_is(case):
    make, parts = CASES[case]
    printed = repr(make())
    assert all(part in printed for part in parts), printed
    assert " object at " not in printed
    # Only a function says where it is, as Python's own do.
    assert "0x" not in re.sub(r"<function .* at 0x\w+>", "", printed)
    assert max(map(len, printed.split("\n"))) <= 200


@pytest.mark.parametrize("case", ["a function", "a configuration of one's own", "funcbio.bio_config.BioConfig"])
def test_copies_print_alike(case):
    made = CASES[case][0]()
    assert repr(copy.deepcopy(made)) == repr(made)


def test_every_setting_that_differs_is_printed():
    """What is left out is what the constructor fills in again."""
    config = BioConfig(lr_variability=0.5, rejuvenation_variant="swr", treat_norms=True)
    assert eval(repr(config), {"BioConfig": BioConfig}) == config
    assert eval(repr(Mechanism("redo", every=3))) == Mechanism("redo", every=3)


def test_the_state_of_members_prints_within_a_transform():
    texts = []

    def look(rate):
        texts.append(repr(funcbio.BioState(rate={"w": rate})))
        return rate

    torch.vmap(look)(torch.ones(5, 2, 3))
    assert texts == ["BioState:\n  rate: w (2, 3)"]


def test_converters_that_print_alike_make_classes_of_their_own():
    one, other = (BioConverter(weight_splitting_activation_function=lambda x: x)(nn.Linear) for _ in range(2))
    assert one is not other


def test_functions_of_one_name_train_apart():
    """A sweep tells members apart by their functions, not by what these print as."""

    def by(factor):
        def scale(params, grads, state, /, *, key=None):
            return params, {name: factor * grad for name, grad in grads.items()}, state

        return [scale]

    x = torch.randn(8, 4)
    variants = {"none": by(0.0), "all": by(1.0)}
    options = {"steps": 1, "batch_size": 8, "lr": 0.1, "seeds": 1, "progress": False, "share": ["weights"]}
    found = funcbio.sweep(lambda: nn.Linear(4, 1), F.mse_loss, (x, x[:, :1]), mechanisms=variants, **options)
    assert not torch.equal(*found.params["weight"])


def test_dir_shows_public_names_only():
    modules = {"compat", "monitor", "plot", "presets", "rng"}
    assert {*dir(funcbio)} == {*funcbio.__all__, *modules, "__version__"}
    assert all(hasattr(funcbio, name) for name in dir(funcbio))
    for name in modules:
        assert dir(getattr(funcbio, name)) == sorted(getattr(funcbio, name).__all__)
