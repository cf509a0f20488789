"""The documents say something about every public name, and the site fetches nothing from elsewhere."""

import html
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from places import DOCS, ROOT

import funcbio
from funcbio import monitor, plot, presets, rng
from funcbio.objects._step import STEPS

PACKAGES = {"rng": rng, "monitor": monitor, "plot": plot, "presets": presets}
CALLBACKS = ["integrations.lightning.BioCallback", "integrations.transformers.BioCallback"]
# Names of a package that the library also exports itself stand under the shorter name.
PUBLIC = [
    *funcbio.__all__,
    *(f"{part}.{name}" for part, found in PACKAGES.items() for name in found.__all__ if name not in funcbio.__all__),
    *CALLBACKS,
    "compat.install",
]
ENTRY = re.compile(r"^::: funcbio\.(\S+)$", re.MULTILINE)


def entries():
    return [name for page in sorted((DOCS / "reference").glob("*.md")) for name in ENTRY.findall(page.read_text())]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_one_entry_in_the_reference(name):
    assert entries().count(name) == 1


def test_the_reference_names_nothing_that_is_gone():
    assert set(entries()) <= set(PUBLIC)


def test_the_overview_of_the_reference_links_every_entry():
    links = re.findall(r"\]\((\w+)\.md#funcbio\.([\w.]+)\)", (DOCS / "reference" / "index.md").read_text())
    pages = {name: page.stem for page in (DOCS / "reference").glob("*.md") for name in ENTRY.findall(page.read_text())}
    assert {name: page for page, name in links} == pages


def test_the_overview_of_the_reference_has_a_line_for_every_entry(monkeypatch):
    pytest.importorskip("griffe", reason="griffe is missing: make docs")
    monkeypatch.syspath_prepend(str(DOCS))
    import reference_index

    page = reference_index.page()
    assert (DOCS / "reference" / "index.md").read_text() == page, "python docs/reference_index.py"
    lines = [line for line in page.splitlines() if line.startswith("- ")]
    assert len(lines) == len(PUBLIC)
    assert all(re.fullmatch(r"- \[`[\w.]+`\]\(\w+\.md#[\w.]+\): .{10,}\.", line) for line in lines)


SCALING = ("volume_dependent_lr", "fuzzy_learning_rates")
CHAINED = re.compile(rf"\b(crystallize|{'|'.join(SCALING)})\b")


def chains(text):
    """The mechanisms of a usual chain that a paragraph of code names, in order."""
    return [CHAINED.findall(part) for part in re.split(r"\n\s*\n", text)]


def behind(names):
    """Returns True if crystallization sees gradients that others made smaller."""
    before = names[: names.index("crystallize")] if "crystallize" in names else []
    return SCALING[0] in before or (before != [] and not set(SCALING) & set(names[len(before) :]))


@pytest.mark.parametrize(
    "text", ["f.volume_dependent_lr()\nf.crystallize()", '["fuzzy_learning_rates", "crystallize"]']
)
def test_crystallization_behind_what_scales_gradients_is_noticed(text):
    assert [behind(names) for names in chains(text)] == [True]


def test_crystallization_comes_first_in_every_example_but_the_releases():
    pages = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if page.stem != "release-0.0.5")]
    texts = {page: re.findall(r"```(?:py|python)\n(.*?)```", page.read_text(), re.DOTALL) for page in pages}
    for file in sorted((ROOT / "funcbio").rglob("*.py")):
        texts[file] = ["\n".join(line for line in file.read_text().splitlines() if ">>>" in line)]
    found = [(page, names) for page, blocks in texts.items() for block in blocks for names in chains(block)]
    assert [(page, names) for page, names in found if behind(names)] == []
    assert sum("crystallize" in names and len(names) > 1 for _, names in found) > 10
    assert STEPS[0] == "crystallize"


