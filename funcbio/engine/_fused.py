"""All programs of a sequence of kernels, on layers of given names, shapes and types."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor

from funcbio.engine._kernel import Kernel
from funcbio.engine._lanes import names_of, takes_own, writes_of
from funcbio.engine._layers import Columns
from funcbio.engine._layout import Facts, Layout, Loops
from funcbio.engine._memory import WHOLE, Direct, Packed
from funcbio.engine._options import OPTIONS
from funcbio.engine._packages import runner
from funcbio.engine._program import Statistics
from funcbio.engine._spans import spans
from funcbio.engine._statistics import CHUNK
from funcbio.tensors._kept import kept

Types = tuple[tuple[str, torch.dtype], ...]


class Programs:
    """Runs a sequence of kernels on layers of given names, shapes and types, by programs.

    Args:
        kernels: The kernels.
        hyper: Names of their hyper-parameters.
        names: Names of the layers' weights.
        shapes: Their shapes.
        types: Types of the operands.
        device: Where they are.
    """

    def __init__(
        self,
        kernels: tuple[Kernel, ...],
        hyper: tuple[tuple[str, ...], ...],
        names: tuple[str, ...],
        shapes: tuple[Size, ...],
        types: dict[str, torch.dtype],
        device: torch.device,
    ) -> None:
        self.kernels, self.shapes, self.device = kernels, shapes, device
        self.writes = writes_of(kernels)
        ordered = tuple([types[name] for name in names_of(kernels)])
        own = any(map(takes_own, kernels))
        inner = Loops(kernels, hyper, ordered, own=own)
        outer = Loops(kernels, hyper, ordered, own=False) if own else inner
        small, whole, parts, rest = spans(shapes, OPTIONS.spread_groups if self._spreads(inner) else 1 << 40)
        # Statistics of a layer that is cut are taken before.
        self.cut = sorted({span.layer for span in (*parts, *rest)}) if own else []
        small, rest = (small, rest) if own else (small + rest, [])
        self.calls: list[Direct | Packed] = [
            Direct(loops, Layout(loops, names, [span], device))
            for loops, chosen in ((inner, whole), (outer, parts))
            for span in chosen
        ]
        self.large = sorted({span.layer for span in (*whole, *parts)})
        self.calls += [
            Packed(loops, shapes, Layout(loops, names, chosen, device))
            for loops, chosen in ((inner, small), (outer, rest))
            if chosen
        ]
        self.asks = [bool(kernel.statistics) and (bool(self.cut) or not takes_own(kernel)) for kernel in kernels]

    @staticmethod
    def _spreads(loops: Loops) -> bool:
        return not WHOLE.issuperset(names_of(loops.kernels))

    def make(self, columns: Columns) -> None:
        """Makes or loads all programs, so that nothing has changed if one of them cannot be made."""
        facts = self._facts(columns)
        for call in self.calls:
            call.loops.runner(call.loops.taken(facts), self.device.type)

    def run(self, columns: Columns, keys: Sequence[Tensor], hyper: list[Tensor], finite: Tensor) -> None:
        """Runs the kernels on every layer, in place, unless ``finite`` is False."""
        facts = self._facts(columns)
        for call in self.calls:
            call.run(columns, keys, call.loops.taken(facts), hyper, finite)
        if self.large:  # For autograd: the program wrote where the tensors lie.
            written = [columns[name][at] for name in self.writes for at in self.large]
            torch.autograd.graph.increment_version([tensor for tensor in written if not tensor.is_inference()])

    def _facts(self, columns: Columns) -> Facts:
        """Returns the statistics that are given to programs: for each kernel a list, each by layer."""
        facts: Facts = []
        for kernel, asks in zip(self.kernels, self.asks, strict=True):
            if not asks:
                facts.append([])
                continue
            chosen = self.cut if takes_own(kernel) else range(len(self.shapes))
            taken = {at: self._taken(kernel, [columns[name][at] for name in kernel.of]) for at in chosen}
            facts.append([{at: values[i] for at, values in taken.items()} for i in range(len(taken[chosen[0]]))])
        return facts

    def _taken(self, kernel: Kernel, operands: Sequence[Tensor]) -> Sequence[Tensor]:
        """Returns the statistics of one layer."""
        flats = [value.detach().view(-1) for value in operands] if takes_own(kernel) else []
        if not flats or flats[0].numel() < 2 * CHUNK:
            return kernel.take_statistics(operands)
        rows = flats[0].numel() // CHUNK
        run = runner(Statistics(kernel, tuple([flat.dtype for flat in flats])), self.device.type)
        inputs = []
        for flat in flats:
            tail = flat[rows * CHUNK :]
            padded = torch.nn.functional.pad(tail, (0, CHUNK - len(tail)))
            inputs += [flat[: rows * CHUNK].view(rows, CHUNK), padded[None]]
        return run([*inputs, *_sizes(flats[0].numel(), self.device)])


@kept(256)
def programs_for(
    kernels: tuple[Kernel, ...],
    hyper: tuple[tuple[str, ...], ...],
    names: tuple[str, ...],
    shapes: tuple[Size, ...],
    types: Types,
    device: torch.device,
) -> Programs:
    """Returns the programs of some kernels for layers of these names, shapes and types; they are kept."""
    return Programs(kernels, hyper, names, shapes, dict(types), device)


@kept(256)
def _sizes(number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns how many elements remain after whole rows, and how many there are."""
    return torch.tensor(number % CHUNK, device=device), torch.tensor(float(number), dtype=torch.float64, device=device)
