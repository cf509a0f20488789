"""The session that the callbacks share: it checks arguments, converts a model, attaches optimizers, keeps state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from funcbio._checks import is_count, require
from funcbio.anatomy._units import Units
from funcbio.attachment._arguments import (
    check_config,
    check_conversion,
    check_flags,
    config_of,
    converter_of,
    mechanisms_of,
)
from funcbio.attachment._attach import attach, converted_by_unit
from funcbio.attachment._handle import Handle
from funcbio.attachment._newborn import WAYS
from funcbio.attachment._signals import with_units
from funcbio.base import Feature
from funcbio.bio_config import BioConfig
from funcbio.bio_converter import BioConverter, strip
from funcbio.mechanisms._placed import Mechanism
from funcbio.monitor import metrics
from funcbio.objects._kept import forget, keep, trained_parts
from funcbio.objects._names import silently
from funcbio.objects._survey import bio_modules, once, plain_layers


class Session:
    """Converts a model and attaches its optimizers while a trainer trains.

    Args:
        mechanisms: As ``attach`` takes them.
        config: As ``attach`` takes it.
        converter: As ``attach`` takes it.
        fresh_rates: As ``attach`` takes it.
        ages: As ``attach`` takes it.
        newborn: As ``attach`` takes it.
        units: As ``attach`` takes it.
        log_every: Steps between two measurements; None measures nothing.

    Raises:
        ValueError: If an argument is not what it should be.
        AttributeError: If Dale's principle is to be enforced and not configured.
        RuntimeError: If ``scale_grad`` is to act and no activity is recorded.
    """

    def __init__(
        self,
        mechanisms: Sequence[str | Feature | Mechanism],
        *,
        config: BioConfig | None,
        converter: BioConverter | None,
        fresh_rates: bool,
        ages: bool,
        newborn: str = "zero",
        units: Units | None = None,
        log_every: int | None,
    ) -> None:
        config = config_of(mechanisms, config, converter)
        self.mechanisms = mechanisms_of(mechanisms)
        check_conversion(config, converter)
        check_flags(fresh_rates=fresh_rates, ages=ages)
        require("log_every", log_every, "an integer >= 1, or None", log_every is None or is_count(log_every))
        model_config = config if converter is None else converter.config
        if model_config is not None:
            check_config(model_config, self.mechanisms)
        self.config, self.converter, self.log_every = config, converter, log_every
        require("newborn", newborn, f"one of {', '.join(WAYS)}", newborn in WAYS)
        require("units", units, "a table made by funcbio.units, or None", units is None or isinstance(units, Units))
        self.units = units
        self.options = {"fresh_rates": fresh_rates, "ages": ages, "newborn": newborn}
        self.handles: list[Handle] = []
        self._made: list[tuple[nn.Module, str]] = []
        self.waiting: Any = None
        self._converted: nn.Module | None = None
        self._plain: list[str] = []
        self._logged = 0

    def convert(self, model: nn.Module) -> None:
        """Converts a model unless it is converted, by this session or, without a configuration, by others.

        Raises:
            ValueError: If there are no synapses, or a configuration is given for a model that others converted.
        """
        self.mechanisms = with_units(self.mechanisms, self.units, model)
        converted = bool(bio_modules(model))
        if converted and self._converted is model:
            return
        maker = converter_of(converted, self.config, self.converter)
        if maker is not None:
            check_config(maker.config, self.mechanisms)
            with silently():
                converted_by_unit(maker, model, self.units)
            self._converted, self._plain = model, plain_layers(model)
        self._keep(model)

    def _keep(self, model: nn.Module) -> None:
        """Makes what the mechanisms keep before a checkpoint is loaded, which holds it."""
        layers = once(bio_modules(model))
        rows = [mechanism.row for mechanism in self.mechanisms]
        parts = (
            trained_parts(model, layers)
            if any(row.on_trees for row in rows)
            else [bio for bio in layers if bio.participates]
        )
        self._made += keep(parts, rows, layers[0].config) if layers else []

    def attach(self, model: nn.Module, optimizers: Iterable[Any], step: int) -> None:
        """Attaches every optimizer that holds synapses of a model, and restores the waiting state.

        Args:
            model: The model.
            optimizers: Its optimizers, perhaps in wrappers of the trainer.
            step: The trainer's count of steps.

        Raises:
            ValueError: If no optimizer can be attached, or the state does not fit; the model is then left as it came.
        """
        self.release()
        self.convert(model)
        self.handles, self._logged = [], step // (self.log_every or 1)
        state, self.waiting = self.waiting, None
        try:
            self._check_layers(model)
            for optimizer in _holding(model, [bare(optimizer) for optimizer in optimizers]):
                handle = attach(optimizer, model, self.mechanisms, **self.options)  # pyright: ignore[reportArgumentType]
                self.handles.append(handle)
            if state is not None:
                self._take(state)
        except BaseException:
            self.remove()
            raise

    def release(self) -> None:
        """Removes the hooks; the model stays converted, and the state can still be read."""
        for handle in self.handles:
            handle.remove(keep=True)

    def remove(self) -> None:
        """Removes the hooks, and undoes the conversion if this session made it."""
        self.release()
        for handle in self.handles:
            handle.forget()
        forget(self._made)
        model, self._made, self.handles, self._converted = self._converted, [], [], None
        if model is not None:
            strip(model)

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all handles; empty before the first attachment."""
        if self.waiting is not None and not self.attached:
            return self.waiting
        return {"handles": [handle.state_dict() for handle in self.handles]} if self.handles else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores a state, now or as soon as optimizers are attached."""
        if self.attached:
            self._take(state_dict)
        else:
            self.waiting = dict(state_dict)

    @property
    def attached(self) -> bool:
        """Returns True if the mechanisms act."""
        return bool(self.handles) and all(handle.attached for handle in self.handles)

    def due(self, step: int) -> bool:
        """Returns True if it is time to measure after ``step`` steps: once in every ``log_every``."""
        if self.log_every is None or not self.attached or step // self.log_every == self._logged:
            return False
        self._logged = step // self.log_every
        return True

    def measure(self) -> dict[str, Any]:
        """Returns the metrics of the attached optimizer; of several, by their number."""
        measured = {str(number): metrics(*handle.trees()) for number, handle in enumerate(self.handles)}
        return {"bio": measured["0"] if len(measured) == 1 else measured}

    def _take(self, state_dict: Mapping[str, Any]) -> None:
        states = state_dict.get("handles")
        fits = isinstance(states, list) and len(states) == len(self.handles)
        should = f"one saved by this callback with {len(self.handles)} optimizers"
        require("state_dict", state_dict, should, fits)
        for handle, state in zip(self.handles, state_dict["handles"], strict=True):
            handle.load_state_dict(state)

    def _check_layers(self, model: nn.Module) -> None:
        """Raises ValueError if layers were made after the conversion."""
        late = sorted(set(plain_layers(model)) - set(self._plain)) if self._converted is model else []
        should = "whole before it is converted: convert it yourself where its last layers are made"
        require("model", late, should, not late)


def bare(optimizer: Any) -> Any:
    """Returns the optimizer of torch within the wrappers of a trainer."""
    while "_optimizer_step_pre_hooks" not in vars(optimizer) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _holding(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """Returns the optimizers that hold synapses of a model; all if none does, so that ``attach`` raises its error."""
    weights = {id(bio.weight) for bio in bio_modules(model)}
    trained = [
        {id(parameter) for group in optimizer.param_groups for parameter in group["params"]} for optimizer in optimizers
    ]
    holding = [optimizer for optimizer, ids in zip(optimizers, trained, strict=True) if ids & weights]
    require("optimizer", None, "there when training begins", bool(optimizers))
    return holding or [*optimizers]
