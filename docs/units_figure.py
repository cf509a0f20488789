"""The figure of the page on weights and units: what each kind of mechanism replaces in one network."""

from pathlib import Path
from typing import Any

from figure_parts import axes_of

PAGE = Path(__file__).parent / "mechanisms" / "weights-or-units.md"
LAYERS = ("0.weight", "2.weight", "4.weight")


def run() -> dict[str, Any]:
    """Runs the page's first blocks, and returns their names."""
    names: dict[str, Any] = {}
    for part in PAGE.read_text().split("```python\n")[1:3]:
        exec(part.split("```")[0], names)
    return names


def weights_or_units() -> Any:
    """The entries of three layers that are new, in black: by weights above, by units below."""
    names = run()
    figure, axes = axes_of(3, 2, size=(3.6, 2.3))
    for row, (kind, state) in zip(
        axes, {"weights": names["of_weights"], "units": names["of_units"]}.items(), strict=True
    ):
        for axis, layer in zip(row, LAYERS, strict=True):
            new = state.replaced[layer]
            axis.imshow(new.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axis.set(title=f"{kind}, {layer}: {int(new.sum())} of {new.numel():,}", xlabel="input", ylabel="unit")
    return figure
