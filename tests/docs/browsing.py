"""A real browser, and what it can say of a page: each check returns a list of complaints."""

import contextlib
import io
import os
import re
import shutil
from urllib.parse import urlsplit

from matplotlib.image import imread

WIDTHS = (360, 390, 768, 1280)
FLAGS = [
    "--no-sandbox",  # Chromium refuses to run as root with one.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
]
# Colours that still fade are neither those of the light nor those of the dark scheme.
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
UNDRAWN = """() => [...document.querySelectorAll(".arithmatex")]
    .filter(e => !e.querySelector(".katex") || e.querySelector(".katex-error")).map(e => e.textContent.slice(0, 80))"""
# Elements that stick out and that no box around them clips or scrolls.
WIDE = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const free = e => !e || (getComputedStyle(e).overflowX === "visible" && free(e.parentElement));
  const out = [...document.body.querySelectorAll("*")].filter(
    e => e.getBoundingClientRect().right > room + 0.5 && free(e.parentElement));
  const what = out.slice(0, 4).map(e => e.outerHTML.slice(0, 90)).join(" | ");
  return [`${document.documentElement.scrollWidth} px: ${what}`];
}"""
# Blocks of code that scroll sideways; lines of the library's source break.
CUT = """() => [...document.querySelectorAll("article pre > code")].filter(e => e.scrollWidth > e.clientWidth + 1)
    .map(e => e.textContent.split("\\n").sort((a, b) => b.length - a.length)[0])"""
GROUND = "getComputedStyle(document.body).backgroundColor"
BROKEN = """() => [...document.images].filter(e => e.complete && !e.naturalWidth).map(e => e.outerHTML)"""


def chromium():
    """Returns the path of the browser, or None."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@contextlib.contextmanager
def browser():
    """Starts the machine's chromium; it reaches nothing but 127.0.0.1."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def watched(page):
    """Returns a list to which the page adds what goes wrong, from now on."""
    complaints = []

    def asked(request):
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
            complaints.append(f"asks {request.url}")

    def said(message):
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    page.on("request", asked)
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}, {request.failure}"))
    page.on("response", lambda r: complaints.append(f"status {r.status}: {r.url}") if r.status >= 400 else None)
    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    return complaints


def opened(page, address, scheme="light"):
    """Opens an address in a colour scheme, waits until all of it is there, and stops what moves."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address, wait_until="networkidle")
    page.add_style_tag(content=STILL)


def undrawn(page):
    """Equations that are still source, or that could not be drawn."""
    return [f"not drawn: {text}" for text in page.evaluate(UNDRAWN)]


def too_wide(page, widths=WIDTHS):
    """Widths of the window at which the whole page scrolls sideways, with what sticks out."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        found += [f"at {width} px {text}" for text in page.evaluate(WIDE)]
    return found


def cut_code(page):
    """Blocks of code that are wider than the page's text at 1280 pixels, by their longest lines."""
    page.set_viewport_size({"width": 1280, "height": 800})
    return [f"scrolls: {line}" for line in page.evaluate(CUT)]


def boxed_figures(page):
    """Figures that do not stand on the ground of the page: their corner has another colour than it."""
    ground = [int(part) for part in re.findall(r"\d+", page.evaluate(GROUND))[:3]]
    found = []
    for figure in page.locator("article p img").all():
        figure.evaluate("e => e.scrollIntoView({block: 'end'})")
        box = figure.bounding_box()
        spot = {"x": box["x"] + 3, "y": box["y"] + box["height"] - 5, "width": 2, "height": 2}
        corner = imread(io.BytesIO(page.screenshot(clip=spot)))[0, 0, :3] * 255
        if max(abs(corner - ground)) > 2:
            found.append(f"{figure.get_attribute('src')}: {corner} on {ground}")
    return found


def broken_images(page):
    """Images that were fetched but cannot be shown."""
    return [f"no image: {text}" for text in page.evaluate(BROKEN)]


def barriers(page, rules=None):
    """What axe finds, by all its rules or by those named; one line for each rule and element."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
        for rule in found
        for node in rule["nodes"]
    ]
