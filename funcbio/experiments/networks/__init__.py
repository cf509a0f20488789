"""The networks of the paper, and versions of each that fit 8 x 8 images and train in seconds."""

from funcbio.experiments.networks.named import NETWORKS, network

__all__ = ["NETWORKS", "network"]
