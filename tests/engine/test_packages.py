"""Compiled programs that later processes load: whatever is wrong with them, methods run, and one warning says so."""

import copy
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from _thread import interrupt_main
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch
from places import environment
from torch import nn

import funcbio
from funcbio import BioConverter
from funcbio.engine import _arranged as arranged
from funcbio.engine import _building as building
from funcbio.engine import _packages as packages
from funcbio.engine import _store as store
from funcbio.engine._building import CheckError, without_modes
from funcbio.engine._example import SECOND, example
from funcbio.engine._kernel import Kernel
from funcbio.engine._options import OPTIONS
from funcbio.engine._program import GROUPS, LAYERS, MOST, Loop
from funcbio.engine._switch import VARIABLE
from funcbio.files import _aside as aside
from funcbio.functional._chain import chain
from funcbio.mechanisms._volume import VOLUME


def halve(weight):
    return 0.5 * weight + 0.25


def program(rule=halve, dtype=torch.float32):
    return Loop((Kernel(rule, ("weight",), ("weight",)),), ((),), (dtype,), (0,))


TINY = program()
LIBRARYS = Loop((VOLUME,), (("base_lr", "stability", "variability"),), (torch.float32,) * 2, (0,))


def everything_else():
    """What of torch's state, and of Python's, a build could disturb."""
    switches = torch.get_default_dtype(), torch.get_default_device(), torch.are_deterministic_algorithms_enabled()
    return *switches, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state().tolist()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The package of the smallest program, made once, inside of everything that must not matter."""
    path = tmp_path_factory.mktemp("made") / "program.pt2"
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu"):
            before, filters = everything_else(), [*warnings.filters]
            building.build(TINY, "cpu", path)
            assert everything_else() == before
            assert warnings.filters == filters
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of programs, and nothing in this process that was loaded before."""
    place = tmp_path / "programs"
    place.mkdir(mode=0o700)
    monkeypatch.setenv(store.VARIABLE, str(place))
    monkeypatch.setattr(packages, "_told", set())
    packages._runner.cache_clear()
    yield place
    packages._runner.cache_clear()


@pytest.fixture
def built(folder, made, monkeypatch):
    """What was built, in order; in place of building, the package that was made once is copied."""
    calls = []

    def copied(program, device, path):
        calls.append(program)
        shutil.copy(made, path)

    def plain(program, device):
        calls.append("here")
        return lambda inputs: program(*inputs) or ()

    monkeypatch.setattr(packages, "build", copied)
    monkeypatch.setattr(packages, "compile_here", plain)
    return calls


def inputs(program=TINY, **sizes):
    return example(program, {GROUPS: 7, LAYERS: 2, MOST: 4, **sizes})


def agrees(run, program=TINY, **sizes):
    """Returns True if a runner gives what the rules give."""
    found, expected = inputs(program, **sizes), inputs(program, **sizes)
    run([*found])
    program(*expected)
    return all(torch.allclose(one.double(), other.double()) for one, other in zip(found, expected, strict=True))


def is_tidy(place):
    """Returns True if there is nothing half-written: only whole packages, their notes and locks."""
    names = {path.name for path in place.iterdir()} if place.is_dir() else set()
    whole = [store.package_of(path.stem, place) is not None for path in place.glob("*.pt2")] if names else []
    return all(whole) and all(name.endswith((".pt2", ".json", ".lock")) for name in names)


