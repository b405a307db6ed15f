"""VGG16 (Simonyan & Zisserman, arXiv:1409.1556, table 1, configuration D), plain or with batch normalisation.

Five stages of 3x3 convolutions, each followed by a 2x2 max pooling, then three fully connected layers.  Keys and
shapes are torchvision's: `features.0.weight` ... `classifier.6.bias`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.nn import init

__all__ = ["STAGES", "VGG16", "stages"]

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def stages(in_channels: int, norm: str | None, pool: bool = True,
           dilations: Sequence[int] = (1, 1, 1, 1, 1)) -> list[list[nn.Module]]:
    """The layers of each stage: convolution, normalisation if any, ReLU; the pooling last."""
    found = []
    for channels, dilation in zip(STAGES, dilations, strict=True):
        layers: list[nn.Module] = []
        for outputs in channels:
            layers.append(nn.Conv2d(in_channels, outputs, 3, padding=dilation, dilation=dilation))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            in_channels = outputs
        if pool:
            layers.append(nn.MaxPool2d(2))
        found.append(layers)
    return found


class VGG16(nn.Module):
    """(N, in_channels, H, W) -> logits (N, num_classes), for H, W >= 32.

    num_classes    None: no classifier; the result is the last stage, (N, 512, H/32, W/32)
    norm           "batch", or None as in the paper.  Every convolution has a bias, also before a normalisation
    dropout        after the first two fully connected layers

    138,357,544 parameters for 3 channels and 1000 classes.  The first fully connected layer sees 7x7 cells: other sizes
    of images are averaged to that, which changes nothing at 224x224.
    """

    def __init__(self, in_channels: int = 3, num_classes: int | None = 1000, norm: str | None = None,
                 dropout: float = 0.5):
        if norm not in ("batch", None):
            raise ArgumentError(f"VGG16: norm {norm!r}; legal: 'batch', None")
        self.features = nn.Sequential(*(layer for stage in stages(in_channels, norm) for layer in stage))
        self.classifier: nn.Sequential | None = None
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4096, num_classes))
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return x if self.classifier is None else self.classifier(self.avgpool(x).flatten(1))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, 0.0, 0.01)
        init.zeros_(module.bias)
