"""BioConverter, BioModule and BioConfig: every promise of the documented objects."""

import copy

import pytest
import torch
from torch import nn
from worlds import MODELS, Classifier, Recurrent, mlp

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, BioState, Distribution, IdleWarning, rng
from funcbio.functional._bind import bind
from funcbio.mechanisms import ROWS

EVERYTHING = {"apply_dales_principle": True, "record_activity": True, "fuzzy_lr_dynamic": True}


def trained(name, **config):
    """A converted model after a backward pass, and its input."""
    make, shape = MODELS[name]
    bio_model, x = BioConverter(**config)(make()), torch.randn(shape)
    bio_model(x).square().sum().backward()
    return bio_model, x


def trees(bio_model):
    """The three trees that the pure functions take, read off a converted model."""
    bio_mods = {m.synapse.weight: m for m in bio_model.modules() if isinstance(m, BioModule)}
    params = {n: bio_model.get_parameter(n) for n in bio_mods}
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in params.items()}
    first = next(iter(bio_mods.values()))

    def laid_out(n, bio):
        return bio.synapse.along_post(bio.activation_count, params[n].shape)

    state = BioState(
        rate={n: bio.fuzzy_learning_rate_parameters for n, bio in bio_mods.items()},
        sign={n: bio.sign for n, bio in bio_mods.items()},
        activity={n: laid_out(n, bio) for n, bio in bio_mods.items()},
        updates=first.updates,
    )
    return copy.deepcopy((params, grads, state)), first.key.clone()


METHODS = [name for name, row in ROWS.items() if row.is_method]


@pytest.mark.filterwarnings("ignore:apply_dales_principle should find:funcbio.IdleWarning")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distribution", ["temporal", "weight_adaptive", "activity"])
def test_every_method_is_the_pure_function_to_the_last_bit(model, method, distribution):
    config = {**EVERYTHING, "fuzzy_lr_distribution": distribution, "fuzzy_lr_update_freq": 1}
    bio_model, _ = trained(model, **config)
    unused = [n for n, p in bio_model.named_parameters() if p.grad is None]
    (params, grads, state), key = trees(bio_model)
    params, grads, state = getattr(bind(bio_model, BioConfig(**config)), method)(params, grads, state, key=key)
    getattr(bio_model, method)()
    for m in bio_model.modules():
        if isinstance(m, BioModule):
            n = m.synapse.weight
            weight = bio_model.get_parameter(n)
            assert torch.equal(weight, params[n])
            assert torch.equal(m.fuzzy_learning_rate_parameters, state.rate[n])
            assert n in unused or torch.equal(weight.grad, grads[n])
            assert torch.equal(m.updates, state.updates)
            assert torch.equal(m.key, key + rng.step_of(key.device) if ROWS[method].draws else key)


def test_conversion_starts_from_the_pure_state():
    bio_model = BioConverter(apply_dales_principle=True)(Classifier())
    bio_mods = [m for m in bio_model.modules() if isinstance(m, BioModule)]
    bound = bind(bio_model, BioConfig(apply_dales_principle=True))
    state = bound.init(dict(bio_model.named_parameters()), key=bio_mods[0].key)
    for bio in bio_mods:
        assert torch.equal(bio.fuzzy_learning_rate_parameters, state.rate[bio.synapse.weight])
        assert torch.equal(bio.sign, state.sign[bio.synapse.weight])


def test_the_same_seed_fixes_everything_that_follows():
    def run():
        torch.manual_seed(3)
        bio_model, _ = trained("cnn", fuzzy_lr_distribution="gamma")
        bio_model.volume_dependent_lr()
        bio_model.rejuvenate_weights()
        return {n: t.clone() for n, t in bio_model.state_dict().items()} | {
            f"grad {n}": p.grad.clone() for n, p in bio_model.named_parameters()
        }

    first, second = run(), run()
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_draws_differ_from_call_to_call_and_from_layer_to_layer():
    twins = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    twins[1].load_state_dict(twins[0].state_dict())
    BioConverter()(twins)
    first = twins.rejuvenate_weights()
    assert not torch.equal(first["0.weight"], first["1.weight"])
    assert not torch.equal(first["0.weight"], twins.rejuvenate_weights()["0.weight"])


