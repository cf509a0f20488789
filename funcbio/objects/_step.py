"""The combined call: several methods of a converted model as one, in as few passes over memory as they allow."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from funcbio._checks import brief, perhaps
from funcbio.base import listed
from funcbio.engine._layers import Layer, Step
from funcbio.mechanisms import METHODS, Row
from funcbio.objects._finite import finite_gradients, peak
from funcbio.objects._method import ModelMethod, Plan
from funcbio.objects._ready import Ready, finished
from funcbio.objects._survey import Overview, Survey

STEPS = ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates")
"""The usual chain: crystallization first, because behind the others it would see gradients that they made smaller."""
Planned = list[tuple[ModelMethod, Plan]]


def check_steps(names: Sequence[str]) -> tuple[str, ...]:
    """Raises ValueError if a name is not that of a method that a combined call can run."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"steps should be a sequence of names of methods; found {brief(names)}")
    for name in names:
        if name not in METHODS:
            raise ValueError(f"steps should name methods of funcbio{perhaps(name, METHODS)}; found {name!r}")
    return tuple(names)


class BioStep:
    """Runs several methods one after the other; the result is that of calling them, bit for bit unless compiled.

    Args:
        overview: The overview of the converted model.
        steps: Names of the methods to run if the call names none.
    """

    def __init__(self, overview: Overview, steps: tuple[str, ...]) -> None:
        self.overview, self.steps = overview, steps
        self.methods = [ModelMethod(overview, name) for name in steps]

    def __call__(self, *steps: str) -> dict[str, Tensor] | None:
        """Runs the named methods, or those the converter was given.

        Args:
            *steps: Names of methods, in the order in which they act.

        Returns:
            Which weights were replaced, by name, if one of the methods replaces weights.

        Raises:
            ValueError: If a name is unknown.
            RuntimeError: If a method cannot run as it is called, as the first such method would; nothing has changed.
            AttributeError: If the configuration does not allow a method; nothing has changed.
        """
        names = check_steps(steps) if steps else self.steps
        methods = [ModelMethod(self.overview, name) for name in names] if names != self.steps else self.methods
        if torch.compiler.is_compiling():
            return _one_by_one(methods)
        survey = self.overview.look()
        call = self.overview.plans.get(("bio_step", *names), survey.mark, lambda: Combined(methods, survey))
        finite = not call.looking or finite_gradients(survey.modules)
        stays_finite = finite is True and _stays_finite(call.planned[: max(call.looking, default=0)])
        if not call.is_ready or not (stays_finite or isinstance(finite, Tensor)):
            return _one_by_one(methods)  # Each looks for itself at what the one before it has done.
        if stays_finite:
            return _last(_run(segment, ready, True) for segment, ready in call.merged)
        parts = segments(call.planned, stays_finite=False)
        return _last(_run(part, merged(part), part[0][0].verdict(survey, part[0][1])) for part in parts)

    def __repr__(self) -> str:
        """Returns the methods that it runs, and the kind of model that it acts on."""
        return f"<bio_step({listed(map(repr, self.steps))}) of {type(self.overview.model).__name__}>"


def _one_by_one(methods: Sequence[ModelMethod]) -> dict[str, Tensor] | None:
    return _last(method() for method in methods)


def _last(results: Iterable[Any]) -> Any:
    """Runs all, and returns the last of their results that is not None."""
    values = [result for result in results if result is not None]
    return values[-1] if values else None


class Combined:
    """Holds methods that have looked at the layers, and what runs them in as few passes as they allow.

    Args:
        methods: The methods, in order.
        survey: The parts of the model.
    """

    def __init__(self, methods: Sequence[ModelMethod], survey: Survey) -> None:
        self.planned = [(method, method.plan(survey)) for method in methods]
        self.looking = [at for at, (_, plan) in enumerate(self.planned) if not _row(plan).ignores_overflow]
        self.is_ready = all(plan.prepared.is_ready for _, plan in self.planned)
        self.merged = [(part, merged(part)) for part in segments(self.planned)] if self.is_ready else []


def merged(segment: Planned) -> Ready:
    """Returns the layers of some methods, each with the steps of all of them."""
    layers: dict[Any, tuple[Layer, list[Step]]] = {}
    for _, plan in segment:
        for bio, layer, steps in plan.prepared.ready.entries:
            first, before = layers.get(bio, (layer, []))
            layers[bio] = first._replace(operands={**first.operands, **layer.operands}), [*before, *steps]
    return Ready([(bio, layer, steps) for bio, (layer, steps) in layers.items()])


def _run(segment: Planned, ready: Ready, finite: bool | Tensor) -> dict[str, Tensor] | None:
    """Runs methods in as few passes as they allow; returns masks of replaced weights if one of them replaces any."""
    flag = None if isinstance(finite, bool) else finite
    masks, result = ready.run(flag), None
    for _, plan in segment:
        results = finished(plan.prepared.ready, plan.row, masks, flag)
        result = results if _row(plan).replaces else result
    return result


def segments(planned: Planned, *, stays_finite: bool = True) -> list[Planned]:
    """Cuts a sequence of methods where one has to see the results of those before it.

    Keys move on after a method that draws. Unless gradients are sure to stay finite, a method that looks at them comes
    after all that change them; and those that do not look, or look for weights too, stand alone.
    """
    cut: list[Planned] = []
    for method, plan in planned:
        last = cut[-1] if cut else []
        apart = not last or (_row(plan).draws and any(_row(other).draws for _, other in last))
        if last and not stays_finite:
            rows = _row(plan), _row(last[0][1])
            alone = any(row.ignores_overflow or row.replaces for row in rows)
            apart = apart or alone or any(_writes_gradients(other) for _, other in last)
        if apart:
            cut.append([])
        cut[-1].append((method, plan))
    return cut


def _row(plan: Plan) -> Row:
    return cast(Row, plan.row)  # The names have been checked: all are those of rows.


def _writes_gradients(plan: Plan) -> bool:
    return any("grad" in step.kernel.writes for _, _, steps in plan.prepared.ready.entries for step in steps)


def _stays_finite(planned: Planned) -> bool:
    """Returns True if finite gradients stay finite under these methods: no product of their factors can overflow."""
    if not any(_writes_gradients(plan) for _, plan in planned):
        return True
    bounds: dict[Any, float] = {}
    rates: dict[Any, float] = {}
    for _, plan in planned:
        for bio, layer, steps in plan.prepared.ready.entries:
            for kernel, hyper in [(step.kernel, step.hyper) for step in steps]:
                if "rate" in kernel.writes:
                    rates[bio] = max(rates.get(bio, 0.0), hyper.get("maximum", 0.0), hyper.get("floor", 0.0))
                elif kernel.growth is not None:
                    grad = bio.weight.grad
                    factor = max(1.0, rates.get(bio, 0.0), kernel.growth(layer.operands, hyper))
                    bounds[bio] = bounds.get(bio, peak(grad) / torch.finfo(grad.dtype).max) * factor
    return all(bound < 0.99 for bound in bounds.values())
