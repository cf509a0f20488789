"""Selective reinitialization: the frozen masks of its rules, and what a chosen share promises."""

import math
from functools import partial

import pytest
import torch

import funcbio
from funcbio import BioConfig, BioState, fold_in, init, key, normal, rejuvenate_weights, split
from funcbio.mechanisms._select import RULES, UTILITIES, chosen, newborn

USE = torch.tensor([0.1, 0.4, 0.0, 1.5, 0.5])  # Mean 0.5.
EVERY, SOME = torch.ones(5, dtype=torch.bool), torch.tensor([True, True, False, False, True])
HALF, ONE = torch.full((5,), 0.5), torch.tensor([0.25])
# Each worked out by hand: use, the candidates, rule, strength or fraction, and which are lost.
CHOICES = {
    "threshold": (EVERY, "threshold", {"fraction": 0.2}, [1, 0, 1, 0, 0]),  # u <= 0.1, also where it is equal
    "threshold of some": (SOME, "threshold", {"fraction": 0.3}, [1, 0, 0, 0, 0]),  # mean of those is 1/3: u <= 0.1
    # Ranks 1, 2, 0, 4, 3: floor(0.4 * 5 + 0.25) = 2 are lost, floor(0.55 * 5 + 0.25) = 3.
    "proportional": (EVERY, "proportional", {"fraction": 0.4}, [1, 0, 1, 0, 0]),
    "proportional, and the remainder": (EVERY, "proportional", {"fraction": 0.55}, [1, 1, 1, 0, 0]),
    "proportional of some": (SOME, "proportional", {"fraction": 0.4}, [1, 0, 0, 0, 0]),  # floor(1.2 + 0.25)
    # Variance (0.16 + 0.01 + 0.25 + 1 + 0) / 5 = 0.284; log(2) * sqrt(0.284) = 0.369 against d u.
    "probability": (EVERY, "probability", {"strength": 1.0}, [1, 0, 1, 0, 0]),
    "probability, larger d": (EVERY, "probability", {"strength": 4.0}, [0, 0, 1, 0, 0]),
    # Mean 1/3, variance 0.0289, so 0.118 against 0.1 and 0.4.
    "probability of some": (SOME, "probability", {"strength": 1.0}, [1, 0, 0, 0, 0]),
}


@pytest.mark.parametrize(("among", "rule", "hyper", "expected"), CHOICES.values(), ids=CHOICES)
def test_rules_choose_the_frozen_weights(among, rule, hyper, expected):
    found = chosen(USE, among, HALF, ONE, rule, **{"strength": 1.0, "fraction": 0.0, **hyper})
    assert found.int().tolist() == expected


def test_newborn_values_are_the_frozen_ones():
    """|w| of those that are there: 1 and 3, mean 2, variance 2, so log-variance log(1.5)."""
    weight, among = torch.tensor([1.0, -3.0, 9.0]), torch.tensor([True, True, False])
    given = {"coin": torch.tensor([0.75, 0.25, 0.75]), "noise": torch.tensor([0.0, 0.5, 3.0])}
    spread = math.sqrt(math.log(1.5))
    first = 2.0 / math.sqrt(1.5)
    torch.testing.assert_close(
        newborn(weight, among, given, "lognormal"), torch.tensor([first, -first * math.exp(0.5 * spread), 3.0])
    )
    assert newborn(weight, among, given, "uniform").tolist() == [1.5, -1.5, 1.5]
    start = {"start": torch.tensor([5.0, 6.0, 7.0]), "index": torch.tensor([0.0, 0.99, 0.34])}
    assert newborn(weight, among, start, "swr").tolist() == [5.0, 7.0, 6.0]


def world(seed=0, shape=(40, 60), dtype=torch.float32):
    params = {"w": normal(key(seed), shape, stream="w", dtype=dtype)}
    grads = {"w": normal(key(seed), shape, stream="g", dtype=dtype)}
    state = init(params, key=key(seed), keep=["start"])
    return params, grads, state


def swr(**options):
    return partial(rejuvenate_weights, variant="swr", **options)


