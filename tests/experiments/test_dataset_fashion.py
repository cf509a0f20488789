"""Fashion-MNIST and MNIST have files of the same names: each is read as what it is, by checksum."""

import gzip

import numpy as np
import pytest
from image_files import MNIST, idx, labels, mnist_files, publish, require_same, write_idx

from funcbio.experiments.datasets import load, packages
from funcbio.experiments.datasets.published import PUBLISHED
from funcbio.experiments.frame.settings import SettingError

INSTALLED = (packages.DEBIAN / "fashion-mnist" / f"{MNIST[0]}.gz").is_file()
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


@pytest.fixture(autouse=True)
def debian(tmp_path, monkeypatch):
    """An empty place for packages of the system, so that only what a test writes is there."""
    monkeypatch.setattr(packages, "DEBIAN", tmp_path / "share")
    return tmp_path / "share" / "fashion-mnist"


@pytest.fixture
def arrays(monkeypatch, tmp_path):
    """Images of both data sets, whose checksums count as the published ones."""
    made = {name: mnist_files() for name in TITLES}
    for name, files in made.items():
        publish(monkeypatch, name, write_idx(tmp_path / "sums" / name, files))
    return made


def require_own(found, files):
    require_same(found, np.concatenate(files[::2])[:, None], np.concatenate(files[1::2]))


