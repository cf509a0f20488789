"""Optimizers of torch over stacked parameters, and functional ones, each asked for its direction."""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from optree import tree_structure, tree_unflatten
from torch import Tensor, nn, optim

from funcbio._checks import is_among, kind_of, perhaps, require
from funcbio.base import brief, listed
from funcbio.sweeps._given import optimizer_hint
from funcbio.sweeps._newborn import AGES, check_newborn, corrected, renewed

Tensors = dict[str, Tensor]
ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.RMSprop,
    optim.Adagrad,
    optim.Adadelta,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
)
"""Optimizers that move each element of a weight by its own gradient alone, in proportion to the learning rate."""

TECHNICAL = ("params", "lr", "weight_decay", "maximize", "foreach", "capturable", "differentiable", "fused")
"""Arguments of torch's optimizers that are not options of a recipe."""


def _options(optimizer_class: Any) -> tuple[str, ...]:
    """Returns the names of the options of a class that a recipe takes."""
    return tuple(name for name in inspect.signature(optimizer_class).parameters if name not in TECHNICAL)


OF_OPTIMIZERS = {
    name: f"given with the optimizer, as optimizer=functools.partial(torch.optim.{one.__name__}, {name}=...)"
    for one in reversed(ELEMENTWISE)
    for name in (*_options(one), "weight_decay")
}
"""Where options of optimizers belong, with the first class that has each."""


@dataclass(frozen=True)
class Recipe:
    """Describes how to make an optimizer.

    Attributes:
        make: A class of ``torch.optim``, or an object with ``init`` and ``update``.
        numbers: Learning rate and weight decay: each member may have its own.
        options: Names of the further options of a class.
        fixed: Those that the user set, by name.
        newborn: How the memory of replaced weights starts; None keeps that of the old ones.
        no_decay: Parts of the paths of parameters that weight decay leaves alone.
        given: All numbers and options that the user set, by name.
    """

    make: Any
    numbers: Mapping[str, float]
    options: tuple[str, ...]
    fixed: Mapping[str, Any]
    newborn: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    no_decay: tuple[str, ...] = ()

    def decays(self, name: str) -> bool:
        """Returns True if weight decay acts on the parameter of this name."""
        return not any(_holds(name, part) for part in self.no_decay)

    def build(self, options: Mapping[str, Any]) -> "Torch | Functional":
        """Makes the optimizer of one kind of members."""
        if isinstance(self.make, type):
            return Torch(partial(self.make, **options), decoupled(self.make, options), self.newborn)
        return Functional(self.make)


def recipe(optimizer: Any, lr: float | None, newborn: str | None = None, no_decay: Any = ()) -> Recipe:
    """Reads the argument ``optimizer``: a class of torch.optim, a partial of one, or a functional optimizer.

    Raises:
        ValueError: If it is another object or class, mixes members, or gets an option that it does not have.
    """
    given = {} if lr is None else {"lr": lr}
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        check_newborn(newborn, optimizer)
        require("no_decay", no_decay, "left out for a functional optimizer, which has no weight decay", not no_decay)
        return Recipe(optimizer, {"lr": 1.0 if lr is None else lr}, (), {}, given=given)
    keywords = dict(optimizer.keywords) if isinstance(optimizer, partial) else {}
    optimizer_class = optimizer.func if isinstance(optimizer, partial) else optimizer
    if not is_among(optimizer_class, ELEMENTWISE):
        names = [cls.__name__ for cls in ELEMENTWISE]
        hint = optimizer_hint(optimizer_class, names)
        found = kind_of(optimizer_class) if isinstance(optimizer_class, optim.Optimizer) else brief(optimizer_class)
        raise ValueError(
            f"optimizer should be one of torch.optim's {listed(names)}, a partial of one, or an object with init and "
            f"update, because others would mix the members that train together; found {found}{hint}"
        )
    defaults = {name: item.default for name, item in inspect.signature(optimizer_class).parameters.items()}
    options = _options(optimizer_class)
    for name in keywords:
        if name not in (*options, "lr", "weight_decay"):
            should = f"given options of {optimizer_class.__name__}{perhaps(name, options)}"
            if name in defaults:
                why = "a sweep goes down the loss: negate it" if name == "maximize" else "a sweep chooses it itself"
                should = f"given without {name}, because {why}"
            raise ValueError(f"optimizer should be {should}; found {name!r}")
    if lr is not None and "lr" in keywords:
        raise ValueError(f"lr should be given once; found lr={brief(lr)} and {brief(keywords['lr'])} of the optimizer")
    given |= keywords
    numbers = {name: keywords.pop(name, defaults[name]) for name in ("lr", "weight_decay")}
    if lr is not None:
        numbers["lr"] = lr
    check_newborn(newborn, optimizer_class)
    named = (
        isinstance(no_decay, Collection)
        and not isinstance(no_decay, str)
        and all(isinstance(part, str) and part for part in no_decay)
    )
    require("no_decay", no_decay, "a list of names of parameters, modules, or parts of such names", named)
    return Recipe(optimizer_class, numbers, options, keywords, newborn, given, tuple(sorted(no_decay)))


def _holds(name: str, part: str) -> bool:
    """Returns True if a dotted name holds another one as whole parts of its path."""
    return f".{part}." in f".{name}."


