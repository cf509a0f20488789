"""The option ``--only``: the named methods and tasks run, with what they are compared with, and nothing else."""

import json

import pytest

from funcbio import __main__ as command
from funcbio.experiments.arena.methods import PLAIN
from funcbio.experiments.arena.settings import Settings
from funcbio.experiments.each import protocol
from funcbio.experiments.frame.only import chosen, folder_name
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.plasticity.tuning import combinations

GROUPS = {"tasks": ["pixels", "labels"], "methods": ["plain", "decay", "LayerNorm, decay"]}


@pytest.mark.parametrize(
    ("only", "tasks", "methods"),
    [
        (None, GROUPS["tasks"], GROUPS["methods"]),
        (["labels"], ["labels"], GROUPS["methods"]),
        (["decay"], GROUPS["tasks"], ["plain", "decay"]),
        (["LayerNorm, decay", "labels", "pixels", "decay"], GROUPS["tasks"], GROUPS["methods"]),
    ],
)
def test_a_group_of_which_none_is_named_is_whole(only, tasks, methods):
    assert chosen(only, GROUPS, ["plain"]) == {"tasks": tasks, "methods": methods}


@pytest.mark.parametrize(
    ("name", "first"),
    [("pixel", "'pixels', "), ("Plain", "'plain', "), ("layernorm, decay", "'LayerNorm, decay', "), ("foo", "'")],
)
def test_an_unknown_name_is_refused_with_the_nearest_first(name, first):
    with pytest.raises(SettingError) as error:
        chosen([name], GROUPS)
    assert f"{error.value}".startswith(f"only should be some of {first}")
    assert f"{error.value}".endswith(f"; found {name!r}")
    assert all(repr(one) in f"{error.value}" for group in GROUPS.values() for one in group)


@pytest.mark.parametrize(("name", "first"), [("Adam", "adam"), ("layernorm", "LayerNorm"), ("foo", "")])
def test_the_arena_lists_ten_of_its_names(name, first):
    with pytest.raises(
        SettingError, match=rf"only should be some of '{first}.* and \d\d more; found '{name}'"
    ) as error:
        Settings().only([name])
    assert f"{error.value}".count("'") == 2 * 11


def test_every_choice_has_its_own_folder():
    names = ["plain", "decay", "redo"]
    assert folder_name("adam", names, names) == "adam"
    others = {folder_name("adam", some, names) for some in (names[:1], names[:2], names[1:])}
    assert len(others) == 3
    assert all(name.startswith("adam-") for name in others)


def test_the_arena_takes_names_of_all_groups():
    some = Settings().only(["labels", "sgd", "ReDo"])
    assert (some.tasks, some.optimizers) == ("labels", "sgd")
    assert some.chosen("methods", [PLAIN, "ReDo", "decay"]) == [PLAIN, "ReDo"]
    assert Settings().only(None) == Settings()
    assert Settings().only(["labels"]).quick().methods == Settings().quick().methods
    with pytest.raises(SettingError, match="only should be given without methods; found both"):
        Settings(methods="plain").only(["labels"])


def test_plasticity_keeps_what_a_method_is_compared_with():
    some = [*combinations(["shuffled", "adam", "rejuvenation, L2 to the start"])]
    assert {(tasks, optimizer) for tasks, optimizer, _ in some} == {("shuffled", "adam")}
    assert [method.name for *_, method in some] == ["plain", "L2 to the start", "rejuvenation, L2 to the start"]
    assert len([*combinations()]) > 30


TINY = {
    "each": ["--seeds", "2", "--tuning-seeds", "1", "--steps", "4", "--hidden", "8", "--only", "adam", "fuzzy rates"],
    "grid": ["--quick", "--batch-size", "300", "--only", "paper", "fuzzy"],
}


@pytest.mark.filterwarnings("ignore:rejuvenate_weights should act by step 4")
def test_each_trains_some_mechanisms_by_one_optimizer(tmp_path, capsys):
    assert command.main(["each", *TINY["each"], "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert "sgd" not in results
    assert [row["mechanism"] for row in results["adam"]] == [protocol.PLAIN, "fuzzy rates"]
    assert (tmp_path / "each.svg").exists()
    shown = capsys.readouterr().out
    assert "SGD" not in shown
    assert "Mean (2 seeds: no interval)" in shown
    assert results["adam"][1]["q"] is None
    assert "nan" not in shown
    # The folder takes another choice too.
    assert command.main(["each", *TINY["each"][:-1], "rejuvenation", "--output", str(tmp_path)]) == 0


def test_a_grid_of_one_protocol_and_two_cells_is_whole(tmp_path, capsys):
    assert command.main(["grid", *TINY["grid"], "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert "tuned" not in results
    assert [row["cell"] for row in results["paper"]["cells"]] == ["plain", "fuzzy"]
    assert "Tuned" not in (tmp_path / "tables.md").read_text()
    assert all((tmp_path / name).exists() for name in ("curves.svg", "effects.svg"))
    shown = capsys.readouterr().out
    assert "1 of 1: the paper's protocol" in shown
    assert "(2 seeds: no interval)" in shown
    assert results["paper"]["cells"][1]["epochs"]["difference"]["q"] is None


@pytest.mark.parametrize("name", ["arena", "each", "grid", "plasticity"])
def test_an_unknown_name_gives_one_line_before_anything_is_made(name, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main([name, "--output", str(tmp_path / "new"), "--only", "nothing of the kind"])
    assert "only should be some of " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
