"""Published code of mechanisms on units beside ours: what is equal, and what it was seen to do."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beside import observed, values
from references import function, load
from tables import in_line
from torch import nn

import funcbio
from funcbio import BioConfig, synapses
from funcbio.mechanisms._redo import is_dormant
from funcbio.mechanisms._self_normalized_resets import learned_patience
from funcbio.mechanisms._unit_fields import STRETCHES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
KEY = funcbio.key(1)
UTILITIES = ("contribution", "zero_contribution", "adaptable_contribution", "feature_by_input", "weight", "adaptation")


def generate_and_test(net, **options):
    """The published class on a network, whose draws are its own."""
    module = load("loss-of-plasticity", "lop/algos/gnt.py")
    return module.GnT(net, "relu", torch.optim.SGD(net.parameters(), lr=0.1), accumulate=True, **options)


@pytest.mark.parametrize("utility", UTILITIES)
def test_generate_and_test_replaces_the_same_units(utility):
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    table, options = in_line(net), {"replacement_rate": 1 / 16, "decay": 0.9, "utility": utility, "maturity": 12}
    theirs = generate_and_test(net, replacement_rate=1 / 16, decay_rate=0.9, util_type=utility, maturity_threshold=12)
    config = BioConfig(continual_backprop_utility="zero_contribution")  # Keeps what all of them need but for one.
    keep = ["continual_backprop", "signal"]
    state = funcbio.init(values(net), key=KEY, config=config, synapses=synapses(net), units=table, keep=keep)
    number = 0
    for _ in range(200):
        with torch.no_grad():
            for param in net.parameters():  # New units would all be of no use at all, and ties go by position here.
                param += 0.01 * torch.randn_like(param)
            hidden, params = torch.relu(net[0](torch.randn(16, 5))), values(net)
        theirs.gen_and_test([hidden])
        state = observed(state, hidden, 0.9)
        _, _, state = funcbio.continual_backprop(params, params, state, key=KEY, units=table, **options)
        kept = {field: tree["0.weight"] for field, tree in state.units.items()}
        assert torch.equal(kept["unit_age"], theirs.ages[0].int())
        torch.testing.assert_close(kept["unit_utility"], theirs.util[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(kept["unit_mean"], theirs.mean_feature_act[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(state.replaced["0.weight"].any(1), (net[0].weight != params["0.weight"]).any(1))
        number += state.replaced["0.weight"][:, 0].sum().item()
    assert number > 40


def test_generate_and_test_adds_nothing_to_the_next_bias():
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    theirs = generate_and_test(net, replacement_rate=0.25, maturity_threshold=0)
    before = values(net)
    theirs.gen_and_test([torch.rand(16, 8)])
    assert (net[2].weight != before["2.weight"]).any()
    assert torch.equal(net[2].bias, before["2.bias"])


def test_dopamine_repeats_the_mask_of_channels_where_it_should_be_tiled():
    masks = function("dopamine", "dopamine/labs/redo/weight_recyclers.py", "create_mask_helper", jnp=np)
    dead, kernel, following = np.array([False, True, False, False]), np.zeros((3, 3, 1, 4)), np.zeros((36, 2))
    incoming, outgoing = masks(None, dead, kernel, following)
    assert incoming[..., 1].all()
    assert outgoing[:, 0].nonzero()[0].tolist() == [*range(9, 18)]  # Not 1, 5, 9, ...


@pytest.mark.parametrize("threshold", [0.0, 0.025, 0.5])
def test_the_dormant_units_are_those_of_timoklein(threshold):
    masks = function("redo", "src/redo.py", "_get_redo_masks", torch=torch)
    linear, image = torch.relu(torch.randn(6, 40) - 2.0), torch.relu(torch.randn(4, 30, 3, 3) - 3.0)
    theirs = masks({"a": linear, "b": image, "read-out": linear}, threshold)
    ours = [is_dormant(signal, threshold) for signal in (linear.abs().mean(0), image.abs().mean((0, 2, 3)))]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
        assert a.any()
        assert not a.all()


def test_new_weights_of_timoklein_are_larger_than_those_of_the_layer():
    fresh = function("redo", "src/redo.py", "_kaiming_uniform_reinit", torch=torch, nn=nn, math=np)
    layer = nn.Linear(100, 50)
    fresh(layer, torch.ones(50, dtype=torch.bool))
    assert 0.24 < layer.weight.abs().max() <= 0.245  # sqrt(6 / 100); torch's own has 0.1.


def test_redo_of_fire_zeroes_no_outgoing_weight_and_leaves_the_last_hidden_layer():
    file, names = "vision/interventions/node_reset/redo.py", {"torch": torch, "nn": nn, "deepcopy": deepcopy}
    masks_of, reset = (function("FIRE", file, name, **names) for name in ("get_redo_masks", "reset_dormant_neurons"))
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(8, 2))
    hidden = torch.ones(3, 8)
    hidden[:, :4] = 0.0
    before = values(net)
    reset(net, masks_of({"0": hidden, "2": hidden, "4": hidden, "6": torch.ones(3, 2)}, 0.0))
    assert (net[0].weight[:4] != before["0.weight"][:4]).all()
    assert torch.equal(net[2].weight[4:], before["2.weight"][4:])  # Outgoing weights of the first layer's dead units.
    assert torch.equal(net[4].weight, before["4.weight"])
    assert torch.equal(net[6].weight, before["6.weight"])


def test_self_normalized_resets_learn_the_least_patience_from_nothing():
    nothing = SimpleNamespace(params=0, reg_str=0, reg_params=0, algorithm=0, threshold_reset_freq=16)
    state = SimpleNamespace(
        **vars(nothing), threshold={"a": np.array([5000, 5000])}, threshold_percentile=0.5, threshold_expansion_factor=2
    )
    update = function(
        "SelfNormalizedResets",
        "src/algorithms/snr.py",
        "update_tau_",
        jax=SimpleNamespace(jit=lambda run: run),
        jnp=np,
        LearnerState=SimpleNamespace(replace=lambda state, threshold: threshold),
    )
    histogram = np.zeros((2, 10_001), dtype=int)
    histogram[1, [200, 300, 400]] = 1  # In examples, of which a batch has 100.
    theirs, _ = update(state, {"a": histogram})
    assert theirs["a"].tolist() == [100, 300]
    counts = torch.zeros(2, len(STRETCHES), dtype=torch.int32)
    counts[1, 1:4] = 1  # Stretches of 2, 3 and 4 calls.
    assert learned_patience(counts, torch.tensor([50.0, 50.0]), 0.5).tolist() == [50.0, 3.0]
