"""The table of mechanisms: a row for each."""

from dataclasses import replace
from typing import Any

from funcbio.mechanisms._calibrated_partial_resets import LIMITS as PARTIAL_LIMITS
from funcbio.mechanisms._calibrated_partial_resets import calibrated_partial_resets
from funcbio.mechanisms._clip import CLIP, clip_weights
from funcbio.mechanisms._continual_backprop import LIMITS as BACKPROP_LIMITS
from funcbio.mechanisms._continual_backprop import continual_backprop, fields_needed
from funcbio.mechanisms._counted import EVERY
from funcbio.mechanisms._crystallize import CRYSTALLIZE, crystallize
from funcbio.mechanisms._dale import KEEP_SIGN, apply_dales_principle, dale_start, enforce_dales_principle
from funcbio.mechanisms._dash import DASH, dash
from funcbio.mechanisms._exponentiated import EXPONENTIATED, exponentiated_gradient
from funcbio.mechanisms._fire import FIRE, fire
from funcbio.mechanisms._fuzzy import FUZZY, fuzzy_learning_rates
from funcbio.mechanisms._hare import HARE, hare_and_tortoise
from funcbio.mechanisms._l2_init import l2_init, l2_kernels
from funcbio.mechanisms._project import PROJECT, project_norms
from funcbio.mechanisms._redo import LIMITS as REDO_LIMITS
from funcbio.mechanisms._redo import redo
from funcbio.mechanisms._regrama import LIMITS as GRADIENT_LIMITS
from funcbio.mechanisms._regrama import regrama
from funcbio.mechanisms._rejuvenate import rejuvenate_weights, rejuvenation
from funcbio.mechanisms._row import Requirement, Row
from funcbio.mechanisms._scaling import SCALING, scale_grad
from funcbio.mechanisms._select import FRACTION
from funcbio.mechanisms._self_normalized_resets import FIELDS as SILENCE_FIELDS
from funcbio.mechanisms._self_normalized_resets import LIMITS as SILENCE_LIMITS
from funcbio.mechanisms._self_normalized_resets import self_normalized_resets
from funcbio.mechanisms._shrink import noise_kernels, shrink_and_perturb
from funcbio.mechanisms._sparse import MASK, apply_mask, prune_and_regrow, sparse_kernels, whole_model
from funcbio.mechanisms._spectral import PARSEVAL, SPECTRAL, parseval, spectral_regularization
from funcbio.mechanisms._update import fixed_rates, rate_update, update_fuzzy_learning_rates
from funcbio.mechanisms._upgd import upgd, upgd_kernels
from funcbio.mechanisms._volume import VOLUME, volume_dependent_lr

NO_DALE = "Can not enforce dales principle without apply_dales_principle set True"
NO_ACTIVITY = "No activity recorded: set record_activity=True in the configuration"

