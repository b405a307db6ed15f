"""How others name the weights of nets that tinyseg has too, as rules that turn their names into tinyseg's.

torchvision's current names, those of milesial's U-Net and of kazuto1011's DeepLab need no rule: tinyseg's nets have
them.

Nets that came out of Caffe saw images as blue, green, red, minus the mean colour.  tinyseg reads red, green, blue, so
their first convolution has to be turned round (`load_weights` does, where the names are Caffe's).  kazuto1011's weights
came out of Caffe too, but their names do not tell them from those of a net that was trained here: there it has to be
asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["LAYOUTS", "Layout", "standard_names", "unwrapped"]

_WRAPPERS = ("module.", "_orig_mod.")                # of DataParallel and torch.compile


class Layout(NamedTuple):
    """Names of a source.

    name         whose
    signature    a pattern that some name of the source has, and no name of tinyseg's nets
    rules        (pattern, replacement), as of re.sub, applied one after the other
    bgr          their images are blue, green, red
    blobs        shapes are Caffe's: fully connected layers are matrices, and 1s may stand before a bias
    """

    name: str
    signature: str
    rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
    bgr: bool = False
    blobs: bool = False

    def rename(self, name: str) -> str:
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


# Caffe numbers what a layer has; converters write layer.0, layer/0, layer_0 or layer.weight
_BLOBS = ((r"[./_](?:0|weights?)$", ".weight"), (r"[./_](?:1|bias)$", ".bias"))
_FIRST = (0, 5, 10, 17, 24)                          # convolution of each stage of VGG16, in torchvision's numbers
_PARTS = {"1": "shortcut", "2a": "reduce", "2b": "conv3x3", "2c": "increase"}


def _vgg_features(match: re.Match[str]) -> str:
    return f"features.{_FIRST[int(match[1]) - 1] + 2 * (int(match[2]) - 1)}."


def _fcn_convolution(match: re.Match[str]) -> str:
    """features.28: the third convolution of stage 5, which an FCN has as conv5.4."""
    place = int(match[1])
    stage = max(k for k, first in enumerate(_FIRST) if first <= place)
    return f"conv{stage + 1}.{place - _FIRST[stage]}."


def _bottleneck(match: re.Match[str]) -> str:
    """res4b22_branch2a: of stage 4 the block after a, b1, b2 ... b21, or after a, b, c in short stages."""
    stage, letter, number, branch = match.groups()
    block = int(number) + 1 if number else "abc".index(letter) + 1
    return f"base.layer{stage}.block{block}.{_PARTS[branch]}."


LAYOUTS = (
    # the dots were dropped when names of modules could no longer have them; the published files still have them
    Layout("torchvision's first DenseNet", r"denselayer\d+\.norm\.1\.", (
        (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),)),
    Layout("milesial's first U-Net", r"^down1\.mpconv\.", (
        (r"^inc\.conv\.conv\.", "inc.double_conv."),
        (r"^(down\d+)\.mpconv\.1\.conv\.", r"\1.maxpool_conv.1.double_conv."),
        (r"^(up\d+)\.conv\.conv\.", r"\1.conv.double_conv."))),
    Layout("WZMIAOMIAO's U-Net", r"^in_conv\.0\.", (
        (r"^in_conv\.", "inc.double_conv."),
        (r"^(down\d+)\.1\.", r"\1.maxpool_conv.1.double_conv."),
        (r"^(up\d+)\.conv\.", r"\1.conv.double_conv."),
        (r"^out_conv\.0\.", "outc.conv."))),
    Layout("kazuto1011's DeepLab v2, first or single-scale", r"^(?:scale\.)?layer2\.block1\.reduce\.", (
        (r"^(?:scale\.)?(layer\d|aspp)\.", r"base.\1."),
        (r"\.proj\.", ".shortcut."),
        (r"^base\.aspp\.stages\.", "base.aspp."))),
    Layout("Caffe's FCN", r"^score_fr[./_]", (
        *_BLOBS,
        (r"^conv(\d)_(\d)\.", lambda match: f"conv{match[1]}.{2 * (int(match[2]) - 1)}."),
        (r"^upscore(?:16|8)\.", "upscore.")), bgr=True, blobs=True),
    # the names are those of the net vgg16 here, so nothing but an FCN can ask for this reading
    Layout("torchvision's VGG16, for an FCN", r"(?!)", (
        (r"^features\.(\d+)\.", _fcn_convolution),
        (r"^classifier\.0\.", "fc6."), (r"^classifier\.3\.", "fc7.")), blobs=True),
    Layout("Caffe's DeepLab on VGG16", r"^fc8[-_]\w*[a-z]", (
        *_BLOBS,
        (r"^conv([1-5])_([1-3])\.", lambda match: "base." + _vgg_features(match)),
        (r"^(fc[678])(?:[-_]\w*[a-z]\w*?)?_([1-9])\.", lambda match: f"base.aspp.c{int(match[2]) - 1}.{match[1]}."),
        (r"^(fc[678])(?:[-_]\w+)?\.", r"base.fov.\1.")), bgr=True, blobs=True),
    Layout("Caffe's DeepLab on ResNet-101", r"^bn2a_branch1[./_]", (
        (r"^(bn\w+?)[./_]0$", r"\1.bn.running_mean"),
        (r"^(bn\w+?)[./_]1$", r"\1.bn.running_var"),
        (r"^(bn\w+?)[./_]2$", r"\1.bn.factor"),
        *_BLOBS,
        (r"^(scale\w+)\.", r"\1.bn."),
        (r"^((?:res\w+|conv1))\.", r"\1.conv."),
        (r"^(?:bn_|scale_)?conv1\.", "base.layer1.conv1."),
        (r"^(?:res|bn|scale)(\d)([abc])(\d*)_branch(1|2[abc])\.", _bottleneck),
        (r"^fc1_\w+_(c\d)\.", r"base.aspp.\1.")), bgr=True, blobs=True),
    Layout("Caffe's VGG16", r"^conv1_1[./_]", (
        *_BLOBS,
        (r"^conv([1-5])_([1-3])\.", _vgg_features),
        (r"^fc6\.", "classifier.0."), (r"^fc7\.", "classifier.3."), (r"^fc8\.", "classifier.6.")),
           bgr=True, blobs=True),
)


def standard_names(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """({name: what tinyseg calls it}, whose layout was recognised or ""), without the prefixes of wrappers."""
    found = unwrapped(names)
    for layout in LAYOUTS:
        if any(re.search(layout.signature, value) for value in found.values()):
            return {name: layout.rename(value) for name, value in found.items()}, layout.name
    return found, ""


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """{name: it without the prefixes of wrappers}."""
    found = {name: name for name in names}
    while prefix := next((p for p in _WRAPPERS if found and all(v.startswith(p) for v in found.values())), ""):
        found = {name: value.removeprefix(prefix) for name, value in found.items()}
    return found
