"""Classifiers without their last layers, and the nets that put a head on their features.

A backbone gives the features that a net asks for by their part in it:

    low      of stride 4, for the decoder of DeepLab v3+
    middle   of stride 8, for LR-ASPP
    aux      where torchvision's auxiliary heads sit
    out      the last
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.models.mobilenet import MobileNetV2, MobileNetV3
from tinyseg.models.resnet import ResNet
from tinyseg.models.segmenter import Scored, Segmenter
from tinyseg.models.xception import xception65
from tinyseg.nn.containers import chain

__all__ = ["BACKBONES", "BackboneNet", "Features", "backbone"]

AUX_WEIGHT = 0.5                                     # of the auxiliary loss in torchvision's training


class Features(nn.Sequential):
    """A chain of modules, up to the last one whose result is asked for; returns the results by their parts.

    layers      all modules, by name
    taps        part: the name of the module that gives it, in the order of the chain
    channels    part: how many channels it has
    """

    def __init__(self, layers: Mapping[str, nn.Module], taps: Mapping[str, str], channels: Mapping[str, int]):
        self.taps, self.channels = dict(taps), dict(channels)
        names = list(layers)
        for name in names[:names.index(list(taps.values())[-1]) + 1]:
            self._add(name, layers[name])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        named, start, found = list(self.named_children()), 0, {}
        for part, last in self.taps.items():
            stop = next(k for k, (name, _) in enumerate(named) if name == last) + 1
            x = found[part] = chain((module for _, module in named[start:stop]), x)
            start = stop
        return found


class _Kind(NamedTuple):
    """A classifier, and where its parts are: the name of the child, its channels."""

    make: Callable[..., nn.Module]
    taps: dict[str, tuple[str, int]]


_RESNET = {"low": ("layer1", 256), "middle": ("layer2", 512), "aux": ("layer3", 1024), "out": ("layer4", 2048)}


def _resnet(depth: int) -> Callable[..., nn.Module]:
    return lambda in_channels, stride, **options: ResNet(in_channels, None, depth, stride, **options)


def _mobilenet_v3(in_channels: int, stride: int) -> nn.Module:
    if stride not in (16, 32):
        raise ArgumentError(f"MobileNetV3: output_stride {stride}; legal: 16, 32")
    return MobileNetV3(in_channels, None, dilated=stride == 16).features


BACKBONES = {
    "resnet50": _Kind(_resnet(50), _RESNET),
    "resnet101": _Kind(_resnet(101), _RESNET),
    "mobilenet_v2": _Kind(lambda in_channels, stride: MobileNetV2(in_channels, None, stride).features,
                          {"low": ("3", 24), "middle": ("6", 32), "aux": ("6", 32), "out": ("17", 320)}),
    "mobilenet_v3_large": _Kind(_mobilenet_v3,
                                {"low": ("3", 24), "middle": ("4", 40), "aux": ("4", 40), "out": ("16", 960)}),
    "xception65": _Kind(xception65, {"low": ("entry1", 128), "middle": ("entry2", 256), "aux": ("entry2", 256),
                                     "out": ("exit2", 2048)}),
}


def backbone(name: str, in_channels: int, output_stride: int, parts: Sequence[str], **options: Any) -> Features:
    """The features of a classifier of `BACKBONES`.

    output_stride    of the last features: 8, 16 or 32
    parts            which features, in the order of the chain
    options          what the classifier's class takes, say multi_grid

    Raises ArgumentError for a name or stride that there is not.
    """
    if name not in BACKBONES:
        raise ArgumentError(f"backbone {name!r}: legal: {', '.join(BACKBONES)}")
    kind = BACKBONES[name]
    layers = dict(kind.make(in_channels, output_stride, **options).named_children())
    taps = {part: kind.taps[part][0] for part in parts}
    if options.get("extra_stages"):
        taps["out"] = list(layers)[-1]
    return Features(layers, taps, {part: kind.taps[part][1] for part in parts})


class BackboneNet(Segmenter):
    """A backbone's features, scored by a head, and the scores resized bilinearly to the image.

    backbone          what it finds is what the head takes, in this order; "aux" goes to the auxiliary head
    classifier        the head
    aux_classifier    another on earlier features, only for training, where its loss counts half

    In training mode, with an auxiliary head: (Scored("out", ...), Scored("aux", ...)); else the logits.
    """

    def __init__(self, in_channels: int, backbone: Features, classifier: nn.Module,
                 aux_classifier: nn.Module | None = None):
        self.in_channels = in_channels
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, x: Tensor) -> Tensor | tuple[Scored, ...]:
        self.check(x)
        features = self.backbone(x)
        aux = features.pop("aux", None)
        out = _enlarged(self.classifier(*features.values()), x)
        if self.aux_classifier is None or not self.training:
            return out
        return Scored("out", out), Scored("aux", _enlarged(self.aux_classifier(aux), x), AUX_WEIGHT)

    def load_classifier(self, net: nn.Module) -> None:
        """Start from a trained classifier of the backbone's kind, all but its last layers.

        Raises CheckpointError, and changes nothing, for another kind.
        """
        theirs = {key.removeprefix("features."): array for key, array in net.state_dict().items()}
        self.backbone.load_state_dict({key: theirs[key] for key in self.backbone.state_dict() if key in theirs})


def _enlarged(scores: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(scores, image.shape[2:], mode="bilinear")
