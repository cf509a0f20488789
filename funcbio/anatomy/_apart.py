"""Populations that are kept apart: units whose tensors serve for something else, too, are not replaced."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from funcbio.anatomy._population import Population


def apart(populations: Sequence[Population]) -> list[Population]:
    """Returns populations, of which none is replaceable whose weights are, along the same dimension, others' too.

    So it is where an embedding is tied to the output: one column is what enters a unit and what leaves another.
    """
    rows = {(part.name, part.synapse.post) for one in populations for part in one.parts if part.synapse is not None}
    both = rows & {(edge.weight, edge.synapse.pre) for one in populations for edge in one.edges}
    found = []
    for one in populations:
        own = {(part.name, part.synapse.post) for part in one.parts if part.synapse is not None}
        tied = both & (own | {(edge.weight, edge.synapse.pre) for edge in one.edges})
        found.append(replace(one, replaceable=one.replaceable & (not tied)))
    return found


def untouched(populations: Sequence[Population], computed: Collection[str]) -> list[Population]:
    """Returns populations, of which none is replaceable whose weights or norms the model also computes with."""
    found = []
    for one in populations:
        own = {part.name for part in one.parts} | {edge.weight for edge in one.edges}
        found.append(replace(one, replaceable=one.replaceable & own.isdisjoint(computed)))
    return found
