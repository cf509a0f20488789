"""The demonstration of a minute, and the quick arena run anew: both say what the documents say."""

import json
from pathlib import Path

import pytest

from funcbio import __main__ as command
from funcbio.experiments.arena.demo_settings import OPTIMIZER, TASK_STEPS, TUNED
from funcbio.experiments.arena.methods import named, settings_of
from funcbio.experiments.arena.tasks import labels, pixels

ASSETS = Path(__file__).parents[2] / "docs" / "assets"


@pytest.mark.parametrize("task", TUNED)
def test_the_numbers_of_the_demonstration_are_those_that_the_arena_found(task):
    runs = json.loads((ASSETS / "arena.json").read_text())["runs"]
    found = {run["method"]: run["best"] for run in runs if (run["task"], run["optimizer"]) == (task, OPTIMIZER)}
    for name, point in TUNED[task].items():
        assert settings_of(named(name), point) == found[name]


def test_the_tasks_of_the_demonstration_are_as_long_as_it_says():
    assert labels.TASK_STEPS == pixels.TASK_STEPS == TASK_STEPS


def test_the_demonstration_prints_and_draws(tmp_path, capsys):
    assert command.main(["demo", "--tasks", "10", "--seeds", "4", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "10 tasks in a row, Adam, 4 seeds" in printed
    assert all(len(line.rstrip()) <= 100 for line in printed.splitlines() if "Written" not in line)
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [run["method"] for run in runs] == list(TUNED["labels"])
    assert all(len(seed) == 5 for run in runs for seed in run["values"])
    assert all(run["method"] in printed for run in runs)
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "demo.svg").read_text()


@pytest.mark.slow
def test_the_quick_arena_comes_out_as_the_documents_say(tmp_path):
    """Ten minutes: every mean lies within the recorded interval, widened by the one found."""
    assert command.main(["arena", "--quick", "--output", str(tmp_path)]) == 0
    recorded, found = (
        {(row["task"], row["method"]): row["all"] for row in json.loads(path.read_text())["table"]}
        for path in (ASSETS / "arena-quick.json", tmp_path / "results.json")
    )
    assert recorded.keys() == found.keys()
    for place, one in found.items():
        half = (recorded[place]["high"] - recorded[place]["low"]) / 2 + (one["high"] - one["low"]) / 2
        assert abs(one["mean"] - recorded[place]["mean"]) < half, place
