"""The step of a fresh optimizer of Adam's family, for weights that each have an age of their own."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

WAYS = ("zero", "mean", "exact")
"""How an optimizer may go on with weights that were replaced."""
DIVISORS = ("exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum")
"""States of torch's optimizers that a step is divided by."""
NEGLIGIBLE = 2.0**-60
"""A product below this is lost beside 1 in every type."""
Moments = Mapping[str, Tensor]


def fresh_direction(
    kind: str, moments: Moments, grad: Tensor | None, age: Tensor, group: Mapping[str, Any], *, lr: float | Tensor = 1.0
) -> Tensor:
    """Returns the step that a fresh optimizer would make, without decoupled weight decay.

    Args:
        kind: The optimizer's name, a key of ``DIRECTIONS``.
        moments: Its state of one weight after the step, by torch's names.
        grad: The gradient, with its sign under ``maximize`` and coupled weight decay; only NAdam reads it.
        age: Steps that the moments of each element have seen, this one included; integers >= 1.
        group: Hyper-parameters, by torch's names.
        lr: The learning rate.
    """
    first = moments["exp_avg"]
    # Torch computes the corrections in Python's floats.
    wide = torch.float64 if first.device.type != "mps" else torch.float32
    return DIRECTIONS[kind](moments, grad, age.to(wide), {**group, "lr": lr})


def _adam(moments: Moments, grad: Tensor | None, age: Tensor, group: Mapping[str, Any]) -> Tensor:
    del grad
    (beta1, beta2), first = group["betas"], moments["exp_avg"]
    second = moments["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
    root = (1 - beta2**age).sqrt().to(first.dtype)
    size = (-group["lr"] / (1 - beta1**age)).to(first.dtype)
    return size * first / (second.sqrt() / root + group["eps"])


def _nadam(moments: Moments, grad: Tensor | None, age: Tensor, group: Mapping[str, Any]) -> Tensor:
    assert grad is not None
    (beta1, beta2), decay, first = group["betas"], group["momentum_decay"], moments["exp_avg"]
    mu = beta1 * (1.0 - 0.5 * (0.96 ** (age * decay)))
    mu_next = beta1 * (1.0 - 0.5 * (0.96 ** ((age + 1) * decay)))
    table = torch.tensor(_products(float(beta1), float(decay)), dtype=age.dtype, device=age.device)
    product = table[age.long().clamp(max=len(table) - 1)]
    denominator = (moments["exp_avg_sq"] / (1 - beta2**age).to(first.dtype)).sqrt() + group["eps"]
    now = (-group["lr"] * (1.0 - mu) / (1.0 - product)).to(first.dtype)
    later = (-group["lr"] * mu_next / (1.0 - product * mu_next)).to(first.dtype)
    return now * grad / denominator + later * first / denominator


@lru_cache(maxsize=16)
def _products(beta1: float, decay: float) -> tuple[float, ...]:
    """Returns the product of NAdam's momenta after 0, 1, 2... steps, until it is negligible."""
    products = [1.0]
    while products[-1] > NEGLIGIBLE:
        products.append(products[-1] * beta1 * (1.0 - 0.5 * (0.96 ** (len(products) * decay))))
    return (*products, 0.0)


def _radam(moments: Moments, grad: Tensor | None, age: Tensor, group: Mapping[str, Any]) -> Tensor:
    del grad
    (beta1, beta2), first = group["betas"], moments["exp_avg"]
    correction, longest = 1 - beta2**age, 2 / (1 - beta2) - 1
    rho = longest - 2 * age * (beta2**age) / correction
    safe = rho.clamp(min=5.0)
    rectified = ((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)).sqrt()
    adaptive = (correction.sqrt() * rectified).to(first.dtype) / (moments["exp_avg_sq"].sqrt() + group["eps"])
    mean = first / (1 - beta1**age).to(first.dtype)
    return -(mean * group["lr"] * torch.where(rho > 5.0, adaptive, 1.0))


def _adamax(moments: Moments, grad: Tensor | None, age: Tensor, group: Mapping[str, Any]) -> Tensor:
    del grad
    first = moments["exp_avg"]
    size = (-group["lr"] / (1 - group["betas"][0] ** age)).to(first.dtype)
    return size * first / moments["exp_inf"]


Direction = Callable[[Moments, Tensor | None, Tensor, Mapping[str, Any]], Tensor]
DIRECTIONS: dict[str, Direction] = {
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
}
"""Optimizers of torch whose step follows from moments, gradient and the number of steps."""


def mean_of_others(value: Tensor, where: Tensor) -> Tensor:
    """Returns the mean over the elements that are not new; 0 if all are."""
    kept = (~where).sum().clamp(min=1)
    return torch.where(where, 0.0, value).sum() / kept
