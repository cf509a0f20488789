"""Sweeps with mechanisms on units: every member as if it ran alone, with a table that is given or made."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy

import funcbio
from funcbio import BioConfig, Mechanism, Units, sweep, units
from funcbio.mechanisms import ROWS
from funcbio.sweeps import _store

FEATURES = [name for name, row in ROWS.items() if row.by_unit]
CONFIG = BioConfig(
    redo_every=2,
    redo_threshold=0.3,
    continual_backprop_replacement_rate=0.3,
    continual_backprop_maturity=1,
    continual_backprop_decay=0.9,
    regrama_every=2,
    regrama_threshold=0.5,
    self_normalized_resets_patience=1,
    calibrated_partial_resets_every=1,
    calibrated_partial_resets_threshold=0.9,
    calibrated_partial_resets_replacement_rate=0.2,
)
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
every_feature = pytest.mark.parametrize("name", FEATURES)


def net(hidden=8):
    """A network whose units 1 and 2 never respond."""
    model = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3))
    with torch.no_grad():
        model[1].bias[1:3] = -100.0
    return model


def run(*names, **options):
    options = {"steps": 6, "batch_size": 8, "lr": 0.05, "config": CONFIG, "seeds": 3, "progress": False} | options
    return sweep(net, cross_entropy, (X, Y), mechanisms=[*names], **options)


def alike(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}")


NEAR = {"rtol": 1e-4, "atol": 1e-5}
SAME = {"rtol": 0.0, "atol": 0.0}


@every_feature
def test_members_learn_and_do_not_depend_on_one_another(name):
    together = run(name, optimizer=optim.Adam)
    plain = run(optimizer=optim.Adam)
    for seed in range(3):
        alone = run(name, seeds=[seed], optimizer=optim.Adam).member(0)
        alike(together.member(seed), alone, **NEAR)
        assert any(not torch.equal(alone[n], plain.member(seed)[n]) for n in alone)
        assert all(value.isfinite().all() for value in alone.values())


@every_feature
def test_members_of_one_sweep_draw_numbers_of_their_own(name):
    found = run(name, share=["weights"], lr=0.0)
    one, other = found.member(0)["0.weight"], found.member(1)["0.weight"]
    assert not torch.equal(one, other)


def test_silent_units_start_anew_and_their_statistics_too():
    found, start = run("redo", lr=0.0, steps=2, share=["weights"]), run(lr=0.0, steps=1, share=["weights"])
    for seed in range(3):
        before, after = start.member(seed), found.member(seed)
        new = torch.tensor([False, True, True, False, False, False, False, False])
        assert torch.equal((after["0.weight"] != before["0.weight"]).any(1), new)
        assert not after["1.bias"][new].any()
        assert (before["1.bias"][new] == -100).all()
        assert not after["3.weight"][:, new].any()
        assert torch.equal(after["1.running_mean"] == 0, new)
        assert torch.equal(after["1.running_var"] == 1, new)
        assert not (before["1.running_mean"] == 0).any()
        assert torch.equal(after["3.weight"][:, ~new], before["3.weight"][:, ~new])


@every_feature
def test_the_table_that_is_made_is_the_one_given(name):
    made = run(name)
    told = run(name, units=units(net(), X[:4]))
    by_mechanism = run(Mechanism(name, units=units(net(), X[:4])))
    for seed in range(3):
        alike(made.member(seed), told.member(seed), **SAME)
        alike(made.member(seed), by_mechanism.member(seed), **SAME)
    assert made.table == told.table


def test_batches_that_a_function_makes():
    def batch(key):
        picked = (funcbio.rng.uniform(key, (8,)) * 24).long()
        return X[picked], Y[picked]

    found = sweep(net, cross_entropy, batch, steps=4, batch_size=8, mechanisms=["redo"], config=CONFIG, progress=False)
    assert found.member(0)["1.bias"][1] > -1


def test_a_table_of_another_network_is_refused():
    other = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    with pytest.raises(ValueError, match=r"units should be a table of this model, made by funcbio\.units; found '0\.w"):
        run("redo", units=units(other, X[:2]))
    with pytest.raises(ValueError, match=r"units should be a table made by funcbio\.units; found a tensor"):
        run("redo", units=X)


def test_without_a_mechanism_on_units_no_table_is_made(monkeypatch):
    monkeypatch.setattr("funcbio.sweeps._job.units", lambda *args: pytest.fail("no table is needed"))
    run("fuzzy_learning_rates", steps=1)


def test_a_grid_over_a_threshold():
    grid = {"redo_threshold": [0.0, 0.3, 50.0]}
    found = run("redo", grid=grid, seeds=2, share=["weights"], steps=2, lr=0.0)
    counts = {}
    for member, (threshold, seed) in enumerate(zip(found.table["redo_threshold"], found.table["seed"], strict=True)):
        alone = run(
            "redo", config=CONFIG.replace(redo_threshold=threshold), seeds=2, share=["weights"], steps=2, lr=0.0
        ).member(int(seed))
        alike(found.member(member), alone, **NEAR)
        gone = int((alone["3.weight"] == 0).all(0).sum())
        counts.setdefault(threshold, set()).add(gone)
    assert counts[0.0] == {2}
    assert counts[50.0] == {8}
    assert max(counts[0.3]) < 8


@pytest.mark.parametrize("field", ["continual_backprop_replacement_rate", "regrama_threshold"])
def test_a_grid_over_other_numbers(field):
    name = field.rpartition("_replacement")[0] or field.rpartition("_")[0]
    found = run(name, grid={field: [0.0, 0.5]}, seeds=1)
    for member, value in enumerate([0.0, 0.5]):
        alike(found.member(member), run(name, config=CONFIG.replace(**{field: value}), seeds=1).member(0), **NEAR)
    first, second = found.member(0), found.member(1)
    assert any(not torch.equal(first[n], second[n]) for n in first)


def test_several_at_once_and_beside_others():
    ways = {"plain": [], "both": ["redo", "continual_backprop"], "one": ["redo"], "mixed": ["l2_init", "redo"]}
    found = sweep(
        net,
        cross_entropy,
        (X, Y),
        steps=4,
        batch_size=8,
        mechanisms=ways,
        config=CONFIG,
        seeds=2,
        lr=0.05,
        progress=False,
    )
    for member, way in enumerate(dict.fromkeys(zip(found.table["mechanisms"], found.table["seed"], strict=True))):
        alone = run(*ways[way[0]], seeds=[int(way[1])], steps=4).member(0)
        alike(found.member(member), alone, **NEAR)


@every_feature
def test_a_sweep_that_was_stopped_goes_on_to_the_bit(name, tmp_path, monkeypatch):
    options = {"output": tmp_path / "part", "save_seconds": 0.0, "record_every": 2, "optimizer": optim.Adam}
    whole = run(name, **{**options, "output": tmp_path / "whole"})
    real, count = _store.save_checkpoint, [0]

    def save(*args, **kwargs):
        count[0] += 1
        if count[0] == 3:
            raise RuntimeError("the end of the process")
        real(*args, **kwargs)

    monkeypatch.setattr(_store, "save_checkpoint", save)
    with pytest.raises(RuntimeError, match="the end of the process"):
        run(name, **options)
    monkeypatch.setattr(_store, "save_checkpoint", real)
    again = run(name, **options)
    for seed in range(3):
        alike(whole.member(seed), again.member(seed), **SAME)
    assert whole.table == again.table


def kept_safe():
    """The table of the network, none of whose units may be replaced."""
    saved = units(net(), X[:4]).state_dict()
    for population in saved["populations"]:
        population["replaceable"] = torch.zeros_like(population["replaceable"])
    return Units.from_state_dict(saved)


def test_an_output_folder_of_another_table_is_not_gone_on_with(tmp_path):
    first = run("redo", output=tmp_path, units=units(net(), X[:4]))
    again = run("redo", output=tmp_path)
    alike(first.member(0), again.member(0), **SAME)
    with pytest.raises(ValueError, match="units"):
        run("redo", output=tmp_path, units=kept_safe())


def test_a_table_of_ones_own_says_what_is_replaced():
    plain = run("l2_init", config=CONFIG.replace(l2_init_strength=0.0))
    for found in (run("redo", units=kept_safe()), run(Mechanism("redo", units=kept_safe()))):
        alike(found.member(0), plain.member(0), **NEAR)
    assert run("redo").member(0)["1.bias"][1] > -1


@pytest.mark.slow
@every_feature
def test_it_compiles(name):
    alike(run(name, compile=True, seeds=2, steps=3).member(1), run(name, seeds=2, steps=3).member(1), **NEAR)


def test_partials_of_features():
    config = BioConfig()
    feature = partial(funcbio.redo, threshold=0.3, every=2)
    alike(run(feature, config=config).member(1), run("redo").member(1), **NEAR)


@every_feature
def test_a_network_without_hidden_units_learns(name):
    make = lambda: nn.Linear(6, 3)
    options = {"steps": 2, "batch_size": 8, "mechanisms": [name], "config": CONFIG, "progress": False}
    found = sweep(make, cross_entropy, (X, Y), **options)
    alike(found.member(0), sweep(make, cross_entropy, (X, Y), **options | {"mechanisms": []}).member(0), **NEAR)
