"""Heads: from a backbone's features to scores.  Keys are torchvision's where it has the head."""

from __future__ import annotations

from collections.abc import Sequence

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ShapeError
from tinyseg.models.layers import conv_norm, separable_conv_norm

__all__ = ["ASPP", "FCNHead", "ImagePooling", "LRASPPHead", "SkipDecoder"]

WIDTH = 256                                          # channels of DeepLab v3's head


class FCNHead(nn.Sequential):
    """3x3 to a quarter of the channels, dropout, 1x1 to the classes: (N, C, h, w) -> (N, num_classes, h, w)."""

    def __init__(self, in_channels: int, num_classes: int):
        middle = in_channels // 4
        super().__init__(*conv_norm(in_channels, middle, 3), nn.Dropout(0.1), nn.Conv2d(middle, num_classes, 1))


class ImagePooling(nn.Sequential):
    """What the whole image says, laid under every place: mean, 1x1 convolution, resized back."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), *conv_norm(in_channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.check_batch(len(x))
        return F.interpolate(super().forward(x), x.shape[2:], mode="bilinear")

    def check_batch(self, n: int) -> None:
        """Raises ShapeError where a batch of n images cannot be trained on."""
        if n == 1 and any(m.learns_statistics for m in self if isinstance(m, nn.BatchNorm2d)):
            raise ShapeError("ASPP's image pooling: of a batch of 1 its batch normalisation sees one value per channel,"
                             " whose variance is 0; train on batches of 2 or more, or with frozen statistics "
                             "(--frozen-norm, the net's option frozen_norm, or nn.freeze_norm)")


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., arXiv:1706.05587, section 3.3): the same features through a 1x1
    convolution, 3x3 convolutions of several rates and image pooling; joined, and projected by 1x1.

    (N, in_channels, h, w) -> (N, channels, h, w)

    separable    3x3 convolutions are depthwise, and 1x1 after it
    """

    def __init__(self, in_channels: int, rates: Sequence[int], dropout: float = 0.5, channels: int = WIDTH,
                 separable: bool = False):
        conv = separable_conv_norm if separable else conv_norm
        self.convs = nn.ModuleList([
            conv_norm(in_channels, channels, 1),
            *(conv(in_channels, channels, 3, dilation=rate) for rate in rates),
            ImagePooling(in_channels, channels)])
        self.project = nn.Sequential(*conv_norm(len(self.convs) * channels, channels, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.concatenate([branch(x) for branch in self.convs], dim=1))


class SkipDecoder(nn.Module):
    """The decoder of DeepLab v3+ (Chen et al., arXiv:1802.02611, section 3.1): ASPP's result is resized to the
    low-level features, which 48 channels sum up, so that they do not outweigh it; two 3x3 convolutions see both.

    (N, low_channels, h, w), (N, in_channels, h', w') -> (N, num_classes, h, w)

    separable    3x3 convolutions, also those of ASPP, are depthwise, and 1x1 after it
    """

    def __init__(self, low_channels: int, in_channels: int, num_classes: int, rates: Sequence[int],
                 separable: bool = False):
        conv = separable_conv_norm if separable else conv_norm
        self.aspp = ASPP(in_channels, rates, separable=separable)
        self.reduce = conv_norm(low_channels, 48, 1)
        self.refine = nn.Sequential(conv(WIDTH + 48, WIDTH, 3), conv(WIDTH, WIDTH, 3))
        self.score = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, low: Tensor, out: Tensor) -> Tensor:
        large = F.interpolate(self.aspp(out), low.shape[2:], mode="bilinear")
        return self.score(self.refine(F.concatenate([large, self.reduce(low)], dim=1)))


class LRASPPHead(nn.Module):
    """Lite reduced ASPP (Howard et al., arXiv:1905.02244, section 6.3): the image's mean gates the last features, whose
    scores are resized and added to those of earlier ones.

    (N, middle_channels, h, w), (N, in_channels, h', w') -> (N, num_classes, h, w)
    """

    def __init__(self, middle_channels: int, in_channels: int, num_classes: int, channels: int = 128):
        self.cbr = conv_norm(in_channels, channels, 1)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1, bias=False),
                                   nn.Sigmoid())
        self.low_classifier = nn.Conv2d(middle_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, middle: Tensor, out: Tensor) -> Tensor:
        gated = F.interpolate(self.cbr(out) * self.scale(out), middle.shape[2:], mode="bilinear")
        return self.low_classifier(middle) + self.high_classifier(gated)
