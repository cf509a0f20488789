"""Gradient inversion: how much of the images an observer of one training step sees, with and without the mechanisms.

The attack is that of Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated learning?",
NeurIPS 2020 (arXiv 2003.14053).
"""
