"""Gradient inversion: what an observer of one training step sees of the images, with and without the mechanisms.

The attack is that of Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated learning?",
NeurIPS 2020 (arXiv 2003.14053).
"""
