"""Models under fully_shard, converted before or after, equal the same model on one process, method by method."""

import re
import sys

import pytest
import torch
import torch.distributed as dist
from group import close, identical, processes
from nets import GRADIENT, NETS, WEIGHTS, backward, batch, convert, layers, report
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.debug import CommDebugMode

from funcbio import metrics, pool_activity, trees
from funcbio.tensors._sharding import is_distributed, local, whole

REJUVENATE = ("rejuvenate_weights", "rejuvenate_weights_old")


def shard(model, mesh):
    """The body and the rest each in a group of their own, as is customary for blocks."""
    fully_shard(model.body, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def pair(name, mesh, order, **changes):
    """The model on one process, and the same one sharded."""
    torch.manual_seed(7)
    alone = convert(NETS[name][0](), **changes)
    torch.manual_seed(7)
    model = NETS[name][0]()
    steps = {"before": (convert_with(changes), shard_on(mesh)), "after": (shard_on(mesh), convert_with(changes))}
    for step in steps[order]:
        model = step(model)
    return alone, model


def convert_with(changes):
    return lambda model: convert(model, **changes)


def shard_on(mesh):
    return lambda model: shard(model, mesh)


def compare(alone, model, where):
    for (key, expected), (_, found) in zip(alone.named_parameters(), model.named_parameters(), strict=True):
        close(found, expected, f"{where} {key}")
        assert (found.grad is None) == (expected.grad is None), where
        if expected.grad is not None:
            close(found.grad, expected.grad, f"{where} gradient of {key}")
    for expected, found in zip(layers(alone), layers(model), strict=True):
        for key, buffer in expected.named_buffers():
            close(found.get_buffer(key), buffer, f"{where} {expected.synapse.weight} {key}")


def call(alone, model, method, where, *args):
    expected, found = getattr(alone, method)(*args), getattr(model, method)(*args)
    compare(alone, model, f"{where} {method}")
    for key in expected or ():
        close(found[key], expected[key], f"{where} {method} mask of {key}")
        assert is_distributed(found[key]) == is_distributed(model.get_parameter(key))
    return expected


def check_methods(name, mesh, order, distribution):
    """Two training steps; the second starts from the same numbers again, or roundings of the first would add up."""
    alone, model = pair(name, mesh, order, fuzzy_lr_distribution=distribution, record_activity=True)
    where = f"{name} {order} {distribution}"
    compare(alone, model, f"{where} start")
    assert all(is_distributed(p) for p in model.parameters())
    replaced = 0
    for step in range(2):
        x = batch(name, step)
        for each in (alone, model):
            backward(each, x)
        pool_activity(model)
        for method in (*GRADIENT, "scale_grad"):
            call(alone, model, method, where)
        for each in (alone, model):
            torch.optim.SGD(each.parameters(), lr=0.5).step()
        for method in (*WEIGHTS, *REJUVENATE):
            masks = call(alone, model, method, where)
            replaced += sum(int(mask.sum()) for mask in (masks or {}).values())
        close(model.l1_reg(), alone.l1_reg().detach(), f"{where} l1_reg")
        level(alone, model)
    assert replaced > 0
    for bio in layers(model):
        rates = bio.fuzzy_learning_rate_parameters
        assert local(rates).shape == local(bio.weight).shape, "every process holds its own rates only"
        assert local(rates).untyped_storage().nbytes() == local(rates).nbytes, "and no memory of others"


@torch.no_grad()
def level(alone, model):
    for expected, found in zip(alone.parameters(), model.parameters(), strict=True):
        expected.copy_(whole(found))
    for expected, found in zip(layers(alone), layers(model), strict=True):
        expected.fuzzy_learning_rate_parameters.copy_(whole(found.fuzzy_learning_rate_parameters))


def check_gathered(mesh, order):
    """After a forward pass alone the weights lie gathered: what is written must not be lost with them."""
    alone, model = pair("mlp", mesh, order)
    for method in (*REJUVENATE, "enforce_dales_principle"):
        for each in (alone, model):
            each(batch("mlp", 0))
        assert not is_distributed(model.head.weight)
        call(alone, model, method, f"gathered {order}")
        model(batch("mlp", 0))
        model.reshard()
        compare(alone, model, f"gathered {order} {method} after the next pass")
    model(batch("mlp", 0))
    refuses(lambda: model.head.bio_mod.rejuvenate_weights(), r"call reshard() on the model")


def check_activity_update(mesh, order):
    """Without a recorded pass, the model is run on the input that is given."""
    config = {"fuzzy_lr_distribution": "activity", "record_activity": True}
    alone, model = pair("mlp", mesh, order, **config)
    call(alone, model, "update_fuzzy_learning_rates", f"activity {order}", batch("mlp", 0))
    assert any(bio.activation_count.any() for bio in layers(model))


def check_metrics(mesh, order):
    """The numbers are those of the whole layers, on every process."""
    alone, model = pair("mlp", mesh, order, record_activity=True)
    for each in (alone, model):
        backward(each, batch("mlp", 0))
    pool_activity(model)
    measured = []
    for each in (alone, model):
        params, grads, state = trees(each, replaced=each.rejuvenate_weights())
        measured.append(metrics(params, grads, state, update=grads, ranks=True))
    assert all(list(measured[0][layer]) == list(measured[1][layer]) for layer in measured[0])
    for layer, entries in measured[0].items():
        for entry, expected in entries.items():
            assert not is_distributed(measured[1][layer][entry])
            close(measured[1][layer][entry], expected, f"{order} {layer} {entry}")


def check_splitting(mesh, order):
    alone, model = pair("resnet", mesh, order, weight_splitting_Gamma=5)
    x = batch("resnet", 0)
    close(model(x), alone(x), f"splitting {order}")


def check_overflow(mesh):
    """One process's gradients are not finite: all of them leave everything as it is."""
    alone, model = pair("mlp", mesh, "before")
    for each in (alone, model):
        backward(each, batch("mlp", 0))
    gradient = model.head.weight.grad
    if dist.get_rank() == 1:
        gradient.to_local().fill_(float("inf"))
    alone.head.weight.grad.copy_(whole(gradient))
    for method in (*GRADIENT, *REJUVENATE):
        call(alone, model, method, "overflow")


def check_seeds(mesh):
    """Different seeds: refused if converted before, the first process's key if after."""
    torch.manual_seed(dist.get_rank())
    model = shard(convert(NETS["mlp"][0]()), mesh)
    before = [p.to_local().clone() for p in model.parameters()]
    refuses(model.rejuvenate_weights, "should be the same on every process")
    assert all(torch.equal(p.to_local(), q) for p, q in zip(model.parameters(), before, strict=True))
    torch.manual_seed(dist.get_rank())
    model = convert(shard(NETS["mlp"][0](), mesh))
    model.rejuvenate_weights()
    for bio in layers(model):
        identical(bio.key, "key")


def check_meta(mesh):
    """A model that never was whole on any process: sharded, given memory, and then converted."""
    with torch.device("meta"):
        model = NETS["mlp"][0]()
    refuses(lambda: convert(model), "convert after to_empty()", ValueError)
    model = shard(model, mesh).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    torch.manual_seed(0)
    convert(model)
    assert sum(int(whole(mask).sum()) for mask in model.rejuvenate_weights().values()) > 0
    for bio in layers(model):
        assert local(bio.fuzzy_learning_rate_parameters).shape == local(bio.weight).shape


def check_mixed_precision(mesh):
    """The mechanisms act on the sharded float32 weights, whatever the forward pass computes in."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    model = fully_shard(convert(NETS["mlp"][0](), record_activity=True), mesh=mesh, mp_policy=policy)
    backward(model, batch("mlp", 0))
    for method in (*GRADIENT, "scale_grad", *WEIGHTS, *REJUVENATE):
        getattr(model, method)()
    for bio in layers(model):
        assert bio.weight.dtype == bio.fuzzy_learning_rate_parameters.dtype == torch.float32


TALK = {
    "fuzzy_learning_rates": 0,
    "volume_dependent_lr": 0,
    "enforce_dales_principle": 0,
    "crystallize": 1,
    "rejuvenate_weights_old": 1,
    "rejuvenate_weights": 3,
}


def check_talk(mesh):
    """How often a method sends a number: a few times for a layer; and once, if it looks for overflowed gradients."""
    _, model = pair("mlp", mesh, "after")
    backward(model, batch("mlp", 0))
    for method, count in TALK.items():
        with CommDebugMode() as talk:
            getattr(model, method)()
        looks = method != "fuzzy_learning_rates"
        assert talk.get_total_counts() == looks + count * len(layers(model)), method


def refuses(action, text, error=RuntimeError):
    with pytest.raises(error, match=re.escape(text)):
        action()


def main(distributions, *names):
    with processes() as mesh:
        for order in ("before", "after"):
            for name in names:
                for distribution in distributions.split(","):
                    check_methods(name, mesh, order, distribution)
                    report(f"{name} {order} {distribution}")
            check_gathered(mesh, order)
            check_activity_update(mesh, order)
            check_metrics(mesh, order)
            check_splitting(mesh, order)
        check_overflow(mesh)
        check_seeds(mesh)
        check_meta(mesh)
        check_mixed_precision(mesh)
        check_talk(mesh)


if __name__ == "__main__":
    main(*sys.argv[1:])
