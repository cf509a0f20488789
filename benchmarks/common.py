"""What the benchmarks share: machine and threads, processes of their own, memory, and counts of operations."""

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from funcbio.sweeps._choice import Counting

MAP_TENSORS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Environment of a process whose memory is measured: tensors are mapped one by one, so that what is freed leaves it."""


def machine(threads: int) -> dict[str, Any]:
    """Describes where and with what was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    packages = ["torch", "pytorch-bio-transformations", *(["jax", "jaxlib"] if find_spec("jax") else [])]
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    found = {"versions": versions, "cpu": cpu, "cpus": os.cpu_count(), "threads": threads, "command": sys.argv}
    return {**found, **gpu()} if torch.cuda.is_initialized() else found


def gpu() -> dict[str, Any]:
    """Describes the GPU: its name and memory, the driver, and the CUDA that torch was built for."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = None
    return {"gpu": card.name, "gpu_bytes": card.total_memory, "driver": driver, "cuda": torch.version.cuda}


def check_device(device: str) -> None:
    """Begins to use a device; ends the program if torch cannot."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise SystemExit("a GPU is needed, and a build of torch for it; found none")
    torch.cuda.init()


def wait() -> None:
    """Waits until the GPU has done its work, if this process uses one: only then may a clock be read."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def pin(threads: int) -> None:
    """Gives torch and JAX the same number of threads; before JAX starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ |= {"NPROC": str(threads), "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    torch.set_num_threads(threads)


def run_child(arguments: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Runs Python in a new process; returns the JSON in the last line of its output."""
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes(run: Callable[[], Any]) -> int:
    """Largest memory of a call over what was held before: on a GPU if the process uses one, else resident memory."""
    gc.collect()
    if torch.cuda.is_initialized():
        return _peak_bytes_on_gpu(run)
    ctypes.CDLL(None).malloc_trim(0)
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    run()
    return status_bytes("VmHWM") - before


def _peak_bytes_on_gpu(run: Callable[[], Any]) -> int:
    wait()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    wait()
    return torch.cuda.max_memory_allocated() - before


def status_bytes(field: str) -> int:
    """Reads a figure of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def count_operations(run: Callable[[], Any]) -> int:
    """Number of torch operations of a call."""
    with Counting() as counter:
        run()
    return counter.count
