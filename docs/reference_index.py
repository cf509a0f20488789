"""The overview of the reference: a line for every public name, the first one of its docstring.

``python docs/reference_index.py`` writes the page; a test compares them.
"""

import re
from pathlib import Path

import griffe

REFERENCE = Path(__file__).parent / "reference"
ENTRY = re.compile(r"^::: (funcbio\.\S+)$", re.MULTILINE)
ORDER = ("mechanisms", "functional", "objects", "sweeps", "monitoring", "rng", "integrations")
HEAD = """# Reference

Every public name with the first line of its entry, grouped as the code is. An entry has the signature, shapes, errors,
an example that the tests run, and its source.
"""


def summary(name: str, package: griffe.Module) -> str:
    """Returns the first sentence of a docstring, in Markdown."""
    item = package[name.removeprefix("funcbio.")]
    item = item.final_target if item.is_alias else item
    assert item.docstring, name
    line = " ".join(item.docstring.value.split("\n\n")[0].split())
    return line.replace("``", "`")


def page() -> str:
    """Returns the page."""
    package, parts = griffe.load("funcbio", search_paths=[str(REFERENCE.parents[1])], resolve_aliases=True), [HEAD]
    for name in ORDER:
        text = (REFERENCE / f"{name}.md").read_text()
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        lines = [
            f"- [`{entry.removeprefix('funcbio.')}`]({name}.md#{entry}): {summary(entry, package)}"
            for entry in ENTRY.findall(text)
        ]
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (REFERENCE / "index.md").write_text(page())
