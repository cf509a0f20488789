"""Fresh weights of a few rows are those of the whole draw."""

import pytest
import torch
from tables import in_line
from torch import nn
from unit_cases import values

import funcbio
from funcbio import key, rng
from funcbio.mechanisms._unit_draws import drawn, drawn_rows


def test_numbers_at_places_are_those_of_the_whole():
    whole = rng.uniform(key(3), (50, 7), dtype=torch.float64, stream="a").flatten()
    places = torch.randperm(350)[:100].to(torch.int32)
    assert torch.equal(rng.uniform_at(key(3), places, stream="a"), whole[places.long()])


@pytest.mark.parametrize("chosen", [[], [3], [0, 8], [1, 4, 8]])
@pytest.mark.parametrize("shape", [(9, 5), (9, 2, 3, 3)])
def test_chosen_rows_are_those_of_the_whole_and_others_stay(chosen, shape):
    weight, start, sign = torch.randn(shape), torch.randn(shape), torch.randn(shape[1:]).sign().unsqueeze(0)
    mask = torch.zeros(9, dtype=torch.bool)
    mask[chosen] = True
    whole = drawn(weight, start, sign, key=key(1), stream="b")
    some = drawn_rows(weight, start, sign, key=key(1), stream="b", chosen=mask, most=4)
    assert torch.equal(some[mask], whole[mask])
    assert torch.equal(some[~mask], weight[~mask])


@pytest.mark.parametrize("outgoing", ["zero", "start"])
def test_a_rate_that_is_a_number_draws_what_one_that_is_a_tensor_draws(outgoing):
    """Only of a number it is known before how many units can be due."""
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 2))
    table, params = in_line(net), values(net)
    state = funcbio.init(params, key=key(0), synapses=funcbio.synapses(net), units=table, keep=["continual_backprop"])
    seen = {
        field: {n: torch.rand(v.shape) if "signal" in field else v for n, v in tree.items()}
        for field, tree in state.units.items()
    }
    state = state._replace(units=seen)
    for rate in (0.03, 0.1, 0.9):
        run = lambda rate: funcbio.continual_backprop(
            params, params, state, key=key(1), units=table, replacement_rate=rate, maturity=0, outgoing=outgoing
        )
        few, all_of_them = run(rate), run(torch.tensor(rate))
        assert few[2].replaced["0.weight"][:, 0].sum() == int(40 * rate + 1e-6)
        for name in params:
            assert torch.equal(few[0][name], all_of_them[0][name])
