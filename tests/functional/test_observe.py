"""A model as a pure function: what it holds in several places stays one, in threads and within itself too."""

import threading
import warnings

import pytest
import torch
from ties import TIES, Language, Normalised, loss, tokens
from torch import nn
from torch.utils.checkpoint import checkpoint

import funcbio
from funcbio.functional._stateless import first_names, named_tensors

ties = pytest.mark.parametrize("name", TIES)


def given(net):
    """Parameters and buffers of a model, other than it holds them itself."""
    torch.manual_seed(5)
    params = {n: (p + 0.1 * torch.randn_like(p)).detach() for n, p in net.named_parameters()}
    firsts = first_names(dict(named_tensors(net)))
    return params, {n: b + 1 for n, b in net.named_buffers() if firsts[n] == n}


def observed(net):
    return funcbio.observe(net, synapses="emb.*" if isinstance(net, Normalised) else None)


def plain(name, params, buffers):
    """A model of its own, with these numbers in it."""
    net = TIES[name]()
    with torch.no_grad():
        for n, tensor in named_tensors(net):
            if n in params or n in buffers:
                tensor.copy_({**params, **buffers}[n])
    return net


@ties
def test_it_is_the_model_with_other_numbers_in_it(name):
    net, (x, y) = TIES[name](), tokens()
    params, buffers = given(net)
    twin = plain(name, params, buffers)
    want = twin(x)
    grads = torch.autograd.grad(loss(want, y), list(twin.parameters()))
    call = observed(net)
    used = {n: b.clone() for n, b in buffers.items()}
    output, _ = call(params, x, buffers=used)
    torch.testing.assert_close(output, want)
    for n, b in twin.named_buffers():
        torch.testing.assert_close(used.get(n, b), b)
    slope = torch.func.grad(lambda p: loss(call(p, x, buffers={n: b.clone() for n, b in buffers.items()})[0], y))(
        params
    )
    for (n, _), grad in zip(twin.named_parameters(), grads, strict=True):
        torch.testing.assert_close(slope[n], grad, rtol=1e-5, atol=1e-7)


def slopes(call, buffers, x):
    """Gradients of all lanes; of recurrent layers torch has a rule for vmap only within a gradient."""
    return torch.vmap(torch.func.grad(lambda p: call(p, x, buffers=buffers)[0].square().sum()))


@pytest.mark.sampled(5)
@ties
@pytest.mark.parametrize("compiled", [False, True])
def test_every_lane_of_vmap_is_the_model(name, compiled):
    net, (x, _) = TIES[name](), tokens()
    several, buffers = [given(TIES[name]())[0] for _ in range(3)], given(net)[1]
    act = slopes(observed(net.eval()), buffers, x)
    if compiled:
        act = torch.compile(act, backend="eager", fullgraph=True)
    with warnings.catch_warnings(), torch._dynamo.config.patch(allow_rnn=True):
        warnings.filterwarnings("ignore", "There is a performance drop")
        stacked = {n: torch.stack([params[n] for params in several]) for n in several[0]}
        if compiled and name == "listed":  # The compiler does not see attributes that go past nn.Module.
            with pytest.raises(torch._dynamo.exc.TorchRuntimeError, match="meta"):
                act(stacked)
            return
        found = act(stacked)
    for lane, params in enumerate(several):
        twin = plain(name, params, buffers).eval()
        twin(x).square().sum().backward()
        for n, p in twin.named_parameters():
            torch.testing.assert_close(found[n][lane], p.grad, rtol=1e-4, atol=1e-5)


# What is not given, or cannot be replaced


@ties
def test_what_is_not_given_is_named_and_never_computed_with(name):
    net, (x, _) = TIES[name](), tokens()
    call, (params, buffers) = observed(net), given(net)
    for part, tensors in (("params", params), ("buffers", buffers)):
        for missing in tensors:
            rest = {n: t for n, t in tensors.items() if n != missing}
            arguments = {"params": params, "buffers": buffers, part: rest}
            with pytest.raises(
                ValueError, match=f"{part} should hold every tensor of the model; found none at '{missing}'"
            ):
                call(arguments["params"], x, buffers=arguments["buffers"])
    slip = next(iter(params)).replace("ei", "ie")
    with pytest.raises(ValueError, match=rf"params should hold tensors of the model, perhaps .*; found '{slip}'"):
        call({**params, slip: x}, x, buffers=buffers)


def test_a_tied_tensor_may_go_by_any_of_its_names_and_be_only_one():
    net, (x, _) = Language(), tokens()
    call, (params, _) = funcbio.observe(net), given(net)
    want, activity = call(params, x)
    renamed = {{"emb.weight": "head.weight"}.get(n, n): t for n, t in params.items()}
    output, other = call(renamed, x)
    assert torch.equal(output, want)
    assert torch.equal(other["head.weight"], activity["emb.weight"])
    assert torch.equal(call({**renamed, **params}, x)[0], want)
    with pytest.raises(ValueError, match=r"params should hold tied tensors once; found another one at 'head\.weight'"):
        call({**params, "head.weight": params["emb.weight"].clone()}, x)


