"""The mechanisms, one private file each: a rule for one layer, and the feature that maps it over trees."""

from funcbio.mechanisms._activity import count_active
from funcbio.mechanisms._crystallize import CRYSTALLIZE, crystallize, crystallize_rate
from funcbio.mechanisms._dale import (
    GIVE_SIGN,
    KEEP_SIGN,
    apply_dales_principle,
    enforce_dales_principle,
    give_sign,
    keep_sign,
)
from funcbio.mechanisms._fuzzy import FUZZY, fuzzy_learning_rates, scale_by_rate
from funcbio.mechanisms._rejuvenate import (
    REJUVENATIONS,
    regrow_lognormal,
    regrow_uniform,
    rejuvenate_weights,
    rejuvenation,
)
from funcbio.mechanisms._release import regrow_release
from funcbio.mechanisms._scaling import SCALING, scale_by_activity, scale_grad
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
from funcbio.mechanisms._table import METHODS, NO_ACTIVITY, NO_DALE, PLACES, ROWS, Row, hyper_parameter
from funcbio.mechanisms._update import (
    drift_rate,
    fixed_rates,
    moves,
    rate_update,
    redraw_rate_by_activity,
    redraw_rate_by_weight,
    update_fuzzy_learning_rates,
)
from funcbio.mechanisms._volume import VOLUME, scale_by_volume, volume_dependent_lr

__all__ = [
    "CRYSTALLIZE",
    "FUZZY",
    "GIVE_SIGN",
    "KEEP_SIGN",
    "METHODS",
    "NO_ACTIVITY",
    "NO_DALE",
    "PLACES",
    "REJUVENATIONS",
    "ROWS",
    "SCALING",
    "VOLUME",
    "Row",
    "apply_dales_principle",
    "check_divides",
    "count_active",
    "crystallize",
    "crystallize_rate",
    "drift_rate",
    "enforce_dales_principle",
    "fixed_rates",
    "fuzzy_learning_rates",
    "give_sign",
    "grouped",
    "has_summable_rows",
    "hyper_parameter",
    "identity",
    "keep_sign",
    "moves",
    "rate_update",
    "redraw_rate_by_activity",
    "redraw_rate_by_weight",
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
    "split_output",
    "split_weights",
    "sum_groups",
    "update_fuzzy_learning_rates",
    "volume_dependent_lr",
]
