"""Results in which nothing differs, or nothing is finite, are compared and drawn like all others."""

import io
import math

import pytest
from matplotlib.figure import Figure

from funcbio.sweeps._result import SweepResult


def of(value, methods=("a", "b"), rates=(0.1, 0.3), seeds=range(4), steps=(1, 2)):
    rows = [(s, m, lr, step, value) for m in methods for lr in rates for s in seeds for step in steps]
    names = ("seed", "mechanisms", "lr", "step", "loss")
    member = [number // len(steps) for number in range(len(rows))]
    table = {"member": member} | dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return SweepResult(table, ["mechanisms", "lr"], {}, {})


RESULTS = {
    "equal": of(0.3),
    "zeros": of(0.0),
    "minus": of(-0.3),
    "tiny": of(1e-300),
    "large": of(1e300),
    "not a number": of(math.nan),
    "infinite": of(math.inf),
    "one method": of(0.3, methods=("a",)),
    "one of each": of(0.3, ("a",), (0.1,), range(1), (1,)),
    "one seed": of(0.3, seeds=range(1)),
}


def written(figure):
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="svg")


@pytest.mark.parametrize("name", RESULTS)
def test_they_are_compared(name):
    result = RESULTS[name]
    comparison = result.compare("loss", by="mechanisms", baseline="a")
    finite = math.isfinite(result.table["loss"][0])
    assert comparison.difference.eq(0.0).all() if finite else comparison.difference.isna().all()
    assert comparison.p_value[comparison.pairs > 0].eq(1.0).all()
    assert len(comparison) == (0 if name in ("one method", "one of each") else 2)
    for frame in (comparison, result.summary("loss")):
        assert repr(frame)
        assert frame._repr_html_()


@pytest.mark.parametrize("name", RESULTS)
def test_they_are_drawn(name):
    result = RESULTS[name]
    for figure in (
        result.curves("loss"),
        result.curves("loss", by="mechanisms"),
        result.heatmap("loss", x="lr", y="mechanisms"),
    ):
        written(figure)


@pytest.mark.parametrize("name", [name for name in RESULTS if "one" not in name])
def test_the_first_of_values_that_are_as_good_is_chosen(name):
    best = RESULTS[name].best("loss", over="lr")
    assert best.chosen["lr"] == [0.1, 0.1]
    assert best.summary("loss")["members"].tolist() == [2, 2]
