"""How others name the weights of nets that tinyseg has too, as rules that turn their names into tinyseg's.

torchvision's current names, those of milesial's U-Net and of kazuto1011's DeepLab need no rule: tinyseg's nets have
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["LAYOUTS", "Layout", "standard_names"]

_WRAPPERS = ("module.", "_orig_mod.")                # of DataParallel and torch.compile


class Layout(NamedTuple):
    """Names of a source.

    name         whose
    signature    a pattern that some name of the source has, and no name of tinyseg's nets
    rules        (pattern, replacement), applied one after the other
    """

    name: str
    signature: str
    rules: tuple[tuple[str, str], ...]

    def rename(self, name: str) -> str:
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


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
)


def standard_names(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """({name: what tinyseg calls it}, whose layout was recognised or ""), without the prefixes of wrappers."""
    found = {name: name for name in names}
    while prefix := next((p for p in _WRAPPERS if found and all(v.startswith(p) for v in found.values())), ""):
        found = {name: value.removeprefix(prefix) for name, value in found.items()}
    for layout in LAYOUTS:
        if any(re.search(layout.signature, value) for value in found.values()):
            return {name: layout.rename(value) for name, value in found.items()}, layout.name
    return found, ""
