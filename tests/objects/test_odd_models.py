"""Models that hold more than plain layers: converted with the rest left as it is, by every door, or refused by name."""

import copy

import pytest
import torch
from citizens import COUNTED
from odd_parts import PARTS, REFUSED, SCRIPTED, Gated, Lora, batch, gradients, net, part_of, quiet
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, BioModule, Mechanism, attach

# Torch's own: it looks at more than it uses when it compiles or copies, and has no gradient of quantized layers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:quantized..linear_dynamic"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]
UNCOPIED = ("sparse", "a norm to be initialized")  # By torch.
METHODS = [*BioModule.exposed_functions, "bio_step"]
every_part = pytest.mark.parametrize("kind", PARTS)


def converted(kind, **config):
    return BioConverter(**config)(net(PARTS[kind]))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def trained(model):
    return [p for p in model.parameters() if p.requires_grad and p.layout == torch.strided]


@every_part
def test_the_conversion_changes_no_output_and_the_part_trains_as_before(kind):
    plain, model = net(PARTS[kind]), converted(kind)
    assert torch.equal(model(batch()[0]), plain(batch()[0]))
    for one in (plain, model):
        optimizer = torch.optim.SGD(trained(one), lr=0.1)
        gradients(one)
        optimizer.step()
    for (name, moved), (_, should) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        if moved.layout == torch.strided:
            assert torch.equal(moved, should), name
    assert model.first.bio_mod is not None


@pytest.mark.sampled(7)
@pytest.mark.parametrize("method", METHODS)
@every_part
def test_every_method_leaves_the_part_alone(kind, method):
    model = converted(kind, **COUNTED)
    gradients(model)
    before = part_of(model)
    getattr(model, method)()
    if method == "update_fuzzy_learning_rates":
        model.update_fuzzy_learning_rates(batch()[0])  # Runs the model by itself.
    assert same(part_of(model), before)
    assert model.training


@pytest.mark.sampled(3)
@pytest.mark.parametrize("hooks", [True, False])
@every_part
def test_attached_mechanisms_leave_it_to_the_optimizer(kind, hooks):
    names = ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates", "scale_grad", "rejuvenate_weights"]
    names += ["update_fuzzy_learning_rates", "enforce_dales_principle"]
    more = [Mechanism("volume_dependent_lr", where="gradient"), Mechanism("rejuvenate_weights", where="gradient")]
    more += [Mechanism("rejuvenate_weights", where="update")]
    plain, model = net(PARTS[kind]), net(PARTS[kind])
    if kind.startswith("a norm"):
        plain(batch()[0]), model(batch()[0])
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    handle = attach(optimizer, model, [*names, *more], config=BioConfig(**COUNTED), hooks=hooks)
    gradients(model)
    expected = {name: p.detach() - 0.1 * p.grad for name, p in model.part.named_parameters() if p.grad is not None}
    expected = {name: value for name, value in expected.items() if name in part_of(model)}
    if not hooks:
        handle.before_step()
    optimizer.step()
    if not hooks:
        handle.after_step()
    assert handle.steps == 1
    handle.check(optimizer, model)
    found = part_of(model)
    assert all(torch.allclose(found[name], value) for name, value in expected.items())
    assert funcbio.metrics(*handle.trees())["all"]["weight_norm"].isfinite()
    handle.load_state_dict(handle.state_dict())
    handle.remove()
    assert not any("bio_mod" in module._modules for module in model.modules())


@every_part
def test_its_state_is_saved_and_loaded(kind, tmp_path):
    model = converted(kind, **COUNTED)
    other = converted(kind, **COUNTED)
    gradients(model), gradients(other)
    model.rejuvenate_weights()
    other.load_state_dict(model.state_dict())
    funcbio.save_checkpoint(tmp_path / "it", model=model)
    gradients(model)
    model.rejuvenate_weights()
    funcbio.load_checkpoint(tmp_path / "it", model=model)
    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two) if one.layout == torch.strided else torch.equal(one.values(), two.values()), name


