"""Arguments of a sweep as users have them: arrays, data sets, numbers of numpy; and hints for what cannot be taken."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import Dataset, TensorDataset

from funcbio._checks import brief, is_count, is_listing, kind_of, nearest, plain_number, require, shown
from funcbio.rng._keys import LEAST_SEED, MOST_SEEDS

APART = ("model", "loss", "data", "batch_size", "optimizer", "newborn", "share", "synapses")
"""Arguments of a sweep that are the same for all of its members, and may differ in results that are joined."""

GRID_HINTS = {name: f": run one sweep for each, and join them by result.label({name}=...)" for name in APART} | {
    "mechanisms": ": mechanisms={'a': [...], 'b': [...]} names the lists",
    "seeds": ": give the argument seeds=",
    "seed": ": give the argument seeds=",
    "fold": ": folds= makes this column",
    "folds": ": give the argument folds=",
    "steps": ": record_every= measures at several steps of one sweep",
    "config": ": name its fields, as {'base_lr': [...]}",
}
"""What to do with names that a grid does not take."""

FACTORY = "a function without arguments that makes the network, as lambda: Net()"


def as_seeds(seeds: Any) -> list[int]:
    """Returns the seeds of a number, or of a list, range, tensor or array of them; raises ValueError for others."""
    should, given = "an integer >= 1, or one or more different integers", _plain(seeds)
    require("seeds", seeds, should, is_count(given) or is_listing(given))
    numbers = list(range(given)) if isinstance(given, int) else [_plain(seed) for seed in given]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in numbers)
    require("seeds", seeds, should, bool(numbers) and whole and len(set(numbers)) == len(numbers))
    large = next((seed for seed in numbers if not LEAST_SEED <= seed < MOST_SEEDS), None)
    require("seeds", large, "integers of at most 64 bits", large is None)
    return numbers


def as_grid(grid: Any) -> Any:
    """Returns a grid with Python's numbers in the place of arrays and tensors."""
    if isinstance(grid, Mapping):
        return {name: _values(values) for name, values in grid.items()}
    return [as_grid(item) for item in grid] if isinstance(grid, list | tuple) else grid


def _values(values: Any) -> Any:
    values = _plain(values)
    return [_plain(value) for value in values] if isinstance(values, list | tuple | range) else values


def as_choice(some: Any) -> Any:
    """Returns a number, or some numbers, of Python in the place of those of arrays and tensors."""
    some = _plain(some)
    return [_plain(one) for one in some] if isinstance(some, Collection) and not isinstance(some, str) else some


def _plain(value: Any) -> Any:
    """Returns numbers of Python in the place of a number, array or tensor; anything else as it is."""
    if isinstance(value, Tensor) or (hasattr(value, "__array__") and hasattr(value, "tolist")):
        return value.tolist()
    return plain_number(value)


def as_rate(lr: Any) -> Any:
    """Returns a learning rate as a number of Python; raises ValueError for several."""
    rate = _plain(lr)
    if isinstance(rate, list | tuple):
        raise ValueError(f"lr should be a number >= 0; found {brief(rate)}: grid={{'lr': [...]}} trains with each")
    return rate


def as_tensors(name: str, data: Any) -> Any:
    """Returns the tensors of a ``TensorDataset``, and of a sequence with arrays; anything else as it is.

    Arrays of numpy are copied; those of float64, its default, become of torch's default type.

    Raises:
        ValueError: If an array holds no numbers.
    """
    if isinstance(data, TensorDataset):
        return data.tensors
    if not isinstance(data, tuple | list) or not any(_is_array(part) for part in data):
        return data
    return [_tensor(name, part) if _is_array(part) else part for part in data]


def _is_array(part: object) -> bool:
    return hasattr(part, "__array__") and not isinstance(part, Tensor)


def _tensor(name: str, part: Any) -> Tensor:
    array = part.__array__()
    try:
        tensor = torch.from_numpy(array.copy())
    except TypeError:
        raise ValueError(f"{name} should hold numbers; found an array of {array.dtype}") from None
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def data_hint(data: object) -> str:
    """Returns, for a message, how to make tensors of other data; "" if that is not known."""
    if isinstance(data, Mapping):
        return ": give a tuple, (inputs, target)"
    if isinstance(data, Dataset):
        return ": next(iter(DataLoader(dataset, batch_size=len(dataset)))) makes tensors of it"
    return ": give the tensors of its data set" if hasattr(data, "dataset") else ""


def folds_hint(folds: object) -> str:
    """Returns, for a message, how to make pairs of row numbers; "" if that is not known."""
    if is_count(folds):
        return f": KFold({folds}).split(x) of scikit-learn makes them"
    return ": call its split(x)" if callable(getattr(folds, "split", None)) and not isinstance(folds, str) else ""


def require_factory(model: Any) -> None:
    """Raises ValueError if the argument ``model`` does not make networks."""
    if isinstance(model, nn.Module):
        raise ValueError(f"model should be {FACTORY}; found {kind_of(model)}, which is one network for all members")
    if not callable(model):
        raise ValueError(f"model should be {FACTORY}; found {brief(model)}")
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return
    variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in variadic]
    if needed:
        name = getattr(model, "__name__", type(model).__name__)
        raise ValueError(f"model should be {FACTORY}; found {name}, which needs {', '.join(needed[:10])}")


def require_loss(loss: Any) -> None:
    """Raises ValueError if the argument ``loss`` is no function of output and target."""
    if isinstance(loss, type):
        raise ValueError(f"loss should be a function; found {kind_of(loss)}: call it, {loss.__name__}()")
    if not callable(loss):
        ours = isinstance(loss, str) and hasattr(functional, loss)
        hint = f": torch.nn.functional.{loss}" if ours else ""
        raise ValueError(f"loss should be a function; found {brief(loss)}{hint}")


def metrics_hint(metrics: object) -> str:
    """Returns, for a message, how to name metrics; "" if that is not known."""
    several = metrics if isinstance(metrics, list | tuple) else [metrics]
    name = next((getattr(one, "__name__", "") for one in several), "")
    return f": give them by name, {{'{name}': {name}}}" if name else ""


def grid_hint(name: object) -> str:
    """Returns, for a message, how to have several values of what is no hyper-parameter; "" if that is not known."""
    return GRID_HINTS.get(name, "") if isinstance(name, str) else ""


def optimizer_hint(optimizer: object, names: list[str]) -> str:
    """Returns, for a message, how to name an optimizer; "" if that is not known."""
    if isinstance(optimizer, str):
        other = {name.lower(): name for name in torch.optim.__all__}.get(optimizer.lower())
        if other not in (None, *names):
            return f": torch.optim.{other} is none of these"
        near = nearest(optimizer, names)
        return f": give the class, torch.optim.{near}" if near else ""
    if isinstance(optimizer, Optimizer):
        return f": give the class, torch.optim.{type(optimizer).__name__}, or a partial of it"
    return ""


def shown_data(data: object) -> str:
    """Returns data for a message: the types and shapes of tensors, not their numbers."""
    if isinstance(data, tuple | list) and data:
        return ", ".join(shown(part) for part in data[:10])
    return shown(data) if isinstance(data, Tensor) or data is None else kind_of(data)
