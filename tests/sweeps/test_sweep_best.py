"""The choice of hyper-parameters on some runs never looks at those that are reported."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from funcbio.sweeps._result import SweepResult

NAN = math.nan


def result_of(hyper, seeds, value, metric="loss", steps=(5,)):
    """A result over all combinations, whose weights are the member's number."""
    names = ("member", "seed", *hyper, "step", metric)
    rows = [
        (member, seed, *at, step, value(dict(zip(hyper, at, strict=True)), seed))
        for member, (*at, seed) in enumerate(itertools.product(*hyper.values(), seeds))
        for step in steps
    ]
    members = len(rows) // len(steps)
    table = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    return SweepResult(table, [*hyper], {"w": torch.arange(members)[:, None]}, {"b": torch.arange(members)})


GRID = {"mechanisms": ["plain", "bio"], "lr": [0.1, 0.2, 0.3]}
BEST = {"plain": 0.2, "bio": 0.3}


def distance(at, seed):
    return abs(at["lr"] - BEST[at["mechanisms"]]) + 0.001 * seed


def test_each_combination_gets_its_own_value_and_reports_the_other_seeds():
    result = result_of(GRID, range(6), distance, steps=(1, 5))
    best = result.best("loss", over="lr", seeds=2)
    assert best.chosen["mechanisms"] == ["plain", "bio"]
    assert best.chosen["lr"] == [0.2, 0.3]
    assert best.chosen["runs"] == [2, 2]
    assert best.chosen["diverged"] == [0, 0]
    assert best.chosen["loss"] == pytest.approx([0.0005, 0.0005])
    assert best.chosen["at_end"] == ["", "lr"]
    assert best.hyper == ("mechanisms",)
    assert best.table["seed"] == [seed for seed in (2, 3, 4, 5) for _ in (1, 5)] * 2
    assert best.table["member"] == [member for member in range(8) for _ in (1, 5)]
    before = {(m, lr, s): i for i, m, lr, s in zip(*(result.table[n] for n in ("member", *GRID, "seed")), strict=True)}
    expected = [before[name, BEST[name], seed] for name in BEST for seed in (2, 3, 4, 5)]
    assert best.params["w"].flatten().tolist() == best.buffers["b"].tolist() == expected
    assert best.member(0)["w"].item() == expected[0]


def test_the_comparison_is_of_the_seeds_that_did_not_choose():
    frame = result_of(GRID, range(6), distance).best("loss", over="lr").compare("loss", "mechanisms", "plain")
    assert frame["pairs"].item() == 3
    assert frame["difference"].item() == pytest.approx(0.0)


@given(st.integers(0, 2**32), st.integers(1, 5), st.booleans())
def test_reported_runs_change_no_choice_and_choosing_runs_no_reported_number(seed, count, reported):
    """New numbers for one of the two parts: what depends on the other stays."""
    draw = random.Random(seed)
    numbers = {key: [draw.random() for _ in range(6)] for key in itertools.product(*GRID.values())}
    value = lambda at, seed: numbers[tuple(at.values())][seed]
    before = result_of(GRID, range(6), value).best("loss", over="lr", seeds=count)
    for column in numbers.values():
        for at in range(count, 6) if reported else range(count):
            column[at] = draw.random()
    after = result_of(GRID, range(6), value).best("loss", over="lr", seeds=count)
    if reported:
        assert after.chosen == before.chosen
    else:
        for name, lr in zip(after.chosen["mechanisms"], after.chosen["lr"], strict=True):
            shown = [v for v, m in zip(after.table["loss"], after.table["mechanisms"], strict=True) if m == name]
            assert shown == numbers[name, lr][count:]


def test_the_best_of_many_equals_is_no_better_on_the_other_seeds():
    """Of twenty values of pure noise the best looks good where it was chosen, and elsewhere as all others."""
    draw, naive, honest = random.Random(1), [], []
    for _ in range(200):
        grid = {"lr": [*range(20)]}
        numbers = [[draw.gauss(0.0, 1.0) for _ in range(8)] for _ in range(20)]
        best = result_of(grid, range(8), lambda at, seed, n=numbers: n[at["lr"]][seed]).best("loss", over="lr")
        naive += best.chosen["loss"]
        honest.append(sum(best.table["loss"]) / len(best.table["loss"]))
    error = 0.5 / math.sqrt(200)  # Of the mean of 200 means of four.
    assert sum(naive) / 200 < -10 * error
    assert abs(sum(honest) / 200) < 4 * error


@pytest.mark.parametrize(
    ("metric", "goal", "lr"),
    [
        ("test_loss", None, 0.1),
        ("error", None, 0.1),
        ("test_accuracy", None, 0.3),
        ("perplexity", "min", 0.1),
        ("loss", "max", 0.3),
    ],
)
def test_the_goal_is_clear_by_name_or_said(metric, goal, lr):
    result = result_of({"lr": [0.1, 0.2, 0.3]}, range(2), lambda at, seed: at["lr"], metric)
    assert result.best(metric, over="lr", goal=goal).chosen["lr"] == [lr]


