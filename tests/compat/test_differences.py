"""What docs/release-0.0.5.md says of both libraries, found true on both: by the drop-in's side, or in spite of it."""

import copy
import io
import logging
import pickle
import random
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from unittest import mock

import bio_transformations
import pytest
import torch
from bio_transformations import bio_config as released
from scipy.stats import gamma as gamma_law
from torch import nn

import funcbio
from funcbio import compat
from funcbio.compat import release
from funcbio.mechanisms import _rates as rates

MEMBERS = released.Distribution
BOTH = {"release": bio_transformations, "drop-in": release}
both = pytest.mark.parametrize("library", BOTH.values(), ids=BOTH)
ACTIVITY = {"fuzzy_lr_distribution": MEMBERS.ACTIVITY, "fuzzy_lr_dynamic": True}
BASELINE = {"fuzzy_lr_distribution": MEMBERS.BASELINE}


def configured(library, **options):
    return (released if library is bio_transformations else release).BioConfig(**options)


def by_hand(library, layer, **options):
    return library.BioModule(lambda: layer, configured(library, **options))


def two_layers(**options):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


def convolutions():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 2))


def trained(model, shape=(3, 6)):
    model(torch.randn(shape, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    return model


def rate(layer):
    return layer.bio_mod.fuzzy_learning_rate_parameters.detach()


# What can be imported and called


def test_all_that_could_be_imported_from_the_release_can_be_imported():
    for part, names in compat.PARTS.items():
        real = import_module(f"bio_transformations.{part}")
        own = {name for name, value in vars(real).items() if getattr(value, "__module__", "").startswith(compat.NAME)}
        assert set(names) == own | {name for name in ("DEFAULT_BIO_CONFIG",) if hasattr(real, name)}


@pytest.mark.parametrize("name", ["BioModule", "BioConverter"])
def test_every_public_method_of_the_release_is_there(name):
    theirs, ours = getattr(bio_transformations, name), getattr(release, name)
    assert [item for item in dir(theirs) if not item.startswith("_") and not hasattr(ours, item)] == []


def test_every_method_of_a_model_of_the_release_is_there():
    theirs, ours = (library.BioConverter()(two_layers()) for library in BOTH.values())
    assert {name for name in vars(theirs) if callable(vars(theirs)[name])} <= set(vars(ours))


# The configuration


def test_the_configuration_has_the_release_s_order():
    theirs, ours = released.BioConfig(), release.BioConfig()
    assert ours._fields[: len(theirs)] == theirs._fields
    assert ours[1 : len(theirs)] == theirs[1:]
    assert list(ours)[1] == ours[1] == 0.16
    assert len(ours) == len(list(ours)) == len(ours._fields) == len(ours._asdict())
    values = (nn.Tanh(), 0.3, 0.7, 1e-3, 4.0, 2, True, 0.5, 1.0, 0.4, MEMBERS.GAMMA, 0.1, 3.0, True, 0.9, 7, 1, 2)
    theirs, ours = released.BioConfig(*values), release.BioConfig(*values)
    assert {name: getattr(ours, name) for name in theirs._fields} == theirs._asdict()
    assert ours == release.BioConfig(**theirs._asdict())
    assert ours._replace(base_lr=0.6)._asdict() == {**ours._asdict(), "base_lr": 0.6}


def test_a_field_given_twice_or_too_many_are_refused():
    for config_class in (released.BioConfig, release.BioConfig):
        with pytest.raises(TypeError):
            config_class(nn.Tanh(), weight_splitting_activation_function=nn.ReLU())
        with pytest.raises(TypeError):
            config_class(*range(400))
        with pytest.raises(TypeError):
            config_class()[0] = 1


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        return super().find_class(module.replace("bio_transformations.bio_config", "funcbio.compat.release"), name)


def test_pickled_configurations_load():
    written = released.BioConfig(nn.Tanh(), 0.3, fuzzy_lr_distribution=MEMBERS.BETA)
    found = Reader(io.BytesIO(pickle.dumps(written))).load()
    assert type(found) is release.BioConfig
    assert found[1:18] == tuple(written)[1:]
    assert found.fuzzy_lr_variant == "0.0.5"
    ours = release.BioConfig(base_lr=0.3, dales_variant="default")
    assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours


@pytest.mark.parametrize(
    "options",
    [
        {"fuzzy_lr_distribution": "foo"},
        {"fuzzy_lr_min": 1.0, "fuzzy_lr_max": 1.0},
        {"fuzzy_lr_min": -1.0},
        {"fuzzy_lr_decay": 1.5},
    ],
)
def test_limits_that_the_release_did_not_check(options):
    bio_transformations.BioConverter(**options)(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="should be"):
        release.BioConverter(**options)


def test_changing_a_converter_changed_the_splitting_of_the_models_it_had_converted():
    moved = []
    for library in BOTH.values():
        converter = library.BioConverter(weight_splitting_Gamma=2, **BASELINE)
        model = converter(two_layers())
        before = model(torch.ones(1, 6))
        converter.update_config(weight_splitting_Gamma=4)
        moved.append(not torch.equal(model(torch.ones(1, 6)), before))
    assert moved == [True, False]


# What errors say


def caught(call, library):
    """What a call raises under a library."""
    try:
        call(library)
    except Exception as error:
        return error
    return None


def plain(library, **options):
    return library.BioConverter(**options)(two_layers())


def frozen_layer(library):
    model = plain(library)
    model[0].weight.requires_grad_(False)
    trained(model)
    model[0].bio_mod.crystallize()


def frozen_model(library):
    plain(library).requires_grad_(False).crystallize()


def without_sign(library):
    model = plain(library, apply_dales_principle=True)
    del model[0].bio_mod.sign
    model[0].bio_mod.enforce_dales_principle()


def indivisible(library, layer):
    library.BioConverter(weight_splitting_Gamma=2)(nn.Sequential(layer, nn.Linear(1, 1), nn.Linear(1, 1)))


GRADIENT_METHODS = ("fuzzy_learning_rates", "volume_dependent_lr", "crystallize")
LIMITS = {
    "fuzzy_learning_rate_factor_nu": [0, -1.0, float("nan")],
    "dampening_factor": [0.0, 1.0, 2],
    "crystal_thresh": [0.0, -1e-5],
    "rejuvenation_parameter_dre": [0, -8.0],
    "weight_splitting_Gamma": [-1],
    "weight_splitting_activation_function": [None, 3],
    "base_lr": [0.0, 1.0],
    "stability_factor": [0, -1],
    "lr_variability": [0.0, -0.2],
}
CALLS = {
    **{f"{name} of a model": lambda library, name=name: getattr(plain(library), name)() for name in GRADIENT_METHODS},
    **{
        f"{name} of a layer": lambda lib, name=name: getattr(plain(lib)[0].bio_mod, name)() for name in GRADIENT_METHODS
    },
    "crystallize of a frozen layer": frozen_layer,
    "crystallize of a frozen model": frozen_model,
    "signs not asked for": lambda library: plain(library)[0].bio_mod.enforce_dales_principle(),
    "signs deleted": without_sign,
    "signs of what is no BioModule": lambda library: library.BioModule.dalian_network_initialization(nn.Linear(2, 2)),
    "Gamma and a Linear": lambda library: indivisible(library, nn.Linear(15, 15)),
    "Gamma and a Conv2d": lambda library: indivisible(library, nn.Conv2d(3, 15, 3)),
    **{f"converting {thing!r}": lambda lib, thing=thing: lib.BioConverter()(thing) for thing in (3, "x", None, dict)},
    "unknown name in a configuration": lambda library: configured(library, dampening=0.5),
    "unknown names in a converter": lambda library: library.BioConverter(dampening=0.5, nu=3),
    "unknown name in a dictionary": lambda library: library.BioConverter.from_dict({"dampening": 0.5}),
    "unknown name in an update": lambda library: library.BioConverter().update_config(dampening=0.5),
    "unknown name replaced": lambda library: configured(library)._replace(dampening=0.5),
    "no parent": lambda library: library.BioModule("layer"),
    "a parent that returns no module": lambda library: library.BioModule(lambda: "layer"),
    **{
        f"{field} = {value}": lambda library, field=field, value=value: by_hand(
            library, nn.Linear(2, 2), **{field: value}
        )
        for field, values in LIMITS.items()
        for value in values
    },
    "two limits broken": lambda library: by_hand(library, nn.Linear(2, 2), base_lr=2.0, dampening_factor=2.0),
}


@pytest.mark.parametrize("call", CALLS)
def test_errors_are_of_the_release_s_kind_and_in_its_words(call):
    theirs, ours = (caught(CALLS[call], library) for library in BOTH.values())
    assert theirs is not None
    assert str(ours) == str(theirs)
    assert isinstance(ours, type(theirs))


@pytest.mark.parametrize("field", LIMITS)
def test_a_converter_refuses_a_limit_before_a_model_is_there(field):
    for value in LIMITS[field]:
        theirs = caught(lambda library, value=value: plain(library, **{field: value}), bio_transformations)
        ours = caught(lambda library, value=value: library.BioConverter(**{field: value}), release)
        assert (str(ours), isinstance(ours, type(theirs))) == (str(theirs), True)


def test_what_the_release_took_is_refused_in_words_of_ours():
    for options in ({"weight_splitting_Gamma": 2.5}, {"fuzzy_lr_decay": 1.5}, {"base_lr": "x"}):
        with pytest.raises(ValueError, match=r"should be .*; found"):
            release.BioConverter(**options)


def test_a_deleted_sign_is_no_matter_to_rejuvenation_nor_to_the_sum_of_rates():
    for library in BOTH.values():
        model = plain(library, apply_dales_principle=True)
        whole = model[0].bio_mod.l1_reg()
        del model[0].bio_mod.sign
        model.rejuvenate_weights()
        assert whole - model[0].bio_mod.l1_reg() == pytest.approx(8, rel=1e-4)


@dataclass(frozen=True, init=False)
class Longer(release.BioConfig):
    """A configuration with a field of a user's own."""

    mine: float = 0.5


def test_fields_of_one_s_own_are_known():
    assert Longer(mine=0.25).replace(base_lr=0.3).mine == 0.25
    with pytest.raises(TypeError, match="unexpected keyword argument 'yours'"):
        Longer(yours=1)


# Parameters


@pytest.mark.parametrize("make", [two_layers, convolutions])
@pytest.mark.parametrize("options", [{}, {"apply_dales_principle": True}, ACTIVITY])
def test_the_parameters_of_a_model_are_those_of_the_release(make, options):
    described = [
        [(name, p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()]
        for model in (library.BioConverter(**options)(make()) for library in BOTH.values())
    ]
    assert described[0] == described[1]
    assert len(list(funcbio.BioConverter(**options)(make()).parameters())) == len(list(make().parameters()))


def test_rates_and_signs_stay_parameters_and_their_own_in_copies_pickles_and_files():
    model = trained(release.BioConverter(apply_dales_principle=True)(two_layers()))
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        release.BioConverter(apply_dales_principle=True)(two_layers()),
    ]
    copies[-1].load_state_dict(model.state_dict())
    for other in copies:
        for name, parameter in other.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name))
            assert parameter is not model.get_parameter(name)
        bio = other[0].bio_mod
        with torch.no_grad():
            other[0].weight.neg_()
        bio.enforce_dales_principle()
        assert (other[0].weight == 0).all()
        assert (model[0].weight != 0).any()
        bio.fuzzy_learning_rate_parameters = torch.ones(8, 6)
        assert isinstance(bio.fuzzy_learning_rate_parameters, nn.Parameter)
        assert not bio.fuzzy_learning_rate_parameters.requires_grad
        assert not torch.equal(rate(model[0]), torch.ones(8, 6))


