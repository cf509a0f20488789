"""What a converted model can still do: everything that a plain one can."""

import contextlib
import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from citizens import (
    CITIZENS,
    EVERYTHING,
    OPTIMIZERS,
    BioMlp,
    Child,
    Decorated,
    DecoratedChild,
    ForgetfulConfig,
    Mlp,
    Recurrent,
    ResNet,
    Transformer,
    batch,
    bio_mods,
    citizen,
    equal,
    forget,
    forgetful,
    gradients,
    mechanisms,
    snapshot,
    train,
    used,
)
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F
from torch.nn.utils import prune

import funcbio
from funcbio import BioConverter, BioModule, IdleWarning, load_checkpoint, save_checkpoint

HERE = Path(__file__).parent
METHODS = [*BioModule.exposed_functions]
every_model = pytest.mark.parametrize("name", CITIZENS)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


DUPLICATE = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}


# Copies


@every_model
@pytest.mark.parametrize("duplicate", DUPLICATE)
@pytest.mark.parametrize("method", METHODS)
def test_a_copy_acts_alike_and_on_itself_alone(name, duplicate, method):
    model = citizen(name)
    gradients(model, name)
    twin = DUPLICATE[duplicate](model)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.grad = None if p.grad is None else p.grad.clone()  # Torch itself copies no gradients.
    before = snapshot(model), [g.clone() for g in grads_of(model)]
    getattr(twin, method)()
    assert equal(snapshot(model), before[0])
    assert all(torch.equal(g, h) for g, h in zip(grads_of(model), before[1], strict=True))
    getattr(model, method)()
    assert equal(snapshot(model), snapshot(twin))
    assert all(torch.equal(g, h) for g, h in zip(grads_of(model), grads_of(twin), strict=True))


def grads_of(model):
    return [p.grad for p in model.parameters() if p.grad is not None]


@every_model
def test_a_copy_counts_its_own_activity(name):
    model = citizen(name).eval()
    twin = copy.deepcopy(model)
    twin(batch(name)[0])
    assert not any(bio.activation_count.any() for bio in bio_mods(model) if bio.records_activity)
    assert any(bio.activation_count.any() for bio in bio_mods(twin) if bio.records_activity)


# Converted classes


@pytest.mark.parametrize("cls", [BioMlp, Decorated, Child, DecoratedChild])
def test_instances_of_converted_classes_come_through_pickle(cls):
    instance = cls()
    twin = pickled(instance)
    assert type(twin) is cls
    assert equal(snapshot(instance), snapshot(twin))
    assert pickled(cls) is cls


def test_instances_of_converted_classes_come_into_a_spawned_process():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for cls, layers in ((BioMlp, 3), (Decorated, 2), (Child, 4), (DecoratedChild, 2)):
            instance = cls()
            here = used(pickle.dumps(instance))
            there = pool.submit(used, pickle.dumps(instance)).result()
            assert here[:2] == there[:2] == (True, layers)
            assert equal(here[2], there[2])


def test_a_converted_class_keeps_the_configuration_of_its_conversion():
    converter = BioConverter(dampening_factor=0.5)
    bio_class = converter(Mlp)
    converter.update_config(dampening_factor=0.9)
    assert bio_mods(bio_class())[0].config.dampening_factor == 0.5
    assert converter(Mlp) is not bio_class


# Files


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
    subprocess.run([sys.executable, HERE / "citizens.py", path, name, kind], check=True, timeout=120)
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
    with pytest.raises(ValueError, match=r"bad should be .*; found test_promises\.Unwritable"):
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


# Types, devices, modes


@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_trains_in_every_floating_type(name, dtype):
    model = citizen(name).to(dtype)
    x, y = batch(name)
    x = x.to(dtype) if x.is_floating_point() else x
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x).float(), y).backward()
        mechanisms(model, step)
        optimizer.step()
    for n, t in model.state_dict().items():
        counts = n.endswith(("key", "updates", "activation_count", "observations", "num_batches_tracked"))
        assert t.dtype == (t.dtype if counts else dtype)
        assert not t.is_floating_point() or bool(t.isfinite().all()), n
    assert all(p.grad.dtype == dtype for p in model.parameters() if p.grad is not None)


