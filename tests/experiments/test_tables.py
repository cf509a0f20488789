"""Tables on the terminal: no cell is broken, whatever the width; what has too few seeds for an interval says so."""

import io
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import DOCS
from rich.console import Console

from funcbio import SweepResult
from funcbio.experiments.arena import tables as arena
from funcbio.experiments.each import tables as each
from funcbio.experiments.flatness import tables as flatness
from funcbio.experiments.frame import intervals
from funcbio.experiments.frame.table import Table
from funcbio.experiments.frame.terminal import console
from funcbio.experiments.grid import tables as grid
from funcbio.experiments.inversion import tables as inversion
from funcbio.experiments.plasticity import tables as plasticity
from funcbio.experiments.sweep_file import tables as sweep_file

WORDS = st.text("abcde [].,*", min_size=1, max_size=30).map(lambda text: text.strip() or "x")


def printed(table, width=100):
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


@st.composite
def tables(draw):
    columns = draw(st.integers(1, 8))
    rows = draw(st.lists(st.lists(WORDS, min_size=columns, max_size=columns), min_size=1, max_size=4))
    keys = draw(st.integers(0, columns - 1))
    tied = draw(st.sets(st.integers(keys + 1, 9)))
    return Table(draw(st.lists(WORDS, min_size=columns, max_size=columns)), rows, keys=keys, tied=tied)


@given(tables(), st.integers(66, 120))
def test_no_cell_is_broken_and_no_line_is_wider_than_the_terminal(table, width):
    text = printed(table, width)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "…" not in text
    for row in table.rows:
        for cell in row:
            assert any(cell in line for line in lines), cell


def test_columns_that_do_not_fit_come_below_with_the_first_ones():
    table = Table(["name", "one", "two", "q", "three"], [["a", "1" * 20, "2" * 20, "3", "4" * 20]], tied=(3,))
    lines = [line.split() for line in printed(table, 40).splitlines() if line.strip() and "─" not in line]
    assert lines == [
        ["name", "one"],
        ["a", "1" * 20],
        ["name", "two", "q"],
        ["a", "2" * 20, "3"],
        ["name", "three"],
        ["a", "4" * 20],
    ]


def test_headings_are_broken_only_where_they_do_not_fit():
    table = Table(["a", "one of three words"], [["x" * 20, "y"]])
    assert printed(table, 40).splitlines()[0].split("  ")[-1].strip() == "one of three words"
    assert [line.split()[-1] for line in printed(table, 30).splitlines()[:4]] == ["one", "of", "three", "words"]


def test_title_and_caption_stand_once():
    table = Table(["a", "b", "c"], [["x" * 30] * 3], {"title": "The title", "caption": "The caption"})
    text = printed(table, 70)
    assert text.count("a ") >= 2
    assert text.count("The title") == text.count("The caption") == 1
    assert text.startswith("The title")


def published():
    """Tables of the results in the documents, as the commands print them."""
    content = {path.stem: json.loads(path.read_text()) for path in (DOCS / "assets").glob("*.json")}
    yield from arena.result_tables(content["arena"]["table"], 24)
    yield from arena.contrast_tables(content["arena"]["contrasts"], 24)
    yield from plasticity.result_tables(content["plasticity"]["table"], SimpleNamespace(seeds=10, tasks=200))
    yield flatness.result_table(content["flatness"]["table"], SimpleNamespace(seeds=10, epochs=25))
    for protocol in ("paper", "tuned"):
        yield from (grid.table(content["grid"], protocol), grid.difference_table(content["grid"], protocol))
    yield from (each.table(content["each"], optimizer) for optimizer in ("sgd", "adam"))
    yield from inversion.tables(content["inversion"])


def test_the_published_tables_are_whole_in_a_log():
    assert console().width == 100  # Tests have no terminal.
    count = 0
    for table in published():
        text = printed(table, console().width)
        cells = [cell for row in table.rows for cell in row]
        assert all(cell in text for cell in cells)
        assert all(len(line) <= 100 for line in text.splitlines())
        assert ": +" not in text  # None had to be written as lines.
        count += len(cells)
    assert count > 1000


