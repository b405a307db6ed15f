"""DeepLab v1 (Chen et al., arXiv:1412.7062) and v2 (arXiv:1606.00915): a classifier whose last strides became rates,
and a field of view, or a sum of several, that scores it.

Both are trained on the coarse scores, by masks shrunk to them; in use the scores are resized to the image.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import reduce

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.models import vgg
from tinyseg.models.resnet_caffe import caffe_resnet101
from tinyseg.models.segmenter import Scored, Segmenter
from tinyseg.nn import init

__all__ = ["DeepLab", "DeepLabV1", "DeepLabV2"]

SMALL, LARGE = (2, 4, 8, 12), (6, 12, 18, 24)        # rates of ASPP-S and ASPP-L


class DeepLab(Segmenter):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W).

    base             gives scores of stride 8
    scales           further sizes of the image to look at; of all scores the largest counts
    align_corners    how scores are laid on the image

    In training mode the scores of every size, and for several their maximum: ("1x", "0.5x", ..., "max").
    """

    def __init__(self, in_channels: int, base: nn.Module, scales: Sequence[float] = (), align_corners: bool = False):
        self.in_channels, self.scales, self.align_corners = in_channels, tuple(scales), align_corners
        self.base = base

    @property
    def legal_sizes(self) -> range:
        """Of the smallest image that is looked at, one pixel must be left."""
        return range(math.ceil(1 / min((1, *self.scales))), sys.maxsize)

    def forward(self, x: Tensor) -> Tensor | tuple[Scored, ...]:
        self.check(x)
        found = {"1x": self.base(x)}
        for scale in self.scales:
            found[f"{scale:g}x"] = self.base(F.interpolate(x, scale_factor=scale, mode="bilinear"))
        if self.scales:
            size = found["1x"].shape[2:]
            found["max"] = reduce(F.maximum, [self._resized(scores, size) for scores in found.values()])
        if self.training:
            return tuple(Scored(name, scores, align_corners=self.align_corners) for name, scores in found.items())
        return self._resized(list(found.values())[-1], x.shape[2:])

    def _resized(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        if scores.shape[2:] == size:
            return scores
        return F.interpolate(scores, size, mode="bilinear", align_corners=self.align_corners)


class FieldOfView(nn.Sequential):
    """VGG16's fully connected layers as convolutions, the first dilated, so that few taps see far."""

    def __init__(self, num_classes: int, kernel: int, rate: int, hidden: int, dropout: float):
        super().__init__({
            "fc6": nn.Conv2d(512, hidden, kernel, padding=rate * (kernel - 1) // 2, dilation=rate),
            "relu6": nn.ReLU(), "drop6": nn.Dropout(dropout),
            "fc7": nn.Conv2d(hidden, hidden, 1), "relu7": nn.ReLU(), "drop7": nn.Dropout(dropout),
            "fc8": nn.Conv2d(hidden, num_classes, 1)})
        self.apply(_he)
        init.normal_(self.fc8.weight, 0.0, 0.01)


class SummedASPP(nn.Module):
    """Atrous spatial pyramid pooling of v2: the branches c0, c1 ..., one a rate, score the same features; the scores
    are summed.
    """

    def __init__(self, rates: Sequence[int], branch: Callable[[int], nn.Module]):
        for k, rate in enumerate(rates):
            setattr(self, f"c{k}", branch(rate))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.children())
        return sum(others, first)


class DeepLabV1(DeepLab):
    """DeepLab-LargeFOV on VGG16.  Its cells lie on every eighth pixel, so sizes 8m + 1 fit best: 321 -> 41.

    kernel, rate    the field of view.  The paper compares, for 3 channels and 21 classes,
                    kernel  rate  parameters
                    7       4     134,346,581
                    4       4      65,140,565
                    4       8      65,140,565
                    3       12     20,505,429    (LargeFOV)
    hidden          channels of fc6 and fc7; by default 1024 for LargeFOV, else VGG16's 4096
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, kernel: int = 3, rate: int = 12,
                 hidden: int | None = None, dropout: float = 0.5):
        if kernel < 1 or rate < 1 or rate * (kernel - 1) % 2:
            raise ArgumentError(f"DeepLabV1: kernel {kernel}, rate {rate}; needs rate·(kernel - 1) even, to keep the "
                                "size: rate 12 with kernel 3, 4 with 7, 4 or 8 with 4")
        head = FieldOfView(num_classes, kernel, rate, hidden or (1024 if kernel == 3 else 4096), dropout)
        base = nn.Sequential({"features": _vgg16(in_channels), "pool5a": nn.AvgPool2d(3, 1, padding=1), "fov": head})
        super().__init__(in_channels, base, align_corners=True)


class DeepLabV2(DeepLab):
    """DeepLab with ASPP on VGG16 or ResNet-101.

    backbone       "resnet101": its features are scored directly; "vgg16": each rate has its fc6, fc7 and fc8
    rates          of the branches: (6, 12, 18, 24) is ASPP-L, (2, 4, 8, 12) ASPP-S
    multi_scale    look at the image at 1, 0.75 and 0.5 of its size, and let the largest score count
    hidden         channels of fc6 and fc7 on VGG16

    With ResNet-101 keys are those of github.com/kazuto1011/deeplab-pytorch, and its weights load.  They came out of
    Caffe: their images are blue, green, red, 0..255 minus the mean colour (`load_weights` with bgr=True, or
    `interop.adopt_weights`, which knows).  The paper keeps trained batch statistics: `nn.freeze_norm`, or the option
    frozen_norm.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, backbone: str = "resnet101",
                 rates: Sequence[int] = LARGE, multi_scale: bool = True, hidden: int = 1024, dropout: float = 0.5):
        if backbone == "resnet101":
            layers = caffe_resnet101(in_channels)
            layers["aspp"] = SummedASPP(rates, lambda rate: _scores(2048, num_classes, rate))
        elif backbone == "vgg16":
            layers = {"features": _vgg16(in_channels), "aspp": SummedASPP(
                rates, lambda rate: FieldOfView(num_classes, 3, rate, hidden, dropout))}
        else:
            raise ArgumentError(f"DeepLabV2: backbone {backbone!r}; legal: resnet101, vgg16")
        super().__init__(in_channels, nn.Sequential(layers), (0.5, 0.75) if multi_scale else ())
        for name, module in self.base.named_modules():
            if isinstance(module, nn.Conv2d) and name.startswith("layer"):
                init.he_normal_(module.weight)


def _scores(in_channels: int, num_classes: int, rate: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate)
    init.normal_(layer.weight, 0.0, 0.01)
    init.zeros_(layer.bias)
    return layer


def _vgg16(in_channels: int) -> nn.Sequential:
    """VGG16's features, of stride 8: poolings are 3x3 with padding, the last two do not stride, and stage 5 is dilated
    in return.  Keys are torchvision's.
    """
    layers: list[nn.Module] = []
    for k, stage in enumerate(vgg.stages(in_channels, None, pool=False, dilations=(1, 1, 1, 1, 2)), 1):
        layers += [*stage, nn.MaxPool2d(3, 2 if k <= 3 else 1, padding=1)]
    return nn.Sequential(*layers).apply(_he)


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        init.he_normal_(module.weight)
        init.zeros_(module.bias)
