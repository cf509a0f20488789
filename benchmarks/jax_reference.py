"""The competitor of ``sweep.py``: the same training written by hand in JAX, as fast as we could make it on a CPU.

Choices that were measured: convolutions as one matrix product over patches, channels last, are two to five times faster
here than ``lax.conv_general_dilated`` under vmap; pooling by reshape and select is faster than ``reduce_window``, and
gives ties to the first pixel as torch does; one draw for each layer costs the same as one for all.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch.func import functional_call, grad
from torch.nn import functional as F

import funcbio
from funcbio.rng import normal_tree

BASE_LR, STABILITY, VARIABILITY = 0.1, 2.0, 0.2
THRESHOLD, DAMPENING, NU = 4.5e-5, 0.6, 0.16
SCAN, CHUNK = 10, 32
"""Steps within one call in the scanned forms, and members at once in the chunked ones."""


def linear(params, name, x):
    """A layer with the weights of ``nn.Linear``."""
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def conv(params, name, x):
    """A 3x3 convolution with padding 1 and the weights of ``nn.Conv2d``; channels last."""
    height, width = x.shape[1:3]
    weight = params[f"{name}.weight"].transpose(2, 3, 1, 0)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = jnp.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=-1)
    rows = patches.reshape(-1, patches.shape[-1]) @ weight.reshape(-1, weight.shape[-1])
    return rows.reshape(*x.shape[:3], -1) + params[f"{name}.bias"]


def pool(x):
    """Largest of 2x2 pixels; channels last."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // 2, 2, width // 2, 2, channels)
    x = jnp.where(x[:, :, :, :, 0] >= x[:, :, :, :, 1], x[:, :, :, :, 0], x[:, :, :, :, 1])
    return jnp.where(x[:, :, 0] >= x[:, :, 1], x[:, :, 0], x[:, :, 1])


def mlp(params, x):
    """The network with one hidden layer."""
    return linear(params, "readout", jax.nn.relu(linear(params, "hidden", x)))


def cnn(params, x):
    """The network with two convolutions."""
    x = x.reshape(-1, 8, 8, 1)
    for name in ("conv1", "conv2"):
        x = pool(jax.nn.relu(conv(params, name, x)))
    return linear(params, "readout", x.transpose(0, 3, 1, 2).reshape(len(x), -1))


NETWORKS = {"mlp": mlp, "cnn": cnn}


def mechanisms(weight, gradient, rate, noise):
    """Volume-dependent learning rate, fuzzy learning rate and crystallization of one layer."""
    size = jnp.abs(weight)
    mean = BASE_LR * jnp.exp(-STABILITY * (size / (size + 1.0)))
    gradient = gradient * jnp.abs(mean * (1.0 + VARIABILITY * noise)) * rate
    magnitude = jnp.abs(gradient)
    dampened = (magnitude < THRESHOLD * size) | (magnitude > size.mean())
    return gradient, jnp.where(dampened, DAMPENING * rate, rate)


def learn(network, lr, params, rates, x, y, noise):
    """One step of one member, given its batch and noise: new parameters and rates, and the loss."""

    def loss_of(params):
        log_probabilities = jax.nn.log_softmax(network(params, x))
        return -jnp.take_along_axis(log_probabilities, y[:, None], axis=1).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    moved = {name: mechanisms(params[name], grads[name], rates[name], noise[name]) for name in rates}
    grads = grads | {name: gradient for name, (gradient, _) in moved.items()}
    params = jax.tree.map(lambda weight, gradient: weight - lr * gradient, params, grads)
    return params, {name: rate for name, (_, rate) in moved.items()}, loss


class Task(NamedTuple):
    """What is trained: name of the network, factory of its torch twin, data as torch tensors, batch size and lr."""

    network: str
    make: Callable[[], torch.nn.Module]
    x: torch.Tensor
    y: torch.Tensor
    batch: int
    lr: float


def make_step(task: Task) -> Callable[..., Any]:
    """Makes the step of a stack of members: batch, gradient, noise and update in one program."""
    x, y, network = jnp.asarray(task.x.numpy()), jnp.asarray(task.y.numpy(), dtype=jnp.int32), NETWORKS[task.network]

    def step(carry, key):
        params, rates, number = carry
        batch_key, *keys = jax.random.split(jax.random.fold_in(key, number), 1 + len(rates))
        batch = jax.random.randint(batch_key, (task.batch,), 0, len(x))
        noise = {name: jax.random.normal(own, params[name].shape) for name, own in zip(rates, keys, strict=True)}
        params, rates, loss = learn(network, task.lr, params, rates, x[batch], y[batch], noise)
        return (params, rates, number + 1), loss

    return jax.vmap(step)


