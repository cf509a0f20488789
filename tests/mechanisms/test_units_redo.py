"""ReDo: which units are dormant, and what of them changes."""

import pytest
import torch
from torch import nn
from unit_cases import changed, convolutions, none_of, small, state_of, values

import funcbio
from funcbio import key
from funcbio.mechanisms._redo import is_dormant
from funcbio.mechanisms._unit_scores import incoming_magnitude, outgoing_magnitude, relative

NOTHING = float("nan")


def test_scores_by_hand():
    """(1 + 3 + 0 + 0.1) / 4 = 1.025 is the mean of the layer."""
    signal = torch.tensor([1.0, 3.0, 0.0, 0.1])
    torch.testing.assert_close(relative(signal), torch.tensor([0.975609756, 2.926829268, 0.0, 0.097560976]))
    assert is_dormant(signal, 0.025).tolist() == [False, False, True, False]
    assert is_dormant(signal, 0.1).tolist() == [False, False, True, True]


def test_a_layer_that_is_silent_as_a_whole_is_dormant():
    assert is_dormant(torch.zeros(3), 0.0).all()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_unit_that_is_broken_or_not_seen_decides_nothing_for_others(broken):
    assert is_dormant(torch.tensor([1.0, 0.0, broken, 1.0]), 0.025).tolist() == [False, True, broken < 0.0, False]


def test_exactly_the_entries_of_a_mask_by_hand_change():
    """Unit 1 of the first convolution, and unit 4 of the grouped one, which reaches the third."""
    net, table = convolutions()
    params = values(net)
    params["norm.weight"] += 0.5
    params["norm.bias"] += 0.5
    signals = {
        "first.weight": [1.0, 0.0, 1.0, 1.0],
        "second.weight": [1.0, 1.0, 1.0, 1.0, 0.0, 1.0],
        "third.weight": [0.0, 1.0, 1.0, 1.0],
    }
    state = state_of(net, table, "redo", signal=signals)
    new, _, after = funcbio.redo(params, params, state, key=key(1), units=table, every=1)
    expected = none_of(params)
    expected["first.weight"][1] = True
    for name in ("first.bias", "norm.weight", "norm.bias"):
        expected[name][1] = True
    expected["second.weight"][:3, 1] = True  # Channels 0 and 1 go to the first of two groups of rows.
    expected["second.weight"][4] = True
    expected["second.bias"][4] = True
    expected["third.weight"][:, 4] = True
    expected["third.weight"][0] = True
    expected["last.weight"][0] = expected["last.bias"][0] = True
    expected["head.weight"][:, :4] = True  # A channel is four columns of the flattened input.
    for name, mask in expected.items():
        torch.testing.assert_close(after.replaced[name], mask, rtol=0, atol=0)
        assert not (changed(params, new)[name] & ~mask).any()
    assert (new["norm.weight"][1], new["norm.bias"][1], new["first.bias"][1]) == (1.0, 0.0, 0.0)
    assert (new["head.weight"][:, :4] == 0.0).all()
    assert torch.isin(new["first.weight"][1], state.start["first.weight"]).all()


def test_the_function_stays_where_units_were_silent():
    net, table = small(6)
    with torch.no_grad():
        net[0].bias[:3] = -100.0
    x = torch.randn(16, 3)
    params, hidden = values(net), net[1](net[0](x)).detach()
    state = state_of(net, table, "redo", signal=hidden.abs().mean(0))
    new, _, after = funcbio.redo(params, params, state, key=key(1), units=table, every=1, threshold=0.0)
    assert after.replaced["0.weight"][:, 0].tolist() == [True] * 3 + [False] * 3
    assert not torch.equal(new["0.weight"], params["0.weight"])
    assert torch.equal(torch.func.functional_call(net, new, x), torch.func.functional_call(net, params, x))


def test_outgoing_weights_are_zero_or_kept_or_fresh():
    net, table = small()
    params = values(net)
    state = state_of(net, table, "redo", signal=[1.0, 0.0, 1.0, 1.0])
    run = lambda **options: funcbio.redo(params, params, state, key=key(1), units=table, every=1, **options)
    zero, keep, start = (run(outgoing=outgoing)[0]["2.weight"] for outgoing in ("zero", "keep", "start"))
    assert (zero[:, 1] == 0.0).all()
    assert torch.equal(keep, params["2.weight"])
    assert torch.isin(start[:, 1], params["2.weight"]).all()
    assert not run(outgoing="keep")[2].replaced["2.weight"].any()
    assert run(outgoing="start")[2].replaced["2.weight"][:, 1].all()
    with pytest.raises(ValueError, match="outgoing should be one of"):
        run(outgoing="none")


def test_nothing_happens_between_the_calls_that_are_due():
    net, table = small()
    params = values(net)
    state = state_of(net, table, "redo", signal=[1.0, 0.0, 1.0, 1.0])
    for due in (False, False, True, False, False, True):
        new, _, state = funcbio.redo(params, params, state, key=key(1), units=table, every=3)
        assert bool(state.replaced["0.weight"].any()) == due
        assert torch.equal(new["0.weight"], params["0.weight"]) != due


def test_units_that_may_not_be_replaced_are_left():
    net, table = small()
    params = values(net)
    state = state_of(net, table, "redo", signal={"0.weight": torch.zeros(4)})
    _, _, after = funcbio.redo(params, params, state, key=key(1), units=table, every=1)
    assert after.replaced["0.weight"].all()
    assert not after.replaced["2.bias"].any()  # The read-out reaches nothing, and nothing is kept for it.
    assert "2.weight" not in state.units["signal"]


def test_mean_magnitudes_by_hand():
    """In a grouped convolution a channel meets the rows of its group only."""
    net, table = convolutions()
    params = {name: torch.arange(float(value.numel())).reshape(value.shape) for name, value in values(net).items()}
    first, second, third = (table[name] for name in ("first.weight", "second.weight", "third.weight"))
    weight = params["second.weight"]
    by_hand = [weight[:3, 0], weight[:3, 1], weight[3:, 0], weight[3:, 1]]
    torch.testing.assert_close(outgoing_magnitude(params, first), torch.stack([part.mean() for part in by_hand]))
    torch.testing.assert_close(incoming_magnitude(params, second), weight.mean((1, 2, 3)))
    columns = params["head.weight"].unflatten(1, (4, 4)).mean((0, 2))
    torch.testing.assert_close(outgoing_magnitude(params, third), columns)


def test_long_rows_are_summed_whole():
    net = nn.Sequential(nn.Linear(9000, 2), nn.ReLU(), nn.Linear(2, 1))
    from tables import in_line

    params, table = values(net), in_line(net)
    torch.testing.assert_close(incoming_magnitude(params, table["0.weight"]), params["0.weight"].abs().mean(1))