class Tupled(Language):
    def __init__(self):
        super().__init__()
        self.pair = (self.emb.weight, 2)

    def forward(self, tokens):
        return super().forward(tokens) + self.pair[0].sum()


class Closed(Language):
    def __init__(self):
        super().__init__()
        weight = self.emb.weight
        self.read = lambda x: x @ weight.t()

    def forward(self, tokens):
        return self.read(self.emb(tokens))


class Later(Language):
    """Its layer runs again in the backward pass, which a caller of the function starts after the call."""

    def forward(self, tokens):
        return checkpoint(super().forward, tokens, use_reentrant=False)


@pytest.mark.parametrize("kind", [Tupled, Closed])
def test_what_is_read_past_the_model_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=r"model should read 'emb\.weight' while it is called, from an attribute"):
        funcbio.observe(kind())(given(kind())[0], tokens()[0])


def test_what_is_read_after_the_call_is_refused_by_name():
    params = {n: p.requires_grad_() for n, p in given(Later())[0].items()}
    output, _ = funcbio.observe(Later())(params, tokens()[0])
    with pytest.raises(ValueError, match=r"model should read 'emb\.weight'.*activation checkpointing"):
        output.sum().backward()


def test_tensors_of_scripted_modules_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(3, 3), torch.jit.script(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match=r"modules whose tensors can be replaced; found '1\.weight'"):
        funcbio.observe(net)


def test_weights_that_were_computed_are_computed_anew():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch has a newer weight norm.
        net = Normalised(torch.nn.utils.weight_norm)
    params, x = {n: 2 * p.detach() for n, p in net.named_parameters()}, tokens()[0]
    want = torch.func.functional_call(net, params, (x,))
    assert torch.equal(funcbio.observe(net, "emb.*")(params, x)[0], want)


# Purity


class Remembering(nn.Module):
    """Writes to a buffer, replaces another, and notes something beside them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(3))
        self.last, self.calls = None, 0

    def forward(self, x):
        y = self.body(x) + self.mean + (0 if self.last is None else self.last) + self.calls
        self.count += 1
        self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        self.last, self.calls = y, self.calls + 1
        return y


@pytest.mark.parametrize("compiled", [False, True])
def test_buffers_that_are_replaced_are_the_callers_and_nothing_else_is_remembered(compiled):
    net, x = Remembering(), torch.randn(4, 3)
    call = funcbio.observe(net)
    params = {n: p.detach() for n, p in net.named_parameters()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}

    def twice(params, x, count, mean):
        buffers = {"count": count, "mean": mean}
        return [call(params, x, buffers=buffers)[0] for _ in range(2)], buffers

    run = torch.compile(twice, backend="eager", fullgraph=True) if compiled else twice
    (one, two), found = run(params, x, **buffers)
    assert found["count"] == 2
    torch.testing.assert_close(found["mean"], 0.75 * x.mean(0))
    if not compiled:
        torch.testing.assert_close(two, one + 0.5 * x.mean(0))
    assert torch.equal(call(params, x)[0], call(params, x)[0])
    assert net.calls == 0
    assert net.mean.count_nonzero() == 0


def together(count, act):
    """Runs in threads that start at once; returns what each found."""
    found, start = [None] * count, threading.Barrier(count)

    def run(index):
        start.wait()
        try:
            found[index] = act(index)
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("name", ["language model", "kernels and norms", "listed"])
def test_threads_do_not_disturb_one_another(name):
    net, (x, _) = TIES[name](), tokens()
    call, inputs = observed(net), [given(TIES[name]()) for _ in range(4)]
    batches = [x.roll(index, 0)[: 2 + index] for index in range(4)]
    want = [
        call(params, batch, buffers=dict(buffers)) for (params, buffers), batch in zip(inputs, batches, strict=True)
    ]

    def act(index):
        params, buffers = inputs[index]
        for _ in range(60):
            output, activity = call(params, batches[index], buffers={n: b.clone() for n, b in buffers.items()})
            if not (
                torch.equal(output, want[index][0]) and all(activity[n].equal(a) for n, a in want[index][1].items())
            ):
                return "other numbers"
        return "the same"

    assert together(4, act) == ["the same"] * 4


def test_a_use_within_a_use_is_another_one():
    net, (x, _) = Language(), tokens()
    call, (params, _) = funcbio.observe(net), given(net)
    double = {n: 2 * p for n, p in params.items()}
    want, inner = call(params, x), call(double, x)
    with call.opened(params) as outer:
        found = [outer(x), call(double, x), outer(x)]
    for (output, activity), (expected, counts) in zip(found, (want, inner, want), strict=True):
        assert torch.equal(output, expected)
        assert all(torch.equal(activity[n], count) for n, count in counts.items())


def test_a_copy_takes_no_memory_and_leaves_the_model_alone():
    net = TIES["listed"]()
    state = dict(named_tensors(net))
    call = funcbio.observe(net.train())
    assert not [t for t in call.stateless.common.values() if isinstance(t, torch.Tensor)]
    call(*given(net)[:1], tokens()[0])
    assert all(t is state[n] for n, t in named_tensors(net))
    assert net.listed[0] is net.emb.weight
    assert not net.head._forward_hooks
