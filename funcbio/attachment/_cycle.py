"""One step after the other: what mechanisms do before the optimizer, around it and after it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from funcbio.attachment._ascent import minimized
from funcbio.attachment._closure import Watched
from funcbio.attachment._layers import Layers
from funcbio.attachment._places import Group, ReadyGroup, groups, look, run, takes_trees
from funcbio.attachment._scaler import unscale
from funcbio.attachment._turnover import Ages, Masks, merge, renew
from funcbio.attachment._update import Old, scale_update
from funcbio.base import listed
from funcbio.mechanisms._placed import PLACES, Mechanism
from funcbio.objects._layer import BioLayer


@dataclass
class Open:
    """Holds a step that has begun.

    Attributes:
        finite: Whether it will be made.
        bios: The layers.
        acting: The mechanisms that act in it.
        ready: Groups of them by place, once the layers have been looked at.
        masks: Which weights were replaced so far.
        old: The weights before the step.
        young: Those of layers with newborn weights.
        closure: The closure that the optimizer evaluates itself.
    """

    finite: bool | Tensor
    bios: list[BioLayer]
    acting: list[Mechanism]
    ready: dict[str, list[ReadyGroup]] = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    old: Old = field(default_factory=Old)
    young: dict[BioLayer, Tensor] = field(default_factory=dict)
    closure: Watched | None = None


class Cycle:
    """Runs mechanisms around the steps of an optimizer, whether hooks or the user's loop call them.

    Args:
        optimizer: The optimizer, or None.
        layers: Its layers.
        mechanisms: In the order in which they act.
        ages: Counts the ages of weights.
        fresh_rates: Whether replaced weights get fresh rates.
    """

    def __init__(
        self,
        optimizer: Optimizer | None,
        layers: Layers,
        mechanisms: Sequence[Mechanism],
        ages: Ages,
        *,
        fresh_rates: bool,
    ) -> None:
        self.optimizer, self.layers, self.mechanisms = optimizer, layers, tuple(mechanisms)
        self.ages, self.fresh_rates = ages, fresh_rates
        self.calls, self.skipped, self.begun = 0, None, 0
        self.open: Open | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves a half-made step out of copies and pickles."""
        return {**vars(self), "open": None}

    @property
    def steps(self) -> int:
        """Returns the number of steps made so far."""
        if self.skipped is not None:
            self.calls, self.skipped = self.calls - int(self.skipped), None
        return self.calls

    def begin(self, finite: bool | Tensor = True) -> None:
        """Runs the mechanisms before the step.

        Args:
            finite: Whether the step will be made.
        """
        step = self._opened(finite)
        self._listen()
        self._before(step)
        step.old = Old([bio for bio in step.bios if bio.has_gradient()] if step.ready["update"] else [])
        step.young = {} if step.finite is False else self.ages.births.before(step.bios)
        self.open = step

    def watch(self, closure: Callable[[], Any], finite: bool | Tensor = True) -> Watched:
        """Begins a step whose closure the optimizer evaluates itself; returns the closure to give it instead."""
        assert self.optimizer is not None
        step = self._opened(finite)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        treated = {id(bio.weight): bio for bio in step.bios if bio.weight.requires_grad}
        # It may turn out that mechanisms on the gradient cannot act: then the whole step is taken back.
        doubtful = any(mechanism.where == "gradient" for mechanism in step.acting)
        step.old = Old([*treated.values()], [p for p in parameters if doubtful and id(p) not in treated])
        step.closure = Watched(closure, parameters, lambda fresh: self._evaluated(step, fresh=fresh))
        self.open = step
        return step.closure

    def end(self) -> None:
        """Runs the mechanisms after the step; on failure or interrupt, weights treated on the update are restored."""
        step = self.open
        if step is None:
            return
        try:
            self.ages.births.correct(self.optimizer, step.young, step.finite)
            if step.closure is not None and step.old.lend_gradients(step.closure.moved):
                step.ready = {}  # More layers take part than were seen to.
            self._after(step)
        except BaseException:
            step.old.restore()
            raise
        finally:
            self.open = None
            step.old.take_back_gradients()

    def abandon(self) -> None:
        """Forgets a step that began and did not end, because something failed or it was left out."""
        self.open = None

    def _listen(self) -> None:
        """Takes what units have sent since the last step."""
        if self.layers.listening is not None:
            self.layers.listening.deliver()

    def _opened(self, finite: bool | Tensor) -> Open:
        self.abandon()
        self.begun += 1
        bios = self.layers.parts()
        self.ages.begin(self.layers.aging(bios))
        finite = self._settled(finite, bios)
        if finite is False:
            return Open(finite, bios, [])
        number = self.steps if any(mechanism.every > 1 for mechanism in self.mechanisms) else 0
        acting = [mechanism for mechanism in self.mechanisms if mechanism.every == 1 or mechanism.acts(number)]
        return Open(finite, bios, acting)

    def _before(self, step: Open) -> None:
        """Looks at every layer, then runs the mechanisms on the gradient."""
        step.ready = {place: self._prepare(step, place) for place in PLACES}
        reading = any(mechanism.row.on_trees and mechanism.row.needs_grad for mechanism in step.acting)
        if self.optimizer is not None and (step.ready["gradient"] or reading):
            unscale(self.optimizer)
        if step.ready["gradient"]:
            own = any(mechanism.is_own for ready in step.ready["gradient"] for mechanism in ready.group)
            before = Old(others=[tensor for bio in step.bios for tensor in bio.tensors()] if own else ())
            try:
                self._run(step, "gradient")
            except BaseException:  # A function of the user's own has failed: the step can be made again.
                before.restore()
                raise

    def _evaluated(self, step: Open, *, fresh: bool) -> None:
        """Goes on when the optimizer has computed gradients; ``fresh`` if it is the first time and no weight has moved.

        Raises:
            RuntimeError: If mechanisms are to act on gradients, and the optimizer has others in between.
        """
        if fresh:
            self._before(step)
            step.young = self.ages.births.before(step.bios)
            return
        if not step.ready:
            step.ready = {"update": self._prepare(step, "update")}
        self._require_gradient(step, "evaluates it elsewhere")

    def _require_gradient(self, step: Open, but: str) -> None:
        names = [mechanism.name for mechanism in step.acting if mechanism.where == "gradient"]
        if names:
            step.old.restore()
            raise RuntimeError(
                f"{type(self.optimizer).__name__} should evaluate its closure once, before it moves weights, for "
                f"{listed(names)} to act on the gradient; found that it {but}: attach to its base optimizer, or "
                "place them on the update"
            )

    def _after(self, step: Open) -> None:
        if step.finite is False:
            return
        if step.closure is not None and step.closure.calls == 0:
            self._require_gradient(step, "does not evaluate it")
        if step.closure is not None:
            self._listen()  # What the optimizer evaluated within the step is part of it.
        for place in ("update", "after"):
            if place not in step.ready:
                step.ready[place] = self._prepare(step, place)
        if step.ready["update"]:
            self._renew(step, scale_update(step.ready["update"], step.old, step.finite))
        self._run(step, "after")
        step.old.forget()
        self.ages.move_on(step.masks, step.finite)
        self.calls += 1
        if isinstance(step.finite, Tensor):
            missed = (~step.finite).long()
            self.skipped = missed if self.skipped is None else self.skipped + missed

    def _settled(self, finite: bool | Tensor, bios: Sequence[BioLayer]) -> bool | Tensor:
        """Returns ``finite`` as a bool, unless it can be used as a tensor on its device."""
        if isinstance(finite, bool):
            return finite
        everywhere = all(bio.weight.device == finite.device for bio in bios)
        needs_answer = any(takes_trees(mechanism) or mechanism.every > 1 for mechanism in self.mechanisms)
        return finite if everywhere and not needs_answer else bool(finite)

    def _prepare(self, step: Open, place: str) -> list[ReadyGroup]:
        acting = [mechanism for mechanism in step.acting if mechanism.where == place]
        return [self._looked(step, group) for group in groups(acting)] if acting else []

    def _looked(self, step: Open, group: Group) -> ReadyGroup:
        """Returns the result of looking at the layers, or of an earlier look if they are as they were.

        Where the optimizer evaluates a closure, gradients have changed since the step began: then it looks each time.
        """
        bios, mark = step.bios, None if step.closure is not None else self.layers.mark
        plans, key = self.layers.overview.plans, (*map(id, group), *map(id, step.bios))
        return ReadyGroup(group, plans.get(key, mark, lambda: look(group, bios).prepared))

    def _run(self, step: Open, place: str) -> None:
        fresh = False
        for ready in step.ready[place]:
            # What ran alone may have put other tensors in the place of those that were looked at.
            with minimized(self.optimizer, step.bios):
                masks = run(look(ready.group, step.bios) if fresh else ready, step.finite)
            self._renew(step, masks)
            if self.layers.listening is not None and ready.group[0].row.by_unit:
                self.layers.listening.reset_statistics()
            fresh = fresh or bool(ready.prepared.alone)

    def _renew(self, step: Open, masks: Masks) -> None:
        if not masks:
            return
        renew(step.bios, masks, self.optimizer, self.ages.births, fresh_rates=self.fresh_rates)
        merge(step.masks, masks)
