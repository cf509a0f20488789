"""Every kind of model trains in a sweep: the same by vmap, in a loop over members, and compiled."""

import os
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
from citizens import CITIZENS, batch
from test_sweep_members import assert_bits, assert_close, at, engine
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import funcbio
from funcbio import BioConfig, Mechanism, sweep
from funcbio.engine._compiling import with_own_code
from funcbio.sweeps._keyed import Keyed

MECHANISMS = ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)]


def examples(name, count=24):
    parts = [batch(name, step) for step in range(count // 6)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class Noisy(nn.Module):
    """Every way of drawing numbers in a forward pass that is keyed."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 4)
        self.drop = nn.Dropout(0.3, inplace=True)
        self.alpha = nn.AlphaDropout(0.2)

    def forward(self, x):
        x = torch.relu(self.drop(self.first(x)))
        x = F.dropout(self.alpha(x), 0.1, self.training)
        x = F.dropout1d(x.unsqueeze(-1), 0.1, self.training).squeeze(-1)
        return self.head(x + 0.1 * torch.randn_like(x) * torch.rand_like(x) + torch.bernoulli(torch.full_like(x, 0.1)))


class Frozen(nn.Module):
    """A layer that is not trained, a buffer of its own, tied weights."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.stem.requires_grad_(False)
        self.twin = self.body
        self.register_buffer("shift", torch.ones(12), persistent=False)

    def forward(self, x):
        return self.head(torch.relu(self.twin(torch.relu(self.body(self.stem(x) + self.shift)))))


MODELS = {name: (made, partial(examples, name)) for name, (made, _) in CITIZENS.items()}
MODELS |= {"noisy": (Noisy, MODELS["mlp"][1]), "frozen": (Frozen, MODELS["mlp"][1])}
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
@pytest.mark.parametrize("recorded", [False, True])
def test_by_vmap_in_a_loop_and_alone_it_is_the_same(name, recorded):
    make, data = MODELS[name]
    config = BioConfig(record_activity=recorded, weight_splitting_Gamma=2 if recorded else 0, base_lr=0.9)
    mechanisms = [*MECHANISMS, *(["scale_grad"] if recorded else [])]
    options = {"model": make, "data": data(), "config": config, "mechanisms": mechanisms}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        together, losses = engine([4, 5, 6], 1, **options)
    looped, loop_losses = engine([4, 5, 6], 1, looped=True, **options)
    alone, _ = engine([6], 1, looped=True, **options)
    torch.testing.assert_close(losses, loop_losses, rtol=1e-4, atol=1e-5)
    assert_close(together.params, looped.params, rtol=1e-3, atol=1e-4)
    assert_close(together.buffers, looped.buffers, rtol=1e-3, atol=1e-4)
    assert_bits(at(2, looped), at(0, alone))
    assert losses.unique().numel() == 3


def test_running_statistics_belong_to_a_member_and_are_those_of_a_plain_loop():
    make, data = MODELS["resnet"]
    own, _ = engine([3, 8], 1, model=make, data=data(), config=BioConfig(), mechanisms=[])
    start, _ = engine([8], 0, model=make, data=data(), config=BioConfig(), mechanisms=[])
    net = make().train()
    net.load_state_dict({**at(0, start).params, **at(0, start).buffers})
    key = funcbio.fold_in(funcbio.fold_in(funcbio.key(8), "batches"), 0)
    order = funcbio.uniform(key, (24,)).argsort(stable=True)[:16]
    net(data()[0][order])
    assert_close(at(1, own).buffers, dict(net.named_buffers()), rtol=1e-4, atol=1e-5)
    assert not torch.equal(*own.buffers["stem.1.running_mean"])


# Numbers drawn in a forward pass


def test_dropout_is_of_a_key_and_torch_s_law():
    x = torch.ones(200, 300)
    for module, mean in ((nn.Dropout(0.3), 1.0), (nn.Dropout2d(0.3), 1.0), (nn.AlphaDropout(0.3), None)):
        module = module.train()
        shaped = x.reshape(200, 300, 1, 1).expand(-1, -1, 2, 2) if isinstance(module, nn.Dropout2d) else x
        with Keyed(funcbio.key(1)):
            one, other = module(shaped), module(shaped)
        with Keyed(funcbio.key(1)):
            assert torch.equal(module(shaped), one)
        assert not torch.equal(one, other)
        values = one.unique()
        assert len(values) == 2
        kept = (one == values.max()).float().mean().item() if mean else (one > 0).float().mean().item()
        assert abs(kept - 0.7) < 5 * (0.3 * 0.7 / 60_000) ** 0.5
        if isinstance(module, nn.Dropout2d):
            assert torch.equal(one[..., 0, 0], one[..., 1, 1])
        torch.testing.assert_close(values, module(shaped).unique(), rtol=1e-6, atol=1e-6)


def test_alpha_dropout_keeps_mean_and_variance():
    x = torch.randn(400, 400, generator=torch.Generator().manual_seed(1))
    with Keyed(funcbio.key(1)):
        y = F.alpha_dropout(x, 0.2, True)
    # Standard errors of mean and variance of 160,000 numbers are 0.0025 and about 0.005.
    assert abs(y.mean()) < 0.0125
    assert abs(y.var() - 1) < 0.03


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_in_attention_is_of_the_key(need_weights):
    attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True).train()
    x = torch.randn(3, 5, 8)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    call = partial(attention, x, x, x, need_weights=need_weights, attn_mask=mask)
    with Keyed(funcbio.key(1)):
        one = call()[0]
    with Keyed(funcbio.key(1)):
        assert torch.equal(call()[0], one)
    with Keyed(funcbio.key(2)):
        assert not torch.equal(call()[0], one)
    attention.eval()
    with Keyed(funcbio.key(1)):
        still = call()[0]
    torch.testing.assert_close(still, call()[0])
    with Keyed(funcbio.key(1)):
        q, k, v = torch.randn(3, 2, 5, 4).unsqueeze(1).unbind(0)
        torch.testing.assert_close(
            F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=1e-12),
            F.scaled_dot_product_attention(q, k, v, is_causal=True),
        )


