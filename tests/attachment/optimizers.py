"""Optimizers of kinds that torch.optim does not have, in our own words."""

import copy

import torch
from torch import optim


class Sharp(optim.Optimizer):
    """Sharpness-aware: climbs along the gradient, evaluates the closure there, comes back and steps."""

    def __init__(self, params, lr=0.1, always_back=False):
        super().__init__(params, {"lr": lr})
        self.base = optim.SGD(self.param_groups, lr=lr)
        self.param_groups = self.base.param_groups
        self.always_back = always_back

    def held(self):
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack([p.grad.norm() for p in self.held()]).norm() + 1e-12
        for p in self.held():
            self.state[p]["before"] = p.clone()
            p.add_(0.01 * p.grad / norm)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p in self.held():
            if self.always_back or p.grad is not None:
                p.copy_(self.state[p]["before"])
        self.base.step()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None
        self.first_step()
        with torch.enable_grad():
            loss = closure()
        self.second_step()
        return loss


class Probing(optim.Optimizer):
    """Zeroth-order: compares the loss at two points, and asks for no gradient."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        losses, held = [], [p for group in self.param_groups for p in group["params"]]
        noise = [torch.randn_like(p) for p in held]
        for by in (1e-3, -2e-3):
            for p, way in zip(held, noise, strict=True):
                p.add_(by * way)
            losses.append(float(closure()))
        for p, way in zip(held, noise, strict=True):
            p.add_((1e-3 - self.param_groups[0]["lr"] * (losses[0] - losses[1]) / 2e-3) * way)
        return losses[0]


class Searching(optim.Optimizer):
    """Evaluates the closure first, takes a step, and halves it while the loss has not fallen."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        held, lr = [p for group in self.param_groups for p in group["params"]], self.param_groups[0]["lr"]
        with torch.enable_grad():
            loss = closure()
        way, start = [p.grad.clone() for p in held], [p.clone() for p in held]
        for _ in range(5):
            for p, old, g in zip(held, start, way, strict=True):
                p.copy_(old - lr * g)
            with torch.enable_grad():
                now = closure()
            if now < loss:
                break
            lr /= 2
        return loss


class Own(optim.Adam):
    """An optimizer with a step of its own, that looks at all gradients together before Adam's."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.stack([g.norm() for g in grads]).norm()
        for g in grads:
            g.div_(norm)
        super().step()
        return loss


class Deaf(optim.SGD):
    """Takes a closure and never calls it."""

    def step(self, closure=None):
        return super().step()


class Master(optim.Optimizer):
    """SGD on weights of another type, with a copy in float32."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                held = self.state[p].setdefault("master", p.float().clone())
                p.copy_(held.sub_(group["lr"] * p.grad.float()))


class Nested(optim.Optimizer):
    """SGD on copies that are kept deeper down.

    Args:
        keep: Puts a copy into a weight's state.
        find: Finds it there.
    """

    def __init__(self, params, keep, find, lr=0.01):
        super().__init__(params, {"lr": lr})
        self.keep, self.find = keep, find

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if not self.state[p]:
                    self.keep(self.state[p], p.clone())
                held = self.find(self.state[p])
                p.copy_(held.sub_(group["lr"] * p.grad.view(held.shape)).view(p.shape))


class ScheduleFree(optim.Optimizer):
    """Averages its iterates z; the weights lie between z and the average."""

    def __init__(self, params, lr=0.01, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                mean = (p - (1 - group["beta"]) * z) / group["beta"]
                mean.lerp_(z.sub_(group["lr"] * p.grad), 1 / group["k"])
                p.copy_(group["beta"] * mean + (1 - group["beta"]) * z)


class Lookahead(optim.Optimizer):
    """Steps with another optimizer, and pulls the weights to slow ones now and then."""

    def __init__(self, params, lr=0.01, base=optim.Adam, every=2):
        super().__init__(params, {"lr": lr})
        self.base, self.every, self.count = base(self.param_groups, lr=lr), every, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.base.step()
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                slow = self.state[p].setdefault("slow", p.clone())
                if self.count % self.every == 0:
                    p.copy_(slow.lerp_(p, 0.5))


class Averaged(optim.SGD):
    """SGD with momentum that also keeps an average of the weights."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, lr=lr, momentum=0.9, weight_decay=0.1)

    def step(self, closure=None):
        super().step()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p].setdefault("ema", copy.deepcopy(p.detach())).lerp_(p, 0.1)
