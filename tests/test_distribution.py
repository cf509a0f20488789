"""What is published is whole and true: built, and installed where nothing else is, without any network."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from places import ROOT, environment

import funcbio
from funcbio.experiments.commands import COMMANDS

pytest.importorskip("hatchling", reason="hatchling is missing: it comes with the extra dev")
yaml = pytest.importorskip("yaml")
metadata = pytest.importorskip("packaging.metadata")
requirements = pytest.importorskip("packaging.requirements")

PAPER = "10.1038/s41467-025-60078-9"


def run(*line, **options):
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(kind, source, folder):
    """The archive that hatchling makes of some source."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source, env=environment())
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory):
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source_archive, tmp_path_factory):
    """The wheel, made of what the source archive holds, as an installer makes it."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source_archive) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


def files_of(folder):
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == {str(path.relative_to(ROOT)) for path in files_of(ROOT / "funcbio")}
    assert "funcbio/py.typed" in inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_source_archive_holds_the_repository(source_archive):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("no repository here")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists() and not name.startswith(".ci/")}
    with tarfile.open(source_archive) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked <= inside
    assert {"PKG-INFO"} <= inside


def test_the_metadata_are_valid_and_true(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    content = archive.read(name)
    found = metadata.Metadata.from_email(content, validate=True)  # Refuses fields and values that do not exist.
    assert (found.name, str(found.version)) == ("funcbio", funcbio.__version__)
    assert wheel.name.startswith(f"funcbio-{funcbio.__version__}-py3-none-any")
    assert found.license_expression == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert found.license_files == ["LICENSE"]
    assert (
        message_from_bytes(content).get_payload(decode=True).decode().strip()
        == (ROOT / "README.md").read_text().strip()
    )
    assert "Typing :: Typed" in found.classifiers
    lowest = min(
        tuple(map(int, minor.split("."))) for minor in re.findall(r"Python :: (3\.\d+)", "\n".join(found.classifiers))
    )
    assert str(found.requires_python) == ">=" + ".".join(map(str, lowest))
    own = {one.name for one in found.requires_dist if one.marker is None}
    assert own == {"torch", "optree"}
    assert set(found.provides_extra) >= {"experiments", "sweep", "monitor", "lightning", "transformers"}


def test_messages_name_extras_that_exist(wheel):
    extras = set(metadata.Metadata.from_email(_metadata_of(wheel)).provides_extra)
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "funcbio").rglob("*.py")))
    named = {*re.findall(r'extra="(\w+)"', sources)}
    named |= {name for one in COMMANDS.values() for name in one.needs[0].split(",")}
    assert {"sweep", "experiments", "monitor"} <= named <= extras


def _metadata_of(wheel):
    archive = zipfile.ZipFile(wheel)
    return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


def needed(*names):
    """The installed distributions that some need, with all that these need."""
    found, names = {}, list(names)
    while names:
        name = names.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # Of another platform.
        wanted = map(requirements.Requirement, found[name].requires or ())
        names += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found.values()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of commands of an environment with the wheel, what it declares to need, and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--quiet", wheel)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for one in needed("torch", "optree"):
        for top in {path.parts[0] for path in one.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(one.locate_file(top)).resolve())
    return folder / "bin"


PROGRAM = """
import importlib.metadata, torch, funcbio
assert importlib.metadata.version("funcbio") == funcbio.__version__
assert "site-packages" in funcbio.__file__, funcbio.__file__
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.Adam(model.parameters())
funcbio.attach(optimizer, model, ["fuzzy_learning_rates"])
model(torch.randn(4, 3)).sum().backward()
optimizer.step()
funcbio.save_checkpoint("checkpoint", model=model)
funcbio.load_checkpoint("checkpoint", model=model)
x = torch.randn(16, 3)
make = lambda: torch.nn.Linear(3, 3)
swept = lambda: funcbio.sweep(
    make, torch.nn.functional.mse_loss, (x, x), steps=2, batch_size=8, mechanisms=["l2_init"], seeds=2, output="sweep"
)
result = swept()
assert swept().table == result.table
print(result)
"""


WITHOUT_NUMPY = "ignore:Failed to initialize NumPy:UserWarning"
"""Torch's own: it works without."""


def alone(*line, folder, code=0):
    """What a command prints with nothing of this environment or repository within reach."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, cwd=folder, env=bare)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_wheel_works_where_nothing_else_is(installed, tmp_path):
    shown = alone(installed / "python", "-W", "error", "-W", WITHOUT_NUMPY, "-c", PROGRAM, folder=tmp_path)
    assert shown.startswith("SweepResult(members=2")


def test_the_command_is_there_and_names_what_is_missing(installed, tmp_path):
    assert alone(installed / "funcbio", "--version", folder=tmp_path).startswith(f"funcbio {funcbio.__version__}")
    shown = alone(installed / "funcbio", "compare", folder=tmp_path, code=2)
    assert re.search(r"scikit-learn, .* not found; install with: pip install", shown)


def test_the_citation_is_whole_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["cff-version"]) == "1.2.0"
    assert {"title", "message", "authors", "license", "version"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (funcbio.__version__, "MIT")
    (paper,) = citation["references"]
    assert paper["doi"] == PAPER
    assert [author["family-names"] for author in paper["authors"]] == ["Hofmann", "Becker", "Tetzlaff", "Mäder"]
    page = " ".join((ROOT / "docs" / "about" / "index.md").read_text().split())
    for part in (paper["title"], paper["journal"], str(paper["volume"]), paper["start"], str(paper["year"]), PAPER):
        assert part in page


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == funcbio.__version__
