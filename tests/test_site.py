"""The built site: nothing comes from elsewhere, equations can be drawn, search knows every mechanism."""

import html
import importlib.util
import json
import re
import shutil
import subprocess

import pytest
from sites import ROOT

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


def test_search_knows_every_mechanism(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    for page in (ROOT / "docs" / "mechanisms").glob("*.md"):
        assert f"mechanisms/{page.stem}.html" in found


def test_the_reference_shows_methods_and_nothing_private(pages):
    shown = re.findall(r"id=\"(funcbio\.[\w.]+)\"", "".join(pages.values()))
    assert "funcbio.Handle.before_step" in shown
    assert [name for name in shown if "._" in name] == []


def test_a_mechanism_links_its_entry(pages):
    assert "reference/mechanisms.html#funcbio.crystallize" in pages["mechanisms/crystallization.html"]
    assert 'id="funcbio.crystallize"' in pages["reference/mechanisms.html"]
