"""Residual networks for small images, of 6n + 2 layers."""

from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, NARROW = 16, 4
"""Channels of the first stage: of larger images, and of 8 x 8 ones."""


class Block(nn.Module):
    """Runs two convolutions beside a shortcut without parameters.

    Where the block halves the image and doubles the channels, the shortcut takes every second pixel and adds channels
    of zeros: option A of He et al.

    Args:
        inputs: Channels that come in.
        units: Channels that go out.
        stride: 2 halves the image.
    """

    def __init__(self, inputs: int, units: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, units, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(units)
        self.conv2 = nn.Conv2d(units, units, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(units)
        self.stride, self.added = stride, units - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Runs the block on ``(batch, channels, height, width)``."""
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        return F.relu(residual + F.pad(shortcut, (0, 0, 0, 0, half, self.added - half)))


class ResNet(nn.Module):
    """Runs a first convolution, three stages of blocks, the mean over the image, and the read-out.

    The first stage has ``width`` channels, every further one twice as many.
    """

    def __init__(self, channels: int, classes: int, blocks: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        layers, inputs = [], width
        for stage in range(3):
            units = width * 2**stage
            for index in range(blocks):
                layers.append(Block(inputs, units, 2 if stage > 0 and index == 0 else 1))
                inputs = units
        self.blocks = nn.Sequential(*layers)
        self.readout = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the scores of the classes, shape ``(batch, classes)``."""
        features = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.readout(features.mean(dim=(2, 3)))


def resnet(depth: int, shape: tuple[int, int, int], classes: int) -> ResNet:
    """Makes the CIFAR network of He et al. (arXiv 1512.03385, section 4.2), with shortcuts of option A.

    It has ``depth`` = 6n + 2 layers with weights; for 8 x 8 images 4, 8 and 16 channels instead of 16, 32 and 64.
    """
    return ResNet(shape[0], classes, (depth - 2) // 6, NARROW if shape[1] == 8 else WIDTH)
