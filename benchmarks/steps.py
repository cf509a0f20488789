"""Measures what the mechanisms cost in a classic training loop: release 0.0.5, funcbio eager and funcbio compiled.

Run it with ``python benchmarks/steps.py``; ``--quick`` takes a minute or two. All contenders are called in one process,
in turn, round by round, as often as fits a budget of time. Every figure is a median; read the ratios.

Weights, gradients and rates are put back from copies before every call, outside the time measured: else gradients would
shrink in a few calls to denormal numbers, which are slow for a reason of their own.

- chain: crystallize, volume_dependent_lr and fuzzy_learning_rates, in funcbio as one call of ``bio_step``.
- update_fuzzy_learning_rates: from activity, on one layer of 1,000 units. The release tosses a coin and mostly does
  nothing, funcbio tosses one for every row; the first call redraws all rows for sure. The flag or counter of calls is
  put back too, so every call measured is such a first one. The time of the release includes the count of active
  outputs, which funcbio takes in the forward pass, outside the time measured.
- step: zero_grad, forward, cross-entropy, backward and plain SGD of the model before conversion.
- floor: a pass in place over flat tensors, as long as there are synapses, that reads and writes as many bytes as the
  method must: ``torch.mul`` or ``torch.addcmul`` with ``out=`` one of their inputs. In small networks, which fit the
  cache, it is next to nothing: there the calls themselves take the time.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optree
import torch
from common import MAP_TENSORS, check_device, count_operations, machine, peak_bytes, pin, run_child, wait
from rich.console import Console
from steps_figure import geometric_means, save_figure, show, show_comparison, summarise
from steps_models import (
    CONVERTERS,
    METHODS,
    MODELS,
    Case,
    chained,
    count_synapses,
    floor_case,
    method_case,
    methods_of,
    step_case,
    trainee,
)

from funcbio.experiments.frame.files import prepare, write_json

CONTENDERS = (*CONVERTERS, "floor", "step")
QUICK = ["mlp-32", "mlp-256", "layer"]
MEMORY_MODELS, COMPILE_MODELS = ("mlp-1000", "mlp-3000"), ("mlp-256", "transformer")
MOST_CALLS = 200
FIGURE = "docs/assets/steps.svg"


def cases_of(name: str, methods: list[str], chosen: list[str], device: str) -> dict[tuple[str, str], Case]:
    """Makes what is measured on a model, by method and contender."""
    torch.compiler.reset()  # So that no limit on recompilation is met.
    size, found = count_synapses(name), {}
    made = {contender: trainee(name, contender, device) for contender in CONVERTERS if contender in chosen}
    for method in methods:
        found |= {(method, contender): method_case(its, contender, method) for contender, its in made.items()}
        found |= {(method, "floor"): floor_case(size, method, device)} if "floor" in chosen else {}
    return found | ({("step", "step"): step_case(name, device)} if "step" in chosen else {})


def timed(case: Case) -> float:
    """Milliseconds of one call."""
    case.reset()
    wait()
    began = time.perf_counter()
    case.call()
    wait()
    return 1e3 * (time.perf_counter() - began)


def calls_within(case: Case, seconds: float) -> int:
    """How many calls fit a time, and what is put back before them; at least one."""
    timed(case)
    began = time.perf_counter()
    timed(case)
    return max(1, min(MOST_CALLS, int(seconds / (time.perf_counter() - began))))


def measure(cases: dict[tuple[str, str], Case], budget: float, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Calls the cases in turn, round by round; returns milliseconds."""
    calls = {key: calls_within(case, budget / rounds) for key, case in cases.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in cases}
    for _ in range(rounds):
        for key, case in cases.items():
            times[key] += [timed(case) for _ in range(calls[key])]
    return times


def operations(case: Case) -> int:
    """Torch operations of one call."""
    case.reset()
    return count_operations(case.call)


