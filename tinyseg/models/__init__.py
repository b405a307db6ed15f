"""Nets by name, so that a checkpoint can say which net its weights belong to."""

import inspect
from importlib import import_module
from typing import Any, NamedTuple

from tinyseg.errors import ArgumentError, TinysegError
from tinyseg.nn import Module, freeze_norm

__all__ = ["build", "describe", "names"]


class _Net(NamedTuple):
    """Where a net's class is, the options that its name stands for, and a line about it."""

    module: str
    cls: str
    preset: dict[str, Any]
    text: str


_SEGMENTATION = {
    "unet": _Net("unet", "UNet", {}, "U-Net, padded, with batch normalisation"),
    "unet_paper": _Net("unet", "UNet", {"padding": "valid", "norm": None, "dropout": 0.5},
                       "U-Net as published: unpadded, 572 -> 388"),
    "fcn32s": _Net("fcn", "FCN", {"stride": 32}, "FCN on VGG16, up-sampled by 32"),
    "fcn16s": _Net("fcn", "FCN", {"stride": 16}, "FCN on VGG16, with pool4"),
    "fcn8s": _Net("fcn", "FCN", {"stride": 8}, "FCN on VGG16, with pool4 and pool3"),
    "fcn8s_at_once": _Net("fcn", "FCN", {"stride": 8, "at_once": True}, "FCN-8s, trained in one stage"),
    "fcn_resnet50": _Net("fcn_resnet", "FCNResNet", {"depth": 50}, "torchvision's FCN on ResNet-50"),
    "fcn_resnet101": _Net("fcn_resnet", "FCNResNet", {"depth": 101}, "torchvision's FCN on ResNet-101"),
    "deeplab_v1": _Net("deeplab", "DeepLabV1", {}, "DeepLab-LargeFOV on VGG16"),
    "deeplab_v2": _Net("deeplab", "DeepLabV2", {}, "DeepLab v2: ASPP on ResNet-101 (or VGG16), three scales"),
    "deeplab_v3": _Net("deeplab_v3", "DeepLabV3", {}, "DeepLab v3 as published, on ResNet-50"),
    "deeplabv3_resnet50": _Net("deeplab_v3", "TorchvisionDeepLabV3", {"backbone": "resnet50"},
                               "torchvision's DeepLab v3 on ResNet-50"),
    "deeplabv3_resnet101": _Net("deeplab_v3", "TorchvisionDeepLabV3", {"backbone": "resnet101"},
                                "torchvision's DeepLab v3 on ResNet-101"),
    "deeplabv3_mobilenet_v3_large": _Net("deeplab_v3", "TorchvisionDeepLabV3", {"backbone": "mobilenet_v3_large"},
                                         "torchvision's DeepLab v3 on MobileNetV3"),
    "deeplab_v3plus": _Net("deeplab_v3", "DeepLabV3Plus", {}, "DeepLab v3+, with a decoder, on ResNet-50"),
    "lraspp": _Net("lraspp", "LRASPP", {}, "torchvision's LR-ASPP on MobileNetV3"),
    "fc_densenet56": _Net("densenet", "FCDenseNet", {"blocks": (4,) * 6, "growth": 12}, "FC-DenseNet-56"),
    "fc_densenet103": _Net("densenet", "FCDenseNet", {"blocks": (4, 5, 7, 10, 12, 15), "growth": 16},
                           "FC-DenseNet-103"),
}
_CLASSIFICATION = {
    "vgg16": _Net("vgg", "VGG16", {}, "VGG16"),
    "vgg16_bn": _Net("vgg", "VGG16", {"norm": "batch"}, "VGG16 with batch normalisation"),
    "resnet18": _Net("resnet", "ResNet", {"depth": 18}, "ResNet-18"),
    "resnet34": _Net("resnet", "ResNet", {"depth": 34}, "ResNet-34"),
    "resnet50": _Net("resnet", "ResNet", {"depth": 50}, "ResNet-50"),
    "resnet101": _Net("resnet", "ResNet", {"depth": 101}, "ResNet-101"),
    "densenet121": _Net("densenet", "DenseNet", {}, "DenseNet-121"),
    "mobilenet_v2": _Net("mobilenet", "MobileNetV2", {}, "MobileNetV2"),
    "mobilenet_v3_large": _Net("mobilenet", "MobileNetV3", {}, "MobileNetV3-Large"),
}
_TASKS = {"segmentation": _SEGMENTATION, "classification": _CLASSIFICATION}
_MODELS = _SEGMENTATION | _CLASSIFICATION


def names(task: str = "segmentation") -> list[str]:
    """The names that `build` knows: of the nets that segment, or of "classification", which their backbones come from.
    """
    if task not in _TASKS:
        raise ArgumentError(f"names: task {task!r}; legal: {', '.join(_TASKS)}")
    return list(_TASKS[task])


def describe(name: str) -> str:
    """A line about a net."""
    return _find(name).text


def build(name: str, in_channels: int, num_classes: int, frozen_norm: bool = False, **options: Any) -> Module:
    """A net with fresh weights.

    name           one of `names()`, or of the classifiers
    in_channels    channels of the images
    num_classes    channels of the logits
    frozen_norm    freeze batch normalisations: see `nn.freeze_norm`
    options        what the net's class takes; they win over those that the name stands for

    Raises ArgumentError for an unknown name or option.
    """
    net = _find(name)
    cls = getattr(import_module(f"tinyseg.models.{net.module}"), net.cls)
    legal = [option for option in (*inspect.signature(cls).parameters, "frozen_norm")
             if option not in ("in_channels", "num_classes")]
    unknown = [option for option in options if option not in legal]
    if unknown:
        raise ArgumentError(f"build: {name}: no option {', '.join(unknown)}; legal: {', '.join(legal)}")
    try:
        model = cls(in_channels, num_classes, **{**net.preset, **options})
    except (TypeError, ValueError) as error:
        if isinstance(error, TinysegError) or not options:
            raise
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ArgumentError(f"build: {name} with {given}: a value of the wrong kind ({error})") from error
    return freeze_norm(model) if frozen_norm else model


def _find(name: str) -> _Net:
    if name not in _MODELS:
        raise ArgumentError(f"build: no model {name!r}; legal: {', '.join(_MODELS)}")
    return _MODELS[name]
