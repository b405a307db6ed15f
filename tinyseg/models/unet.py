"""U-Net (Ronneberger, Fischer & Brox, arXiv:1505.04597): the paper's unpadded net, and the padded one in common use.

Levels 0 .. depth, counted from the top.  Level l has base·2^l channels and half the size of the one above:

    inc            level 0      two 3x3 convolutions
    down1 .. down4 levels 1..   2x2 max pooling, two convolutions
    up1 .. up4     back up      up-sampling by 2, [skip, up] concatenated, two convolutions
    outc           level 0      1x1 convolution to the classes

Parameter names and their order are those of github.com/milesial/Pytorch-UNet, whose files
`tinyseg.interop.load_weights` reads.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.models.segmenter import Segmenter
from tinyseg.nn import init

__all__ = ["UNet"]


class DoubleConv(nn.Module):
    """Convolution 3x3, normalisation, ReLU: twice.  A normalisation makes the convolution's bias superfluous."""

    def __init__(self, in_channels: int, out_channels: int, middle: int, padding: str, norm: str | None):
        layers: list[nn.Module] = []
        for before, after in ((in_channels, middle), (middle, out_channels)):
            layers.append(nn.Conv2d(before, after, 3, padding=1 if padding == "same" else 0, bias=norm is None))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.ReLU())
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    """Half the size, then convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, padding: str, norm: str | None):
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2),
                                          DoubleConv(in_channels, out_channels, out_channels, padding, norm))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Twice the size, beside the skip connection, then convolve twice.

    Padded, an up-sampled map that is smaller than an odd skip gets zeros around it (the left and top ones rounded
    down); unpadded, the larger skip is cropped to its centre.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: str, up: str, norm: str | None):
        self.padding = padding
        if up == "bilinear":                         # does not change the channels, so the net below has half as many
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2, padding, norm)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels, out_channels, padding, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        dh, dw = (large - small for large, small in zip(skip.shape[2:], x.shape[2:], strict=True))
        if self.padding == "valid":
            skip = skip[:, :, dh // 2:dh // 2 + x.shape[2], dw // 2:dw // 2 + x.shape[3]]
        elif dh or dw:
            x = F.pad(x, (dw // 2, dw - dw // 2, dh // 2, dh - dh // 2))
        return self.conv(F.concatenate([skip, x], dim=1))


class OutConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UNet(Segmenter):
    """(N, in_channels, H, W) -> logits (N, num_classes, H', W').

    in_channels      channels of the images
    num_classes      channels of the logits
    base_channels    channels of the top level, doubled at each level below
    padding          "same": zeros around every convolution, and the logits have the size of the image.
                     "valid": no padding, and the logits have the size of the part that is fully seen (572 -> 388);
                     see `output_size` and `legal_sizes`.
    up               "transposed": learned 2x2 up-convolution, or "bilinear" (align_corners=True) with half the
                     channels below
    norm             "batch": batch normalisation and no bias; None, as in the paper: biases, and He's initialisation
    depth            how often the size is halved
    dropout          probability, in training, at the end of the contracting path (the lowest two levels)

    The paper's net is UNet(1, 2, padding="valid", norm=None, dropout=0.5), or `build("unet_paper", 1, 2)`.
    """

    def __init__(self, in_channels: int, num_classes: int, base_channels: int = 64, padding: str = "same",
                 up: str = "transposed", norm: str | None = "batch", depth: int = 4, dropout: float = 0.0):
        for name, value, legal in (("padding", padding, ("same", "valid")), ("up", up, ("transposed", "bilinear")),
                                   ("norm", norm, ("batch", None))):
            if value not in legal:
                raise ArgumentError(f"UNet: {name} {value!r}; legal: {', '.join(map(repr, legal))}")
        if min(in_channels, num_classes, base_channels, depth) < 1:
            raise ArgumentError(f"UNet: in_channels {in_channels}, num_classes {num_classes}, base_channels "
                                f"{base_channels}, depth {depth}; each needs to be at least 1")
        self.in_channels, self.num_classes, self.padding, self.depth = in_channels, num_classes, padding, depth
        channels = [base_channels * 2 ** level for level in range(depth + 1)]
        factor = 2 if up == "bilinear" else 1
        self.inc = DoubleConv(in_channels, channels[0], channels[0], padding, norm)
        for level in range(1, depth + 1):
            after = channels[level] // factor if level == depth else channels[level]
            setattr(self, f"down{level}", Down(channels[level - 1], after, padding, norm))
        for level in reversed(range(depth)):
            after = channels[level] // factor if level else channels[0]
            setattr(self, f"up{depth - level}", Up(channels[level + 1], after, padding, up, norm))
        self.outc = OutConv(channels[0], num_classes)
        self.dropout = nn.Dropout(dropout)
        if norm is None:
            self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        skips: list[Tensor] = []
        for level in range(self.depth + 1):
            x = getattr(self, f"down{level}")(x) if level else self.inc(x)
            if self.dropout.p and level >= self.depth - 1:
                x = self.dropout(x)
            skips.append(x)
        x = skips.pop()
        for step in range(1, self.depth + 1):
            x = getattr(self, f"up{step}")(x, skips.pop())
        return self.outc(x)

    @property
    def legal_sizes(self) -> range:
        """The heights and widths that the net takes, as a range without a practical end.

        Padded, every size from 2^depth.  Unpadded, those that leave an even size before every pooling, and something
        at the end: 16m + 60 with m >= 8 at depth 4.
        """
        step = 2 ** self.depth
        if self.padding == "same":
            return range(step, sys.maxsize)
        smallest = 8 - 3 // step                     # the least m with an output: (m-4)·2^d - 4(2^d - 1) >= 1
        return range(step * smallest + 4 * (step - 1), sys.maxsize, step)

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, int]:
        """(height, width) of the logits for an input of that size.

        Raises ShapeError, with the nearest legal sizes, for one that the net does not take.
        """
        height, width = super().output_size(input_size)
        lost = 0 if self.padding == "same" else 12 * 2 ** self.depth - 8     # 184 at depth 4
        return height - lost, width - lost

    def _rule(self, n: int) -> str:
        reason = " with every pooling's size even" if n >= self.legal_sizes.start else ""
        return f"{super()._rule(n)}, for depth {self.depth}{reason}"


def _he(module: nn.Module) -> None:
    """The paper's start: N(0, sqrt(2 / N)), N the inputs of one unit; biases 0."""
    if isinstance(module, nn.Conv2d):
        init.he_normal_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.ConvTranspose2d):     # kernel and stride are equal: a unit sees one cell, all channels
        init.normal_(module.weight, 0.0, math.sqrt(2 / module.in_channels))
        init.zeros_(module.bias)
