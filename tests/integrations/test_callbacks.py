"""Callbacks: training with them is training with ``attach`` in a bare loop, to the last bit, also after a stop."""

import csv
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from conftest import run_doctest
from launching import launched
from torch import nn

from funcbio import BioConfig, BioConverter, Mechanism, attach, metrics, units
from funcbio.monitor import flatten
from funcbio.objects._survey import bio_modules


@pytest.fixture(scope="module")
def light():
    """Imported by the tests that need it only: it takes seconds."""
    return importlib.import_module("lightning_runs")


@pytest.fixture(scope="module")
def hugging():
    return importlib.import_module("transformers_runs")


def lightning_callback(light, mechanisms=None, **options):
    from funcbio.integrations.lightning import BioCallback

    return BioCallback(mechanisms or light.MECHANISMS, **{"config": light.CONFIG, "ages": True, **options})


def transformers_callback(hugging, **options):
    from funcbio.integrations.transformers import BioCallback

    return BioCallback(hugging.MECHANISMS, **{"config": hugging.CONFIG, "ages": True, **options})


def everything(model, handle):
    """What is saved of both; the table of units is data of the model's making, and no state."""
    state = {name: value for name, value in handle.state_dict().items() if name != "units"}
    return {"model": model.state_dict(), "handle": state}


# Both