def start(task: Task, seeds: list[int]) -> tuple[Any, Any]:
    """Makes a stack of members with the initial weights of torch, and their keys."""
    nets = []
    for seed in seeds:
        torch.manual_seed(seed)
        nets.append({name: p.detach().numpy() for name, p in task.make().named_parameters()})
    params = {name: jnp.asarray(np.stack([net[name] for net in nets])) for name in nets[0]}
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    low, high = 1.0 - NU, 1.0 + NU
    rates = {n: jax.random.uniform(jax.random.key(0), p.shape, minval=low, maxval=high) for n, p in params.items()}
    rates = {name: rate for name, rate in rates.items() if name.endswith("weight")}
    return (params, rates, jnp.zeros(len(seeds), jnp.int32)), keys


class Runner:
    """One form of the training: ``scan`` steps in one call, ``chunk`` members at once.

    Args:
        task: What is trained.
        seeds: One for each member.
        scan: Steps in one call.
        chunk: Members at once.
    """

    def __init__(self, task: Task, seeds: list[int], scan: int, chunk: int) -> None:
        self.task, self.scan = task, scan
        self.parts = [seeds[at : at + chunk] for at in range(0, len(seeds), chunk)]
        step = make_step(task)
        scanned = lambda carry, keys: lax.scan(lambda carry, _: step(carry, keys), carry, length=scan)
        self.call = jax.jit(step if scan == 1 else scanned, donate_argnums=0)
        began = time.perf_counter()
        jax.block_until_ready(self.call(*start(task, self.parts[0])))
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, steps: int) -> tuple[float, int]:
        """Trains from the start; returns seconds and the number of member-steps they cover."""
        states = jax.block_until_ready([start(self.task, part) for part in self.parts])
        began, losses = time.perf_counter(), []
        for carry, keys in states:
            for _ in range(steps // self.scan):
                carry, loss = self.call(carry, keys)
                losses.append(loss)
        jax.block_until_ready(losses)
        return time.perf_counter() - began, steps * sum(map(len, self.parts))


def forms(task: Task, seeds: list[int]) -> dict[str, Runner]:
    """All forms of the training; which one is the fastest depends on network, size and machine."""
    chunks = {"": len(seeds)} | ({f", chunks of {CHUNK}": CHUNK} if len(seeds) > CHUNK else {})
    scans = {"step": 1, f"scan of {SCAN}": SCAN}
    return {
        f"jax: {a}{b}": Runner(task, seeds, scan, chunk) for a, scan in scans.items() for b, chunk in chunks.items()
    }


def largest_difference(task: Task) -> float:
    """Compares a step with funcbio's pure functions: same weights, rates, batch and noise.

    Returns:
        The largest difference of any new parameter or rate factor.
    """
    torch.manual_seed(0)
    net = task.make()
    params, x, y = {n: p.detach() for n, p in net.named_parameters()}, task.x[: task.batch], task.y[: task.batch]
    bio, key = funcbio.bind(net, funcbio.BioConfig()), funcbio.key(1)
    state = bio.init(params, key=funcbio.key(0))
    noise = normal_tree(key, "volume_dependent_lr", state.rate)
    grads = grad(lambda params: F.cross_entropy(functional_call(net, params, (x,)), y))(params)
    chained = funcbio.chain(bio.volume_dependent_lr, bio.fuzzy_learning_rates, bio.crystallize)
    _, grads, after = chained(params, grads, state, key=key)
    expected = {n: p - task.lr * grads[n] for n, p in params.items()}
    as_jax = lambda tree: {n: jnp.asarray(leaf.numpy()) for n, leaf in tree.items() if leaf.ndim}
    rates = as_jax(state.rate)
    arrays = as_jax(params), rates, jnp.asarray(x.numpy()), jnp.asarray(y.numpy()), as_jax(noise)
    new, rate, _ = jax.jit(lambda *given: learn(NETWORKS[task.network], task.lr, *given))(*arrays)
    pairs = [(new[n], expected[n]) for n in new] + [(rate[n], after.rate[n]) for n in rates]
    return max(float(np.abs(np.asarray(ours) - theirs.numpy()).max()) for ours, theirs in pairs)
