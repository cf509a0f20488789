"""Splitting on the weights equals splitting the output, and nobody who looks at the layer can tell which it was.

Counting in pieces equals counting the whole.
"""

import contextlib
import copy
import io
import pickle
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from funcbio import BioConverter, BioModule, count_active
from funcbio.engine._options import OPTIONS
from funcbio.mechanisms import identity, repeated
from funcbio.objects import _splitting as splitting

KINDS = {
    "Linear": (lambda **o: nn.Linear(5, 12, **o), (7, 5)),
    "Linear of one row": (lambda **o: nn.Linear(5, 12, **o), (5,)),
    "Linear of four dimensions": (lambda **o: nn.Linear(5, 12, **o), (2, 3, 4, 5)),
    "Linear of one group": (lambda **o: nn.Linear(5, 6, **o), (7, 5)),
    "Conv1d": (lambda **o: nn.Conv1d(4, 12, 3, **o), (2, 4, 7)),
    "Conv2d": (lambda **o: nn.Conv2d(4, 12, 3, stride=2, padding=1, **o), (2, 4, 7, 7)),
    "Conv2d without batch": (lambda **o: nn.Conv2d(4, 12, 3, **o), (4, 7, 7)),
    "Conv3d": (lambda **o: nn.Conv3d(2, 12, 3, dilation=2, **o), (2, 2, 5, 5, 5)),
    "ConvTranspose1d": (lambda **o: nn.ConvTranspose1d(4, 12, 3, **o), (2, 4, 7)),
    "ConvTranspose2d": (lambda **o: nn.ConvTranspose2d(4, 12, 3, stride=2, **o), (2, 4, 5, 5)),
    "ConvTranspose3d": (lambda **o: nn.ConvTranspose3d(2, 12, 2, **o), (2, 2, 3, 3, 3)),
    "grouped": (lambda **o: nn.Conv2d(4, 12, 3, groups=2, **o), (2, 4, 7, 7)),
    "grouped transposed": (lambda **o: nn.ConvTranspose2d(4, 12, 3, groups=2, **o), (2, 4, 5, 5)),
    "depthwise": (lambda **o: nn.Conv2d(2, 12, 3, groups=2, **o), (2, 2, 7, 7)),
}
# Groups of units reach over groups of the convolution, or the layer is padded by another function.
ON_OUTPUTS = {
    "grouped": (lambda **o: nn.Conv2d(4, 12, 3, groups=4, **o), (2, 4, 7, 7), 6),
    "depthwise": (lambda **o: nn.Conv2d(12, 12, 3, groups=12, **o), (2, 12, 7, 7), 2),
    "depthwise transposed": (lambda **o: nn.ConvTranspose2d(12, 12, 3, groups=12, **o), (2, 12, 5, 5), 2),
    "circular": (lambda **o: nn.Conv2d(4, 12, 3, padding=1, padding_mode="circular", **o), (2, 4, 5, 5), 2),
}


@pytest.fixture(autouse=True)
def sums(monkeypatch):
    """Every layer is large enough; collects the calls whose rows were summed."""
    found = []
    monkeypatch.setattr(OPTIONS, "summed_uses", 0)
    monkeypatch.setattr(OPTIONS, "summed_products", 0)
    monkeypatch.setattr(splitting, "repeated", lambda *args, **options: found.append(1) or repeated(*args, **options))
    return found


def net(**config):
    layers = nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 2)
    return BioConverter(**{"weight_splitting_Gamma": 2, **config})(nn.Sequential(*layers).double())


