"""Weights of others into a net of tinyseg, and a report of what fitted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.errors import ArgumentError, CheckpointError, about
from tinyseg.interop.layouts import LAYOUTS, Layout, unwrapped
from tinyseg.interop.text import printable
from tinyseg.interop.weights import Weights, read_weights
from tinyseg.nn import Module

__all__ = ["LoadReport", "best_names", "load_weights"]

_FEW = 6                                             # names that a line shows
_FACTOR = ".bn.factor"                               # how many batches Caffe's statistics are the sum of


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; names are the net's, those of `unexpected` the file's.

    loaded         filled from the file
    missing        in the net, not in the file: as they were
    unexpected     in the file, without a place in the net
    other_shape    {name: (shape in the file, shape in the net)}: as they were
    folded         biases that the net does not have, taken off the mean of the normalisation behind
    turned         kernels that saw blue, green, red, turned round to see red, green, blue
    layout         whose names were recognised, "" for names like the net's
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    layout: str = ""

    def __str__(self) -> str:
        shapes = [f"{name} {theirs} for {own}" for name, (theirs, own) in self.other_shape.items()]
        lines = [f"loaded {len(self.loaded)} tensors" + (f", names of {self.layout}" if self.layout else "")]
        lines += [f"{what}: {_few(names)}" for what, names in (
            ("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes),
            ("biases taken off running means", self.folded),
            ("turned from blue, green, red to red, green, blue", self.turned)) if names]
        return "\n".join(lines)


def load_weights(net: Module, source: str | Path | Weights | Mapping[str, Any], key: str | None = None,
                 strict: bool = True, other_shapes: str = "refuse", bgr: bool | None = None) -> LoadReport:
    """Fill a net from a file, from `read_weights`, or from names and arrays; returns what fitted.

    Names may be those of torchvision, also of its first DenseNets, of milesial's and WZMIAOMIAO's U-Nets, of
    kazuto1011's DeepLab and of Caffe's VGG16, FCN and DeepLab, wrapped in DataParallel or not; the weights may be those
    of a part of the net, such as its backbone (with strict=False).  Whichever reading of the names fits most tensors is
    taken.

    key             which dict of the file, as in `read_weights`
    strict          False leaves missing and unexpected names aside; `num_batches_tracked` may always be missing
    other_shapes    "refuse" them, or "drop" what has another shape, such as a head for other classes, so that the net
                    keeps its own
    bgr             whether the weights saw images as blue, green, red: their first kernel is then turned round, since
                    tinyseg reads red, green, blue.  None: where the names are Caffe's.  It is True for kazuto1011's
                    files, whose names do not tell.  Such nets want images minus the mean colour and not divided:
                    `interop.INPUTS["caffe"]`

    A bias that the net does without because a normalisation follows changes only the mean that is subtracted, and is
    taken off it; the results are the same.  Of Caffe's blobs, matrices of fully connected layers become kernels, and
    statistics are divided by the number of batches that they were summed over.

    Raises CheckpointError that lists what does not fit; nothing is loaded then.
    """
    if other_shapes not in ("refuse", "drop"):
        raise ArgumentError(f"load_weights: other_shapes {other_shapes!r}; legal: 'refuse', 'drop'")
    if isinstance(source, str | Path):
        with about(str(source)):
            return _load(net, read_weights(source, key).arrays, strict, other_shapes, bgr)
    with about("load_weights"):
        return _load(net, source.arrays if isinstance(source, Weights) else source, strict, other_shapes, bgr)


def _load(net: Module, source: Mapping[str, Any], strict: bool, other_shapes: str, bgr: bool | None) -> LoadReport:
    arrays = {name: np.asarray(value.detach().data if hasattr(value, "detach") else value)
              for name, value in source.items()}
    own = {name: value.shape for name, value in net.state_dict().items()}
    names, layout = best_names({name: array.shape for name, array in arrays.items()}, own)
    arrays = {names[name]: array for name, array in arrays.items()}
    if layout and layout.blobs:
        arrays = _from_blobs(arrays, own)
    arrays, folded = _fold_biases(arrays, own)
    turned = _first_kernel(arrays, own) if bgr or (bgr is None and layout and layout.bgr) else []
    for name in turned:
        arrays[name] = np.ascontiguousarray(arrays[name][:, ::-1])

    fitting = {name: array for name, array in arrays.items() if own.get(name) == array.shape}
    report = LoadReport(
        loaded=list(fitting), layout=layout.name if layout else "", folded=folded, turned=turned,
        missing=[name for name in own if name not in arrays and not name.endswith("num_batches_tracked")],
        unexpected=[name for name, new in names.items()
                    if new not in own and new not in folded and not new.endswith(_FACTOR)],
        other_shape={name: (array.shape, own[name]) for name, array in arrays.items()
                     if own.get(name, array.shape) != array.shape})
    _refuse(net, report, strict, other_shapes)
    net.load_state_dict(fitting, strict=False)
    return report


def _refuse(net: Module, report: LoadReport, strict: bool, other_shapes: str) -> None:
    shapes = [f"{name} {theirs} for {own}" for name, (theirs, own) in report.other_shape.items()]
    problems = [(f"{what} {_few(names)}", remedy) for what, names, remedy in (
        ("missing:", report.missing if strict else [], "strict=False"),
        ("unexpected:", report.unexpected if strict else [], "strict=False"),
        ("of another shape:", shapes if other_shapes == "refuse" else [], 'other_shapes="drop"')) if names]
    if not report.loaded:
        raise CheckpointError(f"none of its names and shapes are those of {type(net).__name__}; "
                              "tinyseg inspect shows what it holds")
    if problems:
        remedies = " and ".join(dict.fromkeys(remedy for _, remedy in problems))
        raise CheckpointError(f"does not fit {type(net).__name__}; {'; '.join(text for text, _ in problems)}. Nothing "
                              f"was loaded. Build the net with the options of the one that was saved, or pass "
                              f"{remedies} to leave these as they are")


def best_names(shapes: Mapping[str, tuple[int, ...]],
               own: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], Layout | None]:
    """The reading of the names under which most tensors fit a net's, and whose it is; of equals the plainest.

    shapes, own    names to shapes, of the file and of the net
    """
    best: tuple[int, dict[str, str], Layout | None] = (-1, {name: name for name in shapes}, None)
    for names, layout in _readings(shapes, own):
        score = sum(own.get(new) == shapes[name] for name, new in names.items())
        if score > best[0]:
            best = score, names, layout
    _, names, layout = best
    if len(set(names.values())) < len(names):
        raise CheckpointError("two of its names mean the same tensor of the net; rename them")
    return names, layout


def _readings(shapes: Mapping[str, tuple[int, ...]],
              own: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[dict[str, str], Layout | None]]:
    """As they are; as a known layout; without what all begin with; as those of one of the net's children."""
    plain = {name: name for name in shapes}
    bare = unwrapped(shapes)
    for names, whose in ((plain, None), (bare, None), *(
            ({name: layout.rename(value) for name, value in bare.items()}, layout) for layout in LAYOUTS)):
        while True:
            yield names, whose
            for child in dict.fromkeys(name.split(".")[0] for name in own if "." in name):
                yield {name: f"{child}.{new}" for name, new in names.items()}, whose
            first = {new.partition(".")[0] for new in names.values()}
            if len(first) != 1 or not all("." in new for new in names.values()):
                break
            names = {name: new.partition(".")[2] for name, new in names.items()}


