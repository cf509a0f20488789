"""The name by which tutorials import ``run``."""

from funcbio.experiments.inversion.run import draw, run

__all__ = ["draw", "run"]
