"""What the build of the site changes in docstrings: the name of a section, and equations within sentences."""

import re
from typing import Any

from griffe import Extension, Object

DISPLAYED = re.compile(r"[ \t]*(\$\$[^$]+?\$\$)[ \t]*\n?")


class Docstrings(Extension):
    """Called by griffe for every object that it has read."""

    def on_instance(self, *, obj: Object, **others: Any) -> None:
        """Gives examples the name that the parser knows, and every ``$$ ... $$`` a paragraph of its own."""
        del others
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = DISPLAYED.sub(r"\n\n\1\n\n", text)
