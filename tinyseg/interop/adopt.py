"""Weights from elsewhere as a checkpoint that `tinyseg predict`, `evaluate` and `train --init` open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tinyseg import models
from tinyseg.checkpoint import save_checkpoint
from tinyseg.data import IMAGENET, VOC_CLASSES, Normalize, voc_palette
from tinyseg.errors import ArgumentError, CheckpointError, about
from tinyseg.inference import description
from tinyseg.interop.guess import guess_architecture
from tinyseg.interop.load import LoadReport, best_names, load_weights
from tinyseg.interop.text import printable
from tinyseg.interop.weights import read_weights
from tinyseg.nn import init

__all__ = ["INPUTS", "Adopted", "Input", "adopt_weights"]

Shapes = Mapping[str, tuple[int, ...]]


class Input(NamedTuple):
    """What a net was trained to see.

    normalize    of the levels 0..255, red, green, blue
    bgr          its weights saw blue first
    text         in words
    """

    normalize: Normalize
    bgr: bool
    text: str


INPUTS = {
    "imagenet": Input(IMAGENET, False, "RGB in 0..1, minus ImageNet's mean, divided by its deviation"),
    "unit": Input(Normalize((0.0,), (1.0,)), False, "levels in 0..1"),
    "centred": Input(Normalize((0.5,), (0.5,)), False, "levels in -1..1"),
    # fcn.berkeleyvision.org; the mean of (B, G, R) is (104.00699, 116.66877, 122.67892)
    "caffe": Input(Normalize((122.67892 / 255, 116.66877 / 255, 104.00699 / 255), (1 / 255,) * 3), True,
                   "BGR in 0..255, minus ImageNet's mean")}


class Adopted(NamedTuple):
    """What `adopt_weights` wrote.

    report     what matched
    classes    their names
    input      a key of INPUTS
    """

    report: LoadReport
    classes: tuple[str, ...]
    input: str


def adopt_weights(source: str | Path, to: str | Path, model: str, options: Mapping[str, Any] | None = None,
                  classes: Sequence[str] | int | None = None, input: str = "auto", partial: bool = False,
                  key: str | None = None) -> Adopted:
    """Write weights from elsewhere as a checkpoint of a net that segments.

    source     a file of weights, as for `read_weights`; `key` says which dict of it
    to         the checkpoint, a .safetensors file
    model      a name of `models.names()`, with `options` as for `models.build`
    classes    their names, or how many; None: as many as the file has, with VOC's names for 21
    input      what the net was trained to see, a key of `INPUTS`; "auto": as those who publish such weights do.
               A wrong one costs accuracy and says nothing, so look at a prediction
    partial    leave aside what does not fit, which stays as a fresh net has it: a head for other classes, the last
               layers of a classifier

    Raises CheckpointError for weights of another net or another number of classes, and writes nothing then.
    """
    if Path(to).suffix != ".safetensors":
        raise ArgumentError(f"{to}: a checkpoint is a .safetensors file; name one, say {Path(to).with_suffix('')}"
                            ".safetensors")
    if model not in models.names():
        raise ArgumentError(f"model {model!r}; legal: {', '.join(models.names())}")
    if input not in ("auto", *INPUTS):
        raise ArgumentError(f"input {input!r}; legal: auto, {', '.join(INPUTS)}")
    options = dict(options or {})
    weights = read_weights(source, key)

    def build(channels: int, count: int):
        return models.build(model, channels, count, **options)

    shapes = {name: array.shape for name, array in weights.arrays.items()}
    with about(str(source)):
        found, channels = _counts(shapes, build)
        names = _class_names(found if classes is None else classes)
        net = build(channels, len(names))
        seen = INPUTS.get(input)
        report = load_weights(net, weights, None, strict=False, other_shapes="drop", bgr=seen and seen.bgr)
        if not partial:
            _check(report, model, len(names), found, shapes)
        if seen is None:
            input = _usual_input(model, channels, bool(report.turned))
            seen = INPUTS[input]
            if seen.bgr and not report.turned:
                report = load_weights(net, weights, None, strict=False, other_shapes="drop", bgr=True)
        if len(seen.normalize.mean) not in (1, channels):
            raise ArgumentError(f"input {input!r} is of {len(seen.normalize.mean)} channels, the net sees {channels}; "
                                "legal: unit, centred")
    save_checkpoint(to, net.state_dict(), description(model, channels, options, names, voc_palette(), seen.normalize))
    return Adopted(report, names, input)


def _usual_input(model: str, channels: int, from_caffe: bool) -> str:
    """What published weights of a net were trained to see."""
    if model.startswith("unet") or channels != 3:
        return "unit"
    return "caffe" if from_caffe or model == "deeplab_v2" else "imagenet"


def _class_names(classes: Sequence[str] | int) -> tuple[str, ...]:
    if not isinstance(classes, int):
        return tuple(classes)
    return VOC_CLASSES if classes == len(VOC_CLASSES) else tuple(map(str, range(classes)))


def _counts(shapes: Shapes, build: Callable[[int, int], Any]) -> tuple[int, int]:
    """(classes, channels) that a file is for: where nets of 2 and of 3 differ, what the file has."""
    def of(channels: int, classes: int) -> Shapes:
        with init.skipped():
            return {name: array.shape for name, array in build(channels, classes).state_dict().items()}

    few = of(3, 2)
    names, _ = best_names(shapes, few)
    theirs = {new: shapes[name] for name, new in names.items()}
    return next(_differing(theirs, few, of(3, 3)), 2), next(_differing(theirs, few, of(1, 2)), 3)


def _differing(theirs: Shapes, first: Shapes, second: Shapes) -> Iterator[int]:
    for name, shape in first.items():
        if name in theirs and len(theirs[name]) == len(shape):
            yield from (n for n, a, b in zip(theirs[name], shape, second[name], strict=True) if a != b)


def _check(report: LoadReport, model: str, classes: int, found: int, shapes: Shapes) -> None:
    """One line for weights of another net, or of other classes."""
    if not (report.missing or report.unexpected or report.other_shape):
        return
    if not (report.missing or report.unexpected) and classes != found:
        raise CheckpointError(f"is for {found} classes, not {classes}; ask for {found}, or with partial for all but "
                              f"{', '.join(report.other_shape)}, which then have to be trained")
    guess = guess_architecture(shapes)
    raise CheckpointError(
        f"does not fit {model}: {len(report.loaded)} of its {len(shapes)} tensors do; "
        + "; ".join(f"{what} {len(names)}, as {printable(names[0])}" for what, names in (
            ("missing", report.missing), ("unexpected", report.unexpected),
            ("of another shape", list(report.other_shape))) if names)
        + (f". It looks like {printable(guess)}" if guess else "")
        + ". Name the net that was saved, with its options, or ask with partial for what fits")