def test_every_page_is_in_the_navigation():
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page.parent.name != "assets"}
    named = re.findall(r"[\w/.-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert set(named) == pages
    assert len(named) == len(pages)


def titles():
    """Yields section, title in the navigation, and first heading of every page that has a title there."""
    section = ""
    for line in (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1].splitlines():
        title, _, path = line.strip().removeprefix("- ").rpartition(":")
        if not path:
            section = title
        elif title:
            text = (DOCS / path.strip()).read_text()
            included = re.match(r'--8<-- "(.+)"', text)
            text = (ROOT / included[1]).read_text() if included else text
            yield section, title.strip('"'), re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def test_titles_in_the_navigation_begin_the_headings_of_their_pages():
    found = list(titles())
    assert len(found) > 50
    wanted = [(section if title == "Overview" else title, head) for section, title, head in found if title != "Home"]
    assert [(title, head) for title, head in wanted if not re.match(rf"{re.escape(title)}(?!\w)", head)] == []


WORDS = {"off": False, "on": True}


def documented_defaults():
    """Rows of the tables on hyper-parameters: a field or two, and what is said to be their default."""
    for page in sorted((DOCS / "mechanisms").glob("*.md")):
        default = None
        for line in page.read_text().splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if "default" in cells:
                default = cells.index("default")
            elif default and cells and cells[0].startswith("`"):
                fields = re.findall(r"`(\w+)`", cells[0])
                yield from zip(fields, cells[default].split(", "), strict=True)


def test_the_pages_on_mechanisms_say_the_defaults_that_hold():
    config, said = funcbio.BioConfig(), dict(documented_defaults())
    assert len(said) > 20
    for name, default in said.items():
        holds = getattr(config, name)
        if callable(holds):
            assert holds.__name__ == default
        elif isinstance(holds, str):
            assert holds == default
        else:
            assert holds == WORDS.get(default, default) or holds == float(default), name


@pytest.mark.parametrize("path", sorted((DOCS / "assets").rglob("*.css")), ids=lambda path: path.name)
def test_styles_ask_for_files_that_lie_beside_them(path):
    wanted = re.findall(r"url\(([^)]+)\)", path.read_text())
    assert all((path.parent / file).exists() for file in wanted)


def test_the_site_asks_for_no_fonts_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in settings
    assert not re.findall(r"extra_(?:css|javascript):.*https?:", settings)


@pytest.mark.parametrize("maker", ["arena_page", "grid_page"])
def test_tables_of_results_are_made_from_their_files(maker, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    for path, text in import_module(maker).pages().items():
        assert path.read_text() == text, f"{path.name}: run python docs/{maker}.py"


def test_the_overview_of_the_results_has_the_tables_of_their_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import results_table

    page = (DOCS / "results.md").read_text()
    for columns in (results_table.accuracy(), results_table.beyond()):
        assert results_table.table(columns) in page
    columns = (*results_table.accuracy().values(), *results_table.beyond().values())
    rows = {row for column in columns for row in column.names}
    assert rows == set(results_table.ROWS)


def test_every_figure_of_a_mechanism_can_be_drawn(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import mechanism_figures

    files = {path.stem for path in (DOCS / "assets" / "mechanisms").glob("*.png")}
    assert set(mechanism_figures.FIGURES) == files
    for draw in mechanism_figures.FIGURES.values():
        assert all(axis.has_data() for axis in draw().axes)


def test_names_that_the_reference_links_exist(monkeypatch):
    pytest.importorskip("griffe", reason="griffe is missing: make docs")
    monkeypatch.syspath_prepend(str(DOCS))
    import crossrefs

    assert all(pkgutil.resolve_name(name) is not None for name in crossrefs.addresses())
    assert set(crossrefs.entries()) == {f"funcbio.{name}" for name in PUBLIC}


@pytest.fixture
def drawings(monkeypatch):
    """What draws the files below docs/assets, by their names."""
    monkeypatch.syspath_prepend(str(DOCS))
    import figures

    return figures.DRAWINGS


@pytest.fixture
def architecture(drawings):
    """The drawings of the architecture, by the name of their file."""
    return {name.split("/")[1]: drawing for name, drawing in drawings.items() if "/" in name}


def test_the_drawing_of_the_modules_shows_each_of_them_once(architecture):
    drawing = architecture["modules"]
    named = [name for group in drawing.GROUPS for name in group.modules.split()]
    assert sorted(named) == sorted(drawing.modules())


def test_the_house_stays_small(architecture):
    rooms, floors, arrows = architecture["modules"].house()
    assert rooms <= 27
    assert floors <= 15
    assert arrows <= 140
    assert len([*Path(funcbio.__file__).parent.glob("*.py")]) <= 12


def test_the_drawing_of_the_modules_has_no_import_that_points_up(architecture):
    drawing = architecture["modules"]
    level = {group: number for number, row in enumerate(drawing.rows()) for group in row}
    assert set(level) == set(drawing.GROUPS)
    assert all(level[one] < level[other] for one, other in drawing.edges())


@pytest.mark.parametrize("name", ["architecture/modules", "architecture/idea", "forest"])
def test_a_drawing_is_up_to_date(drawings, name):
    text = (DOCS / "assets" / f"{name}.svg").read_text()
    said = re.search(r"<dc:description>(.*?)</dc:description>", text, re.DOTALL)
    assert said
    assert html.unescape(said.group(1)) == drawings[name].describe(), "make figures"


def test_the_figure_of_the_results_shows_every_number_of_their_tables(drawings):
    import results_table

    tables = (results_table.accuracy(), results_table.beyond())
    columns = [column for table in tables for name, column in table.items() if name != "the paper's rules and rate"]
    cells = sum(row in column.names for column in columns for row in results_table.ROWS[:-1])
    axes = drawings["forest"].draw().axes
    assert cells == sum(line.get_marker() == "o" for axis in axes for line in axis.lines) > 30


@pytest.mark.parametrize("name", ["modules", "idea"])
def test_words_stay_in_their_box(architecture, name):
    figure = architecture[name].draw()
    artists = figure.findobj(lambda artist: artist.get_gid() is not None)
    boxes = {artist.get_gid()[4:]: artist.get_window_extent() for artist in artists if artist.get_gid()[:3] == "box"}
    words = [artist for artist in artists if artist.get_gid()[:3] == "in "]
    assert len(words) >= len(boxes)
    for text in words:
        inner, outer = text.get_window_extent(), boxes[text.get_gid()[3:]]
        assert outer.x0 < inner.x0 < inner.x1 < outer.x1, text.get_text()
        assert outer.y0 < inner.y0 < inner.y1 < outer.y1, text.get_text()


def test_pages_name_the_drawings_in_words_too():
    page = (DOCS / "architecture.md").read_text()
    shown = dict(re.findall(r"!\[([^\]]{80,})\]\(assets/architecture/(\w+)\.svg\)", page))
    assert sorted(shown.values()) == ["idea", "modules"]


RESULTS = tuple(path.stem for path in sorted(DOCS.glob("results*.md")))
MOST_ROWS = 9


def tables_of(text):
    """Yields where a table stands in a page, and its number of rows without the two of its head."""
    for found in re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield found.start(), found[0].count("\n") - 2


@pytest.mark.parametrize("name", RESULTS)
def test_a_page_of_results_says_its_finding_and_shows_a_figure_before_any_table(name):
    text = (DOCS / f"{name}.md").read_text()
    assert re.match(r"# [\w' ]+: .{20,}", text)
    tables = list(tables_of(text))
    assert 0 < text.index("![") < tables[0][0]
    for start, rows in tables:
        is_folded = text.count("<details", 0, start) > text.count("</details>", 0, start)
        assert rows <= MOST_ROWS or is_folded, text[start : start + 80]


def test_every_column_of_a_table_has_a_heading():
    """Readers who hear a page are told the heading of a cell."""
    heads = re.compile(r"^(\|.*\|)\n\|[-| :]+\|$", re.MULTILINE)
    for page in DOCS.rglob("*.md"):
        for head in heads.findall(page.read_text()):
            assert all(cell.strip() for cell in head.strip("|").split("|")), f"{page.name}: {head}"


LONGEST = 88  # Letters that fit in a block of code beside both lists of a window of 1280 pixels.
BLOCK = re.compile(r"^( *)```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?:^ {4}(?![-*|!]|\d+\.).*\n)+", re.MULTILINE)
WRITTEN = [*DOCS.rglob("*.md")]


def code_lines(text):
    """Yields the lines of a page's blocks, without the indentation of the block."""
    for indent, block in BLOCK.findall(text):
        yield from (line.removeprefix(indent) for line in block.splitlines())
    for block in INDENTED.findall(BLOCK.sub("", text)):
        yield from (line[4:] for line in block.splitlines())


@pytest.mark.parametrize("path", [*WRITTEN, ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_code_fit_on_a_page(path):
    assert [line for line in code_lines(path.read_text()) if len(line) > LONGEST] == []


def test_lines_of_both_kinds_of_blocks_are_found():
    assert list(code_lines("a\n\n    b c\n    d\n\n```python\ne\n```\n\n  ```\n  f\n  ```\n")) == ["e", "f", "b c", "d"]


def test_examples_of_docstrings_fit_on_a_page():
    files = [file for file in (ROOT / "funcbio").rglob("*.py") if "experiments" not in file.parts]
    found = [(file.name, line.strip()) for file in files for line in file.read_text().splitlines()]
    assert [(name, line) for name, line in found if line[:3] in (">>>", "...") and len(line) > LONGEST] == []
