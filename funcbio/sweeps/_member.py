"""The steps of one member, as pure functions; ``_engine`` maps them over many members."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from optree import tree_leaves, tree_map
from torch import Tensor, nn
from torch.fx import GraphModule

from funcbio.anatomy._synapses import Choice
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Feature, Key
from funcbio.bio_config import BioConfig
from funcbio.files._cleanup import cleaned_up
from funcbio.functional._chain import chain
from funcbio.functional._observe import Observed
from funcbio.functional._signals import Signals, statistics_of_new
from funcbio.identity._tensor import describe_tensor
from funcbio.mechanisms._placed import Mechanism
from funcbio.mechanisms._row import units_of
from funcbio.sweeps._gradient import draws_backward, one_number, trained
from funcbio.sweeps._keyed import Keyed
from funcbio.sweeps._seeded import seeded

Tensors = dict[str, Tensor]


Gradient = Callable[[Callable[..., Any], Tensors], Any]


class MemberTensors(NamedTuple):
    """Holds the tensors of one member or, with a leading dimension, of a stack of members.

    Attributes:
        params: Parameters that are trained, by name.
        fixed: Parameters that are not trained.
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

    def map(self, function: Callable[[Tensor], Tensor]) -> "MemberTensors":
        """Applies a function to every tensor."""
        everything: Any = self
        return tree_map(function, everything)  # pyright: ignore[reportReturnType]

    def leaves(self) -> list[Tensor]:
        """Returns all tensors."""
        everything: Any = self
        return tree_leaves(everything)