def test_half_bfloat16_and_double_leave_keys_and_counts_whole():
    model = citizen("mlp")
    before = snapshot(model)
    model.half().bfloat16().double()
    for n, t in model.state_dict().items():
        assert n.endswith(("weight", "bias", "parameters", "sign")) or torch.equal(t, before[n])


def test_a_model_moves_to_another_device_and_its_methods_follow():
    model = citizen("resnet").to("meta")
    assert all(t.device.type == "meta" for t in model.state_dict().values())
    back = model.to_empty(device="cpu")
    back.load_state_dict(citizen("resnet").state_dict())
    gradients(back, "resnet")
    mechanisms(back)


@every_model
def test_evaluation_mode_changes_no_rate_and_training_mode_comes_back(name):
    model = citizen(name).eval()
    assert not any(m.training for m in model.modules())
    rates = [bio.fuzzy_learning_rate_parameters.clone() for bio in bio_mods(model)]
    model(batch(name)[0])
    assert all(torch.equal(r, b.fuzzy_learning_rate_parameters) for r, b in zip(rates, bio_mods(model), strict=True))
    assert all(m.training for m in model.train().modules())


@every_model
def test_layers_frozen_and_thawed_are_passed_over_and_taken_up_again(name):
    model = citizen(name, fuzzy_lr_distribution="uniform", crystal_thresh=0.01)
    first = bio_mods(model)[0]
    first.weight.requires_grad_(False)
    gradients(model, name)
    rates = first.fuzzy_learning_rate_parameters.clone()
    model.crystallize()
    assert torch.equal(first.fuzzy_learning_rate_parameters, rates)
    with pytest.raises(RuntimeError, match="Weights do not require gradients"):
        first.crystallize()
    first.weight.requires_grad_(True)
    gradients(model, name)
    model.crystallize()
    assert not torch.equal(first.fuzzy_learning_rate_parameters, rates)


# Surgery after conversion


def test_a_weight_replaced_by_one_of_its_shape_is_taken_up():
    model = citizen("mlp")
    model.head.weight = nn.Parameter(torch.randn(4, 8))
    gradients(model, "mlp")
    grad = model.head.weight.grad.clone()
    model.fuzzy_learning_rates()
    assert torch.equal(model.head.weight.grad, grad * model.head.bio_mod.fuzzy_learning_rate_parameters)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "l1_reg"])
def test_a_weight_of_another_shape_is_refused_before_anything_changes(method):
    model = citizen("mlp")
    model.head.weight = nn.Parameter(torch.randn(5, 8))
    model.head.bias = nn.Parameter(torch.zeros(5))
    with pytest.raises(RuntimeError, match=r"head\.weight should have the shape"):
        model(batch("mlp")[0])
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before, grads = snapshot(model), [p.grad.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"head\.weight should have the shape \(4, 8\).*found \(5, 8\)"):
        getattr(model, method)()
    assert equal(snapshot(model), before)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))


def test_weights_tied_after_conversion_are_treated_once():
    model = BioConverter(fuzzy_lr_distribution="lognormal")(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)))
    model[2].weight = model[0].weight
    model(torch.randn(3, 6)).sum().backward()
    grad = model[0].weight.grad.clone()
    model.fuzzy_learning_rates()
    assert torch.equal(model[0].weight.grad, grad * model[0].bio_mod.fuzzy_learning_rate_parameters)


def test_layers_added_after_conversion_are_named_in_a_warning_and_left_plain():
    model = citizen("mlp")
    model.head = nn.Linear(8, 4)
    gradients(model, "mlp")
    grad = model.head.weight.grad.clone()
    with pytest.warns(UserWarning, match="found head, added or replaced since: convert the model again"):
        model.fuzzy_learning_rates()
    assert torch.equal(model.head.weight.grad, grad)
    state = model.state_dict()
    with pytest.warns(UserWarning, match=r"the signs of head\.weight should be loaded with it"):
        BioConverter(**EVERYTHING)(model).load_state_dict(state, strict=False)
    gradients(model, "mlp")
    model.fuzzy_learning_rates()


def test_layers_left_out_on_purpose_bring_no_warning():
    model = citizen("mlp", synapses="body.*", fuzzy_lr_distribution="uniform")
    gradients(model, "mlp")
    model.fuzzy_learning_rates()
    assert not hasattr(model.head, "bio_mod")


