"""The paper's grid: what it measures, what it compares, and what it writes."""

import json
import math

import numpy as np
import pytest
import torch
from places import DOCS
from scipy import stats
from torch import nn
from torch.nn import functional as F

import funcbio
import funcbio.__main__ as command
from funcbio import BioConfig, SweepResult
from funcbio.experiments.datasets import load, packages
from funcbio.experiments.datasets.published import PUBLISHED
from funcbio.experiments.frame.results import numbers_of
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.grid import measures, tables
from funcbio.experiments.grid.protocol import MECHANISMS, TUNING_LRS, cells, chosen, folds_of, name_of, validation_of
from funcbio.experiments.grid.run import draw
from funcbio.experiments.grid.settings import DATA, NETS, GridSettings
from funcbio.experiments.networks import NETWORKS

FILES = ["curves.svg", "effects.svg", "paper", "results.json", "tables.md", "tune", "tuned"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("grid") / "new"
    torch.set_num_threads(1)
    code = command.main(["grid", "--quick", "--batch-size", "300", "--output", str(output)])
    assert code == 0
    return output, json.loads((output / "results.json").read_text())


def test_a_quick_run_writes_consistent_files(finished):
    output, results = finished
    assert sorted(path.name for path in output.iterdir()) == FILES
    assert results["settings"]["batch_size"] == 300
    assert results["versions"]["torch"] == torch.__version__
    names = [name_of(cell) for cell in cells(GridSettings())]
    for protocol in ("paper", "tuned"):
        rows = results[protocol]["cells"]
        assert [row["cell"] for row in rows] == names
        assert [row["runs"] for row in rows] == [4] * 8
        plain = rows[0]["accuracy"]["seeds"]
        for row in rows:
            assert row["accuracy"]["mean"] == pytest.approx(sum(row["accuracy"]["seeds"]) / 2)
        for row in rows[1:]:
            differences = np.subtract(row["accuracy"]["seeds"], plain)
            assert row["accuracy"]["difference"]["mean"] == pytest.approx(differences.mean(), abs=1e-9)
            assert f"{row['accuracy']['mean']:.2f}" in (output / "tables.md").read_text()


def test_the_numbers_are_those_of_the_sweeps_tables(finished):
    output, results = finished
    lines = [line.split(",") for line in (output / "paper" / "table.csv").read_text().splitlines()]
    table = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    last = max(int(row["step"]) for row in table)
    for row in results["paper"]["cells"]:
        own = [
            100 * float(line["test_accuracy"])
            for line in table
            if (int(line["weight_splitting_Gamma"]), line["mechanisms"], int(line["step"]))
            == (row["gamma"], row["mechanisms"], last)
        ]
        assert len(own) == 4
        assert row["accuracy"]["mean"] == pytest.approx(sum(own) / 4)


def test_a_finished_grid_goes_on_from_its_folder_and_refuses_another(finished, capsys):
    output, results = finished
    before = (output / "results.json").read_bytes()
    arguments = ["grid", "--quick", "--batch-size", "300", "--output", str(output)]
    assert command.main(arguments) == 0
    again = json.loads((output / "results.json").read_text())
    assert again["paper"]["cells"] == results["paper"]["cells"]
    assert json.loads(before)["tuned"] == again["tuned"]
    with pytest.raises(SystemExit):
        command.main([*arguments, "--lr", "0.5"])
    assert "output should be a new folder, or that of the same sweep" in capsys.readouterr().err


def test_a_results_file_is_drawn_again_beside_itself(finished, tmp_path, capsys):
    output, _ = finished
    copy = tmp_path / "mine.json"
    copy.write_bytes((output / "results.json").read_bytes())
    assert command.main(["grid", "--draw", str(copy)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine-curves.svg",
        "mine-effects.svg",
        "mine-tables.md",
        "mine.json",
    ]
    assert (tmp_path / "mine-tables.md").read_bytes() == (output / "tables.md").read_bytes()
    copy.write_text("{}")
    with pytest.raises(SettingError, match="draw should be a results file of the grid"):
        draw(copy)


def test_the_results_of_the_pages_are_of_the_settings_that_they_name():
    def settings(name):
        return json.loads((DOCS / "assets" / name).read_text())["settings"]

    assert settings("grid.json") == numbers_of(GridSettings())
    small = GridSettings(data="fashion-mnist", seeds=4, folds=2, epochs=8, epochs_tuned=2, goal=0.8)
    assert settings("grid-fashion.json") == numbers_of(small)


def table_of(accuracy, loss, train):
    """A sweep's result with given curves, shape ``(cells, folds, seeds, epochs)``."""
    count, epochs = math.prod(accuracy.shape[:3]), accuracy.shape[3]
    member = [number for number in range(count) for _ in range(epochs)]
    steps = list(range(1, epochs + 1)) * count
    columns = {"train_loss": train, "test_loss": loss, "test_accuracy": accuracy}
    columns = {name: values.reshape(-1).tolist() for name, values in columns.items()}
    return SweepResult({"member": member, "seed": member, "step": steps, **columns}, (), {}, {})


def test_measures_are_what_they_say():
    accuracy = np.array([[[[0.5, 0.9, 0.8]]], [[[0.1, 0.2, 0.3]]]])
    loss, train = np.full((2, 1, 1, 3), 2.0), np.full((2, 1, 1, 3), 0.5)
    found = measures.measure(table_of(accuracy, loss, train), 2, 1, 0.9)
    assert found["accuracy"].ravel().tolist() == pytest.approx([80.0, 30.0])
    assert found["epochs"].ravel().tolist() == [2.0, 3.0]
    assert found["reached"].ravel().tolist() == [1.0, 0.0]
    assert found["gap"].ravel().tolist() == [1.5, 1.5]
    assert found["area"].ravel().tolist() == pytest.approx([220 / 3, 20.0])


def test_cells_are_compared_by_seeds_and_by_folds():
    generator = np.random.default_rng(0)
    shape = 3, 5, 10
    values = generator.normal(size=shape) + np.array([0.0, 0.5, 0.0])[:, None, None]
    measured = dict.fromkeys(measures.MEASURES, values) | {"reached": np.ones(shape)}
    rows = measures.summarise(measured, [(0, "none"), (0, "fuzzy"), (2, "none")], 1 / 9)
    seeds = values.mean(1)
    tests = [stats.ttest_rel(seeds[index], seeds[0]).pvalue for index in (1, 2)]
    found = [row["loss"]["difference"] for row in rows[1:]]
    assert [item["p"] for item in found] == pytest.approx(tests)
    assert [item["q"] for item in found] == pytest.approx(stats.false_discovery_control(tests).tolist())
    folds = (values[1] - values[0]).mean(1)
    t = folds.mean() / math.sqrt(folds.var(ddof=1) * (1 / 5 + 1 / 9))
    assert found[0]["p_folds"] == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert found[0]["p_folds"] > stats.ttest_1samp(folds, 0.0).pvalue


def compared(differences):
    """A cell that differs from the plain one by numbers of shape ``(folds, seeds)``, in every measure."""
    values = np.stack([np.full(differences.shape, 0.1), 0.1 + differences])
    measured = dict.fromkeys(measures.MEASURES, values) | {"reached": np.ones(values.shape)}
    rows = measures.summarise(measured, [(0, "none"), (0, "fuzzy")], 1 / 9)
    settings = {name: getattr(GridSettings(), name) for name in GridSettings.__dataclass_fields__}
    table = tables.difference_table({"settings": settings, "paper": {"cells": rows}}, "paper")
    return rows[1]["loss"]["difference"], table


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("size", [0.5, 0.1, -2 / 3])
def test_differences_that_are_all_the_same_get_no_star(seeds, size):
    """Of no spread Student's test would be sure; rounding is no spread."""
    rounding = np.linspace(-1e-15, 1e-15, 2 * seeds).reshape(2, seeds)
    for differences in (np.full((2, seeds), size), size + rounding):
        found, table = compared(differences)
        assert all(math.isnan(found[name]) for name in ("p", "q", "p_folds"))
        assert "*" not in "".join(table.rows[0])


def test_two_seeds_get_no_star_however_far_they_are_from_zero():
    found, table = compared(np.array([[1.0, 1.001], [1.002, 1.003]]))
    assert math.isnan(found["p"])
    assert math.isnan(found["q"])
    assert "*" not in "".join(table.rows[0])
    found, table = compared(np.array([[1.0, 1.001, 1.002], [1.002, 1.003, 1.004]]))
    assert all(cell.endswith(" **") for cell in table.rows[0][1:])
    assert "*: q < 0.05 over seeds; **: p < 0.05 over folds, too" in table.style["caption"]


def test_cells_that_are_the_same_do_not_differ():
    found, _ = compared(np.zeros((2, 4)))
    assert [found[name] for name in ("p", "q", "p_folds")] == [1.0] * 3


def test_runs_that_diverge_are_counted_and_named():
    values = np.ones((2, 2, 2))
    values[1, 0, 0] = np.nan
    measured = dict.fromkeys(measures.MEASURES, values) | {"reached": np.ones((2, 2, 2))}
    rows = measures.summarise(measured, [(0, "none"), (0, "fuzzy")], 0.1)
    assert [row["diverged"] for row in rows] == [0, 1]
    assert math.isnan(rows[1]["loss"]["mean"])
    assert math.isnan(rows[1]["loss"]["difference"]["q"])


def test_the_best_rate_is_chosen_and_of_equal_ones_the_smallest():
    rows = [(cell, lr) for cell in cells(GridSettings()) for lr in TUNING_LRS]
    scores = [0.5 + (lr in (0.03, 0.1)) * 0.25 - 0.1 * (lr == 0.1 and cell == (2, "none")) for cell, lr in rows]
    table = {"member": list(range(len(rows))), "seed": [1] * len(rows)}
    table |= {"weight_splitting_Gamma": [c[0] for c, _ in rows], "mechanisms": [c[1] for c, _ in rows]}
    table |= {"lr": [lr for _, lr in rows], "step": [9] * len(rows), "test_accuracy": scores}
    found = chosen(SweepResult(table, ("weight_splitting_Gamma", "mechanisms", "lr"), {}, {}), GridSettings())
    assert {next(iter(rates)) for rates in found.values()} == {0.03}


def test_rates_are_chosen_without_the_images_that_the_grid_is_measured_on():
    folds = folds_of(load(), GridSettings())
    assert [len(folds), len(folds[0][0]), len(folds[0][1])] == [5, 1617, 180]
    for (train, held_out), (learned, measured) in zip(folds, validation_of(folds), strict=True):
        assert not set(held_out) & (set(learned) | set(measured))
        assert sorted([*learned, *measured]) == sorted(train)


def test_mechanisms_act_as_in_the_paper_before_the_optimizer():
    for rules in MECHANISMS.values():
        assert [rule.where for rule in rules] == ["gradient"] * len(rules)
        assert [rule.every for rule in rules] == [1] * len(rules)
    assert [rule.feature for rule in MECHANISMS["fuzzy + rejuvenation"]] == [
        "fuzzy_learning_rates",
        "rejuvenate_weights",
    ]


@pytest.mark.slow
def test_the_step_of_the_paper_compiles():
    """Without a warning: they are errors here."""
    net = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    config = BioConfig(rejuvenation_variant="uniform")
    found = [
        funcbio.sweep(
            net, F.cross_entropy, (torch.ones(32, 6), torch.arange(32) % 3), steps=3, batch_size=8, lr=0.1, seeds=2,
            mechanisms=MECHANISMS["fuzzy + rejuvenation"], config=config, compile=compile,
        )
        for compile in (False, True)
    ]  # fmt: skip
    assert found[1].table["train_loss"] == pytest.approx(found[0].table["train_loss"], rel=1e-4)


def test_names_are_those_of_data_sets_and_networks():
    from funcbio.experiments.datasets import NAMES

    assert DATA == NAMES
    assert tuple(NETWORKS) == NETS


BAD = [
    ("--net", "vgg", "net should be one of fcnet"),
    ("--data", "svhn", "data should be one of digits"),
    ("--folds", "1", "folds should be an integer from 2"),
    ("--goal", "1.5", r"goal should be a number in (0, 1)"),
    ("--momentum", "1", r"momentum should be a number in [0, 1)"),
    ("--gamma", "1", "gamma should be an integer from 2"),
    ("--batch-size", "2000", "--batch-size should be at most"),
    ("--lr", "0", "lr should be a number > 0"),
]


@pytest.mark.parametrize(("option", "value", "says"), BAD)
def test_a_bad_setting_is_one_line(option, value, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        command.main(["grid", "--output", str(tmp_path / "new"), option, value])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "mnist-5k"])
def test_a_data_set_that_is_not_there_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(packages, "DEBIAN", tmp_path)
    monkeypatch.setattr(packages, "MLXTEND", "funcbio-has-no-such-package")
    with pytest.raises(SystemExit):
        command.main(["grid", "--data", name, "--folder", str(tmp_path), "--output", str(tmp_path / "new")])
    printed = capsys.readouterr().err
    assert f"should hold {name}; found none of" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "mnist-5k"])
def test_fcnet_has_its_size_of_mnist_for_all_images_like_it(name):
    net = NETWORKS[GridSettings(data=name).net](PUBLISHED[name].shape, PUBLISHED[name].classes)
    assert [tuple(parameter.shape) for parameter in net.parameters()] == [(1000, 784), (1000,), (10, 1000), (10,)]