def test_the_converted_model_is_the_same_object_with_the_same_parameters_and_keys():
    model = Classifier()
    names, plain_keys = [n for n, _ in model.named_parameters()], list(model.state_dict())
    bio_model = BioConverter(**EVERYTHING, weight_splitting_Gamma=2)(model)
    assert bio_model is model
    assert type(bio_model) is Classifier
    assert [n for n, _ in bio_model.named_parameters()] == names
    extra = [n for n in bio_model.state_dict() if n not in plain_keys]
    assert set(plain_keys) < set(bio_model.state_dict())
    assert all(".bio_mod." in n for n in extra)
    assert "head.bio_mod.fuzzy_learning_rate_parameters" in extra
    with pytest.warns(UserWarning, match="the signs of .* should be loaded with it"):
        missing, unexpected = bio_model.load_state_dict(Classifier().state_dict(), strict=False)
    assert (sorted(missing), unexpected) == (sorted(extra), [])


@pytest.mark.parametrize("name", MODELS)
def test_without_splitting_the_output_is_that_of_the_plain_model(name):
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    before = model(x)
    assert torch.equal(BioConverter(record_activity=True)(model)(x), before) or name == "transformer"
    torch.testing.assert_close(model(x), before)


def test_converting_again_applies_the_new_configuration_whole():
    bio_model = BioConverter(**EVERYTHING, weight_splitting_Gamma=2)(mlp())
    BioConverter(fuzzy_lr_distribution="baseline")(bio_model)
    assert sum(isinstance(m, BioModule) for m in bio_model.modules()) == 3
    assert not any(m._forward_hooks for m in bio_model.modules())
    assert bio_model.l1_reg() == sum(bio_model[i].weight.numel() for i in (0, 2, 4))
    assert not any(n.endswith(("sign", "activation_count")) for n in bio_model.state_dict())
    BioConverter(weight_splitting_Gamma=2)(bio_model)
    BioConverter(weight_splitting_Gamma=2)(bio_model)
    assert len(bio_model[0]._forward_hooks) == 1


def test_gamma_splits_all_but_the_read_out_for_any_leading_dimensions():
    bio_model = BioConverter(weight_splitting_Gamma=2)(mlp())
    for lead in ((), (3,), (2, 3), (2, 1, 3)):
        hidden = bio_model[0](torch.randn(*lead, 5))
        assert torch.equal(hidden[..., ::2], hidden[..., 1::2])
        assert bio_model(torch.randn(*lead, 5)).shape == (*lead, 2)
    split = bio_model[2](torch.randn(3, 6))
    assert torch.equal(split[:, 0], split[:, 1])
    assert not torch.equal(*bio_model[4](torch.randn(3, 4)).T)


def test_the_splitting_activation_acts_before_the_sum():
    layer = nn.Linear(3, 4)
    x = torch.randn(5, 3)
    expected = torch.relu(layer(x)).view(5, 2, 2).sum(2).repeat_interleave(2, 1)
    bio = BioConverter(weight_splitting_Gamma=2, weight_splitting_activation_function=torch.relu)(layer)
    torch.testing.assert_close(bio(x), expected)


def test_nothing_is_changed_when_gamma_does_not_divide():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"must evenly divide the number of features \(\d+\) of 1\.weight"):
        BioConverter(weight_splitting_Gamma=2, apply_dales_principle=True)(model)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[n], before[n]) for n in before)
    assert not hasattr(model, "crystallize")


def test_the_user_can_mark_the_read_out():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
    BioConverter.set_last_module_token_for_module(model[0])
    bio_model = BioConverter(weight_splitting_Gamma=2)(model)
    assert bio_model[0].bio_mod.synapse.readout
    assert not bio_model[1].bio_mod.synapse.readout


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        shared = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.ModuleDict({"a": shared}), nn.ModuleDict({"b": shared, "c": nn.Linear(4, 4)})])
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.unused = nn.Linear(4, 4)
        self.out = nn.Sequential(nn.Sequential(nn.Linear(4, 1)))

    def forward(self, x):
        for block in self.blocks:
            for layer in block.values():
                x = layer(x)
        return self.out(self.frozen(x))


def test_nested_shared_frozen_and_unused_layers():
    bio_model = BioConverter(fuzzy_lr_distribution="baseline")(Nested())
    bio_mods = [m.synapse.weight for m in bio_model.modules() if isinstance(m, BioModule)]
    assert bio_mods == ["blocks.0.a.weight", "blocks.1.c.weight", "frozen.weight", "unused.weight", "out.0.0.weight"]
    assert bio_model.out[0][0].bio_mod.synapse.readout
    bio_model(torch.randn(2, 4)).sum().backward()
    rate = bio_model.frozen.bio_mod.fuzzy_learning_rate_parameters
    bio_model.frozen.weight.grad = torch.ones(4, 4)  # Left over from before it was frozen.
    for method in ("fuzzy_learning_rates", "volume_dependent_lr", "crystallize"):
        getattr(bio_model, method)()
    assert torch.equal(bio_model.frozen.weight.grad, torch.ones(4, 4))
    assert torch.equal(rate, torch.ones(4, 4))
    with pytest.raises(RuntimeError, match="Weights do not require gradients"):
        bio_model.frozen.bio_mod.crystallize()
    with pytest.raises(RuntimeError, match="No gradients found for the weights"):
        bio_model.unused.bio_mod.fuzzy_learning_rates()


