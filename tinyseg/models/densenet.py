"""DenseNet-121 (Huang et al., arXiv:1608.06993, table 1) and the fully convolutional FC-DenseNet-56 and -103
(Jégou et al., arXiv:1611.09326, table 2).

In a dense block every layer sees the concatenation of all results before it, and adds `growth` channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg import nn
from tinyseg.autograd import Tensor, concatenate
from tinyseg.errors import ArgumentError
from tinyseg.models.segmenter import Segmenter
from tinyseg.nn import init
from tinyseg.nn.containers import chain

__all__ = ["DenseNet", "FCDenseNet"]


class DenseLayer(nn.Module):
    """Normalise, ReLU, 1x1 to 4·growth; normalise, ReLU, 3x3 to growth."""

    def __init__(self, in_channels: int, growth: int):
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return chain(self.children(), x)


class DenseBlock(nn.Module):
    """x followed by the results of all layers."""

    def __init__(self, in_channels: int, growth: int, layers: int):
        for k in range(layers):
            setattr(self, f"denselayer{k + 1}", DenseLayer(in_channels + k * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = concatenate([x, layer(x)], dim=1)
        return x


class Transition(nn.Module):
    """Half the channels, half the size."""

    def __init__(self, in_channels: int):
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return chain(self.children(), x)


class DenseNet(nn.Module):
    """DenseNet-121: (N, in_channels, H, W) -> logits (N, num_classes).  Keys are torchvision's.

    num_classes    None: no classifier; the result is the last block, normalised and cut below 0: (N, 1024, H/32, W/32)
    growth         channels that every layer adds

    7,978,856 parameters for 3 channels and 1000 classes.
    """

    def __init__(self, in_channels: int = 3, num_classes: int | None = 1000, growth: int = 32,
                 blocks: Sequence[int] = (6, 12, 24, 16)):
        channels = 2 * growth
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(in_channels, channels, 7, 2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(channels), "relu0": nn.ReLU(), "pool0": nn.MaxPool2d(3, 2, padding=1)}
        for k, count in enumerate(blocks, 1):
            layers[f"denseblock{k}"] = DenseBlock(channels, growth, count)
            channels += count * growth
            if k < len(blocks):
                layers[f"transition{k}"] = Transition(channels)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.relu = nn.ReLU()
        self.classifier: nn.Linear | None = None
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.features(x))
        return x if self.classifier is None else self.classifier(self.avgpool(x).flatten(1))


class _Layer(nn.Sequential):
    """Normalise, ReLU, 3x3 to growth, dropout."""

    def __init__(self, in_channels: int, growth: int, dropout: float):
        super().__init__(nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, growth, 3, padding=1),
                         nn.Dropout(dropout))


class _Block(nn.Module):
    """The layers' results alone: on the way up, what came in does not go on, or the channels would explode."""

    def __init__(self, in_channels: int, growth: int, layers: int, dropout: float):
        self.layers = nn.ModuleList([_Layer(in_channels + k * growth, growth, dropout) for k in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        new: list[Tensor] = []
        for layer in self.layers:
            new.append(layer(concatenate([x, *new], dim=1) if new else x))
        return concatenate(new, dim=1)


class FCDenseNet(Segmenter):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W), H and W multiples of 2^(len(blocks) - 1): 32.

    blocks     layers of the dense blocks on the way down, then of the one at the bottom; the way up mirrors the first
    growth     channels that every layer adds: 12 in FC-DenseNet-56, 16 in -103
    dropout    after every convolution of the dense blocks and the transitions down

    Dropout stands before batch norm, whose running statistics are then of a larger variance than `eval()` sees: take
    them anew for an evaluation, `nn.retake_statistics` or `tinyseg train --statistics 25`.
    For 3 channels and 12 classes FC-DenseNet-103 has 9,322,348 parameters (9.4M in the paper), -56 has 1,376,988.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 12, blocks: Sequence[int] = (4, 5, 7, 10, 12, 15),
                 growth: int = 16, dropout: float = 0.2, first: int = 48):
        if len(blocks) < 2 or min(blocks) < 1:
            raise ArgumentError(f"FCDenseNet: blocks {tuple(blocks)}; needs two or more numbers of layers")
        self.multiple = 2 ** (len(blocks) - 1)
        self.in_channels = in_channels
        self.first = nn.Conv2d(in_channels, first, 3, padding=1)
        channels, skips = first, []
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        *way, bottom = blocks
        for layers in way:
            self.down.append(_Block(channels, growth, layers, dropout))
            channels += layers * growth
            skips.append(channels)
            self.shrink.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1),
                                             nn.Dropout(dropout), nn.MaxPool2d(2)))
        self.bottom = _Block(channels, growth, bottom, dropout)
        new = bottom * growth
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for layers, skip in zip(reversed(way), reversed(skips), strict=True):
            self.enlarge.append(nn.ConvTranspose2d(new, new, 3, stride=2, padding=1, output_padding=1))
            self.up.append(_Block(new + skip, growth, layers, dropout))
            channels, new = new + skip + layers * growth, layers * growth
        self.last = nn.Conv2d(channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                init.he_normal_(module.weight)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        x, skips = self.first(x), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = concatenate([x, block(x)], dim=1)
            skips.append(x)
            x = shrink(x)
        new = self.bottom(x)
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = concatenate([enlarge(new), skips.pop()], dim=1)
            new = block(x)
        return self.last(concatenate([x, new], dim=1))
