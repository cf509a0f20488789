"""Continual backpropagation: averages, utilities, ages, how many units are due, and the bias of the next layer."""

import pytest
import torch
from tables import in_line
from torch import nn
from unit_cases import small, state_of, values

import funcbio
from funcbio import BioConfig, Units, key
from funcbio.mechanisms._continual_backprop import center, fields_needed, share_due
from funcbio.mechanisms._unit_utility import UTILITIES

SIGNAL, DISTANCE = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.5, 0.25, 2.0])
OUTGOING, INCOMING = torch.tensor([0.1, 0.2, 0.4]), torch.tensor([1.0, 0.5, 2.0])
GOLDEN = {
    "contribution": (SIGNAL, [0.1, 0.4, 0.2]),
    "zero_contribution": (DISTANCE, [0.05, 0.05, 0.8]),
    "adaptable_contribution": (DISTANCE, [0.05, 0.1, 0.4]),
    "feature_by_input": (DISTANCE, [0.5, 0.5, 1.0]),
    "weight": (None, [0.1, 0.2, 0.4]),
    "adaptation": (None, [1.0, 2.0, 0.5]),
    "random": (None, [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("utility", UTILITIES)
def test_utilities_by_hand(utility):
    signal, expected = GOLDEN[utility]
    torch.testing.assert_close(UTILITIES[utility].of(signal, OUTGOING, INCOMING), torch.tensor(expected))


def test_the_running_mean_by_hand():
    """0.9 * 0.5 + 0.1 * 2 = 0.65, of weight 1 - 0.9^3 = 0.271; a first batch is its own mean."""
    found = center(torch.tensor([2.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([2, 0]), 0.9)
    torch.testing.assert_close(found, torch.tensor([0.65 / 0.271, 2.0]))
    torch.testing.assert_close(center(torch.tensor(3.0), torch.tensor(7.0), torch.tensor(5), 0.0), torch.tensor(3.0))


def test_the_running_mean_of_equal_batches_is_theirs():
    running, mean = torch.zeros(1), torch.tensor([0.7])
    for age in range(50):
        torch.testing.assert_close(center(mean, running, torch.tensor([age]), 0.99), mean)
        running = 0.99 * running + 0.01 * mean


def test_parts_of_a_unit_add_up():
    """0.3 of four units are 1.2: one is due, and 0.2 are left; with those the next call has 1.4."""
    eligible, due = torch.ones(4, dtype=torch.bool), torch.zeros(1)
    counts = []
    for _ in range(5):
        count, due = share_due(eligible, due, torch.tensor(0.3))
        counts.append(count.item())
    assert counts == [1, 1, 1, 1, 2]
    assert due.item() == pytest.approx(0.0, abs=1e-5)


def run(net, table, state, params=None, **options):
    params = values(net) if params is None else params
    return funcbio.continual_backprop(params, params, state, key=key(1), units=table, **options)


def test_one_call_by_hand():
    """Utilities of weights 0.1 |h|: 0.1, 0.4, 0.02, 0.2; the third and, from two mature units, one in all is due."""
    net, table = small()
    params = {**values(net), "2.weight": torch.full((2, 4), 0.1)}
    told = {"signal": [1.0, 4.0, 0.2, 2.0], "signal_mean": [1.0, 4.0, 0.2, 2.0], "unit_age": [9, 9, 9, 1]}
    told |= {"unit_utility": [0.5, 0.1, 0.2, 0.0], "unit_mean": [1.0, 1.0, 1.0, 1.0]}
    state = state_of(net, table, "continual_backprop", **told)
    new, _, after = run(net, table, state, params, decay=0.5, maturity=5, replacement_rate=0.4)
    kept = {field: tree["0.weight"] for field, tree in after.units.items()}
    assert after.replaced["0.weight"][:, 0].tolist() == [False, False, True, False]
    assert kept["unit_age"].tolist() == [10, 10, 0, 2]
    torch.testing.assert_close(kept["unit_utility"], torch.tensor([0.3, 0.25, 0.0, 0.1]))
    torch.testing.assert_close(kept["unit_mean"], torch.tensor([1.0, 2.5, 0.0, 1.5]))
    torch.testing.assert_close(kept["unit_due"], torch.tensor([0.2]))
    mean = (0.5 * 1.0 + 0.5 * 0.2) / (1.0 - 0.5**10)
    torch.testing.assert_close(new["2.bias"], params["2.bias"] + 0.1 * mean)
    assert (new["2.weight"][:, 2] == 0.0).all()


def test_new_units_are_safe_until_they_are_mature():
    net, table = small(8)
    signal = torch.rand(8) + 0.1
    state, params = state_of(net, table, "continual_backprop", signal=signal, signal_mean=signal), values(net)
    born = torch.zeros(8, dtype=torch.int64)
    for step in range(1, 60):
        params, _, state = run(net, table, state, params, maturity=6, replacement_rate=0.1)
        replaced = state.replaced["0.weight"][:, 0]
        assert ((step - born)[replaced] > 6).all()
        born = torch.where(replaced, step, born)
        assert torch.equal(state.units["unit_age"]["0.weight"], (step - born).int())
    assert born.gt(0).sum() >= 4


def test_over_many_calls_as_many_are_replaced_as_the_rate_says():
    net, table = small(20)
    for accumulate in (True, False):
        state = state_of(net, table, "continual_backprop", signal=torch.rand(20), signal_mean=torch.rand(20))
        number = 0
        for step in range(400):
            options = {"maturity": 0, "replacement_rate": 0.02, "accumulate": accumulate}
            _, _, state = funcbio.continual_backprop(
                values(net), values(net), state, key=key(step), units=table, **options
            )
            number += state.replaced["0.weight"][:, 0].sum().item()
        # Units that were just replaced are of age 1 at the next call, so that all 20 always count: 0.4 in a call.
        assert abs(number - 160) <= (1 if accumulate else 4 * (400 * 0.4 * 0.6) ** 0.5)


def test_ties_go_by_position():
    net, table = small(5)
    params = {**values(net), "2.weight": torch.ones(2, 5)}
    state = state_of(net, table, "continual_backprop", signal=torch.ones(5), signal_mean=torch.ones(5))
    _, _, after = run(net, table, state, params, maturity=0, replacement_rate=0.4)
    assert after.replaced["0.weight"][:, 0].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("correct", [True, False])
def test_the_mean_output_stays_for_units_that_are_constant(correct):
    """Without the correction the output moves by what the unit brought."""
    net, table = small()
    with torch.no_grad():
        net[0].weight[1] = 0.0
        net[0].bias[1] = 3.0
        net[2].weight[:, 1] = 0.01
    x = torch.randn(64, 3)
    hidden, params = net[1](net[0](x)).detach(), values(net)
    told = {"signal": hidden.abs().mean(0), "signal_mean": hidden.mean(0), "unit_age": [0, 200, 0, 0]}
    told["unit_mean"] = [0.0, 3.0 * (1.0 - 0.99**200), 0.0, 0.0]
    state = state_of(net, table, "continual_backprop", **told)
    new, _, after = run(net, table, state, params, correct_bias=correct, maturity=100, replacement_rate=1.0)
    assert after.replaced["0.weight"][:, 0].tolist() == [False, True, False, False]
    moved = torch.func.functional_call(net, new, x) - torch.func.functional_call(net, params, x)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.0 if correct else -0.03), rtol=1e-5, atol=1e-6)


def test_a_mean_that_is_corrected_is_that_of_the_batches_since_birth():
    """The unit saw 1 and 2, with weights 0.9 * 0.1 and 0.1 of 0.19 in all."""
    net, table = small()
    params = {**values(net), "2.weight": torch.ones(2, 4)}
    state = state_of(net, table, "continual_backprop", signal=torch.ones(4), signal_mean=torch.ones(4))
    _, _, state = run(net, table, state, params, decay=0.9, replacement_rate=0.0)
    state.units["signal_mean"]["0.weight"] = torch.full((4,), 2.0)
    new, _, _ = run(net, table, state, params, decay=0.9, replacement_rate=0.25, maturity=0)
    torch.testing.assert_close(new["2.bias"] - params["2.bias"], torch.full((2,), (0.09 + 0.2) / 0.19))


def test_utilities_are_those_of_before_any_replacement():
    """What the first layer loses is no reason to replace other units of the second."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    table, params = in_line(net), values(net)
    params["2.weight"] = torch.full((4, 4), 1.0)
    params["2.weight"][0] = torch.tensor([3.0, 1.0, 1.0, 1.0])  # Mean 1.5, and 0.75 once its first column is 0.
    params["0.weight"][0] = 100.0
    options = {"utility": "adaptation", "correct_bias": False, "maturity": 0, "replacement_rate": 0.25}
    config = BioConfig(**{f"continual_backprop_{name}": value for name, value in options.items()})
    state = state_of(net, table, "continual_backprop", config)
    assert set(state.units) == {"unit_age", "unit_utility", "unit_due", "unit_new"}
    _, _, after = funcbio.continual_backprop(params, params, state, key=key(0), units=table, **options)
    assert after.replaced["0.weight"][:, 1].tolist() == [True, False, False, False]
    assert after.replaced["2.weight"][:, 1].tolist() == [True, False, False, False]


def test_the_order_of_populations_does_not_matter():
    """A table need not list layers in the order in which they run: a new unit's bias is 0 in any case."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    table, params = in_line(net), values(net)
    signals = {name: torch.rand(one.size) for name, one in table.items() if one.edges}
    state = state_of(net, table, "continual_backprop", signal=signals, signal_mean=signals)
    options = {"key": key(0), "maturity": 0, "replacement_rate": 0.5}
    turned = Units(tuple(reversed(table.populations)))
    there, _, after = funcbio.continual_backprop(params, params, state, units=table, **options)
    back, _, _ = funcbio.continual_backprop(params, params, state, units=turned, **options)
    new = after.replaced["2.weight"].all(1)
    assert new.sum() == 2
    assert (there["2.bias"][new] == 0.0).all()
    assert all(torch.equal(there[name], back[name]) for name in params)


def test_what_is_kept_depends_on_what_is_used():
    base = {"unit_age", "unit_utility"}
    needs = {
        "contribution": {"signal"},
        "weight": set(),
        "adaptation": set(),
        "random": set(),
    }
    for utility in UTILITIES:
        more = needs.get(utility, {"signal_deviation", "signal_mean", "unit_mean"})
        off = {"continual_backprop_accumulate": False, "continual_backprop_correct_bias": False}
        assert {*fields_needed(BioConfig(continual_backprop_utility=utility, **off))} == base | more
        found = {*fields_needed(BioConfig(continual_backprop_utility=utility))}
        assert found == base | more | {"unit_due", "signal_mean", "unit_mean"}


def test_a_weight_that_is_not_a_number_takes_no_unit():
    net, table = small()
    params = values(net)
    params["2.weight"][:, 2] = float("nan")
    state = state_of(net, table, "continual_backprop", signal=torch.ones(4), signal_mean=torch.ones(4))
    _, _, after = run(net, table, state, params, maturity=0, replacement_rate=1.0)
    assert after.replaced["0.weight"][:, 0].tolist() == [True, True, False, True]
    assert after.units["unit_utility"]["0.weight"].isfinite().all()


@pytest.mark.parametrize("wrong", [{"utility": "use"}, {"accumulate": 1}, {"correct_bias": None}, {"decay": 1.0}])
def test_wrong_options_are_refused(wrong):
    net, table = small()
    state = state_of(net, table, "continual_backprop")
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        run(net, table, state, **wrong)
