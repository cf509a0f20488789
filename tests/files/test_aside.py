"""Files are whole, whoever writes them at once, whatever stops the writer, and keep what they are."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading

import pytest
import torch
from interrupts import interrupted_everywhere

from funcbio import load_checkpoint, save_checkpoint
from funcbio.files import _parts
from funcbio.files._aside import write_aside


def write(path, content):
    write_aside(path, lambda file: file.write(content))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def child(program, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], text=True, **options)


def test_threads_that_write_one_path_leave_a_whole_file_of_one_of_them(tmp_path):
    path, found, contents = tmp_path / "run.pt", set(), [bytes([number]) * 200_000 for number in range(4)]

    def many(content):
        for _ in range(25):
            write(path, content)
            found.add(path.read_bytes() in contents)

    threads = [threading.Thread(target=many, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {True}
    assert files(tmp_path) == ["run.pt"]


def test_processes_that_save_one_path_leave_a_whole_checkpoint(tmp_path):
    program = (
        "import sys, torch, funcbio\n"
        "for step in range(20): funcbio.save_checkpoint(sys.argv[1], values=torch.full((9999,), float(sys.argv[2])))\n"
    )
    writers = [child(program, tmp_path / "run.pt", number) for number in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    values = load_checkpoint(tmp_path / "run.pt")["values"]
    assert (values == values[0]).all()
    assert files(tmp_path) == ["run.pt"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o777])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    write(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_gets_the_permissions_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "run.pt", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.pt").stat().st_mode) == 0o666 & ~mask


def test_no_one_may_read_the_part_of_a_secret_file(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")
    path.chmod(0o600)
    seen = []
    write_aside(path, lambda file: seen.extend(stat.S_IMODE(part.stat().st_mode) for part in tmp_path.glob(".*.part")))
    assert seen == [0o600]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "run.pt", tmp_path / "latest.pt"
    link.symlink_to(target)
    for content in (b"one", b"two"):  # At first, there is nothing at its end.
        write(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    (tmp_path / "far.pt").symlink_to("latest.pt")
    write(tmp_path / "far.pt", b"three")
    assert target.read_bytes() == b"three"
    assert files(tmp_path / "disk") == ["run.pt"]
    assert files(tmp_path) == ["disk", "far.pt", "latest.pt"]


def test_links_in_a_circle_folders_and_devices_are_refused_by_name(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, number in (("a", errno.ELOOP), ("folder", errno.EISDIR), ("pipe", errno.EINVAL)):
        with pytest.raises(OSError, match=name if name != "a" else "[ab]'$") as error:
            write(tmp_path / name, b"new")
        assert error.value.errno == number
    assert files(tmp_path) == ["a", "b", "folder", "pipe"]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"folder should be one to write in; found: .*'{tmp_path}/none'"):
        write(tmp_path / "none" / "run.pt", b"new")
    with pytest.raises(OSError, match=r"folder should be one to write in; found: .*'/proc'"):
        write("/proc/funcbio.pt", b"new")


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    for name in ("x" * 255, "ü" * 127, "日" * 85):
        write(tmp_path / name, b"new")
        assert files(tmp_path) == [name]
        (tmp_path / name).unlink()


# Full disks


@pytest.fixture
def small_disk():
    """Lets no file grow beyond 20,000 bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("count", [4_800, 100_000])  # Full at the end, and in the middle.
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_named_and_leaves_the_previous_file(tmp_path, count):
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)
    with pytest.raises(OSError, match=r"run\.pt'$") as error:
        save_checkpoint(path, big=torch.zeros(count))
    assert error.value.errno == errno.EFBIG
    assert load_checkpoint(path) == {"step": 1}
    assert files(tmp_path) == ["run.pt"]


