"""Explicit keys and counter-based random numbers: every draw is a pure function of (key, stream, index).

The generator is Threefry-2x32 (Salmon et al. 2011), written in int32 tensor operations so that it runs
under vmap, in a full-graph compile and on any device with the same bits. A stream's counters go in blocks: the first
elements of a longer draw are those of a shorter one, and a part of a draw can be made alone by its offset.
"""

from funcbio.rng._gamma import beta, gamma
from funcbio.rng._keys import fold_in, key, split, step_of
from funcbio.rng._laws import NORMAL, REACH, UNIFORM, Law, lane_list, lanes
from funcbio.rng._samplers import bernoulli, normal, uniform
from funcbio.rng._streams import LANE, block_numbers, blocks, words
from funcbio.rng._threefry import constants, threefry2x32
from funcbio.rng._trees import draw_tree, normal_tree

__all__ = [
    "LANE",
    "NORMAL",
    "REACH",
    "UNIFORM",
    "Law",
    "bernoulli",
    "beta",
    "block_numbers",
    "blocks",
    "constants",
    "draw_tree",
    "fold_in",
    "gamma",
    "key",
    "lane_list",
    "lanes",
    "normal",
    "normal_tree",
    "split",
    "step_of",
    "threefry2x32",
    "uniform",
    "words",
]
