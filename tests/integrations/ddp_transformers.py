"""Two processes with different seeds train with the callback for Transformers; started by torchrun."""

import os
import sys

import torch
import torch.distributed as dist
import transformers_runs as runs

from funcbio.integrations.transformers import BioCallback

if __name__ == "__main__":
    rank = int(os.environ["RANK"])
    callback = BioCallback(runs.MECHANISMS, config=runs.CONFIG)
    saving = {"ddp_backend": "gloo", "save_strategy": "steps", "save_steps": 3}
    trainer = runs.trainer(sys.argv[1], runs.bert(seed=rank), callback, seed=rank, **saving)
    trainer.train()
    flat = torch.cat([value.double().flatten() for value in trainer.model.state_dict().values()])
    both = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(both, flat)
    assert torch.equal(*both)
    assert callback.handles[0].steps == runs.STEPS
    dist.barrier()
    dist.destroy_process_group()
    print("equal")
