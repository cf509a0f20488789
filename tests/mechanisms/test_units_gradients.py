"""ReGraMa and calibrated partial resets: scores of gradients, and what becomes of units that learn little."""

import pytest
import torch
from unit_cases import changed, none_of, small, state_of, values

import funcbio
from funcbio import key
from funcbio.mechanisms._calibrated_partial_resets import share_reset
from funcbio.mechanisms._unit_scores import gradient_score

GRADS = torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [3.0, 0.0, -3.0], [0.5, 0.5, -2.0]])


def with_grads(net, scale=1.0):
    return {name: torch.ones_like(p) for name, p in values(net).items()} | {"0.weight": GRADS * scale}


@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e15])
def test_scores_by_hand(scale):
    """The means are 1, 0, 2 and 1, of mean 1; a scale of the loss changes none of it."""
    net, table = small()
    score = gradient_score(with_grads(net, scale), table["0.weight"])
    torch.testing.assert_close(score, torch.tensor([1.0, 0.0, 2.0, 1.0]))


def test_exactly_the_entries_of_a_mask_by_hand_change():
    net, table = small()
    params, state = values(net), state_of(net, table, "regrama")
    new, _, after = funcbio.regrama(params, with_grads(net), state, key=key(1), units=table, every=1)
    expected = none_of(params)
    expected["0.weight"][1] = expected["0.bias"][1] = expected["2.weight"][:, 1] = True
    for name, mask in expected.items():
        assert torch.equal(after.replaced[name], mask)
        assert not (changed(params, new)[name] & ~mask).any()
    assert new["0.bias"][1] == 0.0
    assert set(state.units) == {"unit_new"}
    assert after.units["unit_new"]["0.weight"].tolist() == [unit == 1 for unit in range(4)]


def test_a_dead_unit_has_no_gradient_and_is_found_without_signals():
    net, table = small(6)
    with torch.no_grad():
        net[0].bias[:2] = -100.0
    net(torch.randn(32, 3)).square().mean().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    state = state_of(net, table, "regrama")
    _, _, after = funcbio.regrama(values(net), grads, state, key=key(1), units=table, every=1, threshold=0.0)
    assert after.replaced["0.weight"][:, 0].tolist() == [True, True, False, False, False, False]


def test_regrama_acts_when_it_is_due():
    net, table = small()
    params, state = values(net), state_of(net, table, "regrama")
    for due in (False, True, False, True):
        _, _, state = funcbio.regrama(params, with_grads(net), state, key=key(1), units=table, every=2)
        assert bool(state.replaced["0.weight"].any()) == due


def test_a_gradient_that_overflowed_resets_nobody_for_it():
    net, table = small()
    grads = with_grads(net)
    grads["0.weight"] = grads["0.weight"].clone()
    grads["0.weight"][2] = float("inf")
    _, _, after = funcbio.regrama(values(net), grads, state_of(net, table, "regrama"), key=key(1), units=table, every=1)
    assert after.replaced["0.weight"][:, 0].tolist() == [False, True, False, False]


def test_shares_by_hand():
    """2 / (1 + e^(k (u - 1))): more than 1 below the threshold, where it is cut."""
    share = share_reset(torch.tensor([0.0, 1.0, 1.5, 3.0]), *(torch.tensor(value) for value in (0.5, 2.0, 1.0)))
    torch.testing.assert_close(share, torch.tensor([0.5, 0.5, 0.268941421, 0.0179862100]))


def test_partial_resets_by_hand():
    """Averages 1 - 0.5 (1 - s): 1, 0.5, 1.5, 1; shares 0.4, 0.4, 0.8 / (1 + e^8), 0.4."""
    net, table = small()
    params = {**values(net), "0.weight": torch.ones(4, 3), "2.weight": torch.ones(2, 4)}
    state = state_of(net, table, "calibrated_partial_resets")
    state = state._replace(start={**state.start, "0.weight": torch.full((4, 3), 3.0)})
    options = {"replacement_rate": 0.4, "sharpness": 16.0, "decay": 0.5, "every": 2, "units": table}
    still, _, state = funcbio.calibrated_partial_resets(params, with_grads(net), state, key=key(1), **options)
    assert all(torch.equal(still[name], params[name]) for name in params)
    torch.testing.assert_close(state.units["unit_gradient"]["0.weight"], torch.tensor([1.0, 0.5, 1.5, 1.0]))
    same = {name: torch.ones_like(p) for name, p in params.items()}  # All units score 1.
    new, _, after = funcbio.calibrated_partial_resets(params, same, state, key=key(1), **options)
    share = torch.tensor([0.4, 0.4, 0.8 / (1.0 + 2.718281828**4), 0.4])  # Averages 1, 0.75, 1.25, 1.
    torch.testing.assert_close(new["0.weight"], (1.0 + 2.0 * share).unsqueeze(1).expand(4, 3))
    torch.testing.assert_close(new["2.weight"], (1.0 - share).expand(2, 4))
    for name in ("0.bias", "2.bias"):
        assert torch.equal(new[name], params[name])
    assert (after.units["unit_gradient"]["0.weight"] == 1.0).all()
    assert not any(mask.any() for mask in after.replaced.values())


def test_a_share_of_one_is_a_whole_reset_but_for_biases():
    net, table = small()
    params, state = values(net), state_of(net, table, "calibrated_partial_resets")
    options = {"replacement_rate": 1.0, "decay": 0.0, "every": 1, "units": table, "threshold": 0.0}
    new, _, _ = funcbio.calibrated_partial_resets(params, with_grads(net), state, key=key(1), **options)
    assert torch.isin(new["0.weight"][1], state.start["0.weight"]).all()
    assert (new["2.weight"][:, 1] == 0.0).all()
    torch.testing.assert_close(new["0.weight"][2], params["0.weight"][2])