# Rates that follow activity, and depth


def test_without_an_input_rates_by_activity_stay():
    for library in BOTH.values():
        model = library.BioConverter(**ACTIVITY)(two_layers())
        model(torch.ones(2, 6))
        for _ in range(200):  # A coin of chance 0.1 would all but surely fall: 1 - 0.9**200 = 1 - 7e-10.
            before, count = rate(model[0]).clone(), model[0].bio_mod.activation_count.clone()
            model.update_fuzzy_learning_rates()
            model[0].bio_mod.update_fuzzy_learning_rates()
            assert torch.equal(rate(model[0]), before)
            assert torch.equal(model[0].bio_mod.activation_count, count)


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 8), lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)])
def test_an_input_of_a_layer_is_counted_and_moves_its_rates_once(make):
    torch.manual_seed(3)
    layer = make()
    theirs, ours = (by_hand(library, layer, **ACTIVITY) for library in BOTH.values())
    random.seed(1)
    changes = [0, 0]
    for _ in range(300):
        x = 0.1 * torch.randn(2, 6) if layer.weight.ndim == 2 else 0.1 * torch.randn(2, 6, 5, 5)
        for index, bio in enumerate((theirs, ours)):
            before = bio.fuzzy_learning_rate_parameters.detach().clone()
            bio.update_fuzzy_learning_rates(x)
            changes[index] += not torch.equal(bio.fuzzy_learning_rate_parameters, before)
    # The release computes outputs by another kernel: one within rounding of the threshold may fall on its other side.
    torch.testing.assert_close(ours.activation_count.float(), theirs.activation_count, rtol=0, atol=1)
    assert ours.activation_count.sum() > 0
    assert ours.updates == 300
    # The first call redraws, 299 coins follow: 5 standard deviations of the binomial law are 26.
    assert all(abs(number - 30.9) < 26 for number in changes)