@pytest.mark.parametrize("method", ["fuzzy_learning_rates", "volume_dependent_lr", "crystallize", "scale_grad"])
def test_methods_that_need_gradients_say_so_and_change_nothing(method):
    bio_model = BioConverter(record_activity=True)(mlp())
    before = copy.deepcopy(bio_model.state_dict())
    with pytest.raises(RuntimeError, match="No gradients found for the weights"):
        getattr(bio_model, method)()
    assert all(torch.equal(value, before[n]) for n, value in bio_model.state_dict().items())


def test_a_model_without_synapses_is_refused():
    with pytest.raises(ValueError, match=r"layer with synapses \(Linear, Conv1d, .*\); found none in GRU"):
        BioConverter()(nn.GRU(3, 4))


def test_the_only_layer_of_a_model_is_its_read_out_but_a_bare_layer_is_none():
    lstm_like = nn.ModuleDict({"cell": nn.LSTM(3, 4), "out": nn.Linear(4, 3)})
    with pytest.warns(IdleWarning, match=r"(weight_splitting_Gamma=2|apply_dales_principle) should find a layer"):
        bio_model = BioConverter(weight_splitting_Gamma=2, apply_dales_principle=True)(lstm_like)
    assert bio_model["out"].bio_mod.synapse.readout
    assert bio_model["out"].bio_mod.sign.ndim == 0
    assert not BioConverter()(nn.Linear(4, 3)).bio_mod.synapse.readout


def test_a_layer_whose_weight_is_no_parameter_is_refused():
    with pytest.raises(ValueError, match=r"found the uninitialized weight 0\.weight"):
        BioConverter()(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="the weight of layer '0' should be a parameter"):
        BioConverter()(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2)))


def test_a_tied_weight_goes_by_its_first_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.inner = nn.Linear(4, 4)
            self.decoder = nn.Linear(4, 7)
            self.decoder.weight = self.embedding.weight

        def forward(self, x):
            return self.decoder(self.inner(self.embedding(x)))

    model = Tied()
    params = dict(model.named_parameters())
    described = funcbio.synapses(model)
    assert {n: s.bias for n, s in described.items()} == {
        "inner.weight": "inner.bias",
        "embedding.weight": "decoder.bias",
    }
    assert funcbio.init(params, key=funcbio.key(0), synapses=described).rate["embedding.weight"].shape == (7, 4)
    bio_model = BioConverter()(model)
    bio_model(torch.tensor([1, 2])).sum().backward()
    bio_model.crystallize()
    assert set(bio_model.rejuvenate_weights()) == {"inner.weight", "embedding.weight"}


@pytest.mark.parametrize("thing", [3, "net", nn.functional.relu, dict])
def test_what_is_no_module_is_a_type_error(thing):
    with pytest.raises(TypeError, match=r"should be an nn.Module or a subclass of it; found"):
        BioConverter()(thing)


def test_dale_holds_through_training_and_is_refused_when_off():
    bio_model = BioConverter(apply_dales_principle=True)(mlp())
    optimizer = torch.optim.SGD(bio_model.parameters(), lr=1.0)
    for _ in range(5):
        bio_model(torch.randn(9, 5)).square().sum().backward()
        optimizer.step()
        bio_model.enforce_dales_principle()
        for layer in (bio_model[0], bio_model[2]):
            assert layer.bio_mod.sign.shape == (1, layer.in_features)
            assert (layer.weight * layer.bio_mod.sign >= 0).all()
    assert bio_model[4].bio_mod.sign.ndim == 0
    with pytest.raises(AttributeError, match="Can not enforce dales principle without apply_dales_principle set True"):
        BioConverter()(mlp()).enforce_dales_principle()


def test_activity_is_recorded_by_the_layers_own_forward_pass():
    bio_model = BioConverter(fuzzy_lr_distribution="activity", fuzzy_lr_dynamic=True)(Recurrent())
    x = torch.randn(2, 5, 3)
    y = bio_model(x)
    assert torch.equal(bio_model.head.bio_mod.activation_count, (y.abs() > 0.01).sum((0, 1)))
    bio_model.update_fuzzy_learning_rates(x)  # A pass was recorded: the model is not run again.
    assert torch.equal(bio_model.head.bio_mod.activation_count, (y.abs() > 0.01).sum((0, 1)))
    assert (bio_model.head.bio_mod.fuzzy_learning_rate_parameters != 1).all()


