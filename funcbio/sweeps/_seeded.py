"""Torch's own draws from a seed, in one thread, without effect on other threads."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from funcbio.base import Key
from funcbio.files._cleanup import cleaned_up
from funcbio.sweeps._shared import Alone, Shared


@cleaned_up
def seeded(stack: ExitStack, key: Key) -> Iterator[None]:
    """Seeds all draws of torch in this thread from a key: they are those after ``torch.manual_seed``."""
    high, low = key.tolist()
    stack.enter_context(_forwarding.changed())
    stack.enter_context(Seeded((high & 0x7FFFFFFF) << 32 | (low & 0xFFFFFFFF)))
    yield


class Seeded(TorchDispatchMode):
    """Redirects draws from the default generators, while active, to generators of this mode.

    Args:
        seed: Their seed.
    """

    supports_higher_order_operators = True

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.start, self.generators = seed, dict[torch.device, torch.Generator]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Lets an operation draw from the generator of its device."""
        del types
        kwargs = kwargs or {}
        drawing, place = _drawing(func)
        if drawing is None or _chosen(place, args, kwargs):
            return func(*args, **kwargs)
        device = _device(args, kwargs)
        if device.type == "meta":
            return func(*args, **kwargs)
        if place is not None:
            return drawing(*args[:place], **{**kwargs, "generator": self.generator(device)})
        if func._can_decompose():  # Only in inference mode does a composite operation come here whole.
            with self:
                return func.decompose(*args, **kwargs)
        return self._through_the_default(device, func, args, kwargs)

    def generator(self, device: torch.device) -> torch.Generator:
        """Returns this mode's generator of a device."""
        if device not in self.generators:
            generator = torch.Generator(device)
            generator.manual_seed(self.start)
            self.generators[device] = generator  # Only when it is seeded, should an interrupt come between.
        return self.generators[device]

    def manual_seed(self, seed: int) -> torch.Generator:
        """Restarts the generators of every device, as ``torch.manual_seed`` does."""
        self.generators.clear()
        self.start = seed
        return self.generator(CPU)

    def seed(self) -> int:
        """Restarts the generators from a seed that the system draws."""
        self.manual_seed(torch.Generator().seed())
        return self.start

    @Alone()
    def _through_the_default(self, device: torch.device, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operation that takes no generator, with the state of this mode's generator in the default one."""
        generator, default = self.generator(device), default_generator(device)
        cuda = [] if device.type == "cpu" else [device.index or 0]
        with torch.random.fork_rng(cuda):
            default.set_state(generator.get_state())
            result = func(*args, **kwargs)
            generator.set_state(default.get_state())
        return result


CPU = torch.device("cpu")


def default_generator(device: torch.device) -> torch.Generator:
    """Returns the generator that torch uses where none is given."""
    return torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]


@lru_cache(maxsize=1024)
def _drawing(func: Any) -> tuple[Any, int | None]:
    """Finds the form of an operation that takes a generator.

    Returns:
        The operation, None if it draws nothing; the position of its generator, None if it takes none.
    """
    if not isinstance(func, torch._ops.OpOverload):
        return None, None
    names = _names(func)
    if "generator" in names:
        return func, names.index("generator")
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None, None
    packet = func.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads()):
        overload_names = _names(overload)
        if "generator" in overload_names and [name for name in overload_names if name != "generator"] == names:
            return overload, overload_names.index("generator")
    return func, None


def _names(func: Any) -> list[str]:
    return [argument.name for argument in func._schema.arguments]


def _chosen(place: int | None, args: Any, kwargs: Any) -> bool:
    """Returns True if a generator other than the default one was given."""
    if place is None:
        return False
    generator: Any = args[place] if len(args) > place else kwargs.get("generator")
    # Torch wraps a generator anew for every call, so that ``is`` finds no two the same.
    default: Any = default_generator(generator.device) if generator is not None else None
    return generator is not None and generator._cdata != default._cdata


def _device(args: Any, kwargs: Any) -> torch.device:
    tensor = next((value for value in args if isinstance(value, Tensor)), kwargs.get("out"))
    device = kwargs.get("device") or (CPU if tensor is None else tensor.device)
    device = torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


# Python code in torch.random that uses the default generator


class _Forwarded:
    """Stands for the default generator: forwards to the one of this thread while it is seeded."""

    def __getattr__(self, name: str) -> Any:
        seeds = [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, Seeded)]
        if not seeds:
            return getattr(torch.default_generator, name)
        return getattr(seeds[-1] if name in ("manual_seed", "seed") else seeds[-1].generator(CPU), name)


_random: Any = torch.random
_forwarded: Any = _Forwarded()


def _set_generator(generator: Any) -> None:
    _random.default_generator = generator


_forwarding = Shared(lambda: _set_generator(_forwarded), lambda: _set_generator(torch.default_generator))
"""Lets ``torch.manual_seed``, ``get_rng_state`` and their kin find the generator of their thread."""
