"""Compares what one training step of one seed costs: release 0.0.5, our classic loop, our sweeps, and JAX.

Run it with ``python benchmarks/sweep.py``; ``--quick`` takes minutes. All contenders train in one process, in turn,
several times, each time from the start: after about 170 steps some rate factors become denormal numbers, which torch
handles slowly and JAX flushes to zero. Every figure is a median; read the ratios. Drawing the order of examples is no
part of any figure but of JAX's, where it is 64 numbers in a step that draws thousands.
"""

import argparse
import json
import os
import statistics
import tempfile
from functools import partial
from importlib.util import find_spec
from typing import Any

from common import MAP_TENSORS, check_device, machine, peak_bytes, pin, run_child
from rich import box
from rich.console import Console
from rich.table import Table
from sweep_contenders import NETWORKS, Runner, contenders, jax_task, run_sweep

from funcbio.experiments.frame.files import prepare, write_json

ROUNDING = 1e-5
NAMES = {"release": "a", "classic": "b", "classic compiled": "b2", "eager": "c", "compiled": "d", "jax": "e"}
SIZES = {"mlp": (1, 16, 64, 256), "cnn": (1, 16, 64)}
COMPILED_SIZE, MEMORY_SIZE = 16, 256


def measure(runners: dict[str, Runner], steps: int, rounds: int) -> dict[str, list[float]]:
    """Runs the contenders in turn; returns microseconds per seed and step."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for index in range(rounds + 1):
        for name, runner in runners.items():
            seconds, member_steps = runner(steps)
            if index > 0:  # The first round warms up.
                times[name].append(1e6 * seconds / member_steps)
    return times


def summarise(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians by contender, the faster form standing for JAX, and ratios."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    jax = {name: value for name, value in medians.items() if name.startswith("jax")}
    best = {name: value for name, value in medians.items() if name in NAMES} | (
        {"jax": min(jax.values())} if jax else {}
    )
    pairs = [
        ("classic", "release"),
        ("classic compiled", "release"),
        ("compiled", "release"),
        ("eager", "compiled"),
        ("compiled", "jax"),
    ]
    ratios = {f"{NAMES[a]}/{NAMES[b]}": best[a] / best[b] for a, b in pairs if a in best and b in best}
    form = min(jax, key=lambda name: jax[name]) if jax else None
    return {"median_us": best, "ratios": ratios, "jax_form": form, "rounds_us": times}


def result_table(cases: list[dict[str, Any]]) -> Table:
    """Makes the table: microseconds per seed and step, and ratios."""
    legend = (
        "a release 0.0.5, b our classic loop, b2 compiled, c our sweep, d our sweep compiled, e JAX in its fastest form"
    )
    table = Table(title="Microseconds per seed and training step", caption=legend, box=box.SIMPLE_HEAD)
    ratios = ["b/a", "b2/a", "d/a", "c/d", "d/e"]
    for heading in ("net", "seeds", *NAMES.values(), *ratios):
        table.add_column(heading, justify="left" if heading == "net" else "right")
    for case in cases:
        medians = [f"{case['median_us'][name]:.0f}" if name in case["median_us"] else "-" for name in NAMES]
        found = [f"{case['ratios'][name]:.2f}" if name in case["ratios"] else "-" for name in ratios]
        table.add_row(case["network"], str(case["seeds"]), *medians, *found)
    return table


def child(task: str, network: str, size: int, device: str) -> dict[str, Any]:
    """What a process of its own measures: the first steps, or memory."""
    if task == "compiled":
        return {"compile_seconds": run_sweep(network, size, 3, compile=True, device=device).compile_seconds}
    if task == "jax":
        from jax_reference import forms

        found = forms(jax_task(network), list(range(size)))
        return {"compile_seconds": {name: runner.compile_seconds for name, runner in found.items()}}
    return memory(network, size, size if task == "memory at once" else None, device)


def memory(network: str, size: int, chunk: int | None, device: str) -> dict[str, Any]:
    """Largest memory of a compiled sweep over what the process holds before, when all is compiled."""
    run = partial(run_sweep, network, size, 5, compile=True, chunk=chunk, device=device)
    run()
    peak = peak_bytes(run)
    net = NETWORKS[network]()
    parameters = sum(p.numel() for p in net.parameters())
    needed = 4 * size * (2 * parameters + sum(p.numel() for p in net.parameters() if p.ndim > 1))
    return {"peak_bytes": peak, "parameters_gradients_rates_bytes": needed, "ratio": peak / needed}


def spawn(task: str, network: str, size: int, given: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Runs ``child`` in a new process that keeps what it compiles in a folder."""
    caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch", "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    mapped = MAP_TENSORS if task.startswith("memory") else {}
    command = [__file__, "--child", task, "--networks", network, "--sizes", str(size)]
    return run_child(
        [*command, "--threads", str(given.threads), "--device", given.device], {**caches, **always, **mapped}
    )


