"""Quantization hands hooks on to other modules: a converted model splits on, or says that it cannot."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization as q

import funcbio
from funcbio import BioConverter, count_active, split_output

X = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
CONFIGS = {
    "no hooks": {},
    "splitting": {"weight_splitting_Gamma": 2},
    "splitting with an activation": {"weight_splitting_Gamma": 2, "weight_splitting_activation_function": torch.relu},
    "activity": {"record_activity": True},
}


def net():
    torch.manual_seed(0)
    layers = nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 4)
    return nn.Sequential(q.QuantStub(), *layers, q.DeQuantStub()).train()


def convert(model, config):
    return BioConverter(**config)(model)


def aware(model, _):
    model.qconfig = q.get_default_qat_qconfig("x86")
    return q.prepare_qat(model.train())


def observed(model, _):
    model.qconfig = q.get_default_qconfig("x86")
    return q.prepare(model.eval())


def seen(model, _):
    model(X)
    return model


def quantized(model, _):
    return q.convert(model.eval())


def dynamic(model, _):
    return q.quantize_dynamic(model.eval(), {nn.Linear})


def fused(model, _):
    return q.fuse_modules(model.eval(), [["1", "2"], ["3", "4"]])


def fused_in_training(model, _):
    return q.fuse_modules_qat(model.train(), [["1", "2"], ["3", "4"]])


def copied(model, _):
    return pickle.loads(pickle.dumps(copy.deepcopy(model)))


FLOWS = {
    "dynamic": [convert, dynamic],
    "dynamic, copied": [convert, dynamic, copied],
    "static": [observed, convert, seen, quantized],
    "in training": [convert, aware, seen],
    "in training, then quantized": [convert, aware, seen, quantized],
    "converted in training": [aware, convert, seen],
    "converted in training, then quantized": [aware, convert, seen, quantized],
    "fused": [convert, fused],
    "fused, then dynamic": [convert, fused, dynamic],
    "converted when fused": [fused, convert],
    "converted when fused, then dynamic": [fused, convert, dynamic],
}
LOST = {
    "fused in training": (
        [convert, fused_in_training, aware, seen],
        RuntimeError,
        "LinearReLU should split its output",
    ),
    "converted when fused in training": (
        [fused_in_training, aware, convert],
        ValueError,
        "1.weight should belong to a",
    ),
}


def flow(steps, config):
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of torch: all of this is to move to another package.
        for step in steps:
            model = step(model, config)
    return model


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", FLOWS)
def test_a_quantized_model_computes_what_the_converted_one_does(name, config):
    should = convert(net(), CONFIGS[config]).eval()(X)
    found = flow(FLOWS[name], CONFIGS[config]).eval()(X)
    assert (found - should).norm() < 0.05 * should.norm()
    plain = net().eval()(X)
    if "splitting" in config:
        assert (plain - should).norm() > 0.5 * should.norm()  # Else the test shows nothing.


@pytest.mark.parametrize("name", LOST)
def test_a_fusion_that_would_lose_the_splitting_is_refused(name):
    steps, error, message = LOST[name]
    with pytest.raises(error, match=message):
        flow(steps, CONFIGS["splitting"])
    for config in ("no hooks", "activity"):
        flow(steps, CONFIGS[config]).eval()(X)


def test_training_that_is_aware_of_quantization_uses_every_mechanism():
    model = flow([aware, convert], {"weight_splitting_Gamma": 2, "record_activity": True})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = funcbio.attach(
        optimizer, model, ["crystallize", "fuzzy_learning_rates", "scale_grad", "rejuvenate_weights"]
    )
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(X) - X[:, :4]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert handle.steps == 20
    assert losses[-1] < losses[0]


def test_the_methods_of_a_model_whose_layers_were_exchanged_say_so():
    model = flow([convert, aware], {"weight_splitting_Gamma": 2})
    model(X).sum().backward()
    with pytest.warns(UserWarning, match="found 1, 3, 5, added or replaced since"):
        model.crystallize()


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
@pytest.mark.parametrize("activation", [None, torch.tanh, torch.sigmoid])
def test_functions_take_quantized_numbers(dtype, activation):
    y = torch.randn(50, 12)
    output = torch.quantize_per_tensor(y, 0.03, 128 if dtype == torch.quint8 else 0, dtype)
    assert torch.equal(count_active(output, dim=-1), count_active(output.dequantize(), dim=-1))
    found = split_output(output, 3, activation=activation)
    should = split_output(output.dequantize(), 3, activation=activation)
    assert found.dtype == dtype
    step = (should.max().clamp(min=0) - should.min().clamp(max=0)) / 127
    assert (found.dequantize() - should).abs().max() <= 0.51 * step
    assert split_output(output, 1) is output


def test_a_norm_folded_into_a_layer_that_splits_is_refused():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).eval()
    folded = lambda model: torch.nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
    x = torch.randn(3, 2, 4, 4)
    for config in CONFIGS:
        layer = folded(BioConverter(**CONFIGS[config])(copy.deepcopy(model)))
        if "splitting" in config:
            with pytest.raises(
                RuntimeError, match=r"the layer of 0\.weight should have no bias, as when it was converted"
            ):
                layer(x)
        else:
            torch.testing.assert_close(layer(x), folded(copy.deepcopy(model))(x))