def test_an_input_stands_in_for_a_missing_forward_pass_without_side_effects():
    class Noisy(nn.Sequential):
        pass

    model = Noisy(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    bio_model = BioConverter(fuzzy_lr_distribution="activity", fuzzy_lr_dynamic=True)(model)
    bio_model.update_fuzzy_learning_rates(torch.randn(6, 3))
    assert bio_model[0].bio_mod.activation_count.sum() > 0
    assert bio_model[1].num_batches_tracked == 0
    assert bio_model.training
    assert bio_model[2].training
    assert (bio_model[0].bio_mod.fuzzy_learning_rate_parameters != 1).all()
    counted = bio_model[0].bio_mod.activation_count.clone()
    bio_model.update_fuzzy_learning_rates()
    assert torch.equal(bio_model[0].bio_mod.activation_count, counted)


def test_rates_stay_unless_dynamic():
    bio_model, x = trained("mlp", fuzzy_lr_distribution="activity")
    with pytest.warns(IdleWarning, match="found fuzzy_lr_dynamic=False"):
        bio_model.update_fuzzy_learning_rates(x)
    assert (bio_model[0].bio_mod.fuzzy_learning_rate_parameters == 1).all()


def test_a_bio_module_can_be_built_by_hand():
    layer = nn.Linear(4, 3)
    for parent in (layer, lambda: layer):
        bio = BioModule(parent, BioConfig())
        assert bio.get_parent() is layer
        assert bio.fuzzy_learning_rate_parameters.shape == (3, 4)
    layer(torch.ones(1, 4)).sum().backward()
    bio.fuzzy_learning_rate_parameters.data = torch.full((3, 4), 0.5)
    bio.fuzzy_learning_rates()
    assert torch.equal(layer.weight.grad, torch.full((3, 4), 0.5))
    assert list(bio.parameters()) == []


@pytest.mark.parametrize("parent", ["a layer", lambda: "a layer", None])
@pytest.mark.parametrize("error", [ValueError, AssertionError])
def test_a_parent_that_is_no_module_is_refused(parent, error):
    with pytest.raises(error, match="parent should be a module, or a callable that returns one; found"):
        BioModule(parent)


def test_a_hand_built_module_uses_the_stated_depth():
    config = BioConfig(
        fuzzy_lr_distribution="layer_adaptive",
        fuzzy_learning_rate_factor_nu=0.4,
        fuzzy_lr_layer_index=9,
        fuzzy_lr_total_layers=10,
    )
    rates = BioModule(nn.Linear(200, 200), config).fuzzy_learning_rate_parameters
    assert (rates - 1).abs().max() < 0.4 * 0.55 + 1e-6


def test_methods_can_be_added_by_subclassing():
    class Counting(BioModule):
        exposed_functions = (*BioModule.exposed_functions, "count_weights")

        def count_weights(self):
            return self.get_parent().weight.numel()

    class CountingConverter(BioConverter):
        bio_module_class = Counting

    bio_model = CountingConverter()(mlp())
    assert bio_model.count_weights() == {"0.weight": 30, "2.weight": 24, "4.weight": 8}
    assert set(bio_model.rejuvenate_weights()) == {"0.weight", "2.weight", "4.weight"}


converter = BioConverter()


@converter
class Decorated(nn.Module):
    """A user's class, written the old way."""

    def __init__(self, width=4):
        super(Decorated, self).__init__()  # noqa: UP008 - users write this
        self.fc1 = nn.Linear(3, width)
        self.fc2 = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc2(self.fc1(x))


class Further(Decorated):
    def __init__(self):
        super().__init__(width=6)
        self.fc3 = nn.Linear(2, 2)


def test_classes_become_bio_classes_and_the_given_class_stays():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

    bio_net = BioConverter(fuzzy_lr_distribution="layer_adaptive")(Net)
    assert issubclass(bio_net, Net)
    assert bio_net.__name__ == "Net"
    assert bio_net().l1_reg() > 0
    assert not hasattr(Net(), "l1_reg")
    assert BioConverter(fuzzy_lr_distribution="baseline")(bio_net)().l1_reg() == 9


def test_decorated_classes_and_their_subclasses_convert_once_complete():
    assert hasattr(Decorated().fc1, "bio_mod")
    assert Decorated.__doc__ == "A user's class, written the old way."
    assert set(Further().rejuvenate_weights()) == {"fc1.weight", "fc2.weight", "fc3.weight"}


def test_a_copy_is_independent_of_the_original():
    bio_model, x = trained("cnn")
    clone = copy.deepcopy(bio_model)
    before = copy.deepcopy(bio_model.state_dict())
    clone.rejuvenate_weights()
    clone(x).sum().backward()
    clone.crystallize()
    assert all(torch.equal(value, before[n]) for n, value in bio_model.state_dict().items())
    assert not torch.equal(clone.head.weight, bio_model.head.weight)


def test_methods_work_in_bfloat16():
    bio_model = BioConverter()(mlp().bfloat16())
    bio_model(torch.ones(2, 5, dtype=torch.bfloat16)).sum().backward()
    for method in ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "rejuvenate_weights"):
        getattr(bio_model, method)()
    assert bio_model[0].weight.dtype == torch.bfloat16
    assert bio_model[0].weight.isfinite().all()


