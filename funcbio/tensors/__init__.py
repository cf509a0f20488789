"""Helpers for tensors: shards, shared memory, one type to compute in, constants that are kept."""
