"""Images from the user's own folder and from installed packages; nothing is downloaded."""

from funcbio.experiments.datasets.loading import NAMES, Images, load

__all__ = ["NAMES", "Images", "load"]
