"""Conversion is all or nothing, and leaves alone what the user calls by a name of ours."""

import copy
import pickle

import pytest
import torch
from bad_inputs import everything
from citizens import BioMlp, Mlp, Recurrent, Transformer, forget
from interrupts import interrupted_everywhere
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, attach
from funcbio.bio_converter import strip
from funcbio.compat import release
from funcbio.objects._names import _silent, silently

DALE = {"apply_dales_principle": True}
FULL = {**DALE, "weight_splitting_Gamma": 2, "fuzzy_lr_distribution": "activity"}


def tied():
    net = nn.ModuleDict({"embedding": nn.Embedding(6, 4), "hidden": nn.Linear(4, 4), "head": nn.Linear(4, 6)})
    net["head"].weight = net["embedding"].weight
    return net


def holding(model):
    """Everything a conversion changes: numbers, modules, hooks, attributes, and torch's generator."""
    hooks = [list(hooks.values()) for m in model.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks)]
    return everything(model), hooks, [id(module) for module in model.modules() if not isinstance(module, BioModule)]


# What is converted, and how.
WORLDS = {
    "plain": (Mlp, BioConverter()),
    "Dale": (Mlp, BioConverter(**DALE)),
    "split and counted": (Mlp, BioConverter(**FULL)),
    "attention": (Transformer, BioConverter(**FULL)),
    "recurrent": (Recurrent, BioConverter(synapses="*weight*", **DALE)),
    "tied": (tied, BioConverter(**DALE)),
    "converted": (lambda: BioConverter(**FULL)(Mlp()), BioConverter(**DALE)),
    "of a converted class": (BioMlp, BioConverter(**FULL)),
    "drop-in": (Mlp, release.BioConverter(**DALE)),
}


def made(make):
    torch.manual_seed(0)
    return make()


# Interrupts and errors


def interrupted(make, act, every):
    """Interrupts everywhere, and asserts that the model is as before or as after; returns how often."""
    before, whole = holding(made(make)), made(make)
    act(whole)
    after = holding(whole)

    def check(model, where):
        now = holding(model)
        assert now[0] in (before[0], after[0]), where
        assert len(now[1]) in (len(before[1]), len(after[1])), where

    return interrupted_everywhere(lambda: made(make), act, check, every)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("every", [61, pytest.param(3, marks=pytest.mark.slow)])
def test_an_interrupted_conversion_leaves_the_model_as_it_was_or_converted(world, every):
    make, converter = WORLDS[world]
    assert interrupted(make, converter, every) > 3


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("world", ["Dale", "split and counted", "attention"])
def test_an_interrupted_strip_leaves_the_model_converted_or_plain(world, every):
    make, converter = WORLDS[world]
    assert interrupted(lambda: converter(make()), strip, every) > 3


def test_what_was_interrupted_goes_on_as_if_nothing_had_been():
    make, converter = WORLDS["converted"]
    expected = holding(converter(made(make)))

    def check(model, where):
        if holding(model)[0] != expected[0]:
            assert holding(converter(model))[0] == expected[0], where

    interrupted_everywhere(lambda: made(make), converter, check, every=97)