def test_static_rates_by_activity_count_and_a_padding_mode_counts_as_the_layer_pads():
    x = torch.zeros(1, 1, 4, 4)
    x[..., 0] = 1.0
    counts = []
    for library in BOTH.values():
        torch.manual_seed(3)
        layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular", bias=False)
        bio = by_hand(library, layer, **ACTIVITY)
        bio.update_fuzzy_learning_rates(x)
        counts.append(bio.activation_count.tolist())
        model = library.BioConverter(fuzzy_lr_distribution=MEMBERS.ACTIVITY)(two_layers())
        model(torch.ones(1, 6))
        counts.append(model[0].bio_mod.activation_count.sum().item() > 0)
    layer_s_own = (layer(x).abs() > 0.01).sum((0, 2, 3)).tolist()
    assert counts[2] == layer_s_own != counts[0]
    assert counts[1::2] == [False, True]


def test_a_layer_by_hand_that_knows_its_depth_has_the_release_s_rates():
    options = {"fuzzy_lr_distribution": MEMBERS.LAYER_ADAPTIVE, "fuzzy_learning_rate_factor_nu": 0.4}
    for depth in ({}, {"fuzzy_lr_layer_index": 3, "fuzzy_lr_total_layers": 4}):
        layer, unit = nn.Linear(6, 5), torch.rand(5, 6)
        with mock.patch.object(torch, "rand_like", return_value=unit):
            theirs = by_hand(bio_transformations, layer, **options, **depth)
        with mock.patch.object(rates._Layer, "uniform", return_value=unit):
            ours = by_hand(release, layer, **options, **depth)
            model = release.BioConverter(**options)(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 5)))
        torch.testing.assert_close(
            ours.fuzzy_learning_rate_parameters.data, theirs.fuzzy_learning_rate_parameters.data, rtol=1e-6, atol=1e-6
        )
        assert ours.config.fuzzy_lr_variant == "0.0.5"
        if not depth:
            torch.testing.assert_close(rate(model[1]), ours.fuzzy_learning_rate_parameters.data)


