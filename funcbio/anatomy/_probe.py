"""Probing a model: which unit of a layer arrives at which input of another."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.anatomy import _copies
from funcbio.anatomy._cut import Cut, Names, Site
from funcbio.anatomy._memory import Memory
from funcbio.anatomy._recurrent import cut_modules
from funcbio.tensors._outputs import first_input

SEED = 1
"""Chooses the tags."""

PLACES = 32
"""With so many examples and positions every channel has tags of both signs; with fewer a second pass is made."""


class Probe:
    """Runs a copy of a model with its weights cut, again and again, with other tags.

    Args:
        model: The model; it is copied.
        example: Its arguments.
        kwargs: Its keyword arguments.
        sharing: Whether the copy shares the weights of torch's layers.
    """

    def __init__(
        self, model: nn.Module, example: Sequence[Any], kwargs: Mapping[str, Any], *, sharing: bool = True
    ) -> None:
        shared = _copies.shared_weights(model) if sharing else []
        self.model = _copies.copied(model, shared)
        self.example, self.kwargs = _copies.double(list(example)), _copies.double(dict(kwargs))
        self.cut = Cut(self.model, Names(self.model), self._tag)
        cut_modules(self.cut)
        for name, module in self.model.named_modules():
            module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)
            module.register_forward_hook(self._leave, always_call=True)
        self.change: Callable[[Site, Tensor, int], Tensor] = lambda _, tag, __: tag
        self.generator = torch.Generator().manual_seed(0)
        self.seed, self.sign = 0, 1.0
        self.free: dict[str, Tensor] = {}
        self.tags: dict[tuple[int, int], Tensor] = {}
        self.moved, self.smooth = False, True
        self.memory = Memory(self.model)
        sites, inputs, _ = self.run(0)
        self.sites = self.cut.before = sites
        used = {name for site in sites for name in (site.weight, site.bias, *site.entries.values())}
        tensors = {name: tensor for name, tensor in self.cut.names.tensors.items() if name not in used}
        self.needs_all = any(one is tensor for one in shared for tensor in tensors.values())
        self.free = {name: tensor.detach().clone() for name, tensor in tensors.items() if _copies.is_floating(tensor)}
        self.signs = (1.0,) if self._is_open(sites, inputs) else (1.0, -1.0)

    def _is_open(self, sites: Sequence[Site], inputs: Sequence[Any]) -> bool:
        """Returns True if no gate is shut for all examples: then passes with numbers of the other sign are not made."""
        places = [by_channel(x, site).shape[1] for site, x in zip(sites, inputs, strict=True) if x is not None]
        given = [one for one in _copies.tensors_in([self.example, self.kwargs]) if one.is_floating_point()]
        both = all(bool((one < 0.0).any() & (one > 0.0).any()) for one in given)
        free = self.free.keys() & self.cut.names.parameters.keys()
        return min(places, default=0) >= PLACES and both and not free

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.cut.running.append((name, module, first_input(args, kwargs)))

    def _leave(self, *_: Any) -> None:
        if self.cut.running:
            self.cut.running.pop()

    def _tag(self, site: Site, shape: torch.Size, dim: int, like: Tensor) -> Tensor:
        """Returns a tag: random numbers, changed as a pass says."""
        key = self.seed, len(self.cut.sites)
        tag = self.tags.get(key)  # Most passes have the same tags.
        if tag is None or tag.shape != shape:
            tag = torch.randn(shape, generator=self.generator, dtype=torch.float64).to(like.device)
            self.tags[key] = tag
        return self.sign * self.change(site, tag, dim)  # A new tensor: functions may write to it in place.

    def run(self, seed: int, *, sign: float = 1.0, shaken: bool = False) -> tuple[list[Site], list[Any], list[Tensor]]:
        """Runs the model once.

        Args:
            seed: Chooses the tags.
            sign: Turns them around.
            shaken: Whether the model's inputs and other tensors differ from those given.

        Returns:
            The sites in order, what arrives at each, and the tensors in the output.
        """
        cut = self.cut
        cut.sites, cut.inputs, cut.running, cut.layouts = [], [], [], {}
        self.generator.manual_seed(seed)
        self.seed, self.sign = seed, sign
        example, kwargs = _copies.fresh(self.example), _copies.fresh(self.kwargs)
        if shaken:
            example, kwargs = _copies.mapped(self._turned, example), _copies.mapped(self._turned, kwargs)
        self.memory.restore()
        self._fill(shaken=shaken)
        devices = sorted({t.device.index for t in self.cut.names.tensors.values() if t.device.type == "cuda"})
        with torch.random.fork_rng(devices), _copies.wide_numbers(), torch.no_grad(), cut:
            torch.manual_seed(0)
            output = self.model(*example, **kwargs)
        if cut.before is not None and len(cut.sites) != len(cut.before):
            missing = cut.before[len(cut.sites)].weight or "a norm"
            raise ValueError(
                f"model should use the same weights at every call; found {missing} used at some calls only"
            )
        outputs = [one for one in _copies.tensors_inside(output) if one.is_floating_point() or one.is_complex()]
        return cut.sites, cut.inputs, outputs

    def _fill(self, *, shaken: bool) -> None:
        """Gives parameters and buffers beside the weights other numbers, or back their own."""
        for name, value in self.free.items() if shaken or self.moved else ():
            tensor = self.cut.names.tensors[name]
            learned = isinstance(tensor, nn.Parameter)
            new = self._shaken(value, add=learned) if shaken else value
            # Also of the other sign: a gate would hide an offset. Positive numbers, as below a root, stay so.
            turn = shaken and learned and bool((value <= 0.0).any())
            tensor.data.copy_(self.sign * new if turn else new)
        self.moved = shaken

    def _turned(self, value: Any) -> Any:
        """Returns other inputs, of the other sign in every second pass: a gate that they shut may open."""
        moved = self._shaken(value)
        return torch.where(moved.isfinite(), self.sign * moved, moved) if _copies.is_floating(value) else value

    def _shaken(self, value: Any, *, add: bool = True) -> Any:
        """Returns other numbers in the place of given ones; what is infinite, and zeros of buffers, stay."""
        if not _copies.is_floating(value):
            return value
        noise = torch.rand(value.shape, generator=self.generator, dtype=torch.float64).to(value) + 0.1
        return torch.where(value.isfinite(), value * (1.0 + noise) + (0.1 * noise if add else 0.0), value)


def probe_of(model: nn.Module, example: Sequence[Any], kwargs: Mapping[str, Any]) -> Probe:
    """Returns a probe, whose copy of the model shares weights if nothing but torch's layers uses them."""
    try:
        probe = Probe(model, example, kwargs)
    except RuntimeError:  # Such as one of types: the model computes with a weight.
        return Probe(model, example, kwargs, sharing=False)
    return Probe(model, example, kwargs, sharing=False) if probe.needs_all else probe


def units_along(values: Tensor, site: Site, tag: Tensor, dim: int) -> Tensor:
    """Lays one number for each unit of a population out along a tag of some of its units."""
    each = (site.start + torch.arange(tag.shape[dim], device=tag.device)) % site.size
    return values.to(tag)[each].reshape([-1 if d == dim % tag.ndim else 1 for d in range(tag.ndim)])


def by_channel(x: Tensor, site: Site) -> Tensor:
    """Returns what arrives at a site as a matrix, of channels and of all places."""
    first = site.channels % x.ndim + 1 - site.width
    x = x.flatten(first, first + site.width - 1)
    return x.movedim(first, 0).unsqueeze(-1).flatten(1)  # An example without a batch has no further dimension.