NEEDS_SIGNS = Requirement("apply_dales_principle", AttributeError, NO_DALE)
RATES = (
    "fuzzy_lr_distribution",
    "fuzzy_learning_rate_factor_nu",
    "fuzzy_lr_min",
    "fuzzy_lr_max",
    "fuzzy_lr_variant",
)
DENSITY = ("density", "density_law")
CLAMP = {"minimum": "fuzzy_lr_min", "maximum": "fuzzy_lr_max"}
REJUVENATE = Row(
    rejuvenate_weights,
    rejuvenation,
    {
        "strength": "rejuvenation_parameter_dre",
        "variant": "rejuvenation_variant",
        "utility": "rejuvenation_utility",
        "rule": "rejuvenation_rule",
        "fraction": "rejuvenation_fraction",
    },
    limited=FRACTION,
    place="after",  # What the optimizer does to the weights must not undo it.
)
L2_INIT = Row(
    l2_init,
    fields={"strength": "l2_init_strength", "penalty": "l2_init_penalty", "delta": "l2_init_delta"},
    leafwise=l2_kernels,
)
ROWS: dict[str, Row] = {
    "rejuvenate_weights": REJUVENATE,
    "crystallize": Row(
        crystallize,
        CRYSTALLIZE,
        {"threshold": "crystal_thresh", "dampening": "dampening_factor", "floor": "crystallization_floor"},
        applied_by="fuzzy_learning_rates",
    ),
    # A factor on the gradient cancels in optimizers that divide by a running norm of it; on the update it never does.
    "fuzzy_learning_rates": Row(fuzzy_learning_rates, FUZZY, starts_by=RATES, place="update", ignores_overflow=True),
    "volume_dependent_lr": Row(
        volume_dependent_lr,
        VOLUME,
        {"base_lr": "base_lr", "stability": "stability_factor", "variability": "lr_variability"},
        place="update",
    ),
    # On the gradient, before the others: so rates follow the activity of this very forward pass.
    "update_fuzzy_learning_rates": Row(
        update_fuzzy_learning_rates,
        rate_update,
        {
            "distribution": "fuzzy_lr_distribution",
            "dynamic": "fuzzy_lr_dynamic",
            "variant": "fuzzy_lr_variant",
            "nu": "fuzzy_learning_rate_factor_nu",
            "decay": "fuzzy_lr_decay",
            "every": "fuzzy_lr_update_freq",
            **CLAMP,
        },
        applied_by="fuzzy_learning_rates",
        idle=fixed_rates,
    ),
    "apply_dales_principle": Row(
        apply_dales_principle, dale_start, {"balance": "dales_balance"}, requires=NEEDS_SIGNS, is_method=False
    ),
    "enforce_dales_principle": Row(
        enforce_dales_principle,
        KEEP_SIGN,
        starts_by=("dales_variant", "dales_balance", "dales_excitatory_fraction"),
        place="after",
        placed=True,  # What the optimizer does to the weights after it may change their signs.
        requires=NEEDS_SIGNS,
    ),
    "scale_grad": Row(
        scale_grad,
        SCALING,
        {"target": "scaling_target", "gamma": "scaling_gamma", **CLAMP},
        place="update",
        per_unit=True,
        requires=Requirement("records_activity", RuntimeError, NO_ACTIVITY),
    ),
    "rejuvenate_weights_old": replace(
        REJUVENATE, fields={"strength": "rejuvenation_parameter_dre"}, fixed={"variant": "uniform"}, limited={}
    ),
}
ROWS |= {
    "l2_init": L2_INIT,
    "l2_init_decoupled": replace(L2_INIT, fixed={"decoupled": True}, place="update"),
    "shrink_and_perturb": Row(
        shrink_and_perturb,
        fields={keyword: f"shrink_and_perturb_{keyword}" for keyword in ("shrink", "perturb", "noise")},
        leafwise=noise_kernels,
        place="after",
    ),
    "clip_weights": Row(
        clip_weights,
        fields={"kappa": "clip_weights_kappa"},
        leafwise=(CLIP,),
        starts_by=("clip_weights_bound",),
        place="after",
    ),
    "project_norms": Row(project_norms, leafwise=(PROJECT,), place="after"),
    "spectral_regularization": Row(
        spectral_regularization,
        fields={"strength": "spectral_regularization_strength", "power": "spectral_regularization_power"},
        leafwise=(SPECTRAL,),
    ),
    "parseval": Row(
        parseval, fields={"strength": "parseval_strength", "scale": "parseval_scale"}, leafwise=(PARSEVAL,)
    ),
    "fire": Row(fire, fields={"iterations": "fire_iterations"}, leafwise=(FIRE,), place="after"),
    "upgd": Row(
        upgd,
        fields={keyword: f"upgd_{keyword}" for keyword in ("sigma", "beta", "decay", "protect", "scope")},
        leafwise=upgd_kernels,
        place="update",
    ),
    "exponentiated_gradient": Row(exponentiated_gradient, leafwise=(EXPONENTIATED,), place="update"),
    "prune_and_regrow": Row(
        prune_and_regrow,
        fields={keyword: f"prune_and_regrow_{keyword}" for keyword in ("drop", "grow", "newborn", "until")},
        leafwise=sparse_kernels,
        counts_calls=True,
        starts_by=DENSITY,
        companion="apply_mask",
        idle=whole_model,
        place="after",
    ),
    "apply_mask": Row(apply_mask, leafwise=(MASK,), starts_by=DENSITY, place="after"),
    "hare_and_tortoise": Row(
        hare_and_tortoise,
        fields={keyword: f"hare_and_tortoise_{keyword}" for keyword in ("momentum", "every")},
        leafwise=(HARE,),
        limited=EVERY,
        counts_calls=True,
        place="after",
    ),
    "dash": Row(
        dash,
        fields={keyword: f"dash_{keyword}" for keyword in ("alpha", "floor", "every")},
        leafwise=(DASH,),
        limited=EVERY,
        counts_calls=True,
        place="after",
    ),
}
ON_UNITS: dict[str, Any] = {"kept": ("start",), "by_unit": True, "draws": True, "place": "after"}
ROWS |= {
    "redo": Row(
        redo,
        fields={keyword: f"redo_{keyword}" for keyword in ("threshold", "every", "outgoing")},
        limited={**REDO_LIMITS, **EVERY},
        unit_fields=("signal",),
        counts_calls=True,
        **ON_UNITS,
    ),
    "continual_backprop": Row(
        continual_backprop,
        fields={
            keyword: f"continual_backprop_{keyword}"
            for keyword in (*BACKPROP_LIMITS, "utility", "accumulate", "correct_bias", "outgoing")
        },
        limited=BACKPROP_LIMITS,
        unit_fields=fields_needed,
        **ON_UNITS,
    ),
    "self_normalized_resets": Row(
        self_normalized_resets,
        fields={keyword: f"self_normalized_resets_{keyword}" for keyword in (*SILENCE_LIMITS, "outgoing")},
        limited=SILENCE_LIMITS,
        unit_fields=("signal", *SILENCE_FIELDS),
        counts_calls=True,
        **ON_UNITS,
    ),
    "regrama": Row(
        regrama,
        fields={keyword: f"regrama_{keyword}" for keyword in ("threshold", "every", "outgoing")},
        limited={**GRADIENT_LIMITS, **EVERY},
        needs_grad=True,
        counts_calls=True,
        **ON_UNITS,
    ),
    "calibrated_partial_resets": Row(
        calibrated_partial_resets,
        fields={keyword: f"calibrated_partial_resets_{keyword}" for keyword in (*PARTIAL_LIMITS, "every")},
        limited={**PARTIAL_LIMITS, **EVERY},
        unit_fields=("unit_gradient",),
        needs_grad=True,
        counts_calls=True,
        **ON_UNITS,
    ),
}
METHODS = tuple(name for name, row in ROWS.items() if row.is_method)
"""The rows that converted models and their layers offer as methods."""


def hyper_parameter(name: str) -> tuple[Row, str]:
    """Returns the row and the keyword that a field of the configuration sets first."""
    return next((row, key) for row in ROWS.values() for key, setting in row.fields.items() if setting == name)
