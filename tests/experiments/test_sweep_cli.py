"""Sweeps from a file: what they write, that they go on after a kill, and what is said about every kind of bad file."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from places import DOCS
from safetensors.torch import load_file
from torch.nn import functional as F

import funcbio
import funcbio.__main__ as command
from funcbio.experiments import commands, nets
from funcbio.experiments.data import digits
from funcbio.experiments.frame.settings import SettingError, ours
from funcbio.experiments.sweep_file import parts, run, settings, tables

EXAMPLE = DOCS / "experiment.toml"
BASE = """
seeds = 2

[model]
name = "mlp"
hidden = 4

[data]
name = "digits"

[training]
loss = "cross_entropy"
steps = 4
batch_size = 256
metrics = ["accuracy"]
record_every = 2

[config]
fuzzy_lr_distribution = "gamma"

[mechanisms]
plain = []
bio = ["fuzzy_learning_rates", "crystallize", {feature = "rejuvenate_weights", every = 3}]

[grid]
lr = [0.1, 1]
crystal_thresh = [1e-5, 1e-4]

[compare]
metric = "test_accuracy"
by = "mechanisms"
baseline = "plain"
"""
OWN = """
import torch
from functools import partial
from torch import nn

class Tuned:
    def __init__(self, speed=1.0): self.speed = speed
    def init(self, params): return ()
    def update(self, grads, state, params=None):
        return {n: -self.speed * g for n, g in grads.items()}, state

def net(width, *, bias=True): return nn.Sequential(nn.Linear(3, width, bias=bias), nn.ReLU(), nn.Linear(width, 1))
def points(noise=0.0):
    x = torch.randn(40, 3)
    y = x.sum(1, keepdim=True) + noise * torch.randn(40, 1)
    return {"data": (x[:32], y[:32]), "test": (x[32:], y[32:])}
def stream(): return {"data": lambda key: (lambda x: (x, x.sum(1, keepdim=True)))(torch.ones(4, 3))}
def distance(output, target): return (output - target).abs().mean()
def nudge(params, grads, state, /, *, key=None, size=1.0): return params, {n: size * g for n, g in grads.items()}, state
def wrong(): return {"datta": 1}
def three(): return 3
def numbers(): return {"data": 3, "test": (torch.ones(2), torch.ones(2))}
def uneven():
    x = torch.ones(40, 3)
    return {"data": (x, x[:, :1]), "test": (x, x[:39, :1])}
