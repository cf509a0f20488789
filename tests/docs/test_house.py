"""The shape of the library: imports one way, documents that run, nothing public undocumented."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import doctest_names, run_doctest

import funcbio

ROOT = Path(funcbio.__file__).parent
# Every module may import those of the rows above it, and of its own row only its own package.
ORDER = [
    ["base", "files", "identity", "_optional"],
    ["tensors", "_seeds"],
    ["_checks"],
    ["rng", "anatomy", "plot"],
    ["engine"],
    ["mechanisms"],
    ["bio_config", "monitor"],
    ["checkpoint", "functional"],
    ["objects", "sweeps"],
    ["bio_module"],
    ["bio_converter"],
    ["attachment", "compat"],
    ["integrations", "__init__"],
    ["experiments"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "funcbio":
            if node.module == "funcbio":
                names = [alias.name if alias.name in LEVEL else "__init__" for alias in node.names]
                yield from (f"funcbio.{name}" for name in names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (f"{alias.name}.__init__" for alias in node.names if alias.name == "funcbio")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    for module in imports(path):
        target = module.split(".")[1:]
        if target[0] == parts[0]:
            continue  # Within a package; its private files are checked below.
        assert LEVEL[target[0]] < LEVEL[parts[0]], f"{path.name} imports {module}, which lies above it"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_say_what_is_done_first(path):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)):
        assert not re.match(r"(Whether|What|Which|Of)\b", ast.get_docstring(node) or ""), ast.get_docstring(node)


WITHOUT_WARNING = {"torch.jit.is_tracing", "torch.jit.ScriptModule", "torch.jit.ScriptFunction"}


def test_the_library_calls_nothing_that_torch_deprecates():
    """Torch's own calls cannot be told from ours by where they warn, so pyproject.toml lets all of them pass."""
    for path in sorted(ROOT.rglob("*.py")):
        assert set(re.findall(r"torch\.jit\.\w+", path.read_text())) <= WITHOUT_WARNING, path


HELPERS = (
    "_counted",
    "_fresh",
    "_order",
    "_rates",
    "_release",
    "_renew",
    "_unit_draws",
    "_unit_fields",
    "_unit_scores",
    "_unit_utility",
)


def test_mechanisms_know_neither_one_another_nor_modules():
    beside = {ROOT / "mechanisms" / name for name in ("_table.py", "_row.py", "_placed.py", "_rates.py")}
    shared = {f"funcbio.mechanisms.{name}" for name in HELPERS}
    for path in {*(ROOT / "mechanisms").glob("_[a-z]*.py")} - beside:
        known = {name for name in imports(path) if name.startswith("funcbio.mechanisms")}
        parts = {"funcbio.mechanisms._select"} if path.name == "_rejuvenate.py" else set()
        assert known <= shared | parts, path
        assert "nn.Module" not in path.read_text(), path


ALIASES = ("Key", "Tree")
PUBLIC = [name for name in funcbio.__all__ if callable(getattr(funcbio, name)) and name not in ALIASES]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_and_an_example_that_runs(name):
    item = getattr(funcbio, name)
    assert item.__doc__
    if name not in ("ConfigError", "Distribution", "Feature", "Bound"):
        assert run_doctest(name, item) > 0


def test_import_brings_no_extra_and_little_else():
    extras = ("matplotlib", "sklearn", "rich", "scipy", "pandas", "tensorboard", "lightning", "transformers")
    code = (
        f"import sys, torch, optree; before = set(sys.modules); import funcbio; new = set(sys.modules) - before; "
        f"print([name for name in {extras} if name in new], len([n for n in new if n.split('.')[0] != 'funcbio']))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    extra, count = out.rsplit(" ", 1)
    assert extra == "[]"
    assert int(count) < 10  # A few small ones of the standard library.


def test_all_is_sorted_and_complete():
    assert sorted(funcbio.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == funcbio.__all__
    assert set(doctest_names()) >= set(funcbio.__all__)


def markdown_blocks(path):
    text = path.read_text()
    # A block in a tab is indented, its end too.
    return [textwrap.dedent(part.split("```")[0].rstrip(" ")) for part in text.split("```python\n")[1:]]


PAGES = sorted((ROOT.parent / "docs").rglob("*.md"))
TUTORIALS = ROOT.parent / "docs" / "tutorials"  # Notebooks, which have tests of their own.
DOCUMENTS = [ROOT.parent / "README.md", ROOT.parent / "CONTRIBUTING.md"]
DOCUMENTS += [page for page in PAGES if page.parent != TUTORIALS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT.parent)))
def test_the_examples_of_the_documents_run(path):
    if not path.exists():
        pytest.fail(f"{path.name} is missing")
    names = {"__name__": "__main__"}
    release = {name: sys.modules.pop(name) for name in [*sys.modules] if name.startswith("bio_transformations")}
    try:
        for block in markdown_blocks(path):
            exec(block, names)
    finally:
        # One of them installs the drop-in. What else they import stays: parts of torch cannot be imported twice.
        for name in [name for name in sys.modules if name.startswith("bio_transformations")]:
            del sys.modules[name]
        sys.modules.update(release)
