"""A worker that fails on purpose: its processes hold different numbers."""

import torch
import torch.distributed as dist
from group import identical, processes

if __name__ == "__main__":
    with processes():
        identical(torch.full((2,), float(dist.get_rank())), "rank")