def outside(given: argparse.Namespace) -> dict[str, Any]:
    """Compile times, cold and from the caches on disk, and memory."""
    found: dict[str, Any] = {}
    for network in given.networks:
        for task in (name for name in ("compiled", "jax") if name in given.only):
            with tempfile.TemporaryDirectory() as folder:
                for cache in ("cold", "from disk"):
                    found[f"{network}, {task}, {cache}"] = spawn(task, network, COMPILED_SIZE, given, folder)
    if "compiled" in given.only and "mlp" in given.networks:
        with tempfile.TemporaryDirectory() as folder:
            for task in ("memory", "memory at once"):
                found[f"mlp, {task}"] = spawn(task, "mlp", MEMORY_SIZE, given, folder)
    return found


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and rounds")
    parser.add_argument("--output", default="results/benchmarks", help="folder for sweep.json")
    parser.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="numbers of seeds; by default all")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="contenders")
    parser.add_argument("--steps", type=int, help="steps of a round, a multiple of 10; by default 100, quick 20")
    parser.add_argument("--rounds", type=int, help="by default 5, quick 2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="on a GPU only ours are measured")
    parser.add_argument("--no-outside", action="store_true", help="leave out compile times and memory")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.steps, found.rounds = found.steps or (20 if found.quick else 100), found.rounds or (2 if found.quick else 5)
    if found.steps < 10 or found.steps % 10 or found.rounds < 1 or found.threads < 1:
        parser.error("--steps should be a multiple of 10, --rounds and --threads at least 1")
    return found


def main() -> None:
    """Measures and writes everything."""
    given, console = arguments(), Console()
    check_device(given.device)
    pin(given.threads)
    if given.child:
        print(json.dumps(child(given.child, given.networks[0], given.sizes[0], given.device)))
        return
    if given.device != "cpu":
        console.print("Columns a and e are left out: release 0.0.5 and our JAX program run on the CPU.")
        given.only = [name for name in given.only if name not in ("release", "jax")]
    if "jax" in given.only and not find_spec("jax"):
        console.print("Column e is left out: JAX is missing; install it with `pip install '.\\[bench]'`.")
        given.only.remove("jax")
    folder, cases = prepare(given.output), []
    for network in given.networks:
        if "jax" in given.only:
            from jax_reference import largest_difference

            difference = largest_difference(jax_task(network))
            console.print(f"{network}: one step of JAX differs from one of funcbio by at most {difference:.1e}.")
            if difference > ROUNDING:
                raise SystemExit("That is more than rounding: the two do not compute the same.")
        for size in (size for size in SIZES[network] if size in (given.sizes or SIZES[network])):
            console.print(f"{network}, {size} seeds ...")
            times = measure(contenders(network, size, given.only, given.device), given.steps, given.rounds)
            cases.append({"network": network, "seeds": size, **summarise(times)})
    console.print(result_table(cases))
    others = {} if given.no_outside else outside(given)
    for name, values in others.items():
        console.print(f"{name}: {values}")
    report = {**machine(given.threads), "steps": given.steps, "rounds": given.rounds, "load": os.getloadavg()}
    write_json(folder / "sweep.json", {**report, "cases": cases, "outside": others})


if __name__ == "__main__":
    main()
