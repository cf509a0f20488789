"""The site in a real browser: what readers see at any width, in light and dark, by mouse and by keyboard."""

import importlib.util
import os
import re

import pytest
from browsing import (
    barriers,
    boxed_figures,
    broken_images,
    browser,
    chromium,
    cut_code,
    opened,
    too_wide,
    undrawn,
    watched,
)
from sites import pages_of_the_documents, served


def missing():
    """Returns what this machine lacks, and how to get it."""
    for name, target in {"mkdocs": "docs", "playwright": "browser", "axe_playwright_python": "browser"}.items():
        if importlib.util.find_spec(name) is None:
            return f"{name} is missing: make {target}"
    return "" if chromium() else "chromium is missing: apt-get install chromium, or CHROMIUM=/path/to/it"


MISSING = missing()
DEMANDED = bool(os.environ.get("FUNCBIO_BROWSER"))  # Where this is set, a missing browser is a failure.
pytestmark = pytest.mark.skipif(bool(MISSING) and not DEMANDED, reason=MISSING)
FOUND_BY = {
    "crystallization": "crystallization",
    "rejuvenation": "rejuvenation",
    "weight splitting": "splitting",
    "dale": "dale",
    "scaling": "scaling",
    "volume": "volume",
    "fuzzy learning rates": "rates",
    "diverse learning rates": "rates",
}
# A button of the theme may be a hidden choice, of which readers see the label.
LOOK = """() => {
  const e = document.activeElement, hidden = getComputedStyle(e).opacity === "0";
  const labels = [e.nextElementSibling, ...(e.labels ?? [])].filter(label => label?.matches("label:not([hidden])"));
  const shown = hidden ? labels[0] : e;
  const style = shown && getComputedStyle(shown), box = shown?.getBoundingClientRect();
  return {
    what: e.outerHTML.slice(0, 160),
    outline: shown && style.outlineStyle !== "none" ? parseFloat(style.outlineWidth) : 0,
    seen: Boolean(shown) && style.opacity !== "0" && box.width > 1 && box.bottom > 0 && box.top < innerHeight,
  };
}"""


@pytest.fixture(scope="module")
def window():
    assert not MISSING, MISSING
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def address(site):
    with served(site) as where:
        yield where


@pytest.fixture
def page(window):
    page = window.new_page(viewport={"width": 1280, "height": 800})
    yield page
    page.close()


def in_scheme(page, name):
    """Waits until the page has its colours, which a busy machine takes a moment for."""
    page.locator(f"body[data-md-color-scheme={name}]").wait_for()


def test_the_list_of_pages_is_whole(site):
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert built - {"404.html"} == set(pages_of_the_documents())


@pytest.mark.parametrize("name", [*pages_of_the_documents(), "404.html"])
def test_a_page(page, address, name):
    complaints = watched(page)
    opened(page, f"{address}/{name}")
    in_scheme(page, "default")
    assert undrawn(page) + broken_images(page) + barriers(page) == []
    page.emulate_media(color_scheme="dark")
    in_scheme(page, "slate")
    assert barriers(page) == []
    assert too_wide(page) == []
    assert cut_code(page) == []
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["results", "results-inversion", "architecture", "monitoring", "mechanisms/rates"])
def test_figures_stand_on_the_ground_of_the_page(page, address, name, scheme):
    opened(page, f"{address}/{name}.html", scheme=scheme)
    in_scheme(page, {"light": "default", "dark": "slate"}[scheme])
    assert page.locator("article p img").count() > 0
    assert boxed_figures(page) == []


