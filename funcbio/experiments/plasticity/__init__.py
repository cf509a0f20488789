"""Loss of plasticity: networks that learn one task after another, and methods that keep them able to learn.

The protocol follows Kumar, Marklund and Van Roy, arXiv 2308.11958: two hidden layers of 100 rectified units, batches of
16, and the share of right answers before learning from them, averaged within each task.
"""
