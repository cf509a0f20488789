"""Runs the tests of ``tests/cuda``, the steps and the sweeps on a GPU, and writes one JSON.

Run it with ``make gpu``, or ``python benchmarks/gpu.py`` where everything is installed; ``--quick`` takes minutes. What
fails is written down like the rest, and ends the program with an error when all is done.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from common import check_device, machine

from funcbio.experiments.frame.files import write_json

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"steps": "steps.json", "sweep": "sweep.json"}
"""Benchmarks, and what each writes."""


def tests(folder: Path, options: list[str]) -> dict[str, Any]:
    """Runs the tests; returns how many passed, failed and were skipped, and the names of those that failed."""
    report = folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "tests/cuda", f"--junit-xml={report}", *options]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return {"returncode": code, **(read_report(report) if report.exists() else {})}


def read_report(report: Path) -> dict[str, Any]:
    """Reads the report of pytest."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped, "names": failed}


def benchmark(name: str, folder: Path, options: list[str], device: str) -> dict[str, Any]:
    """Runs a benchmark in a process of its own; returns what it wrote, or how it ended."""
    command = [sys.executable, f"benchmarks/{name}.py", "--device", device, "--output", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, check=False)
    written = folder / PARTS[name]
    return json.loads(written.read_text()) if written.exists() else {"returncode": done.returncode}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few models, steps and rounds, nothing outside")
    parser.add_argument("--only", nargs="+", choices=["tests", *PARTS], default=["tests", *PARTS])
    parser.add_argument(
        "--tests", action="append", default=[], metavar="OPTION", help="for pytest: --tests=-m= runs all"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries this program out")
    parser.add_argument("--output", default="results/gpu.json")
    return parser.parse_args()


def main() -> None:
    """Runs everything that is asked for, and writes the JSON after each part."""
    given = arguments()
    check_device(given.device)
    output = Path(given.output).resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = machine(0)
    with tempfile.TemporaryDirectory() as folder:
        for part in given.only:
            quick = ["--quick", *(["--no-outside"] if part == "sweep" else [])] if given.quick else []
            options = given.tests if part == "tests" else quick
            found[part] = (
                tests(Path(folder), options)
                if part == "tests"
                else benchmark(part, Path(folder), options, given.device)
            )
            write_json(output, found)
    print(f"Written to {output}")
    if any(found[part].get("returncode") for part in given.only):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
