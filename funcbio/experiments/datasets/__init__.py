"""MNIST, CIFAR-10 and CIFAR-100 from the user's own folder, and the digits of scikit-learn; nothing is downloaded."""

from funcbio.experiments.datasets.loading import NAMES, Images, load

__all__ = ["NAMES", "Images", "load"]
