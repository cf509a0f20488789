"""What rate factors do on the gradient and on the update, optimizer by optimizer: the table in docs/attach.md.

python benchmarks/places.py
"""

import warnings

import torch
from torch import nn, optim

from funcbio import Mechanism, attach

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, 0.05),
    "RMSprop": lambda p: optim.RMSprop(p, 1e-3),
    "Adam": lambda p: optim.Adam(p, 1e-3),
    "AdamW": lambda p: optim.AdamW(p, 1e-3),
    "Adagrad": lambda p: optim.Adagrad(p, 1e-2),
}
PLACES = ("gradient", "update")


def trained(make, where, steps=100):
    """The synapses of a small network after some steps, with or without rate factors."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 5))
    optimizer = make(net.parameters())
    if where:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attach(optimizer, net, [Mechanism("fuzzy_learning_rates", where=where)])
    for step in range(steps):
        x = torch.randn(32, 20, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - x[:, :5].cos()).square().mean().backward()
        optimizer.step()
    return torch.cat([layer.weight.detach().flatten() for layer in net if isinstance(layer, nn.Linear)])


def differences():
    """Relative difference of the weights that rate factors make, by optimizer and place."""
    found = {}
    for name, make in OPTIMIZERS.items():
        plain = trained(make, None)
        found[name] = {where: float((trained(make, where) - plain).norm() / plain.norm()) for where in PLACES}
    return found


if __name__ == "__main__":
    print("| optimizer | on the gradient | on the update |\n|---|---|---|")
    for name, row in differences().items():
        print(f"| {name} | {row['gradient']:.0e} | {row['update']:.0e} |")