@every_part
def test_pure_functions_take_its_parameters(kind):
    model = net(PARTS[kind])
    gradients(model)
    bio = funcbio.bind(model)
    params = {name: p.detach() for name, p in model.named_parameters()}
    state = bio.init(params, key=funcbio.key(0))
    grads = {name: torch.ones_like(p) if p.layout == torch.strided else p for name, p in params.items()}
    step = funcbio.chain(bio.crystallize, bio.volume_dependent_lr, bio.fuzzy_learning_rates, bio.rejuvenate_weights)
    after, _, state = step(params, grads, state, key=funcbio.key(1))
    for name, value in after.items():
        assert value is params[name] or name in bio.synapses
    assert funcbio.metrics(after, grads, state)["all"]["rate_mean"] > 0
    found = funcbio.trees(BioConverter()(model))
    assert found[0].keys() == params.keys()


@pytest.mark.parametrize("kind", [kind for kind in PARTS if kind not in UNCOPIED])
def test_copies_act_alike(kind):
    model = converted(kind, **COUNTED)
    gradients(model)
    twin = copy.deepcopy(model)
    for one in (model, twin):
        one.zero_grad()
        gradients(one, 1)
        one.bio_step()
        one.rejuvenate_weights()
    for (name, one), (_, two) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("kind", [kind for kind in PARTS if kind not in UNCOPIED])
def test_it_can_be_converted_again(kind):
    plain, x = net(PARTS[kind]), batch()[0]
    plain.apply(torch.ao.quantization.disable_observer)  # What they see moves their scales.
    model = BioConverter(weight_splitting_Gamma=2, record_activity=True)(copy.deepcopy(plain))
    split = model(x)
    BioConverter()(model)
    assert torch.equal(model(x), plain(x))
    assert not torch.equal(model(x), split)
    gradients(model)
    model.bio_step()


