"""Programs on memory: on large layers where they lie, on all others in copies that are kept from call to call."""

import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor

from funcbio.engine._kernel import FULL
from funcbio.engine._lanes import LANES, names_of, writes_of
from funcbio.engine._layers import Columns
from funcbio.engine._layout import Facts, Layout, Loops
from funcbio.engine._spans import GROUP, part
from funcbio.rng import LANE

WHOLE = FULL | {"replaced"}
"""Operands with an element for each of the weight's."""


class Pack:
    """Holds copies of some spans, each padded to whole groups, on which a program runs.

    Attributes:
        inputs: The operands' lanes and the keys, as the program takes them.
        given: Places in them for what is read, and for the keys.
        results: Places in them of what is written.
    """

    def __init__(self, packed: "Packed") -> None:
        layout, device = packed.layout, packed.layout.owner.device
        keys = torch.zeros(layout.count, 2, dtype=torch.int32, device=device)
        lanes_: list[Tensor] = []
        places: dict[str, list[Tensor]] = {}
        for name, dtype in zip(packed.names, packed.loops.types, strict=True):
            flat = torch.zeros(layout.groups * GROUP, dtype=dtype, device=device)
            lanes_ += flat.view(layout.groups, LANES, LANE).unbind(1)
            parts = [
                flat[first * GROUP :][: span.elements] for span, first in zip(layout.chosen, layout.first, strict=True)
            ]
            shapes = [packed.shapes[span.layer] for span in layout.chosen]
            places[name] = [p.view(s) for p, s in zip(parts, shapes, strict=True)] if packed.whole else parts
        self.inputs = [*lanes_, keys]
        self.given = [place for name in packed.reads for place in places[name]] + [*keys.unbind()][: len(layout.chosen)]
        self.results = [place for name in packed.writes for place in places[name]]


class Packed:
    """Runs a program on copies of some spans, and copies the results back."""

    def __init__(self, loops: Loops, shapes: Sequence[Size], layout: Layout) -> None:
        self.loops, self.shapes, self.layout, self.chosen = loops, shapes, layout, layout.chosen
        self.names, self.writes = names_of(loops.kernels), writes_of(loops.kernels)
        self.reads = [name for name in self.names if name != "replaced"]
        # Layers that are all whole go in and out in their shapes, and need no views.
        self.whole = all(span.elements == math.prod(shapes[span.layer]) for span in self.chosen)
        self.layers = [span.layer for span in self.chosen]
        self.packs = [Pack(self)]

    def run(self, columns: Columns, keys: Sequence[Tensor], facts: Facts, hyper: list[Tensor], finite: Tensor) -> None:
        """Runs the program on the spans of these layers."""
        run = self.loops.runner(facts, finite.device.type)
        try:
            pack = self.packs.pop()
        except IndexError:  # Another thread has it.
            pack = Pack(self)
        layers = self.layers
        sources = [source for name in self.reads for source in self._parts(name, columns)]
        sources += [keys[layer] for layer in layers]
        torch._foreach_copy_(pack.given, sources)  # pyright: ignore[reportPrivateImportUsage]
        given = [torch.stack([column[layer] for layer in layers]).unsqueeze(1) for kind in facts for column in kind]
        given = given if len(layers) > 1 else [torch.cat((one, one)) for one in given]
        run(self.layout.inputs(pack.inputs, given, hyper, finite))
        targets = [target for name in self.writes for target in self._parts(name, columns)]
        torch._foreach_copy_(targets, pack.results)  # pyright: ignore[reportPrivateImportUsage]
        self.packs.append(pack)

    def _parts(self, name: str, columns: Columns) -> list[Tensor]:
        """Returns the elements of the spans, in the shape of their places."""
        column, shapes = columns[name], self.shapes
        if self.whole and name in WHOLE:
            return [column[layer] for layer in self.layers]
        if self.whole:
            return [column[layer].expand(shapes[layer]) for layer in self.layers]
        return [part(column[span.layer], span, columns["weight"][span.layer]) for span in self.chosen]


class Direct:
    """Runs a program on a span of a large layer where it lies."""

    def __init__(self, loops: Loops, layout: Layout) -> None:
        self.loops, self.layout, self.names = loops, layout, names_of(loops.kernels)
        (self.span,) = layout.chosen

    def run(self, columns: Columns, keys: Sequence[Tensor], facts: Facts, hyper: list[Tensor], finite: Tensor) -> None:
        """Runs the program on the span of these layers."""
        run, span = self.loops.runner(facts, finite.device.type), self.span
        weight, at = columns["weight"][span.layer], span.layer
        flats = [part(columns[name][at], span, weight).view(span.groups, LANES, LANE) for name in self.names]
        lanes_ = [lane for flat in flats for lane in flat.unbind(1)]
        given = [column[at].reshape(1, 1).expand(2, 1).contiguous() for kind in facts for column in kind]
        doubled = torch.stack((keys[at], keys[at]))
        run(self.layout.inputs([*lanes_, doubled], given, hyper, finite))
