"""The built site: nothing comes from elsewhere, equations can be drawn, search knows every mechanism."""

import dataclasses
import html
import importlib.util
import inspect
import json
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

import funcbio

KATEX = ROOT / "docs" / "assets" / "katex" / "katex.min.js"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is missing: make docs")
LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=\"?(https?:|//)[^>]*>")
EQUATION = re.compile(r"<(span|div) class=\"arithmatex\">(.*?)</\1>", re.DOTALL)
DRAW = """
const katex = require(process.argv[1]);
for (const [display, text] of JSON.parse(require("fs").readFileSync(0)))
  katex.renderToString(text, {displayMode: display, throwOnError: true, strict: "error"});
"""


@pytest.fixture(scope="module")
def pages(site):
    return {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}


def test_no_page_loads_anything_from_elsewhere(pages):
    assert len(pages) > 30
    assert {name: LOADED.findall(text) for name, text in pages.items() if LOADED.search(text)} == {}


def test_every_equation_can_be_drawn(pages):
    if shutil.which("node") is None:
        pytest.skip("node is missing: it runs the program that draws equations in a browser")
    found = [html.unescape(text).strip() for page in pages.values() for _, text in EQUATION.findall(page)]
    assert len(found) > 50
    equations = [(text.startswith("\\["), text[2:-2]) for text in found]
    command = ["node", "-e", DRAW, KATEX]
    done = subprocess.run(command, input=json.dumps(equations), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_equation_is_left_as_its_source(pages):
    for name, text in pages.items():
        prose = EQUATION.sub("", re.sub(r"<(code|pre|script)\b.*?</\1>", "", text, flags=re.DOTALL))
        assert not re.search(r"\$[^$<]{1,80}\$", prose), name


def test_no_block_is_left_as_its_source(pages):
    """Folds, notes and tables that an extension would have to read appear as they were typed without it."""
    typed = re.compile(r"^(?:<p>)?(?:\?\?\?\+?|!!!|:::) \w.*|^(?:<p>)?\|.*\|$", re.MULTILINE)
    shown = {name: re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL) for name, text in pages.items()}
    assert {name: typed.findall(text)[:3] for name, text in shown.items() if typed.search(text)} == {}


def test_search_knows_every_mechanism(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    for page in (ROOT / "docs" / "mechanisms").glob("*.md"):
        assert f"mechanisms/{page.stem}.html" in found


def test_the_reference_shows_methods_and_nothing_private(pages):
    shown = re.findall(r"id=\"(funcbio\.[\w.]+)\"", "".join(pages.values()))
    assert "funcbio.Handle.before_step" in shown
    assert [name for name in shown if "._" in name] == []


def entry(pages, page, name):
    """What a page of the reference shows of a name."""
    parts = re.split(r"(?=<h2 id=\"funcbio\.)", pages[f"reference/{page}.html"])
    return next(part for part in parts if part.startswith(f'<h2 id="funcbio.{name}"'))


def words(markup):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", markup)))


def test_entries_link_the_documentation_of_torch_and_optree(pages):
    attach, observe = entry(pages, "objects", "attach"), entry(pages, "functional", "observe")
    assert 'href="https://docs.pytorch.org/docs/stable/optim.html#torch.optim.Optimizer"' in attach
    assert 'href="https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module"' in attach
    page = "https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html"
    assert f'href="{page}#torch.func.functional_call"><code>torch.func.functional_call</code></a>' in observe
    tree = entry(pages, "functional", "Tree")
    assert 'href="https://optree.readthedocs.io/en/latest/ops.html#optree.tree_map"' in tree


def test_no_name_of_torch_or_optree_is_left_without_a_link(pages):
    bare = r"<span title=\"((?:torch|optree)\b[^\"]*)\"|<autoref identifier=\"((?:torch|optree)\b[^\"]*)\""
    assert {name: re.findall(bare, text) for name, text in pages.items() if re.search(bare, text)} == {}


def test_docstrings_link_entries(pages):
    shown = entry(pages, "objects", "BioModule")
    assert 'href="mechanisms.html#funcbio.rejuvenate_weights"><code>funcbio.rejuvenate_weights</code></a>' in shown
    assert 'href="#funcbio.Mechanism"><code>Mechanism</code></a>' in entry(pages, "objects", "attach")


def test_a_signature_shows_the_values_of_defaults(pages):
    shown = words(entry(pages, "objects", "BioConfig").split("Attributes:")[0])
    for item in dataclasses.fields(funcbio.BioConfig):
        value = item.default.__name__ if callable(item.default) else item.default
        said = re.search(rf"\b{item.name}: [^=]* = ([^,]+),", shown)
        assert said, item.name
        assert said[1].strip("\"'") == str(getattr(value, "value", value)), item.name


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.stem)
def test_every_function_and_class_shows_its_signature_and_its_source(pages, page):
    for name in re.findall(r"^::: funcbio\.(\S+)$", page.read_text(), re.MULTILINE):
        # With a colon, so that a function is found and not the module of the same name.
        item = pkgutil.resolve_name(f"funcbio.{name}" if name.startswith("integrations.") else f"funcbio:{name}")
        if not (inspect.isroutine(item) or inspect.isclass(item)) or not item.__module__.startswith("funcbio"):
            continue  # Of constants and of short names for types there is nothing but the value.
        shown = entry(pages, page.stem, name)
        path = Path(inspect.getfile(inspect.unwrap(item))).relative_to(ROOT)
        assert f"Source code in <code>{path}</code>" in shown or name == "BioModule", name
        assert f'<span class="nf">{name.split(".")[-1]}</span>' in shown or inspect.isclass(item), name


def test_the_reference_leaves_out_what_only_the_library_calls(pages):
    shown = pages["reference/objects.html"]
    assert 'id="funcbio.BioModule.crystallize"' in shown
    assert 'id="funcbio.Mechanism.acts"' in shown
    for name in ("BioModule.moves", "BioModule.finish", "BioModule.lacks_observation", "Mechanism.row"):
        assert pkgutil.resolve_name(f"funcbio:{name}")
        assert f'id="funcbio.{name}"' not in shown


def test_a_mechanism_links_its_entry(pages):
    assert "reference/mechanisms.html#funcbio.crystallize" in pages["mechanisms/crystallization.html"]
    assert 'id="funcbio.crystallize"' in pages["reference/mechanisms.html"]