def on_outputs(model):
    """A copy that splits on the side of the outputs."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        module._forward_pre_hooks.clear()
    return twin


def batch(*shape):
    return torch.randn(*(shape or (7, 5)), dtype=torch.float64, requires_grad=True)


def gradients(model, x):
    output = model(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return output, *torch.autograd.grad((output * weights).square().sum(), [x, *model.parameters()])


def same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gamma", [2, 3, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_split_outputs(kind, gamma, bias, sums):
    make, shape = KINDS[kind]
    model, x = BioConverter(weight_splitting_Gamma=gamma)(make(bias=bias).double()), batch(*shape)
    expected = gradients(on_outputs(model), x)
    assert not sums
    same(gradients(model, x), expected)
    assert len(sums) == 1
    model(x).sum().backward()
    assert model.weight.grad.is_contiguous()
    model.volume_dependent_lr()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ON_OUTPUTS)
def test_what_has_no_sum_of_rows_is_split_on_outputs(kind, bias, sums):
    make, shape, gamma = ON_OUTPUTS[kind]
    model, x = BioConverter(weight_splitting_Gamma=gamma)(make(bias=bias).double()), batch(*shape)
    same(gradients(model, x), gradients(on_outputs(model), x))
    assert not sums


class Own(nn.Linear):
    """A layer with a forward pass of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Counting(BioModule):
    """A BioModule that looks at the output."""

    def forward(self, output):
        self.seen = output.shape
        return super().forward(output)


class CountingConverter(BioConverter):
    bio_module_class = Counting


REASONS = {
    "another activation": lambda: net(weight_splitting_activation_function=torch.tanh),
    "counted activity": lambda: net(record_activity=True),
    "an own class": lambda: BioConverter(weight_splitting_Gamma=2)(Own(5, 12).double()),
    "an own BioModule": lambda: CountingConverter(weight_splitting_Gamma=2)(nn.Linear(5, 12).double()),
}


@pytest.mark.parametrize("reason", REASONS)
def test_whatever_needs_the_single_units_finds_them(reason, sums):
    model, x = REASONS[reason](), batch()
    same(gradients(model, x), gradients(on_outputs(model), x))
    assert not sums


@pytest.mark.parametrize("activation", [identity, nn.Identity()])
def test_both_identities_sum_rows(activation, sums):
    net(weight_splitting_activation_function=activation)(batch())
    assert len(sums) == 2


def test_small_layers_are_split_on_outputs(sums, monkeypatch):
    model = BioConverter(weight_splitting_Gamma=2)(nn.Linear(64, 64))
    monkeypatch.setattr(OPTIONS, "summed_uses", 32)
    monkeypatch.setattr(OPTIONS, "summed_products", 2**20)
    for rows, summed in ((255, 0), (256, 1)):
        model(torch.ones(rows, 64))
        assert len(sums) == summed
    wide = BioConverter(weight_splitting_Gamma=2)(nn.Linear(1024, 1024))
    for rows, summed in ((31, 1), (32, 2)):
        wide(torch.ones(rows, 1024))
        assert len(sums) == summed


def test_others_who_hook_into_a_layer_find_the_input_and_the_units(sums):
    model, x, seen = net(), batch(), []
    expected = on_outputs(model)(x)
    hooks = [
        model[0].register_forward_hook(lambda layer, args, output: seen.extend([*args, output])),
        model[2].register_forward_pre_hook(lambda layer, args: seen.extend(args)),
        model[4].register_full_backward_hook(lambda *args: None),
    ]
    torch.testing.assert_close(model(x), expected)
    assert [type(each) for each in seen] == [torch.Tensor] * 3
    assert seen[0] is x
    assert seen[1].shape == (7, 12)
    assert not sums
    for hook in hooks:
        hook.remove()
    model(x)
    assert len(sums) == 2


def test_a_forward_pass_put_on_an_instance_is_used(sums):
    model, x = net(), batch()
    model[0].forward = lambda x: nn.functional.linear(x, model[0].weight)
    same([model(x)], [on_outputs(model)(x)])
    assert len(sums) == 1


