"""Data that change over time: a function of the member's key and the step makes the batches; each is measured first."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import fold_in, key
from funcbio.sweeps import _store, _stream
from funcbio.sweeps._stack import build
from funcbio.sweeps._trials import Trial

STEPS, LR, SEEDS = 6, 0.1, (3, 7)
TASK_STEPS = 4


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def accuracy(output, target):
    return (output.argmax(-1) == target).float().mean()


def drifting(key, step):
    """Normal numbers whose labels follow a direction that every task draws anew."""
    x = funcbio.normal(fold_in(fold_in(key, "batch"), step), (8, 6))
    ways = funcbio.normal(fold_in(fold_in(key, "task"), step // TASK_STEPS), (6, 3))
    return x, (x @ ways).argmax(1)


def sweep(**options):
    given = {"steps": STEPS, "lr": LR, "record_every": 3, "seeds": SEEDS, "train_metrics": {"accuracy": accuracy}}
    return funcbio.sweep(net, F.cross_entropy, drifting, progress=False, **{**given, **options})


def by_hand(seed, steps=STEPS, every=3):
    """The plain loop of a seed: losses and accuracies before each step, averaged between two records."""
    model = build(net, Trial(0, seed, {}, funcbio.BioConfig(), {}, {}, ()), ())
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=LR), []
    for step in range(steps):
        x, y = drifting(fold_in(key(seed), "batches"), torch.tensor(step))
        output = model(x)
        loss = F.cross_entropy(output, y)
        seen.append((loss.item(), accuracy(output, y).item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, torch.tensor(seen).unflatten(0, (-1, every)).mean(1)


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_member_is_the_plain_loop_over_its_stream(compile):
    found = sweep(compile=compile)
    assert found.metrics == ["train_loss", "train_accuracy"]
    for index, seed in enumerate(SEEDS):
        model, seen = by_hand(seed)
        rows = slice(2 * index, 2 * index + 2)
        assert found.table["train_loss"][rows] == pytest.approx(seen[:, 0].tolist(), rel=1e-5)
        assert found.table["train_accuracy"][rows] == pytest.approx(seen[:, 1].tolist())
        for leaf, value in model.state_dict().items():
            torch.testing.assert_close(found.member(index)[leaf], value, rtol=1e-4, atol=1e-6)


def test_the_number_of_batches_made_at_once_changes_nothing(monkeypatch):
    whole = sweep().table
    monkeypatch.setattr(_stream, "BLOCK_BYTES", 1)
    assert sweep().table == whole


def test_a_model_that_trains_member_by_member_sees_the_same_stream():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = net()

        def forward(self, x):
            return self.layers(x) if x.sum() > -1e9 else x

    given = {"steps": STEPS, "lr": LR, "record_every": 3, "seeds": SEEDS, "progress": False}
    with pytest.warns(UserWarning, match="trains member by member"):
        found = funcbio.sweep(Branching, F.cross_entropy, drifting, train_metrics={"accuracy": accuracy}, **given)
    assert found.table["train_loss"] == pytest.approx(sweep().table["train_loss"], rel=1e-4)
    assert found.table["train_accuracy"] == pytest.approx(sweep().table["train_accuracy"])


def test_stopped_within_a_record_it_goes_on_to_the_same_table(tmp_path, monkeypatch):
    whole, real, count = sweep(steps=9).table, _store.save_checkpoint, [0]

    def stop(*args, **kwargs):
        real(*args, **kwargs)
        count[0] += 1
        if count[0] == 5:  # The rehearsal saves once; then after every step.
            raise KeyboardInterrupt

    monkeypatch.setattr(_store, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(steps=9, output=tmp_path, save_seconds=0.0)
    monkeypatch.setattr(_store, "save_checkpoint", real)
    assert sweep(steps=9, output=tmp_path).table == whole


def test_what_is_measured_before_a_step_belongs_to_the_sweep_of_a_folder(tmp_path):
    sweep(output=tmp_path)
    with pytest.raises(ValueError, match="train_metrics"):
        sweep(output=tmp_path, train_metrics={"accuracy": lambda output, target: (output.argmax(-1) == target).sum()})


def test_metrics_of_the_training_batches_go_with_any_data():
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    data = (x, x[:, :3].argmax(1))
    streams = {"tensors": data, "keys": lambda key: (funcbio.normal(key, (8, 6)), torch.zeros(8).long())}
    for name, source in streams.items():
        found = funcbio.sweep(
            net,
            F.cross_entropy,
            source,
            steps=4,
            batch_size=8,
            seeds=2,
            lr=0.5,
            progress=False,
            train_metrics={"loss_again": F.cross_entropy},
            record_every=2,
        )
        assert found.table["train_loss_again"] == pytest.approx(found.table["train_loss"]), name


@pytest.mark.parametrize("batch", [lambda x: x, lambda x: (x,), lambda x: (x, 3), lambda x: {"x": x, "y": x}])
def test_a_function_that_makes_no_batches_is_refused(batch, tmp_path):
    for make in (lambda key: batch(funcbio.normal(key, (8, 6))), lambda key, step: batch(funcbio.normal(key, (8, 6)))):
        with pytest.raises(
            ValueError, match="data should be a function that returns a sequence of two or more tensors"
        ):
            funcbio.sweep(net, F.cross_entropy, make, steps=2, seeds=2, output=tmp_path, progress=False)


def test_a_function_that_vmap_cannot_run_is_refused_before_anything_is_written(tmp_path):
    def counts(key, step):
        return drifting(key, torch.tensor(int(step)))

    def draws(key, step):
        return torch.rand(8, 6), torch.zeros(8).long()

    def fails(key, step):
        raise RuntimeError("broken")

    for make, reason in ((counts, "item"), (draws, "random"), (fails, "RuntimeError: broken")):
        with pytest.raises(ValueError, match=f"data should be a function that torch.vmap can run.*{reason}"):
            funcbio.sweep(net, F.cross_entropy, make, steps=2, seeds=2, output=tmp_path, progress=False)
        assert not (tmp_path / "sweep.json").exists()


def test_a_step_is_known_by_its_name_or_its_place():
    class Made:
        def __call__(self, key, *, step):
            return drifting(key, step)

    ways = {
        "two": lambda key, number: drifting(key, number),
        "default": lambda key, step=0: drifting(key, step),
        "keyword": Made(),
    }
    whole = sweep().table
    for name, make in ways.items():
        given = {"steps": STEPS, "lr": LR, "record_every": 3, "seeds": SEEDS, "progress": False}
        found = funcbio.sweep(net, F.cross_entropy, make, train_metrics={"accuracy": accuracy}, **given)
        assert found.table == whole, name


def test_parameters_stand_in_the_same_order_when_they_are_read_again(tmp_path):
    names = [list(sweep(output=folder).params) for folder in (None, tmp_path, tmp_path)]
    assert names[0] == names[1] == names[2]


def test_units_are_found_with_the_first_batch_of_a_stream():
    found = sweep(mechanisms=["redo"], config=funcbio.BioConfig(redo_every=2, redo_threshold=0.5))
    assert len(found.table["train_loss"]) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": accuracy}, "train_metrics should be functions by name, not named loss"),
        ({"accuracy": 3}, "train_metrics should be functions by name"),
        ([accuracy], "train_metrics should be functions by name"),
        ({"accuracy": lambda output, target: output}, r"train_metrics\['accuracy'\] should return a single number"),
    ],
)
def test_bad_metrics_of_training_batches_are_refused_before_training(given, message):
    with pytest.raises(ValueError, match=message):
        sweep(train_metrics=given)
