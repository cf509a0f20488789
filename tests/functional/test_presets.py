"""Presets: one line that attaches mechanisms with settings that a comparison supports, and says what it rests on."""

import copy
import json
import pickle
from functools import partial

import pytest
import torch
from places import DOCS
from torch import nn

import funcbio
from funcbio import BioConfig, BioConverter, Mechanism, attach, presets, sweep
from funcbio.experiments.frame.intervals import spell
from funcbio.functional._presets import EVIDENCE


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def trained(model, mechanisms, **options):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(1)
    handle = attach(optimizer, model, mechanisms, **options)
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(2))
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()
    return handle, [parameter.detach().clone() for parameter in model.parameters()]


def test_attached_it_is_its_mechanisms_with_its_configuration():
    preset = presets.keep_plasticity()
    handle, weights = trained(net(), preset)
    _, same = trained(net(), list(preset), config=preset.config)
    _, default = trained(net(), [Mechanism(one.feature, every=one.every) for one in preset])
    assert all(map(torch.equal, weights, same))
    assert not all(map(torch.equal, weights, default))
    assert [mechanism.name for mechanism in handle.mechanisms] == [mechanism.name for mechanism in preset]


def test_it_says_what_it_does_and_where_the_evidence_is():
    said = f"{presets.keep_plasticity()}"
    assert said.startswith("keep_plasticity(")
    for part in ("does: ", "evidence: ", "page: ", "results-arena"):
        assert part in said
    assert max(map(len, said.splitlines())) <= 120


def test_its_evidence_is_what_the_arena_measured():
    table = json.loads((DOCS / "assets" / "arena.json").read_text())["table"]
    rows = [row for row in table if row["method"] == "keep_plasticity" and row["optimizer"] == "adam"]
    found = {row["task"]: spell(row["plain"], ".1f", scale=100.0) for row in rows}
    assert all(found[task] in EVIDENCE for task in ("pixels", "labels", "classes")), found


def test_its_numbers_can_be_changed():
    preset = presets.keep_plasticity(pull=0.5, threshold=0.25, every=7)
    assert preset.config.l2_init_strength == 0.5
    assert preset.config.rejuvenation_fraction == 0.25
    assert preset[-1].every == 7
    assert "every=7" in repr(preset)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "every should be an integer >= 1; found 0"),
        ({"pull": -1.0}, "pull should be a number >= 0"),
        ({"threshold": 2.0}, "threshold should be a number in"),
    ],
)
def test_bad_numbers_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        presets.keep_plasticity(**given)


def test_a_second_configuration_is_refused():
    model, preset = net(), presets.keep_plasticity()
    optimizer = torch.optim.Adam(model.parameters())
    for name, given in (("config", BioConfig()), ("converter", BioConverter())):
        with pytest.raises(ValueError, match=f"{name} should be None for a preset"):
            attach(optimizer, model, preset, **{name: given})
    converted = BioConverter()(net())
    with pytest.raises(ValueError, match=r"model should be plain, or converted with .'rejuvenation_variant': 'swr'"):
        attach(torch.optim.Adam(converted.parameters()), converted, preset)


def test_a_model_converted_with_its_configuration_is_taken():
    preset = presets.keep_plasticity()
    handles = [trained(model, preset)[0] for model in (net(), BioConverter(preset.config)(net()))]
    assert [[one.name for one in handle.mechanisms] for handle in handles] == [[one.name for one in preset]] * 2


def test_it_is_a_value():
    one, two = presets.keep_plasticity(), presets.keep_plasticity()
    assert len({one, two, presets.keep_plasticity(every=3)}) == 2
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