def require_named(recipe: Recipe, network: nn.Module) -> None:
    """Raises ValueError if a parameter that weight decay is to leave alone is none of the network's."""
    names = [name for name, _ in network.named_parameters()]
    for part in recipe.no_decay:
        if not any(_holds(name, part) for name in names):
            should = f"names of parameters or modules of the model, or whole parts of them, such as {listed(names)}"
            raise ValueError(f"no_decay should hold {should}; found {part!r}")


def decoupled(optimizer_class: type, options: Mapping[str, Any]) -> bool:
    """Returns True if weight decay acts on the weights, not on the gradient."""
    return optimizer_class is optim.AdamW or bool(options.get("decoupled_weight_decay", False))


class Torch:
    """Runs an optimizer of torch over stacked parameters, for its step from zero at learning rate one.

    That step is its direction: learning rate and weight decay of every member are applied outside, and no direction is
    lost to rounding against the weight. The first step is that of the optimizer object, which makes the state; later
    ones call the same optimizer as the function that torch documents beside it, which fits into a larger graph.
    """

    def __init__(self, make: Callable[..., optim.Optimizer], decoupled: bool, newborn: str | None = None) -> None:
        self.newborn = newborn
        self.make, self.decoupled = partial(make, lr=1.0, weight_decay=0.0), decoupled
        sample = self.make([torch.zeros(1)])
        self.function = getattr(sys.modules[type(sample).__module__], type(sample).__name__.lower())
        arguments = inspect.signature(self.function).parameters
        needed = [name for name, item in arguments.items() if item.default is item.empty]
        keywords = [name for name in needed if arguments[name].kind is inspect.Parameter.KEYWORD_ONLY]
        group = {
            **sample.param_groups[0],
            **dict(zip(("beta1", "beta2"), sample.defaults.get("betas", ()), strict=False)),
        }
        self.kind, self.group = type(sample).__name__, sample.param_groups[0]
        self.hyper = {name: group[name] for name in keywords}
        self.entries = [_entry(name) for name in needed if name not in keywords][2:]  # Behind weights and gradients.
        self.has_capturable = "capturable" in arguments

    def direction(self, state: Any, params: Tensors, grads: Tensors, over_members: Callable[..., Any]) -> Any:
        """Returns what to add to the weights at learning rate one, and the new state; its tensors are written to.

        Args:
            state: Lists of tensors by name; empty before the first step.
            params: Weights, with a leading dimension of members.
            grads: Their gradients.
            over_members: Unused: an elementwise optimizer needs no mapping.
        """
        del over_members
        steps = {name: torch.zeros_like(p) for name, p in params.items()}
        if not state:
            state = self._begin(steps, grads)
            if self.newborn == "exact":
                state[AGES] = [torch.zeros_like(step, dtype=torch.int32) for step in steps.values()]
            return steps, state
        lists = [state.get(entry, [None] * len(steps)) for entry in self.entries]
        ordered = [grads[name] for name in steps]
        # So that a graph does not ask for the value of a step counter.
        flags = {"capturable": torch.compiler.is_compiling()} if self.has_capturable else {}
        self.function(list(steps.values()), ordered, *lists, foreach=False, **flags, **self.hyper)
        if AGES in state:
            steps = corrected(self.kind, state, steps, grads, self.group)
        return steps, state

    def renewed(self, state: Any, params: Tensors, masks: Tensors) -> Any:
        """Returns a state with the memory of replaced weights begun anew, if it was asked to be."""
        if self.newborn is None or not masks:
            return state
        return renewed(state, params, masks, self.newborn, self.group.get("initial_accumulator_value", 0.0))

    def restored(self, leaves: dict[str, list[Tensor]], params: Tensors, over_members: Callable[..., Any]) -> Any:
        """Returns a state from its leaves."""
        del params, over_members
        return leaves

    def _begin(self, steps: Tensors, grads: Tensors) -> dict[str, list[Any]]:
        for name, step in steps.items():
            step.grad = grads[name]
        optimizer = self.make(list(steps.values()))
        optimizer.step()
        states = [optimizer.state[step] for step in steps.values()]
        for step in steps.values():
            step.grad = None
        return {entry: [state[entry] for state in states] for entry in states[0]} or {"begun": []}


def _entry(name: str) -> str:
    """Returns the key in an optimizer's state of a list that its function takes."""
    special = {"momentum_buffer_list": "momentum_buffer", "state_steps": "step", "state_sums": "sum"}
    return special.get(name, name.removesuffix("s"))


class Functional:
    """Runs an optimizer with ``init(params) -> state`` and ``update(grads, state, params=) -> (updates, state)``."""

    decoupled, newborn = False, None

    def __init__(self, functions: Any) -> None:
        self.functions = functions

    def direction(self, state: Any, params: Tensors, grads: Tensors, over_members: Callable[..., Any]) -> Any:
        """Returns what to add to the weights at learning rate one, and the new state; see ``Torch``."""
        if not state:
            state = {"own": over_members(self.functions.init)(params)}
        updates, new_state = over_members(self._update)(grads, state["own"], params)
        return updates, {"own": new_state}

    def restored(self, leaves: dict[str, list[Tensor]], params: Tensors, over_members: Callable[..., Any]) -> Any:
        """Returns a state from its leaves."""
        like = over_members(self.functions.init)(params)
        return {name: tree_unflatten(tree_structure(like), part) for name, part in leaves.items()}

    def renewed(self, state: Any, params: Tensors, masks: Tensors) -> Any:
        """Returns a state as it is: what its parts mean is not known."""
        del params, masks
        return state

    def _update(self, grads: Tensors, state: Any, params: Tensors) -> Any:
        return self.functions.update(grads, state, params=params)
