"""The notebooks run from top to bottom, at a small size, and are stored without outputs."""

import json
import re
import subprocess
import sys

import pytest
from places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {"SEEDS": 4, "FOLDS": 2, "EPOCHS": 6, "EPOCHS_TUNED": 2, "META_STEPS": 2, "INNER_STEPS": 5}
SMALL |= {"ITERATIONS": 10, "TASKS": 2, "BLOCKS": 2, "STEPS": 10, "PARTS": 5}
"""Sizes in the place of those that a notebook sets in its first cell."""


def code_cells(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), "stored with outputs"
    return ["".join(cell["source"]) for cell in cells]


def small(source):
    for name, value in SMALL.items():
        source = re.sub(rf"^{name} = \d+$", f"{name} = {value}", source, flags=re.MULTILINE)
    return source.replace("compile=True", "compile=False").replace('compile="yes"', 'compile="no"')


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    program = tmp_path / f"{path.stem}.py"
    program.write_text("import torch; torch.set_num_threads(1)\n" + small("\n".join(code_cells(path))))
    command = [sys.executable, "-W", "error::UserWarning", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={"MPLBACKEND": "agg", "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