def _from_blobs(arrays: dict[str, np.ndarray], own: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Caffe's blobs in the net's shapes, by flat copies, and sums of statistics as means."""
    result = {name: array.reshape(own[name]) if array.size == math.prod(own.get(name, (-1,))) else array
              for name, array in arrays.items()}
    for name, factor in arrays.items():
        if name.endswith(_FACTOR) and factor.size == 1:
            del result[name]
            for statistic in ("running_mean", "running_var"):
                key = name.removesuffix("factor") + statistic
                if key in result:
                    result[key] = result[key] / (factor.item() or 1.0)
    return result


def _first_kernel(arrays: dict[str, np.ndarray], own: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The name of the kernel that sees the image, where that has three colours."""
    first = next((name for name, shape in own.items() if len(shape) == 4), "")
    fits = first in arrays and arrays[first].shape == own[first] and own[first][1] == 3
    return [first] if fits else []


def _fold_biases(arrays: dict[str, np.ndarray],
                 own: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Biases of convolutions k that the net does not have, taken off the running mean of its normalisation k + 1."""
    folded, result = [], dict(arrays)
    for name, bias in arrays.items():
        match = re.fullmatch(r"(.*\.)(\d+)\.bias", name)
        if match is None or name in own or f"{match[1]}{match[2]}.weight" not in own:
            continue
        mean = f"{match[1]}{int(match[2]) + 1}.running_mean"
        if mean in own and mean in arrays and arrays[mean].shape == bias.shape:
            result[mean] = arrays[mean] - bias
            del result[name]
            folded.append(name)
    return result, folded


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(map(printable, names[:_FEW])) + more
