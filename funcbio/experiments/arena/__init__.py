"""The arena: networks that learn one task after another, and everything that is said to keep them able to learn.

All methods get the same networks, data, seeds and budget of tuning, learning rate included, with both optimizers.
"""
