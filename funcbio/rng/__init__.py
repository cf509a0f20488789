"""Explicit keys and counter-based random numbers: every draw is a pure function of (key, stream, index).

The generator is Threefry-2x32 (Salmon et al. 2011), written in int32 tensor operations so that it runs
under vmap, in a full-graph compile and on any device with the same bits. Element ``i`` of a draw is word
``i % 2`` of counter ``i // 2``: the first elements of a longer draw are those of a shorter one, and a
part of a draw can be made alone by its offset.
"""

from funcbio.rng._gamma import beta, gamma
from funcbio.rng._keys import fold_in, key, split
from funcbio.rng._samplers import bernoulli, normal, uniform
from funcbio.rng._threefry import threefry2x32
from funcbio.rng._trees import normal_tree, uniform_tree

__all__ = [
    "bernoulli",
    "beta",
    "fold_in",
    "gamma",
    "key",
    "normal",
    "normal_tree",
    "split",
    "threefry2x32",
    "uniform",
    "uniform_tree",
]