def test_where_an_update_changes_nothing_the_release_still_clamps():
    found = []
    for library in BOTH.values():
        options = {"fuzzy_lr_dynamic": True, "fuzzy_lr_decay": 1.0, "fuzzy_lr_update_freq": 1}
        bio = by_hand(library, nn.Linear(2, 2), fuzzy_lr_distribution=MEMBERS.TEMPORAL, **options)
        bio.fuzzy_learning_rate_parameters.data.fill_(0.25)
        bio.update_fuzzy_learning_rates()
        found.append(bio.fuzzy_learning_rate_parameters.unique().tolist())
    assert found == [[0.5], [0.25]]


def test_the_share_of_gamma_rates_on_the_clamp():
    expected = gamma_law.sf(1.0, a=1 / 0.16, scale=0.16)  # That of a draw over 1, to which one is added.
    assert round(expected, 2) == 0.45
    for library in BOTH.values():
        torch.manual_seed(5)
        bio = by_hand(library, nn.Linear(200, 100), fuzzy_lr_distribution=MEMBERS.GAMMA)
        share = (bio.fuzzy_learning_rate_parameters == 2.0).float().mean().item()
        assert abs(share - expected) < 5 * (expected * (1 - expected) / 20_000) ** 0.5


# Dale's principle


@both
def test_signs_can_be_drawn_by_name(library):
    for layer, shape in ((nn.Linear(5, 3), (3, 1)), (nn.Conv2d(3, 6, 3), (6, 3, 1, 1))):
        bio = by_hand(library, layer)
        library.BioModule.dalian_network_initialization(bio)
        assert bio.sign.shape == shape
        assert (layer.weight * bio.sign >= 0).all()
    with pytest.raises(AttributeError):
        library.BioModule.dalian_network_initialization(nn.Linear(2, 2))


# Rejuvenation


def test_what_the_release_wrote_into_weak_weights_and_what_its_old_rule_did():
    torch.manual_seed(0)
    for shift, largest in ((1e-4, 1e-4), (-1e-4, 1e-9)):
        for library in BOTH.values():
            layer = nn.Linear(400, 300)
            with torch.no_grad():
                layer.weight.sub_(layer.weight.mean() - shift)
            before = layer.weight.detach().clone()
            by_hand(library, layer).rejuvenate_weights()
            new = layer.weight[layer.weight != before]
            assert new.numel() > 1000
            assert (new > 0).all()
            assert new.median() < largest
    for shift in (0.01, -0.01):
        layer = nn.Linear(50, 40)
        with torch.no_grad():
            layer.weight.add_(shift)
        before = layer.weight.detach().clone()
        by_hand(bio_transformations, layer).rejuvenate_weights_old()
        assert (layer.weight != before).float().mean() > 0.99
        assert bool(layer.weight.isnan().any()) is (shift < 0)


