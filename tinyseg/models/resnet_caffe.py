"""ResNet-101 as DeepLab v2 has it, after the authors' Caffe net.

It differs from `tinyseg.models.resnet` in what trained weights depend on: the first 1x1 convolution of a bottleneck
strides, the first pooling rounds its size up, and all blocks of a dilated stage are dilated alike.  Keys are those of
github.com/kazuto1011/deeplab-pytorch.
"""

from __future__ import annotations

from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.models.resnet import DEPTHS

__all__ = ["caffe_resnet101"]


def caffe_resnet101(in_channels: int) -> dict[str, nn.Module]:
    """layer1 (the stem) to layer5: (N, in_channels, H, W) -> (N, 2048, h, w) of stride 8."""
    layers: dict[str, nn.Module] = {"layer1": nn.Sequential({
        "conv1": _unit(in_channels, 64, 7, stride=2), "pool": nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)})}
    channels = 64
    for k, (blocks, stride, dilation) in enumerate(zip(DEPTHS[101], (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 2):
        stage = nn.Sequential()
        for b in range(1, blocks + 1):
            setattr(stage, f"block{b}", _Bottleneck(channels, 2 ** (k + 4), stride if b == 1 else 1, dilation))
            channels = 4 * 2 ** (k + 4)
        layers[f"layer{k}"] = stage
    return layers


def _unit(in_channels: int, channels: int, kernel: int, stride: int = 1, dilation: int = 1,
          relu: bool = True) -> nn.Sequential:
    """Convolution, normalisation, ReLU unless a sum comes first."""
    padding = kernel // 2 * dilation
    layers = {"conv": nn.Conv2d(in_channels, channels, kernel, stride, padding, dilation, bias=False),
              "bn": nn.BatchNorm2d(channels, momentum=0.001)}
    return nn.Sequential({**layers, "relu": nn.ReLU()} if relu else layers)


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int):
        self.reduce = _unit(in_channels, channels, 1, stride)
        self.conv3x3 = _unit(channels, channels, 3, dilation=dilation)
        self.increase = _unit(channels, 4 * channels, 1, relu=False)
        same = stride == 1 and in_channels == 4 * channels
        self.shortcut = nn.Identity() if same else _unit(in_channels, 4 * channels, 1, stride, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.increase(self.conv3x3(self.reduce(x))) + self.shortcut(x))