def test_a_sweep_takes_it_with_its_configuration():
    preset = presets.keep_plasticity(every=2)
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(2))
    given = {"steps": 6, "batch_size": 8, "lr": 0.1, "seeds": 2, "progress": False}
    data = x, x[:, :3].argmax(1)
    make = partial(sweep, lambda: nn.Linear(6, 3), nn.functional.cross_entropy, data, **given)
    names = [Mechanism(one.feature, every=one.every) for one in preset]
    found = [make(mechanisms=preset), make(mechanisms=[*preset], config=preset.config), make(mechanisms=names)]
    assert found[0].table == found[1].table != found[2].table
    with pytest.raises(ValueError, match="config should be left out for a preset"):
        make(mechanisms=preset, config=BioConfig(base_lr=0.5))
    column = lambda result, name: [
        loss
        for loss, which in zip(result.table["train_loss"], result.table["mechanisms"], strict=True)
        if which == name
    ]
    several = make(mechanisms={"plain": [], "keep": preset, "names": names})
    assert column(several, "keep") == pytest.approx(found[0].table["train_loss"])
    assert column(several, "names") == pytest.approx(found[2].table["train_loss"])
    assert column(several, "plain") == pytest.approx(make().table["train_loss"])


LOST = "config should be that of the preset of l2_init, or made from it by replace: give config=preset.config"


@pytest.mark.parametrize("form", [list, lambda preset: [*preset, "crystallize", "fuzzy_learning_rates"]])
def test_a_list_made_of_it_is_refused_without_its_configuration(form):
    preset, model = presets.keep_plasticity(), net()
    names = [*model.state_dict()]
    for given in (None, BioConfig(), BioConfig(crystal_thresh=0.1)):
        with pytest.raises(ValueError, match=LOST):
            trained(model, form(preset), config=given)
    with pytest.raises(ValueError, match=LOST):
        trained(BioConverter()(net()), form(preset))
    x = torch.randn(8, 6)
    make = partial(sweep, net, nn.functional.cross_entropy, (x, x[:, :3].argmax(1)), batch_size=4, seeds=1)
    make = partial(make, steps=32)
    for mechanisms in (form(preset), {"plain": [], "keep": form(preset)}):
        with pytest.raises(ValueError, match=LOST):
            make(mechanisms=mechanisms, progress=False)
        make(mechanisms=mechanisms, progress=False, config=preset.config, lr=0.1)
    assert [*model.state_dict()] == names
    trained(model, form(preset), config=preset.config.replace(rejuvenation_fraction=0.5))


def test_a_sweep_of_it_is_joined_to_a_plain_one():
    preset = presets.keep_plasticity()
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(2))
    data = x, x[:, :3].argmax(1)
    make = partial(
        sweep,
        lambda: nn.Linear(6, 3),
        nn.functional.cross_entropy,
        data,
        steps=20,
        batch_size=8,
        seeds=3,
        progress=False,
    )
    plain, keep = make(lr=0.1), make(lr=0.1, mechanisms=preset)
    joined = plain.label(mechanisms="plain").join(keep.label(mechanisms="keep"))
    assert joined.compare("train_loss", by="mechanisms", baseline="plain").pairs.tolist() == [3]
    with pytest.raises(ValueError, match="of the same settings, or told apart"):
        keep.join(make(lr=0.1, mechanisms=presets.keep_plasticity(pull=0.5), seeds=[3, 4]))
    with pytest.raises(ValueError, match="of the same settings, or told apart"):
        plain.join(make(lr=0.1, config=BioConfig(base_lr=0.3), seeds=[3, 4]))


def test_callbacks_take_it():
    session = pytest.importorskip("funcbio.integrations._session").Session
    preset = presets.keep_plasticity()
    options = {"converter": None, "fresh_rates": False, "ages": False, "log_every": None}
    made = session(preset, config=None, **options)
    assert made.config == preset.config
    with pytest.raises(ValueError, match="config should be None for a preset"):
        session(preset, config=BioConfig(), **options)


def test_a_slice_of_it_is_a_list_of_mechanisms():
    preset = presets.keep_plasticity()
    assert len(preset) == len(preset[:]) >= 1
    assert funcbio.presets is presets
