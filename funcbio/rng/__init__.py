"""Explicit keys and counter-based random numbers: every draw is a pure function of (key, stream, index).

The generator is Threefry-2x32 (Salmon et al. 2011), written in int32 tensor operations so that it runs
under vmap, in a full-graph compile and on any device with the same bits. A stream's counters go in blocks: the first
elements of a longer draw are those of a shorter one, and a part of a draw can be made alone by its offset.
"""

from funcbio.rng._gamma import beta, gamma
from funcbio.rng._integers import permutation, randint
from funcbio.rng._keys import fold_in, key, split, step_of
from funcbio.rng._laws import NORMAL as NORMAL
from funcbio.rng._laws import REACH as REACH
from funcbio.rng._laws import UNIFORM as UNIFORM
from funcbio.rng._laws import Law as Law
from funcbio.rng._laws import lane_list as lane_list
from funcbio.rng._laws import lanes as lanes
from funcbio.rng._samplers import bernoulli, normal, uniform
from funcbio.rng._streams import LANE as LANE
from funcbio.rng._streams import block_numbers as block_numbers
from funcbio.rng._streams import blocks as blocks
from funcbio.rng._streams import uniform_at as uniform_at
from funcbio.rng._streams import words as words
from funcbio.rng._threefry import constants as constants
from funcbio.rng._threefry import threefry2x32 as threefry2x32
from funcbio.rng._trees import draw_tree, normal_tree

# The generator's parts, for the engine, are no part of the reference.
__all__ = [
    "bernoulli",
    "beta",
    "draw_tree",
    "fold_in",
    "gamma",
    "key",
    "normal",
    "normal_tree",
    "permutation",
    "randint",
    "split",
    "step_of",
    "uniform",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
