"""DeepLab v3 (Chen et al., arXiv:1706.05587) and v3+ (arXiv:1802.02611), the papers' and torchvision's.

Stages whose stride would pass the output stride are dilated instead, so that features keep their resolution; ASPP then
looks at them with several rates at once.  The rates are given for an output stride of 16 and doubled for 8, so that
they mean the same in the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg import nn
from tinyseg.errors import ArgumentError
from tinyseg.models.backbones import BackboneNet
from tinyseg.models.backbones import backbone as features
from tinyseg.models.heads import ASPP, WIDTH, FCNHead, SkipDecoder
from tinyseg.models.layers import conv_norm

__all__ = ["DeepLabV3", "DeepLabV3Plus", "TorchvisionDeepLabV3"]

RATES = (6, 12, 18)                                  # of ASPP at an output stride of 16


class DeepLabV3(BackboneNet):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W), of any size.

    backbone         "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_large" or "xception65"
    output_stride    8 or 16; a net trained at 16 may be used at 8, which is finer and slower
    multi_grid       factors of the rates within the last stages' three blocks, for ResNets
    cascade          copies of the last stage, each at twice the rate before it, in place of ASPP, for ResNets; the
                     paper has 3 (blocks 5 to 7)
    aux              an auxiliary head in training, as torchvision has

    Batch normalisation after image pooling needs batches of 2 or more in training, or frozen statistics.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, backbone: str = "resnet50",
                 output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4), cascade: int = 0, aux: bool = False):
        found = _features(backbone, in_channels, output_stride, multi_grid, ("aux", "out") if aux else ("out",),
                          cascade)
        if cascade:
            head: nn.Module = nn.Conv2d(found.channels["out"], num_classes, 1)
        else:
            head = nn.Sequential(ASPP(found.channels["out"], _rates(output_stride)), nn.Conv2d(WIDTH, num_classes, 1))
        super().__init__(in_channels, found, head, FCNHead(found.channels["aux"], num_classes) if aux else None)


class DeepLabV3Plus(BackboneNet):
    """DeepLab v3 with a decoder that brings the features of stride 4 back in; arguments are those of `DeepLabV3`, and

    separable    3x3 convolutions of ASPP and decoder are depthwise, and 1x1 after it, as the paper has them on
                 Xception; on 2048 features, ASPP and decoder have 3.2 M parameters in place of 16.8 M
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, backbone: str = "resnet50",
                 output_stride: int = 16, multi_grid: Sequence[int] = (1, 2, 4), aux: bool = False,
                 separable: bool = False):
        found = _features(backbone, in_channels, output_stride, multi_grid,
                          ("low", "aux", "out") if aux else ("low", "out"))
        head = SkipDecoder(found.channels["low"], found.channels["out"], num_classes, _rates(output_stride), separable)
        super().__init__(in_channels, found, head, FCNHead(found.channels["aux"], num_classes) if aux else None)


class TorchvisionDeepLabV3(BackboneNet):
    """torchvision's DeepLab v3, with its keys: no multi-grid, the first block of a dilated stage at the rate before it,
    another 3x3 convolution after ASPP, and rates of 12, 24, 36 at any output stride.

    backbone    "resnet50" or "resnet101" (output stride 8), "mobilenet_v3_large" (16)
    aux         with the auxiliary head that torchvision's published weights have

    For 3 channels, 21 classes and aux: 42,004,074 parameters (ResNet-50), 60,996,202 (101), 11,029,328 (MobileNetV3).
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, backbone: str = "resnet50", aux: bool = True):
        found = features(backbone, in_channels, 8 if backbone.startswith("resnet") else 16,
                         ("aux", "out") if aux else ("out",))
        head = nn.Sequential(ASPP(found.channels["out"], [2 * rate for rate in RATES]),
                             *conv_norm(WIDTH, WIDTH, 3), nn.Conv2d(WIDTH, num_classes, 1))
        super().__init__(in_channels, found, head, FCNHead(found.channels["aux"], num_classes) if aux else None)


def _features(backbone: str, in_channels: int, output_stride: int, multi_grid: Sequence[int], parts: tuple[str, ...],
              cascade: int = 0):
    """As the papers dilate: all blocks of a stage alike, but for the multi-grid."""
    if not backbone.startswith("resnet"):
        if cascade:
            raise ArgumentError(f"DeepLabV3: cascade {cascade} with backbone {backbone!r}; needs a ResNet")
        return features(backbone, in_channels, output_stride, parts)
    return features(backbone, in_channels, output_stride, parts, dilation_rule="paper", multi_grid=multi_grid,
                    extra_stages=cascade)


def _rates(output_stride: int) -> list[int]:
    return [rate * 16 // output_stride for rate in RATES]
