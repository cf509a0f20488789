"""Commands that install the library, wherever they are named, work in a copy of its source."""

import re

import pytest
from places import ROOT

NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "funcbio/**/*.py", "benchmarks/*.py")
FILES = sorted(path for pattern in NAMED for path in ROOT.glob(pattern))
COMMAND = re.compile(r"pip install (?:-[\w-]+ )*(?P<what>'[^'\n]+'|[^\s'`\")]+)")
PUBLISHED = {"scikit-learn", "mlxtend"}  # Packages of others that a command gets by their names.
EXTRAS = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))


def commands(path):
    return [found["what"].strip("'").replace("\\", "") for found in COMMAND.finditer(path.read_text())]


def works(what):
    """Whether pip finds what a command names: this folder, with extras that exist, or a published package."""
    local = re.fullmatch(r"\.(?:\[([\w,{}]+)\])?", what)
    if local is None:
        return what in PUBLISHED
    return all(extra in EXTRAS or extra.startswith("{") for extra in (local[1] or "").split(",") if extra)


@pytest.mark.parametrize("what", ["funcbio", "funcbio[sweep]", ".[swep]", ".[sweep,nothing]"])
def test_what_cannot_be_installed_is_noticed(what):
    (command,) = COMMAND.findall(f"pip install --quiet '{what}'")
    assert not works(command.strip("'"))


def test_commands_that_install_work_as_written():
    found = {str(path.relative_to(ROOT)): commands(path) for path in FILES}
    wrong = {path: [what for what in named if not works(what)] for path, named in found.items()}
    assert {path: what for path, what in wrong.items() if what} == {}
    assert sum(map(len, found.values())) > 10
