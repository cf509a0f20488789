"""The folder of a sweep: of this sweep and no other, of one owner at a time, and every file where it belongs."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import folders
import pytest
import torch
from interrupts import interrupted_everywhere
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, FileError, Mechanism, load_checkpoint
from funcbio.files import _owner
from funcbio.files._owner import owned

WORKER = Path(folders.__file__)


def sweep(output, **changes):
    small = {"steps": 1, "seeds": 1, "chunk": 1}
    return funcbio.sweep(**{**folders.BASE, **small, **changes}, output=output)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Another sweep is refused


def changed(model, change):
    change(model)
    return model


def fixed(value):
    return changed(nn.Linear(6, 2), lambda model: nn.init.constant_(model.weight, value))


def buffered(value):
    return changed(nn.Sequential(nn.Linear(6, 2)), lambda model: model.register_buffer("c", torch.tensor(value)))


def lambdas(*factors):
    """Functions that differ only in what they closed in."""
    return [lambda output, target, k=k: (F.cross_entropy(output, target) * k).mean() for k in factors]


def streams(*factors):
    def make(factor):
        def stream(key):
            x, y = folders.stream(key)
            return x * factor, y

        return stream

    return map(make, factors)


def activations(*factors):
    return [lambda x, k=k: x * k for k in factors]


def each(name, values):
    return tuple({name: value} for value in values)


X, Y = folders.points()
GAMMA = {"weight_splitting_Gamma": 2}
PAIRS = {
    "loss": each("loss", [F.cross_entropy, F.multi_margin_loss]),
    "default of a loss": each("loss", lambdas(1, 2)),
    "code of a loss": each("loss", [lambda o, t: F.cross_entropy(o, t), lambda o, t: F.cross_entropy(o, t) * 2]),
    "partial of a loss": each(
        "loss", [functools.partial(F.cross_entropy, label_smoothing=smooth) for smooth in (0.0, 0.5)]
    ),
    "module of a loss": each("loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)]),
    "weights of a loss": each("loss", [nn.CrossEntropyLoss(weight=torch.tensor([1.0, w])) for w in (1.0, 2.0)]),
    "seen part of a hidden loss": each("loss", [folders.Opaque(1.0), folders.Opaque(2.0)]),
    "closure of a mechanism": each("mechanisms", [[folders.scaled(1.0)], [folders.scaled(0.1)]]),
    "partial of a mechanism": each(
        "mechanisms", [[functools.partial(funcbio.volume_dependent_lr, base_lr=lr)] for lr in (0.1, 0.9)]
    ),
    "field of a mechanism": each(
        "mechanisms", [[Mechanism(folders.scaled(1.0), hyper={"much": m})] for m in ("base_lr", "stability_factor")]
    ),
    "place of a mechanism": each(
        "mechanisms", [[Mechanism(folders.scaled(1.0), where=where)] for where in ("gradient", "update")]
    ),
    "rhythm of a mechanism": tuple(
        {"steps": 2, "mechanisms": [Mechanism("volume_dependent_lr", every=every)]} for every in (1, 2)
    ),
    "order of mechanisms": each(
        "mechanisms", [["fuzzy_learning_rates", "volume_dependent_lr"], ["volume_dependent_lr", "fuzzy_learning_rates"]]
    ),
    "activation of a model": each("model", [lambda a=a: folders.Act(a) for a in (torch.tanh, torch.relu)]),
    "attribute of a model": each("model", [lambda p=p: folders.Act(power=p) for p in (1.0, 2.0)]),
    "start of a model": each("model", [lambda v=v: fixed(v) for v in (0.1, 2.0)]),
    "buffer of a model": each("model", [lambda v=v: buffered(v) for v in (1.0, 2.0)]),
    "dropout of a model": each(
        "model", [lambda p=p: nn.Sequential(nn.Dropout(p), nn.Linear(6, 2)) for p in (0.1, 0.9)]
    ),
    "frozen part of a model": each(
        "model", [lambda f=f: changed(nn.Linear(6, 2), lambda m: m.bias.requires_grad_(f)) for f in (True, False)]
    ),
    "type of a model": (
        {},
        {"model": lambda: nn.Linear(6, 2, dtype=torch.float64), "data": (X.double(), Y)},
    ),
    "layers of a model": each("model", [lambda: nn.Linear(6, 2), lambda: nn.Linear(6, 2, bias=False)]),
    "values of the data": each("data", [(X, Y), (X * 2, Y)]),
    "one value of the data": each("data", [(X, Y), (X + torch.eye(24, 6), Y)]),
    "order of the data": each("data", [(X, Y), (X.flip(0), Y.flip(0))]),
    "targets": each("data", [(X, Y), (X, 1 - Y)]),
    "closure of a stream": each("data", streams(1.0, 5.0)),
    "functional optimizer": each("optimizer", [folders.Step(1.0), folders.Step(0.1)]),
    "optimizer": each("optimizer", [torch.optim.SGD, torch.optim.Adam]),
    "option of an optimizer": each(
        "optimizer", [functools.partial(torch.optim.SGD, momentum=momentum) for momentum in (0.1, 0.9)]
    ),
    "decay": each("optimizer", [functools.partial(torch.optim.SGD, weight_decay=decay) for decay in (0.1, 0.9)]),
    "lr": each("lr", [0.5, 0.4]),
    "steps": each("steps", [1, 2]),
    "seeds": each("seeds", [1, 2]),
    "which seed": each("seeds", [[1], [2]]),
    "batch_size": each("batch_size", [8, 4]),
    "record_every": ({"steps": 2, "record_every": 1}, {"steps": 2, "record_every": 2}),
    "share": each("share", [[], ["weights"]]),
    "grid": each("grid", [{"momentum": [0.1, 0.2]}, {"momentum": [0.1, 0.3]}]),
    "configuration": each("config", [BioConfig(), BioConfig(dampening_factor=0.5)]),
    "function of the configuration": each(
        "config", [BioConfig(**GAMMA, weight_splitting_activation_function=f) for f in (torch.tanh, torch.relu)]
    ),
    "own function of the configuration": each(
        "config", [BioConfig(**GAMMA, weight_splitting_activation_function=f) for f in activations(1.0, 2.0)]
    ),
    "test": each("test", [(X[:6], Y[:6]), (X[:6] + 1, Y[:6])]),
    "metric": tuple({"test": (X, Y), "metrics": {"m": metric}} for metric in lambdas(1, 2)),
    "name of a metric": tuple({"test": (X, Y), "metrics": {name: lambdas(1)[0]}} for name in ("m", "n")),
    "folds": each("folds", [[(range(12), range(12, 24))], [(range(12), range(13, 24))]]),
    "synapses": tuple(
        {"model": lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2)), "synapses": choice}
        for choice in (None, lambda name, module: name.startswith("0"))
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_folder_of_a_sweep_that_differs_in_one_thing_is_refused_and_left_alone(name, tmp_path):
    one, other = PAIRS[name]
    sweep(tmp_path, **one)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="output should be a new folder, or that of the same sweep; found another "):
        sweep(tmp_path, **other)
    assert contents(tmp_path) == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if "hidden" in name else "error")
        sweep(tmp_path, **one)
    assert contents(tmp_path) == before


def from_outside(params, grads, state, /, *, key=None):
    """A mechanism that reads what no code shows."""
    much = float(os.environ.get("FUNCBIO_TEST_GAIN", "1"))
    return params, {name: grad * much for name, grad in grads.items()}, state


def measured_from_outside(output, target):
    return output.mean() * float(os.environ.get("FUNCBIO_TEST_GAIN", "1"))


@pytest.mark.parametrize("where", ["gradient", "update", "after", "metric"])
def test_what_a_step_and_the_metrics_read_from_outside_is_told_by_what_they_compute(where, tmp_path, monkeypatch):
    if where == "metric":
        options = {"test": (X, Y), "metrics": {"m": measured_from_outside}}
    elif where == "after":
        options = {
            "mechanisms": [Mechanism(lambda p, g, s, /, *, key=None: (from_outside(g, p, s)[1], g, s), where="after")]
        }
    else:
        options = {"mechanisms": [Mechanism(from_outside, where=where)]}
    sweep(tmp_path, **options)
    sweep(tmp_path, **options)
    monkeypatch.setenv("FUNCBIO_TEST_GAIN", "0.01")
    with pytest.raises(ValueError, match="that of the same sweep; found another forward"):
        sweep(tmp_path, **options)


def test_a_metric_that_refuses_invented_numbers_hides_nothing_else(tmp_path):
    def shares(output, target):
        if not torch.func.debug_unwrap(output).max() <= 1:
            raise ValueError("output should be shares")
        return output.mean()

    model = lambda: nn.Sequential(nn.Linear(6, 2), nn.Softmax(-1))
    options = {"model": model, "loss": Concealed(1.0), "test": (X, Y), "metrics": {"m": shares}}
    sweep(tmp_path, **options)
    before = contents(tmp_path)
    with pytest.warns(UserWarning, match=r"forward.metrics \(it failed, ValueError\)"):
        sweep(tmp_path, **options)
    with pytest.raises(ValueError, match="that of the same sweep; found another"):
        sweep(tmp_path, **{**options, "loss": Concealed(0.5)})
    assert contents(tmp_path) == before


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="output should be a folder; found a file"):
        sweep(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


class Concealed:
    """A network behind what cannot be looked at: only what it computes differs."""

    def __init__(self, factor):
        self.factor = factor

    def __reduce_ex__(self, protocol):
        raise TypeError

    @property
    def __dict__(self):
        raise AttributeError  # As of an object in C.

    def __deepcopy__(self, memo):
        return self

    def __call__(self, *given):
        return given[0] * self.factor if len(given) == 1 else F.cross_entropy(given[0] * self.factor, given[1])


@pytest.mark.parametrize("role", ["loss", "activation", "start", "stream"])
def test_what_cannot_be_looked_at_is_told_by_what_it_computes(role, tmp_path):
    def arguments(concealed):
        def start():
            model = nn.Linear(6, 2)
            model.weight.data = concealed(model.weight.data)
            return model

        return {
            "loss": {"loss": concealed},
            "activation": {"model": lambda: folders.Act(concealed)},
            "start": {"model": start},
            "stream": {"data": lambda key: (concealed(funcbio.normal(key, (8, 6))), torch.zeros(8).long())},
        }[role]

    sweep(tmp_path, **arguments(Concealed(1.0)))
    with pytest.warns(UserWarning, match=r"Concealed\) should be as they were, which cannot be compared"):
        sweep(tmp_path, **arguments(Concealed(1.0)))
    with pytest.raises(ValueError, match=r"found another (forward|network)"):
        sweep(tmp_path, **arguments(Concealed(2.0)))


def test_a_network_that_is_not_the_same_twice_goes_on_and_says_so(tmp_path):
    generator = torch.Generator()

    def make():
        model = nn.Linear(6, 2)
        model.weight.data.normal_(generator=generator)
        return model

    sweep(tmp_path, model=make)
    generator.manual_seed(67280421310721)  # As new generators are.
    with pytest.warns(UserWarning, match=r"network.weight \(not the same twice\)"):
        sweep(tmp_path, model=make)


# The same sweep goes on


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with sweeps of many settings, begun in another process; and what that has come to."""
    folder = tmp_path_factory.mktemp("begun")
    done = subprocess.run([sys.executable, WORKER, folder, "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_the_same_sweep_goes_on_in_another_process_from_another_place(begun, tmp_path):
    folder, first = begun
    moved = tmp_path / "deeper" / "moved.py"
    moved.parent.mkdir()
    moved.write_text(f'"""Another title."""\n\n# Some lines more.\n\n\n{WORKER.read_text()}')
    environment = {**os.environ, "PYTHONHASHSEED": "123", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    copied = shutil.copytree(folder, tmp_path / "copied")
    command = [sys.executable, moved, copied, "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    for name, (table, said) in json.loads(done.stdout).items():
        assert table == first[name][0], (name, table)
        assert all("another machine" in text for text in said) or name == "opaque", (name, said)
    said = json.loads(done.stdout)["opaque"][1]
    assert any("loss.lock (_thread.lock) should be as they were, which cannot be compared" in text for text in said)


def test_the_same_sweep_goes_on_in_the_same_process(begun):
    folder, first = begun
    for name in folders.SETTINGS:
        table, _ = folders.begin(folder, name)
        assert table == first[name][0], name


def test_functions_of_a_cell_that_is_run_again_are_the_same(tmp_path):
    cell = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Linear(6, width)\n    def forward(self, x):\n        return self.layer(x)\n"
        "width = 2\nloss = lambda o, t: F.cross_entropy(o, t)\nmodel = lambda: Net()\n"
    )
    for number in range(3):
        space = {"nn": nn, "F": F, "__name__": "__main__"}
        exec(compile("\n" * number + cell, f"<cell {number}>", "exec"), space)
        sweep(tmp_path, model=space["model"], loss=space["loss"])
    space["width"] = 3
    with pytest.raises(ValueError, match=r"found another model:Net.__init__:width in .*: 2 instead of 3"):
        sweep(tmp_path, model=space["model"], loss=space["loss"])


def test_versions_that_differ_are_said(tmp_path, monkeypatch):
    sweep(tmp_path)
    monkeypatch.setattr(funcbio, "__version__", "9.9")
    with pytest.warns(UserWarning, match=r"funcbio .*, now 9\.9 should compute as before: the sweep in .* goes on"):
        sweep(tmp_path)


def test_rounding_of_another_machine_is_said(tmp_path):
    sweep(tmp_path)
    with pytest.warns(UserWarning, match=r"data\[0\] should be as they were; found differences that may be another"):
        sweep(tmp_path, data=(X * (1 + 2e-7), Y))


def test_a_folder_of_an_earlier_version_is_refused(tmp_path):
    sweep(tmp_path)
    manifest = tmp_path / "sweep.json"
    manifest.write_text('{"chunk": 1, "model": "Linear(in_features=6, out_features=2, bias=True)"}')
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"found one of another version of funcbio in .*: finish it with that"):
        sweep(tmp_path)
    assert contents(tmp_path) == before


# Every file says what it is


def two_chunks(folder, **changes):
    return sweep(folder, seeds=4, chunk=2, **changes)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The folder of a sweep of two chunks, each stopped before its end."""

    def stop(self, name, found):
        raise RuntimeError("stopped")

    for number in range(2):
        with monkeypatch.context() as patch:
            if number:  # The first chunk is done before, and its state is put back after.
                patch.setattr(funcbio.sweeps._store.Store, "finished", lambda self, name: _done(name))
            patch.setattr(funcbio.sweeps._store.Store, "finish", stop)
            with pytest.raises(RuntimeError, match="stopped"):
                two_chunks(tmp_path, steps=2, save_seconds=0)
    return tmp_path


def _done(name):
    if name == "chunk-0000":
        return funcbio.sweeps._store.Trained([], {}, {})
    return None


def test_results_in_the_place_of_others_are_refused_by_name(tmp_path):
    two_chunks(tmp_path)
    one, two = tmp_path / "chunk-0000.done", tmp_path / "chunk-0001.done"
    for change, says in (
        (lambda: swap(one, two), "chunk-0000.done should have chunk chunk-0000; found chunk-0001"),
        (lambda: shutil.copy(one, two), "chunk-0001.done should have chunk chunk-0001; found chunk-0000"),
        (lambda: two.write_bytes(b""), r"chunk-0001.done should be a whole file of save_checkpoint; found nothing"),
        (lambda: (two.unlink(), two.mkdir()), r"chunk-0001.done should be a whole file .*; found a folder"),
        (lambda: funcbio.save_checkpoint(two, rows=[]), "chunk-0001.done should have format 2; found nothing"),
        (lambda: funcbio.save_checkpoint(two, about=3), "chunk-0001.done should have format 2; found 3"),
    ):
        kept = contents(tmp_path)
        change()
        with pytest.raises(FileError, match=says):
            two_chunks(tmp_path)
        for path in (one, two):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(kept[path.name])


def swap(one, two):
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def test_states_in_the_place_of_others_are_refused_by_name(stopped):
    one, two = stopped / "chunk-0000.state", stopped / "chunk-0001.state"
    assert one.exists()
    assert two.exists()
    swap(one, two)
    with pytest.raises(FileError, match=r"chunk-0000.state should have chunk chunk-0000; found chunk-0001"):
        two_chunks(stopped, steps=2)
    swap(one, two)
    shutil.copy(one, stopped / "chunk-0000.done")
    with pytest.raises(FileError, match=r"chunk-0000.done should have kind done; found state"):
        two_chunks(stopped, steps=2)
    (stopped / "chunk-0000.done").unlink()
    whole = two_chunks(stopped / "whole", steps=2)
    assert two_chunks(stopped, steps=2).table == whole.table


def test_files_of_another_sweep_and_of_other_members_are_refused_by_name(tmp_path):
    two_chunks(tmp_path / "one")
    two_chunks(tmp_path / "two", lr=0.4)
    done = tmp_path / "one" / "chunk-0000.done"
    kept = done.read_bytes()
    shutil.copy(tmp_path / "two" / "chunk-0000.done", done)
    with pytest.raises(FileError, match=r"one/chunk-0000.done should have sweep \w{16}; found \w{16}"):
        two_chunks(tmp_path / "one")
    done.write_bytes(kept)
    shutil.copy(tmp_path / "two" / "sweep.json", tmp_path / "one" / "sweep.json")
    with pytest.raises(ValueError, match=r"found another members\[0\]\['lr'\]"):
        two_chunks(tmp_path / "one")
    with pytest.raises(FileError, match=r"one/chunk-0000.done should have sweep"):
        two_chunks(tmp_path / "one", lr=0.4)
    sweep(tmp_path / "three", seeds=4, chunk=3)
    content = load_checkpoint(tmp_path / "three" / "chunk-0001.done")
    assert content["about"]["members"] == [2, 3]


@pytest.mark.parametrize("name", ["sweep.json", "chunk-0000.done"])
def test_damage_is_refused_by_name_and_changes_nothing(tmp_path, name):
    sweep(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], bytes(len(whole)), whole + b"x", b"[]", whole[::-1]):
        (tmp_path / name).write_bytes(damaged)
        before = contents(tmp_path)
        with pytest.raises(FileError, match=f"{name} should be a whole file"):
            sweep(tmp_path)
        assert contents(tmp_path) == before


def test_parts_of_killed_runs_are_cleared_from_the_folder(tmp_path):
    sweep(tmp_path)
    left = tmp_path / f".chunk-0007.state.{funcbio.files._parts.HOST}.0123456789abcdef.part"
    left.write_bytes(b"half")
    sweep(tmp_path)
    assert not left.exists()


# One owner at a time


def owner_of(folder):
    return (folder / "owner.txt").read_text()


def test_a_second_start_is_refused_at_once_and_told_who_works_there(tmp_path):
    inside, refused = [], []

    def make():
        if threading.current_thread() is threading.main_thread() and not inside:
            inside.append(owner_of(tmp_path))

            def start():
                with pytest.raises(ValueError, match=r"in which no other run works; found .* in use by ") as error:
                    sweep(tmp_path, model=lambda: nn.Linear(6, 2))
                refused.append(str(error.value))

            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
        return nn.Linear(6, 2)

    sweep(tmp_path, model=make)
    assert inside[0].startswith(f"process {os.getpid()} on ")
    assert inside[0] in refused[0]
    assert not (tmp_path / "owner.txt").exists()


HOLD = (
    "import sys, time; from pathlib import Path; from funcbio.files._owner import owned\n"
    "with owned(Path(sys.argv[1])): print('begun', flush=True); time.sleep(600)\n"
)


def test_a_killed_process_owns_nothing_any_longer(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "begun\n"
    with pytest.raises(ValueError, match=f"in use by process {holder.pid} on .* since 20..-..-.. ..:..:.."):
        sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["owner.txt"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    sweep(tmp_path)
    assert not (tmp_path / "owner.txt").exists()


def test_many_starts_at_once_have_one_owner(tmp_path):
    owners, together, most = [], [], 25

    def start(number):
        while len(owners) < most:
            try:
                with owned(tmp_path):
                    together.append(number)
                    assert together == [number]
                    time.sleep(0.001)
                    together.clear()
                    owners.append(number)
            except ValueError:
                time.sleep(0.0005)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) >= most
    assert not list(tmp_path.iterdir())


def test_one_thread_may_own_a_folder_twice_through_any_path(tmp_path):
    (tmp_path / "link").symlink_to("folder")
    with owned(tmp_path / "folder"):
        with owned(tmp_path / "link"):
            pass
        assert owner_of(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_neither_keeps_nor_gives_back_the_folder(tmp_path):
    read, write = os.pipe()
    with owned(tmp_path):
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            os._exit(0)
        grandchild = os.fork()
        if grandchild == 0:
            status = 1
            try:
                with owned(tmp_path):
                    pass
            except ValueError:
                status = 0
            os._exit(status)
        assert os.waitpid(grandchild, 0)[1] == 0
        assert owner_of(tmp_path)
    with owned(tmp_path):  # The child still runs, and holds nothing.
        assert owner_of(tmp_path)
    os.write(write, b"x")
    os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_that_leaves_the_block_leaves_the_folder_to_its_parent(tmp_path):
    with owned(tmp_path):
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            assert owner_of(tmp_path)
    if not child:
        os._exit(0 if (tmp_path / "owner.txt").exists() else 1)
    assert not (tmp_path / "owner.txt").exists()


def test_without_locks_the_file_itself_keeps_others_off(tmp_path, monkeypatch):
    monkeypatch.setattr("funcbio.files._lock.fcntl", None)
    with owned(tmp_path):
        assert owner_of(tmp_path)
        found = []

        def start():
            with pytest.raises(ValueError, match=r"if that one is gone, remove .*owner\.txt") as error, owned(tmp_path):
                pass
            found.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        assert found
    assert not list(tmp_path.iterdir())


def test_a_folder_that_vanishes_is_no_error(tmp_path):
    with owned(tmp_path / "folder"):
        shutil.rmtree(tmp_path / "folder")
    assert _owner._open == {}


def test_wrong_arguments_make_no_folder(tmp_path):
    with pytest.raises(ValueError, match="steps should be"):
        sweep(tmp_path / "new", steps=0)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("every", [701, pytest.param(29, marks=pytest.mark.slow)])
def test_an_interrupt_at_any_line_leaves_a_folder_that_goes_on(tmp_path, every):
    numbers, whole = iter(range(10**6)), two_chunks(tmp_path / "whole", steps=2).table

    def check(folder, where):
        assert not list(folder.glob(".*")), where
        assert two_chunks(folder, steps=2, save_seconds=0).table == whole, where
        assert not (folder / "owner.txt").exists(), where

    def run(folder):
        two_chunks(folder, steps=2, save_seconds=0)

    assert interrupted_everywhere(lambda: tmp_path / str(next(numbers)), run, check, every=every) > 3
