"""Runs notebooks, stores their outputs in them, and makes pages of what is stored.

``python docs/notebooks.py`` runs all of them, one after another, in a minute or so each; names choose some:
``python docs/notebooks.py 6-seeds``. With ``--pages`` nothing runs: pages are made anew from the stored outputs.
"""

import argparse
import base64
import json
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
NOTEBOOKS, PAGES, PICTURES = DOCS.parent / "notebooks", DOCS / "tutorials", DOCS / "assets" / "tutorials"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
PHOTOS = ("4-gradient-inversion-3",)
"""Pictures of images: a dark page does not turn their lightness around."""

COLUMNS = 88
"""Columns of the tables that cells print: as many as a page has beside both of its lists."""

HERE = "The [page with all outputs]"
"""Begins the line of a notebook that links its page; the page leaves it out."""


def load(name: str) -> dict[str, Any]:
    """Reads a notebook."""
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())


def store(name: str) -> None:
    """Runs a notebook from top to bottom, and stores the outputs once all cells have run."""
    import torch
    from notebook_outputs import run_cells

    from funcbio.experiments.frame import terminal

    torch.set_num_threads(1)
    terminal.LOG_COLUMNS = COLUMNS
    notebook, start = load(name), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run_cells(notebook["cells"])
    (NOTEBOOKS / f"{name}.ipynb").write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    print(f"{name}: {time.process_time() - start:.0f} s of one core", flush=True)


def pictures_of(name: str) -> dict[str, tuple[bytes, str]]:
    """Returns the stored pictures of a notebook and what they show, by the name of their file: its cell's number."""
    found = {}
    for number, cell in enumerate(load(name)["cells"]):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                found[f"{name}-{number}"] = base64.b64decode(data["image/png"]), "".join(data["text/plain"])
    return found


def page_of(name: str) -> str:
    """Returns a notebook as Markdown, with its stored outputs."""
    pictures = {stem: shown for stem, (_, shown) in pictures_of(name).items()}
    parts: list[str] = []
    for number, cell in enumerate(load(name)["cells"]):
        source, stem = "".join(cell["source"]), f"{name}-{number}"
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else linked(source))
        parts += [f"```text\n{text}\n```" for text in texts_of(cell)]
        if stem in pictures:
            kind = "{.photo}" if stem in PHOTOS else ""
            parts.append(f"![{pictures[stem]}](../assets/tutorials/{stem}.png){kind}")
    parts.append(f"Made from `notebooks/{name}.ipynb` by `python docs/notebooks.py {name}`.")
    return "\n\n".join(parts) + "\n"


def texts_of(cell: dict[str, Any]) -> Iterator[str]:
    """Yields what a cell has printed, and the text of its value."""
    for output in cell.get("outputs", ()):
        text = output.get("text") or output.get("data", {}).get("text/plain", ())
        if "image/png" not in output.get("data", {}):
            yield "".join(text).rstrip("\n")


def linked(source: str) -> str:
    """Returns text of a notebook with links that begin at its page, without the line that links the page itself."""
    lines = [line for line in source.splitlines() if not line.startswith(HERE)]
    text = "\n".join(lines).replace("](../docs/tutorials/", "](").replace("](../docs/", "](../")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def write(name: str) -> None:
    """Makes the page of a notebook and its pictures from the stored outputs."""
    for folder in (PAGES, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES.glob(f"{name}-*.png"):
        picture.unlink()
    for stem, (content, _) in pictures_of(name).items():
        (PICTURES / f"{stem}.png").write_bytes(content)
    (PAGES / f"{name}.md").write_text(page_of(name))


def main() -> None:
    """Stores outputs, unless only pages are asked for, and makes pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--pages", action="store_true", help="make pages from the stored outputs, run nothing")
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"names should be some of {', '.join(NAMES)}; found {name!r}")
    for name in options.names or NAMES:
        if not options.pages:
            store(name)
        write(name)


if __name__ == "__main__":
    main()
