"""The objects of release 0.0.5: the same library, with the choices that release made.

What merely crashed there works as documented; every difference that is left is in docs/release-0.0.5.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

import funcbio.bio_config
import funcbio.bio_converter
import funcbio.bio_module
from funcbio.bio_checks import check_method
from funcbio.bio_config import Distribution
from funcbio.initial import draw_sign
from funcbio.mechanisms import give_sign
from funcbio.synapses import READOUT_MARK, Holder, holders

VERSION = "0.0.5"
KINDS = (nn.Linear, nn.Conv2d)
__all__ = ["DEFAULT_BIO_CONFIG", "BioConfig", "BioConverter", "BioModule", "Distribution"]


@dataclass(frozen=True)
class BioConfig(funcbio.bio_config.BioConfig):
    """The configuration, with the variants of release 0.0.5 as defaults."""

    rejuvenation_variant: str = VERSION
    fuzzy_lr_variant: str = VERSION
    dales_variant: str = VERSION

    def _asdict(self) -> dict[str, Any]:
        """As of the named tuple it once was."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __iter__(self) -> Iterator[Any]:
        """As of the named tuple it once was."""
        return iter(self._asdict().values())


DEFAULT_BIO_CONFIG = BioConfig()


class BioModule(funcbio.bio_module.BioModule):
    """The mechanisms of one layer, as in release 0.0.5: activity moves the rates at every forward pass."""

    def __init__(self, parent: Any, config: Any = DEFAULT_BIO_CONFIG, **where: Any) -> None:
        super().__init__(parent, config, **where)
        if config.apply_dales_principle and self.synapse.readout:
            # The read-out starts with signs too; they are only never enforced.
            self.sign = draw_sign(self.key, self.weight, self.synapse, config)
            with torch.no_grad():
                self.weight.copy_(give_sign(self.weight, self.sign))

    def forward(self, output: Tensor) -> Tensor:
        """Counts, splits, and moves rates that follow activity."""
        result = super().forward(output)
        if self.config.fuzzy_lr_distribution == Distribution.ACTIVITY:
            self.update_fuzzy_learning_rates()
        return result

    def enforce_dales_principle(self) -> None:
        """Sets weights of the wrong sign to zero, but in the read-out."""
        check_method(self, "enforce_dales_principle")
        if not self.synapse.readout:
            super().enforce_dales_principle()

    def l1_reg(self) -> Tensor:
        """Returns the sum of the absolute rate factors, and of the signs, which the release counts in."""
        rates = super().l1_reg()
        return rates + self.sign.abs().sum() if self.config.apply_dales_principle else rates


class BioConverter(funcbio.bio_converter.BioConverter):
    """Converts Linear and Conv2d layers; the read-out is the last of them among the model's own children."""

    bio_module_class = BioModule
    config_class = BioConfig

    @staticmethod
    def set_last_module_token_for_model(model: nn.Module) -> None:
        """Marks the last layer among the model's own children as read-out, if there are two or more."""
        own = [child for child in model.children() if isinstance(child, KINDS)]
        if len(own) > 1:
            BioConverter.set_last_module_token_for_module(own[-1])

    def describe(self, model: nn.Module) -> list[Holder]:
        """Finds the layers of the release's kinds; the output of attention is left alone, as it was."""
        self.set_last_module_token_for_model(model)
        found = holders(model, lambda name, module: isinstance(module, KINDS) and name.endswith("weight"))
        return [
            Holder(replace(synapse, readout=hasattr(layer, READOUT_MARK)), layer, layer) for synapse, layer, _ in found
        ]
