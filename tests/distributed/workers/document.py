"""Runs the examples of a document one after the other, as a reader would under torchrun."""

import sys
from pathlib import Path

import torch.distributed as dist
from group import report

if __name__ == "__main__":
    blocks = [part.split("```")[0] for part in Path(sys.argv[1]).read_text().split("```py\n")[1:]]
    names = {"__name__": "document"}
    for block in blocks:
        exec(block, names)
    dist.destroy_process_group()
    report(f"{len(blocks)} examples")
