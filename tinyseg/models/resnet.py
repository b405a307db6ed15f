"""ResNet (He et al., arXiv:1512.03385, table 1), of depth 18, 34, 50 or 101, optionally dilated.

Version 1.5, as torchvision's, with its keys: a bottleneck's stride sits on its 3x3 convolution.

Dilation keeps resolution: a stage whose stride would pass `output_stride` has stride 1, and from there on convolutions
are dilated by what was not strided (DeepLab v3, arXiv:1706.05587, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.nn import init
from tinyseg.nn.containers import chain

__all__ = ["DEPTHS", "BasicBlock", "Bottleneck", "ResNet"]

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int):
        if dilation > 1:
            raise ArgumentError(f"ResNet: dilation {dilation} in a block of two 3x3 convolutions; "
                                "needs the bottlenecks of depth 50 or 101")
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _short_cut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = chain((self.conv1, self.bn1, self.relu, self.conv2, self.bn2), x)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 down to `channels`, 3x3, and 1x1 up to four times as many, beside a short cut."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int):
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.relu = nn.ReLU()
        self.downsample = _short_cut(in_channels, 4 * channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = chain((self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu, self.conv3, self.bn3), x)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _short_cut(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """A projection where the shapes differ."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class ResNet(nn.Module):
    """(N, in_channels, H, W) -> logits (N, num_classes).

    num_classes      None: no classifier; the result is the last stage
    depth            18, 34, 50 or 101; only the last two can be dilated
    output_stride    32, 16 or 8: how much smaller the last stage is than the image
    dilation_rule    of the first block of a stage that is dilated instead of strided.  "torchvision": it keeps the
                     dilation of the stage before, since its input has not lost resolution yet.  "paper": all blocks
                     of a stage have the same
    multi_grid       factors of the dilation in the last stage's blocks, (1, 2, 4) in DeepLab v3
    extra_stages     copies of the last stage that follow it, as layer5, layer6 ...

    25,557,032 parameters for depth 50, 3 channels and 1000 classes.
    """

    def __init__(self, in_channels: int = 3, num_classes: int | None = 1000, depth: int = 50, output_stride: int = 32,
                 dilation_rule: str = "torchvision", multi_grid: Sequence[int] = (1, 1, 1),
                 extra_stages: int = 0):
        if depth not in DEPTHS:
            raise ArgumentError(f"ResNet: depth {depth}; legal: {', '.join(map(str, DEPTHS))}")
        if output_stride not in (8, 16, 32):
            raise ArgumentError(f"ResNet: output_stride {output_stride}; legal: 8, 16, 32")
        if dilation_rule not in ("torchvision", "paper"):
            raise ArgumentError(f"ResNet: dilation_rule {dilation_rule!r}; legal: 'torchvision', 'paper'")
        block = Bottleneck if depth >= 50 else BasicBlock
        if len(multi_grid) != DEPTHS[depth][3] and set(multi_grid) != {1}:
            raise ArgumentError(f"ResNet: multi_grid {tuple(multi_grid)}; needs a factor for each of the last stage's "
                                f"{DEPTHS[depth][3]} blocks")
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels, reached, dilation = 64, 4, 1       # before a stage: its channels, stride so far, dilation so far
        for stage, blocks in enumerate(DEPTHS[depth] + DEPTHS[depth][3:] * extra_stages):
            width = 64 * 2 ** min(stage, 3)
            stride = 1 if stage == 0 or reached == output_stride else 2
            before, dilation = dilation, dilation * (2 if stage and stride == 1 else 1)
            reached *= stride
            layers = []
            for k in range(blocks):
                rate = before if k == 0 and dilation_rule == "torchvision" else dilation
                rate *= multi_grid[k] if stage >= 3 and k < len(multi_grid) else 1
                layers.append(block(channels, width, stride if k == 0 else 1, rate))
                channels = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.channels = channels
        self.fc: nn.Linear | None = None
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> list[Tensor]:
        """The results of layer1, layer2 ..."""
        x = chain((self.conv1, self.bn1, self.relu, self.maxpool), x)
        found = []
        for name, layer in self.named_children():
            if name.startswith("layer"):
                x = layer(x)
                found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(x)[-1]
        return x if self.fc is None else self.fc(self.avgpool(x).flatten(1))
