"""Callbacks that copy the model: averages follow the converted one in any order, other copies are refused."""

import copy
import importlib

import pytest
import torch
from test_callbacks import lightning_callback
from torch import nn
from torch.optim.swa_utils import AveragedModel

from funcbio.objects._survey import bio_modules


@pytest.fixture(scope="module")
def light():
    return importlib.import_module("lightning_runs")


def module(light, seed=0):
    """Two units before the norm: its statistics have the shape of a key."""
    made = light.module(seed=seed)
    made.net.insert(1, nn.Linear(12, 2))
    made.net.insert(2, nn.BatchNorm1d(2))
    made.net[4] = nn.Linear(2, 3)
    return made


def averaging(_, when="setup", model=None):
    import lightning

    class Averaging(lightning.Callback):
        def __init__(self):
            self.average = model and AveragedModel(model, use_buffers=True)

        def on_train_batch_end(self, _, pl_module, *__):
            self.average.update_parameters(pl_module)

    class MadeInSetup(Averaging):
        def setup(self, _, pl_module, **__):
            self.average = AveragedModel(pl_module, use_buffers=True)

    return Averaging() if when == "init" else MadeInSetup()


def of_lightning(*_):
    callbacks = importlib.import_module("lightning.pytorch.callbacks")
    return callbacks.EMAWeightAveraging(decay=0.5)


AVERAGES = {
    "made in setup": averaging,
    "made at once": lambda light, model: averaging(light, "init", model),
    "of Lightning": of_lightning,
}


def run(light, folder, make, *, first, seed=0, **options):
    model, callback = module(light, seed), lightning_callback(light)
    average = make(light, model) if make is AVERAGES["made at once"] else make(light)
    both = [average, callback] if first else [callback, average]
    light.fit(folder, model, *both, light.Saver(folder), max_epochs=2, **options)
    return model, callback, average


@pytest.mark.parametrize("kind", AVERAGES)
def test_the_order_of_averages_and_mechanisms_does_not_matter(light, tmp_path, kind):
    (tmp_path / "first").mkdir()
    late, callback, average = run(light, tmp_path, AVERAGES[kind], first=False)
    early, again, other = run(light, tmp_path / "first", AVERAGES[kind], first=True)
    assert not light.differing(late.state_dict(), early.state_dict())
    assert not light.differing(callback.handles[0].state_dict(), again.handles[0].state_dict())
    assert callback.handles[0].steps == 12
    names = [name for name in vars(average) if isinstance(vars(average)[name], AveragedModel)]
    for name in names:
        one, two = vars(average)[name], vars(other)[name]
        assert bio_modules(one)
        assert not light.differing(one.state_dict(), two.state_dict())
        norm = one.module.net[2]
        assert int(norm.num_batches_tracked) > 0
        assert bool((norm.running_var > 0).all())  # No counter was mixed into it.
    assert names


@pytest.mark.parametrize("first", [True, False])
def test_a_run_with_an_average_resumes_exactly(light, tmp_path, first):
    whole, callback, _ = run(light, tmp_path, of_lightning, first=first)
    (tmp_path / "again").mkdir()
    (tmp_path / "0.ckpt").rename(tmp_path / "half.ckpt")
    resumed, again, _ = run(
        light, tmp_path / "again", of_lightning, first=first, seed=5, key=8, ckpt_path=tmp_path / "half.ckpt"
    )
    assert not light.differing(resumed.state_dict(), whole.state_dict())
    assert not light.differing(again.handles[0].state_dict(), callback.handles[0].state_dict())
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert any("bio_mod" in name for name in saved["state_dict"])


def test_other_copies_made_before_are_refused_and_after_are_fine(light, tmp_path):
    import lightning
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    class Copying(lightning.Callback):
        def setup(self, _, pl_module, **__):
            self.copy = copy.deepcopy(pl_module)

        def on_train_batch_end(self, _, pl_module, *__):
            for own, new in zip(self.copy.state_dict().values(), pl_module.state_dict().values(), strict=True):
                own.copy_(new)

    for make in (Copying, lambda: StochasticWeightAveraging(0.1)):
        model = module(light)
        with pytest.raises(
            ValueError, match=r"callbacks should list BioCallback before (Copying|Stoch).*; found a copy"
        ):
            light.fit(tmp_path, model, make(), lightning_callback(light))
        assert not bio_modules(model)
    light.fit(tmp_path, model, lightning_callback(light), Copying())
    assert bio_modules(model)


def test_an_average_of_other_numbers_is_refused(light, tmp_path):
    model = module(light)
    callback = averaging(light, "init", model)
    with torch.no_grad():
        callback.average.module.net[0].weight.add_(1.0)
    with pytest.raises(ValueError, match="list BioCallback before Averaging"):
        light.fit(tmp_path, model, lightning_callback(light), callback)


def test_callbacks_and_other_models_are_left_alone(light, tmp_path):
    import lightning

    class Teacher(lightning.Callback):
        def __init__(self):
            self.teacher, self.nothing, self.empty = nn.Linear(3, 2), None, nn.Sequential()

    callback, average = lightning_callback(light), averaging(light)
    light.fit(tmp_path, module(light), callback, average)
    teacher = Teacher()
    # The callbacks have been used: the average is an old one, and a new one is about to be made.
    light.fit(tmp_path, module(light, 1), teacher, lightning_callback(light), average)
    assert not bio_modules(teacher.teacher)
    assert bio_modules(average.average)