# What torch cannot vmap


class Sparse(nn.Module):
    def __init__(self, sparse=True):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8, sparse=sparse), nn.Linear(8, 4)

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = spectral_norm(nn.Linear(12, 8)), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.head(x if x.mean() > 0.1 else 2 * x)


class Generator(nn.Module):
    """Draws in a way that is not keyed."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)) + torch.randn(x.shape[0], 8))


UNMAPPABLE = {"spectral": (Spectral, "mlp"), "branching": (Branching, "mlp"), "generator": (Generator, "mlp")}


@pytest.mark.parametrize("name", UNMAPPABLE)
def test_what_torch_cannot_vmap_trains_member_by_member_and_says_so(name):
    make, data = UNMAPPABLE[name]
    choice = ["head.weight"] if name == "spectral" else None
    run = partial(
        sweep,
        make,
        F.cross_entropy,
        examples(data),
        steps=4,
        batch_size=8,
        lr=0.1,
        synapses=choice,
        mechanisms=MECHANISMS,
    )
    with pytest.warns(UserWarning, match="this model trains member by member: torch cannot vmap it"):
        three = run(seeds=[1, 2, 3])
    with pytest.warns(UserWarning, match="member by member"):
        one = run(seeds=[3])
    for leaf, tensor in three.member(2).items():
        torch.testing.assert_close(one.member(0)[leaf], tensor, rtol=1e-5, atol=1e-6)


def test_embeddings_with_sparse_gradients_train_as_with_dense_ones():
    run = partial(engine, [1, 2], 3, data=examples("transformer"), mechanisms=[], config=BioConfig())
    assert_bits(run(model=Sparse)[0].params, run(model=lambda: Sparse(sparse=False))[0].params)


def test_an_error_of_the_model_is_its_own():
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        sweep(lambda: nn.Linear(5, 4), F.cross_entropy, examples("mlp"), steps=2, batch_size=8, seeds=2)


# Compiled


COMPILED = {
    "config": BioConfig(base_lr=0.9),
    "mechanisms": ["volume_dependent_lr", "fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "transformer", "resnet"])
def test_a_compiled_step_is_the_eager_one_and_compiles_once(name):
    options = {"model": MODELS[name][0], "data": MODELS[name][1](), **COMPILED}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        eager, _ = engine([4, 5], 2, **options)
        compiled, _ = engine([4, 5], 2, compile=True, **options)
        assert_bits(eager.state.replaced, compiled.state.replaced)
        assert_close(eager.params, compiled.params, rtol=1e-3, atol=1e-4)
        with torch._dynamo.config.patch(error_on_recompile=True):
            engine([4, 5], 4, compile=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noisy", "recurrent"])
def test_what_torch_cannot_compile_trains_without_and_says_so(name):
    options = {"model": MODELS[name][0], "data": MODELS[name][1](), **COMPILED}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        eager, _ = engine([4, 5], 3, **options)
        with pytest.warns(UserWarning, match="this model trains without compile=True: torch cannot compile it"):
            compiled, _ = engine([4, 5], 3, compile=True, **options)
    assert_bits(eager.params, compiled.params)


def test_any_number_of_sweeps_compiles_in_one_process():
    for size in range(12):  # Torch refuses to compile one piece of code more than eight times.
        graph = torch.compile(with_own_code(lambda x: 2 * x), backend="eager", fullgraph=True, dynamic=False)
        assert graph(torch.ones(size + 1)).sum() == 2 * (size + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_optimizers_compile(kind):
    options = {"momentum": 0.9} if kind in (torch.optim.SGD, torch.optim.RMSprop) else {}
    made = partial(kind, weight_decay=0.1, **options)
    run = partial(engine, [1, 2], 6, mechanisms=[], config=BioConfig(), optimizer=made, model=lambda: nn.Linear(12, 4))
    assert_close(run()[0].params, run(compile=True)[0].params, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_it_trains_eagerly_and_warns_once():
    code = (
        "import warnings, torch, funcbio; warnings.simplefilter('error', DeprecationWarning)\n"
        "x = torch.randn(32, 4)\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    r = funcbio.sweep(lambda: torch.nn.Linear(4, 1), torch.nn.functional.mse_loss, (x, x[:, :1]),\n"
        "        steps=5, batch_size=8, lr=0.1, seeds=4, chunk=2, compile=True)\n"
        "print(sum('needs a compiler' in str(w.message) for w in seen), len(r.table['step']))\n"
    )
    environment = {**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["1", "4"], done.stderr
