"""The engine: one kernel, run leaf by leaf, in tiles, or as a compiled program."""