@pytest.mark.parametrize("fraction", [0.0, 1e-6, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_swr_replaces_exactly_what_is_at_most_the_share_of_the_mean(fraction, dtype):
    params, grads, state = world(dtype=dtype)
    start = params["w"].flatten() + 100.0
    after, _, found = swr(fraction=fraction)(params, grads, state._replace(start={"w": start.view(40, 60)}), key=key(1))
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    use = (params["w"].to(wide) * grads["w"].to(wide)).abs()
    expected = use <= fraction * use.mean()
    assert torch.equal(found.replaced["w"], expected)
    assert torch.equal(after["w"][~expected], params["w"][~expected])
    assert torch.isin(after["w"][expected], start).all()


def test_the_defaults_of_swr_are_those_of_the_paper():
    params, grads, state = world()
    spelled = rejuvenate_weights(
        params, grads, state, key=key(1), variant="swr", utility="|g w|", rule="threshold", fraction=1e-6
    )
    assert torch.equal(swr()(params, grads, state, key=key(1))[0]["w"], spelled[0]["w"])
    assert BioConfig().rejuvenation_fraction == 1e-6


def test_the_usual_choice_spelled_out_is_the_variant_itself():
    params, grads, state = world()
    for variant in ("lognormal", "uniform", "0.0.5"):
        plain = rejuvenate_weights(params, grads, state, key=key(1), variant=variant)[0]
        spelled = rejuvenate_weights(
            params, grads, state, key=key(1), variant=variant, utility="|w|", rule="probability"
        )[0]
        assert torch.equal(plain["w"], spelled["w"])


@pytest.mark.parametrize("utility", UTILITIES)
def test_a_share_is_met_to_one_weight_and_on_average_exactly(utility):
    params, grads, state = world(shape=(3, 7))
    fraction, calls = 0.3, 4000  # 6.3 of 21
    counts = torch.vmap(
        lambda k: (
            swr(utility=utility, rule="proportional", fraction=fraction)(params, grads, state, key=k)[2]
            .replaced["w"]
            .sum()
        )
    )(split(key(3), calls)).double()
    assert set(counts.tolist()) == {6.0, 7.0}
    assert abs(counts.mean().item() - 6.3) < 4 * math.sqrt(0.3 * 0.7 / calls)


def test_proportional_takes_the_weights_of_least_use():
    params, grads, state = world()
    lost = swr(rule="proportional", fraction=0.25)(params, grads, state, key=key(2))[2].replaced["w"]
    use = (params["w"] * grads["w"]).abs()
    assert lost.sum() == 600
    assert use[lost].max() <= use[~lost].min()


def test_random_utility_is_blind_to_the_weights():
    params, grads, state = world(shape=(200, 200))
    lost = swr(utility="random", rule="proportional", fraction=0.5)(params, grads, state, key=key(2))[2].replaced["w"]
    weak = params["w"].abs() < params["w"].abs().median()
    assert abs((lost & weak).sum().item() - 10_000) < 4 * math.sqrt(40_000 / 16)  # Hypergeometric.


def test_equal_utilities_go_by_position_and_a_dead_gradient_loses_every_weight():
    params, _, state = world(shape=(2, 4))
    none = {"w": torch.zeros(2, 4)}
    lost = swr(rule="proportional", fraction=0.375)(params, none, state, key=key(2))[2].replaced["w"]
    assert lost.flatten().tolist() == [True] * 3 + [False] * 5
    assert swr()(params, none, state, key=key(2))[2].replaced["w"].all()  # 0 <= r * 0, as published.


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("utility", UTILITIES)
@pytest.mark.parametrize("variant", ["swr", "lognormal", "uniform"])
def test_what_does_not_exist_neither_counts_nor_is_replaced(variant, utility, rule):
    """The same layer with its missing connections cut out, under draws that do not differ: there is one row."""
    params, grads, state = world(shape=(1, 400))
    mask = torch.arange(400)[None] < 150
    masked = {"w": torch.where(mask, params["w"], 0.0)}
    call = partial(rejuvenate_weights, variant=variant, utility=utility, rule=rule, fraction=0.3, strength=2.0)
    after, _, found = call(masked, grads, state._replace(mask={"w": mask}), key=key(5))
    assert found.replaced["w"].any()
    assert not found.replaced["w"][~mask].any()
    assert not after["w"][~mask].any()
    part = lambda tree: {"w": tree["w"][:, :150]}
    alone = state._replace(rate=part(state.rate), start=part(state.start), sign={"w": torch.ones(())})
    _, _, single = call(part(masked), part(grads), alone, key=key(5))
    if utility != "random" and rule != "probability":  # Whatever does not depend on where numbers are drawn.
        assert torch.equal(found.replaced["w"][:, :150], single.replaced["w"])
    share = found.replaced["w"].sum().item() / 150
    assert abs(share - single.replaced["w"].double().mean().item()) < 4 * math.sqrt(2 * 0.25 / 150)


def test_a_layer_with_every_connection_is_as_one_without_a_mask():
    params, grads, state = world()
    full = state._replace(mask={"w": torch.ones(40, 60, dtype=torch.bool)})
    for options in ({}, {"variant": "uniform"}, {"variant": "swr", "fraction": 0.1}):
        plain, masked = (rejuvenate_weights(params, grads, s, key=key(1), **options)[0] for s in (state, full))
        assert torch.equal(plain["w"], masked["w"])


def test_zeros_that_are_no_connections_do_not_shrink_what_rejuvenation_grows():
    params, grads, state = world(shape=(300, 300))
    mask = normal(key(9), (300, 300)) > 1.2816  # A tenth.
    masked = {"w": torch.where(mask, params["w"], 0.0)}
    after, _, found = rejuvenate_weights(masked, grads, state._replace(mask={"w": mask}), key=key(1))
    lost = found.replaced["w"]
    dense = rejuvenate_weights(params, grads, state, key=key(1))[2].replaced["w"]
    here, there = lost.sum().item() / mask.sum().item(), dense.double().mean().item()
    assert abs(here - there) < 4 * math.sqrt(there / mask.sum().item())
    assert abs(after["w"][lost].abs().mean().item() / params["w"].abs().mean().item() - 1.0) < 0.2


def test_weights_that_are_not_finite_are_always_replaced_and_spoil_no_statistic():
    params, grads, state = world()
    clean = swr(fraction=0.1)(params, grads, state, key=key(1))[2].replaced["w"]
    params["w"][0, :3] = torch.tensor([math.nan, math.inf, -math.inf])
    for variant in ("swr", "lognormal", "uniform"):
        for utility in UTILITIES:
            after, _, found = rejuvenate_weights(
                params, grads, state, key=key(1), variant=variant, utility=utility, rule="threshold", fraction=0.1
            )
            assert after["w"].isfinite().all()
            assert found.replaced["w"][0, :3].all()
    lost = swr(fraction=0.1)(params, grads, state, key=key(1))[2].replaced["w"]
    assert (lost ^ clean)[1:].sum() <= 3  # The mean moves a little.


def test_gradients_that_are_not_finite_choose_nothing():
    params, grads, state = world()
    grads["w"][0] = math.nan
    for rule in RULES:
        lost = swr(rule=rule, fraction=0.2, strength=2.0)(params, grads, state, key=key(1))[2].replaced["w"]
        assert not lost[0].any()
        assert lost.any()


def test_newborn_weights_follow_the_law_of_the_start():
    params = {"w": torch.empty(200, 300)}
    torch.nn.init.kaiming_uniform_(params["w"], a=math.sqrt(5))
    state = init(params, key=key(0), keep=["start"])
    grown = {"w": 10.0 * normal(key(1), (200, 300))}
    after = swr(rule="proportional", fraction=1.0)(grown, grown, state, key=key(2))[0]["w"]
    bound = 1 / math.sqrt(300)
    assert after.abs().max() <= bound
    assert abs(after.std().item() - bound / math.sqrt(3)) < 4 * bound / math.sqrt(3 * 60_000)


def test_signs_are_those_of_dale_where_they_apply():
    params = {"a": normal(key(0), (20, 30)), "b": normal(key(1), (20, 20))}
    state = init(params, key=key(2), config=BioConfig(apply_dales_principle=True), keep=["start"])
    for variant in ("swr", "lognormal", "uniform"):
        after, _, found = rejuvenate_weights(
            params, params, state, key=key(3), variant=variant, rule="proportional", fraction=0.5
        )
        lost = found.replaced["a"]
        assert torch.equal(after["a"].sign()[lost], state.sign["a"].expand(20, 30)[lost])


def test_what_takes_no_part_is_left_alone():
    params = {"w": torch.ones(2, 3), "b": torch.ones(3), "empty": torch.ones(0, 3)}
    state = init(params, key=key(0), keep=["start"])
    state = state._replace(start={**state.start, "w": torch.zeros(())})
    after, _, found = swr(fraction=1.0)(params, params, state, key=key(1))
    assert torch.equal(after["w"], params["w"])
    assert after["empty"].shape == (0, 3)
    assert not found.replaced["w"].any()


def test_bad_options_are_refused():
    params, grads, state = world()
    bad = [
        (
            {"variant": "swr", "utility": "weight"},
            "utility should be one of default, |w|, |g w|, random; found 'weight'",
        ),
        ({"variant": "swr", "rule": "all"}, "rule should be one of default, probability, threshold, proportional"),
        ({"variant": "swr", "fraction": 1.5}, "fraction should be a number in [0, 1]; found 1.5"),
        ({"variant": "0.0.5", "rule": "threshold"}, "utility and rule should be those of variant '0.0.5'"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match="should be") as caught:
            rejuvenate_weights(params, grads, state, key=key(0), **options)
        assert message in str(caught.value)
    with pytest.raises(ValueError, match=r"state\.start should be kept"):
        swr()(params, grads, BioState(rate=state.rate), key=key(0))
    with pytest.raises(funcbio.ConfigError, match="rejuvenation_rule"):
        BioConfig(rejuvenation_rule="all")


def test_keys_under_vmap_equal_a_loop():
    params, grads, state = world()
    keys = torch.stack([fold_in(key(4), index) for index in range(3)])
    for rule in RULES:
        call = lambda k, rule=rule: swr(rule=rule, fraction=0.2)(params, grads, state, key=k)[0]["w"]
        assert torch.equal(torch.vmap(call)(keys), torch.stack([call(k) for k in keys]))
