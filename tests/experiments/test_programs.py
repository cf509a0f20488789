"""Programs made ahead on the command line: which ones there are, and what is said about them."""

import os
import time

import pytest
import torch

from funcbio import __main__ as command
from funcbio.engine import _packages as packages
from funcbio.engine import _store as store
from funcbio.engine._packages import about
from funcbio.experiments.programs import run
from funcbio.experiments.programs.needed import NAMES, needed

KINDS = {
    "bio_step": ["rules and statistics", "rules and statistics", "rules", "statistics", "rules", "rules"],
    "crystallize": ["rules and statistics", "statistics", "rules"],
    "volume_dependent_lr": ["rules"],
    "fuzzy_learning_rates": [],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def made(folder, monkeypatch):
    """What was made; in place of compiling, files are put there that only look like packages."""
    programs = []

    def build(program, device, path):
        programs.append(program)
        path.write_text("a package")

    monkeypatch.setattr(packages, "build", build)
    monkeypatch.setattr(packages, "open_package", lambda path: None)
    return programs


@pytest.mark.parametrize("name", KINDS)
def test_needed_programs_are_found_by_running_methods(name):
    before = torch.get_rng_state()
    assert [about(program)["kind"] for program in needed([name], [torch.float32])] == KINDS[name]
    assert torch.get_rng_state().equal(before)


def test_a_program_is_needed_once():
    both = [torch.float32, torch.bfloat16]
    programs = needed(["bio_step", "crystallize"], both)
    assert len(programs) == len({*programs}) == 2 * len(KINDS["bio_step"])
    assert {*programs} == {*needed(["crystallize", "bio_step"], both[::-1])}
    assert {about(program)["types"][0] for program in programs} == {"float32", "bfloat16"}
    assert {program.types[0] for program in needed(NAMES, [torch.float32])} == {torch.float32}


def test_programs_are_made_listed_and_removed(made, folder, capsys):
    assert command.main(["compile", "crystallize", "--dtype", "float32"]) == 0
    assert f"3 programs made, 0 were there, in {folder}" in capsys.readouterr().out
    assert command.main(["compile", "crystallize", "volume_dependent_lr", "--dtype", "float32", "float64"]) == 0
    assert f"5 programs made, 3 were there, in {folder}" in capsys.readouterr().out
    assert len({*made}) == len(made) == 8

    oldest = min(folder.glob("*.pt2"))
    os.utime(oldest, (0, time.time() - 3 * 86_400))
    oldest.with_suffix(".json").write_text("")
    assert command.main(["compile", "--list"]) == 0
    out = capsys.readouterr().out
    assert f"8 programs in {folder}" in out
    assert "scale_by_volume" in out
    assert "float64" in out
    line = next(line for line in out.splitlines() if oldest.stem in line)
    assert "damaged" in line
    assert "3 days" in line

    assert command.main(["compile", "--clear"]) == 0
    assert f"8 programs removed from {folder}" in capsys.readouterr().out
    assert [*folder.iterdir()] == []


def refused(arguments, names, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["compile", *arguments])
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert names in message
    assert message.startswith("funcbio compile: error: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["cristallize"], "methods should be names of methods, perhaps crystallize; found 'cristallize'"),
        (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--list", "--clear"], "given one without the others"),
        (["crystallize", "--clear"], "given one without the others"),
    ],
)
def test_bad_options_are_refused(arguments, names, made, capsys):
    refused(arguments, names, capsys)
    assert made == []


def test_what_stands_in_the_way_is_one_line(made, folder, monkeypatch, capsys):
    def build(*_):
        raise RuntimeError("No working C++ compiler found\nin many lines")

    with monkeypatch.context() as patch:
        patch.setattr(packages, "build", build)
        refused(["crystallize"], "No working C++ compiler found", capsys)
    with monkeypatch.context() as patch:
        patch.setattr(run, "is_kept", lambda *_: False)
        refused(["crystallize"], f"{folder} should take a program; found that it did not", capsys)
    folder.chmod(0o777)
    refused(["crystallize"], f"{folder} should be one that only its owner can write to", capsys)


def test_an_interrupt_keeps_what_was_made(made, folder, monkeypatch, capsys):
    copied = packages.build

    def build(program, *others):
        if made:
            raise KeyboardInterrupt
        copied(program, *others)

    monkeypatch.setattr(packages, "build", build)
    assert command.main(["compile", "crystallize"]) == 130
    assert "interrupted; the programs that were made are kept" in capsys.readouterr().err
    assert len([*folder.glob("*.pt2")]) == 1
