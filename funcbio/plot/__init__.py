"""Figures of a network in training; see the page on monitoring.

Every function returns a matplotlib ``Figure``, to be saved with ``savefig``; a notebook shows it. matplotlib's global
state stays as it is. matplotlib is imported when a figure is drawn: ``pip install '.[monitor]'`` in
funcbio's source brings it.
"""

from funcbio.plot._connections import connection_map
from funcbio.plot._curves import learning_curves
from funcbio.plot._histograms import rate_histograms
from funcbio.plot._map import crystallization_map
from funcbio.plot._turnover import turnover

__all__ = ["connection_map", "crystallization_map", "learning_curves", "rate_histograms", "turnover"]