def test_an_error_of_the_writer_stays_what_it_is(tmp_path):
    def fail(error):
        def write(file):
            file.write(b"half")
            raise error

        return write

    write(tmp_path / "run.pt", b"old")
    for error in (RuntimeError("power cut"), OSError(5, "broken", "other.txt"), KeyboardInterrupt(), MemoryError()):
        try:
            raise OSError(28, "an error handled further out")
        except OSError:
            with pytest.raises(type(error)) as raised:
                write_aside(tmp_path / "run.pt", fail(error))
        assert raised.value is error
    assert (tmp_path / "run.pt").read_bytes() == b"old"
    assert files(tmp_path) == ["run.pt"]


# Parts


HANG = (
    "import sys, time; from funcbio.files._aside import write_aside\n"
    "def write(file): file.write(b'half'); file.flush(); print('begun', flush=True); time.sleep(600)\n"
    "write_aside(sys.argv[1], write)\n"
)


def test_parts_of_killed_writers_are_cleared_and_those_of_living_ones_are_not(tmp_path):
    path = tmp_path / "run.pt"
    writers = [child(HANG, path, stdout=subprocess.PIPE) for _ in range(2)]
    assert [writer.stdout.readline() for writer in writers] == ["begun\n"] * 2
    write(path, b"new")
    assert len(files(tmp_path)) == 3
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    write(tmp_path / "other.pt", b"new")
    assert len(files(tmp_path)) == 4  # Those of another file are left to its writers.
    write(path, b"new")
    assert len(files(tmp_path)) == 3
    writers[1].send_signal(signal.SIGKILL)
    writers[1].wait()
    for writer in writers:
        writer.stdout.close()
    write(path, b"newer")
    assert files(tmp_path) == ["other.pt", "run.pt"]
    assert path.read_bytes() == b"newer"


def test_parts_of_other_machines_and_files_of_like_names_are_left_alone(tmp_path):
    token = "0123456789abcdef"
    others = [
        f".run.pt.{_parts.HOST}x.{token}.part",
        f".run.pt.{_parts.HOST}.{token}.part.txt",
        f".run.pt.old.{_parts.HOST}.{token}.part",
        f"run.pt.{_parts.HOST}.{token}.part",
        ".run.pt.part",
    ]
    for name in [*others, f".run.pt.{_parts.HOST}.{token}.part"]:
        (tmp_path / name).write_bytes(b"half")
    write(tmp_path / "run.pt", b"new")
    assert files(tmp_path) == sorted([*others, "run.pt"])


def test_a_part_that_was_cleared_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    real, calls = _parts.lock, []

    def lock(descriptor, *, wait=False):
        if wait and not calls:
            calls.append(1)
            for part in tmp_path.glob(".*.part"):
                part.unlink()
        return real(descriptor, wait=wait)

    monkeypatch.setattr(_parts, "lock", lock)
    write(tmp_path / "run.pt", b"new")
    assert calls
    assert (tmp_path / "run.pt").read_bytes() == b"new"


def test_without_locks_parts_are_written_and_none_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr("funcbio.files._lock.fcntl", None)
    left = f".run.pt.{_parts.HOST}.0123456789abcdef.part"
    (tmp_path / left).write_bytes(b"half")
    write(tmp_path / "run.pt", b"new")
    assert files(tmp_path) == [left, "run.pt"]


# Interrupts


def test_an_interrupt_at_any_line_leaves_the_old_file_or_the_new_one_and_nothing_beside(tmp_path):
    numbers = iter(range(10**6))

    def make():
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        save_checkpoint(folder / "run.pt", step=1, values=torch.zeros(2))
        return folder

    def check(folder, where):
        assert files(folder) == ["run.pt"], where
        assert load_checkpoint(folder / "run.pt")["step"] in (1, 2), where

    count = interrupted_everywhere(make, lambda folder: save_checkpoint(folder / "run.pt", step=2), check)
    assert count > 60


def test_the_folder_is_brought_to_disk_after_the_file(tmp_path, monkeypatch):
    order, real, sync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("rename"), real(*paths)))
    kinds = lambda descriptor: "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append(kinds(descriptor)), sync(descriptor)))
    write(tmp_path / "run.pt", b"new")
    assert order == ["file", "rename", "folder"]