# Objects


@both
def test_models_without_layers_to_convert_are_let_pass(library):
    warns = (
        nullcontext() if library is bio_transformations else pytest.warns(UserWarning, match="its methods do nothing")
    )
    with warns:
        model = library.BioConverter()(nn.Sequential(nn.Conv1d(2, 2, 3), nn.ReLU()))
    model(torch.ones(1, 2, 5)).sum().backward()
    for method in ("fuzzy_learning_rates", "crystallize", "rejuvenate_weights", "update_fuzzy_learning_rates"):
        getattr(model, method)()
    assert not [name for name, _ in model.named_modules() if "bio_mod" in name]


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)


def test_classes_are_changed_in_place_by_the_release_and_later_layers_left_out():
    later = []
    for library in BOTH.values():
        given = type("Given", (Base,), {})
        made = library.BioConverter()(given)

        class Longer(made):
            def __init__(self):
                super().__init__()
                self.second = nn.Linear(3, 3)

        later.append((made is given, hasattr(Longer().first, "bio_mod"), hasattr(Longer().second, "bio_mod")))
    assert later == [(True, True, False), (False, True, True)]


def test_copies_of_the_release_run_the_original():
    outputs = []
    for library in BOTH.values():
        model = copy.deepcopy(library.BioConverter(weight_splitting_Gamma=2)(two_layers()))
        with torch.no_grad():
            model[0].weight.zero_()
            model[0].bias.zero_()
        outputs.append(bool(model[0](torch.ones(1, 6)).any()))
    assert outputs == [True, False]


def test_an_overflowed_gradient_holds_a_model_but_neither_the_release_nor_a_layer():
    dampened = []
    for library in BOTH.values():
        model = trained(library.BioConverter(**BASELINE)(two_layers()))
        model[0].weight.grad[0, 0] = float("inf")
        model.crystallize()
        dampened.append(rate(model[0])[0, 0].item())
    model[0].bio_mod.crystallize()
    assert dampened == [pytest.approx(0.6), 1.0]
    assert rate(model[0])[0, 0].item() == pytest.approx(0.6)


def test_a_layer_in_two_places_is_treated_twice_by_the_release():
    factors = []
    for library in BOTH.values():
        shared = nn.Linear(4, 4)
        options = {"fuzzy_lr_distribution": MEMBERS.GAMMA}
        model = trained(library.BioConverter(**options)(nn.Sequential(shared, nn.Sequential(shared))), (3, 4))
        before = shared.weight.grad.clone()
        model.fuzzy_learning_rates()
        factors.append(((shared.weight.grad / before).log() / rate(shared).log()).median().item())
    assert factors == [pytest.approx(2.0, abs=1e-4), pytest.approx(1.0, abs=1e-4)]


def test_the_parent_is_looked_up_at_every_call_in_the_release_once_here():
    found = []
    for library in BOTH.values():
        layers = [nn.Linear(2, 2)]
        bio = library.BioModule(lambda: layers[0])  # noqa: B023
        layers[0] = nn.Linear(2, 2)
        found.append(bio.get_parent() is layers[0])
    assert found == [True, False]


def test_a_frozen_layer_stops_the_release_and_is_passed_over_here():
    for library in BOTH.values():
        model = library.BioConverter()(two_layers())
        model[0].weight.requires_grad_(False)
        trained(model)
        if library is bio_transformations:
            with pytest.raises(RuntimeError):
                model.fuzzy_learning_rates()
        else:
            model.fuzzy_learning_rates()


def test_divisibility_is_that_of_the_inputs_in_the_release():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="must evenly divide"):
        bio_transformations.BioConverter(weight_splitting_Gamma=2)(copy.deepcopy(model))
    assert release.BioConverter(weight_splitting_Gamma=2)(model)(torch.ones(1, 3)).shape == (1, 1)


def test_converting_again_keeps_the_first_splitting_in_the_release():
    same = []
    for library in BOTH.values():
        model = library.BioConverter(**BASELINE)(two_layers())
        before = model(torch.ones(1, 6))
        model = library.BioConverter(weight_splitting_Gamma=2, **BASELINE)(model)
        same.append(torch.equal(model(torch.ones(1, 6)), before))
    assert same == [True, False]


def test_the_release_writes_to_the_log(caplog):
    lines = []
    for library in BOTH.values():
        with caplog.at_level(logging.INFO):
            by_hand(library, nn.Linear(2, 2)).rejuvenate_weights()
        lines.append(len(caplog.records))
        caplog.clear()
    assert lines == [1, 0]
