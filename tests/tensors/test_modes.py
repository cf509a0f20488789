"""Nothing outlives a call: not a tensor made in a mode of torch, and not all that was ever needed."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from modes_runs import MODES
from places import environment
from torch.utils._python_dispatch import TorchDispatchMode

import funcbio
from funcbio import BioConfig
from funcbio.tensors import _arithmetic as arithmetic
from funcbio.tensors import _kept as kept

RUNS = Path(__file__).with_name("modes_runs.py")


def digests(modes, *arguments):
    """What came out after each of the modes."""
    command = [sys.executable, "-W", "ignore", RUNS, ",".join(modes), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(found) == list(modes)
    return found


FEW = ["none", "inference_mode", "functionalize"]


@pytest.mark.parametrize(
    ("modes", "arguments"),
    [
        (FEW, ()),
        pytest.param(MODES, (), marks=pytest.mark.slow),
        pytest.param(MODES, ("compiled",), marks=pytest.mark.slow),
    ],
    ids=["few", "all", "compiled"],
)
def test_a_first_call_in_a_mode_changes_no_later_one(modes, arguments):
    found = digests(modes, *arguments)
    assert found["none"].endswith(" []"), found["none"]
    assert {mode: digest for mode, digest in found.items() if digest != found["none"]} == {}


def caches():
    """All that is kept by the library, by name."""
    modules = [module for name, module in sys.modules.items() if name.startswith("funcbio.")]
    found = {f"{module.__name__}.{name}": item for module in modules for name, item in vars(module).items()}
    return {name: item for name, item in found.items() if hasattr(item, "cache_info") and ".experiments." not in name}


def test_what_is_kept_has_a_limit():
    assert any(name.endswith(".constant") for name in caches())
    for name, item in caches().items():
        assert item.cache_info().maxsize is not None, name


def test_thousands_of_hyper_parameters_are_not_all_kept():
    params = {"w": torch.ones(2, 2)}
    state = funcbio.BioState(rate=params)
    model = funcbio.BioConverter()(torch.nn.Linear(2, 2))
    model.weight.grad = torch.ones(2, 2)
    for number in range(3000):
        funcbio.crystallize(params, params, state, threshold=1e-9 * (number + 1), dampening=0.5 + 1e-5 * number)
        model.bio_mod.config = BioConfig(crystal_thresh=1e-9 * (number + 1))
        model.crystallize()
    for name, item in caches().items():
        assert item.cache_info().currsize <= 1024, name


def test_numbers_that_are_equal_keep_their_type_and_sign():
    one = arithmetic.constant(torch.float64, 1.0)
    assert arithmetic.constant(torch.int64, 1).dtype == torch.int64
    assert arithmetic.constant(torch.float64, 1) is not None
    assert one.dtype == torch.float64
    zeros = [arithmetic.number(zero, torch.float32, torch.device("cpu")) for zero in (-0.0, 0.0)]
    assert not any(torch.signbit(zero) for zero in zeros)


def test_nothing_is_kept_that_a_cuda_graph_records(monkeypatch):
    monkeypatch.setattr(kept, "is_captured", lambda: True)
    made = kept.kept(4)(lambda number: torch.tensor(number, dtype=torch.int64, device="cpu"))
    assert made(3) is not made(3)
    monkeypatch.setattr(kept, "is_captured", lambda: False)
    assert made(3) is made(3)


def test_an_error_while_something_is_made_outside_of_a_mode_is_raised_in_it():
    fail = kept.kept(4)(lambda number: 1 / number)
    with pytest.raises(ZeroDivisionError):
        torch.vmap(lambda x: (fail(0), x)[1])(torch.ones(2))


def test_within_a_graph_nothing_is_looked_up_and_nothing_is_warned_of():
    made = kept.kept(4)(lambda number: torch.tensor(number, dtype=torch.float64, device="cpu"))
    graph = torch.compile(lambda x: x + made(3), fullgraph=True, backend="eager")
    assert torch.equal(graph(torch.ones(2)), torch.ones(2) + made(3))


def test_modes_of_other_threads_leave_no_trace():
    """Torch's own flag is one for all threads, and stays on when their modes end in another order."""

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    first, second = Watching(), Watching()
    entered, ended = threading.Event(), threading.Event()

    def other():
        with second:
            entered.set()
            ended.wait(10)

    thread = threading.Thread(target=other)
    with first:
        assert kept.is_watched()
        thread.start()
        entered.wait(10)
    assert not kept.is_watched()
    ended.set()
    thread.join()
    assert not kept.is_watched()