def test_a_package_is_made_once_and_loaded_ever_after(folder, built):
    for _ in range(3):
        assert agrees(packages.load(TINY, "cpu"))
    assert built == [TINY]
    assert is_tidy(folder)
    assert {path.suffix for path in folder.iterdir()} == {".pt2", ".json", ".lock"}
    assert all(path.stat().st_mode & 0o77 == 0 for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize(("groups", "layers"), [(2, 2), (29, 3), (64, 4), (700, 5)])
def test_a_package_agrees_at_sizes_it_was_not_made_at(made, groups, layers):
    assert agrees(building.open_package(made), **{GROUPS: groups, LAYERS: layers})


def no_compiler(place, monkeypatch):
    def build(*_):
        raise RuntimeError("No working C++ compiler found\nin many lines")

    monkeypatch.setattr(packages, "build", build)


def no_export(place, monkeypatch):
    def build(*_):
        raise NotImplementedError("export is not for this torch")

    monkeypatch.setattr(packages, "build", build)


def wrong_numbers(place, monkeypatch):
    monkeypatch.setattr(packages, "build", lambda program, *_: building.check(program, lambda _: (), "cpu"))


def full_disk(place, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(aside.os, "fsync", fsync)


def full_disk_for_the_note(place, monkeypatch):
    def write(path, *others):
        if path.suffix == store.NOTE:
            raise OSError(errno.ENOSPC, "No space left on device")
        aside.write_aside(path, *others)

    monkeypatch.setattr(store, "write_aside", write)


def no_room_for_temporary_files(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place.parent / "gone"))


def a_file_in_its_place(place, monkeypatch):
    place.rmdir()
    place.write_text("")


def below_a_file(place, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, f"{__file__}/programs")


def read_only(place, monkeypatch):
    def alone(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(packages, "alone", alone)


def somebody_elses(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if os.getuid() == 0:  # Root's folders are everybody's.
        os.chown(place, 54321, -1)


def a_link_to_somebody_elses(place, monkeypatch):
    somebody_elses(place, monkeypatch)
    (place.parent / "link").symlink_to(place)
    monkeypatch.setenv(store.VARIABLE, str(place.parent / "link"))


def writable_by_others(place, monkeypatch):
    place.chmod(0o775)


def no_home(place, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in (store.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(store.sys, "platform", "linux")


def does_not_load(place, monkeypatch):
    def refuse(path):
        raise RuntimeError("cannot open shared object file")

    monkeypatch.setattr(packages, "open_package", refuse)


WRONG = {
    no_compiler: r"No working C\+\+ compiler found\)$",
    no_export: "export is not for this torch",
    wrong_numbers: "computes other numbers than the rules",
    full_disk: "serves this process alone.*No space left on device",
    full_disk_for_the_note: "serves this process alone.*No space left on device",
    no_room_for_temporary_files: "No such file or directory.*gone",
    a_file_in_its_place: "File exists",
    below_a_file: "Not a directory",
    read_only: "Read-only file system",
    somebody_elses: "should be the user's own; found that it is user",
    a_link_to_somebody_elses: "should be the user's own; found that it is user",
    writable_by_others: "only its owner can write to; found that others can: chmod go-w",
    no_home: "Could not determine home directory",
    does_not_load: "cannot open shared object file",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_whatever_is_wrong_programs_run_and_one_warning_names_the_cause(wrong, folder, built, monkeypatch):
    wrong(folder, monkeypatch)
    with pytest.warns(UserWarning, match=WRONG[wrong]) as warned:
        run = packages.runner(TINY, "cpu")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert agrees(run)
    packages._runner.cache_clear()  # As for a second program with the same trouble.
    assert agrees(packages.runner(TINY, "cpu"))
    monkeypatch.undo()
    assert not [*folder.glob("*.pt2")] if folder.is_dir() else folder.is_file()
    assert is_tidy(folder)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a byte of the package": lambda path: flip_a_byte(path),
    "half a package": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "an empty package": lambda path: path.write_bytes(b""),
    "a byte of the note": lambda path: flip_a_byte(path.with_suffix(store.NOTE)),
    "no JSON": lambda path: path.with_suffix(store.NOTE).write_text("{"),
    "no dictionary": lambda path: path.with_suffix(store.NOTE).write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_package_is_made_anew(damage, folder, built):
    packages.load(TINY, "cpu")
    (path,) = folder.glob("*.pt2")
    damage(path)
    with pytest.warns(UserWarning, match="it is made anew .*should be") as warned:
        assert agrees(packages.runner(TINY, "cpu"))
    assert len(warned) == 1
    assert built == [TINY, TINY]
    assert is_tidy(folder)
    assert agrees(packages.load(TINY, "cpu"))


@pytest.mark.parametrize("missing", [store.NOTE, store.PACKAGE])
def test_half_of_a_package_is_none(missing, folder, built):
    packages.load(TINY, "cpu")
    next(folder.glob(f"*{missing}")).unlink()
    assert agrees(packages.load(TINY, "cpu"))
    assert built == [TINY, TINY]


def test_a_package_that_others_can_write_to_is_not_run(folder, built):
    packages.load(TINY, "cpu")
    next(folder.glob("*.pt2")).chmod(0o666)
    with pytest.warns(UserWarning, match=r"\.pt2 should be one that only its owner can write to"):
        packages.runner(TINY, "cpu")
    assert built == [TINY, "here"]


def test_loading_writes_nothing(folder, built, monkeypatch):
    packages.load(TINY, "cpu")
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}
    read_only(folder, monkeypatch)
    assert agrees(packages.load(TINY, "cpu"))
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == before


def test_a_package_of_strange_code_is_checked_in_every_process(folder, built, monkeypatch):
    checked = []
    monkeypatch.setattr(packages, "check", lambda program, *_: checked.append(program))
    packages.load(TINY, "cpu")
    assert checked == []  # When it was made: by ``build``.
    packages.load(TINY, "cpu")
    assert checked == [TINY]
    assert packages._strangers(TINY)
    assert not packages._strangers(LIBRARYS)


@pytest.mark.parametrize("change", [lambda t: t.add_(0.1), lambda t: t.zero_(), lambda t: t[:1].fill_(torch.nan)])
def test_wrong_numbers_are_found(change):
    def wrong(given):
        TINY(*given)
        change(given[2])
        return ()

    building.check(TINY, lambda given: TINY(*given) or (), "cpu")
    with pytest.raises(CheckError, match="other numbers"):
        building.check(TINY, wrong, "cpu")


def third(weight):
    return weight / 3.0


def twin(weight):
    return 0.5 * weight + 0.75


twin.__name__ = twin.__qualname__ = "halve"


def test_names_tell_programs_apart(monkeypatch):
    def name(program=TINY):
        return packages.name_of(program, "cpu")

    names = [name(), name(program(third)), name(program(twin)), name(program(dtype=torch.float64)), name(LIBRARYS)]
    names += [name(program(lambda weight: weight + 1.0)), name(program(lambda weight: weight + 2.0))]
    assert name(program()) == names[0]
    for target, value in (("rules", lambda: "other"), ("machine", lambda device: "other"), ("AHEAD", {"a": 1})):
        with monkeypatch.context() as patch:
            patch.setattr(packages, target, value)
            names.append(name())
    assert len({*names}) == len(names)
    assert all(store.NAME.search(one) for one in names)


def test_the_checksum_of_the_rules_is_that_of_their_source(tmp_path, monkeypatch):
    before = store.rules()
    shutil.copytree(store.ROOT, tmp_path / "funcbio", ignore=shutil.ignore_patterns("__pycache__", "experiments"))
    monkeypatch.setattr(store, "ROOT", tmp_path / "funcbio")
    assert store.rules.__wrapped__() == before
    with open(tmp_path / "funcbio" / "mechanisms" / "_volume.py", "a") as file:
        file.write("# changed\n")
    assert store.rules.__wrapped__() != before


def test_threads_make_a_program_once(folder, built, monkeypatch):
    copied, together, results = packages.build, Barrier(4), []

    def slow(*args):
        time.sleep(0.2)
        copied(*args)

    def work():
        together.wait()
        results.append(agrees(packages.load(TINY, "cpu")))

    monkeypatch.setattr(packages, "build", slow)
    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert built == [TINY]


CHILD = """
import sys, torch, test_packages as tests
from funcbio.engine import _packages as packages
torch.set_num_threads(1)
"""
LOADS = """
def build(*_): raise AssertionError("built")
packages.build = build
assert tests.agrees(packages.load(tests.TINY, "cpu"))
"""
HANGS = """
import time
def build(*_): print("building", flush=True); time.sleep(60)
packages.build = build
packages.load(tests.TINY, "cpu")
"""
BUILDS = """
assert tests.agrees(packages.load(tests.TINY, "cpu"))
"""


def child(code, **options):
    variables = environment()
    variables["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), variables["PYTHONPATH"]])
    return subprocess.Popen([sys.executable, "-c", CHILD + code], env=variables, text=True, **options)


def test_another_process_loads_what_this_one_made(folder, built):
    packages.load(TINY, "cpu")
    assert child(LOADS).wait(300) == 0


def test_a_process_that_was_killed_is_no_obstacle(folder, built):
    process = child(HANGS, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert agrees(packages.load(TINY, "cpu"))


@pytest.mark.slow
def test_two_processes_make_one_package(folder):
    processes = [child(BUILDS) for _ in range(2)]
    assert [process.wait(600) for process in processes] == [0, 0]
    assert is_tidy(folder)
    assert len([*folder.glob("*.pt2")]) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_not_kept_waiting_by_a_thread_that_it_has_not(folder, built):
    with packages._building:
        process = os.fork()
        if not process:
            thread = Thread(target=packages.runner, args=(TINY, "cpu"), daemon=True)
            thread.start()
            thread.join(60)
            os._exit(int(thread.is_alive()))
        assert os.waitpid(process, 0)[1] == 0


def test_an_interrupt_leaves_nothing_and_comes_through(folder, built, monkeypatch):
    copied, folders = packages.build, []

    def interrupted(program, device, path):
        copied(program, device, path)
        folders.append(path.parent)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packages, "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            packages.runner(TINY, "cpu")
    assert not folders[0].exists()
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert agrees(packages.runner(TINY, "cpu"))


@pytest.fixture
def interruptible():
    """Lets SIGINT raise, also in processes that were started in the background, which ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_work_outside_of_modes_is_done_when_an_interrupt_comes_through():
    done = []

    def work():
        interrupt_main()
        time.sleep(0.2)
        done.append(torch.is_inference_mode_enabled())

    with torch.inference_mode(), pytest.raises(KeyboardInterrupt):
        without_modes(work)
    assert done == [False]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_errors_come_through_from_outside_of_modes(error):
    def work():
        raise error("at work")

    with torch.device("cpu"), pytest.raises(error, match="at work"):
        without_modes(work)


def test_clearing_removes_packages_and_nothing_else(folder, built):
    packages.load(TINY, "cpu")
    (folder / "settings.json").write_text("{}")
    (folder / f".{next(folder.glob('*.pt2')).name}.{'0' * 16}.part").write_text("of another machine")
    ((path, note),) = store.kept_packages()
    assert note["rules"] == ["halve"]
    assert note["kind"] == "rules"
    assert note["types"] == ["float32"]
    assert path.exists()
    assert store.clear_packages() == 1
    assert {path.suffix for path in folder.iterdir()} == {".json", ".part"}
    assert store.kept_packages() == []
    assert store.clear_packages() == 0


@pytest.mark.slow
def test_torch_compiles_what_no_package_can_be_made_of(folder, monkeypatch):
    monkeypatch.setattr(OPTIONS, "packages", False)
    run = packages.runner(TINY, "cpu")
    assert agrees(run)
    assert agrees(run, **SECOND)
    assert not [*folder.iterdir()]


@pytest.fixture
def compiled(monkeypatch):
    """Tells of each call whether it was to be compiled, and runs it uncompiled; the switch is put back."""
    asked = []

    def programs(group, columns):
        asked.append(group.layers[0].compiles)
        return [None] * len(group.passes)

    monkeypatch.setattr(arranged.Group, "_programs", programs)
    yield asked
    funcbio.set_compile(False)


def converted(**options):
    model = BioConverter(**options)(nn.Linear(8, 4))
    model(torch.ones(2, 8)).square().sum().backward()
    return model


def pickled(model):
    grad, model = model.weight.grad, pickle.loads(pickle.dumps(model))
    model.weight.grad = grad.clone()
    return model


def again(model):
    model(torch.ones(2, 8)).square().sum().backward()
    return model


TOLD = pytest.mark.parametrize(
    ("own", "expected"), [(None, [False, True, False]), (True, [True] * 3), (False, [False] * 3)]
)
"""What a thing's own ``compile`` comes to while the switch is off, on, and off again."""


@pytest.mark.parametrize("same", [lambda model: model, copy.deepcopy, pickled], ids=["itself", "copy", "pickle"])
@TOLD
def test_models_follow_the_switch_unless_they_were_told(same, own, expected, compiled):
    model = same(converted(compile=own))
    for on in (False, True, False):
        funcbio.set_compile(on)
        again(model).bio_step()
    assert compiled == expected


@TOLD
def test_optimizers_follow_the_switch_unless_they_were_told(own, expected, compiled):
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    funcbio.attach(optimizer, model, ["volume_dependent_lr"], compile=own)
    for on in (False, True, False):
        funcbio.set_compile(on)
        again(model)
        optimizer.step()
    assert compiled == expected


@TOLD
def test_chains_follow_the_switch_unless_they_were_told(own, expected, compiled):
    tree, step, found = {"w": torch.ones(2, 2)}, chain(funcbio.volume_dependent_lr, compile=own), []
    for on in (False, True, False):
        funcbio.set_compile(on)
        step(tree, tree, funcbio.BioState(rate=tree), key=funcbio.key(0))
        found.append(any(compiled))  # Small trees go leaf by leaf unless compiled.
        compiled.clear()
    assert found == expected


def test_attach_takes_compile_for_a_plain_model_only():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrong = {"compile": 1}, {"compile": True, "converter": BioConverter()}
    for options, match in zip(wrong, ("True, False or None; found 1", "None for a converter"), strict=True):
        with pytest.raises(ValueError, match=f"compile should be {match}"):
            funcbio.attach(optimizer, model, ["volume_dependent_lr"], **options)
    BioConverter()(model)
    with pytest.raises(ValueError, match="compile should be None for a converted model, whose own counts; found False"):
        funcbio.attach(optimizer, model, ["volume_dependent_lr"], compile=False)


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_the_switch_is_on_or_off(value):
    with pytest.raises(ValueError, match="value should be True or False"):
        funcbio.set_compile(value)


@pytest.mark.parametrize(("text", "expected"), [("1", "True"), ("0", "False"), ("", "False"), ("yes", "False")])
def test_the_environment_sets_the_switch(text, expected):
    code = "from funcbio.engine._switch import compiles; print(compiles(None), compiles(True))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(**{VARIABLE: text}), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "True"]
    assert ("should be 0 or 1; found 'yes'" in done.stderr) == (text == "yes")


def test_a_chain_that_draws_nothing_compiles_without_a_key(compiled):
    tree, features = {"w": torch.ones(2, 2)}, (funcbio.crystallize, funcbio.fuzzy_learning_rates)
    state = funcbio.BioState(rate={"w": torch.rand(2, 2)})
    _, grads, after = chain(*features, compile=True)(tree, tree, state)
    _, plain, before = chain(*features)(tree, tree, state)
    torch.testing.assert_close(grads, plain)
    torch.testing.assert_close(after.rate, before.rate)
    assert len(compiled) == 1
