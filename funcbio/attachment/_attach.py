"""One line on an optimizer: the mechanisms act in every step it makes."""

import warnings
from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from funcbio._checks import names_arguments, require
from funcbio.anatomy._synapses import is_treated
from funcbio.anatomy._units import Units
from funcbio.attachment._arguments import check_config, check_flags, config_of, converter_of, mechanisms_of
from funcbio.attachment._handle import Handle
from funcbio.attachment._layers import check_names, model_of, of_optimizer, owner_of
from funcbio.attachment._memory import is_known
from funcbio.attachment._newborn import check_newborn
from funcbio.attachment._optimizers import check_optimizer, groups_by_weight
from funcbio.attachment._signals import with_units
from funcbio.base import Feature
from funcbio.bio_config import IN_CONFIG, BioConfig
from funcbio.bio_converter import BioConverter, strip
from funcbio.functional._idle import idle_mechanisms, outside, updating, warn
from funcbio.functional._signs import by_unit
from funcbio.mechanisms._placed import Mechanism
from funcbio.objects._buffers import places_of
from funcbio.objects._names import silently
from funcbio.objects._survey import bio_modules, once
from funcbio.tensors._sharding import reshard

ELSEWHERE = IN_CONFIG | {
    name: f"given with the mechanism, as Mechanism('rejuvenate_weights', {name}=...)" for name in ("every", "where")
}
"""Where keywords belong that are no arguments of ``attach``."""


@names_arguments(ELSEWHERE)
def attach(
    optimizer: Optimizer | None,
    model: nn.Module,
    mechanisms: Sequence[str | Feature | Mechanism],
    *,
    config: BioConfig | None = None,
    converter: BioConverter | None = None,
    compile: bool | None = None,
    fresh_rates: bool = False,
    ages: bool = False,
    newborn: str = "zero",
    units: Units | None = None,
    in_optimizer: bool = False,
    hooks: bool = True,
) -> Handle:
    r"""Makes mechanisms act in every step of an optimizer.

    Each acts in its place: on the gradient before the step; on the update around it,
    $$ p \leftarrow p_\text{old} + f \, (p_\text{new} - p_\text{old}), $$
    where $f$ is the mechanism's factor and weight decay is part of the update; or after the step. See ``Mechanism``
    for the places taken by default. Only layers whose weights the optimizer holds are treated, and of those without a
    gradient only what needs none. Entries that rejuvenation replaces lose the optimizer's memory of them.

    Args:
        optimizer: Any optimizer of torch but LBFGS and SparseAdam; with ``hooks=False`` also None.
        model: The model. If it is plain it is converted, until ``remove``; if it is converted, its state is used.
        mechanisms: In the order in which they act: names of documented methods, functions with the contract of
            ``Feature``, or ``Mechanism`` objects, which say where and how often. Or a preset, which holds both
            mechanisms and configuration.
        config: The configuration of the conversion, for a plain model; None is the default one.
        converter: Makes the conversion of a plain model, instead of ``config``.
        compile: Whether the mechanisms of a plain model run compiled; None follows ``set_compile``, at every step. A
            ``converter`` and a converted model have a ``compile`` of their own, and this has to be None.
        fresh_rates: Whether replaced weights also get a fresh draw of their rate factor.
        ages: Whether to count the steps since every weight was replaced; see ``Handle.trees``.
        newborn: How the optimizer goes on with replaced weights. "zero": its memory of them starts anew, but its step
            counter goes on; "mean": what a step is divided by starts at the mean over the layer's other weights, and
            momentum at 0; "exact": they are moved as by a fresh optimizer that started when they were replaced
            (Adam, AdamW, NAdam, RAdam, Adamax; it keeps an int32 for every weight).
        units: The table of the model's units, from ``funcbio.units``; mechanisms on units, such as "redo", need it.
        in_optimizer: Whether the handle's state rides in the optimizer's ``state_dict``.
        hooks: Whether the optimizer's steps call the mechanisms. If not, call ``before_step`` and ``after_step``.

    Returns:
        The handle.

    Raises:
        TypeError: If optimizer or model are none.
        ValueError: If the optimizer cannot be treated or holds no synapse of the model, a mechanism is unknown or does
            nothing in its place, ``newborn`` does not suit the optimizer, a weight is attached already, or ``config``
            or ``compile`` is given for a converted model.
        AttributeError: If Dale's principle is to be enforced and not configured.
        RuntimeError: If ``scale_grad`` is to act and no activity is recorded.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> rejuvenate = Mechanism("rejuvenate_weights", every=100)
        >>> handle = attach(optimizer, net, ["fuzzy_learning_rates", rejuvenate])
        >>> net(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
        >>> handle.steps
        1
    """
    flags = {"fresh_rates": fresh_rates, "ages": ages, "in_optimizer": in_optimizer, "hooks": hooks}
    check_flags(**flags)
    config = config_of(mechanisms, config, converter, model)
    if optimizer is None:
        require("optimizer", optimizer, "an optimizer, unless hooks=False", not hooks and not in_optimizer)
    else:
        check_optimizer(optimizer)
    check_newborn(newborn, optimizer)
    chosen = with_units(mechanisms_of(mechanisms), units, model_of(model))
    converted = bool(bio_modules(model_of(model)))
    maker = converter_of(converted, config, converter, compile)
    if maker is None:
        config, treated = _check_converted(optimizer, model, chosen)
        chosen = _with_mask(model, chosen)
    else:
        config, treated = _check_plain(optimizer, model, chosen, maker)
    kind = type(None) if optimizer is None else updating(optimizer)
    warn(idle_mechanisms(chosen, config, trained=treated, optimizer=kind))
    if optimizer is not None and any(mechanism.row.replaces for mechanism in chosen):
        _warn_of_unknown(optimizer)
    if maker is None:
        return Handle(optimizer, model, chosen, **flags, newborn=newborn, converted=False)
    try:
        with silently():  # The methods of the model are not needed.
            converted_by_unit(maker, model, units)
        return Handle(optimizer, model, chosen, **flags, newborn=newborn, converted=True)
    except BaseException:
        strip(model)
        raise


