"""What does nothing says so: once, by every door, before anything has changed."""

import copy
import gc
import warnings
import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

import funcbio
from funcbio import BioConfig, BioConverter, IdleWarning, Mechanism, attach, bind, sweep
from funcbio.objects import _cancelled

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
APPLIED = "fuzzy_learning_rates"
MOVES = {"fuzzy_lr_distribution": "temporal", "fuzzy_lr_dynamic": True}


def own(params, grads, state, /, *, key=None):
    return params, {name: grad * 0.5 for name, grad in grads.items()}, state


def net(frozen=False):
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    return model.requires_grad_(not frozen)


def only_a_readout():
    return nn.ModuleDict({"cell": nn.LSTM(5, 4), "out": nn.Linear(4, 2)})


def by_attach(mechanisms, optimizer=torch.optim.SGD, model=net, **config):
    made = model()
    attach(optimizer(made.parameters(), lr=0.1), made, mechanisms, config=BioConfig(**config))


def by_attach_to_a_converted_model(mechanisms, optimizer=torch.optim.SGD, model=net, **config):
    made = BioConverter(**config)(model())
    attach(optimizer(made.parameters(), lr=0.1), made, mechanisms)


def by_sweep(mechanisms, optimizer=torch.optim.SGD, model=net, **config):
    data = {"steps": 10, "batch_size": 8, "lr": 0.1, "seeds": 1, "progress": False}
    config = BioConfig(**config)
    sweep(
        model, nn.functional.mse_loss, (X, X[:, :2]), optimizer=optimizer, mechanisms=mechanisms, config=config, **data
    )


def by_callback(mechanisms, optimizer=torch.optim.SGD, model=net, **config):
    from funcbio.integrations._session import Session

    made, config = model(), BioConfig(**config)
    session = Session(mechanisms, config=config, converter=None, fresh_rates=False, ages=False, log_every=None)
    session.attach(made, [optimizer(made.parameters(), lr=0.1)], 0)


DOORS = {
    "attach": by_attach,
    "attach to a converted model": by_attach_to_a_converted_model,
    "sweep": by_sweep,
    "callback": by_callback,
}
every_door = pytest.mark.parametrize("door", DOORS)


