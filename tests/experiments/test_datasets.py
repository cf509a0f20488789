"""Small files in the formats in which MNIST and CIFAR are published, and hostile ones."""

import doctest
import gzip
import importlib
import io
import pickle
import re
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
import torch
from image_files import MNIST, idx, images, labels, mnist_files, publish, require_same, write_idx

from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.datasets import load
from funcbio.experiments.datasets.idx import read_idx
from funcbio.experiments.datasets.unpickling import unpickle
from funcbio.experiments.frame.results import load_or_run
from funcbio.experiments.frame.settings import SettingError
from funcbio.files import FileError


class Python2(pickle._Pickler):
    """Writes as Python 2 did: byte strings as they are, and numpy's name of that time."""

    dispatch = {**pickle._Pickler.dispatch}  # noqa: RUF012 - as in the class above it

    def save_bytes(self, text):
        short = len(text) < 256
        self.write(b"U" + bytes([len(text)]) + text if short else b"T" + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    def save_global(self, item, name=None):
        if getattr(item, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(item)
        else:
            super().save_global(item, name)

    dispatch[bytes] = save_bytes
    dispatch[type(len)] = save_global


def python2(content):
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue()


def cifar(count, classes=10):
    return images(count, 3, 32, 32), labels(count, classes)


def batch(pixels, numbers, key):
    return {b"batch_label": b"one", key: numbers.tolist(), b"data": pixels.reshape(len(pixels), -1)}


def write_cifar10(folder, parts, write, ending):
    names = [f"data_batch_{number}{ending}" for number in range(1, 6)] + [f"test_batch{ending}"]
    for name, part in zip(names, parts, strict=True):
        folder.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(write(*part))
    return [folder / name for name in names]


def binary(pixels, numbers):
    return np.concatenate([numbers[:, None], pixels.reshape(len(pixels), -1)], axis=1).tobytes()


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read_from_idx_files(tmp_path, place, packed):
    arrays = mnist_files()
    write_idx(tmp_path / place, arrays, packed)
    found = load("mnist", tmp_path, check=False)
    assert (found.train, found.classes, found.shape) == (7, 10, (1, 28, 28))
    require_same(found, np.concatenate(arrays[::2])[:, None], np.concatenate(arrays[1::2]))


@pytest.mark.parametrize("kind", ["binary", "python"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_is_read_in_both_formats_and_from_archives(tmp_path, kind, packed):
    parts = [cifar(4) for _ in range(6)]
    if kind == "binary":
        folder, write, ending = tmp_path / "cifar-10-batches-bin", binary, ".bin"
    else:
        folder, ending = tmp_path / "cifar-10-batches-py", ""
        write = lambda *part: python2(batch(*part, b"labels"))
    paths = write_cifar10(folder, parts, write, ending)
    if packed:
        with tarfile.open(tmp_path / f"cifar-10-{kind}.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        for path in paths:
            path.unlink()
    found = load("cifar10", str(tmp_path), check=False)
    assert (found.train, found.classes, found.shape) == (20, 10, (3, 32, 32))
    require_same(found, np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))


def test_cifar100_takes_the_fine_labels_of_both_formats(tmp_path):
    parts = {"train": cifar(5, 100), "test": cifar(2, 100)}
    for name, (pixels, fine) in parts.items():
        coarse = np.full((len(fine), 1), 99, np.uint8)
        (tmp_path / f"{name}.bin").write_bytes(
            np.concatenate([coarse, fine[:, None], pixels.reshape(-1, 3072)], 1).tobytes()
        )
    wanted = np.concatenate([parts["train"][0], parts["test"][0]]), np.concatenate([p[1] for p in parts.values()])
    require_same(load("cifar100", tmp_path, check=False), *wanted)
    for name, part in parts.items():
        (tmp_path / f"{name}.bin").unlink()
        (tmp_path / name).write_bytes(python2({**batch(*part, b"fine_labels"), b"coarse_labels": [0]}))
    found = load("cifar100", tmp_path, check=False)
    assert found.classes == 100
    require_same(found, *wanted)


def test_the_digits_are_there_without_a_file():
    found = load()
    assert (found.shape, found.classes, len(found.labels), found.train) == ((1, 8, 8), 10, 1797, 1797)
    assert float(found.images.mean()) == pytest.approx(0.0, abs=1e-5)
    pixels = 16 * (found.images * found.std + found.mean)
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)
    assert pixels.max().round() == 16


def test_checksums_are_compared_and_can_be_left_out(tmp_path, monkeypatch):
    sums = write_idx(tmp_path, mnist_files(), packed=True)
    with pytest.raises(SettingError, match=r"train-images-idx3-ubyte.gz should be the published file, MD5 6bbc9ace"):
        load("mnist", tmp_path)
    publish(monkeypatch, "mnist", sums)
    assert load("mnist", tmp_path).train == 7
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz"):
        pass
    publish(monkeypatch, "cifar10", {"cifar-10-binary.tar.gz": "0" * 32})
    with pytest.raises(SettingError, match=r"cifar-10-binary.tar.gz should be the published file"):
        load("cifar10", tmp_path)


def test_one_message_says_what_was_looked_for_where(tmp_path):
    with pytest.raises(SettingError) as error:
        load("cifar10", tmp_path / "nowhere")
    for part in (
        "nowhere",
        "cifar10",
        "cifar-10-batches-bin/data_batch_1.bin",
        "cifar-10-python.tar.gz",
        "toronto.edu",
    ):
        assert part in str(error.value)
    with pytest.raises(SettingError, match=r"data should be one of digits, mnist, fashion-mnist, .*; found 'svhn'"):
        load("svhn")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(SettingError, match="should hold all files of mnist; found no train-labels-idx1-ubyte, t10k"):
        load("mnist", tmp_path)


DAMAGED = [
    (b"", "found nothing"),
    (b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd", "found 00 00 0d 01"),
    (b"\x00\x00\x08\x03\x00\x00\x00\x01a", "found 00 00 08 03"),
    (b"\x00\x00\x08\x01\x00\x00\x00\x05abcd", "should hold 5 values, as its head says; found 4"),
    (b"\x00\x00\x08\x01\xff\xff\xff\xffabcd", "found 4"),
]


@pytest.mark.parametrize(("content", "says"), DAMAGED)
def test_damaged_idx_files_are_refused(content, says):
    with pytest.raises(SettingError, match=says):
        read_idx(content, "labels", 1)


def test_other_damage_is_named(tmp_path):
    arrays = mnist_files()
    for name, array in zip(MNIST, arrays, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    (tmp_path / MNIST[1]).write_bytes(idx(labels(6)))
    with pytest.raises(SettingError, match="train-labels-idx1-ubyte should hold 7 labels"):
        load("mnist", tmp_path, check=False)
    (tmp_path / MNIST[1]).write_bytes(idx(np.full(7, 11, np.uint8)))
    with pytest.raises(SettingError, match="mnist should have labels under 10; found 11"):
        load("mnist", tmp_path, check=False)
    (tmp_path / MNIST[1]).unlink()
    (tmp_path / f"{MNIST[1]}.gz").write_bytes(gzip.compress(idx(labels(7)))[:-9])
    with pytest.raises(SettingError, match="should be a whole gzip file"):
        load("mnist", tmp_path, check=False)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(SettingError, match=r"should be a whole tar.gz archive"):
        load("cifar10", tmp_path, check=False)
    write_cifar10(tmp_path, [cifar(2)] * 6, lambda *part: binary(*part)[:-1], ".bin")
    with pytest.raises(
        SettingError, match=r"data_batch_1.bin should hold one or more records of 3073 bytes; found 6145"
    ):
        load("cifar10", tmp_path, check=False)


def zeros(path, count, start=b""):
    """Writes a gzip file of a start and so many zeros, a thousandth of that size."""
    with gzip.open(path, "wb") as file:
        file.write(start)
        for _ in range(count >> 20):
            file.write(bytes(1 << 20))


def sparse(path):
    """Writes an archive of a file that is nothing but one hole of a terabyte."""
    member = tarfile.TarInfo("data_batch_1.bin")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[483:495] = tarfile.itn(1 << 40, 12, tarfile.GNU_FORMAT)
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head[:148]) + b" " * 8 + bytes(head[156:]))[0]
    path.write_bytes(gzip.compress(bytes(head) + bytes(1024)))


def peak_of(load_it):
    tracemalloc.start()
    try:
        with pytest.raises(SettingError) as error:
            load_it()
        return tracemalloc.get_traced_memory()[1], str(error.value)
    finally:
        tracemalloc.stop()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("check", [True, False])
def test_what_unpacks_to_more_than_was_published_is_refused_before_it_takes_memory(tmp_path, check):
    for name in MNIST:
        zeros(tmp_path / f"{name}.gz", 1 << 28, idx(images(1, 28, 28)))
    peak, says = peak_of(lambda: load("mnist", tmp_path, check=check))
    assert f"{MNIST[0]}.gz should hold at most 47040016 bytes; found more" in says
    assert peak < 10 << 20
    archive = tmp_path / "cifar-10-binary.tar.gz"
    zeros(archive, 1 << 29)
    peak, says = peak_of(lambda: load("cifar10", tmp_path, check=check))
    assert f"{archive} should " in says
    assert peak < 10 << 20
    sparse(archive)
    peak, says = peak_of(lambda: load("cifar10", tmp_path, check=check))
    assert f"{archive} should " in says
    assert peak < 10 << 20
    assert check or says.endswith(f"found {1 << 40}")


@pytest.mark.parametrize("packed", [False, True])
def test_checksums_are_compared_before_a_file_is_kept(tmp_path, packed):
    for name in MNIST:
        if packed:
            zeros(tmp_path / f"{name}.gz", 40 << 20)
        else:
            (tmp_path / name).write_bytes(bytes(40 << 20))
    peak, says = peak_of(lambda: load("mnist", tmp_path))
    assert "should be the published file" in says
    assert peak < 10 << 20


def test_damage_anywhere_in_a_packed_file_is_refused_by_name_or_changes_nothing(tmp_path):
    contents = [gzip.compress(idx(array)) for array in mnist_files()]
    for name, content in zip(MNIST, contents, strict=True):
        (tmp_path / f"{name}.gz").write_bytes(content)
    path, good = tmp_path / f"{MNIST[1]}.gz", contents[1]
    wanted = load("mnist", tmp_path, check=False).labels
    for content in (*(good[:end] for end in (0, 1, 9, len(good) // 2, len(good) - 1)), good + b"x"):
        path.write_bytes(content)
        with pytest.raises(SettingError, match=MNIST[1]):
            load("mnist", tmp_path, check=False)
    refused = 0
    for at in (0, 1, 2, *range(10, len(good))):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        try:
            assert torch.equal(load("mnist", tmp_path, check=False).labels, wanted), at
        except SettingError as error:
            refused += MNIST[1] in str(error)
    assert refused > len(good) - 15  # Only bits that no reader looks at may differ.


KEPT = [
    b"",
    b"\0" * 9,
    b"\xff",
    b"[1]",
    b"{",
    b"[" * 100_000,
    b"{}",
    b'{"settings": {}}',
    b'{"settings": {}, "result": 3}',
]


@pytest.mark.parametrize("content", KEPT)
def test_damaged_results_that_were_kept_are_refused_by_name(tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one.json").write_bytes(content)
    with pytest.raises(FileError, match=r"one\.json should "):
        load_or_run(tmp_path, "one", Settings(), dict)
    assert (tmp_path / "runs" / "one.json").read_bytes() == content


def test_a_flipped_bit_in_results_that_were_kept_is_noticed(tmp_path):
    (tmp_path / "runs").mkdir()
    result = load_or_run(tmp_path, "one", Settings(), lambda: {"accuracy": 0.9125, "losses": [0.5, 0.25]})
    path = tmp_path / "runs" / "one.json"
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(FileError, match=r"one\.json should "):
            load_or_run(tmp_path, "one", Settings(), dict)
    path.write_bytes(whole)
    assert load_or_run(tmp_path, "one", Settings(), dict) == result


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def shell(path):
    import os

    return Evil(os.system, (f"touch {path}",))


def crafted(path):
    """Pickles that would run something, or take all memory."""
    home = f"{path}".encode()
    yield b"cos\nsystem\n(S'touch " + home + b"'\ntR.", "a call of os.system"
    yield b"(S'touch " + home + b"'\nios\nsystem\n.", "the instruction INST"
    yield b"(cos\nsystem\nS'touch " + home + b"'\no.", "a call of os.system"
    yield b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01a\x85R.", "the instruction SHORT_BINUNICODE"
    yield b"\x80\x02\x82\x01.", "the instruction EXT1"
    yield b"\x80\x02U\x01aQ.", "the instruction BINPERSID"
    yield b"\x80\x02cnumpy\ndtype\n)\x81.", "the instruction NEWOBJ"
    yield b"\x80\x02cnumpy.core.multiarray\nfrombuffer\n.", "a call of numpy.core.multiarray.frombuffer"
    yield b"\x80\x02cnumpy\ndtype.__class__\n.", "a call of numpy.dtype.__class__"
    yield b"\x80\x02cbuiltins\neval\nU\x011\x85R.", "a call of builtins.eval"
    yield b"\x80\x02]r\xff\xff\xff\xff.", "a memo of 4294967295 entries"
    yield b"\x80\x02cnumpy\ndtype\n}U\x08__call__U\x01xsb.", "damage"
    yield b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "an array of type"
    yield b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x06rot_13\x86R.", "text to be encoded"
    yield b"\x80\x02}", "damage"
    yield b"", "damage"


def test_hostile_pickles_run_nothing(tmp_path):
    touched = tmp_path / "touched"
    cases = [*crafted(touched), (pickle.dumps(shell(touched), 2), "a call of posix.system")]
    cases += [(pickle.dumps({b"data": shell(touched)}, protocol), "") for protocol in range(6)]
    for content, says in cases:
        with pytest.raises(SettingError, match=rf"batch should hold only dicts.*; found .*{re.escape(says)}"):
            unpickle(content, "batch")
    assert not touched.exists()


def array_state(shape, kind, content):
    """An array's pickle with a state of one's own."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    sizes = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in shape) + b"t"
    return (
        head
        + sizes
        + b"cnumpy\ndtype\nU\x02"
        + kind
        + b"K\x00K\x01\x87R\x89U"
        + bytes([len(content)])
        + content
        + b"tb."
    )


def test_arrays_that_lie_are_refused():
    assert unpickle(array_state([2, 2], b"u1", b"abcd"), "batch").tolist() == [[97, 98], [99, 100]]
    for shape, kind, content in (([2, 3], b"u1", b"abcd"), ([-2, -2], b"u1", b"abcd"), ([1], b"O8", b"abcdefgh")):
        with pytest.raises(SettingError, match="found an array"):
            unpickle(array_state(shape, kind, content), "batch")


def test_pickles_written_again_by_python_3_are_read():
    content = batch(*cifar(2), b"labels")
    found = unpickle(pickle.dumps(content, protocol=2), "batch")
    assert found[b"labels"] == content[b"labels"]
    assert np.array_equal(found[b"data"], content[b"data"])


@pytest.mark.parametrize("content", [[1], {}, {b"data": 3, b"labels": [1]}, {b"labels": [1], b"data": images(1, 5)}])
def test_pickles_of_other_things_are_named(tmp_path, content):
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(python2(content))
    with pytest.raises(SettingError, match="train should hold a dict with data of 3072 numbers a row"):
        load("cifar100", tmp_path, check=False)


@pytest.mark.parametrize(
    "module", ["datasets.idx", "datasets.rows", "datasets.unpickling", "datasets.loading", "networks.named"]
)
def test_the_examples_run(module):
    found = importlib.import_module(f"funcbio.experiments.{module}")
    flags = doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS
    failed, tried = doctest.testmod(found, extraglobs={"torch": torch}, optionflags=flags)
    assert (failed, tried > 0) == (0, True)