def test_a_missing_package_gives_the_line_that_installs_it():
    code = """
import importlib, sys, funcbio
assert not [name for name in sys.modules if name.startswith("funcbio.integrations")]
sys.modules.update(dict.fromkeys(["lightning", "pytorch_lightning", "transformers"]))
for name in ("lightning", "transformers"):
    try:
        importlib.import_module(f"funcbio.integrations.{name}")
    except ImportError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name, line in zip(("lightning", "transformers"), said.splitlines(), strict=True):
        assert line.startswith(f"{name} should be installed, by pip install '.[{name}]' in funcbio's source; found ")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mechanisms": "crystallize"}, ValueError, "mechanisms should be a sequence"),
        ({"mechanisms": ["crystalize"]}, ValueError, "crystalize"),
        ({"mechanisms": [Mechanism("fuzzy_learning_rates", where="after")]}, ValueError, "where should be"),
        ({"config": {"fuzzy_lr_min": 0.1}}, ValueError, "config should be a BioConfig"),
        ({"converter": BioConfig()}, ValueError, "converter should be a BioConverter"),
        ({"config": BioConfig(), "converter": BioConverter()}, ValueError, "given without the other"),
        ({"ages": 1}, ValueError, "ages should be True or False; found 1"),
        ({"log_every": 0}, ValueError, "log_every should be an integer >= 1, or None; found 0"),
        ({"mechanisms": ["enforce_dales_principle"], "config": BioConfig()}, AttributeError, "apply_dales_principle"),
        ({"mechanisms": ["scale_grad"], "converter": BioConverter()}, RuntimeError, "activity"),
    ],
)
@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_a_wrong_argument_is_refused_when_it_is_given(name, options, error, message):
    module = importlib.import_module(f"funcbio.integrations.{name}")
    with pytest.raises(error, match=message):
        module.BioCallback(**{"mechanisms": ["crystallize"], **options})


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_their_examples_run(name):
    assert run_doctest(name, importlib.import_module(f"funcbio.integrations.{name}").BioCallback) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_replicas_stay_the_same(name, tmp_path):
    launched(Path(__file__).with_name(f"ddp_{name}.py"), str(tmp_path))


# Lightning


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")  # The first step is skipped.
@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, {}),
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
        ({"gradient_clip_val": 0.01}, {"clip": 0.01}),
        ({"precision": "bf16-mixed"}, {"dtype": torch.bfloat16}),
        ({"plugins": 2.0**22}, {"dtype": torch.float16, "scale": 2.0**22, "clip": 0.01}),
    ],
    ids=["plain", "accumulated", "clipped", "bfloat16", "float16, scaled and clipped"],
)
def test_lightning_is_the_bare_loop(light, tmp_path, options, same):
    if "plugins" in options:
        options = {"plugins": light.half_precision(options["plugins"]), "gradient_clip_val": same["clip"]}
    ours, bare, callback = light.module(), light.module(), lightning_callback(light)
    light.fit(tmp_path, ours, callback, max_epochs=2, **options)
    handle = light.bare_loop(bare, epochs=2, **same)
    (found,) = callback.handles
    assert not light.differing(everything(ours, found), everything(bare, handle))
    assert 0 < handle.steps < 12 or not {"scale", "accumulate"} & same.keys()  # Steps were skipped, but not all.
    assert all(torch.equal(age, handle.trees()[2].age[name]) for name, age in found.trees()[2].age.items())


def test_lightning_resumes_exactly(light, tmp_path):
    whole, callback = light.module(), lightning_callback(light)
    light.fit(tmp_path, whole, callback, light.Saver(tmp_path), max_epochs=2)
    resumed, again = light.module(seed=5), lightning_callback(light)
    light.fit(tmp_path, resumed, again, max_epochs=2, key=8, ckpt_path=tmp_path / "0.ckpt")
    assert again.handles[0].steps == 12
    assert not light.differing(everything(resumed, again.handles[0]), everything(whole, callback.handles[0]))
    # The same checkpoint in a plain module, with the callback and without.
    tested = light.module(seed=6)
    light.trainer(tmp_path, lightning_callback(light)).test(
        tested, light.data(), ckpt_path=tmp_path / "1.ckpt", weights_only=True, verbose=False
    )
    assert not light.differing(tested.state_dict(), whole.state_dict())
    with pytest.warns(UserWarning, match="not in the model state dict but in the checkpoint.*bio_mod"):
        plain = light.Classifier.load_from_checkpoint(tmp_path / "1.ckpt", strict=False, weights_only=True)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in plain.state_dict().items())


KEEPING = ["l2_init", Mechanism("prune_and_regrow", every=2), "rejuvenate_weights", "hare_and_tortoise"]
KEPT = BioConfig(density=0.5, l2_init_strength=0.1, hare_and_tortoise_every=3, rejuvenation_variant="swr")


def test_lightning_resumes_what_mechanisms_keep(light, tmp_path):
    options = {"config": KEPT, "newborn": "mean", "mechanisms": KEEPING}
    adam = lambda parameters: torch.optim.Adam(parameters, 0.05)
    whole, callback = light.module(make=adam), lightning_callback(light, **options)
    light.fit(tmp_path, whole, callback, light.Saver(tmp_path), max_epochs=2)
    assert "net.0.bio_kept_start_weight" in whole.state_dict()
    resumed, again = light.module(seed=5, make=adam), lightning_callback(light, **options)
    light.fit(tmp_path, resumed, again, max_epochs=2, key=8, ckpt_path=tmp_path / "0.ckpt")
    assert not light.differing(everything(resumed, again.handles[0]), everything(whole, callback.handles[0]))
    start = whole.state_dict()["net.0.bio_kept_start_bias"].clone()
    light.fit(tmp_path, whole, callback)  # It goes on from where the first fit began.
    assert torch.equal(whole.state_dict()["net.0.bio_kept_start_bias"], start)
    callback.remove()
    assert whole.state_dict().keys() == light.module().state_dict().keys()


ON_UNITS = ["redo", "continual_backprop", "regrama"]
OF_UNITS = BioConfig(
    redo_every=3,
    redo_threshold=0.9,
    continual_backprop_maturity=1,
    continual_backprop_replacement_rate=0.2,
    regrama_every=4,
    regrama_threshold=0.9,
)


def test_lightning_resumes_mechanisms_on_units(light, tmp_path):
    table = units(light.module().net, torch.ones(2, 6)).under("net")
    options = {"config": OF_UNITS, "newborn": "exact", "mechanisms": ON_UNITS, "units": table}
    adam = lambda parameters: torch.optim.Adam(parameters, 0.05)
    whole, callback = light.module(make=adam), lightning_callback(light, **options)
    light.fit(tmp_path, whole, callback, light.Saver(tmp_path), max_epochs=2)
    assert callback.handles[0].units == table
    assert "net.0.bio_kept_units_signal_weight" in whole.state_dict()
    resumed, again = light.module(seed=5, make=adam), lightning_callback(light, **options)
    light.fit(tmp_path, resumed, again, max_epochs=2, key=8, ckpt_path=tmp_path / "0.ckpt")
    assert not light.differing(everything(resumed, again.handles[0]), everything(whole, callback.handles[0]))
    callback.remove()
    assert whole.state_dict().keys() == light.module().state_dict().keys()
    assert not any(module._forward_pre_hooks for module in whole.modules())


def test_callbacks_need_a_table_for_mechanisms_on_units(light, tmp_path):
    with pytest.raises(ValueError, match="units should be given for redo"):
        light.fit(tmp_path, light.module(), lightning_callback(light, ["redo"]))


def test_lightning_with_several_optimizers(light, tmp_path):
    ours, bare, mechanisms = light.module(light.Halves), light.module(light.Halves), light.MECHANISMS[2:]
    callback = lightning_callback(light, mechanisms)
    trained = light.fit(tmp_path, ours, callback)
    optimizers = bare.configure_optimizers()
    torch.manual_seed(7)
    BioConverter(light.CONFIG)(bare)
    handles = [attach(optimizer, bare, mechanisms, ages=True) for optimizer in optimizers[:2]]
    for batch in light.data():
        bare.zero_grad()
        light.Classifier.training_step(bare, batch, 0).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert not light.differing(ours.state_dict(), bare.state_dict())
    for found, handle in zip(callback.handles, handles, strict=True):
        assert not light.differing(found.state_dict(), handle.state_dict())
    # Its checkpoint has the state of both, and does not go into a run with one.
    trained.save_checkpoint(tmp_path / "two.ckpt")
    again = lightning_callback(light, mechanisms)
    light.fit(tmp_path, light.module(light.Halves), again, key=8, max_epochs=2, ckpt_path=tmp_path / "two.ckpt")
    assert [handle.steps for handle in again.handles] == [12, 12]
    saved = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]["BioCallback"]
    other = light.module()
    alone = lightning_callback(light)
    alone._session.load_state_dict(saved)
    with pytest.raises(ValueError, match="one saved by this callback with 1 optimizers"):
        alone._session.attach(other, [light.SGD(other.parameters())], 0)
    assert not bio_modules(other)


def test_lightning_logs_in_every_so_many_steps(light, tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="run", version=0)
    model, callback = light.module(), lightning_callback(light, log_every=2)
    trained = light.fit(tmp_path, model, callback, logger=logger, log_every_n_steps=2)
    expected = flatten({"bio": metrics(*callback.handles[0].trees())})
    assert trained.logged_metrics.keys() == {*expected, "val_loss"}
    for name, value in expected.items():  # When the fit is over, the gradients are gone.
        found = trained.logged_metrics[name].item()
        assert found > 0.0 if name.endswith("grad_norm") else found == pytest.approx(value, nan_ok=True), name
    with open(tmp_path / "run" / "version_0" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["bio/all/rate_mean"]]
    assert [int(row["step"]) for row in rows] == [1, 3, 5]  # Lightning counts from 0.


def test_lightning_ends_clean_and_can_go_on(light, tmp_path):
    model, callback = light.module(), lightning_callback(light)
    plain = [*model.state_dict()]
    light.fit(tmp_path, model, callback)
    first = callback.handles[0]
    assert not first.attached
    rates = model.net[0].bio_mod.fuzzy_learning_rate_parameters
    light.fit(tmp_path, model, callback)
    assert model.net[0].bio_mod.fuzzy_learning_rate_parameters is rates
    assert callback.handles[0] is not first
    assert callback.handles[0].steps == 6
    callback.remove()
    assert [*model.state_dict()] == plain
    assert not callback.handles


def test_lightning_lets_go_when_training_fails(light, tmp_path):
    class Failing(light.Classifier):
        def on_train_batch_end(self, *_):
            raise ZeroDivisionError

    model, callback = light.module(Failing), lightning_callback(light)
    with pytest.raises(ZeroDivisionError):
        light.fit(tmp_path, model, callback)
    assert callback.handles[0].steps == 1
    handle = attach(light.SGD(model.parameters()), model, ["volume_dependent_lr"])  # Would be refused.
    assert handle.attached


def test_lightning_refuses_what_cannot_work(light, tmp_path):
    lbfgs = light.module(make=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="found LBFGS"):
        light.fit(tmp_path, lbfgs, lightning_callback(light))
    assert not bio_modules(lbfgs)
    sharded = SimpleNamespace(strategy=type("FSDPStrategy", (), {})())
    model = light.module()
    with pytest.raises(ValueError, match="strategy should be one that leaves weights in their shapes"):
        lightning_callback(light).setup(sharded, model, "fit")
    converted = BioConverter()(model)
    with pytest.raises(ValueError, match="config should be None for a converted model"):
        light.fit(tmp_path, converted, lightning_callback(light))
    light.fit(tmp_path, converted, lightning_callback(light, ["volume_dependent_lr"], config=None))


class Late:
    """Makes its layers when Lightning configures the model."""

    def __init__(self):
        super().__init__()
        del self.net

    def configure_model(self):
        self.net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def test_lightning_models_that_are_made_late(light, tmp_path):
    late, callback = light.module(type("AllLate", (Late, light.Classifier), {})), lightning_callback(light)
    light.fit(tmp_path, late, callback)
    assert len(bio_modules(late)) == 2
    assert callback.handles[0].steps == 6
    half = light.module(type("HalfLate", (Late, light.Classifier), {}))
    half.early = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"model should be whole before it is converted.*net\.0"):
        light.fit(tmp_path, half, lightning_callback(light))
    assert not bio_modules(half)


@pytest.mark.slow
def test_lightning_under_its_older_name():
    code = """
