"""Damaged files, and files of other kinds: refused by name, before memory is taken and before anything changes."""

import io
import json
import os
import pickle
import random
import stat
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

import funcbio
from funcbio import BioConfig, FileError, load_checkpoint, save_checkpoint
from funcbio.files._seal import read_json, sealed_json

WANTED = {"step": 3, "names": ["a", "ü"], "raw": b"\x00\xff"}


def equal(one, other):
    """Whether two contents are the same, tensors to the bit, types and keys in order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and one.requires_grad == other.requires_grad
        return same and one.detach().contiguous().view(torch.uint8).equal(other.detach().contiguous().view(torch.uint8))
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def flipped(content, at, bit):
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


def flips(content, slow):
    """Every bit of every byte, or a sample that has every part of the file."""
    places = [(at, bit) for at in range(len(content)) for bit in range(8)]
    if slow:
        return places
    return random.Random(0).sample(places, 300) + [(at, 5) for at in (0, 1, len(content) - 1)]


EVERY = [False, pytest.param(True, marks=pytest.mark.slow)]


@pytest.mark.parametrize("slow", EVERY)
def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(tmp_path, slow):
    path, model = tmp_path / "run.pt", nn.Linear(3, 2)
    save_checkpoint(path, model=model, **WANTED)
    content = path.read_bytes()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for at, bit in flips(content, slow):
        path.write_bytes(flipped(content, at, bit))
        with pytest.raises(FileError, match=r"run\.pt should be a whole file of save_checkpoint; found "):
            load_checkpoint(path, model=model)
    assert equal(dict(model.state_dict()), before)


@pytest.mark.parametrize("slow", EVERY)
def test_a_flipped_bit_in_a_file_of_an_earlier_version_is_refused_or_changes_nothing(tmp_path, slow):
    path, content = tmp_path / "run.pt", io.BytesIO()
    torch.save({"model": dict(nn.Linear(3, 2).state_dict()), **WANTED}, content)
    path.write_bytes(content.getvalue())
    wanted, refused = load_checkpoint(path), 0
    for at, bit in flips(content.getvalue(), slow):
        path.write_bytes(flipped(content.getvalue(), at, bit))
        try:
            found = load_checkpoint(path)
        except FileError as error:
            refused += "run.pt should be" in str(error)
        else:
            assert equal(found, wanted), f"byte {at}, bit {bit}"
    assert refused > 100


def archive(pickled, method=zipfile.ZIP_STORED, twice=False, **entries):
    """An archive such as torch's, with a pickle of one's own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as made:
        everything = {"data.pkl": pickled, "byteorder": b"little", "data/0": bytes(12), **entries, "version": b"3\n"}
        for name, value in everything.items():
            made.writestr(f"archive/{name}", value)
        if twice:
            with pytest.warns(UserWarning, match="Duplicate name"):
                made.writestr("archive/data/0", bytes(12))
    return content.getvalue()


def spelled(value):
    return pickle.dumps(value, 2)[2:-1]


