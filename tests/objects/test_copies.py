"""Copies of converted models act on themselves alone; converted classes come through pickle into other processes."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from citizens import (
    CITIZENS,
    DUPLICATE,
    BioMlp,
    Child,
    Decorated,
    DecoratedChild,
    Mlp,
    batch,
    bio_mods,
    citizen,
    equal,
    gradients,
    pickled,
    snapshot,
    used,
)

from funcbio import BioConverter, BioModule

METHODS = [*BioModule.exposed_functions]
every_model = pytest.mark.parametrize("name", CITIZENS)


@every_model
@pytest.mark.parametrize("duplicate", DUPLICATE)
@pytest.mark.parametrize("method", METHODS)
def test_a_copy_acts_alike_and_on_itself_alone(name, duplicate, method):
    model = citizen(name)
    gradients(model, name)
    twin = DUPLICATE[duplicate](model)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.grad = None if p.grad is None else p.grad.clone()  # Torch itself copies no gradients.
    before = snapshot(model), [g.clone() for g in grads_of(model)]
    getattr(twin, method)()
    assert equal(snapshot(model), before[0])
    assert all(torch.equal(g, h) for g, h in zip(grads_of(model), before[1], strict=True))
    getattr(model, method)()
    assert equal(snapshot(model), snapshot(twin))
    assert all(torch.equal(g, h) for g, h in zip(grads_of(model), grads_of(twin), strict=True))


def grads_of(model):
    return [p.grad for p in model.parameters() if p.grad is not None]


@every_model
def test_a_copy_counts_its_own_activity(name):
    model = citizen(name).eval()
    twin = copy.deepcopy(model)
    twin(batch(name)[0])
    assert not any(bio.activation_count.any() for bio in bio_mods(model) if bio.records_activity)
    assert any(bio.activation_count.any() for bio in bio_mods(twin) if bio.records_activity)


# Converted classes


@pytest.mark.parametrize("cls", [BioMlp, Decorated, Child, DecoratedChild])
def test_instances_of_converted_classes_come_through_pickle(cls):
    instance = cls()
    twin = pickled(instance)
    assert type(twin) is cls
    assert equal(snapshot(instance), snapshot(twin))
    assert pickled(cls) is cls


def test_instances_of_converted_classes_come_into_a_spawned_process():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for cls, layers in ((BioMlp, 3), (Decorated, 2), (Child, 4), (DecoratedChild, 2)):
            instance = cls()
            here = used(pickle.dumps(instance))
            there = pool.submit(used, pickle.dumps(instance)).result()
            assert here[:2] == there[:2] == (True, layers)
            assert equal(here[2], there[2])


def test_a_converted_class_keeps_the_configuration_of_its_conversion():
    converter = BioConverter(dampening_factor=0.5)
    bio_class = converter(Mlp)
    converter.update_config(dampening_factor=0.9)
    assert bio_mods(bio_class())[0].config.dampening_factor == 0.5
    assert converter(Mlp) is not bio_class
