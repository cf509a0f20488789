"""The ten distributions: mean, standard deviation and clamp, with tolerances from the sample's own size."""

import math

import pytest
import torch
from scipy import stats

from funcbio import Distribution, key, sample_rates
from funcbio.mechanisms._rates import SAMPLERS

N = 200_000
NU = 0.16
# Standard deviation before the clamp, and the fourth central moment over the variance squared.
EXPECTED = {
    "baseline": (0.0, 0.0),
    "uniform": (NU / math.sqrt(3), 1.8),
    "normal": (NU, 3.0),
    "lognormal": (math.sqrt(math.expm1(NU**2)), float(stats.lognorm(NU).stats("k")) + 3),
    "gamma": (math.sqrt(NU), 6 * NU + 3),
    "beta": (NU / math.sqrt(2 / NU + 1), float(stats.beta(1 / NU, 1 / NU).stats("k")) + 3),
    "layer_adaptive": (NU * (1 - 0.5 * 0.5) / math.sqrt(3), 1.8),
    "weight_adaptive": (NU / math.sqrt(3), 1.8),  # All weights of one magnitude have the plain spread.
    "temporal": (NU / math.sqrt(3), 1.8),
    "activity": (0.0, 0.0),
}


def draw(distribution, weight=None, **kwargs):
    weight = torch.full((N,), -0.3, dtype=torch.float64) if weight is None else weight
    wide = {"minimum": 0.0, "maximum": 1e9, **kwargs}
    return sample_rates(key(4), weight, distribution=distribution, nu=NU, depth=0.5, **wide)


@pytest.mark.parametrize("distribution", list(Distribution))
def test_mean_one_and_the_documented_spread(distribution):
    drawn, (std, kurtosis) = draw(distribution), EXPECTED[distribution.value]
    assert abs(float(drawn.mean()) - 1) <= 4.5 * std / math.sqrt(N)
    # Standard error of a standard deviation: std * sqrt((kurtosis - 1) / 4N).
    assert abs(float(drawn.std()) - std) <= 4.5 * std * math.sqrt(max(kurtosis - 1, 0) / (4 * N))


@pytest.mark.parametrize("distribution", list(Distribution))
def test_rates_are_clamped(distribution):
    drawn = draw(distribution, minimum=0.9, maximum=1.05)
    assert drawn.min() >= 0.9
    assert drawn.max() <= 1.05


def test_layers_further_from_the_input_are_less_diverse():
    weight = torch.ones(50_000)
    spreads = [sample_rates(key(0), weight, distribution="layer_adaptive", depth=i / 4).std() for i in range(4)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[3] < 0.65 * spreads[0]


def test_smaller_weights_are_more_diverse():
    weight = torch.cat((torch.full((50_000,), 0.01), torch.full((50_000,), 1.0)))
    small, large = sample_rates(key(0), weight, distribution="weight_adaptive").view(2, -1)
    assert small.std() > 2.5 * large.std()


def test_zero_weights_have_a_rate():
    assert sample_rates(key(0), torch.zeros(10), distribution="weight_adaptive").isfinite().all()


def test_the_enum_and_the_samplers_agree():
    assert [d.value for d in Distribution] == list(SAMPLERS)


def test_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match=r"distribution should be one of baseline, uniform.*; found 'cauchy'"):
        sample_rates(key(0), torch.ones(2), distribution="cauchy")
