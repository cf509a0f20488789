"""The progress of a sweep: a bar in a terminal, and elsewhere nothing, or a line every half minute if asked for."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
import torch

import funcbio
from funcbio.experiments.frame.bar import bars
from funcbio.sweeps import _progress

CODE = """
import torch, funcbio
torch.set_num_threads(1)
x = torch.randn(16, 3)
funcbio.sweep(lambda: torch.nn.Linear(3, 1), torch.nn.functional.mse_loss, (x, x[:, :1]),
              steps=300, batch_size=8, lr=0.1, seeds=4, record_every=50)
"""


def test_a_terminal_shows_rate_loss_and_time_left():
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", CODE], stderr=follower, stdout=follower)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # The terminal is gone with the process.
        pass
    os.close(leader)
    assert process.wait() == 0
    last = shown.decode().replace("\r", "\n").strip().split("\n")[-1]
    assert "100%" in last
    assert "1.20k/1.20k" in last
    assert "member-steps/s, loss=" in last
    assert "<00:00" in last


def test_a_file_or_a_pipe_gets_nothing():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


BETWEEN = _progress.SECONDS_BETWEEN_LINES
"""As it is before tests change it."""


@pytest.fixture
def slow(monkeypatch):
    """A clock that moves on by ten seconds whenever it is read."""
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", BETWEEN)
    ticks = iter(range(0, 100_000, 10))
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


def swept(**options):
    x = torch.ones(16, 3)
    make = lambda: torch.nn.Linear(3, 1)
    return funcbio.sweep(make, torch.nn.functional.mse_loss, (x, x[:, :1]), batch_size=8, seeds=2, **options)


def test_a_log_gets_a_line_every_half_minute_if_asked_for(slow, capsys):
    swept(steps=10, progress=True, record_every=1)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 3  # In 110 seconds of that clock.
    assert lines[0].startswith("training: 4 of 20 member-steps (20%), loss ")
    assert lines[0].endswith(", 30 s passed, 2 min left")
    assert all("loss " in line for line in lines)


@pytest.mark.parametrize("progress", [None, False])
def test_a_log_gets_no_line_that_was_not_asked_for(slow, capsys, progress):
    swept(steps=10, progress=progress)
    assert capsys.readouterr() == ("", "")


def test_a_sweep_that_goes_on_counts_what_was_done_but_no_time_for_it(slow, capsys, tmp_path):
    swept(steps=9, progress=False, chunk=1, output=tmp_path)
    (tmp_path / "chunk-0001.done").unlink()
    swept(steps=9, progress=True, chunk=1, output=tmp_path)
    assert capsys.readouterr().err.splitlines()[0] == "training: 11 of 18 member-steps (61%), 30 s passed, 2 min left"


def test_a_bar_of_an_experiment_is_a_line_in_a_log(slow, capsys):
    with bars() as new_bar:
        tick = new_bar("tasks", 400)
        for _ in range(6):
            tick(50)
    assert capsys.readouterr().err == (
        "tasks: 150 of 400 (38%), 30 s passed, 50 s left\ntasks: 300 of 400 (75%), 60 s passed, 20 s left\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (180_000, "50.0 h")],
)
def test_times_are_spelled_in_the_largest_unit_that_fits(seconds, text):
    assert _progress.spell_seconds(seconds) == text


def test_a_notebook_keeps_the_bar(monkeypatch):
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    assert _progress.is_live()
