"""What the metadata promises has run: `make test-versions` writes the record, and nobody else."""

import json
import re
import subprocess
import sys

import pytest
import versions

METADATA = (versions.ROOT / "pyproject.toml").read_text()
RECORD = json.loads(versions.RECORD.read_text())
PASSED = [row for row in RECORD.values() if row["passed"] > 1000 and row["failed"] == 0]


def ran(package):
    """The versions of a package with which all quick tests have passed."""
    held = [{"torch": row["torch"], "optree": row["optree"], **row["packages"]} for row in PASSED]
    return [versions.release(row[package]) for row in held if package in row]


@pytest.mark.parametrize("package", sorted(versions.declared()))
def test_the_lowest_version_that_is_declared_has_passed(package):
    lowest = versions.release(versions.lower_bounds()[package])
    assert lowest in ran(package), f"{package}: run make test-versions"


@pytest.mark.parametrize("environment", versions.PYTHONS)
def test_every_environment_has_passed_as_it_is_pinned(environment):
    row, pins = RECORD.get(environment), versions.pins(environment)
    assert row in PASSED, "run make test-versions"
    assert re.match(re.escape(versions.PYTHONS[environment]) + r"\.\d+$", row["python"])
    for package in ("torch", "optree"):
        assert versions.release(row[package]) == versions.release(pins[package])


def test_the_pythons_that_are_declared_have_passed():
    minors = sorted({row["python"].rsplit(".", 1)[0] for row in PASSED}, key=versions.release)
    assert re.findall(r"Python :: (3\.\d+)", METADATA) == minors
    assert re.findall(r'requires-python = ">=(.*)"', METADATA) == minors[:1]


def test_the_table_of_the_documents_is_the_record():
    assert versions.table(RECORD) in versions.PAGE.read_text()


def test_a_missing_interpreter_is_named_before_anything_is_made(monkeypatch, capsys):
    monkeypatch.setitem(versions.PYTHONS, "oldest", "3.1")
    monkeypatch.setattr(versions, "install", lambda *_: pytest.fail("installs"))
    monkeypatch.setattr(sys, "argv", ["versions.py"])
    with pytest.raises(SystemExit, match=r"Python 3\.1 should be on the PATH or under pyenv; found none"):
        versions.main()


def test_a_command_that_is_there_but_does_not_run_is_no_interpreter(tmp_path, monkeypatch):
    for name, body in {"python3.98": "exit 127", "python3.99": "echo 3.99"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert versions.interpreter("3.98") is None
    assert versions.interpreter("3.99") == "python3.99"


def test_a_run_that_wrote_no_report_has_failed(tmp_path):
    assert versions.counts(tmp_path / "report.xml")["failed"] == 1


def test_the_command_needs_nothing_installed():
    line = [sys.executable, "-I", "-S", versions.__file__, "--help"]
    assert "oldest" in subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_a_failing_environment_is_kept_and_recorded(tmp_path, monkeypatch, capsys):
    row = {"python": "3.11.7", "torch": "2.13.0", "optree": "0.20.0", "packages": {}, "date": "2026-11-26"}
    results = {
        "oldest": row | {"passed": 7, "failed": 1, "skipped": 0},
        "newest": row | {"passed": 8, "failed": 0, "skipped": 0},
    }
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "RECORD", tmp_path / "versions.json")
    monkeypatch.setattr(versions, "PAGE", tmp_path / "versions.md")
    versions.PAGE.write_text("# Versions\n\n" + versions.table({}) + "\n\nMore.\n")
    monkeypatch.setattr(versions, "interpreter", lambda _: "python")
    monkeypatch.setattr(versions, "pins", lambda _: {"torch": "2", "optree": "0"})
    monkeypatch.setattr(versions, "install", lambda name, _: (tmp_path / ".venvs" / name).mkdir(parents=True))
    monkeypatch.setattr(versions, "run", lambda name, *_: results[name])
    monkeypatch.setattr(sys, "argv", ["versions.py", "newest", "oldest"])
    with pytest.raises(SystemExit) as stop:
        versions.main()
    assert stop.value.code
    assert json.loads((tmp_path / "versions.json").read_text()) == results
    assert [path.name for path in (tmp_path / ".venvs").iterdir()] == ["oldest"]
    assert "| oldest | 3.11.7 | 2.13.0 | 0.20.0 | 7 | 1 | 0 | 2026-11-26 |" in capsys.readouterr().out
    assert versions.PAGE.read_text() == f"# Versions\n\n{versions.table(results)}\n\nMore.\n"
