"""Monitoring: numbers that describe a network's synapses during training, and writers for them.

``metrics`` is a pure function of the triple; ``flatten`` and the three ``log_*`` take what it returns.
"""

from funcbio.monitor._flat import flatten
from funcbio.monitor._loggers import log_csv, log_lightning, log_tensorboard
from funcbio.monitor._metrics import metrics
from funcbio.monitor._ranks import effective_rank, stable_rank

__all__ = [
    "effective_rank",
    "flatten",
    "log_csv",
    "log_lightning",
    "log_tensorboard",
    "metrics",
    "stable_rank",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
