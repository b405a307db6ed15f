"""Weights from elsewhere as a checkpoint that `tinyseg predict`, `evaluate` and `train --init` open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tinyseg import models
from tinyseg.checkpoint import load_checkpoint, save_checkpoint
from tinyseg.data import IGNORE, IMAGENET, VOC_CLASSES, Normalize, voc_palette
from tinyseg.errors import ArgumentError, CheckpointError, about
from tinyseg.inference import description
from tinyseg.interop.guess import guess_architecture
from tinyseg.interop.load import LoadReport, best_names, load_weights
from tinyseg.interop.text import printable
from tinyseg.interop.weights import OWN, read_weights
from tinyseg.nn import init

__all__ = ["INPUTS", "Adopted", "Input", "adopt_weights"]

Shapes = Mapping[str, tuple[int, ...]]
_KAZUTO = "layer2.block1.reduce."                    # a name of kazuto1011's DeepLab, whose weights are Caffe's


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
    input      a key of INPUTS, or "own" for what a checkpoint of tinyseg says itself
    text       it in words
    """

    report: LoadReport
    classes: tuple[str, ...]
    input: str
    text: str


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
    shapes = {name: array.shape for name, array in weights.arrays.items()}
    with about(str(source)):
        found, channels, from_caffe = _look(shapes, lambda *sizes: models.build(model, *sizes, **options))
        names = _class_names(found if classes is None else classes)
        if input == "auto":
            input = ("own" if weights.kind == OWN else "unit" if model.startswith("unet") or channels != 3 else
                     "caffe" if from_caffe else "imagenet")
        seen = _own_input(source) if input == "own" else INPUTS[input]
        if len(seen.normalize.mean) not in (1, channels):
            raise ArgumentError(f"input {input!r} is of {len(seen.normalize.mean)} channels, the net sees {channels}; "
                                "legal: unit, centred")
        net = models.build(model, channels, len(names), **options)
        report = load_weights(net, weights, None, strict=False, other_shapes="drop", bgr=seen.bgr)
        if not partial:
            _check(report, model, len(names), found, shapes)
    save_checkpoint(to, net.state_dict(), description(model, channels, options, names, voc_palette(), seen.normalize))
    return Adopted(report, names, input, seen.text)


def _own_input(source: str | Path) -> Input:
    """What the run saw that wrote a checkpoint of tinyseg."""
    normalize = load_checkpoint(source)[1].get("normalize") or {}
    try:
        return Input(Normalize(tuple(normalize["mean"]), tuple(normalize["std"])), False, "what its run saw")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"does not say what its net saw ({error}); name it by input") from error


def _class_names(classes: Sequence[str] | int) -> tuple[str, ...]:
    count = classes if isinstance(classes, int) else len(classes)
    if not 1 <= count <= IGNORE:
        raise ArgumentError(f"{count} classes; a mask's bytes hold 1 to {IGNORE}")
    if not isinstance(classes, int):
        return tuple(classes)
    return VOC_CLASSES if classes == len(VOC_CLASSES) else tuple(map(str, range(classes)))


def _look(shapes: Shapes, build: Callable[[int, int], Any]) -> tuple[int, int, bool]:
    """(classes, channels, whether it came out of Caffe) of a file: where nets of 2 and of 3 differ, what the file has.
    """
    def of(channels: int, classes: int) -> Shapes:
        with init.skipped():
            return {name: array.shape for name, array in build(channels, classes).state_dict().items()}

    few = of(3, 2)
    names, layout = best_names(shapes, few)
    theirs = {new: shapes[name] for name, new in names.items()}
    from_caffe = bool(layout and layout.bgr) or any(_KAZUTO in name for name in theirs)
    return next(_differing(theirs, few, of(3, 3)), 2), next(_differing(theirs, few, of(1, 2)), 3), from_caffe


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