@pytest.mark.skipif(not INSTALLED, reason="dataset-fashion-mnist is not installed")
def test_debians_package_is_the_published_data_set(tmp_path, monkeypatch):
    monkeypatch.undo()
    found = load("fashion-mnist", tmp_path)
    assert (found.name, found.shape, found.train, found.classes) == ("fashion-mnist", (1, 28, 28), 60_000, 10)
    assert found.labels[:60_000].bincount().tolist() == [6000] * 10
    assert found.labels[60_000:].bincount().tolist() == [1000] * 10
    assert found.mean.item() == pytest.approx(0.2860, abs=1e-4)  # As published with many networks.
    assert found.std.item() == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.parametrize("place", [".", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_it_is_read_from_the_users_folder_before_that_of_a_package(tmp_path, debian, arrays, place, packed):
    write_idx(debian, mnist_files(5))
    write_idx(tmp_path / "data" / place, arrays["fashion-mnist"], packed)
    require_own(load("fashion-mnist", tmp_path / "data"), arrays["fashion-mnist"])


def test_it_is_read_from_the_package(tmp_path, debian, arrays):
    write_idx(debian, arrays["fashion-mnist"], packed=True)
    require_own(load("fashion-mnist", tmp_path / "nowhere"), arrays["fashion-mnist"])


def test_what_is_not_there_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, debian):
    with pytest.raises(SettingError) as error:
        load("fashion-mnist", tmp_path)
    looked = f"fashion-mnist/{MNIST[0]}", f"FashionMNIST/raw/{MNIST[0]}", f"{debian}/{MNIST[0]}"
    for part in ("should hold fashion-mnist; found none of", *looked, "apt-get install dataset-fashion-mnist"):
        assert part in str(error.value)


@pytest.mark.parametrize(("wanted", "other"), [("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_the_other_are_told_by_checksum(tmp_path, arrays, wanted, other, check, packed):
    write_idx(tmp_path / wanted, arrays[other], packed)
    with pytest.raises(SettingError) as error:
        load(wanted, tmp_path, check=check)
    path = tmp_path / wanted / f"{MNIST[0]}{'.gz' if packed else ''}"
    says = f"{path} should be {TITLES[wanted]}'s {MNIST[0]}; found {TITLES[other]}'s {MNIST[0]}"
    assert str(error.value) == says


@pytest.mark.parametrize("at", range(4))
def test_one_file_of_the_other_is_enough_whether_all_are_there_or_not(tmp_path, arrays, at):
    write_idx(tmp_path / "mnist", arrays["mnist"])
    (tmp_path / "mnist" / MNIST[at]).write_bytes(idx(arrays["fashion-mnist"][at]))
    for missing in (None, MNIST[(at + 1) % 4]):
        if missing:
            (tmp_path / "mnist" / missing).unlink()
        with pytest.raises(SettingError, match=rf"{MNIST[at]} should be MNIST's .*; found Fashion-MNIST's {MNIST[at]}"):
            load("mnist", tmp_path)


def test_files_of_the_other_are_passed_over_where_the_right_ones_are_elsewhere(tmp_path, debian, arrays):
    write_idx(tmp_path, arrays["mnist"])
    write_idx(debian, arrays["fashion-mnist"])
    require_own(load("fashion-mnist", tmp_path), arrays["fashion-mnist"])
    require_own(load("mnist", tmp_path), arrays["mnist"])


@pytest.mark.parametrize("check", [True, False])
def test_files_of_one_data_set_under_each_others_names_are_named(tmp_path, arrays, check):
    train, numbers, test, few = arrays["mnist"]
    write_idx(tmp_path, [test, numbers, train, few])
    with pytest.raises(SettingError, match=f"{MNIST[0]} should be MNIST's {MNIST[0]}; found MNIST's {MNIST[2]}"):
        load("mnist", tmp_path, check=check)


def test_every_published_checksum_is_that_of_one_file():
    sums = [md5 for published in PUBLISHED.values() for md5 in published.sums.values()]
    assert len({*sums}) == len(sums) > 20
    assert PUBLISHED["mnist"].sums.keys() == PUBLISHED["fashion-mnist"].sums.keys()


def cut(content):
    return content[:-1]


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


FAULTS = {
    "nothing": (lambda content: b"", "should be the published file"),
    "cut": (cut, "should be the published file"),
    "a flipped bit": (flipped, "should be the published file"),
    "longer than any": (lambda content: bytes(60_000 * 784 + 17), "should hold at most"),
    "half a gzip file": (lambda content: gzip.compress(content)[:-9], "should be a whole gzip file"),
    "no gzip file": (lambda content: content, "should be a whole gzip file"),
    "a gzip file and more": (lambda content: gzip.compress(content) + b"x", "should be a whole gzip file"),
    "a gzip file of a cut one": (lambda content: gzip.compress(cut(content)), "should be the published file"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(4))
def test_every_fault_of_every_file_is_one_error_that_names_it(tmp_path, debian, arrays, fault, at):
    write_idx(debian, arrays["fashion-mnist"])
    load("fashion-mnist", tmp_path)
    change, says = FAULTS[fault]
    path = debian / MNIST[at]
    content = change(path.read_bytes())
    path.unlink()
    path.with_name(f"{MNIST[at]}.gz" if "gzip" in fault else MNIST[at]).write_bytes(content)
    with pytest.raises(SettingError, match=rf"{MNIST[at]}(\.gz)? {says}.*; found "):
        load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("at", range(4))
def test_half_of_the_files_are_refused(tmp_path, arrays, at):
    write_idx(tmp_path, arrays["fashion-mnist"])
    (tmp_path / MNIST[at]).unlink()
    with pytest.raises(SettingError, match=f"should hold all files of fashion-mnist; found no {MNIST[at]}"):
        load("fashion-mnist", tmp_path)


def test_a_folder_that_cannot_be_read_is_one_error(tmp_path):
    with pytest.raises(SettingError, match=r"should be a folder that can be read; found .*too long"):
        load("fashion-mnist", tmp_path / ("x" * 300))


def test_other_files_are_read_without_check(tmp_path, arrays):
    other = [*mnist_files(4)[:3], labels(3)]
    write_idx(tmp_path, other)
    with pytest.raises(SettingError, match=r"should be the published file, MD5 \w{32}; check=False"):
        load("fashion-mnist", tmp_path)
    require_own(load("fashion-mnist", tmp_path, check=False), other)
