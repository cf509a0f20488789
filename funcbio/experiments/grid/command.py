"""The name by which tutorials import ``run``."""

from funcbio.experiments.grid.run import draw, run

__all__ = ["draw", "run"]
