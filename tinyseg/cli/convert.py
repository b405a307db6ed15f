"""`tinyseg convert` and `tinyseg inspect`: weights from elsewhere, without PyTorch."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tinyseg.cli.options import Classes, NumClasses, Options, class_names, net_options
from tinyseg.errors import ArgumentError

__all__ = ["convert", "inspect"]

NET = "Net"

Source = Annotated[Path, typer.Argument(
    help="Weights: .pth, .pt, .th, .safetensors, .npz, or a checkpoint of tinyseg; the content decides.")]
Key = Annotated[str | None, typer.Option(
    help="Which dict, in a file of several, say ema or models.teacher; the usual names are found.")]


def convert(
    weights: Source,
    to: Annotated[Path, typer.Option(help="The file to write; its suffix is its format: .safetensors, .pth, .npz.")],
    key: Key = None,
    rename: Annotated[bool, typer.Option(
        "--rename", help="Give tensors the names that tinyseg's nets have for them.")] = False,
    model: Annotated[str | None, typer.Option(
        help="Write a checkpoint of this net, for [bold]tinyseg predict[/bold]; [bold]tinyseg models[/bold] lists "
             "them.", rich_help_panel=NET)] = None,
    option: Options = None,
    classes: Classes = None,
    num_classes: NumClasses = None,
    input: Annotated[str, typer.Option(
        help="What the net was trained to see: imagenet, unit (0..1), centred (-1..1) or caffe (BGR minus mean); auto: "
             "what is usual for such weights, told.", rich_help_panel=NET)] = "auto",
    partial: Annotated[bool, typer.Option(
        "--partial", help="Leave aside what does not fit, such as a head for other classes, to train it anew.",
        rich_help_panel=NET)] = False,
) -> None:
    """Write weights in another format: those of PyTorch for safetensors and NumPy, and the reverse.

    With a net's name, write a checkpoint that predict, evaluate and train --init open:

    [bold]tinyseg convert fcn_resnet50_coco.pth --model fcn_resnet50 --to fcn.safetensors[/bold]

    Nothing in the file is executed: a .pth that would run code is refused. bfloat16 becomes float32.
    """
    from tinyseg.interop import adopt_weights, read_weights, rename_weights, write_weights
    if model is not None:
        if rename:
            raise ArgumentError("--rename with --model, which finds the names by itself; leave it out")
        done = adopt_weights(weights, to, model, net_options(option), class_names(classes) or num_classes, input,
                             partial, key)
        print(f"{done.report}\nsees images as {done.input}: {done.text} (--input names another)\n"
              f"{to}: {model} for {len(done.classes)} classes: {', '.join(done.classes)}")
        return
    given = [name for name, value in (("--option", option), ("--classes", classes), ("--num-classes", num_classes),
                                      ("--input", input != "auto"), ("--partial", partial)) if value]
    if given:
        raise ArgumentError(f"{', '.join(given)} without --model: a file of weights does not say which net it is of")
    found = read_weights(weights, key)
    if rename:
        found, layout = rename_weights(found)
        print(f"names of {layout} turned into tinyseg's" if layout else "names without the prefixes of wrappers")
        if layout.startswith("Caffe"):
            print("the numbers are as they were: the first kernel still sees blue first (--model turns it)")
    write_weights(to, found.arrays)
    print(f"{to}: {len(found.arrays)} tensors, {found.num_elements:,} numbers, from {found.kind}"
          + (f", dict {found.key!r}" if found.key else ""))


def inspect(
    weights: Source,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a file of weights holds: tensors, shapes, types, and which net they look like."""
    from tinyseg.interop import guess_architecture, read_weights
    from tinyseg.interop.text import printable
    found = read_weights(weights, key)
    shapes = {name: array.shape for name, array in found.arrays.items()}
    learned = sum(a.size for name, a in found.arrays.items() if not name.endswith(_STATISTICS))
    facts: dict[str, Any] = {
        "file": str(weights), "kind": found.kind, "dict": found.key, "tensors": len(shapes), "parameters": learned,
        "running statistics": found.num_elements - learned, "architecture": guess_architecture(shapes),
        **{f"value {name}": value for name, value in found.notes.items()}}
    if as_json:
        print(json.dumps({**facts, "names": {name: {"shape": shape, "dtype": found.dtypes[name]}
                                             for name, shape in shapes.items()}}, indent=2))
        return
    rows = [(printable(name), "x".join(map(str, shape)) or "-", found.dtypes[name]) for name, shape in shapes.items()]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(2)]
    for name, shape, dtype in rows:
        print(f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {dtype}")
    print()
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))
        if name == "architecture":
            shown = shown or "not one that is known"
        if shown:
            print(f"{printable(name):<20}{shown[:200]}")


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