def measure_model(name: str, methods: list[str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures the methods on a model: one entry of the report for each."""
    cases = cases_of(name, methods, given.only, given.device)
    times = measure(cases, given.budget, given.rounds)
    model = MODELS[name].make()
    about = {"model": name, "parameters": sum(p.numel() for p in model.parameters()), "synapses": count_synapses(name)}
    entries = []
    for method in methods:
        own = {key[1]: values for key, values in times.items() if key[0] in (method, "step")}
        counted = {c: operations(cases[method, c]) for c in ("release", "eager") if (method, c) in cases}
        entries.append({**about, "method": method, **summarise(own), "operations": counted})
    return entries


def child(task: str, name: str, contender: str, method: str, device: str) -> dict[str, Any]:
    """What a process of its own measures: the first calls of the chain, or memory."""
    made = trainee(name, contender, device)
    if task == "compile":
        case = Case(made.reset, chained(made.model))
        return {"first_call_s": timed(case) / 1e3, "second_call_s": timed(case) / 1e3}
    results: Any = []
    case = method_case(made, contender, method)
    timed(case)
    case.reset()
    peak = peak_bytes(lambda: results.append(case.call()))
    returned = sum(leaf.nbytes for leaf in optree.tree_leaves(results))
    synapses = count_synapses(name)
    return {
        "peak_bytes": peak,
        "peak_bytes_without_result": peak - returned,
        "bytes_per_synapse": peak / synapses,
        "bytes_per_synapse_without_result": (peak - returned) / synapses,
    }


def spawn(folder: str, task: str, name: str, contender: str, method: str, given: argparse.Namespace) -> dict[str, Any]:
    """Runs ``child`` in a new process that keeps what it compiles in a folder."""
    caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch", "TRITON_CACHE_DIR": f"{folder}/triton"}
    caches["FUNCBIO_CACHE_DIR"] = f"{folder}/programs"
    command = [__file__, "--child", task, "--models", name, "--only", contender, "--methods", method]
    mapped = MAP_TENSORS if task == "memory" else {}
    return run_child([*command, "--threads", str(given.threads), "--device", given.device], {**caches, **mapped})


def memory(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak of extra memory of every method, each in a process of its own."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in MEMORY_MODELS if name in given.models):
            for method in (method for method in methods_of(name) if method in given.methods):
                for contender in (contender for contender in CONVERTERS if contender in given.only):
                    peak = spawn(folder, "memory", name, contender, method, given)
                    found.append({"model": name, "method": method, "contender": contender, **peak})
    return found


def compile_times(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of the first call of the chain in a new process, without and with what was kept on disk."""
    found = []
    for name in (name for name in COMPILE_MODELS if name in given.models and "compiled" in given.only):
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("cold", "from packages"):
                seconds = spawn(folder, "compile", name, "compiled", "chain", given)
                found.append({"model": name, "cache": cache, **seconds})
    return found


def report(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measures everything that is asked for."""
    cases, head = [], {**machine(given.threads), "budget_s": given.budget, "rounds": given.rounds}
    for name in given.models:
        methods = [method for method in methods_of(name) if method in given.methods]
        if methods:
            console.print(f"{name} ...")
            cases += measure_model(name, methods, given)
    outside: dict[str, Callable[[argparse.Namespace], Any]] = {"memory": memory, "compile": compile_times}
    others = {} if given.quick or given.no_outside else {key: make(given) for key, make in outside.items()}
    return {**head, "load": os.getloadavg(), "geometric_means": geometric_means(cases), "cases": cases, **others}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} only, few calls, nothing outside")
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders")
    parser.add_argument("--budget", type=float, help="seconds for each method and contender; by default 2, quick 0.2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="on a GPU the release is left out")
    parser.add_argument("--no-outside", action="store_true", help="leave out compile times and memory")
    parser.add_argument("--output", default="results/benchmarks", help="folder for steps.json")
    parser.add_argument("--from", dest="source", help="a steps.json to show instead of measuring")
    parser.add_argument("--compare", help="an earlier steps.json: prints new times over old ones")
    parser.add_argument("--figure", nargs="?", const=FIGURE, help=f"draws the figure; by default {FIGURE}")
    parser.add_argument("--child", choices=["memory", "compile"], help=argparse.SUPPRESS)
    found = parser.parse_args()
    chosen = found.models or (QUICK if found.quick else MODELS)
    found.models = [name for name in MODELS if name in chosen]
    found.budget = found.budget or (0.2 if found.quick else 2.0)
    if found.rounds < 5 or found.threads < 1 or found.budget <= 0:
        parser.error("--rounds should be at least 5, --threads at least 1, --budget positive")
    if not any(method in found.methods for name in found.models for method in methods_of(name)):
        parser.error(f"no such method on these models: of the layer only {METHODS[-1]} is measured, and only there")
    return found


def leave_out_compiled(given: argparse.Namespace, console: Console) -> None:
    """Leaves out what this version of funcbio cannot do, and says so."""
    try:
        CONVERTERS["compiled"]()
    except (TypeError, ValueError) as error:
        console.print(f"The compiled form is left out: {error}")
        given.only = [name for name in given.only if name != "compiled"]


def leave_out_release(given: argparse.Namespace, console: Console) -> None:
    """Leaves out the release on a GPU, where it makes its tensors on the CPU, and says so."""
    if given.device != "cpu" and "release" in given.only:
        console.print("Release 0.0.5 is left out: it was written for the CPU.")
        given.only = [name for name in given.only if name != "release"]


def main() -> None:
    """Measures, writes and shows everything."""
    given, console = arguments(), Console()
    check_device(given.device)
    pin(given.threads)
    if given.child:
        print(json.dumps(child(given.child, given.models[0], given.only[0], given.methods[0], given.device)))
        return
    if given.source:
        found = json.loads(Path(given.source).read_text())
    else:
        folder = prepare(given.output)
        leave_out_compiled(given, console)
        leave_out_release(given, console)
        found = report(given, console)
        write_json(folder / "steps.json", found)
    show(found, console)
    if given.compare:
        show_comparison(found, json.loads(Path(given.compare).read_text()), console)
    if given.figure:
        save_figure(found, given.figure)


if __name__ == "__main__":
    main()
