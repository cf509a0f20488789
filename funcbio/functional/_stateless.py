"""A copy of a model without tensors: every use fills in all of them, in all places where the model holds them."""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, NoReturn

import optree
import torch
from torch import Tensor, nn

ATOMS = (str, bytes, int, float, type, FunctionType, MethodType, ModuleType, Tensor)
"""Types that contain no tensors, or that a copy of the model shares with the model."""


class Missing:
    """Stands for a tensor between two uses; computing with it raises an error with its name.

    Args:
        name: Name of the parameter or buffer.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Refuses computations."""
        del func, types
        given: Any = (args, kwargs)
        leaves: Any = optree.tree_leaves(given)
        next(leaf for leaf in leaves if isinstance(leaf, cls))._refuse()

    def __getattr__(self, attribute: str) -> NoReturn:
        """Refuses attribute access; the protocols of Python find nothing."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"model should read {self.name!r} while it is called, from an attribute, a list or a dictionary; found it "
            "read from elsewhere, or after the call, as activation checkpointing does in the backward pass"
        )


class Place(NamedTuple):
    """Describes where a copy of a model holds a tensor: a list or dictionary, the index in it, and its first name."""

    container: Any
    index: Any
    name: str
    blank: Any
    """The placeholder between uses."""


class Copy(NamedTuple):
    """Holds a copy of a model to be filled, the result of ``prepare`` for it, and the places of its tensors."""

    model: nn.Module
    extra: Any
    places: list[Place]


class Stateless:
    """Runs a model whose parameters and buffers are given for every use.

    A tensor that the model holds in several places (tied weights, shared layers, lists of weights) is filled in at all
    of them. Threads and nested uses have separate copies. Attributes that a use changes in modules are restored.

    Args:
        model: The model; it is copied, not changed.
        noted: Anything that refers to modules of the model.
        prepare: Is called once for every copy, with ``noted`` as it refers to the copy; its result comes with every
            use.

    Attributes:
        names: Every name of every parameter and buffer, and the first name of the same tensor.

    Raises:
        ValueError: If a tensor of the model cannot be replaced.
    """

    def __init__(self, model: nn.Module, noted: Any, prepare: Callable[[Any], Any]) -> None:
        tensors = dict(named_tensors(model))
        self.names, self.prepare, self.idle = first_names(tensors), prepare, list[Copy]()
        named = [(self.names.get(name, name), tensor) for name, tensor in (*tensors.items(), *_computed(model))]
        with torch.inference_mode(False):  # The copies are used outside of the mode too.
            missing = {name: Missing(name) for name, _ in named}
            meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
            self.pristine, traced = (
                _copied((model, noted), {id(tensor): blanks[name] for name, tensor in named})
                for blanks in (missing, meta)
            )
        self.blanks = {id(blank): (name, blank) for blanks in (missing, meta) for name, blank in blanks.items()}
        for name, tensor in named_tensors(self.pristine[0]):
            if isinstance(tensor, Tensor):
                raise ValueError(f"model should be made of modules whose tensors can be replaced; found {name!r}")
        constants = {id(value): value for *_, value in _reached(self.pristine) if isinstance(value, Tensor)}
        self.common = constants | {id(blank): blank for blank in missing.values()}
        self.traced = self._ready(traced)  # For the compiler, which can trace meta tensors but no ``Missing``.

    @contextmanager
    def filled(self, tensors: dict[str, Tensor]) -> Iterator[Copy]:
        """Fills a copy with all tensors, by their first names, for as long as the context lasts.

        Args:
            tensors: The tensors; what the model puts in the place of one stands there at the end.

        Yields:
            The copy.
        """
        if torch.compiler.is_compiling():
            with _filled(self.traced, tensors):
                yield self.traced
            return
        spare = self._free()
        modules = [vars(module) for module in spare.model.modules()]
        attributes = [dict(current) for current in modules]
        try:
            with _filled(spare, tensors):
                yield spare
        finally:
            for current, before in zip(modules, attributes, strict=True):
                current.clear()
                current.update(before)
        self.idle.append(spare)  # Only if nothing went wrong.

    def remembers(self, tensors: dict[str, Tensor], use: Callable[[nn.Module], Any]) -> bool:
        """Returns True if a second use differs because of what the first left outside of parameters and buffers.

        Args:
            tensors: The tensors, by their first names; they are not changed.
            use: Calls the model, always with the same inputs and draws; returns something to compare.
        """
        one, other = ({name: _twin(tensor) for name, tensor in tensors.items()} for _ in range(2))
        with self.filled(one) as used:
            first = use(used.model)
            with _filled(used, other):
                return use(used.model) != first

    def _free(self) -> Copy:
        try:
            return self.idle.pop()
        except IndexError:
            return self._ready(_copied(self.pristine, dict(self.common)))

    def _ready(self, copied: tuple[nn.Module, Any]) -> Copy:
        blanks = {key: name for key, (name, _) in self.blanks.items() if name in self.names}
        places = ((c, i, blanks[id(value)], value) for c, i, value in _reached(copied) if id(value) in blanks)
        return Copy(copied[0], self.prepare(copied[1]), [Place(*place) for place in places])


def _twin(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


@contextmanager
def _filled(copied: Copy, tensors: dict[str, Tensor]) -> Iterator[None]:
    originals = dict(tensors)
    try:
        for container, index, name, _ in copied.places:
            container[index] = originals[name]
        yield
    finally:
        for container, index, name, blank in copied.places:
            if container[index] is not originals[name]:
                tensors[name] = container[index]
            container[index] = blank


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields every parameter and buffer under all of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns, for every name, the first name of the same tensor: tied ones share it."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}


def state_names(model: nn.Module) -> dict[str, str]:
    """Returns, for every parameter and buffer in a model's ``state_dict``, the first name of the same tensor."""
    tensors = dict(named_tensors(model))
    firsts = first_names(tensors)
    by_id = {id(tensor): firsts[name] for name, tensor in tensors.items()}
    state = model.state_dict(keep_vars=True).items()
    pairs = ((name, by_id.get(id(value), firsts.get(name))) for name, value in state)
    return {name: first for name, first in pairs if first is not None}


