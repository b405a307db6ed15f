"""Xception as DeepLab v3+ has it (Chen et al., arXiv:1802.02611; Chollet, arXiv:1610.02357): deeper, with
strided convolutions in place of poolings, and a normalisation and a ReLU after every depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.models.layers import conv_norm
from tinyseg.nn import init

__all__ = ["xception65"]


class _Block(nn.Module):
    """Three separable convolutions, the last one strided, added to the input: to itself where its shape stays, else to
    what a 1x1 convolution makes of it.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], stride: int, dilation: int):
        layers: list[nn.Module] = []
        before = in_channels
        for k, outputs in enumerate(channels):
            layers += [nn.ReLU(),
                       conv_norm(before, before, 3, stride if k == 2 else 1, dilation, before),
                       conv_norm(before, outputs, 1, activation=None)]
            before = outputs
        self.convs = nn.Sequential(*layers)
        same = stride == 1 and before == in_channels
        self.shortcut = nn.Identity() if same else conv_norm(in_channels, before, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x) + self.shortcut(x)


def xception65(in_channels: int, output_stride: int) -> nn.Sequential:
    """(N, in_channels, H, W) -> (N, 2048, H/s, W/s).

    output_stride    s: 8, 16 or 32; blocks whose stride would pass it do not stride, and those behind are dilated

    Children: stem; entry1 (stride 4, 128 channels), entry2 (8, 256), entry3; middle1 to middle16; exit1, exit2.
    """
    if output_stride not in (8, 16, 32):
        raise ArgumentError(f"Xception: output_stride {output_stride}; legal: 8, 16, 32")
    layers: dict[str, nn.Module] = {"stem": nn.Sequential(conv_norm(in_channels, 32, 3, 2), conv_norm(32, 64, 3))}
    channels, reached, dilation = 64, 2, 1
    blocks = [("entry1", (128,) * 3, 2), ("entry2", (256,) * 3, 2), ("entry3", (728,) * 3, 2),
              *((f"middle{k}", (728,) * 3, 1) for k in range(1, 17)), ("exit1", (728, 1024, 1024), 2)]
    for name, outputs, stride in blocks:
        before = dilation
        if stride == 2 and reached == output_stride:
            stride, dilation = 1, 2 * dilation
        layers[name] = _Block(channels, outputs, stride, before)
        channels, reached = outputs[-1], reached * stride
    exit2 = []
    for outputs in (1536, 1536, 2048):
        exit2 += [conv_norm(channels, channels, 3, dilation=dilation, groups=channels), conv_norm(channels, outputs, 1)]
        channels = outputs
    layers["exit2"] = nn.Sequential(*exit2)
    net = nn.Sequential(layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net