@dataclass(frozen=True)
class Rules:
    """Describes how members of one kind learn.

    Attributes:
        forward: The network in training mode, and the activity that its layers recorded.
        still: The network in evaluation mode.
        loss: ``loss(output, target)``.
        mechanisms: In declared order.
        config: The fields that members of one kind share.
        decoupled: Whether weight decay acts on the weights, not on the gradient.
        read: Turns indices or keys into the batch; a batch that is made before stays as it is.
        seen: Metrics of every batch before it is learned from.
        draws: Whether the network draws numbers; if it does not, torch has less to trace, and compiles more models.
        spared: Names of the parameters that weight decay leaves alone.
    """

    forward: Observed
    still: Observed
    loss: Callable[..., Tensor]
    mechanisms: Sequence[Mechanism]
    config: BioConfig
    decoupled: bool
    read: Callable[[Any], Sequence[Tensor]]
    seen: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    draws: bool = True
    spared: frozenset[str] = frozenset()

    @torch.enable_grad()
    def draws_in_forward(self, member: MemberTensors, batch: Any, key: Key) -> bool:
        """Returns True if the network of a single member draws numbers in a forward pass."""
        with seeded(key), Keyed(key) as mode:
            self.forward(
                {**trained(member.params), **member.fixed}, *self.read(batch)[:-1], buffers=cloned(member.buffers)
            )
        return mode.calls > 0

    @torch.enable_grad()  # Without, checkpointing warns.
    def remembers(self, member: MemberTensors, batch: Any, key: Key) -> bool:
        """Returns True if the output of a single member's network depends on earlier calls by more than buffers."""
        inputs = self.read(batch)[:-1]

        def use(model: nn.Module) -> list[dict[str, Any]]:
            with seeded(key):
                return [describe_tensor(leaf) for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]

        return self.forward.remembers({**trained(member.params), **member.fixed}, member.buffers, use)

    def draws_in_backward(self, member: MemberTensors, batch: Any, key: Key) -> bool:
        """Returns True if the backward pass of a single member draws numbers, as layers that run again in it do."""
        forward = partial(replace(self, draws=False).loss_of, member=member, key=key, batch=self.read(batch))
        with seeded(key):
            return draws_backward(forward, member.params)

    def learn(
        self, gradient: Gradient, acting: Sequence[int], member: MemberTensors, batch: Any, key: Key
    ) -> tuple[Tensors, dict[str, Any], Tensor]:
        """Computes the gradient, and runs the mechanisms that act on it.

        Args:
            gradient: How to take the gradient.
            acting: Positions of the mechanisms that act in this step.
            member: Tensors of the member.
            batch: See ``read``.
            key: Key of the step's noise.

        Returns:
            Gradients, the changed tensors of ``member``, and the loss; with metrics of the batch, all in one tensor.
        """
        measured = partial(self.loss_of, member=member, key=key, batch=self.read(batch))
        grads, (loss, (buffers, activity, seen)) = gradient(measured, member.params)
        state = member.state
        if isinstance(activity, Signals):
            activity, state = activity.activity, activity.into(state)
        if self.config.records_activity:
            state = state._replace(activity=tree_map(torch.add, state.activity, activity))
        params, grads, state, _ = self.treat("gradient", acting, member.params, grads, state, member.numbers, key)
        losses = torch.stack([loss, *seen]) if seen else loss
        return grads, changes(member, params=params, buffers=buffers, state=state), losses

    def decays_gradient(self, member: MemberTensors) -> bool:
        """Returns True if weight decay is part of the gradient."""
        return not self.decoupled and "weight_decay" in member.numbers

    def decayed(self, member: MemberTensors, grads: Tensors) -> Tensors:
        """Adds weight decay that is part of the gradient: mechanisms act before it, as before a step of torch."""
        return self._with_decay(member, grads, 1.0)

    def _with_decay(self, member: MemberTensors, trees: Tensors, sign: float) -> Tensors:
        decay = sign * member.numbers["weight_decay"]
        chosen = {name: part + decay * member.params[name] for name, part in trees.items() if name not in self.spared}
        return {**trees, **chosen}

    def apply(
        self, acting: Sequence[int], member: MemberTensors, direction: Tensors, grads: Tensors, key: Key
    ) -> dict[str, Any]:
        """Moves the weights along the optimizer's direction; returns the changed tensors of ``member``.

        Args:
            acting: Positions of the mechanisms that act in this step.
            member: Tensors of the member.
            direction: The optimizer's step at learning rate one.
            grads: Gradients of the step, without weight decay.
            key: Key of the step's noise.
        """
        lr = member.numbers["lr"]
        if self.decoupled and "weight_decay" in member.numbers:
            direction = self._with_decay(member, direction, -1.0)
        update = {name: (lr * step).to(step.dtype) for name, step in direction.items()}
        treat = partial(self.treat, acting=acting, numbers=member.numbers, key=key)
        params, update, state, new = treat("update", params=member.params, grads=update, state=member.state)
        params = {name: weight + update[name] for name, weight in params.items()}
        params, _, state, _ = treat("after", params=params, grads=grads, state=state, new=new)
        buffers = self.with_new_units(acting, member.buffers, state)
        return changes(
            member, params=params, state=state, **({} if buffers is member.buffers else {"buffers": buffers})
        )

    def with_new_units(self, acting: Sequence[int], buffers: Tensors, state: BioState) -> Tensors:
        """Returns buffers with the running statistics of new units in the place of those that were replaced."""
        for mechanism in (self.mechanisms[index] for index in acting if self.mechanisms[index].row.by_unit):
            buffers = statistics_of_new(units_of([mechanism.row]), state, buffers)
        return buffers

    def measure(
        self, metrics: Mapping[str, Callable[..., Tensor]], member: MemberTensors, batch: Sequence[Tensor]
    ) -> Tensors:
        """Measures the network on a batch, without dropout and with the statistics as they are."""
        with Keyed(member.keys["noise"]):  # Also keeps torch off code for evaluation that vmap does not know.
            output, _ = self.still({**member.params, **member.fixed}, *batch[:-1], buffers=cloned(member.buffers))
            values = {name: metric(output, batch[-1]) for name, metric in metrics.items()}
        numbers = {name: one_number(f"metrics[{name!r}]", value) for name, value in values.items()}
        return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in numbers.items()}

    def loss_of(
        self,
        params: Tensors,
        *,
        member: MemberTensors,
        key: Key,
        batch: Sequence[Tensor],
        on_loss: Callable[..., Any] | None = None,
    ) -> tuple[Tensor, tuple[Tensors, Any, list[Tensor]]]:
        """Returns the loss, and buffers and activity after the forward pass, and the metrics of the batch.

        Args:
            params: The parameters that are trained.
            member: Tensors of the member.
            key: Key of the step's noise.
            batch: Inputs and target.
            on_loss: Is called with the loss while the network still holds these tensors.
        """
        buffers = cloned(member.buffers)
        with self.forward.opened({**params, **member.fixed}, buffers, member.state) as call:
            with Keyed(key) if self.draws else nullcontext():
                output, activity = call(*batch[:-1])
                loss = one_number("loss", self.loss(output, batch[-1]))
            seen = [one_number(f"train_metrics[{n!r}]", m(output, batch[-1])).to(loss) for n, m in self.seen.items()]
            if on_loss is not None:
                on_loss(loss)
        if isinstance(activity, Signals):
            activity = activity._replace(activity={name: activity.activity[name] for name in params})
            return loss, (buffers, activity, seen)
        return loss, (buffers, {name: activity[name] for name in params}, seen)

    def treat(
        self,
        place: str,
        acting: Sequence[int],
        params: Tensors,
        grads: Tensors,
        state: BioState,
        numbers: Tensors,
        key: Key,
        new: Any = None,
    ) -> tuple[Tensors, Tensors, BioState, Any]:
        """Runs the mechanisms of one place that act in this step.

        Args:
            place: The place.
            acting: Positions of the mechanisms that act in this step.
            params: Parameters.
            grads: What stands in the gradients' slot.
            state: State of the mechanisms.
            numbers: Hyper-parameters.
            key: Key of the step's noise.
            new: Which weights were replaced in the step already, None if there are none.

        Returns:
            The new parameters, gradients and state, and which weights were replaced so far.
        """
        for mechanism in (self.mechanisms[index] for index in acting if self.mechanisms[index].where == place):
            before = state.replaced
            params, grads, state = chain(self._bound(mechanism, numbers))(params, grads, state, key=key)
            if state.replaced is not before:  # The masks of all that replaced weights in this step count.
                both = state.replaced if new is None else tree_map(torch.logical_or, new, state.replaced)
                state, new = state._replace(replaced=both), both
        return params, grads, state, new

    def _bound(self, mechanism: Mechanism, numbers: Tensors) -> Feature:
        row = mechanism.row
        hyper: dict[str, Any] = {keyword: numbers[name] for keyword, name in row.fields.items() if name in numbers}
        return row.bound(self.config, **hyper)