import sys, torch
sys.modules["lightning"] = None
import pytorch_lightning
from funcbio.integrations.lightning import BioCallback

class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)

    def training_step(self, batch, _):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

callback = BioCallback(["crystallize"])
assert isinstance(callback, pytorch_lightning.Callback)
options = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
trainer = pytorch_lightning.Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback], **options)
trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(6, 4), batch_size=2))
print("steps:", callback.handles[0].steps)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("steps: 3")


# Transformers


@pytest.mark.parametrize("same", [{}, {"accumulate": 2, "clip": 0.1}], ids=["plain", "accumulated and clipped"])
def test_transformers_is_the_bare_loop(light, hugging, tmp_path, same):
    ours, bare, callback = hugging.bert(), hugging.bert(), transformers_callback(hugging)
    trainer = hugging.trainer(tmp_path, ours, callback, **same)
    trainer.train()
    handle = hugging.bare_loop(bare, **same)
    (found,) = callback.handles
    assert found.optimizer is trainer.optimizer.optimizer
    assert not found.attached
    assert handle.steps == 6
    assert not light.differing(everything(ours, found), everything(bare, handle))


def test_transformers_resumes_what_mechanisms_keep(light, hugging, tmp_path):
    from funcbio.integrations.transformers import BioCallback

    whole, callback = hugging.bert(), BioCallback(KEEPING, config=KEPT, newborn="mean")
    hugging.trainer(tmp_path, whole, callback, save_strategy="steps", save_steps=3).train()
    model, again = hugging.bert(seed=5), BioCallback(KEEPING, config=KEPT, newborn="mean")
    hugging.trainer(tmp_path, model, again, seed=9).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert "bert.embeddings.word_embeddings.bio_kept_start_weight" in model.state_dict()
    assert not light.differing(everything(model, again.handles[0]), everything(whole, callback.handles[0]))