def test_checks_report_what_is_wrong(page, tmp_path):
    (tmp_path / "bad.html").write_text(
        """<!doctype html><html lang="en"><title>Bad</title><main><h1>Bad</h1><img src="gone.png" alt="gone">
        <p style="color: #bbb; background: #fff">pale</p><div style="width: 1000px">wide</div>
        <span class="arithmatex">\\(x\\)</span><img src="http://example.org/far.png" alt="far">
        <article><pre style="width: 40px"><code tabindex="0" style="display: block; overflow: auto">a long
        line</code></pre>
        <p><img src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'%3E%3Crect
        width='9' height='9' fill='red'/%3E%3C/svg%3E" alt="red"></p></article></main>
        <script>console.warn("beware"); undefined.name</script>"""
    )
    with served(tmp_path) as address:
        complaints = watched(page)
        opened(page, f"{address}/bad.html")
        told = "\n".join(complaints)
        for part in ("status 404", "asks http://example.org", "console warning: beware", "page error:", "failed: http"):
            assert part in told
        assert [line.split(" px")[0] for line in too_wide(page)] == ["at 360", "at 390", "at 768"]
        assert len(broken_images(page)) == 2
        assert cut_code(page) == ["scrolls:         line"]
        assert len(boxed_figures(page)) == 1
        assert len(undrawn(page)) == 1
        assert [line.split(":")[0] for line in barriers(page)] == ["color-contrast"]


def test_the_button_goes_through_the_schemes_and_is_remembered(page, address):
    opened(page, f"{address}/index.html", scheme="dark")
    in_scheme(page, "slate")
    background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = background()
    for name, then in {"light": "default", "dark": "slate", "the system's": "slate"}.items():
        page.get_by_title(f"Switch to {name}").locator("visible=true").click()
        in_scheme(page, then)
        assert (background() == dark) == (then == "slate")
    page.get_by_title("Switch to light").locator("visible=true").click()
    page.goto(f"{address}/attach.html")
    in_scheme(page, "default")


@pytest.mark.parametrize("text", FOUND_BY)
def test_search_finds_the_page_of_a_mechanism(page, address, text):
    from playwright.sync_api import expect

    opened(page, f"{address}/index.html")
    page.keyboard.press("/")
    page.keyboard.type(text)
    first = page.locator(".md-search-result__item a").first
    target = f"/mechanisms/{FOUND_BY[text]}.html"
    # Results follow the typing; those of the last letter come last.
    expect(first).to_have_attribute("href", re.compile(rf"{re.escape(target)}(\?|$)"))
    if text == "dale":
        first.click()
    else:
        page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}*")


def test_search_works_where_pages_are_opened_from_their_folder(page, site):
    page.goto((site / "index.html").as_uri(), wait_until="load")
    page.keyboard.press("/")
    page.keyboard.type("crystallization")
    first = page.locator(".md-search-result__item a").first
    first.wait_for()
    assert re.search(r"^file://.*/mechanisms/crystallization\.html(\?|$)", first.evaluate("link => link.href"))
    page.keyboard.press("Enter")
    page.wait_for_url("file://**/mechanisms/crystallization.html*")


def test_tabs_switch_by_mouse_and_by_keyboard(page, address):
    opened(page, f"{address}/index.html")
    blocks = page.locator(".tabbed-block")
    shown = lambda: [i for i in range(blocks.count()) if blocks.nth(i).is_visible()]
    code = ["bind(model)", "BioConverter(", "attach(adam"]
    assert shown() == [0]
    for i in (2, 1, 0):
        page.locator(".tabbed-labels label").nth(i).click()
        assert shown() == [i]
        assert code[i] in blocks.nth(i).inner_text()
    page.locator(".tabbed-set input").first.focus()
    page.keyboard.press("ArrowRight")
    assert shown() == [1]


def tabbed_through(page, presses):
    page.keyboard.press("Tab")
    for _ in range(presses):
        yield page.evaluate(LOOK)
        page.keyboard.press("Tab")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_keyboard_shows_where_it_is(page, address, scheme):
    opened(page, f"{address}/index.html", scheme=scheme)
    looks = list(tabbed_through(page, 15))
    assert len({look["what"] for look in looks}) == 15
    assert [look for look in looks if not (look["outline"] >= 2 and look["seen"])] == []


def test_the_first_thing_skips_to_the_content(page, address):
    opened(page, f"{address}/attach.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/attach.html#*")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('article').contains(document.activeElement)")


def test_the_keyboard_reaches_every_button_that_copies(page, address):
    opened(page, f"{address}/attach.html")
    buttons = page.locator("article .md-clipboard, article .md-code__button").count()
    assert buttons == page.locator("article pre").count() > 3
    reached = [look["what"] for look in tabbed_through(page, 250)]
    assert sum("data-clipboard" in what or "md-code__button" in what for what in reached) >= buttons