def test_the_fewest_diverged_come_before_the_best_mean():
    numbers = {0.1: [0.9, 0.9, 0.9], 0.2: [0.1, NAN, 0.1], 0.3: [NAN, math.inf, 0.0]}
    best = result_of({"lr": [*numbers]}, range(4), lambda at, s: numbers[at["lr"]][s % 3]).best("loss", "lr", seeds=3)
    assert best.chosen["lr"] == [0.1]
    lost = result_of({"lr": [0.1, 0.2]}, range(2), lambda at, seed: NAN).best("loss", "lr")
    assert (lost.chosen["lr"], lost.chosen["diverged"]) == ([0.1], [1])
    assert math.isnan(lost.chosen["loss"][0])


def test_several_are_chosen_together():
    grid = {"lr": [0.1, 0.2, 0.3], "decay": [0.0, 1.0], "rule": ["a", "b"]}
    value = lambda at, seed: abs(at["lr"] - (0.2 if at["decay"] else 0.1)) + 0.01 * (1.0 - at["decay"])
    best = result_of(grid, range(2), value).best("loss", over=["lr", "decay"])
    assert best.hyper == ("rule",)
    assert (best.chosen["lr"], best.chosen["decay"]) == ([0.2, 0.2], [1.0, 1.0])
    assert best.chosen["at_end"] == ["decay", "decay"]


FOLDED = {"lr": [0.1, 0.2], "fold": [0, 1, 2]}


def test_folds_choose_for_the_other_folds():
    best = result_of(FOLDED, [7, 8], lambda at, seed: at["lr"] * (1 if at["fold"] == 0 else -1)).best(
        "loss", over="lr", folds=[0]
    )
    assert best.chosen["lr"] == [0.1]
    assert best.hyper == ("fold",)
    assert best.table["fold"] == [1, 1, 2, 2]
    assert best.table["seed"] == [7, 8, 7, 8]


def test_one_value_is_chosen_for_all_folds_where_seeds_choose():
    best = result_of(FOLDED, [7, 8], lambda at, seed: at["lr"] * (1 if at["fold"] == 0 else -1)).best("loss", over="lr")
    assert best.chosen["lr"] == [0.2]
    assert best.chosen["runs"] == [3]
    assert best.table["fold"] == [0, 1, 2]
    assert set(best.table["seed"]) == {8}


def test_a_search_and_results_at_single_values_are_one_choice():
    """Seeds of the search are run at all values, those of the results at the best alone: the rest is not needed."""
    search = result_of(GRID, range(100, 102), distance)
    final = [result_of({"mechanisms": [name], "lr": [lr]}, range(3), distance) for name, lr in BEST.items()]
    best = search.join(*final).best("loss", over="lr", seeds=[100, 101])
    assert best.table["seed"] == [0, 1, 2, 0, 1, 2]
    assert best.chosen["lr"] == [0.2, 0.3]


REFUSED = {
    "metric": ({"metric": "lost"}, "metric should be one of the metrics 'loss'; found 'lost'"),
    "over": ({"over": "rate"}, "over should be one of the hyper-parameters 'mechanisms', 'lr'; found 'rate'"),
    "nothing": ({"over": []}, "over should be one or more names"),
    "goal": ({"goal": "small"}, 'goal should be "min" or "max"; found \'small\''),
    "seed": ({"seeds": [9]}, "seeds should be one of the seeds 0, 1, 2; found 9"),
    "all seeds": ({"seeds": 3}, "seeds should be some of the 3, not all: the others are for the results; found 3"),
    "no seeds": ({"seeds": []}, "seeds should be some of the 3, not all"),
    "half a seed": ({"seeds": 0.5}, "seeds should be a number of seeds, or some of them; found 0.5"),
    "folds": ({"folds": 1}, "folds should be left out: the sweep has none; found 1"),
    "both": ({"folds": 1, "seeds": 1}, "seeds should be left out with folds; found 1"),
    "step": ({"step": 4}, "step should be one of the steps 5; found 4"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_chosen_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        result_of(GRID, range(3), distance).best(**{"metric": "loss", "over": "lr"} | options)


def test_one_seed_and_a_metric_without_a_goal_are_refused():
    with pytest.raises(ValueError, match=r"seeds should be two or more, some to choose .*; found \[3\]"):
        result_of(GRID, [3], distance).best("loss", over="lr")
    with pytest.raises(ValueError, match='goal should be "min" or "max", which the name \'perplexity\' does not say'):
        result_of(GRID, range(2), distance, "perplexity").best("perplexity", over="lr")


@pytest.mark.parametrize("name", ["test_acc", "accuracy", "val_mse", "mae", "train_loss", "auc", "macro_f1"])
def test_the_name_of_a_metric_says_its_goal(name):
    large = name.endswith(("acc", "accuracy", "auc", "f1"))
    result = result_of(GRID, range(4), distance, name)
    there = result.best(name, over="lr", goal="max" if large else "min").chosen
    other = result.best(name, over="lr", goal="min" if large else "max").chosen
    assert result.best(name, over="lr").chosen == there != other


def test_values_that_were_run_with_other_seeds_are_refused():
    first, second = ({"lr": [lr]} for lr in (0.1, 0.2))
    uneven = result_of(first, range(4), lambda *at: 1.0).join(result_of(second, [0], lambda *at: 0.5))
    with pytest.raises(ValueError, match=r"seeds that choose should be the same .*, lr=0.2 too, at {}; found \[0\]"):
        uneven.best("loss", over="lr")
    with pytest.raises(ValueError, match=r"results should be run with further seeds or folds for lr=0.2, the best for"):
        uneven.best("loss", over="lr", seeds=[0])
