"""A comparison prints whole: difference, interval, p and pairs of every row, on terminals of any width."""

import itertools
import math
import pickle

import pandas
import pytest

from funcbio import SweepResult

LONG = "a rule with a name that is longer than any column of pandas would be, and then some"


def result(seeds=6, hyper=None, metric="test_loss"):
    hyper = {"mechanisms": ["plain", LONG], "lr": [0.1, 0.2], "base_lr": [0.5, 0.6]} if hyper is None else hyper
    table = {name: [] for name in ("member", "seed", *hyper, "step", metric)}
    for member, (*values, seed) in enumerate(itertools.product(*hyper.values(), range(seeds))):
        number = math.sin(member) if (member % 7 or seeds == 1) else math.nan
        for name, cell in zip(table, (member, seed, *values, 9, number), strict=True):
            table[name].append(cell)
    return SweepResult(table, list(hyper), {}, {})


@pytest.fixture(params=[10, 80, 300])
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", f"{request.param}")
    with pandas.option_context("display.width", request.param, "display.max_columns", 2, "display.max_rows", 2):
        yield


@pytest.mark.usefixtures("width")
def test_no_width_cuts_a_comparison():
    found = result().compare("test_loss", by="mechanisms", baseline="plain")
    title, heading, *rows, note = f"{found}".split("\n")
    assert title == "test_loss at step 9: difference from mechanisms = plain, paired by seed"
    assert heading.split() == [
        "lr",
        "base_lr",
        "mechanisms",
        "difference",
        "95",
        "%",
        "interval",
        "p",
        "pairs",
        "diverged",
    ]
    assert note.startswith("p: Wilcoxon's signed-rank test, not corrected")
    assert len(rows) == len(found) == 4
    for row, line in zip(found.itertuples(), rows, strict=True):
        assert LONG in line
        interval = f"[{row.low:+#.4g}, {row.high:+#.4g}]"
        for cell in (f"{row.difference:+#.4g}", interval, f"{row.p_value:.2g}", f"{row.pairs}", f"{row.diverged}"):
            assert cell in line.split(LONG)[1]
    assert "..." not in f"{found}"


@pytest.mark.usefixtures("width")
def test_no_width_cuts_what_a_notebook_shows():
    found = result().compare("test_loss", by="mechanisms", baseline="plain")
    shown = found._repr_html_()
    assert "test_loss at step 9: difference from mechanisms = plain" in shown
    assert shown.count("<tr") == 5
    assert shown.count(LONG) == 4
    assert all(f"[{low:+#.4g}, {high:+#.4g}]" in shown for low, high in zip(found["low"], found["high"], strict=True))
    assert "..." not in shown


@pytest.mark.usefixtures("width")
def test_no_width_cuts_a_summary():
    found = result().summary("test_loss")
    assert "..." not in f"{found}{found._repr_html_()}"
    assert f"{found}".count(LONG) == found._repr_html_().count(LONG) == 4
    assert len(f"{found}".split("\n")) == 9


def test_a_comparison_is_a_frame_with_all_of_its_columns():
    found = result().compare("test_loss", by="mechanisms", baseline="plain", step=9)
    assert isinstance(found, pandas.DataFrame)
    columns = ["mechanisms", "baseline", "pairs", "diverged", "difference", "low", "high", "p_value"]
    assert list(found) == ["lr", "base_lr", *columns]
    assert repr(pickle.loads(pickle.dumps(found))) == repr(found)
    assert repr(found[found["lr"] == 0.1]).count(LONG) == 2
    assert repr(found[["lr", "pairs"]]) == pandas.DataFrame(found[["lr", "pairs"]]).to_string()
    assert "plain" in repr(found[found["lr"] == 7.0])


def test_what_is_not_known_is_said_in_words():
    found = result(seeds=1).compare("test_loss", by="mechanisms", baseline="plain")
    assert f"{found}".count("none") == 4
    assert "diverged" not in f"{found}"


def test_comparisons_with_several_baselines_say_which():
    one = result(hyper={"lr": [0.1, 0.2, 0.3]})
    joined = pandas.concat([one.compare("test_loss", by="lr", baseline=value) for value in (0.1, 0.2)])
    assert "baseline" in f"{joined}".split("\n")[1]
    assert "baseline" not in f"{one.compare('test_loss', by='lr', baseline=0.1)}"


def test_html_is_escaped():
    found = result(hyper={"rule": ["plain", "<b>"]}).compare("test_loss", by="rule", baseline="plain")
    assert "<b>" not in found._repr_html_()
    found = result(metric="a<b>").compare("a<b>", by="lr", baseline=0.1)
    assert "<b>" not in found._repr_html_()
