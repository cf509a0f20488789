"""Progress bars: on a terminal, below a notebook's cell, and nowhere else. Jupyter itself is not needed."""

import builtins
import io
import sys
import types

import pytest

from funcbio.experiments.frame import cell
from funcbio.experiments.frame.bar import bars


class Place:
    """What ``display`` returns: one place that is drawn anew."""

    def __init__(self, content):
        self.shown = [content["text/plain"]]

    def update(self, content, *, raw):
        assert raw
        self.shown.append(content["text/plain"])


@pytest.fixture
def notebook(monkeypatch):
    """Returns a function that begins a notebook; pytest sets its own stream after fixtures are made."""
    return lambda: begin_notebook(monkeypatch)


def begin_notebook(monkeypatch):
    """Puts the stream of Jupyter's kernel, and what shows contents below a cell, in their places."""
    found = []

    def display(content, *, raw, display_id):
        assert raw
        assert display_id is True
        found.append(Place(content))
        return found[-1]

    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr(cell, "SECONDS", 0.0)
    return found


def ticks(count):
    with bars() as begin:
        tick = begin("methods", count)
        for _ in range(count):
            tick()


def test_a_notebook_shows_bars_in_one_place(notebook):
    places = notebook()
    ticks(4)
    (place,) = places
    assert [text.split("%")[0].split()[-1] for text in place.shown] == ["0", "25", "50", "75", "100", "100"]
    assert all(text.startswith("methods ") and "\n" not in text for text in place.shown)
    assert sys.stderr.getvalue() == ""


def test_bars_that_follow_one_another_stand_below_one_another(notebook):
    places = notebook()
    with bars() as begin:
        begin("training", 2)(2)
        begin("attacks", 4)(1)
    assert [line.split()[0] for line in places[0].shown[-1].splitlines()] == ["training", "attacks"]


def test_a_notebook_is_not_drawn_at_every_step(notebook, monkeypatch):
    places = notebook()
    monkeypatch.setattr(cell, "SECONDS", 1000.0)
    ticks(50)
    assert len(places[0].shown) == 2
    assert "100 %" in places[0].shown[-1]


def test_what_is_neither_a_terminal_nor_a_notebook_shows_nothing(monkeypatch, capsys):
    ticks(3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_bars(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    ticks(2)
    assert "methods" in stream.getvalue()
    assert "100 %" in stream.getvalue()
