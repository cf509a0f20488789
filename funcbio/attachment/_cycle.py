"""One step after the other: what mechanisms do before the optimizer, around it and after it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from funcbio.attachment._layers import Layers
from funcbio.attachment._places import Old, Ready, groups, prepare, run
from funcbio.attachment._scaler import unscale
from funcbio.attachment._turnover import Ages, Masks, merge, renew
from funcbio.attachment._update import Narrow, copies, fits_in_one, scale_update, step_in_buckets
from funcbio.bio_module import BioModule
from funcbio.mechanism import PLACES, Mechanism


class Open(NamedTuple):
    """A step that has begun."""

    finite: bool | Tensor
    bios: list[BioModule]
    ready: Mapping[str, list[Ready]]
    masks: Masks
    old: Old
    narrow: Narrow | None


class Cycle:
    """Runs mechanisms around the steps of an optimizer, whoever makes them.

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
        self.calls, self.skipped = 0, None
        self.open: Open | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves a half-made step out of copies and pickles."""
        return {**vars(self), "open": None}

    @property
    def steps(self) -> int:
        """Steps made so far."""
        if self.skipped is not None:
            self.calls, self.skipped = self.calls - int(self.skipped), None
        return self.calls

    def begin(self, finite: bool | Tensor = True, *, in_parts: bool = False) -> None:
        """Runs what comes before the step.

        Args:
            finite: Whether the step will be made.
            in_parts: Whether to make the optimizer's step here, in parts, if its weights are too many to copy.
        """
        self.abandon()
        bios = self.layers.look()
        self.ages.begin(bios)
        finite = self._settled(finite, bios)
        acting = [mechanism for mechanism in self.mechanisms if finite is not False and mechanism.acts(self._step())]
        ready = {place: self._prepare(acting, place, bios) for place in PLACES}
        masks: Masks = {}
        if ready["gradient"]:
            if self.optimizer is not None:
                unscale(self.optimizer)
            self._run(ready["gradient"], bios, masks, finite)
        stepped = [bio for bio in bios if bio.has_gradient()] if ready["update"] else []
        old: Old = {}
        narrow = None
        if in_parts and self.optimizer is not None and not fits_in_one(stepped):
            narrow, found = step_in_buckets(self.optimizer, stepped, ready["update"], finite)
            self._renew(bios, masks, found)
        else:
            old = copies(stepped)
        self.open = Open(finite, bios, ready, masks, old, narrow)

    def end(self) -> None:
        """Runs what comes after the step."""
        step, self.open = self.open, None
        if step is None:
            return
        if step.narrow is not None:
            step.narrow.restore()
        if step.finite is False:
            return
        if step.old:
            self._renew(step.bios, step.masks, scale_update(step.ready["update"], step.old, step.finite))
        self._run(step.ready["after"], step.bios, step.masks, step.finite)
        self.ages.move_on(step.masks, step.finite)
        self.calls += 1
        if isinstance(step.finite, Tensor):
            missed = (~step.finite).long()
            self.skipped = missed if self.skipped is None else self.skipped + missed

    def abandon(self) -> None:
        """Forgets a step that began and was never ended, because something failed or it was left out."""
        if self.open is not None and self.open.narrow is not None:
            self.open.narrow.restore()
        self.open = None

    def _step(self) -> int:
        """Number of the step for ``acts``; nobody needs to ask a device for it if everything acts in every step."""
        return self.steps if any(mechanism.every > 1 for mechanism in self.mechanisms) else 0

    def _settled(self, finite: bool | Tensor, bios: Sequence[BioModule]) -> bool | Tensor:
        """The verdict as a bool, unless it can be used where it is."""
        if isinstance(finite, bool):
            return finite
        everywhere = all(bio.weight.device == finite.device for bio in bios)
        own = any(mechanism.is_own or mechanism.every > 1 for mechanism in self.mechanisms)
        return finite if everywhere and not own else bool(finite)

    def _prepare(self, acting: Sequence[Mechanism], place: str, bios: Sequence[BioModule]) -> list[Ready]:
        return [prepare(group, bios) for group in groups([one for one in acting if one.where == place])]

    def _run(self, ready: Sequence[Ready], bios: Sequence[BioModule], masks: Masks, finite: bool | Tensor) -> None:
        fresh = False
        for found in ready:
            # What ran alone may have put other tensors in the place of those that were looked at.
            self._renew(bios, masks, run(prepare(found.group, bios) if fresh else found, finite))
            fresh = fresh or bool(found.alone)

    def _renew(self, bios: Sequence[BioModule], masks: Masks, found: Masks) -> None:
        renew(bios, found, self.optimizer, fresh_rates=self.fresh_rates)
        merge(masks, found)
