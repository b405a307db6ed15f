"""FCN on a dilated ResNet, as torchvision has it."""

from __future__ import annotations

from tinyseg.models.backbones import BackboneNet, backbone
from tinyseg.models.heads import FCNHead

__all__ = ["FCNResNet"]


class FCNResNet(BackboneNet):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W), of any size, on features of stride 8.

    depth    50 or 101
    aux      with the auxiliary head that torchvision's published weights have

    For 3 channels, 21 classes and aux: 35,322,218 parameters at depth 50, 54,314,346 at 101.  Keys are torchvision's.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, depth: int = 50, aux: bool = True):
        found = backbone(f"resnet{depth}", in_channels, 8, ("aux", "out") if aux else ("out",))
        super().__init__(in_channels, found, FCNHead(found.channels["out"], num_classes),
                         FCNHead(found.channels["aux"], num_classes) if aux else None)