def test_the_layer_stays_as_it_is_while_it_runs_and_when_it_fails(monkeypatch, sums):
    model, x, seen, linear = net(), batch(), [], nn.functional.linear
    weight, bias, before = model[0].weight, model[0].bias, dict(vars(model[0]))

    def look(*args):
        layer = model[0]
        seen.append(layer.weight is weight and layer.bias is bias and layer.state_dict()["weight"].shape == (12, 5))
        if fails:
            raise KeyboardInterrupt  # Torch has no hook for this one.
        return linear(*args)

    monkeypatch.setattr(nn.functional, "linear", look)
    for fails in (False, True):
        with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
            model[0](x)
        assert vars(model[0]) == before
    assert seen == [True, True]
    assert len(sums) == 1
    fails = False
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        model(batch(7, 4))
    assert vars(model[0]) == before


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model)), "torch.save": saved}


@pytest.mark.parametrize("way", COPIES)
def test_copies_before_and_after_a_call_split_alike(way, sums):
    model, x = net(), batch()
    expected = model(x)
    for twin in (COPIES[way](net()), COPIES[way](model)):
        twin.load_state_dict(model.state_dict())
        del sums[:]
        assert torch.equal(twin(x), expected)
        assert len(sums) == 2


def test_the_state_has_the_keys_it_has_without_splitting():
    model = net()
    model(batch())
    assert list(model.state_dict()) == list(net(weight_splitting_Gamma=0).state_dict())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in net(weight_splitting_Gamma=0).named_parameters()]


def test_functional_calls_sum_the_rows_they_are_given(sums):
    model, x = net(), batch(3, 7, 5).detach()
    params = {name: torch.stack([p, -p, 2 * p]).detach() for name, p in model.named_parameters()}

    def loss(model):
        return lambda params, x: functional_call(model, params, (x,)).square().sum()

    for dims in ((0, 0), (0, None)):
        args = params, x if dims[1] == 0 else x[0]
        expected = vmap(grad(loss(on_outputs(model))), in_dims=dims)(*args)
        assert not sums
        found = vmap(grad(loss(model)), in_dims=dims)(*args)
        same(found.values(), expected.values())
        assert len(sums) == 2
        del sums[:]
    assert model[0].weight.grad is None


def test_derivatives_of_every_kind_pass():
    model, x = net(), batch().detach()
    weight = model[0].weight.detach()

    def call(model):
        return lambda weight: functional_call(model, {"0.weight": weight}, (x,)).square().sum()

    twin = on_outputs(model)
    same(
        torch.func.jvp(call(model), (weight,), (weight.cos(),)), torch.func.jvp(call(twin), (weight,), (weight.cos(),))
    )
    same([torch.func.hessian(call(model))(weight)], [torch.func.hessian(call(twin))(weight)])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_of_activations_pass(reentrant, sums):
    model, x = net(), batch()
    expected = gradients(on_outputs(model), x)
    output = checkpoint(model, x, use_reentrant=reentrant)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    (output * weights).square().sum().backward()
    same([output, x.grad, *(p.grad for p in model.parameters())], expected)
    assert len(sums) == 4  # Twice in each of two layers.


def test_threads_do_not_disturb_one_another(sums):
    model, xs, wrong = net(), [batch(n, 5).detach() for n in (3, 4, 5, 6)], []
    expected = [model(x) for x in xs]

    def work(x, expected):
        for _ in range(50):
            try:
                torch.testing.assert_close(model(x), expected)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(sums) == 2 * 4 * 51


def test_replicas_use_weights_of_their_own():
    """As ``nn.DataParallel`` makes them: their weights are no parameters."""
    model, x = BioConverter(weight_splitting_Gamma=2)(nn.Linear(5, 12).double()), batch()
    replica = model._replicate_for_data_parallel()
    for name, parameter in model.named_parameters():
        setattr(replica, name, 2 * parameter)
    torch.testing.assert_close(replica(x), 2 * model(x))


def test_it_compiles_whole_and_once(monkeypatch):
    monkeypatch.setattr(splitting, "repeated", repeated)
    model = net()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            x = batch()
            same(gradients(compiled, x), gradients(on_outputs(model), x))
    graphs = []
    torch._dynamo.reset()
    torch.compile(model, fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph)(batch())
    (graph,) = graphs
    (first, *_) = [node for node in graph.graph.nodes if node.target is nn.functional.linear]
    assert first.meta["example_value"].shape == (7, 6)


