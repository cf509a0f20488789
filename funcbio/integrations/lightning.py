"""Lightning: mechanisms act in every step of the optimizers of a ``LightningModule``."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from funcbio._checks import require
from funcbio._optional import import_extra
from funcbio.anatomy._choice import LAYERS
from funcbio.anatomy._units import Units
from funcbio.attachment._handle import Handle
from funcbio.base import Feature
from funcbio.bio_config import BioConfig
from funcbio.bio_converter import BioConverter
from funcbio.integrations._copies import fresh_averages, renew
from funcbio.integrations._session import Session
from funcbio.mechanisms._placed import Mechanism
from funcbio.monitor import log_lightning
from funcbio.objects._survey import bio_modules

ALONE = find_spec("lightning") is None and find_spec("pytorch_lightning") is not None
"""True if Lightning is installed under its older name only."""
Callback: Any = import_extra("pytorch_lightning" if ALONE else "lightning.pytorch", "lightning").Callback
SHARDING = {"FSDPStrategy", "DeepSpeedStrategy", "XLAFSDPStrategy"}
"""Names of strategies that replace weights by flat pieces."""


class BioCallback(Callback):
    """Attaches mechanisms to every optimizer that holds synapses, for the time of ``trainer.fit``.

    A plain model is converted in ``setup``, before a checkpoint is loaded and before the strategy wraps it, and stays
    converted until ``remove``. The state is in the checkpoint, and a run that resumes goes on to the last bit.
    Gradients are accumulated, unscaled and clipped before the mechanisms see them. List it before callbacks that copy
    the model; only averages such as ``EMAWeightAveraging`` may come first, which then copy the converted model.

    Args:
        mechanisms: In the order in which they act; see ``funcbio.attach``.
        config: The configuration of the conversion, for a plain model; None is the default one.
        converter: Makes the conversion of a plain model, instead of ``config``.
        fresh_rates: Whether replaced weights also get a fresh draw of their rate factor.
        ages: Whether to count the steps since every weight was replaced.
        newborn: How the optimizer goes on with replaced weights; see ``funcbio.attach``.
        units: The table of the model's units, from ``funcbio.units``, for mechanisms on units; with the names of the
            model that is trained.
        log_every: Logs ``funcbio.metrics`` in every so many steps, through Lightning, under "bio/"; None logs nothing.
            Lightning's loggers write in every ``log_every_n_steps`` of the trainer: let the two be equal.

    Raises:
        ImportError: If Lightning is missing, when this module is imported.
        ValueError: If an argument is not what it should be.
        AttributeError: If Dale's principle is to be enforced and not configured.
        RuntimeError: If ``scale_grad`` is to act and no activity is recorded.

    Example:
        >>> from funcbio.integrations.lightning import BioCallback
        >>> callback = BioCallback(
        ...     ["crystallize", "fuzzy_learning_rates"], config=BioConfig(), log_every=50
        ... )
        >>> callback.handles  # Empty until ``Trainer(callbacks=[callback]).fit(module)``.
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
    ) -> None:
        super().__init__()
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
        """Returns the handles of all optimizers that hold synapses; those of the last fit once it is over."""
        return [*self._session.handles]

    def remove(self) -> None:
        """Undoes the conversion that this callback made: the model is a plain one again, its weights stay."""
        self._session.remove()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Converts the model, if its layers are there already."""
        del stage
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        require("strategy", trainer.strategy, "one that leaves weights in their shapes", not kinds & SHARDING)
        self._session.waiting = None  # A state that an earlier run did not use.
        converted = bool(bio_modules(pl_module))
        if converted or any(isinstance(module, LAYERS) for module in pl_module.modules()):
            averages = [] if converted else fresh_averages(trainer.callbacks, self, pl_module, Callback)
            self._session.convert(pl_module)
            renew(averages, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attaches the optimizers, which have been made and restored."""
        self._session.attach(pl_module, trainer.optimizers, trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Logs every ``log_every`` steps."""
        if self._session.due(trainer.global_step):
            log_lightning(pl_module, self._session.measure(), on_step=True, on_epoch=False)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Removes the hooks."""
        del trainer, pl_module, exception
        self._session.release()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Removes the hooks; the model stays converted."""
        del trainer, pl_module, stage
        self._session.release()

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all handles, for the checkpoint."""
        return self._session.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keeps a state from a checkpoint until the optimizers are attached."""
        self._session.load_state_dict(state_dict)
