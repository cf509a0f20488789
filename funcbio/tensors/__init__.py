"""What is asked of and done to tensors: shards, shared memory, one type to compute in, constants that are kept."""
