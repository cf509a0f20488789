"""What one member does, as pure functions; nothing here knows that many are trained at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from optree import tree_leaves, tree_map
from torch import Tensor, nn
from torch.fx import GraphModule

from funcbio.anatomy._synapses import Choice
from funcbio.base import BioState, Feature, Key
from funcbio.bio_config import BioConfig
from funcbio.files._cleanup import cleaned_up
from funcbio.functional._chain import chain
from funcbio.functional._observe import Observed
from funcbio.identity._tensor import describe_tensor
from funcbio.mechanisms._placed import Mechanism
from funcbio.sweeps._gradient import draws_backward, one_number, trained
from funcbio.sweeps._keyed import Keyed
from funcbio.sweeps._seeded import seeded

Tensors = dict[str, Tensor]


Gradient = Callable[[Callable[..., Any], Tensors], Any]


class Own(NamedTuple):
    """What belongs to one member: with a leading dimension, to a stack of them.

    Attributes:
        params: Parameters that are trained, by name.
        fixed: Parameters that are not.
        buffers: Buffers, such as running statistics.
        state: State of the mechanisms.
        keys: Keys of "batches" and "noise".
        numbers: Learning rate, weight decay and hyper-parameters.
    """

    params: Tensors
    fixed: Tensors
    buffers: Tensors
    state: BioState
    keys: Tensors
    numbers: Tensors

    def map(self, function: Callable[[Tensor], Tensor]) -> "Own":
        """Applies a function to every tensor."""
        everything: Any = self
        return tree_map(function, everything)  # pyright: ignore[reportReturnType]

    def leaves(self) -> list[Tensor]:
        """All tensors."""
        everything: Any = self
        return tree_leaves(everything)


@dataclass(frozen=True)
class Rules:
    """How members of one kind learn.

    Attributes:
        forward: The network while it learns, and what its layers showed of their activity.
        still: The network while it is measured.
        loss: Of output and target.
        mechanisms: In declared order.
        config: For what may not differ between members.
        decoupled: Whether weight decay acts on the weights, not on the gradient.
        read: Turns what the loop hands over for a batch into the batch.
        draws: Whether the network draws numbers; if it does not, torch has less to trace, and compiles more models.
    """

    forward: Observed
    still: Observed
    loss: Callable[..., Tensor]
    mechanisms: Sequence[Mechanism]
    config: BioConfig
    decoupled: bool
    read: Callable[[Tensor], Sequence[Tensor]]
    draws: bool = True

    @torch.enable_grad()
    def seen_drawing(self, own: Own, batch: Tensor, key: Key) -> bool:
        """Whether the network of a single member draws numbers in a forward pass."""
        with seeded(key), Keyed(key) as mode:
            self.forward({**trained(own.params), **own.fixed}, *self.read(batch)[:-1], buffers=cloned(own.buffers))
        return mode.calls > 0

    @torch.enable_grad()  # Without, checkpointing warns.
    def remembers(self, own: Own, batch: Tensor, key: Key) -> bool:
        """Whether what the network of a single member computes depends on earlier calls by more than its buffers."""
        inputs = self.read(batch)[:-1]

        def use(model: nn.Module) -> list[dict[str, Any]]:
            with seeded(key):
                return [describe_tensor(leaf) for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]

        return self.forward.remembers({**trained(own.params), **own.fixed}, own.buffers, use)

    def seen_redrawing(self, own: Own, batch: Tensor, key: Key) -> bool:
        """Whether the backward pass of a single member draws numbers, as do layers that run again in it."""
        forward = partial(replace(self, draws=False).loss_of, own=own, key=key, batch=self.read(batch))
        with seeded(key):
            return draws_backward(forward, own.params)

    def learn(
        self, gradient: Gradient, acting: Sequence[int], own: Own, batch: Tensor, key: Key
    ) -> tuple[Tensors, dict[str, Any], Tensor]:
        """Computes the gradient, and what the mechanisms in its place make of it.

        Args:
            gradient: How to take the gradient.
            acting: Positions of the mechanisms that act in this step.
            own: What belongs to the member.
            batch: See ``read``.
            key: Key of the step's noise.

        Returns:
            Gradients, what has changed of ``own``, and the loss.
        """
        measured = partial(self.loss_of, own=own, key=key, batch=self.read(batch))
        grads, (loss, (buffers, activity)) = gradient(measured, own.params)
        state = own.state
        if self.config.records_activity:
            state = state._replace(activity=tree_map(torch.add, state.activity, activity))
        if not self.decoupled and "weight_decay" in own.numbers:
            grads = {name: grad + own.numbers["weight_decay"] * own.params[name] for name, grad in grads.items()}
        params, grads, state = self.treat("gradient", acting, own.params, grads, state, own.numbers, key)
        return grads, changes(own, params=params, buffers=buffers, state=state), loss

    def apply(self, acting: Sequence[int], own: Own, direction: Tensors, key: Key) -> dict[str, Any]:
        """Moves the weights along the optimizer's direction; returns what has changed of ``own``."""
        lr = own.numbers["lr"]
        if self.decoupled and "weight_decay" in own.numbers:
            decay = own.numbers["weight_decay"]
            direction = {name: step - decay * own.params[name] for name, step in direction.items()}
        update = {name: (lr * step).to(step.dtype) for name, step in direction.items()}
        params, update, state = self.treat("update", acting, own.params, update, own.state, own.numbers, key)
        params = {name: weight + update[name] for name, weight in params.items()}
        params, _, state = self.treat("after", acting, params, update, state, own.numbers, key)
        return changes(own, params=params, state=state)

    def measure(self, metrics: Mapping[str, Callable[..., Tensor]], own: Own, batch: Sequence[Tensor]) -> Tensors:
        """Measures the network on a batch, without dropout and with the statistics as they are."""
        with Keyed(own.keys["noise"]):  # Also keeps torch off code for evaluation that vmap does not know.
            output, _ = self.still({**own.params, **own.fixed}, *batch[:-1], buffers=cloned(own.buffers))
            found = {name: metric(output, batch[-1]) for name, metric in metrics.items()}
        numbers = {name: one_number(f"metrics[{name!r}]", value) for name, value in found.items()}
        return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in numbers.items()}

    def loss_of(
        self, params: Tensors, *, own: Own, key: Key, batch: Sequence[Tensor], then: Callable[..., Any] | None = None
    ) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        """Returns the loss, and buffers and activity after the forward pass.

        Args:
            params: The parameters that are trained.
            own: What belongs to the member.
            key: Key of the step's noise.
            batch: Inputs and target.
            then: Is called with the loss while the network still holds these tensors.
        """
        buffers = cloned(own.buffers)
        with self.forward.opened({**params, **own.fixed}, buffers) as call:
            with Keyed(key) if self.draws else nullcontext():
                output, activity = call(*batch[:-1])
                loss = one_number("loss", self.loss(output, batch[-1]))
            if then is not None:
                then(loss)
        return loss, (buffers, {name: activity[name] for name in params})

    def treat(
        self,
        place: str,
        acting: Sequence[int],
        params: Tensors,
        grads: Tensors,
        state: BioState,
        numbers: Tensors,
        key: Key,
    ) -> tuple[Tensors, Tensors, BioState]:
        """Runs the mechanisms of one place that act in this step."""
        chosen = [self.mechanisms[index] for index in acting if self.mechanisms[index].where == place]
        return chain(*(self._bound(mechanism, numbers) for mechanism in chosen))(params, grads, state, key=key)

    def _bound(self, mechanism: Mechanism, numbers: Tensors) -> Feature:
        row = mechanism.row
        own = {keyword: numbers[name] for keyword, name in row.fields.items() if name in numbers}
        return row.bound(self.config, **own)


