"""Published code that lies on this machine, beside which ours is run; none of it is kept here.

The variable FUNCBIO_REFERENCES names a folder with one clone per repository, under the repository's own name. Run as a
program, it makes all comparisons and prints the largest difference of each.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

VARIABLE = "FUNCBIO_REFERENCES"
# What the comparisons were made with; docs/about/published.md has the same.
PINNED = {
    "warm_start": "896176b",
    "L2_Init": "3f86d26",
    "weight-clipping": "0d3db49",
    "upgd": "b75e90a",
    "collas_2025_swr_paper": "5c8ef03",
    "EG_optimiser": "9e720ae",
    "FIRE": "c37a0ac",
    "parseval_reg": "e861c30",
    "DASH-Direction-Aware-SHrinking": "3d3cea6",
    "rigl": "d39fc7d",
    "rigl-torch": "34d19e4",
    "loss-of-plasticity": "63c35f3",
    "sparse-evolutionary-artificial-neural-networks": "62ac974",
    "dopamine": "5873f54",
    "redo": "3c0e2a9",
    "SelfNormalizedResets": "8b84f0c",
}


def folder(repository):
    """Returns the folder of a repository; skips the test if it is not there."""
    where = os.environ.get(VARIABLE)
    if not where:
        pytest.skip(f"{VARIABLE} names no folder of published code")
    path = Path(where).expanduser() / repository
    if not path.is_dir():
        pytest.skip(f"{repository} is not in {where}")
    return path


def commit(repository):
    """Returns the commit of a clone; None if that cannot be told, as of an unpacked archive."""
    path = folder(repository)
    if not (path / ".git").exists():
        return None
    command = ["git", "-C", str(path), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


class Fake(ModuleType):
    """A module, or a function of one, that has whatever it is asked for; decorates by doing nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else Fake(name)

    def __call__(self, *args, **options):
        return args[0] if args and callable(args[0]) else lambda function: function


class Fakes(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds fakes of packages that a file imports for what is not run here: data, pictures, logs."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        known = name.partition(".")[0] in self.names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec):
        return Fake(spec.name)

    def exec_module(self, module):
        """Leaves a fake as it is."""


@contextmanager
def _found(path, fakes):
    """Lets a repository's own modules be imported, and forgets them: many repositories have one called utils."""
    before, finder = dict(sys.modules), Fakes(fakes)
    for name in [name for name in before if name.partition(".")[0] in fakes]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
        sys.meta_path.remove(finder)
        for name in [*sys.modules]:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if isinstance(sys.modules[name], Fake) or file.startswith(str(path)):
                del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})


def load(repository, file, *, fakes=()):
    """Returns a module of a repository, from its file alone; ``fakes`` are packages that it imports for nothing."""
    path = folder(repository)
    if not (path / file).is_file():
        pytest.skip(f"{repository} has no {file}: it is another commit than {PINNED[repository]}")
    name = f"published_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, path / file)
    module = importlib.util.module_from_spec(spec)
    with _found(path, fakes):
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def function(repository, file, name, **names):
    """Returns one function of a file that cannot be imported, such as a script; ``names`` are the globals it reads."""
    path = folder(repository) / file
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    exec(compile(ast.Module(found[:1], []), str(path), "exec"), names)
    return names[name]


class Report:
    """Prints the largest difference of every comparison at the end of a run."""

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("largest differences, in units of the last place of the largest number")
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
            for name, value in report.user_properties if report.when == "call" else ():
                if name == "difference":
                    terminalreporter.write_line(f"{value:10.2f}  {report.nodeid.rpartition('::')[2]}")
        for repository, pinned in PINNED.items():
            path = Path(os.environ.get(VARIABLE, "")) / repository
            found = (commit(repository) or "of unknown commit") if path.is_dir() else "not there"
            terminalreporter.write_line(f"{repository}: {found[:17]}; compared at {pinned}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # The library beside these tests, not one that is installed.
    sys.exit(pytest.main([str(Path(__file__).parent), "-q", "-m", "", *sys.argv[1:]], plugins=[Report()]))
