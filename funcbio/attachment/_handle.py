"""The handle of an attached optimizer: runs the mechanisms around every step, and can remove them again."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from funcbio.anatomy._units import Units
from funcbio.attachment._capture import require_no_capture
from funcbio.attachment._closure import closure_of, evaluated, evaluates_first, is_within_step, with_closure
from funcbio.attachment._cycle import Cycle
from funcbio.attachment._layers import Layers, owner_of, release
from funcbio.attachment._optimizers import moves_nothing
from funcbio.attachment._saving import NAME, check, find, pack, unpack
from funcbio.attachment._scaler import verdict, will_step
from funcbio.attachment._signals import Listening
from funcbio.attachment._trees import trees_of
from funcbio.attachment._turnover import Ages
from funcbio.attachment._unseen import watch
from funcbio.base import BioState, Tree, listed
from funcbio.bio_converter import strip
from funcbio.mechanisms._placed import Mechanism
from funcbio.mechanisms._row import units_of
from funcbio.objects._kept import forget
from funcbio.objects._survey import Overview, bio_modules, plain_layers

NO_UNITS: dict[str, Any] = {"populations": [], "unknown": []}


class Handle:
    """Runs mechanisms around every step of an optimizer; returned by ``funcbio.attach``.

    A copy or a pickle of model, optimizer and handle together is attached, such as
    ``copy.deepcopy((model, optimizer, handle))``. A copy of the optimizer alone has no hooks, as torch leaves them
    out; ``check`` tells.

    Attributes:
        optimizer: The optimizer, or None.
        model: The converted model.
        mechanisms: The mechanisms, in the order in which they act.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> handle = attach(torch.optim.Adam(net.parameters()), net, ["fuzzy_learning_rates"])
        >>> handle.attached
        True
        >>> handle.remove()
        >>> handle.attached
        False
    """

    def __init__(
        self,
        optimizer: Optimizer | None,
        model: nn.Module,
        mechanisms: Sequence[Mechanism],
        *,
        fresh_rates: bool,
        ages: bool,
        newborn: str,
        in_optimizer: bool,
        hooks: bool,
        converted: bool,
    ) -> None:
        self.optimizer, self.model, self.mechanisms = optimizer, model, tuple(mechanisms)
        self._in_optimizer, self._hooks, self._converted, self._alive = in_optimizer, hooks, converted, True
        self._layers = Layers(Overview(model, frozenset(plain_layers(model))), optimizer, self)
        self._ages = Ages(counts=ages, newborn=newborn)
        self._cycle = Cycle(optimizer, self._layers, mechanisms, self._ages, fresh_rates=fresh_rates)
        self._begin()

    def __repr__(self) -> str:
        """Returns the mechanisms with their places and periods, the parameters they treat, and the number of steps."""
        acting = ", ".join(one.in_words for one in self.mechanisms)
        weights = listed(self._layers.names())
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        parts = [acting, weights, steps, "" if self.attached else "removed"]
        return f"Handle({'; '.join(filter(None, parts))})"

    @property
    def units(self) -> Units | None:
        """Returns the table of units that mechanisms were given; None if none needs one."""
        return units_of(mechanism.row for mechanism in self.mechanisms)

    @property
    def attached(self) -> bool:
        """Returns True if the mechanisms act: hooks are in place, or, with ``hooks=False``, it has not been removed."""
        return self._alive and all(hook.id in (hook.hooks_dict_ref() or {}) for hook in self._set)

    @property
    def steps(self) -> int:
        """Returns the number of steps made so far; those that ``GradScaler`` skipped do not count."""
        return self._cycle.steps

    def check(self, optimizer: Optimizer | None = None, model: nn.Module | None = None) -> None:
        """Raises if the mechanisms would not act: to be called after a copy or a reload.

        Args:
            optimizer: The optimizer that is going to make the steps, if you want to be sure that it is this one.
            model: The model that is going to be trained, likewise.

        Raises:
            RuntimeError: If the handle is not attached, or not to those given, or layers have been replaced.
        """
        if not self.attached:
            raise RuntimeError("the handle should be attached; found it removed, or its hooks: attach again")
        for name, given, attached_one in (("optimizer", optimizer, self.optimizer), ("model", model, self.model)):
            if given is not None and given is not attached_one:
                raise RuntimeError(
                    f"{name} should be the one attached; found another, perhaps a copy, which has no hooks: copy "
                    "(model, optimizer, handle) together, or attach again"
                )
        self._layers.look()

    def before_step(self) -> None:
        """Runs the mechanisms before the step, in loops where hooks cannot work.

        It copies the weights whose update is to be scaled. While a gradient has overflowed, before a step that
        ``GradScaler`` skips, this and ``after_step`` do nothing: call ``scaler.unscale_`` first.

        Raises:
            RuntimeError: If hooks call it already, the handle was removed, a CUDA graph is captured, or a mechanism
                cannot run on a layer.
        """
        self._require_explicit("before_step")
        modules = self._layers.overview.look().modules
        self._cycle.begin(will_step(modules, self.mechanisms))

    def after_step(self) -> None:
        """Runs the mechanisms after the step, in loops where hooks cannot work.

        Raises:
            RuntimeError: If hooks call it already, or ``before_step`` was not called.
        """
        self._require_explicit("after_step")
        if self._cycle.open is None:
            raise RuntimeError("after_step should be called once after each before_step; found no step begun")
        self._cycle.end()

    def remove(self, *, keep: bool = False) -> None:
        """Takes away the hooks, and the conversion if ``attach`` made it: the model is a plain one again.

        Changes that the mechanisms made to weights stay, as do those of the conversion under Dale's principle.

        Args:
            keep: Whether what the mechanisms kept, such as the parameters at the beginning, stays on a model that was
                converted before, for another ``attach`` that goes on with it.
        """
        self._cycle.abandon()
        self._take_hooks_off()
        if not self._alive:
            return
        others = [owner for owner in map(owner_of, bio_modules(self.model)) if owner not in (None, self)]
        if self._converted and others:
            others[0]._converted = True  # The last one to go takes it off.
        elif self._converted:
            strip(self.model)
        self._stop_listening()
        forget([] if keep else self._layers.made)
        release(self)
        self._alive = False  # Only now: a call that was interrupted can be made again.

    def forget(self) -> None:
        """Takes off what mechanisms kept on the model; for a handle that was removed with ``keep=True``."""
        forget(self._layers.made)

    def trees(self) -> tuple[Tree, Tree, BioState]:
        """Returns the treated weights, their current gradients and their state, as dictionaries by parameter name.

        These are the tensors in use, not copies. The state's ``replaced`` is of the last rejuvenation, and its ``age``
        holds steps since a weight was replaced if the handle counts them (``ages=True``).

        Returns:
            ``(params, grads, state)``, as the pure features and metrics take them.
        """
        return trees_of(self._parts(), self._ages)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the mechanisms remember: steps, rates, signs, counts, keys, ages.

        Returns:
            Nested dictionaries of tensors and numbers, which load with ``weights_only=True``. As in torch, the tensors
            are those in use.
        """
        saved = pack(self.steps, self._parts(), self._ages.saved)
        return saved if self.units is None else {**saved, "units": self.units.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads a state; the run then goes on as the one that saved it, to the last bit.

        Args:
            state_dict: What ``state_dict`` returned for the same layers.

        Raises:
            ValueError: If it does not fit; nothing has been changed then.
        """
        bios = self._parts()
        self._check(state_dict, bios)
        unpack(state_dict, bios, self._ages.saved)
        self._ages.births.find_young()
        self._cycle.abandon()
        self._cycle.calls, self._cycle.skipped = state_dict["steps"], None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves hooks out of copies and pickles."""
        return {**vars(self), "_set": [], "_watch": None, "_waiting": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attaches a copy to its own copies of model and optimizer."""
        vars(self).update(state)
        self._begin()

    def _parts(self) -> list[Any]:
        """Returns what mechanisms act on; raises RuntimeError if ``remove`` has taken the state off the model."""
        if not self._alive and self._converted:
            raise RuntimeError("the handle should be asked before remove(), which took its state; found it removed")
        return self._layers.parts()

    def _begin(self) -> None:
        """Takes the layers and sets the hooks, all of them or none."""
        self._set: list[RemovableHandle] = []
        self._watch: RemovableHandle | None = None
        self._waiting: Any = None
        if not self._alive:
            return
        try:
            parts = self._layers.parts()
            bios = self._layers.current
            if self.units is not None and self._layers.listening is None:
                self._layers.listening = Listening(self.model, self.units, bios[0].config)
                self._layers.listening.warn_of_nothing([one.synapse.weight for one in parts if one.participates])
            self._ages.begin(self._layers.aging(parts))
            self._watch = watch(bios[0].weight, self._cycle) if bios else None
            if self.optimizer is not None:
                self._put_hooks_on(self.optimizer)
        except BaseException:
            self._take_hooks_off()
            self._stop_listening()
            forget(self._layers.made)
            release(self)
            raise

    def _stop_listening(self) -> None:
        if self._layers.listening is not None:
            self._layers.listening.remove()
            self._layers.listening = None

    def _put_hooks_on(self, optimizer: Optimizer) -> None:
        if self._hooks:
            self._set += [optimizer.register_step_pre_hook(self._before_step)]
            self._set += [optimizer.register_step_post_hook(self._after_step)]
        if self._in_optimizer:
            self._set += [optimizer.register_state_dict_post_hook(self._give)]
            self._set += [optimizer.register_load_state_dict_pre_hook(self._expect)]
            self._set += [optimizer.register_load_state_dict_post_hook(self._take)]

    def _take_hooks_off(self) -> None:
        for hook in [*self._set, *([] if self._watch is None else [self._watch])]:
            hook.remove()

    def _require_explicit(self, name: str) -> None:
        if not self._alive:
            raise RuntimeError(f"{name} should be called on an attached handle; found it removed: attach again")
        if self._hooks:
            raise RuntimeError(f"{name} should be called with hooks=False; found hooks, which call it in every step")
        require_no_capture()

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if is_within_step(optimizer):
            return None
        require_no_capture()
        self._cycle.abandon()
        closure = closure_of(args, kwargs)
        if closure is None:
            self._cycle.begin(not moves_nothing(optimizer) and verdict(optimizer))
            return None
        if evaluates_first(optimizer):
            closure = evaluated(closure)
            self._cycle.begin(verdict(optimizer))
        else:
            closure = self._cycle.watch(closure, verdict(optimizer))
        return with_closure(closure, args, kwargs)

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        if not is_within_step(optimizer):
            self._cycle.end()

    def _give(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
        del optimizer
        state_dict[NAME] = [*state_dict.get(NAME, []), self.state_dict()]

    def _expect(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
        """Finds a saved state and checks it, before the optimizer loads anything."""
        hooks: Any = optimizer._optimizer_state_dict_post_hooks.values()
        riding = [hook.__self__ for hook in hooks if getattr(hook, "__func__", None) is Handle._give]
        bios = self._layers.parts()
        self._waiting = find(state_dict.get(NAME), riding.index(self))
        self._check(self._waiting, bios)

    def _check(self, saved: Any, bios: Sequence[Any]) -> None:
        check(saved, bios, self._ages.saved)
        if self.units is not None and Units.from_state_dict(saved.get("units", NO_UNITS)) != self.units:
            raise ValueError("units of the state_dict should be those of this handle; found another table")

    def _take(self, optimizer: Optimizer) -> None:
        del optimizer
        saved, self._waiting = self._waiting, None
        self.load_state_dict(saved)
