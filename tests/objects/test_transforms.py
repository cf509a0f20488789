"""Converted models under torch's transforms: functional calls, ensembles, graphs, exports and traces."""

import copy
import warnings

import pytest
import torch
from citizens import CITIZENS, Mlp, batch, bio_mods, citizen, gradients
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

import funcbio

every_model = pytest.mark.parametrize("name", CITIZENS)


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
