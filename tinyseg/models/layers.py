"""The layers that nets of all kinds are made of."""

from __future__ import annotations

from collections.abc import Callable

from tinyseg import nn

__all__ = ["conv_norm", "separable_conv_norm"]


def conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1,
              activation: Callable[[], nn.Module] | None = nn.ReLU, eps: float = 1e-5,
              momentum: float = 0.1) -> nn.Sequential:
    """Convolution, normalisation, activation if any; for stride 1 and an odd kernel the size stays."""
    padding = (kernel - 1) // 2 * dilation
    layers = [nn.Conv2d(in_channels, channels, kernel, stride, padding, dilation, groups, bias=False),
              nn.BatchNorm2d(channels, eps=eps, momentum=momentum)]
    return nn.Sequential(*layers, *(() if activation is None else (activation(),)))


def separable_conv_norm(in_channels: int, channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """`conv_norm` in two steps, each normalised and activated: every channel for itself, then 1x1 between channels.

    Weights fall from C·O·K² to C·(K² + O).
    """
    return nn.Sequential(*conv_norm(in_channels, in_channels, kernel, dilation=dilation, groups=in_channels),
                         *conv_norm(in_channels, channels, 1))
