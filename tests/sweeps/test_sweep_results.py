"""What a sweep gives back: exact tables, files that lose nothing, statistics that hold, figures that show it all."""

import csv
import doctest
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch
from conftest import doctest_names
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from safetensors.torch import load_file
from scipy import stats
from torch.nn import BatchNorm1d, Linear, Sequential

from funcbio import _seeds as statistics
from funcbio.plot import _sweep_curves as figures
from funcbio.sweeps._result import SweepResult

NAN, INF = math.nan, math.inf
FIRST = ("member", "seed")


def sweep(hyper, seeds, value, steps=(1, 2), metric="loss"):
    """A result over the product of hyper-parameters and seeds, with ``value(settings, seed, step)`` as its metric."""
    table = {name: [] for name in (*FIRST, *hyper, "step", metric)}
    for member, (*combination, seed) in enumerate(itertools.product(*hyper.values(), seeds)):
        for step in steps:
            number = value(dict(zip(hyper, combination, strict=True)), seed, step)
            for name, cell in zip(table, (member, seed, *combination, step, number), strict=True):
                table[name].append(cell)
    return SweepResult(table, list(hyper), {}, {})


def listed(numbers):
    """A result without hyper-parameters: one number for each seed."""
    return sweep({}, range(len(numbers)), lambda settings, seed, step: numbers[seed], steps=(5,))


def paired(values, baseline):
    """A result of two rules, with one number for each seed."""
    numbers = {"new": values, "old": baseline}
    return sweep({"rule": ["old", "new"]}, range(len(values)), lambda at, seed, step: numbers[at["rule"]][seed])


@pytest.fixture
def mixed():
    """Every type of hyper-parameter, and numbers that are awkward to write."""
    numbers = iter([0.1 + 0.2, NAN, INF, -INF, 1e-310, 5e22, -0.0, 1 / 3] * 2)
    hyper = {"lr": [0.1, 1e-05], "width": [16, 32], "rule": ['a, "quoted"', "ä"], "bio": [True, False]}
    return sweep(hyper, [7], lambda *at: next(numbers), steps=(3,))


@pytest.fixture
def model():
    return Sequential(Linear(3, 2), BatchNorm1d(2))


@pytest.fixture
def trained(model):
    """Three members of ``model``, all tensors different."""
    stack = lambda tensor, offset: torch.stack([(tensor + offset + i).detach() for i in range(3)])
    params = {name: stack(tensor, 0.5) for name, tensor in model.named_parameters()}
    buffers = {name: stack(tensor, 10) for name, tensor in model.named_buffers()}
    table = {"member": [0, 1, 2], "seed": [5, 6, 7], "step": [9] * 3, "loss": [1.0] * 3}
    return SweepResult(table, (), params, buffers, seconds=2.0)


# The table and its files.


def test_columns_and_properties(mixed):
    assert mixed.hyper == ("lr", "width", "rule", "bio")
    assert mixed.metrics == ["loss"]
    assert mixed.members == 16
    assert repr(mixed) == "SweepResult(members=16, hyper=['lr', 'width', 'rule', 'bio'], metrics=['loss'])"
    assert math.isnan(mixed.seconds)
    assert mixed.compile_seconds == 0.0


def test_pandas_has_the_table_and_is_a_copy(mixed):
    frame = mixed.to_pandas()
    assert list(frame) == list(mixed.table)
    assert [frame[name].dtype.kind for name in ("member", "lr", "width", "bio", "loss")] == list("ifibf")
    frame.loc[0, "loss"] = 99.0
    assert mixed.table["loss"][0] == 0.1 + 0.2


def test_csv_is_exact_to_the_byte(tmp_path):
    table = {"member": [0, 1], "seed": [3, 3], "lr": [0.1, 1e-05], "bio": [True, False], "step": [1, 1]}
    result = SweepResult(table | {"loss": [0.1 + 0.2, NAN], "rule": ["a,b", 'c"']}, ["lr", "bio"], {}, {})
    result.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == (
        b'member,seed,lr,bio,step,loss,rule\n0,3,0.1,True,1,0.30000000000000004,"a,b"\n1,3,1e-05,False,1,nan,"c"""\n'
    )


