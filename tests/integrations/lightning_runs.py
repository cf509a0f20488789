"""Runs of a small model with Lightning, and the same in a bare loop."""

import contextlib
import itertools

import lightning
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from funcbio import BioConfig, Mechanism, attach

CONFIG = BioConfig(crystal_thresh=1e-2, rejuvenation_parameter_dre=4.0, fuzzy_lr_distribution="lognormal")
# The first two see the gradient, the third the update, the last the new weights.
MECHANISMS = ["crystallize", Mechanism("volume_dependent_lr", where="gradient"), "fuzzy_learning_rates"]
MECHANISMS += [Mechanism("rejuvenate_weights", every=2)]
SGD = lambda parameters: torch.optim.SGD(parameters, 0.5, momentum=0.9)


class Classifier(lightning.LightningModule):
    def __init__(self, make=SGD):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
        self.make = make

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self):
        optimizer = self.make(self.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Halves(Classifier):
    """Two optimizers, each for one layer, stepped by hand; a third has nothing to do with synapses."""

    automatic_optimization = False

    def training_step(self, batch, index):
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, index))
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self):
        layers = [self.net[0].weight, self.net[2].weight, self.net[2].bias]
        return [torch.optim.Adam([parameter], 0.1) for parameter in layers]


class Saver(lightning.Callback):
    """Writes a checkpoint at the end of every epoch, and has no state that Lightning would miss."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, _):
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")


def module(kind=Classifier, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**options)


def data():
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(48, 6, generator=generator), torch.randint(3, (48,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=8)


def trainer(folder, *callbacks, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "log_every_n_steps": 1}
    options = {"max_epochs": 1, "enable_checkpointing": False, **quiet, **options}
    return lightning.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=[*callbacks], **options)


def fit(folder, model, *callbacks, key=7, **options):
    """Trains; the conversion takes the seed that is set here."""
    checkpoint, found = options.pop("ckpt_path", None), trainer(folder, *callbacks, **options)
    torch.manual_seed(key)
    found.fit(model, data(), data(), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return found


def half_precision(scale):
    """Float16 on the CPU, which Lightning's own option does not give, with a scaler that may overflow at first."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def bare_loop(model, *, accumulate=1, clip=None, dtype=None, scale=None, epochs=1):
    """What Lightning does, written out."""
    found = model.configure_optimizers()
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    torch.manual_seed(7)
    handle = attach(optimizer, model, MECHANISMS, config=CONFIG, ages=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    half = contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype, cache_enabled=False)
    for number, batch in enumerate(itertools.chain(*[data()] * epochs)):
        if number % accumulate == 0:
            optimizer.zero_grad()
        with half:
            loss = model.training_step(batch, number)
        scaler.scale(loss / accumulate).backward()
        if (number + 1) % accumulate == 0:
            scaler.unscale_(optimizer)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
    return handle


def differing(one, other):
    """Names of what two nested state dictionaries do not share to the last bit."""
    left, right = _flat(one), _flat(other)
    return [n for n in {*left, *right} if n not in left or n not in right or not torch.equal(left[n], right[n])]


def _flat(state, path=""):
    if isinstance(state, dict):
        return {k: v for name, item in state.items() for k, v in _flat(item, f"{path}/{name}").items()}
    return {path: torch.as_tensor(state)}
