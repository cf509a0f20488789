"""The mechanisms, one private file each: a rule for one layer, and the feature that maps it over trees."""

from funcbio.mechanisms._activity import count_active
from funcbio.mechanisms._calibrated_partial_resets import calibrated_partial_resets
from funcbio.mechanisms._clip import CLIP, clip_weights
from funcbio.mechanisms._continual_backprop import continual_backprop
from funcbio.mechanisms._crystallize import CRYSTALLIZE, crystallize, crystallize_rate
from funcbio.mechanisms._dale import (
    GIVE_SIGN,
    KEEP_SIGN,
    apply_dales_principle,
    enforce_dales_principle,
    give_sign,
    keep_sign,
)
from funcbio.mechanisms._dash import DASH, dash
from funcbio.mechanisms._exponentiated import EXPONENTIATED, exponentiated_gradient
from funcbio.mechanisms._fire import FIRE, fire
from funcbio.mechanisms._fuzzy import FUZZY, fuzzy_learning_rates, scale_by_rate
from funcbio.mechanisms._hare import HARE, hare_and_tortoise
from funcbio.mechanisms._l2_init import l2_init
from funcbio.mechanisms._project import PROJECT, project_norms
from funcbio.mechanisms._redo import redo
from funcbio.mechanisms._regrama import regrama
from funcbio.mechanisms._rejuvenate import (
    REJUVENATIONS,
    regrow_lognormal,
    regrow_uniform,
    rejuvenate_weights,
    rejuvenation,
)
from funcbio.mechanisms._release import regrow_release
from funcbio.mechanisms._row import PLACES, Row
from funcbio.mechanisms._scaling import SCALING, scale_by_activity, scale_grad
from funcbio.mechanisms._self_normalized_resets import self_normalized_resets
from funcbio.mechanisms._shrink import shrink_and_perturb
from funcbio.mechanisms._sparse import MASK, apply_mask, prune_and_regrow
from funcbio.mechanisms._spectral import PARSEVAL, SPECTRAL, parseval, spectral_regularization
from funcbio.mechanisms._split import (
    check_divides,
    grouped,
    has_summable_rows,
    identity,
    repeated,
    split_output,
    split_weights,
    sum_groups,
)
from funcbio.mechanisms._table import METHODS, NO_ACTIVITY, NO_DALE, ROWS, hyper_parameter
from funcbio.mechanisms._update import (
    drift_rate,
    fixed_rates,
    moves,
    rate_update,
    redraw_rate_by_activity,
    redraw_rate_by_weight,
    update_fuzzy_learning_rates,
)
from funcbio.mechanisms._upgd import upgd
from funcbio.mechanisms._volume import VOLUME, scale_by_volume, volume_dependent_lr

__all__ = [
    "CLIP",
    "CRYSTALLIZE",
    "DASH",
    "EXPONENTIATED",
    "FIRE",
    "FUZZY",
    "GIVE_SIGN",
    "HARE",
    "KEEP_SIGN",
    "MASK",
    "METHODS",
    "NO_ACTIVITY",
    "NO_DALE",
    "PARSEVAL",
    "PLACES",
    "PROJECT",
    "REJUVENATIONS",
    "ROWS",
    "SCALING",
    "SPECTRAL",
    "VOLUME",
    "Row",
    "apply_dales_principle",
    "apply_mask",
    "calibrated_partial_resets",
    "check_divides",
    "clip_weights",
    "continual_backprop",
    "count_active",
    "crystallize",
    "crystallize_rate",
    "dash",
    "drift_rate",
    "enforce_dales_principle",
    "exponentiated_gradient",
    "fire",
    "fixed_rates",
    "fuzzy_learning_rates",
    "give_sign",
    "grouped",
    "hare_and_tortoise",
    "has_summable_rows",
    "hyper_parameter",
    "identity",
    "keep_sign",
    "l2_init",
    "moves",
    "parseval",
    "project_norms",
    "prune_and_regrow",
    "rate_update",
    "redo",
    "redraw_rate_by_activity",
    "redraw_rate_by_weight",
    "regrama",
    "regrow_lognormal",
    "regrow_release",
    "regrow_uniform",
    "rejuvenate_weights",
    "rejuvenation",
    "repeated",
    "scale_by_activity",
    "scale_by_rate",
    "scale_by_volume",
    "scale_grad",
    "self_normalized_resets",
    "shrink_and_perturb",
    "spectral_regularization",
    "split_output",
    "split_weights",
    "sum_groups",
    "update_fuzzy_learning_rates",
    "upgd",
    "volume_dependent_lr",
]
