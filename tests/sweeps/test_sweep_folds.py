"""Folds of a sweep: a member learns from its own rows, as if there were no others."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import ShuffleSplit
from torch import nn
from torch.nn import functional as F

import funcbio

X, Y = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)), torch.arange(60) % 3
FOLDS = list(ShuffleSplit(3, test_size=0.2, random_state=0).split(X))


def net():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def accuracy(output, target):
    return (output.argmax(-1) == target).float().mean()


def train(data=(X, Y), **options):
    given = {"steps": 9, "batch_size": 8, "lr": 0.3, "seeds": [2, 5], "metrics": {"accuracy": accuracy}}
    return funcbio.sweep(net, F.cross_entropy, data, mechanisms=["fuzzy_learning_rates"], **{**given, **options})


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_fold_is_the_sweep_of_its_rows_alone(chunk):
    found = train(folds=FOLDS, record_every=3, chunk=chunk)
    assert found.table["fold"][::3] == [0, 0, 1, 1, 2, 2]
    for number, (rows, held_out) in enumerate(FOLDS):
        alone = train((X[rows], Y[rows]), test=(X[held_out], Y[held_out]), record_every=3)
        for name in ("train_loss", "test_loss", "test_accuracy"):
            own = found.table[name][number * 6 : (number + 1) * 6]
            assert own == pytest.approx(alone.table[name], rel=1e-4, abs=1e-5)
        for member in range(2):
            for leaf, value in alone.member(member).items():
                torch.testing.assert_close(found.member(2 * number + member)[leaf], value)


def test_measuring_goes_by_parts(monkeypatch):
    whole = train(folds=FOLDS)
    monkeypatch.setattr("funcbio.sweeps._training.MEASURED_AT_ONCE", 5)
    assert train(folds=FOLDS).table["test_loss"] == pytest.approx(whole.table["test_loss"], rel=1e-5)


def test_some_folds_can_be_chosen():
    found = train(folds=FOLDS, grid={"fold": [2], "momentum": [0.1, 0.3]})
    assert found.hyper == ("fold", "momentum")
    assert set(found.table["fold"]) == {2}
    with pytest.raises(ValueError, match=r"grid\['fold'\] should be a number from 0 to 2; found 3"):
        train(folds=FOLDS, grid={"fold": [3]})
    with pytest.raises(ValueError, match=r"grid should name hyper-parameters.*; found 'fold'"):
        train(metrics={}, grid={"fold": [0]})


def test_a_folder_of_other_folds_is_refused(tmp_path):
    train(folds=FOLDS, output=tmp_path)
    train(folds=FOLDS, output=tmp_path)
    with pytest.raises(ValueError, match="found another folds"):
        train(folds=FOLDS[::-1], output=tmp_path)


BAD = [
    (3, "folds should be pairs of row numbers"),
    ([], "folds should be one or more pairs"),
    ([3], "folds should be pairs of row numbers from 0 to 59"),
    ([([0, 1], [2], [3])], "folds should be pairs of row numbers from 0 to 59"),
    ([([0, 60], [2])], "folds should be pairs of row numbers from 0 to 59"),
    ([([0, -1], [2])], "folds should be pairs of row numbers from 0 to 59"),
    ([([0, 1], [1])], "none of them in both"),
    ([([0.5], [1])], "folds should be pairs of row numbers"),
    ([([], [1])], "folds should be pairs of row numbers"),
    ([(np.ones(60, bool), [1])], "folds should be pairs of row numbers"),
    ([([0, 1], [2]), ([0], [2])], "folds should be given training parts of one length"),
    ([([0, 1], [2]), ([0, 1], [2, 3])], "folds should be given test parts of one length"),
]


@pytest.mark.parametrize(("folds", "says"), BAD)
def test_bad_folds_are_named(folds, says):
    with pytest.raises(ValueError, match=says):
        train(folds=folds)


def test_folds_stand_in_the_place_of_test_data():
    with pytest.raises(ValueError, match="test should be left out with folds"):
        train(folds=FOLDS, test=(X, Y))
    with pytest.raises(ValueError, match="data should be a sequence of tensors with folds"):
        train(lambda key: (X, Y), folds=FOLDS)
    with pytest.raises(ValueError, match="batch_size should be at most the number of examples, 48"):
        train(folds=FOLDS, batch_size=49)
