"""Which net weights belong to, by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tinyseg.interop.layouts import standard_names

__all__ = ["guess_architecture"]

Shapes = Mapping[str, tuple[int, ...]]
Blocks = Mapping[tuple[int, ...], int]               # blocks in each stage, and the depth that goes by them

# a name that only this head has: the head, its last layer
_HEADS = {"classifier.0.convs.0.0.weight": ("DeepLab v3", "classifier.4.weight"),
          "classifier.low_classifier.weight": ("LR-ASPP", "classifier.low_classifier.weight"),
          "roi_heads.mask_predictor.mask_fcn_logits.weight": ("Mask R-CNN",
                                                              "roi_heads.mask_predictor.mask_fcn_logits.weight"),
          "classifier.4.weight": ("FCN", "classifier.4.weight")}
_PLURAL = {"channel": "s", "class": "es"}
_BOTTLENECKS: Blocks = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_BASIC: Blocks = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
_DENSE: Blocks = {(6, 12, 24, 16): 121, (6, 12, 32, 32): 169, (6, 12, 48, 32): 201, (6, 12, 36, 24): 161}


def guess_architecture(shapes: Shapes) -> str:
    """In words, such as "ResNet-50, 3 channels, 1000 classes", or "" for a net that is not known.

    shapes    names to shapes, as in a file
    """
    names, _ = standard_names(shapes)
    standard = {names[name]: tuple(shape) for name, shape in shapes.items()}
    for guess in (_unet, _dense, _deeplab_v2, _on_vgg, _torchvision, _resnet, _vgg, _mobilenet, _espnet):
        if found := guess(standard):
            return found
    return ""


def _counts(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """How many numbers follow each first number: (3, 4, 6, 3) for stages of so many blocks."""
    found: dict[int, set[int]] = {}
    for name in shapes:
        if match := re.match(pattern, name):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    return tuple(len(found[k]) for k in sorted(found))


def _ends(shapes: Shapes, first: str, last: str) -> str:
    """Channels and classes, from the first and the last layer."""
    counts = [("channel", shapes[first][1])] if len(shapes.get(first, ())) == 4 else []
    counts += [("class", shapes[last][0])] if shapes.get(last) else []
    return "".join(f", {n} {what}{_PLURAL[what] if n > 1 else ''}" for what, n in counts)


def _unet(shapes: Shapes) -> str:
    first = shapes.get("inc.double_conv.0.weight", ())
    if len(first) != 4 or "down1.maxpool_conv.1.double_conv.0.weight" not in shapes:
        return ""
    up = "transposed" if "up1.up.weight" in shapes else "bilinear"
    norm = "" if "inc.double_conv.1.running_mean" in shapes else ", norm=None"
    classes = (shapes.get("outc.conv.weight") or ("?",))[0]
    depth = len({name.split(".")[0] for name in shapes if re.match(r"down\d+\.", name)})
    deep = "" if depth == 4 else f", depth={depth}"
    return f"U-Net: build('unet', {first[1]}, {classes}, base_channels={first[0]}, up='{up}'{norm}{deep})"


def _dense(shapes: Shapes) -> str:
    blocks = _counts(shapes, r"features\.denseblock(\d+)\.denselayer(\d+)\.")
    return f"DenseNet-{_DENSE.get(blocks, blocks)}" + _ends(shapes, "features.conv0.weight", "classifier.weight") \
        if blocks else ""


def _deeplab_v2(shapes: Shapes) -> str:
    if "base.layer2.block1.reduce.conv.weight" not in shapes:
        return ""
    blocks = _counts(shapes, r"base\.layer([2-9])\.block(\d+)\.")
    return f"DeepLab v2 on ResNet-{_BOTTLENECKS.get(blocks, blocks)}" \
        + _ends(shapes, "base.layer1.conv1.conv.weight", "base.aspp.c0.weight")


def _resnet(shapes: Shapes) -> str:
    blocks = _counts(shapes, r"layer(\d+)\.(\d+)\.conv1\.weight")
    if "conv1.weight" not in shapes or not blocks:
        return ""
    if "layer1.0.conv3.weight" in shapes:
        depth: object = _BOTTLENECKS.get(blocks, blocks)
    else:                                            # those for CIFAR have three stages of n blocks
        depth = 6 * blocks[0] + 2 if len(blocks) == 3 and len(set(blocks)) == 1 else _BASIC.get(blocks, blocks)
    last = "fc.weight" if "fc.weight" in shapes else "linear.weight"
    return f"ResNet-{depth}" + _ends(shapes, "conv1.weight", last)


def _torchvision(shapes: Shapes) -> str:
    """A head on the features of a classifier."""
    head, last = next(((head, last) for mark, (head, last) in _HEADS.items() if mark in shapes), ("", ""))
    if not head:
        return ""
    features = {re.sub(r"^backbone\.(body\.)?", "", name): shape for name, shape in shapes.items()}
    inner = _resnet(features) or _mobilenet({f"features.{name}": shape for name, shape in features.items()})
    aux = ", with auxiliary head" if any(name.startswith("aux_classifier.") for name in shapes) else ""
    return f"{head} on {inner}{_ends(shapes, '', last)}{aux}" if inner else ""


def _on_vgg(shapes: Shapes) -> str:
    """The nets of Caffe's time."""
    if "conv1.0.weight" in shapes and "score_fr.weight" in shapes:
        stride = next((n for pool, n in (("3", 8), ("4", 16)) if f"score_pool{pool}.weight" in shapes), 32)
        return f"FCN-{stride}s on VGG16" + _ends(shapes, "conv1.0.weight", "score_fr.weight")
    for version, last in ((1, "base.fov.fc8.weight"), (2, "base.aspp.c0.fc8.weight")):
        if last in shapes:
            return f"DeepLab v{version} on VGG16" + _ends(shapes, "base.features.0.weight", last)
    return ""


def _vgg(shapes: Shapes) -> str:
    if not {"features.0.weight", "classifier.0.weight", "classifier.6.weight"} <= shapes.keys():
        return ""
    layers = sum(len(shape) in (2, 4) for name, shape in shapes.items() if name.endswith(".weight"))
    norm = ", batch normalisation" if "features.1.running_mean" in shapes else ""
    return f"VGG{layers}{_ends(shapes, 'features.0.weight', 'classifier.6.weight')}{norm}"


def _mobilenet(shapes: Shapes) -> str:
    if "features.0.0.weight" not in shapes:
        return ""
    if "features.1.conv.0.0.weight" in shapes:
        return "MobileNetV2" + _ends(shapes, "features.0.0.weight", "classifier.1.weight")
    if "features.1.block.0.0.weight" in shapes:
        return "MobileNetV3" + _ends(shapes, "features.0.0.weight", "classifier.3.weight")
    return ""


def _espnet(shapes: Shapes) -> str:
    base = "encoder." if "encoder.level2_0.d16.conv.weight" in shapes else ""
    if f"{base}level2_0.d16.conv.weight" not in shapes:
        return ""
    repeats = ", ".join(f"{name}={n}" for name, n in zip("pq", _counts(shapes, rf"{base}level([23])\.(\d+)\."),
                                                         strict=False))
    return f"ESPNet{'' if base else '-C'}, {repeats}" \
        + _ends(shapes, f"{base}level1.conv.weight", f"{base}classifier.conv.weight")