@pytest.mark.parametrize(("numbers", "known"), [([], 0), ([2.0], 1), ([2.0, 4.0], 1), ([2.0, 4.0, 3.0], 3)])
def test_intervals_begin_at_three_numbers(numbers, known):
    assert sum(not math.isnan(end) for end in intervals.interval(numbers)) == known
    assert ("no interval" in intervals.over(len(numbers))) == (known < 3)


@given(st.lists(st.floats(-10.0, 10.0), max_size=12))
def test_without_an_interval_there_is_no_test_and_nothing_is_written(numbers):
    ends, p = intervals.interval(numbers), intervals.p_value(numbers, [0.0] * len(numbers))
    assert math.isnan(ends.low) == math.isnan(p) == (intervals.spell_p(p) == "")
    assert not (math.isnan(p) and intervals.is_significant(intervals.adjusted([p, 0.001])[0]))
    assert not intervals.is_significant(None)


@pytest.mark.parametrize("q", [math.nan, None])
def test_tables_leave_out_what_was_not_tested(q):
    """A file of results holds null for nan, and tables are made of both."""
    ends = {"mean": 1.0, "low": q, "high": q}
    names = {"victim": "split", "epochs": 0, "leak": "gradient", "batch": 1}
    row = {"mechanism": "fuzzy", "lr": 0.1, "accuracy": ends, "difference": ends, "seeds": [1.0, 1.0], "q": q}
    assert each.cells(row)[-2:] == ["+1.00", ""]
    assert grid.stars({**ends, "p": q, "q": q, "p_folds": 0.0}) == ""
    assert inversion._apart({**names, **ends, "metric": "psnr", "p": q, "p_corrected": q}) == "+1.0"
    last = {"method": "m", "numbers": {}, "lost": ends, "against_plain": ends, "q": q}
    assert plasticity._cells(last | dict.fromkeys(("all", "first", "last"), ends))[-2:] == ["+100.0", ""]
    one = {"question": "w", "method": "m", "other": "o", "data": "digits", "task": "labels", "optimizer": "adam"}
    assert arena.answers([{**one, **ends, "q": q}])[0][-2:] == ["+100.0", ""]


def test_every_star_is_explained_below_its_table():
    for table in published():
        if any("*" in cell for row in table.rows for cell in row):
            assert "*" in f"{table.style['title']} {table.style.get('caption', '')}"


@pytest.mark.parametrize("missing", ["", "never"])
def test_a_mean_without_interval_is_written_alone(missing):
    assert intervals.spell(intervals.interval([2.0, 4.0]), missing=missing) == "3.0"
    assert intervals.reading(intervals.interval([2.0, 4.0])) == "too few for an interval"


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([0.1] * 3, "the same"),
        ([0.1, 0.1, 0.1 + 1e-16], "the same"),
        ([0.0] * 3, "no diff"),
        ([1.0, 1.1, 1.2], "the bio"),
    ],
)
def test_differences_without_spread_are_not_read_as_a_finding(numbers, says):
    assert intervals.reading(intervals.interval(numbers)).startswith(says)


def test_a_sweep_says_where_seeds_are_too_few():
    table = {"member": [0, 1, 2, 3, 4], "seed": [0, 1, 0, 1, 2], "lr": [0.1, 0.1, 0.2, 0.2, 0.2], "step": [1] * 5}
    result = SweepResult(table | {"loss": [1.0, 2.0, 3.0, 4.0, 5.0]}, ["lr"], {}, {})
    text = printed(sweep_file.summary_table(result, "loss"))
    assert "1.500" in text
    assert "1.500 [" not in text
    assert "4.000 [" in text
    assert "(2 seeds: no interval)" in text
    comparison = sweep_file.comparison_table(result, "loss", "lr", 0.1)
    assert "(2 seeds: no interval)" in printed(comparison)
    assert comparison.rows[0][-1] == ""