def test_transformers_resumes_mechanisms_on_units(light, hugging, tmp_path):
    from funcbio.integrations.transformers import BioCallback

    table = units(hugging.bert(), torch.randint(30, (2, 8)))
    assert table["bert.encoder.layer.0.intermediate.dense.weight"].replaceable.all()
    options = {"config": OF_UNITS, "newborn": "exact", "units": table}
    whole, callback = hugging.bert(), BioCallback(ON_UNITS, **options)
    hugging.trainer(tmp_path, whole, callback, save_strategy="steps", save_steps=3).train()
    model, again = hugging.bert(seed=5), BioCallback(ON_UNITS, **options)
    hugging.trainer(tmp_path, model, again, seed=9).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for (name, one), other in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        # Signals of keys, which are mixed, are nan.
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=name)


def test_transformers_resumes_exactly(light, hugging, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 3}
    whole, callback = hugging.bert(), transformers_callback(hugging)
    hugging.trainer(tmp_path / "run", whole, callback, **saving).train()

    def resume(folder, **options):
        model, again = hugging.bert(seed=5), transformers_callback(hugging, **options)
        hugging.trainer(tmp_path / "run", model, again, seed=9).train(resume_from_checkpoint=str(folder))
        assert not light.differing(everything(model, again.handles[0]), everything(whole, callback.handles[0]))

    resume(tmp_path / "run" / "checkpoint-3")
    moved = shutil.move(tmp_path / "run" / "checkpoint-3", tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="resume_from should be the folder of a checkpoint"):
        resume(moved)
    resume(moved, resume_from=moved)
    other = tmp_path / "run" / "checkpoint-6"
    with pytest.raises(ValueError, match="model should have been loaded from the checkpoint of"):
        resume(moved, resume_from=other)
    # Who comes after the trainer was made converts too late to resume, but can train.
    late = hugging.trainer(tmp_path / "late", hugging.bert())
    late.add_callback(transformers_callback(hugging, resume_from=moved))
    with pytest.raises(ValueError, match="give the callback, or a converted model, to the Trainer itself"):
        late.train(resume_from_checkpoint=str(moved))
    later = hugging.trainer(tmp_path / "late", hugging.bert())
    later.add_callback(callback := transformers_callback(hugging))
    later.train()
    assert callback.handles[0].steps == 6


