"""LR-ASPP on MobileNetV3-Large (Howard et al., arXiv:1905.02244, section 6.3): segmentation for a telephone."""

from __future__ import annotations

from tinyseg.models.backbones import BackboneNet, backbone
from tinyseg.models.heads import LRASPPHead

__all__ = ["LRASPP"]


class LRASPP(BackboneNet):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W), of any size, on features of strides 8 and 16.

    For 3 channels and 21 classes: 3,221,538 parameters.  Keys are torchvision's.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21):
        found = backbone("mobilenet_v3_large", in_channels, 16, ("middle", "out"))
        super().__init__(in_channels, found,
                         LRASPPHead(found.channels["middle"], found.channels["out"], num_classes))
