"""The objects of release 0.0.5: the same library, with the choices of that release.

Calls that crashed there work as documented; docs/release-0.0.5.md lists all other differences.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import funcbio.bio_converter
import funcbio.bio_module
from funcbio.anatomy._synapses import READOUT_MARK, Holder, holders
from funcbio.anatomy._units import Units
from funcbio.bio_config import ConfigError, Distribution
from funcbio.compat._config import VERSION, BioConfig
from funcbio.compat._errors import FROZEN, in_its_words
from funcbio.functional._idle import outside
from funcbio.functional._init import draw_sign
from funcbio.mechanisms import ROWS, give_sign
from funcbio.objects._method import ModelMethod
from funcbio.objects._survey import bio_modules

KINDS = (nn.Linear, nn.Conv2d)
__all__ = ["DEFAULT_BIO_CONFIG", "VERSION", "BioConfig", "BioConverter", "BioModule", "Distribution"]

DEFAULT_BIO_CONFIG = BioConfig()


class BioModule(funcbio.bio_module.BioModule):
    """Holds the mechanisms of one layer, as in release 0.0.5: rates and signs are parameters, activity acts at once.

    Methods override what no row can say: activity acts in the forward pass, and errors are in the release's words.
    """

    rows = ROWS | {"enforce_dales_principle": replace(ROWS["enforce_dales_principle"], spares_readout=True)}

    def __init__(self, parent: Any, config: Any = DEFAULT_BIO_CONFIG, **where: Any) -> None:
        if not callable(parent):
            raise ConfigError("parent must be a Callable returning an nn.Module instance")
        parent = parent if isinstance(parent, nn.Module) else parent()
        if not isinstance(parent, nn.Module):
            raise ConfigError("parent output must be an instance of nn.Module")
        # Only a layer converted by hand knew its depth before the draw.
        knows_depth = not where and config.fuzzy_lr_distribution == Distribution.LAYER_ADAPTIVE
        super().__init__(parent, config.replace(fuzzy_lr_variant="default") if knows_depth else config, **where)
        self.config = config
        if config.apply_dales_principle and self.synapse.readout:
            self.dalian_network_initialization(self)  # The read-out draws signs too; they are never enforced.
        for name in ("sign", "fuzzy_learning_rate_parameters"):
            if isinstance(tensor := self._buffers.pop(name, None), Tensor):
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; a tensor in the place of a parameter becomes a parameter."""
        if name in self.__dict__.get("_parameters", {}) and isinstance(value, Tensor):
            value = nn.Parameter(value, requires_grad=False)
        super().__setattr__(name, value)

    @property
    def participates(self) -> bool:
        """Returns True: the release treats weights that are not trained like any other."""
        return True

    @staticmethod
    def dalian_network_initialization(module: nn.Module) -> None:
        """Draws the signs of a layer and gives them to its weights."""
        if not isinstance(module, BioModule) or not isinstance(module.get_parent(), KINDS):
            raise AttributeError(f"Can not use dalians network initialization on {type(module)}")
        sign = draw_sign(module.key, module.weight, module.synapse, module.config)
        module.sign = nn.Parameter(sign, requires_grad=False)
        with torch.no_grad():
            module.weight.copy_(give_sign(module.weight, sign))

    def forward(self, output: Tensor) -> Tensor:
        """Counts and splits the output, and updates rates that follow activity."""
        result = super().forward(output)
        if self.config.fuzzy_lr_distribution == Distribution.ACTIVITY:
            super().update_fuzzy_learning_rates()
        return result

    def run(self, name: str) -> Tensor | None:
        """Runs a row of the table on this layer, in place."""
        with in_its_words(name):
            return super().run(name)

    def update_fuzzy_learning_rates(self, x: Tensor | None = None) -> None:
        """Updates the rates; those that follow activity only with an input of the layer, which is counted."""
        if self.config.fuzzy_lr_distribution != Distribution.ACTIVITY:
            super().update_fuzzy_learning_rates()
        elif x is not None and self.moves():
            with torch.no_grad():
                self.forward(self.get_parent().forward(x))  # Without the layer's hooks, which would count it twice.

    def l1_reg(self) -> Tensor:
        """Returns the sum of the absolute rate factors, and of the signs, which the release counts in."""
        rates = super().l1_reg()
        sign = self.state_tensor("sign")
        return rates if sign is None else rates + sign.abs().sum()


class Method(ModelMethod):
    """Runs a method of a model, with errors in the words of the release."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method on every layer."""
        with in_its_words():
            try:
                return super().__call__(*args, **kwargs)
            except RuntimeError as error:
                first = next(iter(bio_modules(self.overview.model)), None)
                if self.name == "crystallize" and first is not None and not first.weight.requires_grad:
                    raise RuntimeError(FROZEN) from error
                raise


class BioConverter(funcbio.bio_converter.BioConverter):
    """Converts Linear and Conv2d layers; the read-out is the last of them among the model's own children."""

    bio_module_class = BioModule
    config_class = BioConfig
    method_class = Method

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any]) -> "BioConverter":
        """Makes a converter from a dictionary of configuration fields."""
        return cls(cls.config_class(**config_dict))

    def convert(self, module_class_or_instance: Any, *, units: Units | None = None) -> Any:
        """Converts a module, or a class of modules."""
        model: Any = module_class_or_instance
        if not isinstance(model, nn.Module) and not (isinstance(model, type) and issubclass(model, nn.Module)):
            raise TypeError(f"Unsupported type for module_class_or_instance: {type(model)}")
        with in_its_words():
            return super().convert(module_class_or_instance, units=units)

    @staticmethod
    def set_last_module_token_for_model(model: nn.Module) -> None:
        """Marks the last layer among the model's own children as read-out, if there are two or more."""
        layers = [child for child in model.children() if isinstance(child, KINDS)]
        if len(layers) > 1:
            BioConverter.set_last_module_token_for_module(layers[-1])

    def describe(self, model: nn.Module) -> list[Holder]:
        """Finds the layers of the release's kinds, or none; the output of attention is left alone, as it was."""
        self.set_last_module_token_for_model(model)
        if not any(isinstance(module, KINDS) for module in model.modules()):
            problem = f"found none in {type(model).__name__}: its methods do nothing"
            warnings.warn(f"model should contain a Linear or a Conv2d layer; {problem}", stacklevel=outside())
            return []
        layers = holders(model, lambda name, module: isinstance(module, KINDS) and name.endswith("weight"))
        return [
            Holder(replace(synapse, readout=hasattr(layer, READOUT_MARK)), layer, layer) for synapse, layer, _ in layers
        ]
