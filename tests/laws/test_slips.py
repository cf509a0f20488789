"""Likely slips: one error that says what was meant, before anything changes; and what is taken as it comes."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import funcbio
from funcbio import BioConfig, BioConverter, Mechanism, attach, bind, chain, crystallize, key, presets, sweep
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.sweep_file import parts, settings
from funcbio.integrations.transformers import BioCallback

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(16, 4, generator=GENERATOR)
Y = X.sum(1, keepdim=True)
MODEL = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
CONVERTED = BioConverter()(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)))
FIELDS = {"dampening_factor": 0.5}


class Splitter:
    def split(self, rows):
        raise AssertionError("it is the user who calls it")


def run(**changes):
    arguments = {"model": lambda: nn.Linear(4, 1), "loss": F.mse_loss, "data": (X, Y), "steps": 2, "batch_size": 8}
    return sweep(
        **{**arguments, "seeds": 2, "progress": False, **({} if "grid" in changes else {"lr": 0.1}), **changes}
    )


def on(mechanisms, optimizer=None, model=MODEL, **options):
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.1) if optimizer is None else optimizer
    return attach(optimizer, model, mechanisms, **options)


def training(**changes):
    content = {"model": {"name": "mlp"}, "data": {"name": "digits"}, "seeds": 2}
    return settings._arguments({**content, "training": {"loss": "cross_entropy", "steps": 1, **changes}})


SLIPS = {
    "a network": (lambda: run(model=MODEL), "model should be a function .* lambda: Net.*; found a Sequential"),
    "a class with arguments": (
        lambda: run(model=nn.Linear),
        "model should .* found Linear, which needs in_features, out",
    ),
    "learning_rate": (lambda: run(learning_rate=0.1), "learning_rate should be an argument of sweep, perhaps lr"),
    "epochs": (lambda: run(epochs=3), "epochs should be an argument of sweep, perhaps steps"),
    "a field": (lambda: run(**FIELDS), r"dampening_factor should be given by the .* config=BioConfig\(damp"),
    "learning_rate in a grid": (lambda: run(grid={"learning_rate": [0.1]}), "grid should .*, perhaps lr; found 'learn"),
    "several rates": (lambda: run(lr=[0.1, 0.2]), r"lr should be a number >= 0; found \[0.1, 0.2\]: grid=\{'lr'"),
    "an array of rates": (lambda: run(lr=np.array([0.1])), "lr should be a number .*: grid="),
    "seeds that are no integers": (lambda: run(seeds=np.arange(2.0)), "seeds should be an integer >= 1, or one or"),
    "seeds that are truths": (lambda: run(seeds=torch.ones(2).bool()), "seeds should be an integer >= 1, or one or"),
    "seeds in rows": (lambda: run(seeds=torch.zeros(2, 2).long()), "seeds should be an integer >= 1, or one or"),
    "a loader": (lambda: run(data=DataLoader(TensorDataset(X, Y))), "data .* found a DataLoader: give the tensors of"),
    "a data set": (lambda: run(data=Subset(TensorDataset(X, Y), range(8))), "data .* found a Subset: next.iter"),
    "a dictionary of data": (lambda: run(data={"x": X, "y": Y}), r"data .* found a dict: give a tuple, \(inputs, targ"),
    "one array": (lambda: run(data=X.numpy()), "data should be a sequence of two or more tensors.* found an? ndarray"),
    "an array of names": (
        lambda: run(data=(X, np.array(["a"] * 16))),
        "data should hold numbers; found an array of <U1",
    ),
    "an optimizer's name": (
        lambda: run(optimizer="Adam"),
        r"optimizer .* found 'Adam': give the class, torch.optim.Adam$",
    ),
    "in small letters": (lambda: run(optimizer="rmsprop"), "found 'rmsprop': give the class, torch.optim.RMSprop$"),
    "misspelt": (lambda: run(optimizer="AdamWW"), "found 'AdamWW': give the class, torch.optim.AdamW$"),
    "an optimizer": (
        lambda: run(optimizer=torch.optim.Adam(MODEL.parameters())),
        "optimizer .* found an Adam: give the class, torch.optim.Adam, or a partial of it",
    ),
    "a number of folds": (lambda: run(folds=5), r"folds should be pairs .* found 5: KFold\(5\).split\(x\) of scikit"),
    "a splitter": (lambda: run(folds=Splitter()), r"folds should be pairs .*: call its split\(x\)"),
    "a class of loss": (lambda: run(loss=nn.MSELoss), r"loss .* found the class MSELoss: call it, MSELoss\(\)"),
    "a loss's name": (lambda: run(loss="mse_loss"), "loss .* found 'mse_loss': torch.nn.functional.mse_loss"),
    "a metric": (lambda: run(test=(X, Y), metrics=F.l1_loss), r"metrics should .*: give them by name, \{'l1_loss': l1"),
    "a list of metrics": (lambda: run(test=(X, Y), metrics=[F.l1_loss]), "metrics should .*: give them by name"),
    "a mechanism": (lambda: run(mechanisms="crystallize"), r"mechanisms .* found 'crystallize': give a list, \['cryst"),
    "a function": (lambda: run(mechanisms=crystallize), r"mechanisms should .*: give a list, \[crystallize\]"),
    "a preset in a list": (lambda: run(mechanisms=[presets.keep_plasticity(quiet=True)]), "leave out the list around"),
    "a preset not called": (lambda: run(mechanisms=presets.keep_plasticity), r": call it, keep_plasticity\(\)"),
    "fields in a sweep": (
        lambda: run(config=FIELDS),
        r"config should be a BioConfig; found a dict: BioConfig\(\*\*fiel",
    ),
    "a converter in a sweep": (
        lambda: run(config=BioConverter()),
        "config .* found a BioConverter: give converter.conf",
    ),
    "the model for a configuration": (
        lambda: BioConverter(MODEL),
        r"found a Sequential: BioConverter\(\)\(model\) conv",
    ),
    "its class": (lambda: BioConverter(nn.Linear), r"config should .* found the class Linear: BioConverter\(\)\(model"),
    "fields for a converter": (lambda: BioConverter(FIELDS), r"config .* found a dict: BioConfig\(\*\*fields\)"),
    "fields by position": (
        lambda: BioConfig(FIELDS),
        r"config should be given field by field; found a dict: BioConfig",
    ),
    "a list for a chain": (
        lambda: chain([crystallize]),
        r"features should be functions.*: give them one by one, chain\(",
    ),
    "a name for a chain": (lambda: chain("crystallize"), "found 'crystallize': give the function, funcbio.crystallize"),
    "a misspelt name": (lambda: chain("cristalize"), "found 'cristalize': give the function, funcbio.crystallize"),
    "a Mechanism for a chain": (
        lambda: chain(Mechanism("crystallize")),
        "features should be functions.*: attach takes",
    ),
    "names for bind": (lambda: bind(MODEL.named_parameters()), r"model .* a generator: dict\(model.named_parameters"),
    "a class for bind": (
        lambda: bind(nn.Linear),
        "model should be a module, or a tree .* found the class Linear: call",
    ),
    "an optimizer for bind": (lambda: bind(torch.optim.SGD(MODEL.parameters())), "model should .* found an? SGD"),
    "fields for bind": (lambda: bind(MODEL, FIELDS), "config should be a BioConfig; found a dict: BioConfig"),
    "a field for bind": (lambda: bind(MODEL, **FIELDS), "dampening_factor should be given by the configuration"),
    "units for bind": (lambda: bind(MODEL, units=True), "units should be a table made by funcbio.units, or None"),
    "a feature's name": (lambda: bind(MODEL).cristallize, "no attribute 'cristallize', perhaps crystallize"),
    "a model for trees": (
        lambda: crystallize(MODEL, MODEL, MODEL),
        r"found Sequential.*: dict\(model.named_parameters",
    ),
    "the model first": (
        lambda: attach(MODEL, torch.optim.SGD(MODEL.parameters()), ["crystallize"]),
        r"before the model",
    ),
    "a class of optimizer": (
        lambda: on(["crystallize"], torch.optim.SGD),
        r"found the class SGD: make one, SGD\(model",
    ),
    "a scheduler": (
        lambda: on(["crystallize"], torch.optim.lr_scheduler.StepLR(torch.optim.SGD(MODEL.parameters()), 1)),
        "optimizer should be .* found a StepLR: give its .optimizer",
    ),
    "a class of model": (
        lambda: on(["crystallize"], model=nn.Linear),
        "model should be an nn.Module; found the class L",
    ),
    "a name for attach": (lambda: on("crystallize"), r"mechanisms should be .*: give a list, \['crystallize'\]"),
    "lists by name": (
        lambda: on({"bio": ["crystallize"]}),
        "mechanisms should be .*: several lists by name are for swe",
    ),
    "every": (lambda: on(["crystallize"], every=9), r"every should be given with the mechanism, as Mechanism\("),
    "a field for attach": (lambda: on(["crystallize"], **FIELDS), "dampening_factor should be given by the configura"),
    "fields for attach": (lambda: on(["crystallize"], config=FIELDS), r"config should .*: BioConfig\(\*\*fields\)"),
    "a class of converter": (
        lambda: on(["crystallize"], converter=BioConverter),
        r"converter .*: call it, BioConverter",
    ),
    "settings": (lambda: on(BioConfig()), "mechanisms should be .* found BioConfig.*: give it as config="),
    "a converter": (lambda: on(BioConverter()), "mechanisms should be .*: give config=converter.config"),
    "a converter for mechanisms in a sweep": (lambda: run(mechanisms=BioConverter()), ": give config=converter.config"),
    "splitting": (lambda: on(["split_weights"]), r": weights are split when .* by BioConfig\(weight_splitting_Gamma=2"),
    "a title": (lambda: on(["spine turnover"]), "feature should be one of .*, perhaps rejuvenate_weights; found"),
    "a title with hyphens": (lambda: on(["volume-dependent plasticity"]), "perhaps volume_dependent_lr; found"),
    "a method of a model": (
        lambda: on([CONVERTED.crystallize]),
        "feature should be the name of a method or a function",
    ),
    "the order of torch's normal": (
        lambda: funcbio.randint(funcbio.key(0), (5,), 0, 10),
        r"low should be an integer .* found \(5,\): the order is randint\(key, low, high, shape\)",
    ),
    "ends in the wrong order": (
        lambda: funcbio.uniform(key(0), low=2, high=1),
        "high should be low, 2, or more; found 1",
    ),
    "no state": (
        lambda: crystallize({"w": torch.ones(2, 2)}, {"w": torch.ones(2, 2)}, None),
        "state should be a BioState, as funcbio.init makes it; found None",
    ),
    "a seed of many bits": (lambda: funcbio.key(2**70), "seed should fit into 64 bits"),
    "a number of a preset": (lambda: presets.keep_plasticity(pull=-1), "pull should be a number >= 0; found -1"),
    "a share of a preset": (lambda: presets.keep_plasticity(threshold=2), r"threshold should be .* found 2"),
    "a list in a list": (lambda: on([["crystallize"]]), r"feature should be the name .*: leave out the list around it"),
    "a name misspelt": (
        lambda: on(["cristallize"]),
        "feature should be one of .* and 18 more, perhaps crystallize; fo",
    ),
    "a hyper-parameter": (
        lambda: Mechanism("crystallize", threshold=0.1),
        r"threshold of crystallize should be given by the configuration, as BioConfig\(crystal_thresh=",
    ),
    "a name for a callback": (lambda: BioCallback("crystallize"), r"mechanisms should be .*: give a list, \['crystall"),
    "fields for a callback": (
        lambda: BioCallback(["crystallize"], config=FIELDS),
        r"config should .*: BioConfig\(\*\*",
    ),
    "learning_rate in a file": (lambda: training(learning_rate=0.1), "learning_rate should be a key .* perhaps lr"),
    "a name in a file": (
        lambda: parts.mechanisms("crystallize"),
        r"mechanisms should .*: give a list, \['crystallize'\]",
    ),
    "an optimizer in a file": (
        lambda: parts.optimizer("adam", {}),
        "optimizer should be .*, perhaps Adam; found 'adam'",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_gets_the_right_hint_and_changes_nothing(slip):
    call, message = SLIPS[slip]
    before = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises((ValueError, TypeError, AttributeError, SettingError), match=message) as raised:
        call()
    assert len(f"{raised.value}") < 700
    assert MODEL.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in MODEL.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def alike(one, other):
    assert one.table == other.table
    assert all(torch.equal(tensor, other.params[name]) for name, tensor in one.params.items())


@pytest.mark.parametrize(
    "seeds",
    [range(3), np.arange(3), torch.arange(3), (0, 1, 2), np.int64(3), torch.tensor(3), [np.int32(i) for i in range(3)]],
)
def test_seeds_of_every_kind(seeds):
    alike(run(seeds=seeds), run(seeds=3))


@pytest.mark.parametrize("values", [np.array([0.5, 0.25]), torch.tensor([0.5, 0.25]), (np.float32(0.5), 0.25)])
def test_values_of_a_grid_of_every_kind(values):
    alike(run(grid={"lr": values}), run(grid={"lr": [0.5, 0.25]}))


def test_numbers_of_numpy_count():
    sizes = {"steps": np.int64(2), "batch_size": np.int32(8), "record_every": np.int64(1), "chunk": np.int64(1)}
    alike(run(**sizes, lr=np.float64(0.1)), run(record_every=1, chunk=1))
    assert Mechanism("crystallize", every=np.int64(3)) == Mechanism("crystallize", every=3)
    assert torch.equal(key(np.int64(3)), key(3))
    assert torch.equal(funcbio.fold_in(key(0), np.int64(3)), funcbio.fold_in(key(0), 3))


def read_only(tensor):
    array = tensor.numpy().copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "data",
    [
        (X.numpy(), Y.numpy()),
        (X.numpy().astype(np.float64), Y),
        [read_only(X), Y.numpy()],
        (np.flip(np.flip(X.numpy(), 0).copy(), 0), Y),
        TensorDataset(X, Y),
    ],
)
def test_data_of_every_kind(data):
    alike(run(data=data, test=data), run(test=(X, Y)))
    rows = [([*range(8)], [*range(8, 16)])]
    alike(run(data=data, folds=rows), run(folds=rows))


def test_arrays_of_float64_follow_the_default_type_and_integers_stay():
    def loss(output, target):
        assert target.dtype == torch.int64
        return F.cross_entropy(output, target)

    labels = (Y[:, 0] > 0).long().numpy()
    make = lambda: nn.Linear(4, 2)
    run(model=make, loss=loss, data=(X.numpy().astype(np.float64), labels))
    torch.set_default_dtype(torch.float64)
    try:
        found = run(model=make, loss=loss, data=(X.numpy().astype(np.float64), labels))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.params["weight"].dtype == torch.float64


def test_the_users_arrays_are_not_written_to():
    array = X.numpy().copy()
    run(data=(array, Y.numpy()))
    assert np.array_equal(array, X.numpy())


def test_calls_that_were_right_stay_right():
    """Hints look at what a function lacks, not at how it is made."""
    alike(run(model=partial(nn.Linear, 4, 1)), run())
    alike(run(model=lambda *args, **kwargs: nn.Linear(4, 1)), run())
    assert run(loss=nn.MSELoss()).metrics == run().metrics
    assert chain()({}, {}, None) == ({}, {}, None)
    assert [*bind({"w": torch.ones(2, 2)}).synapses] == ["w"]


MANY = [f"layer{i}" for i in range(30)]


def several(count=30):
    return nn.ModuleDict({name: nn.Linear(2, 2) for name in MANY[:count]})


LISTS = {
    "parameters": lambda: funcbio.synapses(several(), "none.*"),
    "variants": lambda: run(mechanisms={name: [] for name in MANY}, grid={"mechanisms": ["other"]}),
    "features": lambda: Mechanism("other"),
    "layers": lambda: loaded_into_another(),
    "steps": lambda: run(steps=30, record_every=1).summary("train_loss", step=99),
    "what a factory needs": lambda: run(model=lambda a, b, c, d, e, f, g, h, i, j, k, l: None),  # noqa: E741
}


def loaded_into_another():
    one, other = several(), several(20)
    handles = [attach(torch.optim.SGD(m.parameters(), lr=0.1), m, ["fuzzy_learning_rates"]) for m in (one, other)]
    handles[0].load_state_dict(handles[1].state_dict())


@pytest.mark.parametrize("case", LISTS)
def test_lists_in_messages_stop_at_ten(case):
    with pytest.raises(ValueError, match=r"should") as raised:
        LISTS[case]()
    should = f"{raised.value}".split("; found")[0]
    assert len([word for word in should.split(", ") if word]) <= 11
    assert len(f"{raised.value}") < 700


def spoken(tree):
    """Every place where a message is made: what is raised, warned of, or required."""
    for node in ast.walk(tree):
        called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Raise) or called in ("warn", "require"):
            yield node


def test_no_message_joins_names_without_an_end():
    """Names that come from users go through ``listed``; constants of the library are few."""
    for path in sorted(Path(funcbio.__file__).parent.rglob("*.py")):
        if "experiments" in path.parts:
            continue
        for message in spoken(ast.parse(path.read_text())):
            for node in ast.walk(message):
                if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "join":
                    continue
                names = [part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)]
                names = [name for name in names if name not in ("map", "str", "shown", "kind")]
                few = names == FEW.get(path.name)
                assert few or all(name.isupper() for name in names), f"{path.name}: {ast.unparse(node)}"


FEW = {
    "_given.py": ["needed"],
    "_loggers.py": ["changes"],
    "_job.py": ["data"],
    "_choice.py": ["distinct"],
    "_flat.py": ["path"],
}
"""Lists that are short by themselves, or cut where they are made."""
