import doctest
import math
import os
from collections import Counter

import hypothesis
import places
import pytest
import sites
import torch

import funcbio
from funcbio.sweeps import _progress

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _same_start(monkeypatch):
    """Every test starts from one seed, on one thread: two workers share two cores. No test is told that it is slow."""
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", math.inf)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch._dynamo.reset()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of the cases of a test marked ``sampled(n)``, leaves one in n quick and marks the others slow."""
    seen = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            test = item.path, item.originalname
            if seen[test] % mark.args[0]:
                item.add_marker("slow")
            seen[test] += 1


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site, one for all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    return sites.built(folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder)


def doctest_names():
    return {name: getattr(funcbio, name) for name in funcbio.__all__} | {"torch": torch, "presets": funcbio.presets}


def run_doctest(name, item):
    """Runs the examples of one docstring with the public names in scope; returns how many there were."""
    tests = doctest.DocTestFinder(recurse=False).find(item, name, globs=doctest_names())
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS)
    for test in tests:
        runner.run(test)
    assert runner.failures == 0, f"{runner.failures} example(s) of {name} fail"
    return runner.tries


os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Programs are kept from run to run, beside what pytest keeps, and not in the user's folder.
os.environ.setdefault("FUNCBIO_CACHE_DIR", str(places.ROOT / ".pytest_cache" / "programs"))


def pytest_terminal_summary(terminalreporter):
    """Adds up what tests recorded as tried cases; properties of reports also come from other processes."""
    reports = [report for found in terminalreporter.stats.values() for report in found if hasattr(report, "when")]
    teardowns = [report for report in reports if report.when == "teardown"]
    cases = sum(count for report in teardowns for name, count in report.user_properties if name == "bad input cases")
    if cases:
        terminalreporter.write_line(f"bad input: {cases} cases")
