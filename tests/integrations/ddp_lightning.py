"""Two processes with different seeds train with the callback for Lightning; started by torchrun."""

import os
import sys

import lightning
import lightning_runs as runs
import torch

from funcbio.integrations.lightning import BioCallback


class Compare(lightning.Callback):
    def on_train_end(self, trainer, model):
        flat = torch.cat([value.double().flatten() for value in model.state_dict().values()])
        first, second = trainer.strategy.all_gather(flat)
        assert torch.equal(first, second)


if __name__ == "__main__":
    torch.manual_seed(int(os.environ.get("LOCAL_RANK", 0)))
    model, callback = runs.Classifier(), BioCallback(runs.MECHANISMS, config=runs.CONFIG)
    trainer = runs.trainer(sys.argv[1], callback, Compare(), devices=2, strategy="ddp")
    trainer.fit(model, runs.data(), runs.data())
    assert len(callback.handles) == 1
    assert callback.handles[0].steps == 3
    print("equal")
