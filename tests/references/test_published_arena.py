"""Whole runs of published code beside ours, on the slowly-changing regression and on the same data."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from arena import (
    FIGURE,
    FIRST_BINS,
    NOISY,
    Stack,
    apart,
    curves,
    network,
    our_continual,
    our_upgd,
    ours,
    published_backprop,
    published_clipping,
    published_continual,
    published_upgd,
    run,
    runs,
    task,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SEEDS, STEPS = 10, 1000
LEVEL = 0.02  # Runs differ if their p is below it.


def errors_of(make, seed=0, steps=600, **options):
    """Returns the squared errors of one run."""
    return run(partial(make, **options), seed, steps)[0]


def runs_of(make, **options):
    """Returns the squared errors and the replaced units of runs with several seeds."""
    return runs(partial(make, **options), SEEDS, STEPS)


def p_of(first, second):
    """Returns the p of the difference of mean squared errors over seeds."""
    return apart(first.mean(1), second.mean(1))[2]


def test_plain_gradient_descent_meets_the_published_curve():
    seeds, bins = 100, {}
    for rate, errors in zip(FIRST_BINS, curves([*FIRST_BINS], seeds, 60_000), strict=True):
        # The figure's curves, of 100 runs too, have as large an error as ours.
        bins[rate] = errors.mean(0), (2 / seeds) ** 0.5 * errors.std(0, ddof=1)
    off = {(rate, read): _off(bins[rate], FIRST_BINS[read]) for rate in bins for read in FIRST_BINS}
    assert all(off[rate, rate] < 3 for rate in bins), off
    assert off[0.01, 0.001] > 4  # The curve of another step size is another one.
    assert off[0.001, 0.01] > 4


def _off(curve, read):
    """Returns by how many standard errors a curve leaves another, at most."""
    mean, error = curve
    return (np.abs(mean - read) / error).max()


def test_the_figure_is_of_slow_bits_that_are_all_drawn_anew():
    seeds, off = 40, {}
    for flip_one in (False, True):
        second = curves([0.01], seeds, 400_000, flip_one=flip_one, bin_of=200_000)[0][:, 1]
        error = second.std(ddof=1) * (1 / seeds + 1 / 100) ** 0.5
        off[flip_one] = abs(second.mean() - FIGURE[0.01][1]) / error
    assert off[False] < 3, off
    assert off[True] > 4, off


@pytest.mark.parametrize("rate", [*FIRST_BINS])
def test_the_stack_of_networks_learns_as_the_published_one(rate):
    theirs, stack = published_backprop(0, rate=rate), Stack([network(0)], [rate])
    inputs, targets = task(0, 1000, flip_after=1000)
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        error = stack.learn(x.numpy(), y[:, 0].numpy())
        torch.testing.assert_close(torch.from_numpy(error)[0], theirs.learn(x, y), rtol=1e-3, atol=1e-4)


def test_a_mechanism_that_changes_nothing_leaves_the_published_run():
    idle = errors_of(ours, mechanism="clip_weights", clip_weights_kappa=1e6)
    assert np.array_equal(idle, errors_of(published_backprop))


@pytest.mark.parametrize("kappa", [1.0, 2.0])
def test_weight_clipping_is_the_published_run_to_the_bit(kappa):
    clipped = errors_of(ours, mechanism="clip_weights", clip_weights_kappa=kappa)
    assert np.array_equal(clipped, errors_of(published_clipping, kappa=kappa))
    assert not np.array_equal(clipped, errors_of(published_clipping, kappa=1.1 * kappa))


def test_upgd_without_noise_is_the_published_run_but_for_its_beginning():
    quiet: dict[str, Any] = NOISY | {"sigma": 0.0}
    errors = errors_of(our_upgd, **quiet)
    np.testing.assert_allclose(errors, errors_of(published_upgd, late=True, **quiet), rtol=1e-2, atol=1e-4)
    assert np.abs(errors - errors_of(published_upgd, **quiet)).max() > 1  # Its correction leaves out the largest one.


@pytest.mark.parametrize("corrected", [False, True])
def test_continual_backpropagation_with_the_same_draws_is_the_published_run(corrected):
    options = {"replacement_rate": 1 / 64, "accumulate": True, "corrected": corrected}  # Sums of it are exact.
    theirs, mine, number = published_continual(0, **options), our_continual(0, **options), 0
    inputs, targets = task(0, STEPS, flip_after=1000)
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        # Without the correction the two agree to the bit; the correction rounds otherwise.
        close = 1e-3 if corrected else 0.0
        torch.testing.assert_close(mine.learn(x, y), theirs.learn(x, y), rtol=close, atol=0.1 * close)
        new = theirs.new()
        assert torch.equal(mine.new(), new)
        with torch.no_grad():
            mine.layers[0].get_parameter("weight")[new] = theirs.layers[0].weight[new]
        number += int(new.sum())
    assert number > 20


def test_a_replacement_that_corrects_the_next_bias_is_not_the_published_run():
    options = {"replacement_rate": 1 / 64, "accumulate": True}
    theirs, mine = published_continual(0, **options), our_continual(0, corrected=True, **options)
    inputs, targets = task(0, 400, flip_after=1000)
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        mine.learn(x, y)
        theirs.learn(x, y)
        if theirs.new().any():
            break
    assert torch.equal(mine.new(), theirs.new())
    assert mine.layers[2].bias != theirs.layers[2].bias


def test_continual_backpropagation_errs_and_replaces_as_much_as_the_published_one():
    theirs, replaced = runs_of(published_continual, replacement_rate=1e-3)
    errors, new = runs_of(our_continual, replacement_rate=1e-3)
    assert p_of(errors, theirs) > LEVEL
    assert apart(new.sum(1), replaced.sum(1))[2] > LEVEL
    too_often, many = runs_of(our_continual, replacement_rate=1e-2)
    assert p_of(too_often, theirs) < LEVEL
    assert apart(many.sum(1), replaced.sum(1))[2] < LEVEL


def test_upgd_errs_as_much_as_the_published_one_that_starts_late():
    errors, _ = runs_of(our_upgd, **NOISY)
    late, _ = runs_of(published_upgd, late=True, **NOISY)
    assert p_of(errors, late) > LEVEL
    as_published, _ = runs_of(published_upgd, **NOISY)
    assert p_of(errors, as_published) < LEVEL
    too_noisy, _ = runs_of(our_upgd, **NOISY | {"sigma": 10.0})  # As if it were in units of the update.
    assert p_of(too_noisy, late) < LEVEL