def test_a_vmapped_call_compiles_whole():
    model, x = net(), batch().detach()
    params = {name: torch.stack([p, -p]).detach() for name, p in model.named_parameters()}
    call = vmap(grad(lambda params: functional_call(model, params, (x,)).square().sum()))
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    same(compiled(params).values(), call(params).values())


def test_programs_for_other_sizes_split_outputs(sums):
    model, x, other = net(), batch().detach(), batch(3, 5).detach()
    expected = on_outputs(model)(other)
    for strict in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The exporter's own.
            size = ({0: torch.export.Dim("batch")},)
            program = torch.export.export(model, (x,), dynamic_shapes=size, strict=strict).module()
        same([program(other)], [expected])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated, and warns of checks.
        same([torch.jit.trace(model, (x,), check_trace=False)(other)], [expected])
    assert not sums


def test_mixed_precision_sums_before_it_rounds(sums):
    model, x = net().float(), batch().detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x)
    assert output.dtype == torch.bfloat16
    assert len(sums) == 2
    torch.testing.assert_close(output.float(), model(x), rtol=0.05, atol=0.05)


def test_without_gradients_it_is_the_same(sums):
    model, x = net().eval(), batch()
    expected = on_outputs(model)(x)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            same([model(x)], [expected])
    assert len(sums) == 4


def test_a_layer_used_twice_splits_twice(sums):
    layer, x = nn.Linear(6, 6), batch(7, 6).detach().float()
    model = BioConverter(weight_splitting_Gamma=2)(nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(6, 2)))
    torch.testing.assert_close(model(x), on_outputs(model)(x))
    assert len(sums) == 2


def test_a_weight_of_another_shape_is_refused_as_on_outputs():
    model = net()
    model[0].weight, model[0].bias = (nn.Parameter(batch(*shape)) for shape in ((10, 5), (10,)))
    with pytest.raises(RuntimeError, match="convert the model again"):
        model(batch())


def test_converting_again_takes_all_of_it_off_and_nothing_else(sums):
    model, x = net(), batch()
    mine = [model[0].register_forward_pre_hook(lambda *args: None), model[0].register_forward_hook(lambda *args: None)]
    for _ in range(2):
        BioConverter(weight_splitting_Gamma=2)(model)
        assert [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model[::2]] == [(2, 2), (1, 1), (0, 0)]
    BioConverter(weight_splitting_Gamma=0)(model)
    assert [hook.id for hook in mine] == [*model[0]._forward_pre_hooks, *model[0]._forward_hooks]
    assert not [*model[2]._forward_pre_hooks, *model[2]._forward_hooks]
    torch.testing.assert_close(model(x), nn.Sequential(*model)(x))
    assert not sums


PIECED = [((3, 5, 40, 50), 1), ((3, 5, 40, 50), -3), ((7, 5000), -1), ((5000, 7), 0), ((1, 9, 30, 40), 1), ((6000,), 0)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "dim"), PIECED)
def test_counts_of_pieces_add_up_to_those_of_the_whole(shape, dim, dtype, monkeypatch):
    monkeypatch.setattr(OPTIONS, "tile_elements", 100)
    output = (0.02 * torch.randn(shape)).to(dtype)
    for start, value in enumerate((0.01, float("nan"), -float("inf"))):
        output.view(-1)[start::7] = value
    for given in (output, output.transpose(0, -1).contiguous().transpose(0, -1)):
        before, active = given.clone(), given.abs() > 0.01
        others = [d for d in range(given.ndim) if d != dim % given.ndim]
        expected = active.sum(others) if others else active.long()
        count = count_active(given, dim=dim)
        assert count.dtype == torch.int64
        assert torch.equal(count, expected)
        assert torch.equal(vmap(lambda x: count_active(x, dim=dim))(given[None])[0], expected)
        assert torch.equal(given.nan_to_num(), before.nan_to_num())
