"""Transformers: mechanisms act in every step of the optimizer of a ``Trainer``."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from funcbio._checks import require
from funcbio._optional import import_extra
from funcbio.anatomy._units import Units
from funcbio.attachment._handle import Handle
from funcbio.base import Feature
from funcbio.bio_config import BioConfig
from funcbio.bio_converter import BioConverter
from funcbio.files._aside import write_aside
from funcbio.files._tensors import read_tensors, write_tensors
from funcbio.integrations._session import Session
from funcbio.mechanisms._placed import Mechanism
from funcbio.monitor import flatten
from funcbio.objects._survey import bio_modules

TrainerCallback: Any = import_extra("transformers", "transformers").TrainerCallback
FILE = "funcbio.pt"
"""Name of the file that holds the state, in the folder of every checkpoint."""


class BioCallback(TrainerCallback):
    """Attaches mechanisms to the optimizer, for the time of ``trainer.train()``.

    Give it to the trainer when that is made: a plain model is then converted before a checkpoint is loaded and before
    it is wrapped. It stays converted until ``remove``. Every checkpoint gets a file with the state, and a run that
    resumes goes on to the last bit. Gradients are accumulated, unscaled and clipped before the mechanisms see them.

    Args:
        mechanisms: In the order in which they act; see ``funcbio.attach``.
        config: The configuration of the conversion, for a plain model; None is the default one.
        converter: Makes the conversion of a plain model, instead of ``config``.
        fresh_rates: Whether replaced weights also get a fresh draw of their rate factor.
        ages: Whether to count the steps since every weight was replaced.
        newborn: How the optimizer goes on with replaced weights; see ``funcbio.attach``.
        units: The table of the model's units, from ``funcbio.units``, for mechanisms on units; with the names of the
            model that is trained.
        log_every: Measures ``funcbio.metrics`` in every so many steps; None measures nothing.
        log: Takes the metrics, a flat dictionary of numbers under "bio/". None puts them in the ``log_history`` of
            the trainer's state. A callback does not know its trainer: for its loggers, set ``callback.log =
            trainer.log`` when you have both.
        resume_from: The folder of the checkpoint that training resumes from, if it has moved out of ``output_dir``.

    Raises:
        ImportError: If Transformers is missing, when this module is imported.
        ValueError: If an argument is not what it should be.
        AttributeError: If Dale's principle is to be enforced and not configured.
        RuntimeError: If ``scale_grad`` is to act and no activity is recorded.

    Example:
        >>> from funcbio.integrations.transformers import BioCallback
        >>> callback = BioCallback(
        ...     ["crystallize", "fuzzy_learning_rates"], config=BioConfig(), log_every=50
        ... )
        >>> callback.handles  # Empty until ``Trainer(..., callbacks=[callback]).train()``.
        []
    """

    def __init__(
        self,
        mechanisms: Sequence[str | Feature | Mechanism],
        *,
        config: BioConfig | None = None,
        converter: BioConverter | None = None,
        fresh_rates: bool = False,
        ages: bool = False,
        newborn: str = "zero",
        units: Units | None = None,
        log_every: int | None = None,
        log: Callable[[dict[str, float]], object] | None = None,
        resume_from: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        folder = resume_from is None or isinstance(resume_from, str | os.PathLike)
        require("resume_from", resume_from, "a folder, or None", folder)
        require("log", log, "a function of a dictionary, or None", log is None or callable(log))
        self.log, self.resume_from = log, resume_from
        self._measured: Mapping[str, Any] | None = None
        self._session = Session(
            mechanisms,
            config=config,
            converter=converter,
            fresh_rates=fresh_rates,
            ages=ages,
            newborn=newborn,
            units=units,
            log_every=log_every,
        )

    def __repr__(self) -> str:
        """Returns the mechanisms, with their places and periods."""
        return f"BioCallback({', '.join(one.in_words for one in self._session.mechanisms)})"

    @property
    def handles(self) -> list[Handle]:
        """Returns the handle in a list; that of the last training once it is over."""
        return [*self._session.handles]

    def remove(self) -> None:
        """Undoes the conversion that this callback made: the model is a plain one again, its weights stay."""
        self._session.remove()

    def on_init_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:
        """Converts the model."""
        del state, control
        require("fsdp", args.fsdp, "off, it is not supported", not args.fsdp)
        require("deepspeed", args.deepspeed, "off, it is not supported", not args.deepspeed)
        self._session.convert(model)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Attaches the optimizer, and restores the state of the checkpoint that training resumes from."""
        del control
        saved = None if state.global_step == 0 else self._saved(args, state, model)
        self._session.waiting = saved
        self._session.attach(model, [optimizer], state.global_step)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measures every ``log_every`` steps: later the gradients are gone."""
        del args, control
        if self._session.due(state.global_step + 1):
            self._measured = self._session.measure()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Logs the metrics: earlier the step has not been counted."""
        del args, control
        if self._measured is None:
            return
        numbers, self._measured = flatten(self._measured), None
        if self.log is not None:
            self.log(numbers)
        else:
            state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Writes the state into the folder of the checkpoint; the trials of a search get none."""
        del control
        if args.should_save and not state.is_hyper_param_search:
            write_aside(_folder(args, state) / FILE, partial(write_tensors, self._session.state_dict()))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Removes the hooks; the model stays converted."""
        del args, state, control
        self._session.release()

    def _saved(self, args: Any, state: Any, model: Any) -> Any:
        """Reads the state in the folder of the checkpoint.

        Raises:
            FileNotFoundError: If there is none.
            FileError: If it is damaged.
            ValueError: If the model was loaded from another checkpoint.
        """
        path = (_folder(args, state) if self.resume_from is None else Path(self.resume_from)) / FILE
        if not path.exists():
            raise FileNotFoundError(
                f"resume_from should be the folder of a checkpoint with the state of BioCallback; found no {path}: "
                "name the folder, or train without resuming to begin anew"
            )
        saved = read_tensors(path, "a whole file of BioCallback")
        if not _belongs(saved, model):
            raise ValueError(
                f"model should have been loaded from the checkpoint of {path}; found other rates in it: name the "
                "checkpoint's folder by resume_from, and give the callback, or a converted model, to the Trainer itself"
            )
        return saved


def _folder(args: Any, state: Any) -> Path:
    """Returns the folder of this step's checkpoint, as the trainer names it: it does not tell its callbacks."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _belongs(saved: Any, model: Any) -> bool:
    """Returns True if a state belongs to the model: its buffers hold the same rates, signs and keys."""
    layers = {name: layer for handle in saved["handles"] for name, layer in handle["layers"].items()}
    buffers = {bio.synapse.weight: bio._buffers for bio in bio_modules(model)}
    # For parameters that hold no synapses mechanisms may keep something, but no rates.
    layers = {name: layer for name, layer in layers.items() if "fuzzy_learning_rate_parameters" in layer}
    return layers.keys() <= buffers.keys() and all(
        value is not None and name in layer and torch.equal(value.cpu(), layer[name])
        for weight, layer in layers.items()
        for name, value in buffers[weight].items()
    )
