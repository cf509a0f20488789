"""Frozen inputs and outputs of every rule, computed by hand from the published formulas, not by this library."""

import pytest
import torch

import funcbio
from funcbio import mechanisms as m
from funcbio import split_output
from funcbio.mechanisms import _dash, _fire, _hare, _spectral, _upgd
from funcbio.mechanisms import _rates as rates
from funcbio.mechanisms._l2_init import KERNELS as PULLS
from funcbio.mechanisms._shrink import NOISES

W = torch.tensor([0.5, -1.0, 2.0, 0.0])
G = torch.tensor([1e-6, 0.3, -2.5, 0.4])
R = torch.tensor([1.0, 0.8, 1.2, 0.9])
NOISE = torch.tensor([0.1, -1.5, 2.0, 0.7])
UNIT = torch.tensor([0.25, 0.9, 0.05, 0.6])
COIN = torch.tensor([1.0, -1.0, 1.0, -1.0])
SIGN = torch.tensor([1.0, 1.0, -1.0, -1.0])
COUNT = torch.tensor([30, 10, 0, 40])
START = torch.tensor([0.25, -1.5, 1.0, 0.75])
DUE, SHAKING, EARLY = torch.tensor(10), torch.tensor(100), torch.tensor(9)
CLAMP = {"minimum": 0.5, "maximum": 2.0}
MEAN, ACTIVE = W.abs().mean(), COUNT.float().mean()
PULL = {"strength": 0.1, "delta": torch.tensor(0.4)}
SHRINK = {"shrink": 0.4, "perturb": 0.1}
TEMPORAL = {"nu": 0.16, "decay": 0.9, "every": 10, **CLAMP}

GOLDEN = {
    "fuzzy": (m.scale_by_rate(G, R), [1e-6, 0.24, -3.0, 0.36]),
    "volume": (
        m.scale_by_volume(G, W, NOISE, base_lr=0.1, stability=2.0, variability=0.2),
        [5.23685461e-08, 0.00772546826, -0.0922589983, 0.0456],
    ),
    "crystallize": (m.crystallize_rate(R, W, G, threshold=4.5e-5, dampening=0.6), [0.6, 0.8, 0.72, 0.9]),
    "crystallize with a floor": (
        m.crystallize_rate(R, W, G, threshold=4.5e-5, dampening=0.6, floor=0.7),
        [0.7, 0.8, 0.72, 0.9],
    ),
    "rejuvenate lognormal": (
        m.regrow_lognormal(W, COIN, UNIT, NOISE, strength=0.5)[0],
        [0.679593296, -0.183601429, 2.0, -1.11016868],
    ),
    "rejuvenate uniform": (m.regrow_uniform(W, COIN, UNIT, NOISE, strength=4.0)[0], [0.5, -1.0, 2.0, -0.4]),
    "rejuvenate 0.0.5": (
        m.regrow_release(W, UNIT, NOISE, strength=0.5)[0],
        [0.0199750865, -1.0, 0.129277679, 0.0360250793],
    ),
    "dale at conversion": (m.give_sign(W, SIGN), [0.5, 1.0, -2.0, 0.0]),
    "dale enforced": (m.keep_sign(W, SIGN), [0.5, 0.0, 0.0, 0.0]),
    "scaling": (
        m.scale_by_activity(G, COUNT, target=1.0, gamma=1.0, minimum=0.5, maximum=2.0),
        [6.66666667e-07, 0.6, -5.0, 0.2],
    ),
    "scaling, softer": (
        m.scale_by_activity(G, COUNT, target=1.5, gamma=0.5, minimum=0.5, maximum=2.0),
        [1e-6, 0.519615242, -5.0, 0.346410162],
    ),
    "temporal, due": (m.drift_rate(R, UNIT, statistics=(DUE,), **TEMPORAL), [1.0, 0.82, 1.18, 0.91]),
    "temporal, shaken": (m.drift_rate(R, UNIT, statistics=(SHAKING,), **TEMPORAL), [0.992, 0.8328, 1.1656, 0.9132]),
    "temporal, not yet": (m.drift_rate(R, UNIT, statistics=(EARLY,), **TEMPORAL), [1.0, 0.8, 1.2, 0.9]),
    "weight_adaptive": (
        m.redraw_rate_by_weight(R, W, UNIT, nu=0.16, **CLAMP, statistics=(MEAN, torch.tensor(True))),
        [0.885714286, 1.10971429, 0.928, 1.048],
    ),
    "weight_adaptive, none drawn": (
        m.redraw_rate_by_weight(R, W, UNIT, nu=0.16, **CLAMP, statistics=(MEAN, torch.tensor(False))),
        [1.0, 0.8, 1.2, 0.9],
    ),
    "activity, first": (
        m.redraw_rate_by_activity(R, COUNT, UNIT, UNIT, nu=0.16, **CLAMP, statistics=(ACTIVE, torch.tensor(1))),
        [0.924, 1.1344, 0.8416, 1.0288],
    ),
    "activity, later": (
        m.redraw_rate_by_activity(R, COUNT, UNIT, UNIT, nu=0.16, **CLAMP, statistics=(ACTIVE, torch.tensor(2))),
        [1.0, 0.8, 0.8416, 0.9],
    ),
    "layer_adaptive": (torch.tensor(rates.layer_nu(0.16, 2 / 4)), 0.12),
    "split": (split_output(torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0, 6.0]), 2), [3.0, 3.0, 1.0, 1.0, 11.0, 11.0]),
    "split with relu": (
        split_output(torch.tensor([1.0, 2.0, -3.0, 4.0]), 2, activation=torch.relu),
        [3.0, 3.0, 4.0, 4.0],
    ),
    "l2 init": (PULLS["l2", False].rule(W, G, START, **PULL), [0.025001, 0.35, -2.4, 0.325]),
    "l2 init, l1": (PULLS["l1", False].rule(W, G, START, **PULL), [0.100001, 0.4, -2.4, 0.3]),
    "l2 init, huber": (PULLS["huber", False].rule(W, G, START, **PULL), [0.025001, 0.34, -2.46, 0.36]),
    "l2 init, decoupled": (PULLS["l2", True].rule(W, G, START, **PULL), [-0.024999, 0.25, -2.6, 0.475]),
    # The draws choose elements 1, 3, 0 and 2 of the start.
    "shrink and perturb, init": (NOISES["init"].rule(W, START, None, UNIT, **SHRINK), [0.05, -0.325, 0.825, 0.1]),
    "shrink and perturb, start": (NOISES["start"].rule(W, START, **SHRINK), [0.225, -0.55, 0.9, 0.075]),
    "shrink and perturb, normal": (NOISES["normal"].rule(W, NOISE, **SHRINK), [0.21, -0.55, 1.0, 0.07]),
    "shrink and perturb, scaled": (  # The variance of the weights is 4.6875 / 4.
        NOISES["scaled"].rule(W, NOISE, **SHRINK),
        [0.210825318, -0.562379763, 1.01650635, 0.0757772228],
    ),
    "clip weights": (m.CLIP.rule(W, torch.tensor(0.4), kappa=2.0), [0.5, -0.8, 0.8, 0.0]),
    # The norm of the weights is the square root of 5.25.
    "project norms": (m.PROJECT.rule(W, torch.tensor(3.0)), [0.654653671, -1.30930734, 2.61861468, 0.0]),
    "exponentiated gradient": (
        m.EXPONENTIATED.rule(W, G, statistics=(torch.tensor(1e-7),)),
        [5.0000025e-7, 0.259181779, -1.83583000, 0.0],
    ),
}

