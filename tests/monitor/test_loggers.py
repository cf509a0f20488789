"""Loggers: the numbers that come out of a file or a framework are those that went in."""

import csv
import math

import pytest
import torch
from conftest import run_doctest
from torch import nn

import funcbio
from funcbio import BioConverter, metrics, trees
from funcbio.monitor import flatten, log_csv, log_lightning, log_tensorboard


def measured(seed=0):
    torch.manual_seed(seed)
    model = BioConverter()(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    return metrics(*trees(model))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("item", [flatten, log_csv, log_lightning, log_tensorboard], ids=lambda item: item.__name__)
def test_examples_run(item):
    assert run_doctest(item.__name__, item) > 0


def test_flatten_keeps_every_number_under_its_path():
    found = measured()
    flat = flatten({"loss": 0.25, "bio": found})
    assert next(iter(flat)) == "loss"
    assert flat["bio/all/rate_mean"] == found["all"]["rate_mean"].item()
    assert len(flat) == 1 + sum(len(entries) for entries in found.values())
    assert all(type(value) is float for value in flat.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": torch.ones(2)}, "in mappings at 'a'; found a tensor of torch.float32, shape .2,."),
        ({"a": {"b": "high"}}, "at 'a/b'; found 'high'"),
        (torch.ones(()), "metrics should hold numbers and 0-d tensors, in mappings; found a tensor"),
        ({"a": {"b": 1.0}, "a/b": 2.0}, "one value for each path; found two for 'a/b'"),
    ],
)
def test_flatten_refuses_what_is_no_number(given, message):
    with pytest.raises(ValueError, match=message):
        flatten(given)


def test_csv_survives_reopening_and_loses_no_digit(tmp_path):
    path = tmp_path / "metrics.csv"
    for step in (0, 50, 100):
        log_csv(path, measured(step), step)
    found = rows(path)
    assert [int(row["step"]) for row in found] == [0, 50, 100]
    for row in found:
        assert {name: float(value) for name, value in row.items()} == {"step": int(row["step"])} | flatten(
            measured(int(row["step"]))
        )


def test_csv_takes_the_same_columns_in_any_order(tmp_path):
    path = tmp_path / "metrics.csv"
    log_csv(path, {"a": 1.0, "b, c": math.inf}, 0)
    log_csv(path, {"b, c": 3.0, "a": 2.0}, 1)
    assert rows(path) == [{"step": "0", "a": "1.0", "b, c": "inf"}, {"step": "1", "a": "2.0", "b, c": "3.0"}]


def test_csv_refuses_other_columns_before_it_writes(tmp_path):
    path = tmp_path / "metrics.csv"
    log_csv(path, {"a": 1.0, "b": 1.0}, 0)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"columns of .*metrics.csv; found new \['c'\] and missing \['b'\]"):
        log_csv(path, {"a": 1.0, "c": 1.0}, 1)
    with pytest.raises(ValueError, match=r"step should be an integer; found 1\.5"):
        log_csv(path, {"a": 1.0, "b": 1.0}, 1.5)
    with pytest.raises(ValueError, match="without a 'step' of their own"):
        log_csv(path, {"step": 1.0, "a": 1.0, "b": 1.0}, 1)
    assert path.read_bytes() == before


def test_csv_goes_on_after_a_row_that_was_cut_off(tmp_path):
    path = tmp_path / "metrics.csv"
    log_csv(path, {"a": 1.0, "b": 2.0}, 0)
    path.write_text(path.read_text() + "1,3.")
    log_csv(path, {"a": 5.0, "b": 6.0}, 2)
    assert [row["b"] for row in rows(path)] == ["2.0", None, "6.0"]


def test_tensorboard_reads_back_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in (0, 10):
            log_tensorboard(writer, measured(step), step)
    events = EventAccumulator(str(tmp_path)).Reload()
    expected = {step: flatten(measured(step)) for step in (0, 10)}
    assert set(events.Tags()["scalars"]) == set(expected[0])
    for name in expected[0]:
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == {step: pytest.approx(flat[name], rel=1e-6) for step, flat in expected.items()}


def test_lightning_logs_them(tmp_path):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = BioConverter()(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))

        def training_step(self, batch):
            return self.net(batch[0]).square().mean()

        def on_before_optimizer_step(self, _):
            self.net.crystallize()
            log_lightning(self, {"bio": metrics(*trees(self.net))})

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.1)

    module = Module()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(12, 4)), batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    logged = trainer.logged_metrics
    rates = torch.cat([layer.bio_mod.fuzzy_learning_rate_parameters.flatten() for layer in module.net])
    assert logged["bio/all/rate_mean"].item() == pytest.approx(rates.mean().item())
    assert logged["bio/all/grad_norm"] > 0.0
    assert set(logged) == set(flatten({"bio": metrics(*trees(module.net))}))


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (
            lambda: log_tensorboard("runs", {}, 0),
            r"writer should be a SummaryWriter .*\[monitor\].*found 'runs'",
        ),
        (lambda: log_lightning(nn.Linear(2, 2), {}), "module should be a LightningModule; found Linear"),
    ],
)
def test_what_is_no_logger_is_refused(log, message):
    with pytest.raises(ValueError, match=message):
        log()


def test_monitor_is_there_by_name():
    assert funcbio.monitor.metrics is funcbio.metrics
