"""Checks of the arguments of ``attach`` and the callbacks, the same for both."""

from collections.abc import Sequence

from torch import nn

from funcbio._checks import brief, check_compile, kind_of, require
from funcbio.bio_config import BioConfig, require_config
from funcbio.bio_converter import BioConverter
from funcbio.functional._presets import Preset
from funcbio.mechanisms._placed import Mechanism, as_mechanisms, mechanisms_hint
from funcbio.objects._survey import bio_modules


def check_flags(**flags: object) -> None:
    """Raises ValueError if an argument is not True or False."""
    for name, value in flags.items():
        require(name, value, "True or False", isinstance(value, bool))


def mechanisms_of(given: object) -> list[Mechanism]:
    """Returns the named mechanisms; raises ValueError if one is unknown or does nothing in its place."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        should = "a sequence of names, functions or Mechanism objects"
        raise ValueError(f"mechanisms should be {should}; found {brief(given)}{mechanisms_hint(given)}")
    chosen = [*as_mechanisms(given)]
    for one in chosen:
        late = one.where == "after" and one.row.scales
        require("where", one.where, f"'gradient' or 'update' for {one.name}: later it has nothing to scale", not late)
    return chosen


def config_of(
    mechanisms: object, config: BioConfig | None, converter: BioConverter | None, model: object = None
) -> BioConfig | None:
    """Returns the configuration: the one given, or that of a preset, if the model does not have it already.

    Raises:
        ValueError: If there would be two.
    """
    if not isinstance(mechanisms, Preset):
        return config
    for name, given in (("config", config), ("converter", converter)):
        require(name, given, "None for a preset, which has a configuration", given is None)
    own = [bio.config for bio in bio_modules(model)] if isinstance(model, nn.Module) else []
    same = all(vars(one).items() >= mechanisms.fields.items() for one in own)
    require("model", type(model).__name__, f"plain, or converted with {mechanisms.fields}", same)
    return None if own else mechanisms.config


def check_conversion(config: object, converter: object) -> None:
    """Raises ValueError if the arguments of a conversion make no sense, whatever the model."""
    both = "given without the other" if config is not None and converter is not None else ""
    require("config and converter", (config, converter), both, not both)
    if config is not None:
        require_config(config)
    if converter is not None and not isinstance(converter, BioConverter):
        hint = ": call it, BioConverter()" if converter is BioConverter else ""
        raise ValueError(f"converter should be a BioConverter; found {kind_of(converter)}{hint}")


def converter_of(
    converted: bool, config: BioConfig | None, converter: BioConverter | None, compile: bool | None = None
) -> BioConverter | None:
    """Returns the converter of a plain model; None if the model is converted already."""
    check_conversion(config, converter)
    check_compile(compile)
    if converter is not None or converted:
        owner = "a converted model" if converted else "a converter"
        require("compile", compile, f"None for {owner}, whose own counts", compile is None)
    if not converted:
        return BioConverter(config, compile=compile) if converter is None else converter
    name, given = ("config", config) if converter is None else ("converter", converter)
    require(name, given, "None for a converted model, whose own configuration counts", given is None)
    return None


def check_config(config: BioConfig, mechanisms: Sequence[Mechanism]) -> None:
    """Raises AttributeError or RuntimeError if a configuration does not allow a mechanism."""
    for mechanism in mechanisms:
        mechanism.require(config)
