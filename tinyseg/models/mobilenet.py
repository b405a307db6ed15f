"""MobileNetV2 (Sandler et al., arXiv:1801.04381, table 2) and MobileNetV3-Large (Howard et al., arXiv:1905.02244,
table 1): inverted residuals, whose wide middle is convolved depthwise.  Keys are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.models.layers import conv_norm
from tinyseg.nn import init

__all__ = ["MobileNetV2", "MobileNetV3"]


def rounded(channels: float) -> int:
    """The nearest multiple of 8, but not less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class _Residual2(nn.Module):
    """Widen by 1x1, convolve depthwise, narrow by 1x1 without activation; added to x where the shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int, widening: int):
        wide = in_channels * widening
        layers: list[nn.Module] = [] if widening == 1 else [conv_norm(in_channels, wide, 1, activation=nn.ReLU6)]
        self.conv = nn.Sequential(*layers, conv_norm(wide, wide, 3, stride, dilation, wide, nn.ReLU6),
                                  nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, in_channels, H, W) -> logits (N, num_classes).

    num_classes      None: no classifier; the result is the last stage, (N, 1280, H/s, W/s)
    output_stride    s: 32, 16 or 8; stages whose stride would pass it are dilated

    3,504,872 parameters for 3 channels and 1000 classes.
    """

    # widening, channels, blocks, stride
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, in_channels: int = 3, num_classes: int | None = 1000, output_stride: int = 32,
                 dropout: float = 0.2):
        _check_stride("MobileNetV2", output_stride)
        layers: list[nn.Module] = [conv_norm(in_channels, 32, 3, 2, activation=nn.ReLU6)]
        channels, reached, dilation = 32, 2, 1
        for widening, outputs, blocks, stride in self.STAGES:
            before = dilation
            if stride == 2 and reached == output_stride:
                stride, dilation = 1, 2 * dilation
            reached *= stride
            for k in range(blocks):
                layers.append(_Residual2(channels, outputs, stride if k == 0 else 1, before if k == 0 else dilation,
                                         widening))
                channels = outputs
        layers.append(conv_norm(channels, 1280, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.classifier: nn.Sequential | None = None
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return x if self.classifier is None else self.classifier(self.avgpool(x).flatten(1))


class SqueezeExcitation(nn.Module):
    """Channels weighed by what the whole image says: average, two 1x1 convolutions, a gate in [0, 1]."""

    def __init__(self, channels: int, squeezed: int):
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))


@dataclass(frozen=True)
class _Row:
    """One row of the paper's table 1."""

    kernel: int
    wide: int
    channels: int
    gated: bool
    activation: type[nn.Module]
    stride: int


_RE, _HS = nn.ReLU, nn.Hardswish
_LARGE = (_Row(3, 16, 16, False, _RE, 1), _Row(3, 64, 24, False, _RE, 2), _Row(3, 72, 24, False, _RE, 1),
          _Row(5, 72, 40, True, _RE, 2), _Row(5, 120, 40, True, _RE, 1), _Row(5, 120, 40, True, _RE, 1),
          _Row(3, 240, 80, False, _HS, 2), _Row(3, 200, 80, False, _HS, 1), _Row(3, 184, 80, False, _HS, 1),
          _Row(3, 184, 80, False, _HS, 1), _Row(3, 480, 112, True, _HS, 1), _Row(3, 672, 112, True, _HS, 1),
          _Row(5, 672, 160, True, _HS, 2), _Row(5, 960, 160, True, _HS, 1), _Row(5, 960, 160, True, _HS, 1))
_NORM = {"eps": 0.001, "momentum": 0.01}


class _Residual3(nn.Module):
    def __init__(self, in_channels: int, row: _Row, stride: int, dilation: int):
        layers: list[nn.Module] = []
        if row.wide != in_channels:
            layers.append(conv_norm(in_channels, row.wide, 1, activation=row.activation, **_NORM))
        layers.append(conv_norm(row.wide, row.wide, row.kernel, stride, dilation, row.wide, row.activation, **_NORM))
        if row.gated:
            layers.append(SqueezeExcitation(row.wide, rounded(row.wide / 4)))
        layers.append(conv_norm(row.wide, row.channels, 1, activation=None, **_NORM))
        self.block = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == row.channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.adds else self.block(x)


class MobileNetV3(nn.Module):
    """MobileNetV3-Large: (N, in_channels, H, W) -> logits (N, num_classes).

    num_classes    None: no classifier; the result is the last stage, (N, 960, H/s, W/s)
    dilated        output stride s of 16 in place of 32: the last three blocks are dilated by 2

    5,483,032 parameters for 3 channels and 1000 classes.
    """

    def __init__(self, in_channels: int = 3, num_classes: int | None = 1000, dilated: bool = False,
                 dropout: float = 0.2):
        layers: list[nn.Module] = [conv_norm(in_channels, 16, 3, 2, activation=_HS, **_NORM)]
        channels = 16
        for k, row in enumerate(_LARGE):
            late = dilated and k >= len(_LARGE) - 3
            layers.append(_Residual3(channels, row, 1 if late else row.stride, 2 if late else 1))
            channels = row.channels
        layers.append(conv_norm(channels, 6 * channels, 1, activation=_HS, **_NORM))
        self.features = nn.Sequential(*layers)
        self.classifier: nn.Sequential | None = None
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Linear(6 * channels, 1280), nn.Hardswish(), nn.Dropout(dropout),
                                            nn.Linear(1280, num_classes))
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return x if self.classifier is None else self.classifier(self.avgpool(x).flatten(1))


def _check_stride(name: str, output_stride: int) -> None:
    if output_stride not in (8, 16, 32):
        raise ArgumentError(f"{name}: output_stride {output_stride}; legal: 8, 16, 32")


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, 0.0, 0.01)
        init.zeros_(module.bias)