def untensored(): return {**points(), "test": (1, 2)}
def fails(): raise KeyError("no such file")
def scalar(): return nn.Linear(5, 1)
def loss(output, target): return distance(output, target)
"""


def write(folder, text=BASE, name="trial.toml"):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory with modules of its own."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own_parts", None)


@pytest.fixture
def finished(here, capsys):
    code = command.main(["sweep", write(here)])
    return code, here / "results" / "trial", capsys.readouterr()


def start(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "funcbio", "sweep", *arguments]
    # Ctrl-C is ignored in what a shell runs in the background, and then in all that is started there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_files_are_all_there_and_agree(finished):
    code, folder, printed = finished
    assert code == 0
    table = pd.read_csv(folder / "table.csv")
    assert list(table) == [
        *("member", "seed", "mechanisms", "lr", "crystal_thresh", "step"),
        *("train_loss", "test_loss", "test_accuracy"),
    ]
    assert len(table) == 2 * 4 * 2 * 2
    assert table.step.unique().tolist() == [2, 4]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), table, check_dtype=False)
    last = table[table.step == 4]
    summary = pd.read_csv(folder / "summary.csv")
    assert len(summary) == 3 * 8
    for row in summary.itertuples():
        chosen = (last.mechanisms == row.mechanisms) & (last.lr == row.lr) & (last.crystal_thresh == row.crystal_thresh)
        assert row.mean == pytest.approx(last[chosen][row.metric].mean())
        assert row.members == 2
        assert f"{row.mean:#.4g}" in printed.out
    means = last.groupby(["mechanisms", "lr", "crystal_thresh"]).test_accuracy.mean()
    for row in pd.read_csv(folder / "comparison.csv").itertuples():
        bio, plain = (means[rule, row.lr, row.crystal_thresh] for rule in ("bio", "plain"))
        assert row.difference == pytest.approx(bio - plain)
        assert f"{row.difference:#.4g}" in printed.out
    for picture in ("curves.png", "heatmap.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert (folder / "experiment.toml").read_text() == BASE
    assert str(folder.relative_to(Path.cwd())) in printed.out
    assert printed.err == ""
    assert "\x1b" not in printed.out


def test_saved_parameters_are_those_that_were_measured(finished):
    _, folder, _ = finished
    table, data, net = pd.read_csv(folder / "table.csv"), digits(), nets.mlp(4)
    files = sorted((folder / "parameters").iterdir())
    assert [file.name for file in files] == [f"member-{i:04d}.safetensors" for i in range(16)]
    for member, file in enumerate(files):
        net.load_state_dict(load_file(file))
        with torch.no_grad():
            output = net(data.test_x)
        row = table[(table.member == member) & (table.step == 4)].iloc[0]
        assert float(F.cross_entropy(output, data.test_y)) == pytest.approx(row.test_loss, rel=1e-5)
        assert float(parts.accuracy(output, data.test_y)) == pytest.approx(row.test_accuracy, abs=1e-6)


def test_numbers_are_those_of_the_function(finished):
    _, folder, _ = finished
    data = digits()
    result = funcbio.sweep(
        lambda: nets.mlp(4),
        F.cross_entropy,
        (data.train_x, data.train_y),
        steps=4,
        batch_size=256,
        mechanisms={
            "plain": [],
            "bio": ["fuzzy_learning_rates", "crystallize", funcbio.Mechanism("rejuvenate_weights", every=3)],
        },
        config=funcbio.BioConfig(fuzzy_lr_distribution="gamma"),
        seeds=2,
        grid={"lr": [0.1, 1], "crystal_thresh": [1e-5, 1e-4]},
        test=(data.test_x, data.test_y),
        metrics={"accuracy": parts.accuracy},
        record_every=2,
    )
    assert result is not None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(result.table), *zip(*result.table.values(), strict=True)])
    assert (folder / "table.csv").read_text() == text.getvalue()


def test_same_command_again_trains_nothing_and_writes_the_same(finished, monkeypatch, capsys):
    _, folder, printed = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert command.main(["sweep", "trial.toml"]) == 0
    assert capsys.readouterr().out == printed.out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("hidden = 4", "hidden = 5", "model.hidden = 4 instead of 5"),
        ("steps = 4\n", "steps = 6\n", "training.steps = 4 instead of 6"),
        ("seeds = 2", "seeds = 3", "seeds = 2 instead of 3"),
        (
            "record_every = 2",
            "record_every = 2\noptimizer = 'Adam'",
            "training.optimizer = 'nothing' instead of 'Adam'",
        ),
    ],
)
def test_folder_of_another_experiment_is_refused(finished, here, capsys, old, new, names):
    before = (finished[1] / "table.csv").read_bytes()
    refused(["sweep", write(here, BASE.replace(old, new))], names, capsys)
    assert (finished[1] / "table.csv").read_bytes() == before


def test_what_changes_no_number_may_change(finished, here, capsys):
    before = (finished[1] / "table.csv").read_bytes()
    changed = BASE.replace("[training]", '[training]\nsave_seconds = 5\nchunk = 3\ndevice = "cpu"')
    assert command.main(["sweep", write(here, changed.replace('"test_accuracy"', '"test_loss"'))]) == 0
    assert (finished[1] / "table.csv").read_bytes() == before
    assert "test_loss: difference" in capsys.readouterr().out


def test_example_runs(here, capsys):
    text = EXAMPLE.read_text().replace("steps = 250", "steps = 2").replace("record_every = 25", "record_every = 1")
    text = text.replace("every = 100", "every = 2")
    assert command.main(["sweep", write(here, text), "--output", "out"]) == 0
    table = pd.read_csv("out/table.csv")
    assert len(table) == 2 * 60
    assert set(table.mechanisms) == {"plain", "bio"}
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["curves.png"]
    assert not Path("results").exists()


def test_example_shows_every_key():
    text = EXAMPLE.read_text()
    keys = {*settings.SECTIONS, *settings.TRAINING, *settings.COMPARE, *parts.MODELS, *parts.METRICS}
    for key in keys | {"factory", "feature", "every", "hyper"}:
        assert re.search(rf"\b{key}\b", text), key


def test_choices_that_the_example_only_names_are_right(here, capsys):
    """Every commented key of the example, switched on."""
    lines = EXAMPLE.read_text().splitlines()
    on = [re.sub(r"^# (\w+ = [^#]+?) +#.*$", r"\1", line) for line in lines]
    text = "\n".join(line for line in on if not line.startswith(("factory", "epochs", "steps = 250")))
    text = text.replace("[training]\n", "[training]\nepochs = 1\n").replace("# crystal_thresh", "crystal_thresh")
    text = text.replace("seeds = 10", "seeds = [3, 14, 15]").replace("compile = true", "compile = false")
    assert text.count("# share") == text.count("# chunk") == text.count("# device") == 0
    assert command.main(["sweep", write(here, text), "--check"]) == 0
    assert capsys.readouterr().out == f"{here / 'trial.toml'} is right: 36 members would train 22 steps\n"


def test_check_writes_and_trains_nothing(here, capsys):
    assert command.main(["sweep", write(here), "--check"]) == 0
    assert capsys.readouterr().out.endswith("is right: 16 members would train 4 steps\n")
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == ["own_parts.py", "trial.toml"]


OWN_FILE = """
seeds = [5, 7, 11]
mechanisms = ["crystallize", {feature = "own_parts:nudge", hyper = {size = "base_lr"}}]
[model]
factory = "own_parts:net"
width = 6
[data]
factory = "own_parts:points"
noise = 0.5
[training]
loss = "mse_loss"
epochs = 3
batch_size = 10
metrics = ["own_parts:distance"]
[[grid]]
lr = 0.1
base_lr = 0.5
[[grid]]
lr = 0.2
base_lr = 0.25
"""


def test_metrics_of_the_training_batches(here):
    text = OWN_FILE.replace("epochs = 3", 'epochs = 3\ntrain_metrics = ["own_parts:distance"]')
    assert command.main(["sweep", write(here, text)]) == 0
    table = pd.read_csv("results/trial/table.csv")
    assert list(table)[5:] == ["train_loss", "train_distance", "test_loss", "test_distance"]
    assert (table.train_distance > 0).all()


def test_functions_of_your_own(here, capsys):
    assert command.main(["sweep", write(here, OWN_FILE)]) == 0
    table = pd.read_csv("results/trial/table.csv")
    assert list(table)[2:] == ["lr", "base_lr", "step", "train_loss", "test_loss", "test_distance"]
    assert table[["seed", "lr", "base_lr", "step"]].values.tolist() == [
        [seed, *rest, 9] for rest in ([0.1, 0.5], [0.2, 0.25]) for seed in (5, 7, 11)
    ]
    # The gradient is scaled by base_lr, so both combinations take steps of 0.05.
    torch.testing.assert_close(torch.tensor(table.train_loss[:3]), torch.tensor(table.train_loss[3:].to_numpy()))
    assert not Path("results/trial/curves.png").exists()
    assert Path("results/trial/heatmap.png").exists()


def test_batches_from_a_function_and_an_optimizer_of_your_own(here, capsys):
    text = OWN_FILE.replace("own_parts:points", "own_parts:stream").replace("noise = 0.5\n", "")
    text = text.replace("epochs = 3\nbatch_size = 10", "steps = 3\nrecord_every = 1")
    text = text.replace('metrics = ["own_parts:distance"]', 'optimizer = "own_parts:Tuned"\noptions = {speed = 0.5}')
    assert command.main(["sweep", write(here, text)]) == 0
    table = pd.read_csv("results/trial/table.csv")
    assert list(table)[-1] == "train_loss"
    assert len(table) == 3 * 6


@pytest.mark.sampled(2)
@pytest.mark.parametrize("parts", [("cnn", "Adam"), ("mlp", "torch.optim:AdamW")])
def test_networks_and_optimizers_of_the_library(here, parts, capsys):
    model, optimizer = parts
    text = BASE.replace('"mlp"', f'"{model}"').replace("hidden = 4", "" if model == "cnn" else "hidden = 4")
    text = text.replace("record_every = 2", f'optimizer = "{optimizer}"\nshare = ["weights", "rates"]')
    text = text.replace("[config]", "[training.options]\nweight_decay = 0.1\n[config]")
    text = text.replace("lr = [0.1, 1]", "lr = [0.01]\nbetas = [[0.8, 0.9], [0.9, 0.99]]")
    assert command.main(["sweep", write(here, text)]) == 0
    assert set(pd.read_csv("results/trial/table.csv").betas) == {"[0.8, 0.9]", "[0.9, 0.99]"}


def refused(arguments, names, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("funcbio sweep: error: ")
    assert names in printed.err, printed.err


SHOULD_BE = [
    ("seeds = 2", "sedes = 2", "sedes should be a key of the file, perhaps seeds; found an unknown key"),
    ("seeds = 2", "", "seeds should be given; found nothing"),
    ("seeds = 2", "seeds = 0", "seeds should be an integer >= 1, or a list of different integers; found 0"),
    ("seeds = 2", "seeds = true", "seeds should be"),
    ("seeds = 2", "seeds = [1, 1]", "seeds should be"),
    ("seeds = 2", "seeds = [1, 1.5]", "seeds should be"),
    ("seeds = 2", "seeds = []", "seeds should be"),
    ("seeds = 2", "seeds = [99999999999999999999]", "seeds should be"),
    ("seeds = 2", 'seeds = "ten"', "found 'ten'"),
    ("steps = 4", "steps = 4\nseeds = 2", "seeds should stand above the first table; found it in [training]"),
    ("seeds = 2", "seeds = 2\nsynapses = ['nothing.*']", "synapses should match parameters"),
    ("seeds = 2", "seeds = 2\nsynapses = 3", "synapses should be"),
    ('[model]\nname = "mlp"\nhidden = 4', "", "model should be given; found nothing"),
    ('[model]\nname = "mlp"\nhidden = 4', "[model]", "model should have one of the keys name and factory; found none"),
    ('name = "mlp"', 'name = "mpl"', "model.name should be one of mlp, cnn; your own goes by factory"),
    ('name = "mlp"', "name = 3", "model.name should be one of"),
    ('name = "mlp"', 'name = "cnn"', "model.hidden should be a key of [model]"),
    ('name = "mlp"', 'name = "mlp"\nfactory = "own_parts:net"', "found name, factory, hidden"),
    ("hidden = 4", "", "model.hidden should be given; found nothing"),
    ("hidden = 4", "hiden = 4", "model.hiden should be a key of [model], perhaps hidden; found an unknown key"),
    ("hidden = 4", "hidden = 0", "model.hidden should be an integer from 1 to 10000; found 0"),
    ("hidden = 4", 'hidden = "4"', "model.hidden should be an integer from 1 to 10000; found '4'"),
    ('name = "digits"', 'name = "letters"', "data.name should be one of digits"),
    ('name = "digits"', 'name = "digits"\nsize = 3', "data.size should be a key of [data]; found an unknown key"),
    ("cross_entropy", "cross_entropi", "perhaps cross_entropy; found 'cross_entropi'"),
    ('loss = "cross_entropy"', "", "training.loss should be given"),
    ('loss = "cross_entropy"', "loss = 3", "training.loss should be a function of torch.nn.functional"),
    ("steps = 4", "step = 4", "training.step should be a key of [training], perhaps steps"),
    ("steps = 4", "steps = 0", "steps should be an integer >= 1; found 0"),
    ("steps = 4", "steps = 2.5", "steps should be an integer >= 1; found 2.5"),
    ("steps = 4", "steps = true", "steps should be an integer >= 1; found True"),
    ("steps = 4", "", "training should have one of the keys steps and epochs"),
    ("steps = 4", "steps = 4\nepochs = 1", "training should have one of the keys steps and epochs"),
    ("steps = 4", "epochs = -1", "training.epochs should be an integer >= 1; found -1"),
    ("steps = 4\nbatch_size = 256", "epochs = 1", "training.batch_size should be given"),
    ("steps = 4\nbatch_size = 256", "epochs = 1\nbatch_size = 2000", "training.batch_size should be at most 1437"),
    ("batch_size = 256", "batch_size = 1500", "batch_size should be at most the number of examples, 1437; found 1500"),
    ("batch_size = 256", "batch_size = '9'", "training.batch_size should be an integer >= 1; found '9'"),
    ("lr = [0.1, 1]", "weight_decay = [-1]", "weight_decay should be a number >= 0; found -1"),
    ("lr = [0.1, 1]", "lr = ['fast']", "lr should be a number >= 0; found 'fast'"),
    ("lr = [0.1, 1]", "lr = [nan]", "lr should be a number >= 0; found nan"),
    ("lr = [0.1, 1]", "lr = 0.1", "grid['lr'] should be a list"),
    ("lr = [0.1, 1]", "lr = []", "grid['lr'] should be a list"),
    ("lr = [0.1, 1]", "lr = [0.1, 0.1]", "grid should hold every combination once"),
    ("lr = [0.1, 1]", "lrr = [0.1]", "grid should name hyper-parameters, perhaps lr; found 'lrr'"),
    ("lr = [0.1, 1]", "momentum = [-1]", "Invalid momentum value: -1"),
    ("lr = [0.1, 1]", "fuzzy_lr_distribution = ['gama']", "fuzzy_lr_distribution should be one of"),
    ("lr = [0.1, 1]", "mechanisms = ['boi']", "should be among plain, bio; found 'boi'"),
    ("lr = [0.1, 1]", "weight_splitting_activation_function = ['reluu']", "perhaps relu; found 'reluu'"),
    ("crystal_thresh = [1e-5, 1e-4]", "crystal_thresh = [0]", "crystal_thresh should be a number > 0; found 0"),
    ("[grid]", "[[grid]]\nlr = 1\n[[grid]]", "grid should name the same hyper-parameters in every entry"),
    ("metrics = [", "optimizer = 'SDG'\nmetrics = [", "perhaps SGD; found 'SDG'"),
    ("metrics = [", "optimizer = 'LBFGS'\nmetrics = [", "optimizer should be one of torch.optim's"),
    ("record_every = 2", "optimizer = 5", "training.optimizer should be"),
    ("record_every = 2", "options = {momentum = 0.1}", "training.optimizer should be given; found nothing"),
    ("record_every = 2", "optimizer = 'SGD'\noptions = {momentun = 1}\n", "perhaps momentum; found 'momentun'"),
    (
        "record_every = 2",
        "optimizer = 'SGD'\noptions = 3",
        "training.options should be a table, [training.options]; found 3",
    ),
    ('metrics = ["accuracy"]', 'metrics = ["acuracy"]', "training.metrics should hold accuracy, or 'module:function'"),
    ('metrics = ["accuracy"]', 'metrics = "accuracy"', "training.metrics should be a list of names; found 'accuracy'"),
    ('metrics = ["accuracy"]', "metrics = [3]", "training.metrics should be"),
    ('metrics = ["accuracy"]', 'metrics = ["own_parts:loss"]', "metrics of different names, other than loss"),
    ('metrics = ["accuracy"]', 'metrics = ["accuracy", "accuracy"]', "training.metrics should be metrics of different"),
    ("record_every = 2", "record_every = 0", "record_every should be an integer >= 1; found 0"),
    (
        "record_every = 2",
        "share = ['wieghts']",
        "share should be a list, and hold some of weights",
    ),
    ("record_every = 2", "share = 'weights'", "training.share should be a list of names; found 'weights'"),
    ("record_every = 2", "compile = 'no'", "training.compile should be true, false or \"auto\"; found 'no'"),
    ("record_every = 2", "chunk = 0", "chunk should be an integer >= 1; found 0"),
    ("record_every = 2", "save_seconds = 0", "training.save_seconds should be a number > 0; found 0"),
    ("record_every = 2", "device = 'cuda:99'", "training.device should be a device of torch"),
    ("record_every = 2", "device = 'gpu'", "training.device should be a device of torch"),
    ("gamma", "gama", "config.fuzzy_lr_distribution should be one of"),
    ("fuzzy_lr_distribution", "fuzzy_lr_distributoin", "perhaps fuzzy_lr_distribution; found an unknown name"),
    ("[config]", "[config]\nfuzzy_lr_min = 2", "config.fuzzy_lr_min should be less than fuzzy_lr_max"),
    ("[config]", "[config]\nweight_splitting_activation_function = 3", "config.weight_splitting_activation_function"),
    ("bio = [", "bio = 3 #", "mechanisms.bio should be a list of mechanisms; found 3"),
    ('"fuzzy_learning_rates"', '"fuzzy"', "mechanisms.bio.feature should be one of"),
    ('"fuzzy_learning_rates"', "5", "mechanisms.bio should be a list of names or tables"),
    ('"fuzzy_learning_rates"', '"own_parts:missing"', "mechanisms.bio.feature should be a function there"),
    ('"fuzzy_learning_rates"', '"enforce_dales_principle"', "mechanisms should suit the configuration"),
    ("every = 3", "every = 0", "mechanisms.bio.every should be an integer >= 1; found 0"),
    ("every = 3", "evry = 3", "mechanisms.bio.evry should be a key of [mechanisms.bio], perhaps every"),
    ("every = 3", "where = 'there'", "mechanisms.bio.where should be one of gradient, update, after; found 'there'"),
    ("every = 3", "hyper = 3", "mechanisms.bio.hyper should be a table"),
    ('metric = "test_accuracy"', 'metric = "accuracy"', "metric should be one of the metrics"),
    ('metric = "test_accuracy"', "", "compare.metric should be given; found nothing"),
    ('by = "mechanisms"', 'by = "momentum"', "by should be one of the hyper-parameters"),
    ('by = "mechanisms"', "by = [1]", "by should be one of the hyper-parameters"),
    ('baseline = "plain"', 'baseline = "palin"', "baseline should be one of the values of mechanisms 'plain', 'bio'"),
    ('baseline = "plain"', 'basline = "plain"', "compare.basline should be a key of [compare], perhaps baseline"),
]


@pytest.mark.parametrize(("old", "new", "names"), SHOULD_BE)
def test_bad_file_gives_one_line_and_exit_code_2(here, capsys, old, new, names):
    assert old in BASE
    refused(["sweep", write(here, BASE.replace(old, new, 1))], names, capsys)
    assert not (here / "results").exists()


@pytest.mark.parametrize("section", ["model", "data", "training", "config", "compare"])
def test_section_that_is_no_table(here, capsys, section):
    text = re.sub(rf"\[{section}(\.options)?\]\n(.+\n)*", "", BASE)
    refused(
        ["sweep", write(here, f"{section} = 3\n{text}")], f"{section} should be a table, [{section}]; found 3", capsys
    )


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("own_parts:net", "own_parts.net", "model.factory should be 'module:function'; found 'own_parts.net'"),
        ("own_parts:net", "own_parts:ent", "perhaps net; found 'own_parts:ent'"),
        ("own_parts:net", "own_prats:net", "found 'own_prats:net': ModuleNotFoundError: No module named 'own_prats'"),
        ("own_parts:net", "broken:net", "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ("own_parts:net", ":net", "model.factory should be"),
        ("own_parts:net", "own_parts:", "model.factory should be"),
        ("own_parts:net", "own_parts:torch", "model.factory should be a function there"),
        ("own_parts:net", "own_parts:three", "model.width should be a key of [model]; found an unknown key"),
        ('own_parts:net"\nwidth = 6', 'own_parts:three"', "model should return an nn.Module when called; found 3"),
        ('own_parts:net"\nwidth = 6', 'own_parts:fails"', "found KeyError: 'no such file' (own_parts.py, line "),
        ('own_parts:net"\nwidth = 6', 'own_parts:scalar"', "found RuntimeError: "),
        ("width = 6", "", "model.width should be given; found nothing"),
        ("width = 6", "width = 6\nbais = true", "model.bais should be a key of [model], perhaps bias"),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:wrong"', "data.datta should be a key of [data], perhaps data"),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:three"', "data.factory should be a function that returns a dict"),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:numbers"', "data should be a sequence of two or more tensors"),
        (
            'own_parts:points"\nnoise = 0.5',
            'own_parts:uneven"',
            "and hold tensors of one length",
        ),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:untensored"', "test should be a sequence of two or more tensors"),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:fails"', "data.factory should make the data; found KeyError"),
        ('own_parts:points"\nnoise = 0.5', 'own_parts:stream"', "training.epochs should be left out"),
        (
            "mse_loss",
            "own_parts:fails",
            "model, loss, metrics and optimizer should fit the data and one another; found",
        ),
        ("own_parts:distance", "own_parts:fails", "fit the data and one another; found TypeError"),
        ('metrics = ["own_parts:distance"]', 'optimizer = "own_parts:Tuned"\noptions = {sped = 1}', "perhaps speed"),
        ('metrics = ["own_parts:distance"]', 'optimizer = "own_parts:fails"', "optimizer should make an optimizer"),
        (
            'metrics = ["own_parts:distance"]',
            'optimizer = "own_parts:three"',
            "optimizer should be one of torch.optim's",
        ),
    ],
)
def test_bad_function_gives_one_line_and_exit_code_2(here, capsys, old, new, names):
    (here / "broken.py").write_text("def net(): pass\n1 / 0\n")
    assert old in OWN_FILE
    refused(["sweep", write(here, OWN_FILE.replace(old, new, 1))], names, capsys)
    assert not (here / "results").exists()


def test_metrics_without_test_data_are_refused(here, capsys):
    text = OWN_FILE.replace('own_parts:points"\nnoise = 0.5', 'own_parts:stream"').replace("epochs", "steps")
    refused(["sweep", write(here, text)], "training.metrics should be left out without test data", capsys)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"seeds = 2\nmodel = [1,,]\n", "(at line 2, column"),
        (b"seeds = 2\nseeds = 3\n", "(at line 2, column"),
        (b"\xff\xfe\x00", "should be a TOML file; found: 'utf-8' codec"),
        (b"", "model should be given; found nothing"),
    ],
)
def test_file_that_is_no_toml(here, capsys, content, names):
    (here / "trial.toml").write_bytes(content)
    refused(["sweep", "trial.toml"], names, capsys)


def test_file_or_folder_that_cannot_be(here, capsys):
    refused(["sweep", "missing.toml"], "experiment should be a TOML file; found 'missing.toml' (No such file", capsys)
    refused(["sweep", str(here)], "experiment should be a TOML file", capsys)
    refused(["sweep"], "the following arguments are required: experiment", capsys)
    refused(["sweep", write(here), "--output", "own_parts.py"], "output should be a folder; found a file", capsys)


def test_missing_package_is_named(here, monkeypatch, capsys):
    monkeypatch.setattr(commands, "find_spec", lambda module: None if module == "pyarrow" else module)
    line = "pip install '.[sweep,experiments]' in funcbio's source"
    refused(["sweep", write(here)], f"pyarrow not found; install with: {line}", capsys)


def test_command_line_imports_no_extras():
    code = (  # Torch itself imports tqdm where it is installed.
        "import sys, torch; before = set(sys.modules); import funcbio.__main__, funcbio.experiments.commands as m; "
        "print(sorted(set(m.SWEEP_EXTRAS) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_long_tables_are_cut_on_the_screen_only(capsys):
    table = {"member": [*range(99)], "seed": [0] * 99, "lr": [*range(99)], "step": [1] * 99, "loss": [0.5] * 99}
    found = tables.summary_table(funcbio.SweepResult(table, ["lr"], {}, {}), "loss")
    assert len(found.rows) == tables.MOST_ROWS
    assert found.style["caption"].startswith(f"... and {99 - tables.MOST_ROWS} more")
    assert len(tables.summaries(funcbio.SweepResult(table, ["lr"], {}, {}))) == 99


def test_an_error_of_the_library_is_told_from_others():
    with pytest.raises(ValueError, match="dampening_factor") as own:
        funcbio.BioConfig(dampening_factor=2.0)
    with pytest.raises(ValueError, match="invalid literal") as other:
        int("x")
    assert ours(own.value)
    assert not ours(other.value)


def test_bugs_in_the_middle_of_training_keep_their_traceback(here, monkeypatch):
    experiment = settings.read(Path(write(here)))
    monkeypatch.setattr(funcbio, "sweep", lambda **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run._sweep(experiment.arguments, whole=True)
    with pytest.raises(SettingError, match="ZeroDivisionError: division by zero"):
        run._sweep(experiment.arguments, whole=False)


LONG = BASE.replace("steps = 4\n", "steps = 600\nsave_seconds = 0.1\n").replace(
    "record_every = 2", "record_every = 150"
)
LONG = LONG.replace("lr = [0.1, 1]\ncrystal_thresh = [1e-5, 1e-4]", "lr = [0.1]")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["interrupt", "kill"])
def test_started_again_it_goes_on_and_ends_with_the_same_table(here, sent, code, capsys):
    write(here, LONG)
    process = start(here, "trial.toml")
    states, deadline = here / "results" / "trial", time.monotonic() + 60
    while not list(states.glob("chunk-*.state")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be stopped"
    process.send_signal(sent)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert not (states / "table.csv").exists()
    said = "funcbio sweep: interrupted; the same command goes on from what was saved\n"
    assert error == (said if sent == signal.SIGINT else "")
    assert command.main(["sweep", "trial.toml"]) == 0
    assert command.main(["sweep", "trial.toml", "--output", "whole"]) == 0
    assert (states / "table.csv").read_bytes() == Path("whole/table.csv").read_bytes()
    assert (states / "summary.csv").read_bytes() == Path("whole/summary.csv").read_bytes()
    assert not list(states.rglob("*.part"))


def test_module_in_the_current_directory_and_a_subprocess(here):
    write(here, OWN_FILE)
    process = start(here, "trial.toml")
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    assert "test_distance at step 9" in out


@pytest.mark.slow
def test_processes_share_the_work_and_one_of_them_reports(here, capsys):
    assert command.main(["sweep", write(here), "--output", "alone"]) == 0
    alone = capsys.readouterr().out
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "funcbio"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*line, "sweep", "trial.toml"], cwd=here, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_loss at step 4") == alone.count("test_loss at step 4") == 1
    pd.testing.assert_frame_equal(pd.read_csv("alone/table.csv"), pd.read_csv("results/trial/table.csv"))
