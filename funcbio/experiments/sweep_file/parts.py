"""The parts of a sweep that a file names: network, data, loss, metrics, optimizer and mechanisms."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funcbio import Mechanism
from funcbio.experiments.data import digits
from funcbio.experiments.frame.settings import CHECKS, SettingError
from funcbio.experiments.nets import cnn, mlp
from funcbio.experiments.sweep_file.named import (
    described,
    named,
    require,
    require_arguments,
    require_given,
    require_keys,
    table,
)
from funcbio.experiments.sweep_parts import accuracy
from funcbio.mechanisms._placed import mechanisms_hint

HIDDEN = "an integer from 1 to 10000"
FUNCTION = "weight_splitting_activation_function"
"""The one field of the configuration that is a function."""


def digits_parts() -> dict[str, Any]:
    """Returns the handwritten digits, with their test part."""
    data = digits()
    return {"data": (data.train_x, data.train_y), "test": (data.test_x, data.test_y)}


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}
DATA: dict[str, Callable[..., Any]] = {"digits": digits_parts}
METRICS: dict[str, Callable[..., Tensor]] = {"accuracy": accuracy}


def model(section: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Returns the function that makes the network."""
    factory = _factory("model", section, MODELS)
    if factory.func is mlp:
        hidden = factory.keywords["hidden"]
        require("model.hidden", hidden, HIDDEN, CHECKS[HIDDEN](hidden))
    return factory


def data(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments "data" and "test"."""
    factory = _factory("data", section, DATA)
    torch.manual_seed(0)  # Data that are drawn are the same when the command is started again.
    try:
        result = factory()
    except Exception as error:
        raise SettingError(f"data.factory should make the data; found {described(error)}") from error
    should = "a function that returns a dict {'data': (x, y), 'test': (x, y)}"
    require("data.factory", type(result).__name__, should, isinstance(result, dict))
    require_keys("data", result, ("data", "test"))
    require_given("data", result, ("data",))
    return result


def metrics(key: str, names: Any) -> dict[str, Callable[..., Tensor]]:
    """Returns the metrics that a key of the training section names, by name."""
    where = f"training.{key}"
    require(where, names, "a list of names", isinstance(names, list))
    by_name = {}
    for text in names:
        metric = METRICS.get(text) if isinstance(text, str) else None
        if metric is None and isinstance(text, str) and ":" not in text:
            raise SettingError(f"{where} should hold {', '.join(METRICS)}, or 'module:function'; found {text!r}")
        metric = metric or named(where, text)
        name = getattr(metric, "__name__", f"{text}")
        require(where, text, "metrics of different names, other than loss", name not in (*by_name, "loss"))
        by_name[name] = metric
    return by_name


def optimizer(name: object, options: Mapping[str, Any]) -> Any:
    """Returns an optimizer of torch with its options, or the result of a function of the user."""
    make = named("training.optimizer", name, torch.optim)
    if isinstance(make, type) and issubclass(make, torch.optim.Optimizer):
        return partial(make, **options)
    require_arguments("training.options", make, options)
    try:
        return make(**options)
    except Exception as error:
        raise SettingError(f"training.optimizer should make an optimizer; found {described(error)}") from error


def mechanisms(section: object) -> Any:
    """Returns one list of mechanisms, or several by name."""
    if isinstance(section, dict):
        require("mechanisms", section, "one list, or lists by name", bool(section))
        return {name: _mechanism_list(f"mechanisms.{name}", items) for name, items in section.items()}
    return _mechanism_list("mechanisms", section)


def with_functions(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns values of configuration fields with functions in the place of their names."""
    fields = dict(values)
    if FUNCTION in fields:
        name, value = f"{where}.{FUNCTION}", fields[FUNCTION]
        several = isinstance(value, list)
        fields[FUNCTION] = [named(name, text, F) for text in value] if several else named(name, value, F)
    return fields


def _mechanism_list(where: str, items: Any) -> list[Mechanism]:
    if not isinstance(items, list):
        raise SettingError(f"{where} should be a list of mechanisms; found {items!r}{mechanisms_hint(items)}")
    return [_mechanism(where, item) for item in items]


def _mechanism(where: str, item: object) -> Mechanism:
    should = "a list of names or tables like {feature = 'rejuvenate_weights', every = 100}"
    require(where, item, should, isinstance(item, str | dict))
    options: dict[str, Any] = dict(item) if isinstance(item, dict) else {"feature": item}
    require_keys(where, options, ("feature", "every", "where", "hyper"))
    require_given(where, options, ("feature",))
    if isinstance(options["feature"], str) and ":" in options["feature"]:
        options["feature"] = named(f"{where}.feature", options["feature"])
    if "hyper" in options:
        table(f"{where}.hyper", options["hyper"])
    try:
        return Mechanism(**options)
    except ValueError as error:
        raise SettingError(f"{where}.{error}") from error


def _factory(where: str, section: Mapping[str, Any], built_in: Mapping[str, Callable[..., Any]]) -> partial[Any]:
    """Returns the function that a table names, with the other keys of the table as its arguments."""
    rest = {key: value for key, value in section.items() if key not in ("name", "factory")}
    if ("name" in section) == ("factory" in section):
        raise SettingError(
            f"{where} should have one of the keys name and factory; found {', '.join(section) or 'none'}"
        )
    if "factory" in section:
        function = named(f"{where}.factory", section["factory"])
    else:
        names = f"one of {', '.join(built_in)}; your own goes by factory = 'module:function'"
        name = section["name"]
        if not isinstance(name, str) or name not in built_in:
            raise SettingError(f"{where}.name should be {names}; found {name!r}")
        function = built_in[name]
    require_arguments(where, function, rest)
    return partial(function, **rest)
