"""Puts what scripts make of results between marks in pages."""

import re


def marked(text: str, name: str, content: str, maker: str) -> str:
    """Puts content between the marks of a name; both name the script that makes it."""
    begin, end = f"<!-- {name}, made by docs/{maker} -->", f"<!-- end of {name} -->"
    pattern = f"({re.escape(begin)}\n).*?({re.escape(end)})"
    found, count = re.subn(pattern, lambda match: f"{match[1]}\n{content}\n{match[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page should have the marks {begin} and {end} once; found {count}")
    return found


def folded(title: str, text: str) -> str:
    """Writes a text that opens at a click, as the other pages of results do."""
    return f'<details class="note" markdown="1">\n<summary>{title}</summary>\n\n{text}\n\n</details>\n'
