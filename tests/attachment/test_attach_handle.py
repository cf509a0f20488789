"""The handle: removed, copied, reloaded, resumed, and what attach refuses."""

import copy
import gc
import io
import pickle
import warnings
import weakref

import pytest
import torch
from attached import EVERY_STATE, OPTIMIZERS, bio_net, everything, loss_of, net, same, train, weights
from torch import nn, optim

from funcbio import (
    BioConfig,
    BioConverter,
    BioModule,
    ConfigError,
    Mechanism,
    attach,
    load_checkpoint,
    save_checkpoint,
)
from funcbio.engine._options import OPTIONS

# What is attached does not matter here: crystallize alone changes rates that nothing applies, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:crystallize should be used with:funcbio.IdleWarning")
ALL = [
    "update_fuzzy_learning_rates",
    "volume_dependent_lr",
    "fuzzy_learning_rates",
    "crystallize",
    "scale_grad",
    Mechanism("rejuvenate_weights", every=3),
    "enforce_dales_principle",
]


def world(name="adam", mechanisms=ALL, seed=0, **options):
    model = bio_net(seed, **EVERY_STATE)
    optimizer = OPTIMIZERS[name](model.parameters())
    return model, optimizer, attach(optimizer, model, mechanisms, ages=True, **options)


def reloaded(state):
    """A state as a file gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def agree(*worlds):
    """Asserts that models, optimizers and handles are in the same state."""
    (model, optimizer, handle), *others = worlds
    for other, other_optimizer, other_handle in others:
        same(everything(model), everything(other))
        for index, state in optimizer.state_dict()["state"].items():
            same(dict(state), dict(other_optimizer.state_dict()["state"][index]))
        first, second = handle.state_dict(), other_handle.state_dict()
        assert first["steps"] == second["steps"]
        for name in first["layers"]:
            same(first["layers"][name], second["layers"][name])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw fused", "rmsprop"])
@pytest.mark.parametrize("in_optimizer", [False, True])
def test_a_resumed_run_is_the_run_to_the_last_bit(name, in_optimizer):
    through = world(name)
    train(*through[:2], 10)
    model, optimizer, handle = world(name, in_optimizer=in_optimizer)
    train(model, optimizer, 5)
    plain = {n: w for n, w in model.state_dict().items() if ".bio_mod." not in n}
    saved = reloaded({"model": plain, "optimizer": optimizer.state_dict(), "handle": handle.state_dict()})
    fresh, fresh_optimizer, fresh_handle = world(name, seed=5, in_optimizer=in_optimizer)
    train(fresh, fresh_optimizer, 1)
    fresh.load_state_dict(saved["model"], strict=False)
    fresh_optimizer.load_state_dict(saved["optimizer"])
    if not in_optimizer:
        assert "funcbio" not in saved["optimizer"]
        fresh_handle.load_state_dict(saved["handle"])
    assert fresh_handle.steps == 5
    train(fresh, fresh_optimizer, 5, start=5)
    agree(through, (fresh, fresh_optimizer, fresh_handle))


def test_a_checkpoint_file_takes_the_handle_along(tmp_path):
    first, second = world(), world(seed=3)
    train(*first[:2], 4)
    names = ("model", "optimizer", "handle")
    save_checkpoint(tmp_path / "run.pt", **dict(zip(names, first, strict=True)))
    load_checkpoint(tmp_path / "run.pt", **dict(zip(names, second, strict=True)))
    for w in (first, second):
        train(*w[:2], 4, start=4)
    agree(first, second)


def two_models(seed=0):
    """Two models that one optimizer trains, each with a handle."""
    models = [bio_net(seed + i, **EVERY_STATE) for i in range(2)]
    optimizer = optim.Adam([p for model in models for p in model.parameters()], 1e-2)
    return models, optimizer, [attach(optimizer, model, ALL, in_optimizer=True) for model in models]


def steps_of_both(models, optimizer, steps, start=0):
    for number in range(start, start + steps):
        optimizer.zero_grad()
        sum(loss_of(model, number) for model in models).backward()
        optimizer.step()


@pytest.mark.parametrize("most", [1, 10**9])
def test_two_models_of_one_optimizer(most, monkeypatch):
    monkeypatch.setattr(OPTIONS, "update_elements", most)
    models, optimizer, handles = two_models()
    alone, optimizers, _ = zip(*(world(seed=i, in_optimizer=True) for i in range(2)), strict=True)
    for own in optimizers:
        own.param_groups[0]["amsgrad"] = False
    steps_of_both(models, optimizer, 4)
    for model, single, own in zip(models, alone, optimizers, strict=True):
        train(single, own, 4)
        same(everything(model), everything(single))
    others, other_optimizer, other_handles = two_models(seed=7)
    for other, model in zip(others, models, strict=True):
        other.load_state_dict({n: w for n, w in model.state_dict().items() if ".bio_mod." not in n}, strict=False)
    other_optimizer.load_state_dict(reloaded(optimizer.state_dict()))
    assert [h.steps for h in other_handles] == [h.steps for h in handles] == [4, 4]
    steps_of_both(models, optimizer, 3, start=4)
    steps_of_both(others, other_optimizer, 3, start=4)
    for model, other in zip(models, others, strict=True):
        same(everything(model), everything(other))


BROKEN = {
    "no dictionary": lambda s: 3,
    "no steps": lambda s: {"version": 1, "layers": s["layers"]},
    "version": lambda s: {**s, "version": 9},
    "steps": lambda s: {**s, "steps": -1},
    "steps that are no number": lambda s: {**s, "steps": "5"},
    "a layer less": lambda s: {**s, "layers": {"0.weight": s["layers"]["0.weight"]}},
    "no ages": lambda s: changed(s, lambda t: {n: v for n, v in t.items() if n != "age"}),
    "shape": lambda s: changed(s, lambda t: {**t, "age": torch.zeros(1, dtype=torch.int32)}),
    "kind of numbers": lambda s: changed(s, lambda t: {**t, "age": t["age"].float()}),
    "no tensor": lambda s: changed(s, lambda t: {**t, "key": None}),
}


def changed(state, change):
    return {**state, "layers": {**state["layers"], "4.weight": change(state["layers"]["4.weight"])}}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("riding", [False, True])
def test_a_state_that_does_not_fit_changes_nothing(case, riding):
    model, optimizer, handle = world(in_optimizer=riding)
    train(model, optimizer, 2)
    other, other_optimizer, other_handle = world(seed=1, in_optimizer=riding)
    train(other, other_optimizer, 1)
    before = copy.deepcopy((everything(other), other_optimizer.state_dict()["state"], other_handle.state_dict()))
    broken = BROKEN[case](handle.state_dict())
    loads = other_optimizer if riding else other_handle
    given = {**optimizer.state_dict(), "funcbio": [broken]} if riding else broken
    with pytest.raises(ValueError, match="should"):
        loads.load_state_dict(given)
    same(everything(other), before[0])
    for index, state in other_optimizer.state_dict()["state"].items():
        same(dict(state), dict(before[1][index]))
    assert other_handle.steps == before[2]["steps"]


def test_an_optimizer_state_saved_without_the_handle_is_refused():
    _, optimizer, _ = world()
    _, other, _ = world(in_optimizer=True)
    with pytest.raises(ValueError, match="save with in_optimizer=True"):
        other.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("way", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_a_copy_of_all_three_is_attached_and_goes_on_alike(way):
    first = world(in_optimizer=True)
    train(*first[:2], 2)
    second = way(first)
    assert second[2].attached
    second[2].check(*second[1::-1])
    assert second[2].model is second[0]
    assert second[2].optimizer is second[1]
    train(*second[:2], 4, start=2)
    assert first[2].steps == 2
    train(*first[:2], 4, start=2)
    agree(first, second)
    assert "funcbio" in second[1].state_dict()
    second[2].remove()
    assert first[2].attached


def test_a_copy_of_the_optimizer_alone_is_told():
    model, optimizer, handle = world()
    other, other_optimizer = copy.deepcopy((model, optimizer))
    handle.check()
    handle.check(optimizer, model)
    with pytest.raises(RuntimeError, match=r"optimizer should be the one attached.*copy \(model, optimizer, handle\)"):
        handle.check(other_optimizer)
    with pytest.raises(RuntimeError, match="model should be the one attached"):
        handle.check(model=other)
    again = attach(other_optimizer, other, ALL, ages=True)  # The copy of the model keeps its rates.
    again.load_state_dict(handle.state_dict())
    train(model, optimizer, 3)
    train(other, other_optimizer, 3)
    agree((model, optimizer, handle), (other, other_optimizer, again))


def test_hooks_that_were_taken_away_are_told():
    _, optimizer, handle = world()
    optimizer._optimizer_step_pre_hooks.clear()
    assert not handle.attached
    with pytest.raises(RuntimeError, match="should be attached"):
        handle.check()


@pytest.mark.parametrize("change", ["convert", "replace", "parameter"])
def test_layers_that_left_are_told_in_the_next_step(change):
    model, optimizer, handle = world()
    loss_of(model, 0).backward()
    if change == "convert":
        BioConverter()(model)
    elif change == "replace":
        bio = BioConverter()(nn.Sequential(nn.Linear(8, 3)))
        model[4] = bio[0]
    else:
        model[4].weight = nn.Parameter(model[4].weight.detach().clone())
    before = weights(model)
    for act in (optimizer.step, handle.check):
        with pytest.raises(RuntimeError, match=r"4.weight.* gone"):
            act()
    same(weights(model), before)


def test_a_plain_layer_put_in_later_is_told():
    model, optimizer, _ = world()
    model.append(nn.Linear(3, 3))
    loss_of(model, 0).backward()
    with pytest.warns(UserWarning, match="found 5, added"):
        optimizer.step()


def test_removing_makes_a_plain_model_and_a_plain_optimizer():
    model, plain = net(), net()
    before = [vars(module).keys() for module in model.modules()], list(model.state_dict())
    optimizer, other = OPTIMIZERS["adam"](model.parameters()), OPTIMIZERS["adam"](plain.parameters())
    handle = attach(optimizer, model, ["fuzzy_learning_rates"], in_optimizer=True)
    assert any(isinstance(module, BioModule) for module in model.modules())
    handle.remove()
    handle.remove()
    assert ([vars(module).keys() for module in model.modules()], list(model.state_dict())) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert optimizer.state_dict().keys() == {"state", "param_groups"}
    same(weights(train(model, optimizer, 3)), weights(train(plain, other, 3)))
    attach(optimizer, model, ["fuzzy_learning_rates"])


def test_a_model_converted_by_the_user_stays_converted():
    model, _, handle = world()
    handle.remove()
    model.crystallize if hasattr(model, "crystallize") else pytest.fail("the conversion is gone")
    assert isinstance(model[0].bio_mod, BioModule)


def test_the_last_handle_takes_the_conversion_off():
    model = net()
    optimizers = [optim.SGD(part.parameters(), 0.1) for part in (model[:2], model[2:])]
    first, second = [attach(optimizer, model, ["fuzzy_learning_rates"]) for optimizer in optimizers]
    first.remove()
    train(model, optimizers[1], 1)
    second.remove()
    assert not any(isinstance(module, BioModule) for module in model.modules())


def test_everything_is_freed_when_it_is_let_go():
    model, optimizer, handle = world()
    train(model, optimizer, 1)
    watched = [weakref.ref(one) for one in (model, optimizer, handle)]
    del model, optimizer, handle
    gc.collect()
    assert [ref() for ref in watched] == [None] * 3


def test_the_trees_are_what_the_pure_features_take():
    model, optimizer, handle = world()
    train(model, optimizer, 3)
    params, grads, state = handle.trees()
    from funcbio.functional._bind import bind

    bound = bind(model, model[0].bio_mod.config)
    new, _, changed = bound.crystallize(params, grads, state)
    same(new, params)
    assert changed.rate.keys() == params.keys() == grads.keys() == state.age.keys() == state.replaced.keys()
    assert bound.scale_grad(params, grads, state)[1]["0.weight"].shape == (12, 6)
    assert params["0.weight"].data_ptr() == model[0].weight.data_ptr()


@pytest.mark.parametrize("feature", ["fuzzy_learning_rates", "volume_dependent_lr"])
@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "nadam", "radam", "adagrad", "adadelta", "rmsprop"])
def test_a_rate_on_the_gradient_of_a_normalising_optimizer_is_warned_of_once(name, feature):
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    with pytest.warns(UserWarning, match=f"{feature} should act on the update.*leave where out") as found:
        attach(optimizer, model, [Mechanism(feature, where="gradient")])
    assert len(found) == 1
    assert found[0].filename == __file__
    train(model, optimizer, 2)  # Warnings are errors here.


def test_other_mechanisms_and_optimizers_are_not_warned_of():
    attach(optim.SGD((m := net()).parameters(), 0.1), m, [Mechanism("fuzzy_learning_rates", where="gradient")])
    attach(optim.Adam((m := net()).parameters(), 0.1), m, ["fuzzy_learning_rates", "crystallize"])


def sgd(model):
    return optim.SGD(model.parameters(), 0.1)


REFUSED = {
    "no optimizer": (
        lambda m: attach(None, m, ["crystallize"]),
        ValueError,
        "optimizer should be an optimizer, unless",
    ),
    "something else": (lambda m: attach(3, m, ["crystallize"]), TypeError, "optimizer should be a torch.optim"),
    "lbfgs": (lambda m: attach(optim.LBFGS(m.parameters()), m, ["crystallize"]), ValueError, "found LBFGS"),
    "sparse": (lambda m: attach(optim.SparseAdam(m.parameters()), m, ["crystallize"]), ValueError, "found SparseAdam"),
    "differentiable": (
        lambda m: attach(optim.SGD(m.parameters(), 0.1, differentiable=True), m, ["crystallize"]),
        ValueError,
        "differentiable",
    ),
    "no model": (lambda m: attach(sgd(m), m.parameters(), ["crystallize"]), TypeError, "model should be an nn.Module"),
    "others' weights": (lambda m: attach(sgd(net()), m, ["crystallize"]), ValueError, "optimizer should be one that"),
    "one name": (lambda m: attach(sgd(m), m, "crystallize"), ValueError, "mechanisms should be a sequence"),
    "none": (lambda m: attach(sgd(m), m, []), ValueError, "mechanisms should be a sequence"),
    "unknown": (lambda m: attach(sgd(m), m, ["crystalize"]), ValueError, "feature should be one of"),
    "a number": (lambda m: attach(sgd(m), m, [3]), ValueError, "feature should be"),
    "place": (lambda m: attach(sgd(m), m, [Mechanism("crystallize", where="before")]), ValueError, "where should be"),
    "too late": (
        lambda m: attach(sgd(m), m, [Mechanism("fuzzy_learning_rates", where="after")]),
        ValueError,
        "where should be 'gradient' or 'update'",
    ),
    "dale": (lambda m: attach(sgd(m), m, ["enforce_dales_principle"]), AttributeError, "apply_dales_principle"),
    "activity": (lambda m: attach(sgd(m), m, ["scale_grad"]), RuntimeError, "record_activity=True"),
    "config": (lambda m: attach(sgd(m), m, ["crystallize"], config=3), ValueError, "config should be a BioConfig"),
    "converter": (lambda m: attach(sgd(m), m, ["crystallize"], converter=3), ValueError, "converter should be a"),
    "both": (
        lambda m: attach(sgd(m), m, ["crystallize"], config=BioConfig(), converter=BioConverter()),
        ValueError,
        "config and converter should be",
    ),
    "flag": (lambda m: attach(sgd(m), m, ["crystallize"], ages=1), ValueError, "ages should be True or False"),
    "no synapses": (
        lambda m: attach(sgd(n := nn.Sequential(nn.LayerNorm(3))), n, ["crystallize"]),
        ValueError,
        "should contain a layer",
    ),
    "split": (
        lambda m: attach(sgd(m), m, ["crystallize"], config=BioConfig(weight_splitting_Gamma=5)),
        ValueError,
        "must evenly divide",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_attach_refuses_changes_nothing(case):
    call, error, message = REFUSED[case]
    model = net()
    before = list(model.state_dict())
    with pytest.raises(error, match=message):
        call(model)
    assert list(model.state_dict()) == before
    handle = attach(sgd(model), model, ["crystallize"])
    assert handle.attached


def test_a_weight_is_attached_once():
    model, optimizer, handle = world()
    with pytest.raises(ValueError, match=r"0.weight should be attached once"):
        attach(optimizer, model, ["crystallize"])
    with pytest.raises(ValueError, match=r"0.weight should be attached once"):
        attach(sgd(model), model, ["crystallize"])
    handle.remove()
    assert attach(sgd(model), model, ["crystallize"]).attached


def test_a_converted_model_has_its_own_configuration():
    model = bio_net()
    for given in ({"config": BioConfig()}, {"converter": BioConverter()}):
        with pytest.raises(ValueError, match="should be None for a converted model"):
            attach(sgd(model), model, ["crystallize"], **given)
    with pytest.raises(AttributeError, match="apply_dales_principle"):
        attach(sgd(model), model, ["enforce_dales_principle"])
    with pytest.raises(ConfigError):
        attach(sgd(model), model, ["crystallize"], config=BioConfig(dampening_factor=2.0))


def test_layers_of_one_name_are_refused():
    model = nn.ModuleList([BioConverter()(nn.Linear(3, 3)) for _ in range(2)])
    with pytest.raises(ValueError, match="found weight twice"):
        attach(sgd(model), model, ["crystallize"])


def test_steps_by_hand_and_by_hooks_are_not_mixed():
    _, _, handle = world()
    for call in (handle.before_step, handle.after_step):
        with pytest.raises(RuntimeError, match="hooks=False"):
            call()
    model = bio_net()
    handle = attach(sgd(model), model, ["crystallize"], hooks=False)
    assert handle.attached
    with pytest.raises(RuntimeError, match="found no step begun"):
        handle.after_step()
    handle.remove()
    assert not handle.attached
    with pytest.raises(RuntimeError, match="found it removed"):
        handle.before_step()


def test_a_gradient_that_is_sparse_is_refused_before_anything_changes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), 0.1)
    attach(optimizer, model, ["fuzzy_learning_rates"], converter=BioConverter(synapses="*weight"))
    model(torch.tensor([1, 2])).sum().backward()
    before = everything(model)
    with pytest.raises(RuntimeError, match="should be dense"):
        optimizer.step()
    same(everything(model), before)


def test_a_subclass_of_the_converter_keeps_its_methods():
    class Doubled(BioModule):
        def fuzzy_learning_rates(self):
            self.weight.grad.mul_(2.0)

    class Converter(BioConverter):
        bio_module_class = Doubled

    plain, model = net(), Converter()(net())
    optimizer, other = sgd(model), sgd(plain)
    attach(optimizer, model, ["fuzzy_learning_rates"])
    before = weights(plain)
    train(plain, other, 1)
    train(model, optimizer, 1)
    expected = before["0.weight"] + 2.0 * (plain[0].weight.detach() - before["0.weight"])
    torch.testing.assert_close(model[0].weight.detach(), expected)


@pytest.mark.parametrize(
    ("mechanism", "beside"),
    [
        ("l2_init", ["0.bias", "3.bias"]),
        ("clip_weights", ["0.bias", "3.bias"]),
        ("hare_and_tortoise", ["0.bias", "1.weight", "1.bias", "3.bias"]),
        ("project_norms", []),
        ("crystallize", []),
    ],
)
def test_it_names_what_mechanisms_treat_beside_the_layers(mechanism, beside):
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = attach(optim.SGD(model.parameters(), lr=0.1), model, [mechanism])
    assert repr(handle).split("; ")[1] == ", ".join(["0.weight", "3.weight", *beside])