U = torch.tensor([0.2, 0.1, -0.1, 0.4])
UTILITY = torch.tensor([0.01, -0.001, -0.02, 0.0])
SHAKEN = {"sigma": 0.1, "decay": 0.1, "statistics": (torch.tensor(0.01),)}  # So W U / max is 1, -0.1, -2, 0.
DIAGONAL, TAPS = torch.diag(torch.tensor([4.0, 3.0])), torch.tensor([[[3.0, 0.0], [4.0, 5.0]]])
YES, NO = torch.tensor(1.0), torch.tensor(0.0)
GROUPS, SLOPES = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[-3.0, 0.0], [2.0, 0.0]])
TWO_KERNELS = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])


def _protected(*, protect=True, local=False, utility=UTILITY, **hyper):
    return _upgd.KERNELS[protect, "local" if local else "global"].rule(W, U, utility, NOISE, **{**SHAKEN, **hyper})


GOLDEN |= {
    # u = (0.6, 0.8): v = (1, 1) / sqrt 2, sigma = 5 / sqrt 2, u = (0.8, 0.6); 2 2 (12.5 - 1) 5 / sqrt 2 / sqrt 2 = 115.
    "spectral": (
        _spectral.spectral_pull(
            DIAGONAL, torch.ones(2, 2), torch.tensor([[0.6], [0.8]]), strength=torch.tensor(0.1), power=2
        )[0].flatten(),
        [10.2, 10.2, 7.9, 7.9],
    ),
    # The same with power 1: 2 (sigma - 1) / sqrt 2 = 5 - sqrt 2.
    "spectral, power 1": (
        _spectral.spectral_pull(
            DIAGONAL, torch.zeros(2, 2), torch.tensor([[0.6], [0.8]]), strength=torch.tensor(1.0), power=1
        )[0].flatten(),
        [2.86862915, 2.86862915, 2.15147186, 2.15147186],
    ),
    # W W^T - I = (4 2, 2 0), times W = (4 10, 2 4), times 0.4.
    "parseval": (
        _spectral.parseval_pull(
            torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.ones(2, 2), strength=torch.tensor(0.1), scale=1.0
        ).flatten(),
        [2.6, 5.0, 1.8, 2.6],
    ),
    # (0.8, 0.6) after division by 5; 1.5 0.8 - 0.5 0.512 and 1.5 0.6 - 0.5 0.216.
    "fire": (_fire.orthogonalise(DIAGONAL, iterations=1).flatten(), [0.944, 0.0, 0.0, 0.792]),
    # Two taps of one row: (3, 4) / 5 and (0, 5) / 5, times sqrt(1 / 2) / 2.
    "fire, by tap": (
        _fire.orthogonalise(TAPS, iterations=10).flatten(),
        [0.212132034, 0.0, 0.282842712, 0.353553391],
    ),
    "upgd, utility": (
        _upgd.track_utility(W, U, torch.tensor([0.0, 0.02, 0.0, 0.01]), beta=torch.tensor(0.9)),
        [0.01, 0.008, -0.02, 0.009],
    ),
    # 1 - q is the logistic function of -1, 0.1, 2, 0; (u + 0.1 noise) = 0.21, -0.05, 0.1, 0.47.
    "upgd": (_protected(), [0.00647769849, 0.0737510406, -0.111920292, 0.235]),
    "upgd, without protection": (
        _protected(protect=False, decay=0.0),
        [0.202689414, 0.0212531219, 0.0761594156, 0.435],
    ),
    # Along the last axis (3, -4, 0, 0) / 5.
    "upgd, local": (
        _protected(local=True, decay=0.0, sigma=0.0, utility=torch.tensor([3.0, -4.0, 0.0, 0.0])),
        [0.0708687387, 0.0689974481, -0.05, 0.2],
    ),
    # All negative: the least negative has share -1, others less, so they are freer.
    "upgd, none of use": (
        _protected(
            decay=0.0, sigma=0.0, utility=torch.tensor([-1.0, -2.0, -4.0, -1.0]), statistics=(torch.tensor(-1.0),)
        ),
        [0.146211716, 0.0880797078, -0.098201379, 0.292423431],
    ),
    "hare": (_hare.run_and_return(W, UNIT, momentum=torch.tensor(0.9), due=NO)[0], W.tolist()),
    "tortoise": (
        _hare.run_and_return(W, UNIT, momentum=torch.tensor(0.9), due=NO)[1],
        [0.275, 0.71, 0.245, 0.54],
    ),
    "hare, due": (
        _hare.run_and_return(W, UNIT, momentum=torch.tensor(0.9), due=YES)[0],
        [0.275, 0.71, 0.245, 0.54],
    ),
    # d = (1.5 0, -1 0): cosines 0.6 and -1.
    "dash": (
        _dash.shrink_along(
            GROUPS, SLOPES, torch.zeros(2, 2), alpha=torch.tensor(0.5), floor=torch.tensor(0.1), due=YES
        )[0].flatten(),
        [1.8, 2.4, 0.1, 0.0],
    ),
    "dash, kernels of a convolution": (
        _dash.shrink_along(
            TWO_KERNELS, SLOPES[None], torch.zeros(1, 2, 2), alpha=torch.tensor(0.5), floor=torch.tensor(0.1), due=YES
        )[0].flatten(),
        [1.8, 2.4, 0.1, 0.0],
    ),
    # d = 0.5 (1, 0, 0, 0) - 0.5 (-1, 0, 0, 0) = (1, 0, 0, 0), cosine 0.5 / sqrt(5.25).
    "dash, a bias as a whole": (
        _dash.shrink_along(
            W, -torch.eye(4)[0], torch.eye(4)[0], alpha=torch.tensor(0.5), floor=torch.tensor(0.1), due=YES
        )[0],
        [0.109108945, -0.21821789, 0.43643578, 0.0],
    ),
}


