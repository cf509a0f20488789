"""What torch cannot vmap or transform trains in a sweep as in a plain loop, and is measured so; errors come first."""

from functools import partial

import pytest
import torch
from ties import gpt2
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import funcbio
from funcbio import fold_in, key
from funcbio.sweeps._engine import Engine
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._stack import build
from funcbio.sweeps._trials import Trial

STEPS, LR = 5, 0.1
loops = pytest.mark.filterwarnings("ignore:this model (trains|is measured) member by member")


def series(count=24, length=4):
    x = torch.randn(count, length, 6, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0, 0] > 0).long() + 2 * (x[:, 1, 0] > 0).long()


def flat():
    x, y = series()
    return x[:, 0], y


def sweep(make, data, loss=F.cross_entropy, seeds=(3, 7), **options):
    given = {"steps": STEPS, "batch_size": 8, "lr": LR, "record_every": 1, "progress": False}
    return funcbio.sweep(make, loss, data, seeds=seeds, **{**given, **options})


def start(make, seed):
    """The network of a seed before its first step."""
    return build(make, Trial(0, seed, {}, funcbio.BioConfig(), {}, {}, ()), ())


def plain_loop(make, data, seed, loss=F.cross_entropy):
    """Trains as a member of the seed does; torch's generator is seeded in every step."""
    net, losses = start(make, seed).train(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    for number in range(STEPS):
        epoch, part = divmod(number, len(data[0]) // 8)
        order = funcbio.uniform(fold_in(fold_in(key(seed), "batches"), epoch), (len(data[0]),)).argsort(stable=True)
        x, y = (tensor[order[8 * part : 8 * (part + 1)]] for tensor in data)
        optimizer.zero_grad()
        with seeded(fold_in(fold_in(key(seed), "noise"), number)):
            losses.append(loss(net(x), y))
            losses[-1].backward()
        optimizer.step()
    return net, [value.item() for value in losses]


def assert_plain_loop(found, make, data, loss=F.cross_entropy):
    for index, seed in enumerate((3, 7)):
        net, losses = plain_loop(make, data, seed, loss)
        part = found.table["train_loss"][index * STEPS : (index + 1) * STEPS]
        torch.testing.assert_close(part, losses, rtol=1e-4, atol=1e-6)
        for leaf, value in net.state_dict().items():
            torch.testing.assert_close(found.member(index)[leaf], value, rtol=1e-4, atol=1e-5)


# Measuring


class Cells(nn.Module):
    """Runs a cell over time."""

    def __init__(self, kind):
        super().__init__()
        self.cell, self.head = getattr(nn, kind)(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        state = None
        for now in x.unbind(1):
            state = self.cell(now, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Layers(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(6, 8, batch_first=True, **options)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.rnn(x)[0][:, -1, :8]))


RECURRENT = {kind: partial(Layers, kind) for kind in ("RNN", "GRU", "LSTM")}
RECURRENT |= {kind: partial(Cells, kind) for kind in ("RNNCell", "GRUCell", "LSTMCell")}
RECURRENT |= {"deep": partial(Layers, "LSTM", num_layers=2, bidirectional=True, dropout=0.2)}


@loops
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_networks_are_measured_as_alone(name):
    data, make = series(), RECURRENT[name]
    folds = [(range(0, 16), range(16, 24)), (range(8, 24), range(0, 8))]
    accuracy = {"accuracy": lambda output, target: (output.argmax(-1) == target).float().mean()}
    whole = sweep(make, data, test=data, metrics=accuracy, record_every=STEPS)
    split = sweep(make, data, folds=folds, metrics=accuracy, record_every=STEPS)
    held_out = [(whole, [range(24)] * 2), (split, [folds[0][1]] * 2 + [folds[1][1]] * 2)]
    for found, parts in held_out:
        for index, rows in enumerate(parts):
            net = make().eval()
            net.load_state_dict(found.member(index))
            x, y = (tensor[list(rows)] for tensor in data)
            assert found.table["test_loss"][index] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-4)
            assert found.table["test_accuracy"][index] == pytest.approx((net(x).argmax(-1) == y).float().mean().item())


def test_what_is_measured_one_by_one_says_so_once_and_trains_together():
    with pytest.warns(UserWarning, match="this model is measured member by member: torch cannot vmap it") as seen:
        sweep(RECURRENT["LSTM"], series(), test=series())
    assert len(seen) == 1


@loops
def test_a_metric_may_leave_torch():
    found = sweep(lambda: nn.Linear(6, 4), flat(), test=flat(), metrics={"top": lambda out, _: out.max().item()})
    net = nn.Linear(6, 4)
    net.load_state_dict(found.member(1))
    assert found.table["test_top"][-1] == pytest.approx(net(flat()[0]).max().item(), rel=1e-5)


# Training


class Surrogate(torch.autograd.Function):
    """A spike, whose slope is another function's."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + ctx.saved_tensors[0].abs()).square()


class Net(nn.Module):
    """Two layers, a norm with running statistics, and in between what a subclass says."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x):
        return self.head(self.middle(self.norm(self.first(x))))

    def middle(self, x):
        return torch.relu(self.second(x))


class Spiking(Net):
    def middle(self, x):
        return Surrogate.apply(self.second(x))


class Checkpointed(Net):
    def middle(self, x):
        return checkpoint(super().middle, x, use_reentrant=False)


class Reentrant(Net):
    def middle(self, x):
        return checkpoint(super().middle, x, use_reentrant=True)


class Whole(Net):
    """All of it runs again, also the norm: its statistics move twice, as in a plain loop."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class Dropping(Net):
    """Random numbers before, in and after two checkpoints."""

    def __init__(self, reentrant=False):
        super().__init__()
        self.reentrant = reentrant

    def middle(self, x):
        x = F.dropout(x, 0.1, self.training)
        for _ in range(2):
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return F.dropout(x, 0.1, self.training)

    def block(self, x):
        x = F.dropout(torch.relu(self.second(x)), 0.5, self.training) * torch.rand_like(x)
        return x + 0.1 * torch.randn_like(x) * torch.rand(x.shape)


class Silent(Net):
    """Torch cannot tell that what it draws again is something else."""

    def middle(self, x):
        return checkpoint(lambda x: super(Silent, self).middle(x) * torch.rand_like(x), x, use_reentrant=False)


class Hooked(Net):
    """Saves what the backward pass needs elsewhere, and changes a gradient on its way."""

    def middle(self, x):
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
            x = super().middle(x)
        if x.requires_grad:
            x.register_hook(lambda grad: 2 * grad)
        return x


class Sparse(Net):
    def middle(self, x):
        rows = F.embedding(torch.arange(len(x)) % 16, self.second.weight, sparse=True)
        return Surrogate.apply(x + rows)


class Unused(Spiking):
    def __init__(self):
        super().__init__()
        self.aside = nn.Linear(3, 3)


PLAIN = {
    kind.__name__: kind for kind in (Spiking, Checkpointed, Reentrant, Whole, Dropping, Silent, Hooked, Sparse, Unused)
} | {"dropping, reentrant": partial(Dropping, True)}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # Torch says so of any measuring.
@pytest.mark.parametrize("name", PLAIN)
def test_what_torch_func_cannot_transform_trains_as_in_a_plain_loop(name):
    make = PLAIN[name]
    with pytest.warns(UserWarning, match="this model trains member by member: torch cannot vmap it"):
        found = sweep(make, flat(), test=flat())
    assert_plain_loop(found, make, flat())


@loops
@pytest.mark.parametrize("name", PLAIN)
def test_a_member_of_a_loop_does_not_depend_on_the_others(name):
    run = partial(sweep, PLAIN[name], flat(), mechanisms=["crystallize", "fuzzy_learning_rates"])
    both, alone = run(), run(seeds=[7])
    for leaf, value in alone.member(0).items():
        assert torch.equal(both.member(1)[leaf], value), leaf


@loops
def test_masks_of_checkpoints_are_those_of_the_forward_pass():
    """With the same seeds, a network that checkpoints is the one that does not."""

    class Kept(Dropping):
        def middle(self, x):
            x = F.dropout(x, 0.1, self.training)
            for _ in range(2):
                x = Surrogate.apply(self.block(x))
            return F.dropout(x, 0.1, self.training)

    class Again(Kept):
        def middle(self, x):
            return checkpoint(super().middle, x, use_reentrant=False)

    assert_plain_loop(sweep(Again, flat()), Kept, flat())


def penalised(output, target):
    """Uses a gradient in the loss."""
    inner = output.detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(F.cross_entropy(inner, target), inner)[0]
    return F.cross_entropy(output, target) + (output * slope).sum()


@loops
def test_a_loss_may_take_gradients_of_its_own():
    assert_plain_loop(sweep(Net, flat(), penalised), Net, flat(), penalised)


class Gpt(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.net = gpt2(dropout)
        getattr(self.net, "activation_checkpointing_enable", self.net.gradient_checkpointing_enable)()

    def forward(self, x):
        return self.net(x, use_cache=False).logits.transpose(1, 2)


@loops
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_language_model_with_checkpoints_and_tied_weights(dropout):
    tokens = torch.randint(0, 12, (24, 5), generator=torch.Generator().manual_seed(1))
    data = tokens, tokens.roll(-1, 1)
    make = partial(Gpt, dropout)
    found = sweep(make, data, test=data)
    make().load_state_dict(found.member(0), strict=True)
    assert_plain_loop(found, make, data)


@loops
def test_activity_is_counted_once_though_layers_run_twice():
    config = funcbio.BioConfig(record_activity=True)
    run = partial(sweep, config=config, mechanisms=["scale_grad"], data=flat())
    again, once = run(Whole), run(Net)
    torch.testing.assert_close(again.member(0)["first.weight"], once.member(0)["first.weight"])


@loops
def test_a_sweep_in_a_loop_goes_on_in_its_folder(tmp_path, monkeypatch):
    run = partial(sweep, Dropping, flat(), test=flat())
    whole, step = run(), Engine.step

    def interrupted(self, number, *rest):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(output=tmp_path, save_seconds=0)
    assert run(output=tmp_path).table == whole.table


# Before the first step


def failing(*_):
    raise ZeroDivisionError("my own error")


def bad_after(params, grads, state, /, *, key=None):
    raise ZeroDivisionError("my own error")


class Second:
    """A functional optimizer that fails in its second step."""

    def init(self, params):
        return {name: torch.zeros(()) for name in params}

    def update(self, grads, state, params):
        if set(state) != set(grads):
            raise ZeroDivisionError("my own error")
        return grads, {}


class Evaluated(nn.Linear):
    """Fails only while it is measured."""

    def forward(self, x):
        return super().forward(x) if self.training else failing()


BAD = {
    "metric": (nn.Linear, {"test": flat(), "metrics": {"bad": failing}}, ZeroDivisionError, "my own error"),
    "metric of folds": (
        nn.Linear,
        {"folds": [(range(16), range(16, 24))], "metrics": {"bad": failing}},
        ZeroDivisionError,
        "my own error",
    ),
    "metric without a mean": (
        nn.Linear,
        {"test": flat(), "metrics": {"bad": lambda output, _: output}},
        ValueError,
        r"metrics\['bad'\] should return a single number, a tensor of no dimensions; found shape \(24, 4\)",
    ),
    "metric of text": (
        nn.Linear,
        {"test": flat(), "metrics": {"bad": lambda *_: "good"}},
        ValueError,
        r"metrics\['bad'\] should return a single number.*; found 'good'",
    ),
    "loss without a mean": (
        nn.Linear,
        {"loss": partial(F.cross_entropy, reduction="none")},
        ValueError,
        r"loss should return a single number, a tensor of no dimensions; found shape \(8,\)",
    ),
    "test of other shape": (
        nn.Linear,
        {"test": (torch.ones(4, 5), torch.zeros(4).long())},
        RuntimeError,
        "mat1 and mat2 shapes cannot be multiplied",
    ),
    "measuring": (Evaluated, {"test": flat()}, ZeroDivisionError, "my own error"),
    "mechanism": (
        nn.Linear,
        {"mechanisms": [funcbio.Mechanism(bad_after, where="after", every=STEPS)]},
        ZeroDivisionError,
        "my own error",
    ),
    "second group": (
        nn.Linear,
        {"mechanisms": {"plain": [], "own": [bad_after]}},
        ZeroDivisionError,
        "my own error",
    ),
    "second step": (nn.Linear, {"optimizer": Second(), "lr": 0.1}, ZeroDivisionError, "my own error"),
}


@loops
@pytest.mark.parametrize("name", BAD)
def test_what_will_fail_fails_before_the_first_step(name, monkeypatch):
    kind, options, error, says = BAD[name]
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(error, match=says):
        sweep(lambda: kind(6, 4), flat(), **options)


@pytest.mark.parametrize("act", ["state_dict", "load_state_dict"])
def test_what_cannot_be_saved_or_read_again_fails_before_the_first_step(act, monkeypatch, tmp_path):
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("a step was made"))
    monkeypatch.setattr(Engine, act, failing)
    with pytest.raises(ZeroDivisionError, match="my own error"):
        sweep(lambda: nn.Linear(6, 4), flat(), output=tmp_path)


def test_trying_changes_nothing(tmp_path):
    """Neither the model that the factory keeps, nor what a sweep comes to."""
    kept = Dropping().eval()
    state = {name: tensor.clone() for name, tensor in kept.state_dict().items()}
    with pytest.warns(UserWarning, match="member by member"):
        sweep(lambda: kept, flat(), test=flat(), share=["weights"], output=tmp_path)
    assert all(torch.equal(state[name], tensor) for name, tensor in kept.state_dict().items())
    assert not any(module.training for module in kept.modules())