def cloned(buffers: Tensors) -> Tensors:
    """Returns copies that a forward pass may write to."""
    return {name: buffer.clone() for name, buffer in buffers.items()}


def changes(own: Own, **new: Any) -> dict[str, Any]:
    """Keeps only the tensors that are others than before, so that nothing else needs to be written."""
    found: dict[str, Any] = {}
    for name, tree in new.items():
        old = getattr(own, name)
        if isinstance(tree, BioState):
            pairs = {field: (value, getattr(old, field)) for field, value in tree._asdict().items()}
            found[name] = {field: _changed(*pair) for field, pair in pairs.items() if pair[0] is not pair[1]}
        else:
            found[name] = _changed(tree, old)
    return found


def _changed(new: Any, old: Any) -> Any:
    if isinstance(new, Tensor):
        return new
    return {name: value for name, value in new.items() if not old or value is not old[name]}


def networks(model: nn.Module, synapses: Choice, config: BioConfig) -> tuple[Observed, Observed]:
    """Makes the network while it learns, and while it is measured, as functions of parameters and buffers."""
    for name, module in model.named_modules():
        _check_part(name, module)
    with _flags_kept(model):  # The network may be the user's own, which others use too.
        for module in model.modules():
            if vars(module).get("sparse") is True:
                # The sparse gradient of an embedding holds the same numbers, and fits no transform.
                vars(module)["sparse"] = False
        return Observed(model.train(), synapses, config), Observed(model.eval(), synapses, config)


@cleaned_up
def _flags_kept(stack: ExitStack, model: nn.Module) -> Iterator[None]:
    """Puts the flags of modules back."""
    for module in model.modules():
        flags = {name: vars(module)[name] for name in ("training", "sparse") if name in vars(module)}
        stack.callback(vars(module).update, flags)
    yield


def _check_part(name: str, module: nn.Module) -> None:
    """Raises ValueError if a module cannot be part of a step that is transformed as a whole."""
    if "_orig_mod" in module._modules:
        should = "plain modules, which compile=True compiles with the whole step"
        raise ValueError(f"model should hold {should}; found {name or 'the model'!r} compiled by torch.compile")
    if isinstance(module, GraphModule) and "train" in vars(module):
        raise ValueError(f"model should hold modules that train; found {name or 'the model'!r}, made by torch.export")
