"""Ctrl-C in a sweep, at any line: nothing of the process or the user's is left changed, and a folder goes on."""

import itertools
import threading
import warnings
from functools import partial

import pytest
import torch
from interrupts import interrupted_everywhere
from torch import nn
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from funcbio import BioConfig, Mechanism, key, sweep
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._shared import LOCK, QUIET

MECHANISMS = ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates", Mechanism("rejuvenate_weights", every=2)]
EVERY = [577, pytest.param(37, marks=pytest.mark.slow)]


class World:
    """A sweep to be interrupted, of networks that are the user's own.

    Args:
        looped: Whether the network trains member by member.
        output: Its folder, or None.
    """

    def __init__(self, looped, output=None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(12, 6, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        torch.manual_seed(4)
        drop = Drawing() if looped else nn.Dropout(0.2)
        self.net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), drop, nn.Linear(4, 2))
        self.net[1].eval()  # A mode of its own.
        self.output = output
        self.before = self.held()

    def sweep(self):
        return sweep(
            lambda: self.net,
            F.cross_entropy,
            (self.x, self.y),
            steps=2,
            batch_size=4,
            lr=0.1,
            mechanisms=MECHANISMS,
            config=BioConfig(),
            seeds=2,
            share=["weights"],
            chunk=1,
            test=(self.x, self.y),
            record_every=1,
            output=self.output,
            save_seconds=0.0,
            progress=False,
        )

    def held(self):
        """What belongs to the process and to the user."""
        return {
            "generator": torch.get_rng_state().tolist(),
            "modes": [module.training for module in self.net.modules()],
            "tensors": {name: tensor.tolist() for name, tensor in self.net.state_dict().items()},
            "attributes": [sorted(vars(module)) for module in self.net.modules()],
            "default generator": torch.random.default_generator is torch.default_generator,
            "default type": torch.get_default_dtype(),
            "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "function modes": _get_current_function_mode_stack(),
            "dispatch modes": _get_current_dispatch_mode_stack(),
            "filters": list(warnings.filters),
            "vmap": torch._C._functorch.maybe_current_level(),
            "users": len(QUIET.users),
        }


class Drawing(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn(x.shape)


def free_for_others(lock):
    """Whether another thread can take a lock."""
    found = []

    def take():
        found.append(lock.acquire(timeout=1))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


def check(expected, world, where):
    after = world.held()
    for name, value in world.before.items():
        assert after[name] == value, (name, where)
    assert free_for_others(LOCK), where
    if world.output is not None:
        found = world.sweep()
        assert found.table == expected.table, where
        assert all(torch.equal(found.params[name], expected.params[name]) for name in expected.params), where
        assert [path.name for path in world.output.iterdir() if path.suffix == ".part"] == [], where


# Between the lines that make a temporary folder and enter it, Python itself takes the folder away, and says so.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.filterwarnings("ignore:this model trains member by member")
@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("every", EVERY)
def test_a_sweep_interrupted_at_any_line_leaves_all_as_it_was(every, looped, tmp_path):
    """By vmap in memory, and member by member in a folder, where the same call then goes on."""
    numbers = itertools.count()
    make = lambda: World(looped, tmp_path / str(next(numbers)) if looped else None)
    expected = World(looped).sweep()
    assert interrupted_everywhere(make, World.sweep, partial(check, expected), every) >= 4


def test_draws_from_a_seed_interrupted_at_any_line_leave_no_trace():
    """With one that torch draws through its own generator, and one in another thread's way."""

    def act(world):
        with seeded(key(1)):
            torch.rand(3)
            torch.manual_seed(2)
            torch.geqrf(torch.rand(2, 2))
            nn.functional.dropout(torch.ones(3))
        with QUIET.changed():
            pass

    world = World(looped=False)
    assert interrupted_everywhere(lambda: world, act, partial(check, None)) > 30