def tensor(elements=3, offset=0, shape=(3,), strides=(1,)):
    """The pickle of a tensor that claims to be of some size."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    where = spelled(offset) + b"".join(b"(" + b"".join(map(spelled, sizes)) + b"t" for sizes in (shape, strides))
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + spelled(elements) + b"tQ" + where
    return b"\x80\x02}(X\x01\x00\x00\x00x" + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRu."


def called(name, number):
    return b"\x80\x02}(X\x01\x00\x00\x00xc" + name.encode() + b"\n" + spelled(number) + b"\x85Ru."


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


HUGE = 1 << 40
OTHERS = {
    "empty": (lambda good: b"", "nothing in it"),
    "zeros": (lambda good: bytes(len(good)), "all of them zero"),
    "cut in the middle": (lambda good: good[: len(good) // 2], "an archive without its end"),
    "cut at the end": (lambda good: good[:-1], "an archive without its end"),
    "a byte more": (lambda good: good + b"x", "an archive without its end"),
    "twice": (lambda good: good + good, "checksum"),
    "zeros behind": (lambda good: good + bytes(512), "an archive without its end"),
    "zeros within": (lambda good: good[:900] + bytes(64) + good[964:], "checksum"),
    "text": (lambda good: b"step 3\n" * 100, "another kind of file"),
    "json": (lambda good: b'{"step": 3}', "another kind of file"),
    "a pickle": (lambda good: pickle.dumps({"step": 3}), "another kind of file"),
    "an old torch.save": (lambda good: saved({"step": 3}, _use_new_zipfile_serialization=False), "another kind"),
    "a tensor of torch.save": (lambda good: saved(torch.ones(3)), "one of torch.save that holds Tensor"),
    "a state of torch.save": (lambda good: saved(nn.Linear(1, 1).state_dict()), "torch.save that holds OrderedDict"),
    "a model of torch.save": (lambda good: saved(nn.Linear(1, 1)), "Unsupported global"),
    "another archive": (lambda good: archive(b"")[:0] + _zip({"a": b"b"}), "another kind of archive"),
    "an archive with code": (lambda good: archive(tensor(), **{"code/x.py": b"1"}), "another kind of archive"),
    "compressed": (lambda good: archive(tensor(), zipfile.ZIP_DEFLATED), "an entry that is compressed"),
    "a name twice": (lambda good: archive(tensor(), twice=True), "two entries of the name data/0"),
    "a huge storage": (lambda good: archive(tensor(HUGE)), f"a storage of {HUGE} elements without their bytes"),
    "a huge shape": (lambda good: archive(tensor(shape=(HUGE,))), "a tensor of shape"),
    "a huge stride": (lambda good: archive(tensor(strides=(HUGE,))), "a tensor of shape"),
    "a huge offset": (lambda good: archive(tensor(offset=HUGE)), "a tensor of shape"),
    "a negative offset": (lambda good: archive(tensor(offset=-1)), "a tensor of shape"),
    "one element, repeated": (lambda good: archive(tensor(shape=(HUGE,), strides=(0,))), "a tensor of shape"),
    "a huge bytearray": (
        lambda good: archive(called("__builtin__\nbytearray", HUGE)),
        "a call of __builtin__.bytearray",
    ),
    "a huge tensor made": (lambda good: archive(called("torch\nTensor", HUGE)), "a call of torch.Tensor"),
    "a memo of billions": (lambda good: archive(b"\x80\x02}r\xff\xff\xff\xff."), None),
    "a call of the shell": (
        lambda good: archive(called("os\nsystem", 1)),
        "Trying to load unsupported GLOBAL os.system",
    ),
    "a pickle that ends": (lambda good: archive(tensor()[:-9]), "damage"),
}


def _zip(entries):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, value in entries.items():
            made.writestr(name, value)
    return content.getvalue()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_whole_checkpoint_is_refused_by_name(tmp_path, name):
    path = tmp_path / "run.pt"
    save_checkpoint(path, **WANTED)
    make, says = OTHERS[name]
    path.write_bytes(make(path.read_bytes()))
    if says is None:
        assert load_checkpoint(path) == {}  # Harmless: no reader makes room for what is not there.
        return
    with pytest.raises(FileError, match=r"run\.pt should be a whole file of save_checkpoint; found ") as error:
        load_checkpoint(path)
    assert says in str(error.value)
    assert isinstance(error.value, RuntimeError)
    assert isinstance(error.value, ValueError)


def test_a_huge_claim_takes_no_memory(tmp_path):
    program = (
        "import resource, sys, funcbio\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: funcbio.load_checkpoint(path)\n"
        "    except funcbio.FileError: continue\n"
        "    sys.exit(f'{path} loads')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", tensor(1 << 28, shape=(1 << 28,)))
        with made.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(1 << 10):
                entry.write(bytes(1 << 20))
    contents = [bomb.getvalue(), archive(tensor(1 << 28)), archive(called("builtins\nbytearray", 1 << 30))]
    paths = [tmp_path / f"{number}.pt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000  # Kilobytes; the claims are of a gigabyte each.


def test_folders_and_devices_are_refused_without_being_opened(tmp_path):
    with pytest.raises(FileError, match="found a folder"):
        load_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"pipe should be .*; found a device"):
        load_checkpoint(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match=r"missing\.pt"):
        load_checkpoint(tmp_path / "missing.pt")


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)
    path.chmod(0)
    program = "import os, sys, funcbio; os.geteuid() or os.setuid(65534); funcbio.load_checkpoint(sys.argv[1])"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith(f"PermissionError: [Errno 13] Permission denied: '{path}'")


def test_a_file_that_torch_has_more_to_say_about_says_the_reason(tmp_path):
    torch.save({"lr": BioConfig()}, tmp_path / "run.pt")
    with pytest.raises(FileError, match=r"found Unsupported global: GLOBAL funcbio\.bio_config\.BioConfig"):
        load_checkpoint(tmp_path / "run.pt")


# Files of JSON


@pytest.mark.parametrize("slow", EVERY)
def test_a_flipped_bit_anywhere_in_sealed_json_is_refused(tmp_path, slow):
    path = tmp_path / "sweep.json"
    wanted = {"chunk": 3, "names": ["a", "b"], "rate": {"lr": 0.1}, "nothing": None}
    content = sealed_json(wanted)
    path.write_bytes(content)
    assert read_json(path) == {"format": 2, **wanted}
    assert list(json.loads(content)) == ["format", *wanted, "sha256"]
    for at, bit in flips(content, slow):
        path.write_bytes(flipped(content, at, bit))
        with pytest.raises(FileError, match=r"sweep\.json should be a whole file of JSON.*; found "):
            read_json(path)


def test_json_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "sweep.json").write_text('{"chunk": 3}')
    assert read_json(tmp_path / "sweep.json") == {"chunk": 3}


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 50, b"[1]", b"3", b'{"chunk": ', b"\xff\xfe", b"[" * 100_000, b"{}\n{}", b'{"format": 2}']
)
def test_other_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / "sweep.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"sweep\.json should be a whole file of JSON"):
        read_json(path)


def test_changed_json_folders_and_devices_are_refused_by_name(tmp_path):
    path, whole = tmp_path / "sweep.json", sealed_json({"chunk": 3})
    for changed in (whole[:-1], whole + b"\n", whole[:-80], whole.replace(b"3", b"4", 1), whole * 2, whole[:-1] + b" "):
        path.write_bytes(changed)
        with pytest.raises(FileError, match=r"sweep\.json should be a whole file of JSON"):
            read_json(path)
    os.mkfifo(tmp_path / "pipe")
    for name, found in ((".", "a folder"), ("pipe", "a device")):
        with pytest.raises(FileError, match=f"should be a whole file of JSON; found {found}"):
            read_json(tmp_path / name)


def test_the_error_is_public_and_documented():
    assert funcbio.FileError is FileError
    assert {ValueError, RuntimeError} <= set(FileError.__mro__)