def said(call):
    """What is said as an IdleWarning; other warnings fail."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("error")
        warnings.simplefilter("always", IdleWarning)
        call()
    return [str(one.message) for one in found]


UNAPPLIED = {
    "crystallize": (["crystallize"], {}),
    "rejuvenation beside": (["crystallize", "rejuvenate_weights"], {}),
    "volume beside": (["volume_dependent_lr", "crystallize"], {}),
    "moving rates": (["update_fuzzy_learning_rates"], MOVES),
    "both": (["crystallize", "update_fuzzy_learning_rates"], MOVES),
    "in another place": ([Mechanism("crystallize", where="update", every=3)], {}),
}


@every_door
@pytest.mark.parametrize("case", UNAPPLIED)
def test_rates_that_nothing_applies(case, door):
    mechanisms, config = UNAPPLIED[case]
    (message,) = said(lambda: DOORS[door](mechanisms, **config))
    changing = [name for name in ("crystallize", "update_fuzzy_learning_rates") if name in str(mechanisms)]
    assert message.startswith(f"{', '.join(changing)} should be used with fuzzy_learning_rates")
    assert not said(lambda: DOORS[door]([*mechanisms, APPLIED], **config))
    assert not said(lambda: DOORS[door]([*mechanisms, Mechanism(APPLIED, every=10)], **config))
    assert not said(lambda: DOORS[door]([*mechanisms, own], **config))  # It may apply them.


FORMS = {
    "name": lambda name: name,
    "function": lambda name: getattr(funcbio, name),
    "partial": lambda name: partial(getattr(funcbio, name)),
    "bound": lambda name: getattr(bind(net()), name),
    "mechanism": lambda name: Mechanism(getattr(funcbio, name)),
}
every_form = pytest.mark.parametrize("form", FORMS)


@every_door
@every_form
def test_functions_of_the_library_count_as_their_names(form, door):
    (message,) = said(lambda: DOORS[door]([FORMS[form]("crystallize")]))
    assert message.startswith("crystallize should be used with fuzzy_learning_rates")
    assert not said(lambda: DOORS[door]([FORMS[form]("crystallize"), APPLIED]))


@every_door
def test_updates_by_a_function_are_judged_by_its_own_keywords(door):
    fixed = partial(funcbio.update_fuzzy_learning_rates, distribution="gamma")
    moving = partial(funcbio.update_fuzzy_learning_rates, distribution="temporal", dynamic=True)
    (message,) = said(lambda: DOORS[door]([fixed, APPLIED], **MOVES))
    assert message.endswith("found fuzzy_lr_distribution='gamma'")
    assert not said(lambda: DOORS[door]([moving, APPLIED]))


@every_door
@every_form
@pytest.mark.parametrize("name", ["apply_dales_principle", "enforce_dales_principle", "scale_grad"])
def test_what_the_configuration_does_not_allow_is_refused_in_every_form(name, form, door):
    with pytest.raises((AttributeError, RuntimeError, ValueError), match=r"apply_dales_principle|record_activity"):
        DOORS[door]([FORMS[form](name)])


@every_form
@pytest.mark.parametrize("where", ["gradient", "update"])
def test_signs_are_kept_after_the_step_only(where, form):
    feature = FORMS[form]("enforce_dales_principle")
    with pytest.raises(ValueError, match="where should be 'after' for enforce_dales_principle"):
        Mechanism(getattr(feature, "feature", feature), where=where)


FIXED = {
    "the default": ({}, "fuzzy_lr_distribution='uniform'"),
    "the default, dynamic": ({"fuzzy_lr_dynamic": True}, "fuzzy_lr_distribution='uniform'"),
    "gamma": ({"fuzzy_lr_distribution": "gamma", "fuzzy_lr_dynamic": True}, "fuzzy_lr_distribution='gamma'"),
    "temporal": ({"fuzzy_lr_distribution": "temporal"}, "fuzzy_lr_dynamic=False"),
    "activity": ({"fuzzy_lr_distribution": "activity"}, "fuzzy_lr_dynamic=False"),
}


@every_door
@pytest.mark.parametrize("case", FIXED)
def test_updates_of_rates_that_never_move(case, door):
    config, found = FIXED[case]
    (message,) = said(lambda: DOORS[door](["update_fuzzy_learning_rates", APPLIED], **config))
    assert message.startswith("update_fuzzy_learning_rates should have rates that move")
    assert message.endswith(f"found {found}")
    assert not said(lambda: DOORS[door](["update_fuzzy_learning_rates", APPLIED], **MOVES))


@pytest.mark.parametrize("call", ["method", "step"])
@pytest.mark.parametrize("case", FIXED)
def test_updates_of_rates_that_never_move_by_methods_say_so_once_for_each_model(case, call):
    config, found = FIXED[case]
    model = BioConverter(**config)(net())

    def update(one):
        one.update_fuzzy_learning_rates() if call == "method" else one.bio_step("update_fuzzy_learning_rates")

    model(X).sum().backward()
    (message,) = said(lambda: (update(model), update(model)))
    assert message.endswith(f"found {found}")
    assert not said(lambda: update(copy.deepcopy(model)))
    assert len(said(lambda: update(BioConverter(**config)(net())))) == 1
    assert not said(lambda: update(BioConverter(**MOVES)(net())))
    assert not said(lambda: BioConverter(**config)(net()).crystallize if call == "method" else None)


@pytest.mark.parametrize("case", FIXED)
def test_updates_of_rates_that_never_move_by_bound_features_say_so_once(case):
    config, found = FIXED[case]
    bio = bind(net(), BioConfig(**config))
    (message,) = said(lambda: (bio.update_fuzzy_learning_rates, bio.update_fuzzy_learning_rates, bio.crystallize))
    assert message.endswith(f"found {found}")
    assert not said(lambda: bind(net(), BioConfig(**MOVES)).update_fuzzy_learning_rates)
    assert not said(lambda: (repr(bind(net())), dir(bind(net())), copy.deepcopy(bind(net()))))


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
@pytest.mark.parametrize("name", [APPLIED, "volume_dependent_lr", "scale_grad"])
@every_door
def test_factors_that_the_optimizer_cancels(door, name, optimizer):
    run = lambda where, made=optimizer: said(
        lambda: DOORS[door]([Mechanism(name, where=where)], optimizer=made, record_activity=True)
    )
    (message,) = run("gradient")
    assert message.startswith(f"{name} should act on the update of {optimizer.__name__}")
    assert not run("update")
    assert not run("gradient", torch.optim.SGD)


@pytest.mark.parametrize(
    "form", [getattr(funcbio, APPLIED), partial(getattr(funcbio, APPLIED)), getattr(bind(net()), APPLIED)]
)
def test_a_function_of_ours_is_told_apart_however_it_is_given(form):
    assert Mechanism(form).where == "update"
    (message,) = said(lambda: by_attach([Mechanism(form, where="gradient")], torch.optim.Adam))
    assert message.startswith(f"{APPLIED} should act on the update of Adam")


def classic_loop(*calls, optimizer=torch.optim.Adam, model=None, steps=3, **options):
    """Trains a converted model by hand: backward, methods, step."""
    made = BioConverter(record_activity=True)(net()) if model is None else model
    stepping = optimizer(made.parameters(), lr=0.1, **options)
    for _ in range(steps):
        stepping.zero_grad()
        made(X).sum().backward()
        for name in calls:
            getattr(made, name)()
        stepping.step()
    return made


@pytest.fixture(autouse=True)
def no_model_waits():
    """Forgets models that other tests have left without a step."""
    _cancelled._waiting.clear()
    _cancelled.stop_waiting()


def hooks():
    return [*_global_optimizer_pre_hooks]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
@pytest.mark.parametrize("name", [APPLIED, "volume_dependent_lr", "scale_grad", "bio_step"])
def test_factors_that_the_optimizer_of_a_classic_loop_cancels(name, optimizer):
    made = []
    (message,) = said(lambda: made.append(classic_loop(name, optimizer=optimizer)))
    names = "volume_dependent_lr, fuzzy_learning_rates" if name == "bio_step" else name
    assert message.startswith(f"{names} should act on the update of {optimizer.__name__}")
    assert not hooks()
    assert not said(lambda: classic_loop("scale_grad", name, optimizer=optimizer, model=made[0]))  # Once for a model.
    assert len(said(lambda: classic_loop(name, optimizer=optimizer))) == 1


def layers_loop(name, optimizer=torch.optim.Adam, model=None, steps=2, before=()):
    """Trains a converted model by hand, with the methods of its layers."""
    made = BioConverter(record_activity=True)(net()) if model is None else model
    stepping = optimizer(made.parameters(), lr=0.1)
    for _ in range(steps):
        stepping.zero_grad()
        made(X).sum().backward()
        for method in before:
            getattr(made, method)()
        for layer in (made[0], made[2]):
            getattr(layer.bio_mod, name)()
        stepping.step()
    return made


@pytest.mark.parametrize("name", ["fuzzy_learning_rates", "volume_dependent_lr", "scale_grad"])
def test_methods_of_layers_are_one_warning_too(name):
    made = []
    (message,) = said(lambda: made.append(layers_loop(name)))
    assert message.startswith(f"{name} should act on the update of Adam")
    assert not said(lambda: layers_loop(name, model=made[0]))
    assert not said(lambda: layers_loop(name, optimizer=torch.optim.SGD))
    assert not said(lambda: attach(torch.optim.Adam(made[0].parameters()), made[0], [name]))
    funcbio.objects._cancelled.stop_waiting()
    assert not hooks()


class Wrapping(torch.optim.Optimizer):
    """Steps another optimizer, as sharpness-aware minimization does."""

    def __init__(self, params, **options):
        self.base = torch.optim.Adam(params, **options)
        super().__init__(self.base.param_groups, {})

    def step(self, closure=None):
        return self.base.step(closure)


def test_an_optimizer_within_another_counts():
    (message,) = said(lambda: classic_loop("fuzzy_learning_rates", optimizer=Wrapping))
    assert message.startswith("fuzzy_learning_rates should act on the update of Adam")
    model = net()
    given = Mechanism("fuzzy_learning_rates", where="gradient")
    (message,) = said(lambda: attach(Wrapping(model.parameters(), lr=0.1), model, [given]))
    assert message.startswith("fuzzy_learning_rates should act on the update of Adam")


def test_several_methods_of_a_classic_loop_are_one_warning():
    (message,) = said(lambda: classic_loop("crystallize", APPLIED, "rejuvenate_weights", "volume_dependent_lr"))
    assert message.startswith(f"{APPLIED}, volume_dependent_lr should act")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", [APPLIED, "bio_step"])
def test_a_classic_loop_whose_optimizer_keeps_the_factors_says_nothing(name, momentum):
    assert not said(lambda: classic_loop(name, optimizer=torch.optim.SGD, momentum=momentum))
    assert not hooks()


ALONE = "crystallize should be used with fuzzy_learning_rates, which applies the rates that change"


@pytest.mark.parametrize("loop", [classic_loop, layers_loop])
def test_rates_that_a_classic_loop_changes_and_never_applies(loop):
    run = partial(loop, "crystallize", optimizer=torch.optim.SGD)
    made = BioConverter()(net())
    assert not said(lambda: run(steps=9, model=made))
    (message,) = said(lambda: run(steps=1, model=made))
    assert message.startswith(ALONE)
    assert not said(lambda: run(steps=20, model=made))  # Once for a model.
    funcbio.objects._cancelled.stop_waiting()
    assert not hooks()


@pytest.mark.parametrize("calls", [("crystallize", APPLIED), (APPLIED, "crystallize")])
def test_rates_that_a_classic_loop_applies(calls):
    assert not said(lambda: classic_loop(*calls, optimizer=torch.optim.SGD, steps=20))


@pytest.mark.parametrize("applies", [lambda step: step % 2 == 1, lambda step: step >= 3, lambda step: step == 0])
def test_rates_that_a_classic_loop_applies_in_some_steps(applies):
    model = BioConverter()(net())
    loop = partial(classic_loop, optimizer=torch.optim.SGD, model=model, steps=1)
    assert not said(lambda: [loop("crystallize", *([APPLIED] if applies(step) else [])) for step in range(20)])


def test_rates_that_layers_change_and_their_model_applies():
    model = BioConverter()(net())
    assert not said(lambda: [layers_loop("crystallize", torch.optim.SGD, model, before=[APPLIED]) for _ in range(10)])


@pytest.mark.parametrize("adam_first", [True, False])
def test_each_of_several_optimizers_may_cancel_factors(adam_first):
    model = BioConverter()(net())
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.Adam(model[2].parameters(), lr=0.1)]
    model(X).sum().backward()
    model.fuzzy_learning_rates()
    (message,) = said(lambda: [one.step() for one in (reversed(optimizers) if adam_first else optimizers)])
    assert message.startswith(f"{APPLIED} should act on the update of Adam")


def test_a_model_with_weights_that_no_optimizer_holds_is_let_go():
    model = BioConverter()(net())
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    for _ in range(11):
        model(X).sum().backward()
        model.fuzzy_learning_rates()
        assert not said(optimizer.step)
    assert not hooks()


def test_rates_that_something_else_applies():
    with_own = BioConverter().expose(own)(net())
    assert not said(lambda: classic_loop("crystallize", optimizer=torch.optim.SGD, model=with_own, steps=12))
    attached = BioConverter()(net())
    optimizer = torch.optim.SGD(attached.parameters(), lr=0.1)
    attach(optimizer, attached, [APPLIED])
    attached(X).sum().backward()
    assert not said(lambda: [(attached.crystallize(), optimizer.step()) for _ in range(12)])


def test_rates_that_do_not_move_are_told_of_once_in_a_loop():
    (message,) = said(lambda: classic_loop("update_fuzzy_learning_rates", optimizer=torch.optim.SGD))
    assert message.startswith("update_fuzzy_learning_rates should have rates that move")
    (message,) = said(
        lambda: classic_loop(
            "update_fuzzy_learning_rates", optimizer=torch.optim.SGD, model=BioConverter(**MOVES)(net()), steps=10
        )
    )
    assert message.startswith("update_fuzzy_learning_rates should be used with fuzzy_learning_rates")


@pytest.mark.parametrize("name", ["rejuvenate_weights", "l1_reg"])
def test_methods_that_scale_no_gradient_watch_no_optimizer(name):
    assert not said(lambda: classic_loop(name))
    assert not hooks()


def test_steps_of_other_optimizers_are_not_meant():
    other = nn.Linear(2, 2)
    beside = torch.optim.Adam(other.parameters())
    model = BioConverter()(net())
    model(X).sum().backward()
    model.fuzzy_learning_rates()
    other(torch.ones(1, 2)).sum().backward()
    assert not said(beside.step)
    assert not said(torch.optim.SGD(model.parameters(), lr=0.1).step)
    assert not said(lambda: classic_loop(APPLIED, model=model))  # It is settled at the first step.


def test_a_model_that_is_let_go_waits_no_longer():
    model = BioConverter()(net())
    model(X).sum().backward()
    model.fuzzy_learning_rates()
    assert hooks()
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert not said(lambda: classic_loop("rejuvenate_weights"))
    assert not hooks()


def test_a_compiled_step_works_and_it_is_said_once():
    model = BioConverter()(net())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(X).sum().backward()
    model.fuzzy_learning_rates()
    assert hooks()
    before = model[0].weight.clone()
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    with warnings.catch_warnings(record=True) as found:  # Compiling brings warnings of torch's own.
        warnings.simplefilter("always")
        _ = step(), optimizer.step(), step()
    assert len([one for one in found if one.category is IdleWarning]) == 1
    assert not torch.equal(model[0].weight, before)


def test_a_warning_made_an_error_stops_one_step_only():
    model = BioConverter()(net())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(X).sum().backward()
    model.fuzzy_learning_rates()
    before = model[0].weight.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error", IdleWarning)
        with pytest.raises(IdleWarning, match="fuzzy_learning_rates should act on the update of Adam"):
            optimizer.step()
        assert torch.equal(model[0].weight, before)
        optimizer.step()
    assert not torch.equal(model[0].weight, before)


@every_door
def test_mechanisms_on_frozen_weights_only(door):
    def frozen_but_for_biases():
        model = net()
        for layer in (model[0], model[2]):
            layer.weight.requires_grad_(False)
        return model

    (message,) = said(lambda: DOORS[door](["rejuvenate_weights", APPLIED], model=frozen_but_for_biases))
    assert message.startswith("rejuvenate_weights, fuzzy_learning_rates should act on weights that are trained")
    half = lambda: nn.Sequential(nn.Linear(5, 6).requires_grad_(False), nn.ReLU(), nn.Linear(6, 2))
    assert not said(lambda: DOORS[door](["rejuvenate_weights", APPLIED], model=half))


FIELDS = {
    "splitting": ({"weight_splitting_Gamma": 2}, "weight_splitting_Gamma=2 should find a layer"),
    "signs": ({"apply_dales_principle": True, "dales_variant": "matrix"}, "apply_dales_principle should find a layer"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields_of_the_configuration_that_find_no_layer(case):
    config, start = FIELDS[case]
    (message,) = said(lambda: BioConverter(**config)(only_a_readout()))
    assert message.startswith(start)
    for model in (net(), nn.Linear(5, 2)):
        assert not said(lambda model=model: BioConverter(**config)(model))
    for door in ("attach", "attach to a converted model", "callback"):
        (message,) = said(lambda door=door: DOORS[door]([APPLIED], model=only_a_readout, **config))
        assert message.startswith(start)
    (message,) = said(lambda: by_sweep([APPLIED], model=lambda: nn.Sequential(nn.Linear(5, 2)), **config))
    assert message.startswith(start)


def test_activity_of_layers_whose_output_shows_no_units():
    converter = lambda **config: BioConverter(synapses="0.weight_*", **config)
    model = lambda: nn.Sequential(nn.GRU(5, 4), nn.Linear(4, 2))
    (message,) = said(lambda: converter(record_activity=True)(model()))
    assert message.startswith("record_activity should find a layer whose output shows its units")
    assert not said(lambda: converter()(model()))


def test_a_sweep_says_every_reason_once_for_all_members():
    variants = {"plain": [], "rates": ["crystallize"], "more": ["crystallize", "rejuvenate_weights"], "bio": [APPLIED]}
    grid = {"fuzzy_lr_distribution": ["uniform", "gamma"], "weight_splitting_Gamma": [0, 2], "lr": [0.1, 0.2]}
    found = said(
        lambda: sweep(
            net,
            nn.functional.mse_loss,
            (X, X[:, :2]),
            steps=1,
            batch_size=8,
            seeds=2,
            progress=False,
            mechanisms=variants,
            grid=grid,
        )
    )
    assert len(found) == 1


def swept(grid, mechanisms=(), **config):
    """What a sweep says over a grid."""
    options = {"steps": 1, "batch_size": 8, "seeds": 1, "lr": 0.1, "progress": False, "config": BioConfig(**config)}
    call = partial(sweep, net, nn.functional.mse_loss, (X, X[:, :2]), mechanisms=mechanisms, grid=grid, **options)
    return said(call)


PARTIAL = partial(funcbio.crystallize, threshold=1e-3)
UNREAD = {
    "no mechanism": ({"crystal_thresh": [1e-4, 1e-3]}, [], {}),
    "another mechanism": ({"crystal_thresh": [1e-4, 1e-3]}, [APPLIED], {}),
    "a function with numbers of its own": ({"crystal_thresh": [1e-4, 1e-3]}, [PARTIAL, APPLIED], {}),
    "one that acts on units": ({"redo_threshold": [0.0, 0.1]}, ["l2_init"], {}),
    "rates that nothing applies": ({"fuzzy_learning_rate_factor_nu": [0.1, 0.2]}, ["rejuvenate_weights"], {}),
    "a number of another variant": ({"rejuvenation_fraction": [0.1, 0.2]}, ["rejuvenate_weights"], {}),
    "masks without mechanisms": ({"density": [0.2, 0.9]}, ["l2_init"], {}),
    "bounds without mechanisms": ({"clip_weights_bound": ["fan_in", "maximum"]}, [], {}),
    "signs that are not asked for": ({"dales_excitatory_fraction": [0.5, 0.8]}, [APPLIED], {}),
    "lists by name": ({"mechanisms": ["a", "b"], "l2_init_strength": [0.1, 0.2]}, {"a": [], "b": [APPLIED]}, {}),
}
READ = {
    "by its mechanism": ({"crystal_thresh": [1e-4, 1e-3]}, ["crystallize", APPLIED], {}),
    "by one of several": ({"mechanisms": ["a", "b"], "l2_init_strength": [0.1]}, {"a": [], "b": ["l2_init"]}, {}),
    "by hyper": (
        {"crystal_thresh": [1e-4, 1e-3]},
        [Mechanism(funcbio.crystallize, hyper={"threshold": "crystal_thresh"}), APPLIED],
        {},
    ),
    "at the start": ({"fuzzy_lr_distribution": ["uniform", "gamma"]}, [APPLIED], {}),
    "by a function of the user's own": ({"fuzzy_learning_rate_factor_nu": [0.1, 0.2]}, [own], {}),
    "by the signs": (
        {"dales_excitatory_fraction": [0.5, 0.8]},
        ["enforce_dales_principle"],
        {"apply_dales_principle": True, "dales_variant": "matrix"},
    ),
    "by one variant of several": (
        {"rejuvenation_variant": ["lognormal", "swr"], "rejuvenation_fraction": [0.1]},
        ["rejuvenate_weights"],
        {},
    ),
    "by masks": ({"density": [0.2, 0.9]}, ["apply_mask"], {}),
    "by the network": ({"weight_splitting_Gamma": [0, 2]}, [APPLIED], {}),
}


@pytest.mark.parametrize("case", UNREAD)
def test_fields_of_a_grid_that_nothing_reads(case):
    grid, mechanisms, config = UNREAD[case]
    (message,) = swept(grid, mechanisms, **config)
    name = [*grid][-1]
    assert message.startswith(f"grid[{name!r}] should be read by a mechanism")
    assert message.endswith("so that it changes nothing")


@pytest.mark.parametrize("case", READ)
def test_fields_of_a_grid_that_something_reads(case):
    grid, mechanisms, config = READ[case]
    assert not swept(grid, mechanisms, **config)


def test_as_an_error_it_comes_before_anything_has_changed(tmp_path):
    model = net()
    before, hooks = [*model.state_dict()], torch.optim.SGD(model.parameters(), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IdleWarning)
        with pytest.raises(IdleWarning):
            attach(hooks, model, ["crystallize"])
        with pytest.raises(IdleWarning):
            BioConverter(weight_splitting_Gamma=2)(readout := only_a_readout())
        with pytest.raises(IdleWarning):
            sweep(
                net,
                nn.functional.mse_loss,
                (X, X[:, :2]),
                steps=1,
                batch_size=8,
                mechanisms=["crystallize"],
                output=tmp_path / "it",
            )
    assert [*model.state_dict()] == before
    assert not hooks._optimizer_step_pre_hooks
    assert not hasattr(readout, "crystallize")
    assert not [*(tmp_path / "it").glob("*.json")]


def test_it_points_to_the_line_that_asked_for_it():
    for call in (
        lambda: by_attach(["crystallize"]),
        lambda: by_sweep(["crystallize"]),
        lambda: BioConverter()(net()).update_fuzzy_learning_rates(),
        lambda: BioConverter()(net()).bio_step("update_fuzzy_learning_rates"),
        lambda: BioConverter(weight_splitting_Gamma=2)(only_a_readout()),
        lambda: classic_loop(APPLIED),
    ):
        with pytest.warns(IdleWarning) as found:
            call()
        assert found[0].filename == __file__
