"""A sweep as a program: started, killed, started again, alone or on several processes."""

import os
import signal
import sys
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Mechanism
from funcbio.sweeps import _store

torch.set_num_threads(1)
MECHANISMS = {
    "plain": [],
    "bio": [
        "crystallize",
        "volume_dependent_lr",
        "fuzzy_learning_rates",
        "update_fuzzy_learning_rates",
        Mechanism("rejuvenate_weights", every=5),
    ],
}


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def accuracy(output, target):
    return (output.argmax(-1) == target).float().mean()


def main(output, *, die_at=None, rank_to_die=0):
    """Runs the sweep; ``die_at`` kills the process right before it saves so many times."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 6, generator=generator)
    if die_at is not None and int(os.environ.get("RANK", "0")) == rank_to_die:
        real, count = _store.save_checkpoint, [0]

        def save(*args, **kwargs):
            count[0] += 1
            if count[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args, **kwargs)

        _store.save_checkpoint = save
    return funcbio.sweep(
        net,
        F.cross_entropy,
        (x, x[:, :3].argmax(1)),
        steps=24,
        batch_size=16,
        optimizer=partial(torch.optim.Adam, weight_decay=0.01),
        mechanisms=MECHANISMS,
        config=BioConfig(fuzzy_lr_distribution="activity", fuzzy_lr_dynamic=True, base_lr=0.9),
        seeds=5,
        grid={"lr": [0.01, 0.1]},
        test=(x, x[:, :3].argmax(1)),
        metrics={"accuracy": accuracy},
        record_every=7,
        chunk=4,
        output=output,
        save_seconds=0.0,
        progress=False,
    )


if __name__ == "__main__":
    folder, die_at, rank = (*sys.argv[1:], "0", "0")[:3]
    for _ in range(2):  # A program may hold several sweeps.
        funcbio.sweep(net, F.cross_entropy, (torch.ones(8, 6), torch.zeros(8).long()), steps=1, batch_size=4, seeds=3)
    result = main(folder, die_at=int(die_at) or None, rank_to_die=int(rank))
    print("result" if result is not None else "none")