def cloned(buffers: Tensors) -> Tensors:
    """Returns copies that a forward pass may write to."""
    return {name: buffer.clone() for name, buffer in buffers.items()}


def changes(member: MemberTensors, **new: Any) -> dict[str, Any]:
    """Keeps only the tensors that have changed, so that the others need not be written."""
    changed: dict[str, Any] = {}
    for name, tree in new.items():
        old = getattr(member, name)
        if isinstance(tree, BioState):
            pairs = {field: (value, getattr(old, field)) for field, value in tree._asdict().items()}
            changed[name] = {field: _changed(*pair) for field, pair in pairs.items() if pair[0] is not pair[1]}
        else:
            changed[name] = _changed(tree, old)
    return changed


def _changed(new: Any, old: Any) -> Any:
    if isinstance(new, Tensor):
        return new
    return {name: value for name, value in new.items() if not old or value is not old[name]}


def networks(
    model: nn.Module, synapses: Choice, config: BioConfig, units: Units | None = None
) -> tuple[Observed, Observed]:
    """Makes the network in training and in evaluation mode, as functions of parameters and buffers."""
    for name, module in model.named_modules():
        _check_part(name, module)
    with _flags_restored(model):  # The user may use the same network elsewhere.
        for module in model.modules():
            if vars(module).get("sparse") is True:
                # The sparse gradient of an embedding holds the same numbers, and fits no transform.
                vars(module)["sparse"] = False
        return Observed(model.train(), synapses, config, units), Observed(model.eval(), synapses, config)


@cleaned_up
def _flags_restored(stack: ExitStack, model: nn.Module) -> Iterator[None]:
    """Restores the flags of modules at the end."""
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
