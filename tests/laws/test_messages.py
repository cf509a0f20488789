"""Messages of errors: what is no mechanism is refused at every door, in one line, before anything changes."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, Mechanism, attach, bind, chain, observe, presets, sweep
from funcbio._checks import PRESETS
from funcbio.mechanisms import ROWS


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))


X = torch.linspace(-1, 1, 64).reshape(16, 4)
Y = X.sum(1, keepdim=True)


def run(**changes):
    arguments = {"model": network, "loss": nn.functional.mse_loss, "data": (X, Y), "steps": 2, "batch_size": 8}
    return sweep(**{**arguments, "seeds": 2, "progress": False, **changes})


def attached(mechanisms, **options):
    """Attaches to a new network, which an error has to leave as it was."""
    model = network()
    names = [*model.state_dict()]
    try:
        return attach(torch.optim.SGD(model.parameters(), lr=0.1), model, mechanisms, **options)
    except Exception:
        assert [*model.state_dict()] == names
        raise


DOORS = {
    "attach": lambda feature: attached([feature]),
    "sweep": lambda feature: run(mechanisms=[feature]),
    "several lists": lambda feature: run(mechanisms={"plain": [], "own": [feature]}),
    "Mechanism": Mechanism,
    "chain": chain,
    "expose": lambda feature: BioConverter().expose(feature),
}
NO_FEATURES = {
    "a function that makes a preset": presets.keep_plasticity,
    "a class": nn.Linear,
    "another class": BioConfig,
    "a module": nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    "a function of one argument": lambda gradient: gradient,
    "without a key": lambda params, grads, state: (params, grads, state),
    "with more": lambda params, grads, state, more, *, key=None: (params, grads, state),
    "a partial": partial(lambda grads, factor: grads, factor=2),
    "a function of Python": len,
    "a number": 3,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", NO_FEATURES)
def test_what_cannot_be_called_as_a_mechanism_is_refused_at_every_door(door, case):
    with pytest.raises(
        ValueError, match=r"features? should be .*called as \(params, grads, state, \*, key\); found"
    ) as raised:
        DOORS[door](NO_FEATURES[case])
    assert "\n" not in f"{raised.value}"
    assert f"{raised.value}".endswith(": call it, keep_plasticity()") == (case == "a function that makes a preset")


class Scale:
    def __call__(self, params, grads, state, /, *, key=None):
        return params, grads, state

    def method(self, params, grads, state, **options):
        return params, grads, state


FEATURES = {
    "an object": Scale(),
    "a method": Scale().method,
    "a partial": partial(funcbio.l2_init, strength=0.1),
    "a chain": chain(funcbio.crystallize, funcbio.fuzzy_learning_rates),
    "a key by position or name": lambda params, grads, state, key: (params, grads, state),
    "what is mapped": torch.vmap(funcbio.crystallize),
    "what is wrapped": torch.no_grad()(funcbio.crystallize),
}


@pytest.mark.parametrize("feature", [*FEATURES.values(), *(row.feature for row in ROWS.values())])
def test_what_can_be_called_as_a_mechanism_is_taken(feature):
    assert Mechanism(feature).feature is feature
    chain(feature)


def test_a_keyword_that_a_field_sets_needs_no_default():
    def own(params, grads, state, /, *, key, strength):
        return params, grads, state

    assert Mechanism(own, hyper={"strength": "l2_init_strength"}).name == "own"
    with pytest.raises(ValueError, match="called as"):
        Mechanism(own)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bind(None), "model should be a module, or a tree of tensors; found None$"),
        (lambda: funcbio.init(None, key=funcbio.key(0)), "params should be a tree of tensors; found None$"),
        (lambda: funcbio.crystallize(None, None, None), "params should be a tree of tensors; found None$"),
    ],
)
def test_none_is_no_tree(call, message):
    with pytest.raises(ValueError, match=message):
        call()


HINTS = {
    "weight_decay": (lambda: run(weight_decay=0.1), r"given with .*partial\(torch.optim.SGD, weight_decay=\.\.\.\); f"),
    "a short name of it": (lambda: run(wd=0.1), "wd should be weight_decay, given with the optimizer, as optimizer=fu"),
    "momentum": (lambda: run(momentum=0.9), r"momentum should be given .*partial\(torch.optim.SGD, momentum="),
    "betas": (lambda: run(betas=(0.9, 0.99)), r"betas should be given .*partial\(torch.optim.Adam, betas="),
    "a field misspelt": (lambda: run(crystal_tresh=1.0), "crystal_tresh should be crystal_thresh, given by the conf"),
    "val": (lambda: run(val=(X, Y)), "val should be an argument of sweep, perhaps test; found"),
    "learning_rates": (lambda: run(learning_rates=[0.1]), "should be an argument of sweep, perhaps lr; found"),
    "no slip": (lambda: run(workers=3), "workers should be an argument of sweep; found"),
    "a preset": (lambda: attached(["l2_init"], preset=3), "preset should be an argument of attach, perhaps mechan"),
    "an optimizer that mixes": (lambda: run(optimizer="lbfgs"), "found 'lbfgs': torch.optim.LBFGS is none of these$"),
    "the same": (lambda: run(optimizer="LBFGS"), "found 'LBFGS': torch.optim.LBFGS is none of these$"),
    "its class": (lambda: run(optimizer=torch.optim.LBFGS), "found the class LBFGS$"),
    "another library's": (lambda: run(optimizer="lion"), "found 'lion'$"),
    "a preset's name": (
        lambda: attached(["keep_plasticity"]),
        r": give the preset alone, .*presets.keep_plasticity\(\)$",
    ),
    "alone": (lambda: attached("keep_plasticity"), r": give the preset alone, funcbio.presets.keep_plasticity\(\)$"),
    "in a sweep": (lambda: run(mechanisms=["keep_plastcity"]), r"alone, funcbio.presets.keep_plasticity\(\)$"),
    "a mechanism": (lambda: attached(["banana"]), "and 18 more; found 'banana'$"),
    "for a chain": (lambda: chain("banana"), "found 'banana'$"),
    "a distribution": (lambda: BioConfig(fuzzy_lr_distribution="log_normal"), "perhaps lognormal; found 'log_normal'$"),
    "another": (lambda: BioConfig(fuzzy_lr_distribution="cauchy"), "activity; found 'cauchy'$"),
    "letters of another size": (lambda: BioConfig(weight_splitting_gamma=2), "perhaps weight_splitting_Gamma; found"),
    "a preset's configuration": (lambda: BioConverter(preset()), "found a Preset: give preset.config$"),
    "for bind": (lambda: bind(torch.nn.Linear(2, 2), preset()), "found a Preset: give preset.config$"),
    "a converter's": (
        lambda: bind(torch.nn.Linear(2, 2), BioConverter()),
        "found a BioConverter: give converter.config$",
    ),
    "maximize": (
        lambda: run(optimizer=partial(torch.optim.SGD, maximize=True)),
        "without maximize, because a sweep goes down the loss: negate it; found 'maximize'$",
    ),
    "foreach": (lambda: run(optimizer=partial(torch.optim.SGD, foreach=True)), "a sweep chooses it itself; found 'for"),
    "batches without a key": (lambda: run(data=lambda: (X, Y)), r"data should be a function of a key, data\(key\) or"),
    "a feature that returns too little": (
        lambda: chain(lambda params, grads, state, *, key=None: params)({}, {}, None),
        "<lambda> should return params, grads and state; found {}$",
    ),
    "inputs of an observed model": (lambda: observe(torch.nn.Linear(2, 2))(X), "params should be a mapping of param"),
    "units of one": (lambda: observe(torch.nn.Linear(2, 2), units=3), "units should be a table made by funcbio.units"),
    "a field": (lambda: BioConfig(banana=2), "banana should be a field of BioConfig; found"),
}


@pytest.mark.parametrize("case", HINTS)
def test_a_hint_is_likely_or_there_is_none(case):
    call, message = HINTS[case]
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        call()
    assert ("perhaps" in f"{raised.value}") == ("perhaps" in message)


def test_the_names_of_presets_are_known():
    functions = [name for name in presets.__all__ if not isinstance(getattr(presets, name), type)]
    assert functions == [*PRESETS]


def preset():
    return presets.keep_plasticity(quiet=True)


WITH_PRESETS = {
    "a preset and a name": (
        lambda: attached([preset(), "crystallize"]),
        r": give \[\*preset, ...\] and config=preset.con",
    ),
    "behind it": (
        lambda: run(mechanisms=["crystallize", preset()]),
        r": give \[\*preset, ...\] and config=preset.config$",
    ),
    "alone": (lambda: attached([preset()]), "found a Preset: leave out the list around it$"),
    "several lists": (
        lambda: run(mechanisms={"a": [preset()], "b": []}),
        "found a Preset: leave out the list around it$",
    ),
    "a list in a list": (lambda: attached(["l2_init", ["crystallize", "l2_init"]]), ": give one list of all$"),
    "of one": (lambda: attached(["l2_init", ["crystallize"]]), ": leave out the list around it$"),
    "for a chain": (lambda: chain(preset()), "found a Preset: attach takes those"),
    "for a Mechanism": (lambda: Mechanism(preset()), "found a Preset$"),
}


@pytest.mark.parametrize("case", WITH_PRESETS)
def test_a_preset_where_it_cannot_be_gets_the_right_hint(case):
    call, message = WITH_PRESETS[case]
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in f"{raised.value}"


def test_the_parts_of_a_preset_go_with_others_as_the_hint_says():
    names = [one.name for one in attached([*preset(), "fuzzy_learning_rates"], config=preset().config).mechanisms]
    assert {"l2_init", "rejuvenate_weights", "fuzzy_learning_rates"} <= {*names}


LONG = {
    "a network": network(),
    "a preset": preset(),
    "an optimizer": torch.optim.SGD(network().parameters(), lr=0.1),
    "an array": np.eye(40),
    "a tensor": torch.eye(40),
    "a configuration of features": bind(network()),
    "a text of many lines": "a\nb\n" * 200,
    "a list of them": [network(), preset()],
}
KEYS = {"w": torch.ones(2, 2)}
ARGUMENTS = {
    **{
        f"sweep({name}=...)": lambda value, name=name: run(**{name: value})
        for name in ("loss", "data", "steps", "optimizer", "lr", "newborn", "config", "seeds", "grid", "folds")
    },
    **{
        f"sweep({name}=...)": lambda value, name=name: run(**{name: value})
        for name in ("batch_size", "metrics", "record_every", "units", "compile", "chunk", "save_seconds")
    },
    "a grid": lambda value: run(grid={"lr": [value]}),
    "mechanisms of a sweep": lambda value: run(mechanisms=[value]),
    "mechanisms": lambda value: attached([value]),
    "several": lambda value: attached(value) if not hasattr(value, "config") else attached([value]),
    "config": lambda value: attached(["l2_init"], config=value),
    "units": lambda value: attached(["l2_init"], units=value),
    "newborn": lambda value: attached(["l2_init"], newborn=value),
    "every": lambda value: Mechanism("l2_init", every=value),
    "where": lambda value: Mechanism("l2_init", where=value),
    "chain": chain,
    "a number of a configuration": lambda value: BioConfig(crystal_thresh=value),
    "a choice of a configuration": lambda value: BioConfig(fuzzy_lr_distribution=value),
    "key": funcbio.key,
    "shape": lambda value: funcbio.uniform(funcbio.key(0), value),
    "low": lambda value: funcbio.uniform(funcbio.key(0), low=value),
    "dtype": lambda value: funcbio.uniform(funcbio.key(0), dtype=value),
    "n": lambda value: funcbio.permutation(funcbio.key(0), value),
    "threshold": lambda value: funcbio.crystallize(KEYS, KEYS, funcbio.BioState(KEYS), threshold=value),
}


@pytest.mark.parametrize("door", ARGUMENTS)
@pytest.mark.parametrize("case", LONG)
def test_no_message_quotes_what_prints_on_several_lines(door, case):
    if case == "a network" and door in ("sweep(loss=...)", "sweep(data=...)"):
        return  # It is a function.
    with pytest.raises((ValueError, TypeError), match="should") as raised:
        ARGUMENTS[door](LONG[case])
    assert "\n" not in f"{raised.value}"
    assert len(f"{raised.value}") < 700


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda kind: run(mechanisms=kind(["l2_init", "crystallize"])), "mechanisms .*: a set has no order$"),
        (lambda kind: run(mechanisms={"own": kind(["l2_init"])}), r"mechanisms\['own'\] .*: a set has no order$"),
        (lambda kind: attached(kind(["l2_init", "crystallize"])), "mechanisms .*: a set has no order$"),
        (lambda kind: run(seeds=kind([3, 1])), "seeds should be"),
        (lambda kind: run(grid={"lr": kind([0.1, 0.2])}), r"grid\['lr'\] should be a list .*: a set has no order$"),
        (lambda kind: run(folds=kind([((0, 1), (2, 3))])), "folds should be .*: a set has no order$"),
        (lambda kind: run(grid={"lr": [0.1]}).best("train_loss", over=kind(["lr"])), "over should be"),
        (lambda kind: run(data=kind([X, Y])), "data should be a sequence"),
        (lambda kind: BioConverter(steps=kind(["l2_init"])), "steps should be"),
        (lambda kind: funcbio.uniform(funcbio.key(0), kind([2, 3])), "shape should be a sequence"),
    ],
)
def test_sets_are_refused_where_the_order_counts(call, message, kind):
    with pytest.raises(ValueError, match=message):
        call(kind)


@cache
def swept():
    return run(seeds=4, grid={"lr": [0.1, 0.2]})


THREE = [np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)]
NOT_THREE = [np.float64(3), 3.0, torch.tensor(3.0), np.array([3]), torch.tensor([3]), "3", None, np.bool_(True), True]
ZERO = funcbio.key(0)
INTEGERS = {
    "n": lambda three: funcbio.permutation(ZERO, three),
    "high": lambda three: funcbio.randint(ZERO, 0, three, (4,)),
    "low": lambda three: funcbio.randint(ZERO, three, 9, (4,)),
    "count": lambda three: funcbio.split(ZERO, three),
    "shape": lambda three: funcbio.uniform(ZERO, (three,)),
    "offset": lambda three: funcbio.normal(ZERO, (2,), offset=three),
    "every": lambda three: Mechanism("l2_init", every=three),
    "the period of a preset": lambda three: presets.keep_plasticity(every=three, quiet=True),
    "steps": lambda three: run(steps=three).table,
    "batch_size": lambda three: run(batch_size=three).table,
    "record_every": lambda three: run(steps=6, record_every=three).table,
    "seeds": lambda three: run(seeds=three).table,
    "seeds that choose": lambda three: swept().best("train_loss", over="lr", seeds=three).table,
}


@pytest.mark.parametrize("door", INTEGERS)
def test_integers_of_numpy_and_torch_count_as_pythons(door):
    expected = INTEGERS[door](3)
    for three in THREE:
        found = INTEGERS[door](three)
        assert torch.equal(found, expected) if isinstance(expected, torch.Tensor) else found == expected


@pytest.mark.parametrize("door", INTEGERS)
@pytest.mark.parametrize("value", NOT_THREE)
def test_what_is_no_integer_is_refused_by_the_rule(door, value):
    several = isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 1
    if (several and door in ("seeds", "seeds that choose", "high", "low")) or (
        value is None and door in ("record_every", "seeds that choose")
    ):
        return  # Several are allowed there, and None.
    with pytest.raises(ValueError, match="should be"):
        INTEGERS[door](value)


@pytest.mark.parametrize("seeds", [np.arange(2), torch.arange(2), [torch.tensor(0), np.int64(1)], range(2), {0, 1}])
def test_seeds_that_choose_may_be_of_every_kind(seeds):
    expected = swept().best("train_loss", over="lr", seeds=[0, 1])
    assert swept().best("train_loss", over="lr", seeds=seeds).table == expected.table


@pytest.mark.parametrize("value", [1e30, float("inf")])
def test_a_number_that_is_too_large_is_told_the_largest(value):
    for call in (
        lambda: run(lr=value),
        lambda: run(grid={"weight_decay": [value]}),
        lambda: run(save_seconds=value),
        lambda: BioConfig(crystal_thresh=value),
    ):
        with pytest.raises(ValueError, match=r"should be a number >=? 0, of magnitude 1e\+15 at most; found") as raised:
            call()
        assert f"{raised.value}".endswith(f"found {value}")
    with pytest.raises(ValueError, match="lr should be a number >= 0; found -1"):
        run(lr=-1.0)


LABELS = torch.arange(16) % 3
CLASSES = {"model": lambda: nn.Linear(4, 3), "loss": nn.functional.cross_entropy}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"data": (X.double(), LABELS)}, "found torch.float64, torch.int64: "),
        ({"data": (X.half(), LABELS)}, "found torch.float16, torch.int64: "),
        ({"data": (X.long(), LABELS)}, "found torch.int64: "),
        ({"data": (X, LABELS.int())}, "found torch.float32, torch.int32: "),
        ({"data": (X, LABELS), "test": (X.double(), LABELS)}, "found torch.float32, torch.int64, torch.float64: "),
        (
            {"data": lambda key: (funcbio.normal(key, (8, 4), dtype=torch.float64), LABELS[:8])},
            "found batches of other types: ",
        ),
    ],
)
def test_data_of_types_that_do_not_fit_are_named(changes, found):
    message = (
        f"data should be of types that the loss and the model, with parameters of torch.float32, can take; {found}"
    )
    with pytest.raises(ValueError, match=message):
        run(**CLASSES, **changes)


def test_an_error_of_the_model_stays_its_own():
    def broken(output, target):
        raise RuntimeError("of my own")

    with pytest.raises(RuntimeError, match=r"^of my own$"):
        run(loss=broken)


NET = network()
RAW = {
    "an output": (lambda: run(output=3), ValueError, "output should be a path, or None; found 3"),
    "a device": (
        lambda: run(device="vulkan"),
        ValueError,
        "device should be one that torch can use here; found 'vulkan'",
    ),
    "no device": (
        lambda: run(device="graphics"),
        ValueError,
        "device should be one that torch knows; found 'graphics'",
    ),
    "no result": (lambda: swept().join(None), TypeError, "others should be results of sweep; found None$"),
    "a list of them": (lambda: swept().join([swept()]), TypeError, r": give them one by one, join\(\*results\)$"),
    "an array": (lambda: funcbio.units(NET, X.numpy()), ValueError, "example should be .*arguments.*; found a ndarray"),
    "a tuple": (lambda: funcbio.units(NET, (X,)), ValueError, "example should be .*; found a tuple, and TypeError"),
    "none": (lambda: funcbio.units(NET, None), ValueError, "example should be .*; found None, and TypeError"),
    "saving": (lambda: funcbio.save_checkpoint(None), TypeError, "path should be a path, .*; found None"),
    "loading": (lambda: funcbio.load_checkpoint(3), TypeError, "path should be a path, .*; found 3"),
    "a table": (lambda: swept().to_csv(None), TypeError, "path should be a path, .*; found None"),
    "parameters": (lambda: swept().save_parameters(NET), TypeError, "folder should be a path, .*; found a Sequential"),
    "synapses": (lambda: funcbio.synapses(None), TypeError, "model should be an nn.Module; found None"),
    "observing": (
        lambda: funcbio.observe(nn.Linear),
        TypeError,
        "model should be an nn.Module; found the class Linear",
    ),
    "a shape of truths": (lambda: funcbio.uniform(ZERO, (True,)), ValueError, "shape should be a sequence of integers"),
}
DRAWS = {
    "uniform": lambda stream: funcbio.uniform(ZERO, (2,), stream=stream),
    "normal": lambda stream: funcbio.normal(ZERO, (2,), stream=stream),
    "bernoulli": lambda stream: funcbio.bernoulli(ZERO, stream=stream),
    "gamma": lambda stream: funcbio.gamma(ZERO, 2.0, (2,), stream=stream),
    "beta": lambda stream: funcbio.beta(ZERO, 2.0, 2.0, (2,), stream=stream),
    "randint": lambda stream: funcbio.randint(ZERO, 0, 3, (2,), stream=stream),
    "permutation": lambda stream: funcbio.permutation(ZERO, 3, stream=stream),
}


@pytest.mark.parametrize("case", RAW)
def test_an_argument_of_another_kind_is_refused_by_the_rule(case):
    call, error, message = RAW[case]
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in f"{raised.value}"


@pytest.mark.parametrize("stream", [3, None, b"a"])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_stream_has_a_text_for_its_name(draw, stream):
    with pytest.raises(ValueError, match="stream should be a text; found"):
        DRAWS[draw](stream)
