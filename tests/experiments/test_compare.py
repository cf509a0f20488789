"""The comparison on the command line: its files, its numbers, its randomness and its refusals."""

import json
import math
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import vmap

import funcbio
import funcbio.__main__ as command
from funcbio.experiments import commands
from funcbio.experiments.compare import classic, functional, tables, tune
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import digits, validation
from funcbio.experiments.frame import files, intervals
from funcbio.experiments.frame.settings import SettingError

TINY = ["--seeds", "2", "--loop-seeds", "2", "--epochs", "2", "--batch-size", "256", "--hidden", "8"]


def nothing():
    pass


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.fixture
def finished(tmp_path, capsys):
    code = command.main(["compare", *TINY, "--output", str(tmp_path / "new")])
    return code, tmp_path / "new", capsys.readouterr()


def test_tiny_run_writes_consistent_files(finished):
    code, output, printed = finished
    assert code == 0
    assert sorted(path.name for path in output.iterdir()) == ["compare.png", "results.json"]
    assert (output / "compare.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((output / "results.json").read_text())
    assert [(run["interface"], run["variant"]) for run in results["runs"]] == [
        (interface, variant) for interface in ("functional", "classic") for variant in ("plain", "bio")
    ]
    assert results["versions"]["funcbio"] == funcbio.__version__
    assert results["settings"]["hidden"] == 8
    for run in results["runs"]:
        assert [len(run[name]) for name in ("seeds", "test_accuracy", "train_loss", "epochs_to_goal")] == [2] * 4
        assert all(len(row) == 2 and all(0 <= number <= 1 for number in row) for row in run["test_accuracy"])
        final = [row[-1] for row in run["test_accuracy"]]
        assert run["final"]["mean"] == pytest.approx(sum(final) / 2)
        assert f"{100 * sum(final) / 2:.1f}" in printed.out
    for interface, (plain, bio) in {"functional": results["runs"][:2], "classic": results["runs"][2:]}.items():
        assert results["bio_minus_plain"][interface]["mean"] == pytest.approx(
            bio["final"]["mean"] - plain["final"]["mean"]
        )
        assert sum(bio["rate_factors"]["share"]["start"]) == pytest.approx(1.0)
        assert "rate_factors" not in plain
    assert str(output) in printed.out


def test_quiet_when_not_a_terminal(finished):
    _, _, printed = finished
    assert printed.err == ""
    assert "\x1b" not in printed.out
    assert "functional" in printed.out


@pytest.mark.parametrize("variant", ["plain", "bio"])
def test_member_of_vmapped_run_equals_run_alone(data, variant):
    settings = Settings(epochs=2, batch_size=256, hidden=16, rejuvenate_every=1)
    together, params = functional.train(settings, data, variant, [3, 4, 5], torch.full((3,), 1.0), nothing)
    alone, lone = functional.train(settings, data, variant, [4], torch.full((1,), 1.0), nothing)
    for name, weight in lone.items():
        torch.testing.assert_close(params[name][1], weight[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.train_loss[1], alone.train_loss[0])


def test_start_and_batches_are_the_same_for_both_variants_and_under_vmap(data):
    settings = Settings(hidden=16)
    plain, bio = (functional.make_run(settings, data, variant) for variant in ("plain", "bio"))
    params, _ = vmap(plain.begin)(vmap(funcbio.key)(torch.tensor([3, 4])))
    orders = vmap(plain.shuffle, in_dims=(0, None))(vmap(funcbio.key)(torch.tensor([3, 4])), 7)
    for name, weight in bio.begin(funcbio.key(4))[0].items():
        assert torch.equal(params[name][1], weight)
    assert torch.equal(orders[1], bio.shuffle(funcbio.key(4), 7))
    assert torch.equal(orders[1].sort().values, torch.arange(len(data.train_x)))
    assert not torch.equal(orders[1], bio.shuffle(funcbio.key(4), 8))


def test_plain_run_is_gradient_descent(data):
    """The vmapped plain run against a loop of torch alone, from the same start and batches."""
    settings = Settings(epochs=1, batch_size=256, hidden=16, lr_plain=0.5)
    run = functional.make_run(settings, data, "plain")
    _, trained = functional.train(settings, data, "plain", [0, 1], torch.full((2,), 0.5), nothing)
    key = funcbio.key(1)
    run.net.load_state_dict(run.begin(key)[0])
    optimizer = torch.optim.SGD(run.net.parameters(), lr=0.5)
    classic.train_epoch(run.net, optimizer, settings, data, run.shuffle(key, 0), bio=False)
    for name, weight in run.net.named_parameters():
        torch.testing.assert_close(trained[name][1], weight.detach(), rtol=1e-5, atol=1e-5)


def test_classic_variants_start_alike_and_repeat(data, monkeypatch):
    settings, seen = Settings(epochs=1, batch_size=512, hidden=8), []

    def record(model, _, __, ___, order, **____):
        seen.append((model.hidden.weight.detach().clone(), order))
        return torch.zeros(())

    repeat = [classic.train_one(settings, data, "bio", 1, nothing).test_accuracy for _ in range(2)]
    assert torch.equal(*repeat)
    monkeypatch.setattr(classic, "train_epoch", record)
    for variant in ("plain", "bio"):
        classic.train_one(settings, data, variant, 1, nothing)
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("distribution", list(funcbio.Distribution))
def test_every_distribution_runs_in_both_loops(data, distribution):
    settings = Settings(epochs=1, batch_size=700, hidden=4, distribution=distribution.value)
    found = [
        functional.train(settings, data, "bio", [0, 1], torch.ones(2), nothing)[0],
        classic.train(settings, data, "bio", [0, 1], nothing),
    ]
    for history in found:
        assert history.rate_end.shape == (2 * (64 * 4 + 4 * 10),)
        assert history.train_loss.isfinite().all()


def test_parts_are_stratified_and_apart(data):
    assert len(data.train_x) + len(data.test_x) == 1797
    assert float(data.train_x.min()) == 0.0
    assert float(data.train_x.max()) == 1.0
    share = torch.bincount(data.test_y) / len(data.test_y) - torch.bincount(data.train_y) / len(data.train_y)
    assert share.abs().max() < 0.005
    rows = {tuple(row) for row in data.train_x.tolist()}
    assert all(tuple(row) in rows for row in validation(data).test_x.tolist())


def test_interval_of_known_numbers():
    # Student's t at 0.975 with 4 degrees of freedom is 2.776445; the standard error of 1 .. 5 is 0.707107.
    found = intervals.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found == pytest.approx((3.0, 3.0 - 1.963243, 3.0 + 1.963243), abs=1e-5)
    assert math.isnan(intervals.interval([2.0]).low)
    assert math.isnan(intervals.interval([]).mean)
    assert intervals.interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_reading_of_a_difference():
    same = intervals.paired([0.9, 0.8, 0.7], [0.8, 0.9, 0.7])
    assert intervals.reading(same) == "no difference that these seeds can show"
    assert "more accurate" in intervals.reading(intervals.Interval(0.2, 0.1, 0.3))
    assert "less accurate" in intervals.reading(intervals.Interval(-0.2, -0.3, -0.1))


def test_runs_that_never_reach_the_goal_are_counted():
    assert tables.spell_goal([3, None, 5, None, 4]) == "4.0 [1.5, 6.5]\n3 of 5 reached"
    assert tables.spell_goal([None, None]) == "never\n0 of 2 reached"


def test_tune_prints_the_search_and_chooses_the_best(data, monkeypatch, capsys):
    monkeypatch.setattr(tune, "GRIDS", {"plain": (0.001, 0.3), "bio": (0.001, 1.0)})
    monkeypatch.setattr(tune, "SEEDS", range(1000, 1002))
    assert command.main(["compare", *TINY, "--tune"]) == 0
    printed = capsys.readouterr()
    assert "--lr-plain 0.3 --lr-bio 1" in printed.out
    assert printed.err == ""
    rows = tune.search(Settings(epochs=1, hidden=8, batch_size=256), data, nothing)
    assert [row.chosen for row in rows] == [False, True, False, True]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--seeds", "1"], "seeds should be an integer from 2 to 1000; found 1"),
        (["--loop-seeds", "2.5"], "--loop-seeds should be"),
        (["--epochs", "0"], "epochs should be"),
        (["--epochs", "many"], "found 'many'"),
        (["--batch-size", "1500"], "--batch-size should be at most 1437"),
        (["--batch-size", "1400", "--tune"], "--batch-size should be at most 1149"),
        (["--hidden", "-3"], "hidden should be"),
        (["--lr-plain", "0"], "--lr-plain should be a number > 0; found 0"),
        (["--lr-bio", "nan"], "--lr-bio should be"),
        (["--lr-bio", "inf"], "--lr-bio should be"),
        (["--distribution", "cauchy"], "distribution should be one of baseline"),
        (["--threads", "-1"], "threads should be"),
        (["--output", __file__], "output should be a directory"),
        (["--output", __file__ + "/below"], "output should be a directory"),
        (["--seeds"], "expected one argument"),
        (["--sedes", "3"], "--sedes"),
        (["extra"], "extra"),
    ],
)
def test_bad_option_gives_one_line_and_exit_code_2(options, names, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["compare", *options])
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("funcbio")
    assert names in printed.err


def test_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(commands, "find_spec", lambda module: None if module == "sklearn" else module)
    with pytest.raises(SystemExit) as left:
        command.main(["compare"])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "scikit-learn" in printed
    assert "pip install '.[experiments]'" in printed


def test_help_explains_every_option_and_default(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["compare", "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert printed.count("(default:") == printed.count("\n  --") == len(fields(Settings)) + 1


def test_library_and_command_line_import_no_extras():
    code = "import sys, funcbio.__main__; from funcbio.experiments.commands import EXTRAS as e; "
    code += "print(sorted(set(e) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_crash_leaves_no_half_file(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"loss": math.nan, "rows": [1.5]})

    def crash(file):
        file.write(b"half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        files.write_aside(path, crash)
    assert [item.name for item in tmp_path.iterdir()] == ["results.json"]
    assert json.loads(path.read_text()) == {"loss": None, "rows": [1.5]}


def test_settings_are_checked_without_the_command_line():
    with pytest.raises(SettingError, match="epochs should be an integer"):
        Settings(epochs=True)