# Classic training


def test_data_parallel_trains_the_converted_model():
    model = citizen("resnet")
    parallel = nn.DataParallel(model)
    x, y = batch("resnet")
    F.cross_entropy(parallel(x), y).backward()
    mechanisms(parallel.module)


@every_model
def test_gradients_accumulate_and_clip_around_the_methods(name):
    model, whole = citizen(name, fuzzy_lr_distribution="uniform"), citizen(name, fuzzy_lr_distribution="uniform")
    if name in ("resnet", "transformer"):  # Batch statistics and dropout differ between halves and whole.
        model.eval(), whole.eval()
    x, y = batch(name)
    for half in (slice(0, 3), slice(3, 6)):
        (F.cross_entropy(model(x[half]), y[half]) / 2).backward()
    F.cross_entropy(whole(x), y).backward()
    for m in (model, whole):
        m.volume_dependent_lr()
        m.fuzzy_learning_rates()
        m.crystallize()
        norm = torch.nn.utils.clip_grad_norm_(m.parameters(), 1e-3)
        assert norm > 1e-3
    for p, q in zip(model.parameters(), whole.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


@contextlib.contextmanager
def without_one_dnn():
    """On some processors oneDNN refuses an LSTM in bfloat16 that torch's own code computes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # Torch's own: it sets every flag that oneDNN has.
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@every_model
@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_step_that_the_scaler_skips_advances_nothing(name, broken):
    model = citizen(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    x, y = batch(name)

    def step(poison):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16), without_one_dnn():
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        if poison:
            model.head.bias.grad[0] = broken
        scaler.unscale_(optimizer)
        before = snapshot(model)
        mechanisms(model)
        model.rejuvenate_weights_old()
        scaler.step(optimizer)
        scaler.update()
        return equal(before, snapshot(model))

    assert not step(poison=False)
    assert step(poison=True)
    assert not step(poison=False)


def test_a_gradient_that_is_large_but_finite_is_no_overflow():
    model = citizen("mlp", fuzzy_lr_distribution="baseline")
    gradients(model, "mlp")
    for p in model.parameters():
        p.grad.fill_(3e38)
    rates = model.l1_reg()
    model.crystallize()
    assert model.l1_reg() < rates


def test_weights_that_are_not_finite_are_healed_although_their_gradients_are_not_either():
    model = citizen("mlp")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    gradients(model, "mlp")
    replaced = model.rejuvenate_weights()
    assert replaced["head.weight"][0, 0]
    assert all(p.isfinite().all() for p in model.parameters())


# Functional use, tracing


@every_model
def test_functional_call_counts_in_the_buffers_it_is_given(name):
    model = citizen(name).eval()
    params = {n: p.detach() for n, p in model.named_parameters()}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    output = functional_call(model, {**params, **buffers}, (batch(name)[0],))
    assert not any(b.any() for n, b in model.named_buffers() if n.endswith("activation_count"))
    assert any(b.any() for n, b in buffers.items() if n.endswith("activation_count"))
    torch.testing.assert_close(output, model(batch(name)[0]))


@every_model
def test_an_ensemble_of_converted_models_runs_as_one(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own: no batching rule for the fused LSTM.
        models = [citizen(name, seed).eval() for seed in range(3)]
        params, buffers = stack_module_state(models)
        base = copy.deepcopy(models[0]).to("meta")
        params = {n: p.detach() for n, p in params.items()}
        x = batch(name)[0]

        def loss(p, b):
            output = functional_call(base, {**p, **b}, (x,))
            return output.sum(), output

        stacked = torch.vmap(torch.func.grad(loss, has_aux=True))(params, buffers)[1]
        for index, model in enumerate(models):
            torch.testing.assert_close(stacked[index], model(x))
            for n, b in model.named_buffers():
                if n.endswith("activation_count"):
                    assert torch.equal(buffers[n][index], b)


@every_model
@pytest.mark.slow
def test_a_compiled_model_runs_as_one_graph_without_recompiling(name):
    model, eager = citizen(name).eval(), citizen(name).eval()
    compiled = torch.compile(model, fullgraph=True)
    # Torch compiles recurrent layers only when asked to.
    with torch._dynamo.config.patch(error_on_recompile=True, allow_rnn=True):
        for step in range(3):
            torch.testing.assert_close(
                compiled(batch(name, step)[0]), eager(batch(name, step)[0]), rtol=1e-4, atol=1e-5
            )
    for mine, theirs in zip(bio_mods(model), bio_mods(eager), strict=True):
        if mine.records_activity:
            assert (mine.activation_count - theirs.activation_count).abs().max() <= 1


@pytest.mark.slow
def test_a_functional_training_step_compiles_as_one_graph_without_recompiling():
    model, (x, y) = Mlp(), batch("mlp")
    bio = funcbio.bind(model)
    params = {n: p.detach() for n, p in model.named_parameters()}
    state = bio.init(params, key=funcbio.key(0))
    chain = funcbio.chain(bio.volume_dependent_lr, bio.fuzzy_learning_rates, bio.crystallize)

    def train_step(params, state, number):
        loss = lambda p: F.cross_entropy(functional_call(model, p, (x,)), y)
        key = funcbio.fold_in(funcbio.key(1), number)
        params, grads, state = chain(params, torch.func.grad(loss)(params), state, key=key)
        return {n: p - 0.1 * grads[n] for n, p in params.items()}, state

    compiled = torch.compile(train_step, fullgraph=True)
    for number in range(3):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            got, _ = compiled(params, state, torch.tensor(number))
        params, state = train_step(params, state, torch.tensor(number))
        for n in params:
            torch.testing.assert_close(got[n], params[n], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_methods_of_a_model_compile_as_one_graph_without_recompiling():
    model, eager = (citizen("mlp", fuzzy_lr_distribution="temporal", record_activity=True) for _ in range(2))

    @torch.compile(fullgraph=True)
    def step():
        model.volume_dependent_lr()
        model.fuzzy_learning_rates()
        model.crystallize()
        model.scale_grad()
        model.update_fuzzy_learning_rates()
        model.rejuvenate_weights()
        model.enforce_dales_principle()

    for number in range(3):
        for m in (model, eager):
            m.zero_grad()
            gradients(m, "mlp", number)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            step()
        for method in ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "scale_grad"):
            getattr(eager, method)()
        eager.update_fuzzy_learning_rates()
        eager.rejuvenate_weights()
        eager.enforce_dales_principle()
        for n, t in model.state_dict().items():
            torch.testing.assert_close(t, eager.state_dict()[n], rtol=1e-4, atol=1e-5)
        eager.load_state_dict(model.state_dict())


@every_model
def test_a_converted_model_exports(name):
    model = citizen(name).eval()
    if name == "recurrent":
        model = citizen("recurrent", synapses=["mix.weight", "head.weight"]).eval()
    x = batch(name)[0]
    expected = copy.deepcopy(model)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own: recurrent layers keep a list of their weights.
        program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), expected)


def test_a_converted_model_traces_with_the_deprecated_jit():
    model = citizen("mlp", record_activity=False, fuzzy_lr_distribution="uniform").eval()
    x = batch("mlp")[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")  # Deprecated, by one category or another.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # A trace holds for shapes like the example's.
        traced = torch.jit.trace(model, (x,))
    torch.testing.assert_close(traced(x), model(x))


# Every kind of layer

CONVOLUTIONS = {
    "Conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 7)),
    "Conv2d": (nn.Conv2d(4, 6, 3), (2, 4, 7, 7)),
    "Conv3d": (nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3), (2, 4, 7)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3), (2, 4, 7, 7)),
    "ConvTranspose3d": (nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (2, 4, 7, 7)),
    "grouped transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 7, 7)),
    "depthwise transposed": (nn.ConvTranspose1d(4, 8, 3, groups=4), (2, 4, 7)),
    "without batch": (nn.Conv2d(4, 6, 3), (4, 7, 7)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_every_convolution_splits_counts_and_keeps_dales_principle(kind):
    layer, shape = CONVOLUTIONS[kind]
    plain = copy.deepcopy(layer)
    model = BioConverter(**EVERYTHING)(copy.deepcopy(layer))
    plain.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(shape)
    units = 1 if len(shape) == plain.weight.ndim else 0
    whole = plain(x).unflatten(units, (-1, 2)).sum(units + 1).repeat_interleave(2, units)
    torch.testing.assert_close(model(x), whole)
    others = [d for d in range(len(shape)) if d != units]
    assert torch.equal(model.bio_mod.activation_count, (plain(x).abs() > 0.01).sum(others))
    model(x).square().sum().backward()
    for step in range(3):
        mechanisms(model, step)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.enforce_dales_principle()
    # What one input channel sends out has one sign.
    silent = torch.zeros(shape[units] if units else shape[0])
    for channel in range(len(silent)):
        one = torch.zeros(shape).index_fill_(units, torch.tensor([channel]), 1.0)
        with torch.no_grad():
            plain.load_state_dict(model.state_dict(), strict=False)
            sent = plain(one) - plain(torch.zeros(shape))
        assert (sent >= -1e-6).all() or (sent <= 1e-6).all()


RECURRENT = [f"{layer}.weight_{part}_l0" for layer in ("gru", "lstm") for part in ("ih", "hh")]


@pytest.mark.parametrize(
    ("name", "choice", "expected"),
    [
        ("recurrent", ["gru.weight_*", "lstm.weight_*", "head.weight"], [*RECURRENT, "head.weight"]),
        ("recurrent", lambda name, module: isinstance(module, nn.RNNBase), RECURRENT),
        ("transformer", "*.in_proj_weight", [f"encoder.layers.{i}.self_attn.in_proj_weight" for i in (0, 1)]),
        ("transformer", ["embed.weight", "head.weight"], ["embed.weight", "head.weight"]),
        (
            "resnet",
            lambda name, module: module.kernel_size == (3, 3) if hasattr(module, "kernel_size") else False,
            None,
        ),
    ],
)
def test_a_choice_of_synapses_trains_and_saves(name, choice, expected):
    shows_none = expected is not None and all("head" not in part for part in expected)

    def told():
        match = "fuzzy_lr_distribution='activity' should"
        return pytest.warns(IdleWarning, match=match) if shows_none else contextlib.nullcontext()

    with told():
        model = citizen(name, synapses=choice, weight_splitting_Gamma=0)
    chosen = [bio.synapse.weight for bio in bio_mods(model)]
    assert chosen == expected or expected is None
    assert list(funcbio.synapses(model, choice)) == chosen
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    gradients(model, name)
    changed = snapshot(model)
    for method in ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "rejuvenate_weights"):
        getattr(model, method)()
    model.enforce_dales_principle()
    optimizer.step()
    assert all(not torch.equal(changed[n], model.get_parameter(n)) for n in chosen)
    twin = pickled(model)
    assert equal(snapshot(twin), snapshot(model))
    with told():
        other = citizen(name, seed=5, synapses=choice, weight_splitting_Gamma=0)
    other.load_state_dict(model.state_dict())
    assert equal(snapshot(other), snapshot(model))


def test_norms_and_biases_are_never_synapses():
    for make in (Mlp, ResNet, Transformer, Recurrent):
        described = funcbio.synapses(make(), "*")
        assert not any("norm" in n or "bias" in n or "bn" in n for n in described)


def test_the_functional_side_takes_the_same_choice():
    model = Recurrent()
    params = {n: p.detach() for n, p in model.named_parameters()}
    bio = funcbio.bind(model, funcbio.BioConfig(record_activity=True), synapses="*")
    state = bio.init(params, key=funcbio.key(0))
    assert state.rate["gru.weight_hh_l0"].shape == params["gru.weight_hh_l0"].shape
    _, activity = funcbio.observe(model, synapses="*")(params, batch("recurrent")[0])
    assert {n: a.shape for n, a in activity.items()} == {n: a.shape for n, a in state.activity.items()}


@pytest.mark.parametrize("eval_mode", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_output_projection_of_attention_is_split_and_counted(eval_mode, batch_first):
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    plain = copy.deepcopy(attention)
    model = BioConverter(record_activity=True, weight_splitting_Gamma=2)(nn.Sequential(attention, nn.Linear(8, 2)))
    attention.train(not eval_mode)
    plain.train(not eval_mode)
    x = torch.randn(3, 5, 8)
    expected = plain(x, x, x)
    output = attention(x, x, x)
    torch.testing.assert_close(output[0], expected[0].unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1))
    torch.testing.assert_close(output[1], expected[1])
    count = (expected[0].abs() > 0.01).sum((0, 1))
    assert torch.equal(model[0].out_proj.bio_mod.activation_count, count)


def test_the_padding_row_of_an_embedding_stays_zero():
    model = citizen("transformer", synapses="*", weight_splitting_Gamma=0)
    train(model, OPTIMIZERS["Adam"](model.parameters()), "transformer", range(6))
    assert not model.embed.weight[0].any()
    assert not model.rejuvenate_weights()["embed.weight"][0].any()


def test_sparse_gradients_are_refused_before_anything_changes():
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2))
    BioConverter(synapses="*")(model)
    model(torch.tensor([1, 2])).sum().backward()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match=r"gradient of 0\.weight should be dense"):
        model.volume_dependent_lr()
    assert equal(snapshot(model), before)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("fc*", r"should match parameters \(body\.0\.weight, .*found no match for 'fc\*'"),
        (lambda name, module: False, "a parameter that synapses chooses"),
    ],
)
def test_a_choice_that_chooses_nothing_is_refused(choice, message):
    model = Mlp()
    with pytest.raises(ValueError, match=message):
        BioConverter(synapses=choice)(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())


COMPUTED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_from_others_is_refused_and_can_be_left_out(kind):
    model = Mlp()
    COMPUTED[kind](model.body[0])
    with pytest.raises(ValueError, match=r"the weight of layer 'body\.0' should be a parameter"):
        BioConverter()(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())
    BioConverter(synapses=lambda name, module: name in ("body.2.weight", "head.weight"))(model)
    gradients(model, "mlp")
    model.crystallize()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_weights_that_are_no_real_numbers_are_refused(dtype):
    model = Mlp()
    model.head.weight = nn.Parameter(model.head.weight.detach().to(dtype), requires_grad=False)
    with pytest.raises(ValueError, match=rf"head\.weight should hold real floating-point numbers.*found {dtype}"):
        BioConverter()(model)
    assert not any(hasattr(m, "bio_mod") for m in model.modules())


# Extensions: docs/extending.md shows each; these are their promises.


def test_an_exposed_feature_is_a_method_of_the_model_and_of_its_layers():
    model = forgetful()
    model.forget()
    lost = [float((bio.weight == 0).float().mean()) for bio in bio_mods(model)]
    assert all(0.1 < share < 0.45 for share in lost)
    key = model.head.bio_mod.key.clone()
    model.head.bio_mod.forget()
    assert not torch.equal(model.head.bio_mod.key, key)
    assert (model.head.weight == 0).float().mean() > lost[-1]


@pytest.mark.parametrize("duplicate", DUPLICATE)
def test_a_model_with_features_of_its_own_can_be_copied(duplicate):
    model = forgetful()
    twin = DUPLICATE[duplicate](model)
    model.forget(), twin.forget()
    assert equal(snapshot(model), snapshot(twin))
    assert type(bio_mods(twin)[0].config) is ForgetfulConfig


def test_converters_with_different_features_make_different_classes():
    plain, exposing = BioConverter(), BioConverter(ForgetfulConfig()).expose(forget, needs_grad=False)
    assert hasattr(exposing(Mlp)(), "forget")
    assert not hasattr(plain(Mlp)(), "forget")


def test_an_exposed_feature_needs_a_name_of_its_own():
    def crystallize(params, grads, state, /, *, key=None):
        return params, grads, state

    with pytest.raises(ValueError, match="should have names of their own; found 'crystallize'"):
        BioConverter().expose(crystallize)


def test_a_field_of_ones_own_is_known_to_the_configuration_and_to_no_other():
    assert BioConverter(ForgetfulConfig(), forgotten=0.5).get_config().forgotten == 0.5
    with pytest.raises(funcbio.ConfigError, match="field of ForgetfulConfig, perhaps forgotten"):
        ForgetfulConfig(forgoten=0.5)
    with pytest.raises(funcbio.ConfigError, match="dampening_factor should be"):
        ForgetfulConfig(dampening_factor=3.0)
    with pytest.raises(funcbio.ConfigError, match="forgotten should be a field of BioConfig"):
        BioConverter(forgotten=0.5)
