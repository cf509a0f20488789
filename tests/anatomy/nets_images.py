"""Networks that see images."""

import torch
from answers import Answer, Net, alone, last
from torch import nn

IMAGES = torch.rand(2, 1, 4, 4)


class ChannelLast(nn.Module):
    """Flattens with the channels last."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class Unet(nn.Module):
    """An encoder and a decoder, with a concatenated shortcut."""

    def __init__(self):
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
        self.up, self.dec, self.out = nn.ConvTranspose2d(3, 2, 2, 2), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 1, 1)

    def forward(self, x):
        fine = self.enc1(x).relu()
        coarse = self.enc2(nn.functional.max_pool2d(fine, 2)).relu()
        return self.out(self.dec(torch.cat([self.up(coarse), fine], 1)).relu())


class Dense(nn.Module):
    """Every layer sees all layers before it, behind a norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm, self.c, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1), nn.Linear(5, 1)

    def forward(self, x):
        a = self.a(x)
        b = torch.cat([a, self.b(a.relu())], 1)
        return self.head(torch.cat([b, self.c(self.norm(b).relu())], 1).mean((2, 3)))


def convolution(flatten, norm=None):
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), norm or nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), flatten, nn.Linear(8, 1)
    )


def behind(owner, norm):
    """The answers for a convolution and a norm before a read-out."""
    parts = {"0.weight": [0, 1], "0.bias": [0, 1], **{f"1.{name}": [0, 1] for name in norm}}
    return {
        "0.weight": Answer({"5.weight": alone(*owner)}, parts, [0, 1]),
        "5.weight": last({"5.weight": [0], "5.bias": [0]}),
    }


RUNNING = ("weight", "bias", "running_mean", "running_var")


def separable():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.Conv2d(3, 3, 2, groups=3),
        nn.ReLU6(),
        nn.Conv2d(3, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


SEPARABLE = {
    "0.weight": Answer({"1.weight": alone(0, 1, 2)}, {"0.weight": [0, 1, 2]}, [0, 1, 2]),
    "1.weight": Answer({"3.weight": alone(0, 1, 2)}, {"1.weight": [0, 1, 2], "1.bias": [0, 1, 2]}, [0, 1, 2]),
    "3.weight": Answer(
        {"6.weight": alone(0, 1, 2, 3)}, {"3.weight": [0, 1, 2, 3], "3.bias": [0, 1, 2, 3]}, [0, 1, 2, 3]
    ),
    "6.weight": last({"6.weight": [0], "6.bias": [0]}),
}


def grouped():
    return nn.Sequential(
        nn.Conv1d(1, 4, 1), nn.ReLU(), nn.Conv1d(4, 6, 1, groups=2), nn.Tanh(), nn.ConvTranspose1d(6, 2, 2, groups=2)
    )


GROUPED = {
    "0.weight": Answer(
        {"2.weight": alone(0, 1, 2, 3)}, {"0.weight": [0, 1, 2, 3], "0.bias": [0, 1, 2, 3]}, [0, 1, 2, 3]
    ),
    "2.weight": Answer(
        {"4.weight": alone(0, 1, 2, 3, 4, 5)},
        {"2.weight": [0, 1, 2, 3, 4, 5], "2.bias": [0, 1, 2, 3, 4, 5]},
        [0, 1, 2, 3, 4, 5],
    ),
    "4.weight": last({"4.weight": [0, 1], "4.bias": [0, 1]}),
}


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(1, 3, 2, 2), nn.LeakyReLU(0.1), nn.ConvTranspose2d(3, 2, 2, 2), nn.ReLU(), nn.Conv2d(2, 1, 1)
    )


AUTOENCODER = {
    "0.weight": Answer({"2.weight": alone(0, 1, 2)}, {"0.weight": [0, 1, 2], "0.bias": [0, 1, 2]}, [0, 1, 2]),
    "2.weight": Answer({"4.weight": alone(0, 1)}, {"2.weight": [0, 1], "2.bias": [0, 1]}, [0, 1]),
    "4.weight": last({"4.weight": [0], "4.bias": [0]}),
}
UNET = {
    "enc1.weight": Answer(
        {"enc2.weight": alone(0, 1), "dec.weight": alone(-1, -1, 0, 1)},
        {"enc1.weight": [0, 1], "enc1.bias": [0, 1]},
        [0, 1],
    ),
    "enc2.weight": Answer({"up.weight": alone(0, 1, 2)}, {"enc2.weight": [0, 1, 2], "enc2.bias": [0, 1, 2]}, [0, 1, 2]),
    "up.weight": Answer({"dec.weight": alone(0, 1, -1, -1)}, {"up.weight": [0, 1], "up.bias": [0, 1]}, [0, 1]),
    "dec.weight": Answer({"out.weight": alone(0, 1)}, {"dec.weight": [0, 1], "dec.bias": [0, 1]}, [0, 1]),
    "out.weight": last({"out.weight": [0], "out.bias": [0]}),
}
DENSE = {
    "a.weight": Answer(
        {"b.weight": alone(0, 1), "c.weight": alone(0, 1, -1, -1), "head.weight": alone(0, 1, -1, -1, -1)},
        {"a.weight": [0, 1], "a.bias": [0, 1], **{f"norm.{name}": [0, 1, -1, -1] for name in RUNNING}},
        [0, 1],
    ),
    "b.weight": Answer(
        {"c.weight": alone(-1, -1, 0, 1), "head.weight": alone(-1, -1, 0, 1, -1)},
        {"b.weight": [0, 1], "b.bias": [0, 1], **{f"norm.{name}": [-1, -1, 0, 1] for name in RUNNING}},
        [0, 1],
    ),
    "c.weight": Answer({"head.weight": alone(-1, -1, -1, -1, 0)}, {"c.weight": [0], "c.bias": [0]}, [0]),
    "head.weight": last({"head.weight": [0], "head.bias": [0]}),
}
EACH_TIMES_4, IN_TURN = (0, 0, 0, 0, 1, 1, 1, 1), (0, 1, 0, 1, 0, 1, 0, 1)
AFFINE = ("weight", "bias")
GROUP_NORM = lambda: nn.GroupNorm(1, 2)

SEEING = {
    "convolution": Net(lambda: convolution(nn.Flatten()), (IMAGES,), behind(EACH_TIMES_4, RUNNING)),
    "convolution, batch of one": Net(lambda: convolution(nn.Flatten()), (IMAGES[:1],), behind(EACH_TIMES_4, RUNNING)),
    "channel last": Net(lambda: convolution(ChannelLast()), (IMAGES,), behind(IN_TURN, RUNNING)),
    "group norm": Net(lambda: convolution(nn.Flatten(), GROUP_NORM()), (IMAGES,), behind(EACH_TIMES_4, AFFINE)),
    "separable convolution": Net(separable, (IMAGES,), SEPARABLE),
    "grouped convolution": Net(grouped, (IMAGES[:, :, 0],), GROUPED),
    "autoencoder": Net(autoencoder, (IMAGES,), AUTOENCODER),
    "U-Net": Net(Unet, (IMAGES,), UNET),
    "DenseNet": Net(Dense, (IMAGES,), DENSE),
}