def test_transformers_logs(hugging, tmp_path):
    callback = transformers_callback(hugging, log_every=2)
    trainer = hugging.trainer(tmp_path, hugging.bert(), callback)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "bio/all/rate_mean" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 6]
    assert all(entry["bio/all/grad_norm"] > 0.0 for entry in logged)

    callback = transformers_callback(hugging, log_every=3)
    trainer = hugging.trainer(tmp_path, hugging.bert(), callback)
    callback.log = trainer.log
    with mock.patch.object(trainer.callback_handler, "on_log", wraps=trainer.callback_handler.on_log) as on_log:
        trainer.train()
    heard = [call.args[3] for call in on_log.call_args_list if "bio/all/rate_mean" in call.args[3]]
    assert len(heard) == 2
    with pytest.raises(ValueError, match="log should be a function"):
        transformers_callback(hugging, log="tensorboard")
    with pytest.raises(ValueError, match="resume_from should be a folder, or None; found True"):
        transformers_callback(hugging, resume_from=True)


def test_transformers_models_load_as_plain_ones(hugging, tmp_path):
    model, callback = hugging.bert(), transformers_callback(hugging)
    trainer = hugging.trainer(tmp_path / "run", model, callback)
    trainer.train()
    trainer.save_model(tmp_path / "bio")
    weights = dict(model.named_parameters())
    loaded, info = type(model).from_pretrained(tmp_path / "bio", output_loading_info=True)
    assert info["unexpected_keys"]
    assert all(".bio_mod." in name for name in info["unexpected_keys"])
    assert all(torch.equal(value, weights[name]) for name, value in loaded.named_parameters())
    callback.remove()
    trainer.save_model(tmp_path / "plain")
    loaded, info = type(model).from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    assert all(torch.equal(value, weights[name]) for name, value in loaded.named_parameters())


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_transformers_refuses_sharding(hugging, name):
    arguments = SimpleNamespace(**{"fsdp": False, "deepspeed": None, name: "on"})
    with pytest.raises(ValueError, match=f"{name} should be off"):
        transformers_callback(hugging).on_init_end(arguments, None, None, model=hugging.bert())
