"""Runs the quick tests with the oldest, the tested and the newest versions: `make test-versions`.

Needs nothing but the interpreters: each environment is made in `.venvs` and removed again once its tests have passed.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "data" / "versions.json"
PAGE = ROOT / "docs" / "about" / "versions.md"
NEWEST = {"torch": "2.15.0"}
"""What `pip install` gives a user today, where that is not what the project is tested with."""

# One axis from the tested versions to each end: Python and torch; the oldest also has the lowest of everything else.
PYTHONS = {"oldest": "3.10", "tested": "3.11", "newest": "3.13"}


def lower_bounds():
    """Returns the lowest declared version of torch, optree and whatever the tests need, by name of the package."""
    text = (ROOT / "pyproject.toml").read_text()  # Python 3.10 has no reader of this format.
    needed = re.search(r"^dependencies = .*?(?=^bench = )", text, re.DOTALL | re.MULTILINE)[0]
    needed += re.search(r"^test = \[.*?^\]", text, re.DOTALL | re.MULTILINE)[0]
    found = {}
    for name, version in re.findall(r'"([\w.-]+)[>=]=([\d.]+)', needed):
        found[name] = max(found.get(name, version), version, key=release)
    return found


def release(version):
    """Returns a version's numbers without trailing zeros, so that 2.9 equals 2.9.0, and a local build its release."""
    numbers = [int(part) for part in version.split("+")[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def tested():
    """Returns the versions that `make test` runs with."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def pins(environment):
    """Returns the versions of an environment, by name of the package."""
    return {"oldest": lower_bounds(), "tested": tested(), "newest": tested() | NEWEST}[environment]


def interpreter(version):
    """Returns a command for one version of Python, or None: from the PATH, or from a version manager's folder."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{version}", *sorted(map(str, kept.glob(f"{version}.*/bin/python")), reverse=True)]
    for command in candidates:
        asked = [command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:  # A version manager leaves commands on the PATH for versions that it does not let run.
            if subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == version:
                return command
        except (OSError, subprocess.CalledProcessError):
            continue
    return None


def install(environment, command):
    """Makes an environment in its folder, unless it is there and complete; returns its interpreter."""
    folder = ROOT / ".venvs" / environment
    python, constraints, done = folder / "bin" / "python", folder / "constraints.txt", folder / "installed"
    text = "".join(f"{name}=={version}\n" for name, version in pins(environment).items())
    metadata = (ROOT / "pyproject.toml").read_text().split("[tool.")[0]
    state = hashlib.sha256((text + metadata).encode()).hexdigest()
    if done.exists() and done.read_text() == state:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([command, "-m", "venv", folder], check=True)
    constraints.write_text(text)
    # Named by the variable, the file replaces one that the machine's configuration names; some cap torch. Torch's
    # libraries are gigabytes: no second copy in a cache.
    variables = {**os.environ, "PIP_CONSTRAINT": str(constraints), "PIP_NO_CACHE_DIR": "1"}
    line = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f"{ROOT}[test]"]
    subprocess.run(line, check=True, env=variables)
    done.write_text(state)
    return python


def run(environment, python, options):
    """Runs the quick tests; returns the row of the record."""
    report = ROOT / ".venvs" / environment / "report.xml"
    report.unlink(missing_ok=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [python, "-m", "pytest", "--numprocesses", "2", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    line += ["--ignore", "tests/test_versions.py", *options]  # It asks for the record that this run is to write.
    subprocess.run(line, check=False, cwd=ROOT, env=variables)
    return versions(python) | counts(report)


def versions(python):
    """Returns the versions that an environment holds: those of which a lowest one is declared."""
    code = (
        "import importlib.metadata as m, json, platform, sys; "
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:]} | {'python': platform.python_version()}))"
    )
    found = json.loads(subprocess.check_output([python, "-c", code, *sorted(declared())]))
    row = {name: found.pop(name) for name in ("python", "torch", "optree")}
    return row | {"packages": found}


def declared():
    """Returns the packages that the environments have in common."""
    markers = {"tomli"}  # Older Pythons only.
    return set(lower_bounds()) - markers


def counts(report):
    """Returns how many tests passed, failed and were skipped, and on which day."""
    suite = ElementTree.parse(report).getroot().find("testsuite") if report.exists() else None
    if suite is None:
        return {"passed": 0, "failed": 1, "skipped": 0, "date": today()}
    failed, skipped = int(suite.get("failures")) + int(suite.get("errors")), int(suite.get("skipped"))
    return {"passed": int(suite.get("tests")) - failed - skipped, "failed": failed, "skipped": skipped, "date": today()}


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def table(record):
    """Returns the record as Markdown, as the documents show it."""
    heads = ["versions", "Python", "torch", "optree", "passed", "failed", "skipped", "on"]
    keys = ["python", "torch", "optree", "passed", "failed", "skipped", "date"]
    rows = [[name, *(str(row[key]) for key in keys)] for name, row in record.items()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *rows])


def write(record):
    """Writes the record and the page that shows it."""
    RECORD.write_text(json.dumps({name: record[name] for name in PYTHONS if name in record}, indent=2) + "\n")
    PAGE.write_text(
        re.sub(r"(^\|.*\n)+", table(json.loads(RECORD.read_text())) + "\n", PAGE.read_text(), flags=re.MULTILINE)
    )


def arguments():
    """Returns what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", nargs="*", default=[*PYTHONS], help=f"of {', '.join(PYTHONS)}; all by default")
    parser.add_argument("--keep", action="store_true", help="leave an environment in .venvs when its tests pass")
    parser.add_argument("--pytest", default="", help="further arguments of pytest; the record is left as it is then")
    options = parser.parse_args()
    for name in options.environments:
        if name not in PYTHONS:
            parser.error(f"an environment should be one of {', '.join(PYTHONS)}; found {name}")
    return options


def interpreters(environments):
    """Returns the command of each environment's Python; leaves with a message that names the missing ones."""
    commands = {name: interpreter(PYTHONS[name]) for name in environments}
    missing = sorted({PYTHONS[name] for name, command in commands.items() if command is None})
    if missing:
        sys.exit(f"Python {' and '.join(missing)} should be on the PATH or under pyenv; found none")
    return commands


def main():
    """Runs the environments that the command line names, all by default; writes the record and prints it."""
    options = arguments()
    commands = interpreters(options.environments)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name, command in commands.items():
        pinned = pins(name)
        print(f"{name}: Python {PYTHONS[name]}, torch {pinned['torch']}, optree {pinned['optree']}", flush=True)
        record[name] = run(name, install(name, command), options.pytest.split())
        if not options.pytest:  # Each when it is there: an interrupt loses only what has not run.
            write(record)
        if record[name]["failed"] == 0 and not options.keep:
            shutil.rmtree(ROOT / ".venvs" / name)
    ran = {name: record[name] for name in options.environments}
    print(table(ran))
    sys.exit(any(row["failed"] for row in ran.values()))


if __name__ == "__main__":
    main()