class Failing(BioModule):
    """Fails at the layer of so many units, after it has changed what it can."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        torch.rand(3)
        with torch.no_grad():
            self.weight.add_(1.0)
        if self.weight.shape[0] == 4:
            raise LookupError("of the user's own")


class FailingConverter(BioConverter):
    bio_module_class = Failing


@pytest.mark.parametrize("config", [{}, DALE, FULL])
@pytest.mark.parametrize("make", [Mlp, BioMlp, lambda: BioConverter(**FULL)(Mlp())])
def test_an_error_in_a_class_of_ones_own_leaves_the_model_as_it_was(make, config):
    torch.manual_seed(0)
    model = make()
    before = holding(model)
    for convert in (
        FailingConverter(**config),
        lambda model: attach(
            torch.optim.SGD(model.parameters()), model, ["volume_dependent_lr"], converter=FailingConverter(**config)
        ),
    ):
        with pytest.raises((LookupError, ValueError)):  # attach refuses a converter for a converted model.
            convert(model)
        assert holding(model) == before
    assert holding(copy.deepcopy(model))[0] == before[0]


@pytest.mark.parametrize("make", [Mlp, lambda: BioConverter(**FULL)(Mlp())])
def test_a_bad_layer_far_down_leaves_the_model_as_it_was(make):
    def bad(change):
        model = make()
        change(model)
        return model

    changes = {
        "weight_splitting_Gamma": lambda m: m.body.append(nn.Linear(8, 7)),
        "meta": lambda m: m.body.append(nn.Linear(8, 8, device="meta")),
        "share": lambda m: setattr(m.head, "weight", nn.Parameter(torch.ones(1, 1).expand(4, 8))),
        "bio_mod": lambda m: m.head.add_module("bio_mod", nn.ReLU()),
        "computed": lambda m: m.body.append(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
    }
    for named, change in changes.items():
        model = bad(change)
        before = [(id(m), sorted(vars(m), key=str), list(m._modules)) for m in model.modules()], torch.get_rng_state()
        weights = [p.detach().clone() for p in model.parameters()]
        for converter in (BioConverter(**FULL), release.BioConverter(**FULL)):
            if named == "computed" and isinstance(converter, release.BioConverter):
                continue  # It takes what is a weight by name, as the release did.
            with pytest.raises(ValueError, match=named):
                converter(model)
            found = [(id(m), sorted(vars(m), key=str), list(m._modules)) for m in model.modules()]
            assert found == before[0]
            assert torch.equal(torch.get_rng_state(), before[1])
            for weight, old in zip(model.parameters(), weights, strict=True):
                assert weight.is_meta or torch.equal(weight, old)


def test_a_warning_made_an_error_is_one_error_like_any_other():
    class Net(Mlp):
        def l1_reg(self):
            return 1

    model = Net()
    before = holding(model)
    with pytest.raises(UserWarning, match="l1_reg"):  # The test run makes errors of warnings.
        BioConverter(**FULL)(model)
    assert holding(model) == before


# Names

NAMES = (*BioModule.exposed_functions, "bio_step", "forget")


def exposing():
    return BioConverter().expose(forget, needs_grad=False)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


def in_instance(name):
    net = Bare()
    setattr(net, name, 7)
    return net


def as_child(name):
    net = Bare()
    net.add_module(name, nn.ReLU())
    return net


def as_buffer(name):
    net = Bare()
    net.register_buffer(name, torch.ones(3))
    return net


def as_parameter(name):
    net = Bare()
    net.register_parameter(name, nn.Parameter(torch.ones(3)))
    return net


def as_absent_parameter(name):
    net = Bare()
    net.register_parameter(name, None)
    return net


def as_method(name):
    return type("Net", (Bare,), {name: lambda self: ("own", id(self))})()


def as_attribute_of_the_class(name):
    return type("Net", (type("Parent", (Bare,), {name: 5}),), {})()


def as_property(name):
    def get(self):
        raise AssertionError("a property is not to be run by a conversion")

    return type("Net", (Bare,), {name: property(get)})()


def as_slot(name):
    return type("Net", (Bare,), {"__slots__": (name,)})()


def by_getattr(name):
    """A wrapper that passes on what it has not."""

    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, wanted):
            try:
                return super().__getattr__(wanted)
            except AttributeError:
                return getattr(self.inner, wanted)

    return Wrapper(as_method(name))


KINDS = [in_instance, as_child, as_buffer, as_parameter, as_absent_parameter, as_method, as_attribute_of_the_class]
KINDS += [as_property, as_slot, by_getattr]


def found_under(model, name):
    """What a name leads to, without running a property."""
    static = getattr(type(model), name, None)
    if isinstance(static, property) or type(static).__name__ == "member_descriptor":
        return static
    value = getattr(model, name)
    return getattr(value, "__func__", value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((as_method, name) for name in NAMES), *((kind, name) for kind in KINDS for name in ("l1_reg", "bio_step"))],
)
def test_what_the_user_calls_so_stays(kind, name):
    model = kind(name)
    own, keys = found_under(model, name), list(model.state_dict())
    with pytest.warns(UserWarning, match=rf"names of methods free; found its own {name}, kept") as record:
        exposing()(model)
    assert len(record) == 1
    assert found_under(model, name) is own
    others = [other for other in NAMES if other != name]
    assert all(callable(getattr(model, other)) for other in others)
    layer = next(m for m in model.modules() if "bio_mod" in m._modules)
    assert name == "bio_step" or callable(getattr(layer.bio_mod, name))
    with pytest.warns(UserWarning, match=name):
        exposing()(model)
    assert found_under(model, name) is own
    strip(model)
    assert found_under(model, name) is own
    assert not any(other in vars(model) for other in others)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("name", ["scale_grad", "crystallize"])
@pytest.mark.parametrize("kind", KINDS)
def test_attach_keeps_it_without_a_word(kind, name):
    model = kind(name)
    own = found_under(model, name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, ["crystallize", "fuzzy_learning_rates"])
    assert found_under(model, name) is own
    (model.inner if kind is by_getattr else model)(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    handle.remove()
    assert found_under(model, name) is own
    assert not any(".bio_mod" in key for key in model.state_dict())


def test_a_regularisation_of_the_user_s_own_stays_in_the_loss():
    class Net(Bare):
        def l1_reg(self):
            return sum(p.abs().sum() for p in self.parameters())

    net = Net()
    attach(torch.optim.SGD(net.parameters(), lr=0.1), net, ["fuzzy_learning_rates"])
    net.l1_reg().backward()
    assert torch.equal(net.out.weight.grad, net.out.weight.sign())


def test_all_names_taken_are_named_in_one_warning():
    net = as_child("crystallize")
    net.l1_reg = net.bio_step = 3
    with pytest.warns(UserWarning, match="its own crystallize, l1_reg, bio_step, kept") as record:
        BioConverter()(net)
    assert len(record) == 1


class Owner(Bare):
    def crystallize(self):
        return "own"


def test_classes_keep_their_own_methods_and_subclasses_may_define_some():
    made = BioConverter()(Owner)

    class Further(BioConverter()(Bare)):
        def scale_grad(self):
            return "further"

    for cls, name, expected in ((made, "crystallize", "own"), (Further, "scale_grad", "further")):
        with pytest.warns(UserWarning, match=f"its own {name}, kept"):
            net = cls()
        for one in (net, copy.deepcopy(net)):
            assert getattr(one, name)() == expected
            assert set(one.rejuvenate_weights()) == {"hidden.weight", "out.weight"}
    assert Owner().crystallize() == "own"


def test_what_was_assigned_after_the_conversion_stays_too():
    net = BioConverter()(Bare())
    net.crystallize = own = lambda: "own"
    with pytest.warns(UserWarning, match="crystallize"):
        BioConverter()(net)
    strip(net)
    assert net.crystallize is own
    inner = BioConverter()(Bare())
    outer = nn.Sequential(inner)
    outer.renew = renew = inner.rejuvenate_weights  # A name of the user's own for a method of ours.
    BioConverter()(outer)
    strip(outer)
    assert outer.renew is renew


class Custom(nn.Module):
    """A layer with an attribute of its own where the BioModule is to be."""

    def __init__(self, put):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        put(self)

    def forward(self, x):
        return x @ self.weight.T


OWN = {
    "instance": lambda layer: setattr(layer, "bio_mod", 3),
    "child": lambda layer: layer.add_module("bio_mod", nn.Linear(4, 4)),
    "child that holds converted layers": lambda layer: layer.add_module(
        "bio_mod", BioConverter()(nn.Sequential(nn.Linear(4, 4)))
    ),
    "empty": lambda layer: layer.add_module("bio_mod", nn.ModuleDict()),
    "buffer": lambda layer: layer.register_buffer("bio_mod", torch.ones(2)),
    "parameter": lambda layer: layer.register_parameter("bio_mod", nn.Parameter(torch.ones(2))),
    "class": lambda layer: setattr(layer, "__class__", type("Named", (Custom,), {"bio_mod": property(lambda self: 1)})),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("choice", [["0.weight", "1.weight", "2.weight"], "*weight"])
def test_a_layer_s_own_bio_mod_is_refused_before_anything_changes(kind, choice):
    net = nn.Sequential(nn.Linear(4, 4), Custom(OWN[kind]), nn.Linear(4, 2))
    before = holding(net)
    with pytest.raises(ValueError, match=r"1\.weight should belong to a layer without an attribute bio_mod of its own"):
        BioConverter(synapses=choice)(net)
    assert holding(net) == before
    BioConverter()(net) if "converted" in kind else BioConverter(synapses=["0.weight", "2.weight"])(net)
    strip(net)


@pytest.mark.parametrize("name", ["keys", "values", "update", "pop", "weight_of_mine"])
def test_parameters_may_have_names_that_a_dictionary_of_modules_has(name):
    net = nn.Sequential(nn.Linear(4, 4))
    net[0].register_parameter(name, nn.Parameter(torch.randn(4, 4)))
    BioConverter(synapses="*")(net)
    assert set(net.rejuvenate_weights()) == {"0.weight", f"0.{name}"}
    assert net[0].bio_mod[name].fuzzy_learning_rate_parameters.shape == (4, 4)
    copied = pickle.loads(pickle.dumps(net))
    assert copied.state_dict().keys() == net.state_dict().keys()
    copied.rejuvenate_weights()


@pytest.mark.parametrize(
    "value", [3, "token", False, nn.ReLU(), nn.Parameter(torch.ones(2)), torch.ones(2)], ids=lambda v: type(v).__name__
)
def test_an_attribute_with_the_name_of_the_mark_is_none(value):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].last_module_token = value
    assert [synapse.readout for synapse in funcbio.synapses(net).values()] == [False, True]
    before = holding(net)
    with pytest.raises(ValueError, match="should have no attribute last_module_token of its own"):
        BioConverter.set_last_module_token_for_module(net[0])
    assert holding(net) == before
    marked = BioConverter.set_last_module_token_for_module(net[1])
    assert BioConverter.set_last_module_token_for_module(marked) is marked


@pytest.mark.parametrize("name", ["bio_step", "sign", "key", "updates", "crystallize", "forward", "weight", "features"])
def test_features_need_names_that_are_free_on_every_bio_mod(name):
    def feature(params, grads, state, /, *, key=None):
        return params, grads, state

    feature.__name__ = name
    with pytest.raises(ValueError, match=rf"features should have names of their own; found '{name}'"):
        BioConverter().expose(feature)


def test_a_setattr_of_the_user_s_own_is_not_run():
    class Strict(Bare):
        def __setattr__(self, name, value):
            if name in NAMES:
                raise TypeError(f"{name} is none of mine")
            super().__setattr__(name, value)

    assert set(BioConverter()(Strict()).rejuvenate_weights()) == {"hidden.weight", "out.weight"}


def test_the_drop_in_follows_the_same_rule():
    with pytest.warns(UserWarning, match="its own crystallize, kept"):
        assert release.BioConverter()(Owner()).crystallize() == "own"


def test_callbacks_keep_it_without_a_word():
    module = pytest.importorskip("funcbio.integrations.lightning")
    session = module.BioCallback(["crystallize"], config=BioConfig())._session
    net = Owner()
    session.convert(net)
    assert net.crystallize() == "own"
    session.remove()


# Signs that are gone


@pytest.mark.parametrize("method", ["enforce_dales_principle", "rejuvenate_weights", "rejuvenate_weights_old"])
@pytest.mark.parametrize("owner", ["model", "layer", "bio_step", "attach"])
def test_a_deleted_sign_is_said_before_anything_changes(owner, method):
    net = BioConverter(**DALE)(Mlp())
    del net.body[0].bio_mod.sign
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    if owner == "attach":
        attach(optimizer, net, [method.removesuffix("_old")])
    before = holding(net)
    calls = {
        "model": lambda: getattr(net, method)(),
        "layer": lambda: getattr(net.body[0].bio_mod, method)(),
        "bio_step": lambda: net.bio_step(method),
        "attach": optimizer.step,
    }
    with pytest.raises(RuntimeError, match=r"signs are gone that the conversion gave to body\.0\.weight"):
        calls[owner]()
    assert holding(net) == before


def test_weights_loaded_without_their_signs_are_said_if_they_break_those_that_are_there():
    plain, net = Mlp().state_dict(), BioConverter(**DALE)(Mlp())
    with pytest.warns(UserWarning, match=r"the signs of .* should be loaded with it; found none"):
        net.load_state_dict(plain, strict=False)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BioModule) and "sign" in module._buffers:
                module.weight.copy_(module.weight.abs() * module.sign)
    fitting = {name: value for name, value in net.state_dict().items() if "bio_mod" not in name}
    net.load_state_dict(fitting, strict=False)
    with pytest.raises(RuntimeError, match="Missing key"), pytest.warns(UserWarning, match="should be loaded with it"):
        net.load_state_dict(plain)


@pytest.mark.parametrize(("context", "flag"), [(silently, _silent)])
def test_an_interrupt_leaves_no_flag_behind(context, flag):
    def act(_):
        with context():
            assert flag.get()

    interrupted_everywhere(lambda: None, act, lambda _world, where: pytest.fail(where) if flag.get() else None)
