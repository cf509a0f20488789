"""Prints the tables of docs/benchmarks.md from the files that the benchmarks wrote.

Run it with ``python benchmarks/page.py``, after ``make bench``.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TITLES = {
    "mlp-32": "perceptron, 26 k",
    "mlp-256": "perceptron, 269 k",
    "mlp-1000": "perceptron, 1.8 M",
    "mlp-3000": "perceptron, 11.4 M",
    "resnet": "ResNet-18, 11.2 M",
    "transformer": "Transformer of 12 layers, 9.5 M",
    "layer": "one layer, 784 k",
}
METHODS = {
    "volume_dependent_lr": "volume",
    "fuzzy_learning_rates": "fuzzy",
    "crystallize": "crystallize",
    "rejuvenate_weights": "rejuvenate",
    "chain": "chain",
    "update_fuzzy_learning_rates": "activity update",
}
NETWORKS = {"mlp": "perceptron 64-128-10", "cnn": "two convolutions"}


def row(*cells: object) -> str:
    """Returns a row of a table."""
    return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def table(*head: str) -> Iterator[str]:
    """Yields the head of a table."""
    yield row(*head)
    yield "|" + "---|" * len(head)


def steps(found: dict[str, Any]) -> Iterator[str]:
    """Yields the table of steps, and the geometric means."""
    yield from table("model", "method", "a: release", "b: funcbio", "c: compiled", "plain step", "b/a", "c/a", "c/step")
    last = None
    for case in found["cases"]:
        times, ratios = case["median_ms"], case["ratios"]
        shown = [f"{times[name]:.3g}" for name in ("release", "eager", "compiled", "step")]
        shares = [ratios[f"{one}"] for one in ("eager/release", "compiled/release", "compiled/step")]
        yield row("" if case["model"] == last else TITLES[case["model"]], METHODS[case["method"]], *shown, *shares)
        last = case["model"]
    yield from ("", str({pair: round(means["all"], 2) for pair, means in found["geometric_means"].items()}), "")
    for entry in found.get("compile", ()):
        yield f"{entry['model']}, {entry['cache']}: {entry['first_call_s']:.2f} s, then {entry['second_call_s']:.4f} s"
    peaks: dict[str, float] = {}
    for entry in found.get("memory", ()):
        peaks[entry["contender"]] = max(peaks.get(entry["contender"], 0.0), entry["peak_bytes_without_result"] / 1e6)
    yield f"largest peak beside the result, MB: { {name: round(peak, 1) for name, peak in peaks.items()} }"


def small(found: dict[str, Any]) -> Iterator[str]:
    """Yields the tables of small layers."""
    yield from table("300 layers of", "mechanisms", "plain step, ms", "over it, ms")
    for case in found["attach"]:
        width = f"{case['width']} x {case['width']}"
        yield row(width, case["mechanisms"], case["plain_ms"], case["over_ms"])
    yield ""
    yield from table("layers", "`bio_step()`, us", "of it outside its programs, us")
    for case in found["outside"]:
        yield row(case["layers"], f"{case['whole_us']:.0f}", f"{case['outside_us']:.0f}")


def sweeps(found: dict[str, Any]) -> Iterator[str]:
    """Yields the table of sweeps, in microseconds for one seed and step."""
    names = ["release", "classic", "classic compiled", "eager", "compiled", "jax"]
    heads = ["a: release, loop", "b: loop", "compiled", "c: sweep", "d: compiled", "e: JAX"]
    yield from table("network", "seeds", *heads, "b/a", "compiled/a", "d/a", "d/e")
    for case in found["cases"]:
        times = case["median_us"]
        a, b, b2, _, d, e = (times[name] for name in names)
        shown = [f"{times[name]:.0f}" for name in names]
        yield row(NETWORKS[case["network"]], case["seeds"], *shown, b / a, b2 / a, d / a, d / e)
    yield from (f"{name}: {values}" for name, values in found["outside"].items())


def main() -> None:
    """Prints all tables whose files are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/benchmarks"), help="where the files are")
    folder = parser.parse_args().folder
    for name, shown in {"steps": steps, "small": small, "sweep": sweeps}.items():
        path = folder / f"{name}.json"
        if path.exists():
            print(f"\n## {name}\n", *shown(json.loads(path.read_text())), sep="\n")


if __name__ == "__main__":
    main()
