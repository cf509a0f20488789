"""Monitoring: what a network's synapses look like during training, as numbers, and where the numbers go.

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
