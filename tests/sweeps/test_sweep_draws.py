"""What a sweep draws in torch's place: every form of every call is as torch's own."""

import warnings

import pytest
import torch
from draws import FORMS, inputs
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio.sweeps._keyed import Keyed

# What only shows in the numbers, which no code under vmap can look at.
UNSEEN = "Expected p_in >= 0 && p_in <= 1"


def outcome(form, x):
    """What a call comes to: its result, or its error."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            found = form(x)
        except Exception as error:
            return None, (type(error), str(error))
    told = found.shape, found.dtype, found.device, found.layout, found.requires_grad, found is x
    return found, (*told, [str(warning.message) for warning in seen])


def moments(found):
    values = found.detach().to(torch.float64).flatten()
    return values.isnan().any().item(), values.mean(), values.var(correction=0), values


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_call_is_as_torch_s_own(name):
    form = FORMS[name]
    for what, x in inputs().items():
        plain, expected = outcome(form, x.clone())
        with Keyed(funcbio.key(3)):
            keyed, found = outcome(form, inputs()[what].clone())
        if plain is None and UNSEEN in expected[1]:
            continue
        assert found == expected, what
        if plain is None or plain.layout != torch.strided or plain.is_meta or not plain.numel() or plain.is_complex():
            continue
        hollow, mean, variance, values = moments(plain)
        found_hollow, found_mean, _, found_values = moments(keyed)
        assert hollow == found_hollow, what
        if "attention" in name:
            assert len(values) < 100 or (mean - found_mean).abs() < 0.15, what
            continue
        if len(values.unique()) <= 3:  # Dropped or kept: up to rounding in half types.
            most = found_values.abs().max().clamp(min=1.0)
            nearest = (found_values[:, None] - values.unique()).abs().amin(1)
            assert len(values) < 100 or nearest.max() <= 2e-2 * most, what
        channels = any(part in name for part in ("1d", "2d", "3d", "feature", "Feature"))
        samples = (
            len(values) // (x[0].numel() if x.ndim else 1) if channels else len(values)
        )  # At least, if channels go together.
        bound = 7 * (variance / samples).sqrt() + 1e-2 * mean.abs()
        if samples >= 30:
            assert (mean - found_mean).abs() <= bound, what


@pytest.mark.parametrize("name", FORMS)
def test_under_vmap_a_draw_is_that_of_a_loop_or_refused(name):
    form, keys = FORMS[name], torch.stack([funcbio.key(seed) for seed in (1, 2, 3)])

    def drawn(key, x):
        with Keyed(key):
            return form(x)

    for what, x in inputs().items():
        if x.layout != torch.strided:
            continue
        stacked = torch.stack([x.detach()] * 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                together = torch.vmap(drawn)(keys, stacked.clone())
            except Exception:
                continue
            for key, lane, each in zip(keys, stacked.clone(), together, strict=True):
                alone = drawn(key, lane)
                assert alone.is_meta or torch.equal(each, alone) or "attention" in name, what
                assert each.shape == alone.shape, what


def test_attention_where_nothing_may_be_looked_at_gives_zeros_and_gradients():
    x = torch.randn(4, 8, requires_grad=True)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    with Keyed(funcbio.key(1)):
        found = F.scaled_dot_product_attention(x, x, x, mask, 0.25)
    assert torch.equal(found[-1], torch.zeros(8))
    found.sum().backward()
    assert x.grad.isfinite().all()


class Masked(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.out, self.draw = nn.Linear(12, 1), draw

    def forward(self, x):
        return 0 * self.out(x) + self.draw(torch.ones_like(x)).mean()


KEPT = {
    "bernoulli(x, p=0.25)": lambda x: torch.bernoulli(x, p=0.25),
    "bernoulli(x, 0.25)": lambda x: torch.bernoulli(x, 0.25),
    "x.bernoulli(0.25)": lambda x: x.bernoulli(0.25),
    "bernoulli of a tensor": lambda x: torch.bernoulli(0.25 * x),
    "in place": lambda x: (F.dropout(x, 0.75, inplace=True), x / 4)[1],
    "rand_like": lambda x: (torch.rand_like(x, dtype=torch.float64) < 0.25).float(),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_mask_in_a_sweep_keeps_what_it_keeps_in_a_plain_loop(name):
    x = torch.zeros(2000, 12)
    loss = lambda output, target: output.mean() + 0 * target.sum()
    found = funcbio.sweep(lambda: Masked(KEPT[name]), loss, (x, x), steps=1, batch_size=2000, lr=0.0, seeds=3)
    kept = torch.tensor(found.table["train_loss"])
    assert (kept - 0.25).abs().max() < 5 * (0.25 * 0.75 / x.numel()) ** 0.5
    assert len(kept.unique()) == 3


def test_a_generator_of_the_model_s_own_is_used_as_it_is():
    """It draws one member after the other, which vmap could not."""

    def draw(x):
        return torch.rand_like(x, generator=torch.Generator().manual_seed(3))

    x = torch.zeros(8, 12)
    loss = lambda output, target: output.mean() + 0 * target.sum()
    with pytest.warns(UserWarning, match="rand_like draws from a generator of the model's own"):
        found = funcbio.sweep(lambda: Masked(draw), loss, (x, x), steps=1, batch_size=8, lr=0.0, seeds=2)
    assert len(set(found.table["train_loss"])) == 1
    assert found.table["train_loss"][0] == pytest.approx(float(draw(x).mean()))


@pytest.mark.parametrize("transform", ["none", "grad", "vmap"])
def test_torchs_methods_in_python_compile_beside_draws(transform):
    """As attention calls them, within its dropout's mode."""

    def forward(x, key):
        with Keyed(key):
            return F.dropout(x.unflatten(-1, (2, 3)), 0.5).sum()

    call = {"none": forward, "grad": torch.func.grad(forward), "vmap": torch.vmap(forward)}[transform]
    x, keys = torch.randn(4, 6), funcbio.split(funcbio.key(1), 4)
    args = (x, keys if transform == "vmap" else keys[0])
    assert torch.equal(torch.compile(call, fullgraph=True, backend="eager")(*args), call(*args))
