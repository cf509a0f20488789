"""How many connections are pruned: as the schedule says, although it is computed in single precision."""

from fractions import Fraction

import pytest
import torch

import funcbio

# Where 0.5 (1 + cos(pi c / 6)) is a fraction.
SHARES = {0: Fraction(1), 2: Fraction(3, 4), 3: Fraction(1, 2), 4: Fraction(1, 4)}


@pytest.mark.parametrize("calls", SHARES)
@pytest.mark.parametrize("drop", ["0.1", "0.2", "0.29", "0.3", "0.5", "0.7"])
def test_a_whole_number_of_connections_loses_none_to_rounding(calls, drop):
    whole = (Fraction(drop) * SHARES[calls]).denominator  # So many connections lose a whole number.
    for active in range(whole, 3 * whole + 1, whole):
        params = grads = {"w": torch.linspace(1.0, 2.0, 2 * active).reshape(2, -1)}
        mask = {"w": torch.arange(2 * active).reshape(2, -1) < active}
        state = funcbio.init(params, key=funcbio.key(0), keep=["prune_and_regrow"])
        state = state._replace(mask=mask, calls={"prune_and_regrow": torch.tensor(calls)})
        options = {"drop": float(drop), "grow": "gradient", "until": 6}
        _, _, after = funcbio.prune_and_regrow(params, grads, state, **options)
        assert int((mask["w"] & ~after.mask["w"]).sum()) == active * Fraction(drop) * SHARES[calls]
