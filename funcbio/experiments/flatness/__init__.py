"""Flatness: how sharply the loss curves around the weights that plain and bio-inspired networks learn."""
