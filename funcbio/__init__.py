"""Diverse, dynamic synapses for PyTorch: biological mechanisms as pure functions on pytrees.

Functional: ``key``, ``bind`` (or ``init``), ``chain`` and the features, each
``feature(params, grads, state, *, key=None, **hyper) -> (params, grads, state)``.
Stateful: ``BioConverter`` puts the same functions on any ``nn.Module`` as methods.
In one line: ``attach`` makes them act in every step of a ``torch.optim`` optimizer.
"""

from funcbio import compat as compat
from funcbio import monitor as monitor
from funcbio import plot as plot
from funcbio.anatomy._synapses import Synapse, synapses
from funcbio.anatomy._tabulate import units
from funcbio.anatomy._units import Units
from funcbio.attachment._attach import attach
from funcbio.attachment._handle import Handle
from funcbio.base import BioState, DaleWarning, Feature, IdleWarning, Key, Tree
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig, ConfigError, Distribution
from funcbio.bio_converter import BioConverter
from funcbio.bio_module import BioModule
from funcbio.checkpoint import load_checkpoint, save_checkpoint
from funcbio.engine._switch import set_compile
from funcbio.files import FileError
from funcbio.functional import _presets as presets  # noqa: F401
from funcbio.functional._bind import Bound, bind
from funcbio.functional._chain import chain
from funcbio.functional._crelu import CReLU
from funcbio.functional._dann_conv import DANNConv2d
from funcbio.functional._dann_linear import DANNLinear
from funcbio.functional._init import init
from funcbio.functional._observe import observe
from funcbio.functional._projected import keep_projected
from funcbio.mechanisms import (
    apply_dales_principle,
    apply_mask,
    calibrated_partial_resets,
    clip_weights,
    continual_backprop,
    count_active,
    crystallize,
    dash,
    enforce_dales_principle,
    exponentiated_gradient,
    fire,
    fuzzy_learning_rates,
    hare_and_tortoise,
    l2_init,
    parseval,
    project_norms,
    prune_and_regrow,
    redo,
    regrama,
    rejuvenate_weights,
    scale_grad,
    self_normalized_resets,
    shrink_and_perturb,
    spectral_regularization,
    split_output,
    split_weights,
    update_fuzzy_learning_rates,
    upgd,
    volume_dependent_lr,
)
from funcbio.mechanisms._placed import Mechanism
from funcbio.mechanisms._rates import sample_rates
from funcbio.monitor import metrics
from funcbio.objects._pool import pool_activity
from funcbio.objects._trees import trees
from funcbio.rng import bernoulli, beta, fold_in, gamma, key, normal, permutation, randint, split, uniform
from funcbio.sweeps._result import SweepResult
from funcbio.sweeps._sweep import sweep

__version__ = "0.2.0"


def __dir__() -> list[str]:
    """Lists the public names: those of ``__all__``, and the modules that have public names of their own."""
    return sorted([*__all__, "__version__", "compat", "monitor", "plot", "presets", "rng"])


__all__ = [
    "DEFAULT_BIO_CONFIG",
    "BioConfig",
    "BioConverter",
    "BioModule",
    "BioState",
    "Bound",
    "CReLU",
    "ConfigError",
    "DANNConv2d",
    "DANNLinear",
    "DaleWarning",
    "Distribution",
    "Feature",
    "FileError",
    "Handle",
    "IdleWarning",
    "Key",
    "Mechanism",
    "SweepResult",
    "Synapse",
    "Tree",
    "Units",
    "apply_dales_principle",
    "apply_mask",
    "attach",
    "bernoulli",
    "beta",
    "bind",
    "calibrated_partial_resets",
    "chain",
    "clip_weights",
    "continual_backprop",
    "count_active",
    "crystallize",
    "dash",
    "enforce_dales_principle",
    "exponentiated_gradient",
    "fire",
    "fold_in",
    "fuzzy_learning_rates",
    "gamma",
    "hare_and_tortoise",
    "init",
    "keep_projected",
    "key",
    "l2_init",
    "load_checkpoint",
    "metrics",
    "normal",
    "observe",
    "parseval",
    "permutation",
    "pool_activity",
    "project_norms",
    "prune_and_regrow",
    "randint",
    "redo",
    "regrama",
    "rejuvenate_weights",
    "sample_rates",
    "save_checkpoint",
    "scale_grad",
    "self_normalized_resets",
    "set_compile",
    "shrink_and_perturb",
    "spectral_regularization",
    "split",
    "split_output",
    "split_weights",
    "sweep",
    "synapses",
    "trees",
    "uniform",
    "units",
    "update_fuzzy_learning_rates",
    "upgd",
    "volume_dependent_lr",
]
