"""Figures of a network in training; see the page on monitoring.

Every function returns a matplotlib ``Figure``, to be saved with ``savefig``; a notebook shows it. matplotlib's global
state stays as it is. matplotlib is imported when a figure is drawn: ``pip install '.[monitor]'`` in
funcbio's source brings it.
"""

from funcbio.plot._by_size import turnover_by_size
from funcbio.plot._connections import connection_map
from funcbio.plot._curves import learning_curves
from funcbio.plot._distributions import distributions
from funcbio.plot._factors import factors
from funcbio.plot._histograms import rate_histograms
from funcbio.plot._map import crystallization_map
from funcbio.plot._outcomes import outcomes
from funcbio.plot._traces import traces
from funcbio.plot._turnover import turnover
from funcbio.plot._weights import weight_maps

__all__ = [
    "connection_map",
    "crystallization_map",
    "distributions",
    "factors",
    "learning_curves",
    "outcomes",
    "rate_histograms",
    "traces",
    "turnover",
    "turnover_by_size",
    "weight_maps",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(__all__)
