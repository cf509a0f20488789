"""Where things lie that tests read, and how the processes that they start find the modules of the tests."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DATA = ROOT / "tests" / "data"


def environment(**variables):
    """Returns the variables of a process that imports whatever this one can import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
