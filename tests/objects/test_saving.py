"""What is written of a converted model comes back: state dicts, files of earlier releases, and whole runs."""

import os
import subprocess
import sys

import citizens
import pytest
import torch
from citizens import CITIZENS, OPTIMIZERS, Mlp, ResNet, batch, citizen, equal, gradients, snapshot, train

import funcbio
from funcbio import BioConverter, load_checkpoint, save_checkpoint

every_model = pytest.mark.parametrize("name", CITIZENS)


@every_model
def test_state_dict_round_trip_through_weights_only_and_safetensors(name, tmp_path):
    from safetensors import torch as safetensors

    model = citizen(name)
    train(model, OPTIMIZERS["SGD"](model.parameters()), name, range(3))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    files = torch.load(tmp_path / "model.pt", weights_only=True), safetensors.load_file(tmp_path / "model.safetensors")
    for state in files:
        other = citizen(name, seed=1)
        assert not equal(snapshot(other), snapshot(model))
        other.load_state_dict(state)
        assert equal(snapshot(other), snapshot(model))


@every_model
def test_checkpoints_of_plain_models_load_into_converted_ones_and_back(name):
    plain, model = CITIZENS[name][0](), citizen(name)
    with pytest.warns(UserWarning, match="the signs of .* should be loaded with it; found none"):
        missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing == [n for n in model.state_dict() if ".bio_mod." in n]
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in plain.state_dict().items())
    other = CITIZENS[name][0]()
    missing, unexpected = other.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(".bio_mod." in n for n in unexpected)


@pytest.mark.parametrize("make", [Mlp, ResNet], ids=["mlp", "resnet"])
@pytest.mark.parametrize(
    "options",
    [{}, {"apply_dales_principle": True}, {"fuzzy_lr_distribution": "activity", "fuzzy_lr_dynamic": True}],
    ids=["default", "dale", "activity"],
)
def test_a_checkpoint_written_by_release_0_0_5_loads(make, options, tmp_path):
    release = pytest.importorskip("bio_transformations", reason="the release is a test dependency")
    earlier = release.bio_config.BioConfig(**options)
    if "fuzzy_lr_distribution" in options:
        earlier = earlier._replace(fuzzy_lr_distribution=release.bio_config.Distribution.ACTIVITY)
    name = make.__name__.lower()
    written = release.BioConverter(earlier)(make())
    gradients(written, name)
    written.fuzzy_learning_rates()
    written.crystallize()
    torch.optim.SGD([p for p in written.parameters() if p.requires_grad], lr=0.1).step()
    torch.save(written.state_dict(), tmp_path / "release.pt")
    model = BioConverter(**options)(make())
    state = torch.load(tmp_path / "release.pt", weights_only=True)
    model.load_state_dict(state)
    for n, t in model.state_dict().items():
        if n.endswith(("weight", "bias", "mean", "var", "parameters", "activation_count")):
            assert torch.equal(t, state[n].to(t.dtype)), n
    torch.testing.assert_close(model.eval()(batch(name)[0]), written.eval()(batch(name)[0]))
    if "apply_dales_principle" in options:
        model.enforce_dales_principle()
        for n, m in written.named_modules():
            if hasattr(m, "bio_mod") and n != "head":  # The release finds no read-out behind containers.
                m.bio_mod.enforce_dales_principle()
                assert torch.equal(model.get_parameter(f"{n}.weight"), m.weight)
    gradients(model.train(), name)
    model.volume_dependent_lr()
    model.crystallize()


def test_a_file_of_ours_that_lacks_a_key_is_not_taken_for_an_earlier_one():
    state = citizen("mlp").state_dict()
    del state["head.bio_mod.key"]
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.bio_mod\.key"):
        citizen("mlp").load_state_dict(state)


@pytest.mark.sampled(5)
@every_model
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_resumes_in_a_new_process_to_the_last_bit(name, kind, tmp_path):
    model = citizen(name)
    optimizer = OPTIMIZERS[kind](model.parameters())
    train(model, optimizer, name, range(20))
    path = tmp_path / "run.pt"
    save_checkpoint(path, model=model, optimizer=optimizer, step=20, rng=torch.get_rng_state())
    train(model, optimizer, name, range(20, 40))
    subprocess.run([sys.executable, citizens.__file__, path, name, kind], check=True, timeout=120)
    content = torch.load(path, weights_only=True)
    assert equal(content["model"], snapshot(model))
    assert content["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    for number, state in optimizer.state_dict()["state"].items():
        assert equal(content["optimizer"]["state"][number], state)


class Unwritable:
    pass


def unwritable(descriptor):
    raise RuntimeError("out of space")


def test_a_failed_save_leaves_the_previous_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_checkpoint(path, step=1)
    with pytest.raises(ValueError, match=r"bad should be .*; found test_saving\.Unwritable"):
        save_checkpoint(path, step=2, bad=Unwritable())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", unwritable)
        with pytest.raises(RuntimeError, match="out of space"):
            save_checkpoint(path, step=2)
    assert load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_process_killed_while_saving_leaves_the_previous_file_whole(tmp_path):
    code = (
        "import os, sys, torch, funcbio; path = sys.argv[1]; funcbio.save_checkpoint(path, step=1); "
        "os.fsync = lambda fd: os._exit(9); funcbio.save_checkpoint(path, step=2, big=torch.zeros(10**6))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "run.pt"], check=False).returncode == 9
    assert load_checkpoint(tmp_path / "run.pt") == {"step": 1}


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path):
    model, optimizer = citizen("mlp"), torch.optim.SGD([torch.ones(1)], lr=1.0)
    save_checkpoint(tmp_path / "run.pt", model=citizen("mlp", seed=1), optimizer=citizen("mlp", seed=2))
    before = snapshot(model)
    with pytest.raises(ValueError, match="optimizer should be an object like the one that was saved; found SGD"):
        load_checkpoint(tmp_path / "run.pt", model=model, optimizer=optimizer)
    assert equal(snapshot(model), before)
    with pytest.raises(KeyError, match="should hold a part 'scheduler'"):
        load_checkpoint(tmp_path / "run.pt", model=model, scheduler=optimizer)


def test_trees_come_back_in_their_own_structure(tmp_path):
    params = dict(Mlp().named_parameters())
    state = funcbio.init(params, key=funcbio.key(5))
    save_checkpoint(tmp_path / "run.pt", state=state, key=funcbio.key(3))
    parts = load_checkpoint(tmp_path / "run.pt", state=funcbio.init(params, key=funcbio.key(6)))
    assert equal(parts["state"].rate, state.rate)
    assert torch.equal(parts["key"], funcbio.key(3))
    with pytest.raises(ValueError, match="found a difference at"):
        load_checkpoint(tmp_path / "run.pt", state=state._replace(rate={"w": torch.ones(2)}))
