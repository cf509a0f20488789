"""Networks with sums and gates: a channel of two owners is no unit's alone."""

import torch
import torch.nn.functional as F
from answers import Answer, Net, alone, last, met, mixed
from torch import nn


class Residual(nn.Module):
    """A block beside a shortcut, behind a first layer or on the input itself."""

    def __init__(self, stem):
        super().__init__()
        self.stem = nn.Linear(2, 2) if stem else nn.Identity()
        self.fc1, self.fc2, self.head = nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.fc2(self.fc1(x).relu()))


class BasicBlock(nn.Module):
    """A block of ResNet with a projection."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)
        self.conv1, self.bn1 = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.down, self.bn3 = nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(3, 1)

    def forward(self, x):
        x = self.relu(self.bn0(self.stem(x)))
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.bn3(self.down(x))
        return self.fc(self.relu(y).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """Channels gated by their means."""

    def __init__(self):
        super().__init__()
        self.conv, self.down, self.up, self.head = nn.Conv2d(1, 3, 1), nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        x = self.conv(x)
        gate = self.up(self.down(x.mean((2, 3))).relu()).sigmoid()
        return self.head((x * gate[..., None, None]).mean((2, 3)))


class ConvNext(nn.Module):
    """A block of ConvNeXt: its norm stands behind the depthwise convolution, channels last."""

    def __init__(self):
        super().__init__()
        self.stem, self.dw = nn.Conv2d(1, 3, 2, 2), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(3), nn.Linear(3, 4), nn.Linear(4, 3)
        self.gamma, self.head = nn.Parameter(torch.full((3,), 1e-6)), nn.Linear(3, 1)

    def forward(self, x):
        x = self.stem(x)
        y = self.fc2(F.gelu(self.fc1(self.norm(self.dw(x).permute(0, 2, 3, 1)))))
        x = x + (self.gamma * y).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Gated(nn.Module):
    """A gate, and what passes through it, of two layers or of one."""

    def __init__(self, act, fused):
        super().__init__()
        self.act, self.fused, self.down = act, fused, nn.Linear(3, 1, bias=False)
        if fused:
            self.both = nn.Linear(2, 6, bias=False)
        else:
            self.gate, self.up = nn.Linear(2, 3, bias=False), nn.Linear(2, 3, bias=False)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1) if self.fused else (self.gate(x), self.up(x))
        return self.down(self.act(gate) * up)


FC1 = Answer({"fc2.weight": alone(0, 1, 2)}, {"fc1.weight": [0, 1, 2], "fc1.bias": [0, 1, 2]}, [0, 1, 2])
FC2 = Answer({"head.weight": met(0, 1)}, {"fc2.weight": [0, 1], "fc2.bias": [0, 1]}, [])
HEAD = last({"head.weight": [0], "head.bias": [0]})
RESIDUAL = {
    "stem.weight": Answer(
        {"fc1.weight": alone(0, 1), "head.weight": met(0, 1)}, {"stem.weight": [0, 1], "stem.bias": [0, 1]}, []
    ),
    **{"fc1.weight": FC1, "fc2.weight": FC2, "head.weight": HEAD},
}
ON_INPUT = {"fc1.weight": FC1, "fc2.weight": FC2, "head.weight": HEAD}


def normed(norm, units):
    return {f"{norm}.{name}": units for name in ("weight", "bias", "running_mean", "running_var")}


RESNET = {
    "stem.weight": Answer(
        {"conv1.weight": alone(0, 1), "down.weight": alone(0, 1)},
        {"stem.weight": [0, 1], **normed("bn0", [0, 1])},
        [0, 1],
    ),
    "conv1.weight": Answer(
        {"conv2.weight": alone(0, 1, 2)}, {"conv1.weight": [0, 1, 2], **normed("bn1", [0, 1, 2])}, [0, 1, 2]
    ),
    "conv2.weight": Answer({"fc.weight": met(0, 1, 2)}, {"conv2.weight": [0, 1, 2], **normed("bn2", [0, 1, 2])}, []),
    "down.weight": Answer({"fc.weight": met(0, 1, 2)}, {"down.weight": [0, 1, 2], **normed("bn3", [0, 1, 2])}, []),
    "fc.weight": last({"fc.weight": [0], "fc.bias": [0]}),
}
SQUEEZED = {
    "conv.weight": Answer(
        {"down.weight": alone(0, 1, 2), "head.weight": met(0, 1, 2)},
        {"conv.weight": [0, 1, 2], "conv.bias": [0, 1, 2]},
        [],
    ),
    "down.weight": Answer({"up.weight": alone(0, 1)}, {"down.weight": [0, 1], "down.bias": [0, 1]}, [0, 1]),
    "up.weight": Answer({"head.weight": met(0, 1, 2)}, {"up.weight": [0, 1, 2], "up.bias": [0, 1, 2]}, []),
    "head.weight": HEAD,
}
CONVNEXT = {
    "stem.weight": Answer(
        {"dw.weight": alone(0, 1, 2), "head.weight": met(0, 1, 2)},
        {"stem.weight": [0, 1, 2], "stem.bias": [0, 1, 2]},
        [],
    ),
    "dw.weight": Answer(
        {"fc1.weight": alone(0, 1, 2)},
        {"dw.weight": [0, 1, 2], "dw.bias": [0, 1, 2], "norm.weight": [0, 1, 2], "norm.bias": [0, 1, 2]},
        [0, 1, 2],
    ),
    "fc1.weight": Answer(
        {"fc2.weight": alone(0, 1, 2, 3)}, {"fc1.weight": [0, 1, 2, 3], "fc1.bias": [0, 1, 2, 3]}, [0, 1, 2, 3]
    ),
    "fc2.weight": Answer({"head.weight": met(0, 1, 2)}, {"fc2.weight": [0, 1, 2], "fc2.bias": [0, 1, 2]}, []),
    "head.weight": HEAD,
}
SEPARATE = {
    "gate.weight": Answer({"down.weight": met(0, 1, 2)}, {"gate.weight": [0, 1, 2]}, []),
    "up.weight": Answer({"down.weight": met(0, 1, 2)}, {"up.weight": [0, 1, 2]}, []),
    "down.weight": last({"down.weight": [0]}),
}
FUSED = {
    "both.weight": Answer({"down.weight": mixed(3)}, {"both.weight": [0, 1, 2, 3, 4, 5]}, []),
    "down.weight": last({"down.weight": [0]}),
}
VECTORS, IMAGES = (torch.rand(4, 2),), (torch.rand(2, 1, 4, 4),)

RESIDUALS = {
    "residual MLP": Net(lambda: Residual(stem=True), VECTORS, RESIDUAL),
    "residual on the input": Net(lambda: Residual(stem=False), VECTORS, ON_INPUT),
    "ResNet": Net(BasicBlock, IMAGES, RESNET),
    "squeeze and excite": Net(SqueezeExcite, IMAGES, SQUEEZED),
    "ConvNeXt": Net(ConvNext, IMAGES, CONVNEXT),
    "GLU, separate": Net(lambda: Gated(torch.sigmoid, fused=False), VECTORS, SEPARATE),
    "GLU, fused": Net(lambda: Gated(torch.sigmoid, fused=True), VECTORS, FUSED),
    "SwiGLU, separate": Net(lambda: Gated(F.silu, fused=False), VECTORS, SEPARATE),
    "SwiGLU, fused": Net(lambda: Gated(F.silu, fused=True), VECTORS, FUSED),
}