def test_csv_loses_nothing_and_is_the_same_twice(mixed, tmp_path):
    mixed.to_csv(tmp_path / "one.csv")
    mixed.to_csv(str(tmp_path / "two.csv"))
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    with (tmp_path / "one.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rule"] for row in rows] == mixed.table["rule"]
    assert [row["bio"] == "True" for row in rows] == mixed.table["bio"]
    # repr tells nan and the signs of zeros apart, where == does not.
    assert [repr(float(row["loss"])) for row in rows] == list(map(repr, mixed.table["loss"]))


def test_parquet_loses_nothing(mixed, tmp_path):
    mixed.to_parquet(tmp_path / "table.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "table.parquet"), mixed.to_pandas())


@pytest.mark.parametrize("values", [["off", 0.1], [True, 0.5], [2**70, 1]])
def test_parquet_refuses_what_it_cannot_keep_and_csv_takes_it(values, tmp_path):
    result = sweep({"lr": values}, [0], lambda *at: 1.0)
    with pytest.raises(ValueError, match=r"lr should be of one type and 64 bits for Parquet; found \["):
        result.to_parquet(tmp_path / "table.parquet")
    result.to_csv(tmp_path / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_member_loads_into_the_plain_model(trained, model):
    for i in range(3):
        assert model.load_state_dict(trained.member(i)) is not None
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            assert torch.equal(tensor, (trained.params | trained.buffers)[name][i])
    assert trained.member(2)["1.num_batches_tracked"].dtype == torch.int64


def test_member_is_a_copy(trained):
    before = trained.params["0.weight"].clone()
    trained.member(1)["0.weight"].zero_()
    assert torch.equal(trained.params["0.weight"], before)


def test_safetensors_hold_every_member(trained, tmp_path):
    trained.params["0.weight"] = trained.params["0.weight"].transpose(1, 2).contiguous().transpose(1, 2)
    paths = trained.save_parameters(tmp_path / "deep" / "folder")
    assert [path.name for path in paths] == [f"member-000{i}.safetensors" for i in range(3)]
    assert sorted((tmp_path / "deep" / "folder").iterdir()) == paths
    for i, path in enumerate(paths):
        loaded, expected = load_file(path), trained.member(i)
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_files_of_many_members_sort_by_member(tmp_path, monkeypatch):
    count = 10_001
    table = {"member": list(range(count)), "seed": list(range(count)), "step": [1] * count}
    written = []
    monkeypatch.setattr("funcbio.sweeps._result.write_aside", lambda path, write: written.append(path))
    paths = SweepResult(table, (), {"w": torch.zeros(count, 1)}, {}).save_parameters(tmp_path)
    assert paths == sorted(paths) == written
    assert paths[7].name == "member-00007.safetensors"


@pytest.mark.parametrize("method", ["to_csv", "to_parquet"])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_leaves_the_old_file_whole_and_no_other(mixed, method, moment, tmp_path, monkeypatch):
    path = tmp_path / "table"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, moment, lambda *at: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        getattr(mixed, method)(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    getattr(mixed, method)(path)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


# The statistics.


def test_summary_of_a_small_table_by_hand():
    def value(at, seed, step):
        if step == 1:
            return 0.1
        return {("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 2.0, ("b", 1): INF}[at["rule"], seed]

    result = sweep({"rule": ["b", "a"]}, [0, 1], value)
    expected = {"rule": ["b", "a"], "members": [2, 2], "diverged": [1, 0]}
    # Of two seeds a resample holds one twice in half of all cases: the ends are the two values.
    expected |= {"mean": [2.0, 2.0], "low": [NAN, 1.0], "high": [NAN, 3.0]}
    pandas.testing.assert_frame_equal(result.summary("loss"), pandas.DataFrame(expected))
    pandas.testing.assert_frame_equal(result.summary("loss", step=2), pandas.DataFrame(expected))
    early = result.summary("loss", step=1)
    # Not 0.10000000000000002 or the like, which a mean of equal numbers may be.
    assert early[["mean", "low", "high"]].to_numpy().tolist() == [[0.1] * 3] * 2
    assert early.diverged.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("numbers", "diverged", "row"),
    [
        ([0.1] * 3, 0, [0.1] * 3),
        ([2.5], 0, [2.5, NAN, NAN]),
        ([NAN, -INF], 2, [NAN] * 3),
        ([NAN, 1.5, 1.5, INF], 2, [1.5] * 3),
    ],
)
def test_summary_at_its_edges(numbers, diverged, row):
    (found,) = listed(numbers).summary("loss").to_numpy().tolist()
    np.testing.assert_equal(found, [len(numbers), diverged, *row])


def test_summary_is_scipys_bootstrap_and_the_same_every_time():
    numbers = torch.randn(12, dtype=torch.float64).tolist()
    found = listed(numbers).summary("loss").loc[0]
    expected = stats.bootstrap((numbers,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval, rel=1e-12)
    assert found["mean"] == pytest.approx(np.mean(numbers))
    state = np.random.get_state()[1].copy()
    pandas.testing.assert_frame_equal(listed(numbers).summary("loss"), listed(numbers).summary("loss"))
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("count", [10, 30])
def test_intervals_hold_the_mean_of_a_normal_law_as_often_as_theory_says(count):
    trials = 1500
    values = np.random.default_rng(count).normal(3.0, 2.0, size=(count, trials))
    _, low, high = statistics.intervals(values)
    held = int(((low <= 3.0) & (high >= 3.0)).sum())
    # The bootstrap's own standard error lacks the factor of a sample: 1.96 becomes this many of Student's units.
    units = stats.norm.ppf(0.975) * math.sqrt((count - 1) / count)
    chance = 1.0 - 2.0 * stats.t.sf(units, count - 1)
    bottom, top = stats.binom.interval(0.999, trials, chance)
    assert bottom <= held <= top
    assert not bottom <= 0.85 * trials <= top  # The trials suffice to refuse a level that is off.


def test_columns_do_not_touch_one_another():
    values = np.random.default_rng(0).normal(size=(6, 5))
    values[0, 1] = values[3, 3] = NAN
    values[1:, 4] = INF
    alone = [statistics.intervals(values[:, [column]])[:, 0] for column in range(5)]
    np.testing.assert_allclose(statistics.intervals(values), np.transpose(alone), rtol=1e-12)
    np.testing.assert_equal(alone[4], [values[0, 4], NAN, NAN])


@pytest.mark.parametrize(
    ("values", "baseline"),
    [
        ([1.5, 2.0, 3.5, 4.25], [1.0, 2.5, 2.0, 3.0]),
        ([1.0, 2.0, 3.0, 5.0, 7.0], [1.0, 1.0, 2.0, 4.0, 3.0]),  # Zeros and ties.
        (list(range(1, 61)), [x % 7 for x in range(60)]),
        ([2.0], [1.0]),
    ],
)
def test_compare_is_paired_wilcoxon(values, baseline):
    found = paired(values, baseline).compare("loss", by="rule", baseline="old").loc[0]
    differences = np.subtract(values, baseline)
    assert found.p_value == stats.wilcoxon(differences).pvalue
    assert found.difference == pytest.approx(differences.mean())
    np.testing.assert_allclose([found.low, found.high], statistics.intervals(differences[:, None])[1:, 0], rtol=1e-12)


@pytest.mark.parametrize("counts", [[1, -1] * 4, [1, -1, 1, 2, -1, 2, 1, -2], [1, 0, 0, 1, -2, -1, -2, -1, 1, 0, 1, 1]])
@pytest.mark.parametrize("images", [112, 360, 10_000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_shares_of_right_answers_compare_as_counts_do(counts, images, kind):
    right = np.arange(len(counts)) % 9 + images * 9 // 10
    values, baseline = ([*map(float, (kind(1) * n / kind(images)).astype(kind))] for n in (right + counts, right))
    found = paired(values, baseline).compare("loss", by="rule", baseline="old").loc[0]
    assert found.p_value == pytest.approx(stats.wilcoxon(counts).pvalue if sum(map(abs, counts)) else 1.0)
    assert found.difference == pytest.approx(np.mean(counts) / images, rel=1e-3, abs=0.0)


def test_compare_at_its_edges():
    row = lambda *at: paired(*at).compare("loss", "rule", "old").drop(columns=["rule", "baseline"]).loc[0].tolist()
    assert row([1.0, 2.0], [1.0, 2.0]) == [2, 0, 0.0, 0.0, 0.0, 1.0]
    np.testing.assert_equal(row([1.0, NAN], [INF, 2.0]), [0, 2, NAN, NAN, NAN, NAN])
    np.testing.assert_equal(row([1.5, NAN, 1.0], [1.0, 1.0, INF]), [1, 2, 0.5, NAN, NAN, 1.0])


def test_compare_within_each_combination_over_common_seeds():
    table = {"member": list(range(7)), "seed": [1, 2, 3, 2, 3, 1, 1], "bio": [False] * 5 + [True] * 2}
    table |= {"lr": [0.1, 0.1, 0.1, 0.5, 0.5, 0.1, 0.5], "step": [1] * 7, "loss": [9.0, 2.0, 3.0, 3.0, 6.0, 1.0, 4.0]}
    found = SweepResult(table, ["bio", "lr"], {}, {}).compare("loss", by="lr", baseline=0.1)
    expected = {"bio": [False, True], "lr": [0.5, 0.5], "baseline": [0.1, 0.1], "pairs": [2, 1], "diverged": [0, 0]}
    expected |= {"difference": [2.0, 3.0], "low": [1.0, NAN], "high": [3.0, NAN], "p_value": [0.5, 1.0]}
    pandas.testing.assert_frame_equal(found, pandas.DataFrame(expected))


@pytest.mark.parametrize("by", ["lr", "bio", "rule"])
def test_compare_keeps_the_other_hyper_parameters_wherever_their_columns_are(by):
    weights = {"lr": 1.0, "bio": 10.0, "rule": 100.0}
    hyper = {"lr": [0.0, 0.5], "bio": [False, True], "rule": ["a", "b"]}
    value = lambda at, seed, step: seed**2 + sum(weights[name] * hyper[name].index(at[name]) ** 2 for name in hyper)
    found = sweep(hyper, range(3), value).compare("loss", by, hyper[by][0])
    others = [name for name in hyper if name != by]
    assert list(found)[:4] == [*others, by, "baseline"]
    assert list(zip(*(found[name] for name in others), strict=True)) == list(
        itertools.product(*(hyper[name] for name in others))
    )
    assert set(found.difference) == set(found.low) == set(found.high) == {weights[by]}
    assert set(found[by]) == {hyper[by][1]}
    assert set(found.baseline) == {hyper[by][0]}


# What is refused.


TWO = {"lr": [0.1, 0.5]}
ONE_OF = [
    (lambda r: r.summary("los"), "metric should be one of the metrics 'loss'; found 'los'"),
    (lambda r: r.summary("lr"), "metric should be one of the metrics 'loss'; found 'lr'"),
    (lambda r: r.summary("loss", step=3), "step should be one of the steps 1, 2; found 3"),
    (lambda r: r.compare("los", "lr", 0.1), "metric should be"),
    (lambda r: r.compare("loss", "lr", 0.1, step=0), "step should be"),
    (lambda r: r.compare("loss", "wd", 0.1), "by should be one of the hyper-parameters 'lr'; found 'wd'"),
    (lambda r: r.compare("loss", "lr", 0.2), "baseline should be one of the values of lr 0.1, 0.5; found 0.2"),
    (lambda r: r.compare("loss", "lr", "0.1"), "found '0.1'"),
    (lambda r: r.curves("los"), "metric should be"),
    (lambda r: r.curves("loss", by="seed"), "by should be one of the hyper-parameters 'lr'; found 'seed'"),
    (lambda r: r.heatmap("loss", "wd", "lr"), "x should be one of the hyper-parameters 'lr'; found 'wd'"),
    (lambda r: r.heatmap("loss", "lr", "lr"), r"y should be one of the other hyper-parameters \(there are none\)"),
    (lambda r: r.heatmap("loss", "lr", "wd", step=7), "step should be"),
    (lambda r: r.member(4), "member should be one of the members 0, 1, 2, 3; found 4"),
    (lambda r: r.member(-1), "member should be"),
]


@pytest.mark.parametrize(("call", "message"), ONE_OF)
def test_unknown_names_are_refused_with_those_there_are(call, message):
    with pytest.raises(ValueError, match=message):
        call(sweep(TWO, [0, 1], lambda *at: 1.0))


def test_a_long_list_of_choices_is_shortened():
    with pytest.raises(ValueError, match="the steps 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more; found 100"):
        sweep({}, [0], lambda *at: 1.0, steps=range(100)).summary("loss", step=100)


def test_repeated_seeds_are_refused():
    result = sweep(TWO, [3, 3], lambda *at: 1.0)
    for call in (lambda: result.summary("loss"), lambda: result.compare("loss", "lr", 0.1)):
        with pytest.raises(ValueError, match=r"seeds should be distinct .*; found seed 3 twice at \(0\.1,\)"):
            call()


def test_no_common_seed_is_refused():
    table = {"member": [0, 1], "seed": [0, 1], "lr": [0.1, 0.5], "step": [1, 1], "loss": [1.0, 1.0]}
    with pytest.raises(ValueError, match=r"baseline should have seeds in common with {'lr': 0.5}; found none at 0.1"):
        SweepResult(table, ["lr"], {}, {}).compare("loss", "lr", 0.1)


def test_a_step_that_a_member_lacks_is_refused():
    table = {"member": [0, 0, 1], "seed": [0, 0, 1], "step": [1, 2, 1], "loss": [1.0, 2.0, 3.0]}
    result = SweepResult(table, (), {}, {})
    with pytest.raises(ValueError, match=r"one that every member has; found 2, which members 1 lack"):
        result.summary("loss")
    assert result.summary("loss", step=1)["mean"].item() == 2.0
    assert isinstance(result.curves("loss"), Figure)


def test_an_empty_table_is_refused_where_a_step_is_needed():
    result = SweepResult({"member": [], "seed": [], "step": [], "loss": []}, (), {"w": torch.zeros(3, 2)}, {})
    assert result.members == 3
    with pytest.raises(ValueError, match=r"step should be one of the steps \(there are none\); found None"):
        result.summary("loss")


@pytest.mark.parametrize(
    ("table", "params", "message"),
    [
        ({"seed": [], "member": [], "step": []}, {}, r"table should begin with .*; found \['seed'"),
        ({"member": [0], "seed": [0, 1], "step": [1]}, {}, "table should have columns of one length; found"),
        ({"member": [0], "seed": [0], "step": [1]}, {"w": torch.zeros(2, 3)}, r"w should have .* 1, .*shape \(2,"),
        ({"member": [0], "seed": [0], "step": [1]}, {"w": torch.zeros(())}, "w should have a first dimension of 1"),
    ],
)
def test_tables_and_parameters_that_do_not_fit_are_refused(table, params, message):
    with pytest.raises(ValueError, match=message):
        SweepResult(table, (), params, {})


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("pandas", lambda r, path: r.to_pandas()),
        ("pandas", lambda r, path: r.summary("loss")),
        ("pyarrow", lambda r, path: r.to_parquet(path)),
        ("safetensors.torch", lambda r, path: r.save_parameters(path)),
        ("scipy.stats", lambda r, path: r.summary("loss")),
        ("matplotlib.figure", lambda r, path: r.curves("loss")),
        ("matplotlib.figure", lambda r, path: r.heatmap("loss", "lr", "bio")),
    ],
)
def test_a_missing_package_says_how_to_install_it(package, call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    result = sweep(TWO | {"bio": [False]}, [0, 1], lambda *at: 1.0)
    with pytest.raises(ImportError, match=r"pip install '\.\[sweep\]'"):
        call(result, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
    result.to_csv(tmp_path / "table.csv")


def test_importing_brings_no_optional_package():
    optional = ("pandas", "pyarrow", "scipy", "matplotlib", "safetensors")
    code = f"import sys, funcbio.sweeps._result; print([name for name in {optional} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# The figures.


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def thick(axes):
    return [line for line in axes.lines if not line.get_label().startswith("_")]


def noisy(at, seed, step):
    return 1.0 + 0.1 * seed + at.get("lr", 0.0) * step + at.get("bio", 0.0)


def test_curves_without_hyper_parameters():
    axes = sweep({}, range(4), noisy, steps=(1, 2, 5)).curves("loss").axes[0]
    assert labels(axes) == ["4 seeds"]
    assert len(axes.lines) == 1 + 4
    (mean,) = thick(axes)
    np.testing.assert_allclose(mean.get_xydata(), [[step, 1.15] for step in (1, 2, 5)])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    members = [line for line in axes.lines if line is not mean]
    assert all(line.get_alpha() < 0.5 and line.get_linewidth() < mean.get_linewidth() for line in members)
    assert all(line.get_zorder() <= mean.get_zorder() for line in members)
    np.testing.assert_allclose([line.get_ydata()[0] for line in members], [1.0, 1.1, 1.2, 1.3])


def test_curves_by_one_hyper_parameter_average_over_the_others():
    result = sweep({"lr": [0.5, 0.1], "bio": [False, True]}, range(3), noisy)
    axes = result.curves("loss", by="lr").axes[0]
    assert labels(axes) == ["lr = 0.1 (3 seeds)", "lr = 0.5 (3 seeds)"]
    assert axes.get_legend().get_title().get_text().endswith("averaged over bio")
    np.testing.assert_allclose([line.get_ydata() for line in thick(axes)], [[1.7, 1.8], [2.1, 2.6]])
    assert [to_hex(line.get_color()).upper() for line in thick(axes)] == list(figures.PALETTE[:2])


def test_the_band_is_the_interval_of_the_summary():
    result = sweep(TWO, range(5), lambda at, seed, step: math.sin(seed + step) + at["lr"])
    axes = result.curves("loss", by="lr").axes[0]
    for band, row in zip(axes.collections, result.summary("loss").itertuples(), strict=True):
        ends = [y for x, y in band.get_paths()[0].vertices if x == 2]
        assert (min(ends), max(ends)) == pytest.approx((row.low, row.high))


def test_the_band_is_over_seeds_not_members():
    # All spread is between values of bio, none between seeds.
    result = sweep({"lr": [0.1], "bio": [False, True]}, range(4), lambda at, seed, step: float(at["bio"]))
    ends = result.curves("loss", by="lr").axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert set(ends) == {0.5}


def test_curves_of_all_combinations_while_they_are_few():
    axes = sweep({"lr": [0.1, 0.5], "bio": [False, True]}, [0], noisy).curves("loss").axes[0]
    assert labels(axes) == [f"lr = {lr}, bio = {bio} (1 seed)" for lr in (0.1, 0.5) for bio in (False, True)]
    many = sweep({"lr": [0.1 * i for i in range(9)], "bio": [False]}, [0], noisy)
    with pytest.raises(ValueError, match="by should be one of 'lr', 'bio' to draw 9 combinations; found None"):
        many.curves("loss")
    lines = thick(many.curves("loss", by="lr").axes[0])
    assert len({to_hex(line.get_color()) for line in lines}) == 9
    assert lines[3].get_label() == "lr = 0.3 (1 seed)"


@pytest.mark.parametrize(("seeds", "lines"), [(10, 2 + 20), (11, 2)])
def test_lines_of_the_members_only_while_they_are_few(seeds, lines):
    assert len(sweep(TWO, range(seeds), noisy).curves("loss").axes[0].lines) == lines


def test_diverged_members_are_counted_and_end_where_they_diverge():
    result = sweep({}, range(3), lambda at, seed, step: INF if (seed, step) == (0, 2) else 1.0 + seed)
    axes = result.curves("loss").axes[0]
    assert labels(axes) == ["3 seeds, 1 of 3 members diverged"]
    np.testing.assert_allclose(thick(axes)[0].get_ydata(), [2.0, 2.5])
    nothing = sweep({}, range(3), lambda *at: NAN).curves("loss").axes[0]
    assert labels(nothing) == ["3 seeds, 3 of 3 members diverged"]
    assert [text.get_text() for text in nothing.texts] == ["no finite values"]


@pytest.mark.parametrize(("largest", "scale"), [(10.0, "linear"), (1e5, "log")])
def test_a_log_scale_only_where_it_is_needed(largest, scale):
    result = sweep({}, range(3), lambda at, seed, step: largest ** (step - 1))
    assert result.curves("loss").axes[0].get_yscale() == scale


def test_heatmap_writes_the_means_where_they_belong():
    result = sweep({"bio": [False, True], "lr": [0.5, 0.1, 1e-05]}, range(2), noisy)
    figure = result.heatmap("loss", x="lr", y="bio")
    axes, bar = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-05", "0.1", "0.5"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["False", "True"]
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ("lr", "bio", "mean loss")
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1.05", (1, 0): "1.25", (2, 0): "2.05", (0, 1): "2.05", (1, 1): "2.25", (2, 1): "3.05"}
    np.testing.assert_allclose(axes.images[0].get_array(), [[1.05002, 1.25, 2.05], [2.05002, 2.25, 3.05]])
    assert axes.images[0].get_cmap().name == "viridis"
    assert figure.get_suptitle() == "loss at step 2, mean over 2 seeds"


def test_heatmap_counts_the_diverged_and_tells_them_from_the_missing():
    def value(at, seed, step):
        return NAN if at["lr"] == 0.5 and (at["bio"] or seed == 0) else 1.0

    result = sweep({"lr": [0.1, 0.5], "bio": [False, True], "rule": ["a", "b"]}, range(3), value)
    keep = [not (lr == 0.1 and bio) for lr, bio in zip(result.table["lr"], result.table["bio"], strict=True)]
    table = {name: list(itertools.compress(column, keep)) for name, column in result.table.items()}
    figure = SweepResult(table, result.hyper, {}, {}).heatmap("loss", "lr", "bio", step=1)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells == {(0, 0): "1.00", (1, 0): "1.00\n2/6 diverged", (1, 1): "6/6 diverged"}
    assert figure.get_suptitle() == "loss at step 1, mean over 3 seeds,\naveraged over rule"


def test_heatmap_without_a_number_has_no_color_bar():
    (axes,) = sweep({"lr": [1, 2], "bio": [0]}, [0], lambda *at: NAN).heatmap("loss", "lr", "bio").axes
    assert [text.get_text() for text in axes.texts] == ["1/1 diverged"] * 2


def test_heatmap_shows_as_many_digits_as_the_cells_differ_in():
    result = sweep({"lr": [1, 2], "bio": [0]}, [0], lambda at, seed, step: 12345.0 + at["lr"] / 100)
    texts = [text.get_text() for text in result.heatmap("loss", "lr", "bio").axes[0].texts]
    assert texts == ["12345.0100", "12345.0200"]


@pytest.mark.parametrize("value", [noisy, lambda *at: NAN, lambda *at: 0.0, lambda *at: -1e30])
def test_figures_are_drawn_without_a_warning(value, tmp_path):
    result = sweep({"lr": [0.1], "rule": ["a rule with quite a long name", "b"]}, [0, 1], value, steps=(1,))
    for name, figure in {"c": result.curves("loss", "rule"), "h": result.heatmap("loss", "rule", "lr")}.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_shows_a_figure_as_a_picture():
    figure = sweep({}, range(2), noisy).curves("loss")
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_figures_leave_pyplot_alone():
    code = (
        "import sys; from funcbio.sweeps._result import SweepResult as S; "
        "S({'member': [0], 'seed': [0], 'a': [1], 'b': [1], 'step': [1], 'l': [1.0]}, ['a', 'b'], {}, {})"
        ".heatmap('l', 'a', 'b'); print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# The examples.


@pytest.mark.parametrize(
    "item",
    [
        SweepResult,
        SweepResult.member,
        SweepResult.to_csv,
        SweepResult.compare,
        SweepResult.best,
        SweepResult.join,
        SweepResult.label,
        figures.curves,
        figures.heatmap,
        statistics.intervals,
    ],
)
def test_the_examples_run(item):
    names = doctest_names() | {"SweepResult": SweepResult, "curves": figures.curves, "heatmap": figures.heatmap}
    names["intervals"] = statistics.intervals
    tests = doctest.DocTestFinder(recurse=False).find(item, item.__name__, globs=names)
    runner = doctest.DocTestRunner()
    assert sum(runner.run(test).attempted for test in tests) > 0
    assert runner.failures == 0


def test_differences_keep_what_is_not_finite():
    found = statistics.differences([1.0, INF, NAN, 3.0], [1.0, 1.0, 2.0, 2.5])
    np.testing.assert_equal(found, [0.0, INF, NAN, 0.5])
