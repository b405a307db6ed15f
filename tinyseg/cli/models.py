"""`tinyseg models`: the nets, what they cost and what they see."""

import inspect
import json
from typing import Annotated, Any

import typer

__all__ = ["models"]

CLASSES = {"segmentation": 21, "classification": 1000}
PIPE = 160                                           # columns: a pipe has no width


def models(
    net: Annotated[str | None, typer.Argument(help="A net to say more about: its options, and with --layers its "
                                                   "layers.")] = None,
    size: Annotated[str, typer.Option(help="Size of the image, HxW or N; a net that does not take it gets the next "
                                           "larger one.")] = "512",
    layers: Annotated[bool, typer.Option("--layers", help="List the net's layers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """All nets: parameters, multiply-adds for an image, output stride and receptive field."""
    from tinyseg.cli.train import image_size
    from tinyseg.models import describe, names
    wanted = image_size(size, "size")
    if net is not None:
        describe(net)                                # or say which nets there are
    rows = [_facts(name, task, wanted) for task in CLASSES for name in names(task) if net in (None, name)]
    if as_json:
        print(json.dumps(rows if net is None else rows[0], indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("net", "parameters", "multiply-adds", "input", "stride", "field", ""):
        table.add_column(column, justify="left" if column in ("net", "") else "right", no_wrap=bool(column))
    for row in rows:
        field = row["receptive_field"]
        table.add_row(row["name"], f"{row['parameters'] / 1e6:.1f} M", f"{row['multiply_adds'] / 1e9:.1f} G",
                      "x".join(map(str, row["input"])), f"{row['output_stride']:g}",
                      "image" if field is None else "≤ " * row["bound"] + str(max(field)), row["text"])
    console = Console()
    if not console.is_terminal:
        console.width = PIPE
    console.print(table)
    print(f"For 3 channels, {CLASSES['segmentation']} classes ({CLASSES['classification']} in classifiers) and one "
          "image.  stride: of the coarsest map.  field: pixels that an output can see along one side; ≤: an upper "
          "bound, since up-sampled outputs see differently much; image: all of it.")
    if net is not None:
        _explain(net, rows[0], layers)


def _facts(name: str, task: str, size: tuple[int, int]) -> dict[str, Any]:
    from tinyseg.models import build, describe
    from tinyseg.nn import init, net_facts
    with init.skipped():
        model = build(name, 3, CLASSES[task])
    legal = getattr(model, "legal_sizes", range(1, max(size) + 1))
    taken = [next(n for n in legal if n >= want) for want in size]
    facts = net_facts(model, (3, *taken))
    return {"name": name, "task": task, "text": describe(name), "input": taken, **facts._asdict(),
            "output_stride": float(facts.output_stride)}


def _explain(name: str, row: dict[str, Any], layers: bool) -> None:
    from tinyseg.models import build
    model = build(name, 3, CLASSES[row["task"]])
    options = ", ".join(f"{option}={parameter.default!r}" for option, parameter
                        in inspect.signature(type(model)).parameters.items()
                        if parameter.default is not parameter.empty and option not in ("in_channels", "num_classes"))
    print(f"\n{type(model).__name__}: {inspect.getdoc(type(model))}\n\noptions (-o NAME=VALUE): {options}")
    if layers:
        print("\n" + model.summary((3, *row["input"])))
