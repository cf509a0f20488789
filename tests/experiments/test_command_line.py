"""The command line itself: help, version, how long each command takes, and what it leaves behind."""

import platform
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
import torch
from places import ROOT

import funcbio
from funcbio import __main__ as command
from funcbio.experiments.commands import COMMANDS
from funcbio.experiments.datasets import packages
from funcbio.experiments.sweep_file import run as sweep_file
from funcbio.files._owner import owned


def test_without_arguments_the_help_is_shown(capsys):
    assert command.main([]) == 0
    without = capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out == without
    assert all(re.search(rf"^    {name}\b", without, re.MULTILINE) for name in COMMANDS)


def test_the_version_names_what_computes(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["--version"])
    assert left.value.code == 0
    python = platform.python_version()
    assert capsys.readouterr().out == f"funcbio {funcbio.__version__}, torch {torch.__version__}, Python {python}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_how_long_a_command_takes_in_lines_that_fit(name, capsys):
    takes = COMMANDS[name].takes
    assert takes
    command.main([])
    whole = " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    shown = capsys.readouterr().out
    own = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100
    assert takes in whole
    assert takes in own


def test_an_unknown_command_gives_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["trian"])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


SMALL = {
    "demo": ["--tasks", "10", "--seeds", "2"],
    "arena": ["--quick"],
    "compare": [],
    "each": [],
    "plasticity": [],
    "flatness": [],
    "invert": [],
    "grid": ["--quick"],
    "sweep": [str(ROOT / "docs" / "experiment.toml")],
}
"""Commands that write into a folder, with options that make them begin."""


def stopped(stop):
    def trained(*_, **__):
        raise stop

    return trained


@pytest.fixture
def at_training(monkeypatch):
    """Returns a function that lets every experiment raise something in the place of its first training."""
    places = {
        funcbio: "sweep",
        import_module("funcbio.experiments.compare.run"): "train_all",
        import_module("funcbio.experiments.plasticity.run"): "train_all",
        import_module("funcbio.experiments.flatness.run"): "train",
        import_module("funcbio.experiments.inversion.run"): "_train",
    }

    def end_with(stop):
        for module, function in places.items():
            monkeypatch.setattr(module, function, stopped(stop))

    return end_with


def test_every_command_with_a_folder_is_among_them():
    with_folder = {name for name, one in COMMANDS.items() if "--output" in one.options or "output" in settings_of(one)}
    assert with_folder == set(SMALL)


def settings_of(one):
    return one.settings.__dataclass_fields__ if one.settings else {}


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_in_which_another_run_works_is_refused_in_one_line(name, tmp_path, at_training, monkeypatch, capsys):
    at_training(AssertionError("it trains"))
    monkeypatch.setattr(sweep_file, "rehearse", lambda _: None)
    with ThreadPoolExecutor(1) as other, owned(tmp_path), pytest.raises(SystemExit) as left:
        other.submit(command.main, [name, *SMALL[name], "--output", str(tmp_path)]).result()
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"funcbio {name}: error: --output should be a folder in which no other run works; found")
    assert printed.count("\n") == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupt_before_anything_is_saved_leaves_nothing_and_says_so(name, tmp_path, at_training, capsys):
    at_training(KeyboardInterrupt())
    output = tmp_path / "new" / "inner"
    assert command.main([name, *SMALL[name], "--output", str(output)]) == 130
    assert capsys.readouterr().err == f"funcbio {name}: interrupted; nothing written\n"
    assert not [*tmp_path.iterdir()]


def test_a_refused_run_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["arena", "--finished", "--output", str(tmp_path / "new")])
    assert "--output should hold finished parts of these settings" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_what_was_there_before_is_kept(tmp_path, at_training, capsys):
    at_training(KeyboardInterrupt())
    (tmp_path / "empty").mkdir()
    assert command.main(["compare", "--output", str(tmp_path)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("name", ["compare", "arena"])
def test_what_a_mistake_of_the_library_raises_is_no_message(name, tmp_path, at_training):
    """It is shown with its traceback, unlike what the library says of what it was given."""
    at_training(ValueError("not of the library"))
    with pytest.raises(ValueError, match="not of the library"):
        command.main([name, *SMALL[name], "--output", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "--lr-plain", "0"], "--lr-plain should be a number > 0; found 0"),
        (["arena", "--tuning-seeds", "0"], "--tuning-seeds should be an integer from 1"),
        (["compile", "gradient"], "methods should be names of methods"),
        (["sweep", "nothing.toml"], "experiment should be a TOML file"),
        (["grid", "--data", "mnist", "--folder", "data", "--no-check"], "'data' should hold mnist"),
    ],
)
def test_a_message_names_an_option_as_it_is_typed(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "DEBIAN", tmp_path)
    monkeypatch.setattr(packages, "MLXTEND", "funcbio-has-no-such-package")
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert f"error: {says}" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
