"""The command line itself: help, version, and how long each command takes."""

import platform
import re

import pytest
import torch

import funcbio
from funcbio import __main__ as command
from funcbio.experiments.commands import COMMANDS

WITHOUT_TIME = {"sweep"}
"""Commands that take as long as what they are given."""


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
def test_the_help_says_how_long_a_command_takes(name, capsys):
    takes = COMMANDS[name].takes
    assert bool(takes) != (name in WITHOUT_TIME)
    command.main([])
    whole = " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    own = " ".join(capsys.readouterr().out.split())
    assert takes in whole
    assert takes in own


def test_an_unknown_command_gives_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["trian"])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
