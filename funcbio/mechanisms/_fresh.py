"""Fresh values of weights, as they were drawn at the beginning, whatever drew them."""

from torch import Tensor

from funcbio.engine._kernel import Draw
from funcbio.rng import UNIFORM
from funcbio.tensors._arithmetic import signed


def index_draw(name: str, like: str = "start") -> Draw:
    """Returns the draw that ``fresh`` takes, of the feature of that name: fine enough to reach any element."""
    return Draw(f"{name}/index", UNIFORM, like, fine=True)


def fresh(start: Tensor, unit: Tensor, sign: Tensor | None = None) -> Tensor:
    """Returns values drawn from those that a parameter began with, each with the same chance; ``unit`` is uniform.

    So they follow the law of the initial weights, and no initialiser has to be known. Where Dale's principle applies
    they have the ``sign`` of their unit, not that of the unit they were drawn from.
    """
    flat = start.reshape(-1)
    index = (unit.double() * flat.numel()).long()
    values = flat[index.clamp_max(max(flat.numel() - 1, 0))] if flat.numel() else start
    return signed(values, sign)