def test_the_converter_keeps_its_configuration():
    made = BioConverter.from_dict({"dampening_factor": 0.5, "fuzzy_lr_distribution": "gamma"})
    assert made.get_config().fuzzy_lr_distribution is Distribution.GAMMA
    before = made(nn.Linear(2, 2))
    made.update_config(dampening_factor=0.25)
    assert before.bio_mod.config.dampening_factor == 0.5
    assert made.convert(nn.Linear(2, 2)).bio_mod.config.dampening_factor == 0.25


BAD = [
    ("fuzzy_learning_rate_factor_nu", 0),
    ("dampening_factor", 1.0),
    ("dampening_factor", "0.5"),
    ("crystal_thresh", -1e-5),
    ("crystal_thresh", float("nan")),
    ("rejuvenation_parameter_dre", 0.0),
    ("weight_splitting_Gamma", -1),
    ("weight_splitting_Gamma", 2.5),
    ("weight_splitting_Gamma", True),
    ("weight_splitting_activation_function", None),
    ("apply_dales_principle", 1),
    ("base_lr", 1.0),
    ("stability_factor", 0),
    ("lr_variability", -0.1),
    ("fuzzy_lr_distribution", "cauchy"),
    ("fuzzy_lr_min", -0.1),
    ("fuzzy_lr_min", 2.0),
    ("fuzzy_lr_decay", 0.0),
    ("fuzzy_lr_update_freq", 0),
    ("dales_excitatory_fraction", 1.1),
    ("rejuvenation_variant", "median"),
]


@pytest.mark.parametrize("error", [ValueError, AssertionError])
@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_value_is_refused_when_the_configuration_is_made(field, value, error):
    with pytest.raises(error, match=rf"^{field} should be .*; found"):
        BioConfig(**{field: value})
    with pytest.raises(error, match=rf"^{field} should be .*; found"):
        BioConverter(**{field: value})


@pytest.mark.parametrize("error", [ValueError, AssertionError])
def test_an_unknown_field_is_refused_with_the_nearest_name(error):
    for make in (lambda: BioConfig(crystal_tresh=1.0), lambda: BioConverter(crystal_tresh=1.0)):
        with pytest.raises(error, match="crystal_tresh should be a field of BioConfig, perhaps crystal_thresh"):
            make()
    with pytest.raises(error, match="perhaps weight_splitting_Gamma"):
        BioConverter().update_config(weight_splitting_gamma=2)


def test_the_documented_defaults():
    config = funcbio.DEFAULT_BIO_CONFIG
    documented = dict(  # noqa: C408 - reads like the call it documents
        fuzzy_learning_rate_factor_nu=0.16, dampening_factor=0.6, crystal_thresh=4.5e-5, rejuvenation_parameter_dre=8.0,
        weight_splitting_Gamma=0, apply_dales_principle=False, base_lr=0.1, stability_factor=2.0, lr_variability=0.2,
        fuzzy_lr_distribution=Distribution.UNIFORM, fuzzy_lr_min=0.5, fuzzy_lr_max=2.0, fuzzy_lr_dynamic=False,
        fuzzy_lr_decay=0.9995, fuzzy_lr_update_freq=100, fuzzy_lr_layer_index=-1, fuzzy_lr_total_layers=-1,
    )  # fmt: skip
    assert {name: getattr(config, name) for name in documented} == documented
    assert config.weight_splitting_activation_function(3) == 3


def test_documented_import_paths():
    from funcbio.bio_config import DEFAULT_BIO_CONFIG
    from funcbio.bio_converter import BioConverter as FromModule
    from funcbio.bio_module import BioModule as FromBioModule

    assert DEFAULT_BIO_CONFIG is funcbio.DEFAULT_BIO_CONFIG
    assert FromModule is BioConverter
    assert FromBioModule is BioModule
    assert isinstance(funcbio.__version__, str)