@pytest.mark.parametrize("door", ["convert", "attach", "bind", "synapses"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_treated_is_refused_by_name_before_anything_changes(kind, door):
    model = net(REFUSED[kind])
    before = {name: [*module._modules] for name, module in model.named_modules()}
    doors = {
        "convert": lambda: BioConverter()(model),
        "attach": lambda: attach(torch.optim.SGD(model.first.parameters(), 0.1), model, ["fuzzy_learning_rates"]),
        "bind": lambda: funcbio.bind(model),
        "synapses": lambda: funcbio.synapses(model),
    }
    with pytest.raises(ValueError, match="part"):
        doors[door]()
    assert before == {name: [*module._modules] for name, module in model.named_modules()}
    model = BioConverter(synapses=["first.weight", "out.weight"])(model)
    assert not hasattr(model.part, "bio_mod")


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_weights_of_programs_are_refused_if_they_are_asked_for_and_serve_pure_functions(kind):
    model = net(SCRIPTED[kind])
    with pytest.raises(ValueError, match=r"part\.0\.weight should belong to a module that can be converted; found"):
        BioConverter(synapses="*")(model)
    assert "bio_mod" not in model.first._modules
    assert "part.0.weight" in funcbio.synapses(model, "*")


@pytest.mark.parametrize("kind", ["compiled", "a compiled layer", "compiled in place"])
def test_compiled_parts_that_ran_learn_of_hooks_that_come_and_go(kind):
    makes = {**PARTS, "a compiled layer": lambda: torch.compile(nn.Linear(8, 8), backend="eager")}
    fast, plain = (
        net(makes[kind]),
        net(lambda: nn.Linear(8, 8) if kind == "a compiled layer" else nn.Sequential(nn.Linear(8, 8), nn.ReLU())),
    )
    x = batch()[0]
    assert torch.equal(fast(x), plain(x))
    for model in (fast, plain):
        BioConverter(weight_splitting_Gamma=2, record_activity=True)(model)
    assert torch.allclose(fast(x), plain(x))
    count = lambda model: [b.activation_count.tolist() for b in model.modules() if isinstance(b, BioModule)]
    assert count(fast) == count(plain)
    for model in (fast, plain):
        BioConverter()(model)
    assert torch.allclose(fast(x), plain(x))


def test_an_adapter_that_takes_the_place_of_a_converted_layer_keeps_its_splitting():
    model, plain = net(lambda: nn.Linear(8, 8)), net(lambda: nn.Linear(8, 8))
    for one in (model, plain):
        BioConverter(weight_splitting_Gamma=2)(one)
    model.part = Lora(model.part)
    nn.init.zeros_(model.part.lora_B.weight)
    x = batch()[0]
    assert torch.equal(model(x), plain(x))
    gradients(model)
    with pytest.warns(UserWarning, match=r"found part\.lora_A, part\.lora_B, added"):
        model.bio_step()


def test_further_matrices_of_a_layer_are_synapses_only_if_asked_for():
    assert "part.gate" not in funcbio.synapses(net(Gated))
    named = {"*": None, "part.gate": 1}
    model, once = BioConverter(synapses=named, **COUNTED)(net(Gated)), BioConverter(**COUNTED)(net(Gated))
    x = batch()[0]
    with pytest.warns(UserWarning, match=r"the signs of part\.gate should be loaded with it"):
        model.load_state_dict(once.state_dict(), strict=False)  # Dale's principle changed both.
    model.part.gate.data = once.part.gate.data
    assert torch.equal(model(x), once(x))
    gradients(model)
    model.scale_grad()
    model.bio_step()
    assert not model.part.bio_mod["gate"].records_activity


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), None


class Boxed(nn.Linear):
    def forward(self, x):
        return {"y": super().forward(x)}


@pytest.mark.parametrize("layer", [Pair, Boxed])
@pytest.mark.parametrize("config", [{"weight_splitting_Gamma": 2}, {"record_activity": True}])
def test_a_layer_that_puts_out_more_than_a_tensor_is_refused_by_name(layer, config):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = layer(5, 4), nn.Linear(4, 2)

        def forward(self, x):
            y = self.inner(x)
            return self.out(y[0] if isinstance(y, tuple) else y["y"])

    x = batch()[0]
    with pytest.raises(RuntimeError, match=r"the layer of inner\.weight should put out a tensor.*found (tuple|dict)"):
        BioConverter(**config)(Model())(x)
    with pytest.raises(ValueError, match=r"output should be a tensor; found (tuple|dict)"):
        funcbio.observe(Model(), config=BioConfig(**config))(dict(Model().named_parameters()), x)
    BioConverter()(Model())(x).sum().backward()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.compile(nn.Linear(8, 8), backend="eager"), "found 'part' compiled by torch.compile"),
        (lambda: torch.export.export(nn.Linear(8, 8), (torch.ones(6, 8),)).module(), "found 'part', made by torch"),
    ],
)
def test_a_sweep_refuses_programs_that_it_cannot_transform(make, message):
    with pytest.raises(ValueError, match=message):
        funcbio.sweep(lambda: net(make), nn.functional.mse_loss, batch(), steps=1, batch_size=6, lr=0.1, seeds=1)


def test_complex_parameters_train_in_a_sweep():
    run = lambda lr: funcbio.sweep(
        lambda: net(PARTS["complex"]), nn.functional.mse_loss, batch(), steps=1, batch_size=6, lr=lr, seeds=1
    )
    start, after = run(0.0).params, run(0.1).params
    model = net(PARTS["complex"])
    model.load_state_dict({name: value[0] for name, value in start.items()})
    gradients(model)
    for name, p in model.named_parameters():
        torch.testing.assert_close(after[name][0], p.detach() - 0.1 * p.grad, rtol=1e-4, atol=1e-6)


def test_a_model_that_is_one_program_is_refused():
    model = quiet(lambda: torch.jit.script(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="should contain a layer with synapses"):
        BioConverter()(model)