def _computed(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields attributes that hooks compute from parameters in every call, as those of the old weight norm."""
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield f"{prefix}.{name}" if prefix else name, value


def _copied(whole: tuple[nn.Module, Any], memo: dict[int, Any]) -> tuple[nn.Module, Any]:
    """Copies deeply, also functions and weak references by which the model refers to its own parts."""
    copied = copy.deepcopy(whole, memo)
    for container, index, value in list(_reached(copied)):
        if isinstance(value, weakref.ref) and id(value()) in memo:
            container[index] = weakref.ref(memo[id(value())])
        elif isinstance(value, FunctionType) and value.__closure__:
            container[index] = _rebound(value, value.__closure__, memo)
    return copied


def _rebound(function: FunctionType, cells: tuple[CellType, ...], memo: Mapping[int, Any]) -> FunctionType:
    """Returns a function that refers to the copies of its closure's objects; the same one if none was copied."""
    full = [cell for cell in cells if cell != CellType()]
    if not any(id(cell.cell_contents) in memo for cell in full):
        return function
    new = {id(cell): CellType(memo.get(id(cell.cell_contents), cell.cell_contents)) for cell in full}
    closure = tuple(new.get(id(cell), cell) for cell in cells)
    copied = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closure)
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__dict__.update(function.__dict__)
    return copied


def _reached(root: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yields the contents of lists and dictionaries, attributes of objects included: container, index and value."""
    seen, todo = set(), [root]
    while todo:
        thing = todo.pop()
        if isinstance(thing, ATOMS) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, list | dict):
            pairs: Iterable[Any] = thing.items() if isinstance(thing, dict) else enumerate(thing)
            for index, value in list(pairs):
                yield thing, index, value
                todo.append(value)
        elif isinstance(thing, tuple | set | frozenset):
            todo.extend(thing)
        else:
            todo.append(getattr(thing, "__dict__", None))
