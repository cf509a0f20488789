"""What is not trained is left alone, through every door, unless it is asked for by name."""

import contextlib
import copy
import warnings

import pytest
import torch
from bad_inputs import bits
from citizens import BioMlp, ResNet
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, IdleWarning, Mechanism, attach, metrics, trees
from funcbio.compat import release

FULL = {"fuzzy_lr_dynamic": True, "fuzzy_lr_update_freq": 1, "record_activity": True, "apply_dales_principle": True}
METHODS = [name for name in BioModule.exposed_functions if name != "l1_reg"]
BASE = "base.weight"


class Adapted(nn.Module):
    """A pretrained layer beside a low-rank adapter, and a read-out."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(12, 12)
        self.down, self.up = nn.Linear(12, 2, bias=False), nn.Linear(2, 12, bias=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return self.head(torch.relu(self.base(x) + self.up(self.down(x))))


def adapted():
    torch.manual_seed(0)
    return Adapted()


def freeze(model):
    model.base.requires_grad_(False)
    return model


def fed(model, step=0):
    """The model after a backward pass; gradients from before it was frozen stay."""
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
    model(x).square().mean().backward()
    return model


def converted(when, **config):
    """An adapted model, its pretrained layer frozen before or after the conversion."""
    config = {**FULL, "fuzzy_lr_distribution": "weight_adaptive", **config}
    synapses = config.pop("synapses", None)
    converter = BioConverter(synapses=synapses, **config)
    return converter(freeze(adapted())) if when == "before" else freeze(converter(adapted()))


def of_base(model):
    """All that could change of the pretrained layer, but the count of its activity, which is only seen."""
    seen = ("activation_count", "observations")
    state = {n: t for n, t in model.base.state_dict().items() if not n.endswith(seen)}
    return bits({**state, "grad": model.base.weight.grad})


def others_of(model):
    return bits({n: t for n, t in model.state_dict().items() if not n.startswith("base")})


when = pytest.mark.parametrize("when", ["before", "after"])


# Methods


@when
@pytest.mark.parametrize("distribution", ["temporal", "weight_adaptive", "activity"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_of_a_model_leave_it_alone_and_treat_the_others(method, distribution, when):
    model, other = (fed(converted(when, fuzzy_lr_distribution=distribution, crystal_thresh=0.1)) for _ in "ab")
    for one in (model, other):
        one.down.weight.data.neg_()  # Signs that are broken.
    model.base.weight.grad = torch.ones(12, 12)  # Left over from before it was frozen.
    before, rest = of_base(model), others_of(model)
    found = getattr(model, method)()
    assert of_base(model) == before
    assert found is None or set(found) == {"down.weight", "up.weight", "head.weight"}
    assert method in ("fuzzy_learning_rates", "volume_dependent_lr", "scale_grad") or others_of(model) != rest
    for layer in (other.down, other.up, other.head):
        getattr(layer.bio_mod, method)()
    assert others_of(model) == others_of(other)


@when
def test_bio_step_leaves_it_alone(when):
    model = fed(converted(when, fuzzy_lr_distribution="temporal"))
    before, rest = of_base(model), others_of(model)
    replaced = model.bio_step("crystallize", *METHODS)
    assert of_base(model) == before
    assert others_of(model) != rest
    assert set(replaced) == {"down.weight", "up.weight", "head.weight"}


@when
@pytest.mark.parametrize("method", ["rejuvenate_weights", "rejuvenate_weights_old"])
def test_its_own_bio_mod_is_asked_for_by_name(method, when):
    model = converted(when)
    assert getattr(model.base.bio_mod, method)().any()
    model.base.bio_mod.update_fuzzy_learning_rates()
    assert (model.base.bio_mod.updates, model.down.bio_mod.updates) == (1, 0)


@when
@pytest.mark.parametrize("choice", [[BASE, "head.weight"], BASE])
def test_a_full_name_asks_for_it(choice, when):
    told = pytest.warns(IdleWarning, match="apply_dales_principle should find a layer that is no read-out")
    with told if choice == BASE else contextlib.nullcontext():
        model = converted(when, synapses=choice)
    assert model.rejuvenate_weights()[BASE].any()
    assert model.base.bio_mod.sign.ndim == 2 or choice == BASE  # The only one chosen is the read-out.
    model.update_fuzzy_learning_rates()
    assert model.base.bio_mod.updates == 1
    before = model.base.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    attach(optimizer, model, ["rejuvenate_weights"])
    fed(model)
    optimizer.step()
    assert not torch.equal(model.base.weight, before)


@when
@pytest.mark.parametrize(
    "choice", [None, "*", ["base*", "head*"], "base.w?ight", "[b]ase.weight", lambda n, m: "w" in n]
)
def test_patterns_and_predicates_do_not(choice, when):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Of nothing to treat, where only the layer is chosen.
        model = converted(when, synapses=choice)
        before = of_base(model)
        model.rejuvenate_weights()
        model.enforce_dales_principle()
    assert of_base(model) == before


def test_a_tie_is_named_by_any_of_its_names():
    def tied(choice):
        net = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "last": nn.Linear(4, 2)})
        net["second"].weight = net["first"].weight
        net["first"].weight.requires_grad_(False)
        return BioConverter(synapses=choice)(net).rejuvenate_weights()

    assert "first.weight" in tied(["*", "second.weight"])
    assert "first.weight" not in tied(["*"])


def test_the_rates_of_all_layers_are_summed():
    model = converted("before", fuzzy_lr_distribution="baseline")
    assert model.l1_reg() == sum(layer.weight.numel() for layer in (model.base, model.down, model.up, model.head))


class Pruning(BioModule):
    exposed_functions = (*BioModule.exposed_functions, "prune")

    @torch.no_grad()
    def prune(self):
        self.weight.zero_()


class PruningConverter(BioConverter):
    bio_module_class = Pruning


def forget(params, grads, state, /, *, key=None):
    return {name: torch.zeros_like(weight) for name, weight in params.items()}, grads, state


@pytest.mark.parametrize("method", ["prune", "forget"])
@when
def test_methods_of_ones_own_leave_it_alone(method, when):
    converter = PruningConverter().expose(forget, needs_grad=False)
    model = converter(freeze(adapted())) if when == "before" else freeze(converter(adapted()))
    before = of_base(model)
    getattr(model, method)()
    assert of_base(model) == before
    assert not model.down.weight.any()
    getattr(model.base.bio_mod, method)()
    assert not model.base.weight.any()


# Dale's principle


def test_dale_s_conversion_keeps_its_values_and_gives_no_signs():
    plain = adapted().base.weight
    model = converted("before")
    assert torch.equal(model.base.weight, plain)
    assert (model.base.bio_mod.sign.ndim, model.down.bio_mod.sign.shape) == (0, (1, 12))
    model.base.requires_grad_(True)
    model.enforce_dales_principle()
    model.base.bio_mod.enforce_dales_principle()
    assert torch.equal(model.base.weight, plain)
    assert metrics(*trees(model))["all"]["sign_violations"] == 0
    model.rejuvenate_weights()
    BioConverter(apply_dales_principle=True)(model)
    assert (model.base.weight * model.base.bio_mod.sign >= 0).all()


def test_frozen_after_the_conversion_it_keeps_its_signs_for_later():
    model = converted("after")
    with torch.no_grad():
        model.base.weight.neg_()
    before = model.base.weight.clone()
    model.enforce_dales_principle()
    assert torch.equal(model.base.weight, before)
    model.base.requires_grad_(True)
    model.enforce_dales_principle()
    assert not model.base.weight.any()


@pytest.mark.parametrize(("saved", "loaded"), [("before", "after"), ("after", "before")])
def test_signs_come_with_the_state(saved, loaded):
    source, target = converted(saved), converted(loaded, dales_excitatory_fraction=0.2)
    target.load_state_dict(source.state_dict())
    assert bits(target.state_dict()) == bits(source.state_dict())
    target.base.requires_grad_(True)
    with torch.no_grad():
        target.base.weight.neg_()
    target.enforce_dales_principle()
    assert bool(target.base.weight.any()) is (saved == "before")


def test_a_bio_module_made_by_hand_names_its_layer():
    layer = nn.Linear(6, 5).requires_grad_(False)
    bio = BioModule(layer, BioConfig(apply_dales_principle=True))
    assert (layer.weight * bio.sign >= 0).all()


# Optimizers


MECHANISMS = ["fuzzy_learning_rates", "crystallize", "rejuvenate_weights", "update_fuzzy_learning_rates"]


@when
@pytest.mark.parametrize("given", ["all", "trained"])
@pytest.mark.parametrize("own", [False, True])
def test_attached_mechanisms_leave_it_alone(given, own, when):
    model = adapted() if when == "attached" else converted(when, apply_dales_principle=False)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if given == "all" or p.requires_grad], weight_decay=0.1
    )
    mechanisms = [Mechanism(forget, where="after")] if own else MECHANISMS
    attach(optimizer, model, mechanisms, ages=True, fresh_rates=True)
    before, rest = of_base(model), others_of(model)
    for step in range(3):
        optimizer.zero_grad()
        fed(model, step)
        optimizer.step()
    assert of_base(model) == before
    assert others_of(model) != rest


def test_frozen_between_two_steps_and_thawed_again():
    model = adapted()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, model, ["rejuvenate_weights"], config=BioConfig())
    changed = []
    for frozen in (False, True, False):
        model.base.requires_grad_(not frozen)
        optimizer.zero_grad()
        fed(model)
        before = of_base(model)
        optimizer.step()
        changed.append(of_base(model) != before)
    assert changed == [True, False, True]


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_callbacks_convert_as_the_converter_does(name):
    module = pytest.importorskip(f"funcbio.integrations.{name}")
    session = module.BioCallback(["rejuvenate_weights"], config=BioConfig(apply_dales_principle=True))._session
    model = freeze(adapted())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.base.weight.clone()
    session.attach(model, [optimizer], 0)
    fed(model)
    optimizer.step()
    assert torch.equal(model.base.weight, before)
    session.remove()


# Functions and sweeps


def test_functions_bound_to_a_model_leave_it_alone():
    model = freeze(adapted())
    bio = funcbio.bind(model, BioConfig(**FULL))
    params = dict(model.named_parameters())
    state = bio.init(params, key=funcbio.key(0))
    assert {name for name, rate in state.rate.items() if rate.ndim} == {"down.weight", "up.weight", "head.weight"}
    step = funcbio.chain(bio.apply_dales_principle, bio.rejuvenate_weights, bio.enforce_dales_principle)
    new = step(params, params, state, key=funcbio.key(1))[0]
    assert new[BASE] is params[BASE]
    assert not torch.equal(new["down.weight"], params["down.weight"])
    named = funcbio.bind(model, synapses=["*", BASE]).init(params, key=funcbio.key(0))
    assert named.rate[BASE].shape == (12, 12)


def test_a_model_of_functional_code_none_of_whose_parameters_requires_gradients_counts_as_trained():
    described = funcbio.synapses(adapted().requires_grad_(False))
    assert all(synapse.trained for synapse in described.values())
    only_biases = adapted().requires_grad_(False)
    only_biases.base.bias.requires_grad_(True)
    assert not any(synapse.trained for synapse in funcbio.synapses(only_biases).values())


def test_a_sweep_trains_as_the_converted_model_and_refuses_the_name():
    x = torch.randn(32, 12)
    options = {"steps": 2, "batch_size": 16, "seeds": 2, "lr": 0.1, "mechanisms": ["rejuvenate_weights"]}
    make = lambda: freeze(Adapted())
    plain = funcbio.sweep(make, nn.functional.mse_loss, (x, x[:, :4]), **{**options, "mechanisms": []})
    config = BioConfig(apply_dales_principle=True)
    found = funcbio.sweep(make, nn.functional.mse_loss, (x, x[:, :4]), config=config, **options)
    assert torch.equal(found.params[BASE], plain.params[BASE])
    assert not torch.equal(found.params["down.weight"], plain.params["down.weight"])
    with pytest.raises(
        ValueError, match=r"synapses should name weights that are trained in a sweep; found base\.weight"
    ):
        funcbio.sweep(make, nn.functional.mse_loss, (x, x[:, :4]), synapses=[BASE, "head.weight"], **options)


# Real models


def test_a_fine_tuned_residual_network_keeps_its_trunk():
    torch.manual_seed(0)
    model = ResNet()
    model.stem.requires_grad_(False)
    model.blocks.requires_grad_(False)
    trunk = bits({n: p.detach() for n, p in model.named_parameters() if not n.startswith("head")})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    config = BioConfig(apply_dales_principle=True, fuzzy_lr_distribution="weight_adaptive", fuzzy_lr_dynamic=True)
    with pytest.warns(UserWarning, match="apply_dales_principle should find weights that are trained"):
        attach(optimizer, model, MECHANISMS, config=config)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        model.rejuvenate_weights()
        model.enforce_dales_principle()
    assert bits({n: p.detach() for n, p in model.named_parameters() if not n.startswith("head")}) == trunk


def test_instances_of_converted_classes_may_be_frozen_by_their_constructor():
    class Frozen(BioMlp):
        def __init__(self):
            super().__init__()
            self.body.requires_grad_(False)

    model = Frozen()
    before = model.body[0].weight.clone()
    assert set(model.rejuvenate_weights()) == {"head.weight"}
    assert torch.equal(model.body[0].weight, before)


# Where nothing is left


@pytest.mark.parametrize("method", ["rejuvenate_weights", "update_fuzzy_learning_rates", "enforce_dales_principle"])
def test_a_model_that_is_frozen_whole_is_said_once(method):
    model = converted("after").requires_grad_(False)
    before = bits(model.state_dict())
    with pytest.warns(
        UserWarning, match=rf"{method}\(\) should find weights that are trained; found requires_grad=False"
    ):
        found = getattr(model, method)()
    assert not found
    getattr(model, method)()  # Not a second time.
    assert bits(model.state_dict()) == before


def test_documented_errors_stay():
    model = BioConverter()(adapted()).requires_grad_(False)
    for method in ("crystallize", "fuzzy_learning_rates", "volume_dependent_lr", "bio_step"):
        with pytest.raises(RuntimeError, match="No gradients found for the weights"):
            getattr(model, method)()
    for call in (model.enforce_dales_principle, lambda: model.bio_step("enforce_dales_principle")):
        with pytest.raises(AttributeError, match="Can not enforce dales principle"):
            call()
    with pytest.raises(RuntimeError, match="Weights do not require gradients"):
        model.base.bio_mod.crystallize()


def test_bio_step_and_attach_say_it_too():
    model = BioConverter()(adapted()).requires_grad_(False)
    with pytest.warns(UserWarning, match=r"rejuvenate_weights\(\) should find weights that are trained"):
        assert model.bio_step("rejuvenate_weights") == {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="rejuvenate_weights should act on weights that are trained"):
        attach(optimizer, model, ["rejuvenate_weights"])
    before = bits(model.state_dict())
    optimizer.step()
    assert bits(model.state_dict()) == before


def test_dale_s_conversion_of_a_frozen_model_is_said():
    with pytest.warns(UserWarning, match="apply_dales_principle should find weights that are trained"):
        BioConverter(apply_dales_principle=True)(adapted().requires_grad_(False))


# The drop-in


def test_the_drop_in_treats_it_as_the_release_did():
    model = release.BioConverter(apply_dales_principle=True)(freeze(adapted()))
    assert (model.base.weight * model.base.bio_mod.sign >= 0).all()
    assert not torch.equal(model.base.weight, adapted().base.weight)
    before = model.base.weight.clone()
    model.rejuvenate_weights()
    assert not torch.equal(model.base.weight, before)


def test_a_copy_of_a_frozen_model_is_left_alone_too():
    model = copy.deepcopy(converted("after"))
    before = of_base(model)
    model.rejuvenate_weights()
    assert of_base(model) == before
