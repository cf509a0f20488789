"""BioConverter: puts the mechanisms on any model, instance or class."""

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from torch import Tensor, nn

from funcbio import rng
from funcbio.bind import ROWS
from funcbio.bio_class import bio_class
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig
from funcbio.bio_module import NO_GRADIENTS, BioModule, check_splitting, fresh_seed, run_once
from funcbio.synapses import READOUT_MARK, layers, synapses

Model = TypeVar("Model", bound=nn.Module)
Layer = TypeVar("Layer", bound=nn.Module)


class BioConverter:
    """Converts models: their layers get rate factors, signs and counters, the model gets the methods.

    Args:
        config: The configuration.
        **overrides: Fields to change in it.

    Attributes:
        bio_module_class: The class put on every layer; a subclass of the converter may name its own.

    Raises:
        ConfigError: If a value is out of its limits or a name is unknown.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> bio_model = BioConverter(dampening_factor=0.5)(net)
        >>> bio_model(torch.ones(1, 4)).sum().backward()
        >>> bio_model.crystallize()
        >>> bio_model[0].bio_mod.fuzzy_learning_rate_parameters.shape
        torch.Size([8, 4])
    """

    bio_module_class: type[BioModule] = BioModule

    def __init__(self, config: BioConfig = DEFAULT_BIO_CONFIG, **overrides: Any) -> None:
        self.config = config.replace(**overrides)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any]) -> "BioConverter":
        """Makes a converter from a dictionary of configuration fields."""
        return cls(BioConfig(**config_dict))

    def get_config(self) -> BioConfig:
        """Returns the configuration."""
        return self.config

    def update_config(self, **changes: Any) -> None:
        """Changes fields of the configuration; it holds for later conversions."""
        self.config = self.config.replace(**changes)

    @overload
    def convert(self, module_class_or_instance: Model) -> Model: ...
    @overload
    def convert(self, module_class_or_instance: type[Model]) -> type[Model]: ...
    def convert(self, module_class_or_instance: Any) -> Any:
        """Converts a module, or a class of modules.

        An instance is converted in place and returned; converting it again applies the new configuration whole.
        For a class, a subclass is returned whose instances, and those of its own subclasses, are converted as
        soon as they are made; the given class stays as it is.

        Args:
            module_class_or_instance: What to convert.

        Returns:
            The same instance, or the new class.

        Raises:
            TypeError: If given neither a module nor a class of modules.
            ValueError: If there are no synapses, or ``weight_splitting_Gamma`` does not divide a layer's units.
        """
        if isinstance(module_class_or_instance, nn.Module):
            return self._convert_instance(module_class_or_instance)
        if isinstance(module_class_or_instance, type) and issubclass(module_class_or_instance, nn.Module):
            return bio_class(module_class_or_instance, self)
        raise TypeError(
            "module_class_or_instance should be an nn.Module or a subclass of it; "
            f"found {type(module_class_or_instance).__name__}"
        )

    def __call__(self, module_class_or_instance: Any) -> Any:
        """Converts a module or a class, as a function or a decorator; see ``convert``."""
        return self.convert(module_class_or_instance)

    def _convert_instance(self, model: nn.Module) -> nn.Module:
        described = synapses(model)
        found = dict(zip(described, (layer for _, layer in layers(model)), strict=True))
        for name, layer in found.items():
            check_splitting(described[name], layer.get_parameter("weight"), self.config)
        key = rng.key(fresh_seed())
        for module in list(model.modules()):
            _strip(module)
        for name, layer in found.items():
            synapse = described[name]
            config = self.config.replace(fuzzy_lr_layer_index=synapse.index, fuzzy_lr_total_layers=synapse.total)
            layer.bio_mod = self.bio_module_class(layer, config, synapse=synapse, key=key)
            splits = config.weight_splitting_Gamma > 1 and not synapse.readout
            if splits or config.records_activity:
                layer.register_forward_hook(_after_forward)
        for method in self.bio_module_class.exposed_functions:
            setattr(model, method, ModelMethod(model, method))
        return model

    @staticmethod
    def set_last_module_token_for_module(module: Layer) -> Layer:
        """Marks a layer as read-out: it is exempt from weight splitting and Dale's principle."""
        setattr(module, READOUT_MARK, True)
        return module


class ModelMethod:
    """A documented method of a converted model: runs a method of every layer's BioModule.

    Args:
        model: The converted model.
        name: Name of the method.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model, self.name = model, name
        self.__doc__ = f"Runs ``{name}`` on every layer with synapses; see ``BioModule.{name}``."

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method on every layer; layers without a gradient are passed over where one is needed."""
        bio_mods = {bio.synapse.weight: bio for bio in bio_modules(self.model)}
        if self.name in ROWS and ROWS[self.name].needs_grad:
            bio_mods = {weight: bio for weight, bio in bio_mods.items() if bio.has_gradient()}
            if not bio_mods:
                raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
        if self.name == "update_fuzzy_learning_rates":
            args, kwargs = self._observe(list(bio_mods.values()), *args, **kwargs), {}
        results = {weight: getattr(bio, self.name)(*args, **kwargs) for weight, bio in bio_mods.items()}
        if self.name == "l1_reg":
            return sum(results.values())
        return results if any(result is not None for result in results.values()) else None

    def _observe(self, bio_mods: list[BioModule], x: Tensor | None = None) -> tuple[()]:
        """Runs the model on its own input if its layers have seen none; they then need no input of their own."""
        dynamic = [bio for bio in bio_mods if bio.config.fuzzy_lr_dynamic]
        if x is not None and dynamic and all(bio.lacks_observation() for bio in dynamic):
            run_once(self.model, x)
        return ()


def bio_modules(model: nn.Module) -> list[BioModule]:
    """Returns the BioModule of every converted layer, in order of registration."""
    return [module for module in model.modules() if isinstance(module, BioModule)]


def _after_forward(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
    return layer.get_submodule("bio_mod")(output)


def _strip(module: nn.Module) -> None:
    """Takes an earlier conversion off a layer."""
    if isinstance(getattr(module, "bio_mod", None), BioModule):
        del module.bio_mod
    for number, hook in list(module._forward_hooks.items()):
        if hook is _after_forward:
            del module._forward_hooks[number]
    for name, value in list(vars(module).items()):
        if isinstance(value, ModelMethod):
            delattr(module, name)
