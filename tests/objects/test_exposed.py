"""Features and settings of one's own on converted models: docs/extending.md shows each."""

import pytest
import torch
from citizens import DUPLICATE, ForgetfulConfig, Mlp, bio_mods, equal, forget, forgetful, snapshot

import funcbio
from funcbio import BioConverter


def test_an_exposed_feature_is_a_method_of_the_model_and_of_its_layers():
    model = forgetful()
    model.forget()
    lost = [float((bio.weight == 0).float().mean()) for bio in bio_mods(model)]
    assert all(0.1 < share < 0.45 for share in lost)
    key = model.head.bio_mod.key.clone()
    model.head.bio_mod.forget()
    assert not torch.equal(model.head.bio_mod.key, key)
    assert (model.head.weight == 0).float().mean() > lost[-1]


@pytest.mark.parametrize("duplicate", DUPLICATE)
def test_a_model_with_features_of_its_own_can_be_copied(duplicate):
    model = forgetful()
    twin = DUPLICATE[duplicate](model)
    model.forget(), twin.forget()
    assert equal(snapshot(model), snapshot(twin))
    assert type(bio_mods(twin)[0].config) is ForgetfulConfig


def test_converters_with_different_features_make_different_classes():
    plain, exposing = BioConverter(), BioConverter(ForgetfulConfig()).expose(forget, needs_grad=False)
    assert hasattr(exposing(Mlp)(), "forget")
    assert not hasattr(plain(Mlp)(), "forget")


def test_an_exposed_feature_needs_a_name_of_its_own():
    def crystallize(params, grads, state, /, *, key=None):
        return params, grads, state

    with pytest.raises(ValueError, match="should have names of their own; found 'crystallize'"):
        BioConverter().expose(crystallize)


def test_a_field_of_ones_own_is_known_to_the_configuration_and_to_no_other():
    assert BioConverter(ForgetfulConfig(), forgotten=0.5).get_config().forgotten == 0.5
    with pytest.raises(funcbio.ConfigError, match="field of ForgetfulConfig, perhaps forgotten"):
        ForgetfulConfig(forgoten=0.5)
    with pytest.raises(funcbio.ConfigError, match="dampening_factor should be"):
        ForgetfulConfig(dampening_factor=3.0)
    with pytest.raises(funcbio.ConfigError, match="forgotten should be a field of BioConfig"):
        BioConverter(forgotten=0.5)
