"""The notebooks: what is stored in them, the pages made of it, and that their cells run at a small size."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from places import DOCS, ROOT, environment

from funcbio.experiments.arena.settings import Settings as ArenaSettings
from funcbio.experiments.grid.settings import GridSettings
from funcbio.experiments.inversion.settings import Settings as InversionSettings
from funcbio.experiments.plasticity.settings import Settings as PlasticitySettings

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

LARGEST_FILE = 400_000
SIZED = ("3-paper-grid", "4-gradient-inversion", "5-plasticity", "6-seeds", "9-weights-or-units")
"""Notebooks that begin with a size to choose."""

SMALL = {"SEEDS": 4, "EPOCHS": 6, "META_STEPS": 2, "INNER_STEPS": 5}
"""Sizes in the place of those that a notebook sets in its first cell of code."""

SMALL_SETTINGS = {
    "3-paper-grid": {"seeds": 2, "epochs": 2, "epochs_tuned": 2},
    "4-gradient-inversion": {"iterations": 10},
    "5-plasticity": {"seeds": 2, "tasks": 2, "blocks": 2},
    "9-weights-or-units": {"seeds": 4, "steps": 100, "blocks": 5, "methods": "plain;selective;ReDo"},
}
"""Settings in the place of those that the first cell of code has made for an experiment."""


@pytest.fixture
def maker(monkeypatch):
    """The program that stores outputs and makes pages."""
    monkeypatch.syspath_prepend(str(DOCS))
    import notebooks

    return notebooks


def cells_of(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def sources_of(path, kind="code"):
    return ["".join(cell["source"]) for cell in cells_of(path, kind)]


def outputs_of(path):
    return [output for cell in cells_of(path) for output in cell["outputs"]]


# The form: nbformat 4.5, of which Jupyter reads nothing else without a complaint.

FIELDS = {
    "markdown": {"cell_type", "id", "metadata", "source"},
    "code": {"cell_type", "id", "metadata", "source", "execution_count", "outputs"},
    "stream": {"output_type", "name", "text"},
    "execute_result": {"output_type", "execution_count", "data", "metadata"},
}


def is_text(value):
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


@every_notebook
def test_a_notebook_has_the_form_of_nbformat(path):
    notebook = json.loads(path.read_text())
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert all(set(cell) == FIELDS[cell["cell_type"]] and is_text(cell["source"]) for cell in cells)
    assert all(re.fullmatch(r"[\w-]{1,64}", cell["id"]) for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(set(output) == FIELDS[output["output_type"]] for output in outputs_of(path))


@every_notebook
def test_a_notebook_was_run_in_order(path):
    cells = cells_of(path)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    for cell in cells:
        counts = [output["execution_count"] for output in cell["outputs"] if "execution_count" in output]
        assert counts in ([], [cell["execution_count"]])


# What is stored.


@every_notebook
def test_a_notebook_stores_what_it_shows_and_stays_small(path):
    kinds = {kind for output in outputs_of(path) for kind in output.get("data", {})}
    assert "image/png" in kinds
    assert path.stat().st_size < LARGEST_FILE


@every_notebook
def test_a_notebook_stores_no_error_and_no_warning(path):
    for output in outputs_of(path):
        assert output["output_type"] != "error"
        assert output.get("name", "stdout") == "stdout"
        text = "".join(output.get("text", output.get("data", {}).get("text/plain", [])))
        assert not re.search(r"Traceback|Warning|/tmp/|/home/|/work/", text)


@every_notebook
def test_a_picture_is_a_picture_and_says_what_it_shows(path):
    for output in outputs_of(path):
        data = output.get("data", {})
        if "image/png" in data:
            assert base64.b64decode(data["image/png"], validate=False).startswith(b"\x89PNG")
            assert len("".join(data["text/plain"])) > 10
            assert "<Figure" not in "".join(data["text/plain"])


# The first cell, and the size.


@every_notebook
def test_the_first_cell_says_what_comes_out_how_long_it_takes_and_what_to_install(path):
    first = sources_of(path, "markdown")[0]
    assert first.startswith("# ")
    for part in ("**What comes out.**", "**How long it takes.**", "**What to install.**", "pip install '.[experiments"):
        assert part in first
    assert re.search(r"second|minute", first)
    assert f"](../docs/tutorials/{path.stem}.md)" in first


@every_notebook
def test_links_of_a_notebook_lead_to_files(path):
    links = [link for text in sources_of(path, "markdown") for link in re.findall(r"\]\(([^)#]+)", text)]
    assert links
    assert [link for link in links if not link.startswith("https:") and not (path.parent / link).exists()] == []


@every_notebook
def test_nothing_is_installed_by_a_name_that_is_not_published(path):
    assert not re.search(r"pip install '?funcbio", path.read_text())


@every_notebook
def test_a_notebook_whose_size_matters_begins_with_it(path):
    first = sources_of(path)[0]
    assert first.startswith('SIZE = "minute"') == (path.stem in SIZED)
    assert ("SIZE" in first) == (path.stem in SIZED)


def first_cell(name, size, **others):
    """Runs the first cell of code up to the settings, with a size of choice."""
    source = sources_of(ROOT / "notebooks" / f"{name}.ipynb")[0].split("\nrun.run(")[0]
    for variable, value in {"SIZE": size, **others}.items():
        source = re.sub(rf'^{variable} = "[\w-]+"', f'{variable} = "{value}"', source, flags=re.MULTILINE)
    names = {}
    exec(source, names)
    return names


FASHION = {"data": "fashion-mnist", "seeds": 4, "folds": 2, "epochs": 8, "epochs_tuned": 2, "goal": 0.8}


@pytest.mark.parametrize(
    ("name", "chosen", "published"),
    [
        ("3-paper-grid", {}, GridSettings()),
        ("3-paper-grid", {"DATA": "fashion-mnist"}, GridSettings(**FASHION)),
        ("4-gradient-inversion", {}, InversionSettings()),
        ("5-plasticity", {}, PlasticitySettings()),
        ("9-weights-or-units", {}, ArenaSettings()),
    ],
)
def test_the_size_paper_is_what_the_pages_of_results_were_made_with(name, chosen, published):
    names = first_cell(name, "paper", **chosen)
    assert replace(names["settings"], output=published.output) == published
    assert names.get("only") is None
    assert first_cell(name, "minute")["settings"] != names["settings"]


# The pages.


@every_notebook
def test_a_page_is_made_of_what_is_stored(path, maker):
    assert (DOCS / "tutorials" / f"{path.stem}.md").read_text() == maker.page_of(path.stem)
    folder = DOCS / "assets" / "tutorials"
    stored = {stem: content for stem, (content, _) in maker.pictures_of(path.stem).items()}
    assert {file.stem: file.read_bytes() for file in folder.glob(f"{path.stem}-*.png")} == stored


def test_every_page_and_every_picture_belongs_to_a_notebook(maker):
    names = [path.stem for path in NOTEBOOKS]
    assert sorted(page.stem for page in (DOCS / "tutorials").glob("*.md")) == names
    pictures = {file.stem for file in (DOCS / "assets" / "tutorials").iterdir()}
    assert pictures == {stem for name in names for stem in maker.pictures_of(name)}
    assert set(maker.PHOTOS) <= pictures


@every_notebook
def test_a_page_shows_every_cell(path, maker):
    page = (DOCS / "tutorials" / f"{path.stem}.md").read_text()
    sources = sources_of(path)
    assert [part.split("\n```")[0] for part in page.split("```python\n")[1:]] == sources
    assert all(maker.linked(source) in page for source in sources_of(path, "markdown"))
    assert "../docs/" not in page


def test_cells_are_stored_with_what_they_print_and_return(maker):
    from notebook_outputs import run_cells

    draw = "from matplotlib.figure import Figure\nf = Figure()\nf.subplots().set(title='a', xlabel='b', ylabel='c')\nf"
    cells = [{"cell_type": "markdown", "source": ["# Title"]}]
    cells += [{"cell_type": "code", "source": [source]} for source in ("print('one ')\nx = 2", "x + 1", draw)]
    run_cells(cells)
    assert cells[0] == {"cell_type": "markdown", "source": ["# Title"]}
    assert cells[1]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["one\n"]}]
    (result,) = cells[2]["outputs"]
    assert (result["execution_count"], result["data"]) == (2, {"text/plain": ["3"]})
    (picture,) = cells[3]["outputs"]
    assert picture["data"]["text/plain"] == ["a: c by b"]
    assert base64.b64decode(picture["data"]["image/png"]).startswith(b"\x89PNG")


# The cells.


def small(path):
    """Returns the notebook as a program of a small size."""
    sources = sources_of(path)
    for name, value in SMALL.items():
        sources = [re.sub(rf"^{name} = .+$", f"{name} = {value}", source, flags=re.MULTILINE) for source in sources]
    settings = SMALL_SETTINGS.get(path.stem)
    if settings:
        line = f"from dataclasses import replace\nsettings = replace(settings, **{settings})\n"
        head, run, tail = sources[0].partition("run.run(")
        sources[0] = f"{head}\n{line}{run}{tail}"
    return "\n".join(["import torch; torch.set_num_threads(1)", *sources])


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    program = tmp_path / f"{path.stem}.py"
    program.write_text(small(path))
    command = [sys.executable, "-W", "error::UserWarning", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(MPLBACKEND="agg", PATH="")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
