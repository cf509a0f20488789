"""Methods in place: over tiles, several layers together, several methods at once, compiled; always the same numbers."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from worlds import MODELS

import funcbio
from funcbio import BioConverter, BioModule
from funcbio.engine import _compiled as fused
from funcbio.engine import _eager as inplace
from funcbio.engine import _noise as ahead
from funcbio.engine import _statistics as statistics
from funcbio.engine import _tiles as tiles
from funcbio.engine._options import OPTIONS
from funcbio.engine._statistics import CHUNK
from funcbio.mechanisms import ROWS
from funcbio.objects import _method as bio_method
from funcbio.objects import _step as bio_step

CHAIN = ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates")
EVERYTHING = (*CHAIN, "scale_grad", "rejuvenate_weights", "enforce_dales_principle", "update_fuzzy_learning_rates")
FULL = {"apply_dales_principle": True, "record_activity": True, "fuzzy_lr_dynamic": True, "fuzzy_lr_update_freq": 1}


def sized(width):
    return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 257), nn.ReLU(), nn.Linear(257, 3))


def trained(model, x, seed=0, **options):
    torch.manual_seed(seed)
    bio_model = BioConverter(**options)(model)
    bio_model(x).square().sum().backward()
    return bio_model


def states(bio_model):
    """All that methods may change."""
    grads = {f"{n}.grad": p.grad for n, p in bio_model.named_parameters() if p.grad is not None}
    return {n: t.detach().clone() for n, t in {**bio_model.state_dict(), **grads}.items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def twins(width=64, **options):
    torch.manual_seed(1)
    bio_model = trained(sized(width), torch.randn(5, 30), **options)
    other = copy.deepcopy(bio_model)
    for p, q in zip(bio_model.parameters(), other.parameters(), strict=True):
        q.grad = p.grad.clone()
    return bio_model, other


@pytest.mark.parametrize("method", EVERYTHING)
@pytest.mark.parametrize("tile", [64, 1000, 1 << 30])
def test_the_size_of_tiles_changes_no_bit(method, tile, monkeypatch):
    bio_model, other = twins(width=300, **FULL, fuzzy_lr_distribution="weight_adaptive")
    for _ in range(2):
        getattr(bio_model, method)()
    monkeypatch.setattr(OPTIONS, "tile_elements", tile)
    monkeypatch.setattr(OPTIONS, "drawn_elements", 4096)
    for _ in range(2):
        getattr(other, method)()
    same(states(bio_model), states(other))


@pytest.mark.parametrize("tile", [CHUNK, 4 * CHUNK])
def test_statistics_do_not_depend_on_tiles(tile, monkeypatch):
    values = torch.randn(50_001)
    whole = statistics.mean(values, torch.abs), statistics.total(values)
    monkeypatch.setattr(OPTIONS, "sum_elements", tile)
    assert torch.equal(torch.stack(whole), torch.stack((statistics.mean(values, torch.abs), statistics.total(values))))


def test_tiles_cover_every_element_once():
    shapes = tuple(map(torch.Size, [(300, 7), (3, 5), (2, 1000, 3), (4,), (1, 9000), (0, 3)]))
    for together in (True, False):
        seen = [torch.zeros(shape, dtype=torch.int64) for shape in shapes]
        for pieces in tiles.tiles(shapes, 500, together):
            assert sum(piece.count for piece in pieces) <= 500
            for piece in pieces:
                place = tiles.part(seen[piece.layer], piece.index)
                assert place.numel() == piece.count
                place += 1
                flat = torch.arange(seen[piece.layer].numel()).view(shapes[piece.layer])
                assert flat.numel() == 0 or tiles.part(flat, piece.index).flatten()[0] == piece.start
        assert all((count == 1).all() for count in seen)


def test_numbers_drawn_ahead_are_those_of_the_calls_to_come(monkeypatch):
    bio_model, other = twins()
    for _ in range(40):  # Longer than what is kept; meanwhile another model draws under the same names.
        bio_model.volume_dependent_lr()
        twins()[0].volume_dependent_lr()
    assert len(ahead._memory) <= OPTIONS.drawn_sets
    monkeypatch.setattr(OPTIONS, "drawn_sets", 0)  # Every call draws its own.
    for _ in range(40):
        other.volume_dependent_lr()
    same(states(bio_model), states(other))
    assert len(ahead._memory) <= OPTIONS.drawn_sets


def test_keys_set_by_hand_are_followed():
    bio_model, other = twins()
    start = {n: b.clone() for n, b in bio_model.named_buffers() if n.endswith("key")}
    before = states(bio_model)
    bio_model.volume_dependent_lr()
    first = states(bio_model)
    bio_model.volume_dependent_lr()
    bio_model.load_state_dict(start, strict=False)
    for p in bio_model.named_parameters():
        p[1].grad.copy_(before[f"{p[0]}.grad"])
    bio_model.volume_dependent_lr()
    other.volume_dependent_lr()
    same(states(bio_model), first)
    same(states(other), first)


@pytest.mark.filterwarnings("ignore:apply_dales_principle should find:funcbio.IdleWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steps", [CHAIN, EVERYTHING, ("rejuvenate_weights_old", "volume_dependent_lr"), ()])
def test_a_combined_step_is_the_methods_one_after_the_other(name, steps):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    bio_model = trained(make(), torch.randn(shape), **FULL, fuzzy_lr_distribution="activity")
    other = copy.deepcopy(bio_model)
    for p, q in zip(bio_model.parameters(), other.parameters(), strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    for _ in range(3):
        replaced = bio_model.bio_step(*steps)
        results = {method: getattr(other, method)() for method in steps or CHAIN}
        expected = next((r for m, r in results.items() if m.startswith("rejuvenate")), None)
        assert (replaced is None) == (expected is None)
        if expected is not None:
            same(replaced, expected)
    same(states(bio_model), states(other))


def test_a_combined_step_looks_before_it_changes_anything():
    bio_model, _ = twins()
    before = states(bio_model)
    with pytest.raises(ValueError, match=r"steps should name methods of funcbio, perhaps crystallize"):
        bio_model.bio_step("volume_dependent_lr", "crystalize")
    with pytest.raises(AttributeError, match="Can not enforce dales principle"):
        bio_model.bio_step("volume_dependent_lr", "enforce_dales_principle")
    same(states(bio_model), before)
    bio_model[0].weight.grad[0, 0] = float("inf")
    before = states(bio_model)
    bio_model.bio_step()
    after = states(bio_model)
    for name in before:  # What fuzzy_learning_rates does to gradients that are lost anyway does not matter.
        assert name.endswith(".grad") or torch.equal(before[name], after[name]), name
    bio_model.zero_grad()
    with pytest.raises(RuntimeError, match="No gradients found for the weights"):
        bio_model.bio_step()
    with pytest.raises(ValueError, match="steps should be a sequence"):
        BioConverter(steps="crystallize")
    with pytest.raises(ValueError, match="compile should be True, False or None"):
        BioConverter(compile=1)


def test_a_model_that_is_let_go_is_let_go():
    bio_model, _ = twins()
    bio_model.bio_step()
    bio_model.crystallize()
    gone = weakref.ref(bio_model)
    del bio_model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("finite", [True, False])
def test_a_verdict_that_is_a_tensor_decides_without_being_asked(finite, monkeypatch):
    bio_model, other = twins(**FULL, fuzzy_lr_distribution="temporal")
    before = states(bio_model)
    for module in (bio_method, bio_step):
        monkeypatch.setattr(module, "finite_gradients", lambda *_, **__: torch.tensor(finite))
    # Rates scale gradients that have overflowed too: that harms nothing, and nobody looks.
    chain = CHAIN if finite else [name for name in CHAIN if not ROWS[name].ignores_overflow]
    bio_model.bio_step(*chain, "update_fuzzy_learning_rates")
    replaced = bio_model.rejuvenate_weights()
    if not finite:
        assert not any(mask.any() for mask in replaced.values())
        same(states(bio_model), before)
        return
    monkeypatch.undo()
    for method in (*CHAIN, "update_fuzzy_learning_rates"):
        getattr(other, method)()
    same(replaced, other.rejuvenate_weights())
    same(states(bio_model), states(other))


def test_a_part_that_was_converted_alone_loses_its_methods_to_the_whole():
    part = BioConverter()(sized(8))
    BioConverter()(nn.Sequential(part, nn.Linear(3, 3)))
    assert not hasattr(part, "crystallize")
    assert not hasattr(part, "bio_step")


def test_the_converter_names_the_steps_and_layers_without_gradient_are_passed_over():
    bio_model, other = twins(steps=("crystallize", "rejuvenate_weights"))
    for model in (bio_model, other):
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = None
    bio_model.bio_step()
    other.crystallize()
    other.rejuvenate_weights()
    same(states(bio_model), states(other))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_the_pure_function_too(dtype):
    torch.manual_seed(0)
    bio_model = BioConverter()(sized(40).to(dtype))
    for p in bio_model.parameters():
        p.grad = torch.randn_like(p) * 1e-2
    bio_mods = {m.synapse.weight: m for m in bio_model.modules() if isinstance(m, BioModule)}
    params = {n: bio_model.get_parameter(n).detach().clone() for n in bio_mods}
    grads = {n: bio_model.get_parameter(n).grad.clone() for n in bio_mods}
    state = funcbio.BioState(rate={n: b.fuzzy_learning_rate_parameters.clone() for n, b in bio_mods.items()})
    key = next(iter(bio_mods.values())).key.clone()
    params, grads, state = funcbio.chain(*(getattr(funcbio, n) for n in CHAIN))(params, grads, state, key=key)
    bio_model.bio_step()
    for name, bio in bio_mods.items():
        assert torch.equal(bio_model.get_parameter(name).grad, grads[name])
        assert torch.equal(bio.fuzzy_learning_rate_parameters, state.rate[name])


def test_channels_last_weights_stay_as_they_are_laid_out():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 4, 3))
    plain, last = (trained(copy.deepcopy(net), torch.randn(2, 8, 4, 4, generator=torch.manual_seed(1))) for _ in "ab")
    last.to(memory_format=torch.channels_last)
    last[0].weight.grad = last[0].weight.grad.contiguous(memory_format=torch.channels_last)
    for model in (plain, last):
        model.bio_step(*CHAIN, "rejuvenate_weights")
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    same(states(plain), states(last))


def test_passes_end_where_a_statistic_needs_what_was_written():
    def named(*names):
        bio_model, _ = twins()
        bio = bio_model[0].bio_mod
        steps = funcbio.objects._ready.steps_of(bio, names)
        return [[step.name for step in group] for group in inplace.passes(steps)]

    assert named(*CHAIN) == [list(CHAIN)]
    assert named("rejuvenate_weights", "crystallize") == [["rejuvenate_weights"], ["crystallize"]]
    assert named("crystallize", "rejuvenate_weights") == [["crystallize", "rejuvenate_weights"]]


def close(first, second, tolerance=1e-6):
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=tolerance, msg=name)


@pytest.mark.slow
def test_compiled_methods_equal_the_eager_ones_and_compile_once(monkeypatch):
    for number, width in enumerate((64, 300, 1000)):
        bio_model, other = twins(width)
        for bio in (m for m in bio_model.modules() if isinstance(m, BioModule)):
            bio.compiles = True
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            bio_model.bio_step()
            bio_model.rejuvenate_weights()
        other.bio_step()
        other.rejuvenate_weights()
        close(states(bio_model), states(other))
        for model in (bio_model, other):
            for p in model.parameters():
                p.grad = torch.full_like(p, 1e-3)
        bio_model[0].weight.grad[3, 3] = other[0].weight.grad[3, 3] = float("nan")
        before = states(bio_model)
        bio_model.crystallize()
        for name, value in states(bio_model).items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
def test_a_changed_hyper_parameter_compiles_nothing_anew(monkeypatch):
    bio_model, _ = twins()
    first = BioConverter(compile=True)(bio_model)
    first(torch.randn(5, 30)).sum().backward()
    first.bio_step()
    second = BioConverter(compile=True, base_lr=0.3, crystal_thresh=1e-3, dampening_factor=0.5)(first)
    second(torch.randn(5, 30)).sum().backward()
    with torch._dynamo.config.patch(error_on_recompile=True):
        second.bio_step()


def test_without_a_compiler_methods_go_on_and_say_so_once(monkeypatch):
    from funcbio.engine import _packages as packages

    def refuse(*args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(fused, "_broken", [])
    monkeypatch.setattr(packages, "build", refuse)
    monkeypatch.setattr(packages, "compile_here", refuse)
    monkeypatch.setattr(packages, "package_of", lambda name, place: None)
    packages._runner.cache_clear()
    bio_model, other = twins(width=61)  # Of shapes for which no other test has kept programs.
    for bio in (m for m in bio_model.modules() if isinstance(m, BioModule)):
        bio.compiles = True
    with pytest.warns(UserWarning, match=r"compile=True needs a compiler.*no compiler here"):
        bio_model.bio_step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bio_model.bio_step()
    other.bio_step()
    other.bio_step()
    same(states(bio_model), states(other))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({"apply_dales_principle": True}, ("rejuvenate_weights", "enforce_dales_principle")),
        ({"fuzzy_lr_distribution": "activity"}, ("update_fuzzy_learning_rates", "scale_grad")),
        ({"fuzzy_lr_distribution": "temporal", "fuzzy_lr_update_freq": 1}, ("update_fuzzy_learning_rates",)),
        ({"fuzzy_lr_distribution": "weight_adaptive"}, ("update_fuzzy_learning_rates",)),
        ({"rejuvenation_variant": "uniform"}, ("rejuvenate_weights",)),
        ({"rejuvenation_variant": "0.0.5"}, ("rejuvenate_weights",)),
    ],
)
def test_methods_compile_that_read_signs_and_activity(options, methods, monkeypatch):
    monkeypatch.setattr(OPTIONS, "spread_groups", 100)
    bio_model, other = twins(1100, fuzzy_lr_dynamic=True, **options)
    for bio in (m for m in bio_model.modules() if isinstance(m, BioModule)):
        bio.compiles = True
    for _ in range(2):
        for method in methods:
            found, expected = getattr(bio_model, method)(), getattr(other, method)()
            if expected is not None:
                same(found, expected)
    close(states(bio_model), states(other))
    assert not fused._broken
