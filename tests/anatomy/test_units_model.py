"""A model that is asked for its units stays as it was, whatever its numbers are, wherever it is asked."""

import copy
import pickle
import warnings

import pytest
import torch
from answers import found
from architectures import ARCHITECTURES
from torch import nn

from funcbio import Units, attach, units

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def made(name):
    return ARCHITECTURES[name].make(), ARCHITECTURES[name].example


def looks(model):
    """All that the probe might change but for numbers: objects, versions, flags, hooks and attributes."""
    modules = [
        (module.training, [*vars(module)], [[*getattr(module, hooks)] for hooks in HOOKS]) for module in model.modules()
    ]
    tensors = [*model.parameters(), *model.buffers()]
    return modules, [(id(t), id(t.grad), t.data_ptr(), t._version, t.requires_grad, t.dtype) for t in tensors]


def numbers(model):
    grads = {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: tensor.detach().clone() for name, tensor in {**model.state_dict(), **grads}.items()}


def in_use(name):
    """A model in the middle of its training: with gradients, a part of it frozen and in eval mode, and a hook."""
    model, example = made(name)
    model.train()
    model(*example).sum().backward()
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    last = [*model.modules()][-1]
    last.eval()
    last.register_forward_hook(lambda *_: None)
    return model, example


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_model_and_example_stay_as_they_were(name):
    model, example = in_use(name)
    before, look, given = numbers(model), looks(model), [one.clone() for one in example]
    units(model, *example)
    assert looks(model) == look
    after = numbers(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[one], before[one]) for one in before)
    assert all(map(torch.equal, example, given))


@pytest.mark.parametrize("name", ["GELU and dropout", "TransformerEncoderLayer"])
def test_random_numbers_and_switches_of_torch_stay_as_they_were(name):
    model, example = made(name)
    state, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    units(model, *example)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_table_is_the_same_in_training_and_of_a_used_model(name):
    model, example = in_use(name)
    assert found(units(model, *example)) == ARCHITECTURES[name].answers


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numbers_of_any_precision_will_do(name, dtype):
    model, example = made(name)
    example = [one.to(dtype) if one.is_floating_point() else one for one in example]
    assert found(units(model.to(dtype), *example)) == ARCHITECTURES[name].answers


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["MLP", "convolution", "GPT", "LSTM"])
def test_table_is_made_without_gradients(name, mode):
    model, example = made(name)
    with mode():
        assert found(units(model, *example)) == ARCHITECTURES[name].answers


@pytest.mark.parametrize("name", ["MLP", "convolution", "GPT", "LSTM"])
def test_model_may_be_made_in_inference_mode(name):
    with torch.inference_mode():
        model, example = made(name)
        example = [one.clone() for one in example]
    assert found(units(model, *example)) == ARCHITECTURES[name].answers


@pytest.mark.parametrize("name", ["MLP", "convolution", "TransformerEncoderLayer", "SwiGLU, fused"])
def test_numbers_of_a_model_do_not_matter(name):
    """Dead units, weights of zero and huge ones: what feeds what is a matter of the architecture."""
    for number in (0.0, 1e-30, 1e30):
        model, example = made(name)
        for parameter in model.parameters():
            nn.init.constant_(parameter, number)
        assert found(units(model, *example)) == ARCHITECTURES[name].answers


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_table_survives_saving_pickle_and_copies(name, tmp_path):
    model, example = made(name)
    table = units(model, *example)
    torch.save(table.state_dict(), tmp_path / "units.pt")
    loaded = Units.from_state_dict(torch.load(tmp_path / "units.pt", weights_only=True))
    for other in (loaded, pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):
        assert other == table
        assert hash(other) == hash(table)
        assert found(other) == ARCHITECTURES[name].answers
        assert str(other) == str(table)


def test_tables_of_different_models_differ():
    names = ("convolution", "channel last", "GLU, separate", "GLU, fused", "MLP", "batch of one")
    tables = {name: units(ARCHITECTURES[name].make(), *ARCHITECTURES[name].example) for name in names}
    assert tables["convolution"] != tables["channel last"]
    assert tables["GLU, separate"] != tables["GLU, fused"]
    assert tables["MLP"] == tables["batch of one"]


def test_table_is_the_same_at_every_call():
    model, example = made("pre-norm Transformer")
    torch.manual_seed(1)
    first = units(model, *example)
    torch.manual_seed(2)
    assert units(model, *example) == first


def signals(probed):
    """What a mechanism recorded at a step, with a probe between the forward pass and the step, or without."""
    torch.manual_seed(0)
    model, example = made("MLP")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    attach(optimizer, model, ["redo"], units=units(model, *example))
    model(torch.rand(4, 2)).sum().backward()
    if probed:
        units(model, *example)
    optimizer.step()
    return numbers(model)


def test_what_attached_mechanisms_see_of_the_model_stays_as_it_was():
    plain, probed = signals(probed=False), signals(probed=True)
    assert any("signal" in name for name in plain)
    torch.testing.assert_close(probed, plain, rtol=0, atol=0, equal_nan=True)


def test_nobody_is_warned():
    model, example = made("TransformerEncoderLayer")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        units(model, *example)
