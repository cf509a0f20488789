"""BioConverter: puts the mechanisms on any model, instance or class."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from funcbio._checks import CONTRACT, check_compile, is_feature, kind_of, preset_hint, settings, unlike_default
from funcbio.anatomy._choice import is_compiled, is_scripted
from funcbio.anatomy._fitting import require_fitting
from funcbio.anatomy._synapses import Choice, Holder, holders
from funcbio.anatomy._units import Units
from funcbio.base import Feature, Key, brief
from funcbio.bio_config import BioConfig, check_names, config_hint
from funcbio.bio_module import BioModule
from funcbio.functional._idle import idle_fields, warn
from funcbio.functional._init import unit_sign
from funcbio.functional._observe import unit_dim
from funcbio.functional._signs import by_unit, left_free, signs_of
from funcbio.mechanisms import METHODS, ROWS, Row
from funcbio.mechanisms._placed import neighbour_of
from funcbio.objects._buffers import kept_names
from funcbio.objects._checks import check_layer, check_weight
from funcbio.objects._classes import bio_class
from funcbio.objects._kept import forget, keep, trained_parts
from funcbio.objects._layer import fresh_key
from funcbio.objects._method import ModelMethod
from funcbio.objects._names import BIO_MOD, check_free, free_names, is_ours, mark_readout
from funcbio.objects._splitting import AfterForward, before_forward
from funcbio.objects._step import STEPS, BioStep, check_steps
from funcbio.objects._survey import (
    Overview,
    bio_modules,
    once,
    plain_layers,
    warn_of_free,
    warn_of_matrices,
    warn_of_no_signs,
)
from funcbio.objects._tree_method import TreeMethod
from funcbio.objects._undo import or_as_before
from funcbio.tensors._sharding import reshard

Model = TypeVar("Model", bound=nn.Module)
Layer = TypeVar("Layer", bound=nn.Module)
STEP = "bio_step"
"""Name of the combined call on a model."""


class BioConverter:
    """Converts models: their layers get rate factors, signs and counters, the model gets the methods.

    Args:
        config: The configuration; None is the default one.
        synapses: Which parameters are synapses: None for the weights of linear and convolutional layers, or glob
            patterns or a predicate; see ``funcbio.synapses``.
        compile: Whether methods run compiled, and what follows one another in ``bio_step`` as one loop over memory;
            None follows ``set_compile``, at every call. The first call of each takes half a minute, once on a machine
            for all models and sizes.
        steps: Names of the methods that ``bio_step`` runs, in order.
        **overrides: Fields to change in the configuration.

    Attributes:
        bio_module_class: The class put on every layer; a subclass of the converter may name its own.
        config_class: The class of its configuration; a subclass of the converter may name its own.

    Raises:
        ConfigError: If a value is out of its limits or a name is unknown.
        ValueError: If ``compile`` is neither a bool nor None, or ``steps`` names no methods.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> bio_model = BioConverter(dampening_factor=0.5)(net)
        >>> bio_model(torch.ones(1, 4)).sum().backward()
        >>> bio_model.crystallize()
        >>> bio_model.bio_step()
        >>> bio_model[0].bio_mod.fuzzy_learning_rate_parameters.shape
        torch.Size([8, 4])
    """

    bio_module_class: type[BioModule] = BioModule
    config_class: type[BioConfig] = BioConfig
    method_class: type[ModelMethod] = ModelMethod

    def __init__(
        self,
        config: BioConfig | None = None,
        *,
        synapses: Choice = None,
        compile: bool | None = None,
        steps: Sequence[str] = STEPS,
        **overrides: Any,
    ) -> None:
        config = self.config_class() if config is None else config
        if not isinstance(config, BioConfig):
            model = isinstance(config, nn.Module) or (isinstance(config, type) and issubclass(config, nn.Module))
            hint = ": BioConverter()(model) converts a model" if model else config_hint(config)
            raise TypeError(f"config should be a BioConfig; found {kind_of(config)}{hint}")
        self.config = config.replace(**overrides) if overrides else config
        self.synapses = synapses
        check_compile(compile)
        self.compile, self.steps = compile, check_steps(steps)
        self.features: dict[str, Row] = {}
        self.tree_features: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Returns what differs from the defaults: fields of the configuration, arguments, exposed features."""
        plain = type(self.config) is self.config_class
        fields = unlike_default(self.config) if plain else {"config": self.config}
        arguments = {"synapses": (self.synapses, None), "compile": (self.compile, None), "steps": (self.steps, STEPS)}
        given = {name: value for name, (value, default) in arguments.items() if value != default}
        exposed = ", ".join([*self.features, *self.tree_features])
        return f"{type(self).__name__}({settings({**fields, **given})})" + (f".expose({exposed})" if exposed else "")

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any]) -> "BioConverter":
        """Makes a converter from a dictionary of configuration fields."""
        if not isinstance(config_dict, Mapping):
            raise TypeError(f"config_dict should be a mapping of configuration fields; found {kind_of(config_dict)}")
        check_names(cls.config_class, config_dict)
        return cls(cls.config_class(**config_dict))

    def get_config(self) -> BioConfig:
        """Returns the configuration."""
        return self.config

    def update_config(self, **changes: Any) -> None:
        """Changes fields of the configuration; it holds for later conversions."""
        self.config = self.config.replace(**changes)

    @overload
    def convert(self, module_class_or_instance: Model, *, units: Units | None = None) -> Model: ...
    @overload
    def convert(self, module_class_or_instance: type[Model]) -> type[Model]: ...
    def convert(self, module_class_or_instance: Any, *, units: Units | None = None) -> Any:
        """Converts a module, or a class of modules.

        An instance is converted in place and returned; converting it again applies the new configuration whole.
        For a class, a subclass is returned whose instances, and those of its own subclasses, are converted as
        soon as they are made; the given class stays as it is.

        Args:
            module_class_or_instance: What to convert.
            units: The table of the model's units, from ``funcbio.units``: then Dale's principle holds by unit, not by
                weight matrix.

        Returns:
            The same instance, or the new class.

        Raises:
            TypeError: If given neither a module nor a class of modules.
            ValueError: If there are no synapses, or ``weight_splitting_Gamma`` does not divide a layer's units.
        """
        if isinstance(module_class_or_instance, nn.Module):
            return self._convert_instance(module_class_or_instance, units)
        if isinstance(module_class_or_instance, type) and issubclass(module_class_or_instance, nn.Module):
            return bio_class(module_class_or_instance, self)
        raise TypeError(
            "module_class_or_instance should be an nn.Module or a subclass of it; "
            f"found {type(module_class_or_instance).__name__}"
        )

    def __call__(self, module_class_or_instance: Any, *, units: Units | None = None) -> Any:
        """Converts a module or a class, as a function or a decorator; see ``convert``."""
        told = {} if units is None else {"units": units}
        return self.convert(module_class_or_instance, **told)

    def expose(self, *features: Feature, needs_grad: bool = True, draws: bool = True, **hyper: str) -> "BioConverter":
        """Makes features methods of the models converted from here on, and of their layers' ``bio_mod``.

        Args:
            *features: Functions with the contract of ``funcbio.Feature``; a method has its function's name. Those of
                the library that act on all parameters, such as ``funcbio.l2_init``, become methods of the model alone,
                which keeps what they need in buffers; their hyper-parameters are fields of the configuration.
            needs_grad: Whether they make no sense without gradients.
            draws: Whether they use their key.
            **hyper: For a keyword of the functions, the field of the configuration that sets it.

        Returns:
            The converter itself.

        Raises:
            ValueError: If a method or attribute of that name exists, or a keyword or field does not.

        Example:
            >>> from optree import tree_map
            >>> def forget(params, grads, state, /, *, key=None):
            ...     return tree_map(lambda w: 0.9 * w, params), grads, state
            >>> net = BioConverter().expose(forget, needs_grad=False)(torch.nn.Linear(2, 2))
            >>> net.forget()
        """
        annotated = (name for kind in self.bio_module_class.__mro__ for name in vars(kind).get("__annotations__", ()))
        taken = {STEP, *ROWS, *annotated}
        for feature in features:
            name = neighbour_of(feature)
            if name is not None:
                self.tree_features = self._with_neighbour(name, hyper)
                continue
            name = getattr(feature, "__name__", "")
            if not (is_feature(feature, hyper) and name.isidentifier()):
                should = f"functions that have names, given by def, and are {CONTRACT}"
                raise ValueError(f"features should be {should}; found {brief(feature)}{preset_hint(feature)}")
            if name in taken or hasattr(self.bio_module_class, name):
                raise ValueError(f"features should have names of their own; found {name!r}, a name of every bio_mod")
            row = Row(feature, fields=hyper, needs_grad=needs_grad, draws=draws)
            row.require(self.config)
            self.features = {**self.features, name: row}
        return self

    def _with_neighbour(self, name: str, hyper: Mapping[str, str]) -> tuple[str, ...]:
        if hyper:
            raise ValueError(f"hyper should be left out for {name}, whose fields are known; found {sorted(hyper)}")
        if ROWS[name].by_unit:
            raise ValueError(
                f"features should act without a table of units to become methods; found {name!r}: name it in "
                "funcbio.attach(..., units=funcbio.units(model, example))"
            )
        if ROWS[name].place == "update":
            raise ValueError(
                f"features should act on gradients or weights to become methods; found {name!r}, which acts on the "
                "update of an optimizer: name it in funcbio.attach"
            )
        return tuple(dict.fromkeys((*self.tree_features, name)))

    def describe(self, model: nn.Module) -> list[Holder]:
        """Finds the synapses of a model and where they are; a subclass may choose in its own way."""
        return holders(model, self.synapses)

    def _convert_instance(self, model: nn.Module, units: Units | None = None) -> nn.Module:
        with or_as_before(model) as before:
            described = self.describe(model)
            if units is not None:
                require_fitting(units, model)
            signed = by_unit(self.config, units)
            if self.config.apply_dales_principle and self.config.dales_variant == "default" and not signed:
                warn_of_matrices()
            check_free(described)
            for synapse, layer, _ in described:
                check_layer(synapse, layer, self.config)
            weights = [layer.get_parameter(synapse.attribute) for synapse, layer, _ in described]
            for (synapse, _, _), weight in zip(described, weights, strict=True):
                check_weight(synapse, weight, self.config)
            warn(idle_fields(self.config, [holder.synapse for holder in described]))
            key = fresh_key("cpu")
            signs = signs_of(key, units, self.config)
            reshard(model.modules())
            if self.config.apply_dales_principle or self.bio_module_class.__init__ is not BioModule.__init__:
                before.keep(weights)
            _take_off(model)
            for holder in described:
                alone = sum(other.module is holder.module for other in described) == 1
                self._attach(holder, key, signs, alone=alone)
            self._keep(model)
            self._put_methods(model)
            if signs is not None and units is not None:
                warn_of_free(bio_modules(model), left_free(units, signs))
        return model

    def _keep(self, model: nn.Module) -> None:
        """Makes what the methods have to keep."""
        layers = once(bio_modules(model))
        keep(layers, [bio.rows[name] for bio in layers[:1] for name in METHODS], self.config)
        if self.tree_features:
            keep(trained_parts(model, layers), [ROWS[name] for name in self.tree_features], self.config)

    def _put_methods(self, model: nn.Module) -> None:
        overview = Overview(model, frozenset(plain_layers(model)))
        names = (*self.bio_module_class.exposed_functions, *self.features, *self.tree_features, STEP)
        for name in free_names(model, names):
            method = BioStep(overview, self.steps) if name == STEP else self._method(overview, name)
            vars(model)[name] = method  # Past a ``__setattr__`` of the user's own.
        if self.config.apply_dales_principle:
            warn_of_no_signs(bio_modules(model))

    def _method(self, overview: Overview, name: str) -> ModelMethod | TreeMethod:
        if name in self.tree_features:
            return TreeMethod(overview, name)
        return self.method_class(overview, name, summed=name in self.bio_module_class.summed_functions)

    def _attach(self, holder: Holder, key: Key, signs: Mapping[str, Tensor] | None, *, alone: bool) -> None:
        """Puts a BioModule on a layer, and hooks where it acts on the layer's output."""
        synapse, layer, output_module = holder
        config = self.config.replace(fuzzy_lr_layer_index=synapse.index, fuzzy_lr_total_layers=synapse.total)
        weight = layer.get_parameter(synapse.attribute)
        sign = {} if signs is None else {"sign": unit_sign(signs, weight, synapse)}
        bio = self.bio_module_class(layer, config, synapse=synapse, key=key, features=self.features, **sign)
        bio.compiles = self.compile
        if alone and synapse.attribute == "weight":
            layer._modules[BIO_MOD] = bio
        else:  # Past ``update``, which refuses names of methods of a dictionary.
            layer._modules.setdefault(BIO_MOD, nn.ModuleDict())._modules[synapse.attribute] = bio  # pyright: ignore[reportOptionalMemberAccess]
        splits = synapse.splits(config.weight_splitting_Gamma)
        if synapse.observable and (splits or config.records_activity):
            gamma, activation = (
                config.weight_splitting_Gamma if splits else 0,
                config.weight_splitting_activation_function,
            )
            path = "" if output_module is layer else "out_proj"
            output_module.register_forward_hook(AfterForward(gamma, activation, unit_dim(bio.weight), path))
            alone = output_module is layer and layer._modules[BIO_MOD] is bio
            if alone and splits and type(bio).forward is BioModule.forward:
                layer.register_forward_pre_hook(before_forward)

    @staticmethod
    def set_last_module_token_for_module(module: Layer) -> Layer:
        """Marks a layer as read-out: it is exempt from weight splitting and Dale's principle.

        Raises:
            TypeError: If given no module.
            ValueError: If the layer has something of its own under the name of the mark.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(f"module should be an nn.Module; found {brief(module)}")
        mark_readout(module)
        return module


def strip(model: nn.Module) -> None:
    """Removes a conversion from a model: everything on its layers, and the methods of the model."""
    with or_as_before(model):
        _take_off(model)


def _take_off(model: nn.Module) -> None:
    modules = list(model.modules())
    for module in modules:
        if not is_scripted(module):
            _strip(module)
    if any(is_compiled(module) for module in modules):
        torch.compiler.reset()  # Compiled parts that ran before know nothing of hooks that come or go.


def _strip(module: nn.Module) -> None:
    if is_ours(module._modules.get(BIO_MOD)):
        del module._modules[BIO_MOD]
    forget((module, name) for name in kept_names(module))
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for number, hook in list(hooks.items()):
            if hook is before_forward or isinstance(hook, AfterForward):
                del hooks[number]
    for name, value in list(vars(module).items()):
        if isinstance(value, ModelMethod | TreeMethod | BioStep) and value.overview.model is module:
            del vars(module)[name]
