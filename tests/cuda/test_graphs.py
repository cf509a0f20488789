"""CUDA graphs: a step with mechanisms is refused, by hand it goes around the replay; methods and functions replay."""

import pytest
import torch
from devices import needs_cuda
from optree import tree_leaves, tree_map
from test_no_waiting import METHODS, on
from worlds import model_world

from funcbio import attach, chain, crystallize, fuzzy_learning_rates, key, rejuvenate_weights, volume_dependent_lr

pytestmark = [needs_cuda, pytest.mark.filterwarnings("ignore::funcbio.IdleWarning")]
CHAIN = ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates"]


def captured(step, warm=3):
    """Captures a step as torch asks for it: after some on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def state_of(model):
    grads = [parameter.grad for parameter in model.parameters()]
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers(), *grads)]


def test_an_attached_step_is_refused_and_changes_nothing():
    model = on("cuda")
    optimizer = torch.optim.Adam(model.parameters(), 0.1, capturable=True)
    handle = attach(optimizer, model, CHAIN)
    optimizer.step()
    before, graph = state_of(model), torch.cuda.CUDAGraph()

    def step():
        torch.ones(2, device="cuda").add_(1)  # Torch warns of graphs that hold nothing.
        optimizer.step()

    with pytest.raises(RuntimeError, match="should be made outside of a CUDA graph"), torch.cuda.graph(graph):
        step()
    assert all(map(torch.equal, state_of(model), before))
    optimizer.step()
    assert handle.steps == 2


def test_by_hand_a_replayed_step_is_the_same_as_one_without_a_graph():
    models = [on("cuda") for _ in range(2)]
    optimizers = [torch.optim.Adam(model.parameters(), 0.1, capturable=True) for model in models]
    handles = [attach(o, m, METHODS, hooks=False) for o, m in zip(optimizers, models, strict=True)]
    start = state_of(models[0])
    graph = captured(optimizers[0].step)
    for _ in range(3):  # As many as before the capture, which makes none.
        optimizers[1].step()
    steps = graph.replay, optimizers[1].step
    for _ in range(3):
        for handle, step in zip(handles, steps, strict=True):
            handle.before_step()
            step()
            handle.after_step()
    assert not all(map(torch.equal, state_of(models[0]), start))
    assert all(map(torch.equal, state_of(models[0]), state_of(models[1])))
    assert [handle.steps for handle in handles] == [3, 3]


@pytest.mark.parametrize("name", [*METHODS, "bio_step"])
def test_a_replayed_method_is_the_same_as_one_without_a_graph(name):
    first, second = on("cuda"), on("cuda")
    graph = captured(getattr(first, name))
    for _ in range(3):
        getattr(second, name)()
    for _ in range(3):
        graph.replay()
        getattr(second, name)()
        assert all(map(torch.equal, state_of(first), state_of(second)))


def test_a_replayed_function_draws_from_the_key_as_it_is_then():
    args = tree_map(lambda leaf: leaf.to("cuda"), model_world("mlp"))
    k, step = key(0, device="cuda"), chain(crystallize, volume_dependent_lr, fuzzy_learning_rates, rejuvenate_weights)
    results = []
    graph = captured(lambda: results.append(step(*args, key=k)))
    for seed in (1, 2):
        k.copy_(key(seed, device="cuda"))
        graph.replay()
        expected = step(*args, key=key(seed, device="cuda"))
        assert all(map(torch.equal, tree_leaves(results[-1]), tree_leaves(expected)))