def converted_by_unit(maker: BioConverter, model: nn.Module, units: Units | None) -> None:
    """Converts a model, with Dale signs by unit where the table is given and the configuration wants them."""
    _ = maker(model, units=units) if by_unit(maker.config, units) else maker(model)


def _with_mask(model: nn.Module, mechanisms: list[Mechanism]) -> list[Mechanism]:
    """Returns mechanisms, with one that keeps connections at zero if a mask on the model leaves some out."""
    places = places_of(bio_modules(model))
    masked = any(place.buffer_name("mask") in place.owner._buffers for place in places)
    named = any(mechanism.name == "apply_mask" for mechanism in mechanisms)
    return [*mechanisms, Mechanism("apply_mask")] if masked and not named else mechanisms


def _warn_of_unknown(optimizer: Optimizer) -> None:
    """Warns if weights are to be replaced and the layout of the optimizer's memory is not known."""
    if not is_known(optimizer):
        warnings.warn(
            f"optimizer should be one of torch.optim, whose memory of replaced weights is known; found "
            f"{type(optimizer).__name__}: where a weight is replaced, states near the weights take the new one, "
            "all others of its shape are set to 0, and what it keeps elsewhere than in its state stays",
            stacklevel=outside(),
        )


def _check_converted(
    optimizer: Optimizer | None, model: nn.Module, mechanisms: Sequence[Mechanism]
) -> tuple[BioConfig, int]:
    """Returns the configuration of the layers, and how many of them are treated."""
    reshard(model.modules())
    bios = of_optimizer(once(bio_modules(model)), optimizer)
    require("optimizer", optimizer, "one that holds weights of the model", bool(bios))
    check_names(bios)
    for bio in bios:
        owner = owner_of(bio)
        require(bio.synapse.weight, owner, "attached once: call remove() of the other handle first", owner is None)
    for config in [bio.config for bio in bios]:
        check_config(config, mechanisms)
    return bios[0].config, sum(bio.participates for bio in bios)


def _check_plain(
    optimizer: Optimizer | None, model: nn.Module, mechanisms: Sequence[Mechanism], maker: BioConverter
) -> tuple[BioConfig, int]:
    """Returns the configuration that the layers will have, and how many of them will be treated."""
    in_optimizer, holders = groups_by_weight(optimizer), maker.describe(model)
    pairs = [(holder.synapse, holder.module.get_parameter(holder.synapse.attribute)) for holder in holders]
    pairs = [(synapse, weight) for synapse, weight in pairs if optimizer is None or id(weight) in in_optimizer]
    require("optimizer", optimizer, "one that holds weights of the model", bool(pairs))
    check_config(maker.config, mechanisms)
    return maker.config, sum(is_treated(synapse, weight) for synapse, weight in pairs)