@pytest.mark.parametrize(("found", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_rule_gives_the_frozen_values(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-12)


K = funcbio.key(2026)
# Not known from elsewhere: frozen so that a release never changes the draws of an earlier one unnoticed.
DRAWS = {
    "uniform": (funcbio.uniform(K, (3,)), [0.1814597249031067, 0.9347376227378845, 0.41713792085647583]),
    "normal": (funcbio.normal(K, (3,)), [0.9225103259086609, -1.8661733865737915, 0.38863405585289]),
    "normal float64": (funcbio.normal(K, (2,), dtype=torch.float64), [1.1647221583444678, -1.9689872675586593]),
    "stream": (funcbio.uniform(K, (2,), stream="rate/fc1.weight"), [0.2081165909767151, 0.1394556760787964]),
    "gamma": (funcbio.gamma(K, 2.0, (2,)), [1.3081588745117188, 0.5537636876106262]),
    "fold_in a number": (funcbio.fold_in(K, 7), [-1178552530, -374435140]),
    "fold_in a name": (funcbio.fold_in(K, "fc1"), [-476764816, -806649917]),
    "split": (funcbio.split(K), [[1715170407, 572120812], [1736646708, -468674051]]),
}


@pytest.mark.parametrize(("found", "expected"), DRAWS.values(), ids=DRAWS)
def test_draws_stay_what_they_were(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=1e-6, atol=1e-7)
