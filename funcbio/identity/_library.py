"""The difference between the user's code, described by its parts, and a library's, described by its name."""

import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

LIBRARIES = ("torch", "funcbio")
"""Libraries even where they are developed, outside the places of installed packages."""

PLACES = ("stdlib", "platstdlib", "purelib", "platlib")


def is_library(module: str | None) -> bool:
    """Returns True if a module of this name is installed: its code belongs to a version, not to an experiment."""
    top = (module or "").partition(".")[0]
    if top == "__main__":
        return False
    return top in LIBRARIES or top in sys.stdlib_module_names or _installed(top)


@lru_cache(maxsize=1024)
def _installed(top: str) -> bool:
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if file is None:
        return False
    places = {Path(sysconfig.get_path(place)).resolve() for place in PLACES}
    path = Path(file).resolve()
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or any(place in path.parents for place in places)
