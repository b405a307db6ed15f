"""`tinyseg verify`."""

import json
from typing import Annotated

import typer

from tinyseg.errors import ArgumentError

__all__ = ["verify"]


def verify(
    target: Annotated[str, typer.Argument(
        help="The kernel: file.py:function, package.module:function, or a registered algorithm like im2col.")],
    op: Annotated[str | None, typer.Option(
        help="conv2d, conv_transpose2d, conv2d_input_grad, conv2d_weight_grad, conv2d_bias_grad, max_pool2d, "
             "max_pool2d_grad, avg_pool2d or avg_pool2d_grad; default: what its name or its parameters say.")] = None,
    backward: Annotated[str | None, typer.Option(
        help="Its gradients, like input_grad=file.py:f,weight_grad=file.py:g; verified too, and as adjoints.")] = None,
    supports: Annotated[str | None, typer.Option(
        help='The options it takes, like "stride,dilation"; default: what its signature says.')] = None,
    adapter: Annotated[str | None, typer.Option(help="torch: the function takes and gives tensors.")] = None,
    tolerance: Annotated[float | None, typer.Option(
        min=0, help="For kernels that transform (Winograd, FFT) or multiply shorter numbers (bfloat16): the largest "
                    "error, relative to max|x| · max over o of Σ|w[o]|. One relative to max|y| is never too small.")
    ] = None,
    kernel: Annotated[str | None, typer.Option(
        help="Sizes of the kernel's sides that it takes, like 3 or 1,3; default: any.")] = None,
    dtypes: Annotated[str, typer.Option(help="Those of the arrays that it takes.")] = "float64,float32",
    only: Annotated[str | None, typer.Option(help="Properties to check, by name, with commas.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Look for a quarter of an hour.")] = False,
    seconds: Annotated[float | None, typer.Option(min=1, help="Look for at most so long; default 60.")] = None,
    call_limit: Annotated[float, typer.Option(min=0.1, help="Seconds after which a call counts as endless.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Draws other cases.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="Show every failing property in full.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check a convolution or pooling kernel against formulas, and show the smallest geometry on which one fails.

    A kernel is a function on NumPy arrays, like conv2d(x, weight, stride, padding, dilation, groups) with pairs of
    ints and NCHW arrays; the last arguments may be missing.  It runs in a process of its own, so it may crash.

    Exit status 0 when every property holds, 1 when one fails or the kernel cannot be called, 2 for a request that
    makes no sense.
    """
    from dataclasses import replace

    from rich.console import Console

    from tinyseg.verify import Budget, Request, report, session
    budget = Budget.deep() if deep else Budget()
    if seconds is not None:
        budget = replace(budget, seconds=seconds)
    request = Request(target, op, tuple(_gradients(backward)), _names(supports), adapter, tolerance,
                      _names(dtypes), _sizes(kernel))
    console = Console(stderr=True)
    with console.status(f"importing {target}") as status:
        found = session.verify(request, budget, seed, call_limit, _names(only),
                               lambda so_far: status.update(_progress(so_far)))
    if as_json:
        print(json.dumps(report.as_json(found), indent=2, allow_nan=True))
    else:
        Console(highlight=False).print(report.as_text(found, everything))
    return 0 if found.holds else 1


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _sizes(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(map(int, text.split(",")))
    except ValueError:
        raise ArgumentError(f"--kernel {text}: needs whole numbers, like 3 or 1,3") from None


def _gradients(text: str | None) -> list[tuple[str, str]]:
    """input_grad=file.py:f,weight_grad=file.py:g, the names optional."""
    pairs = []
    for part in _names(text) or ():
        name, equals, target = part.rpartition("=")
        if not target or ":" not in target:
            raise ArgumentError(f"--backward {part}: needs name=file.py:function, like input_grad=file.py:f")
        pairs.append((name if equals else "", target))
    return pairs


def _progress(so_far) -> str:
    outcomes = list(so_far.outcomes.values())
    failed = sum(o.failed for o in outcomes)
    return (f"{len(outcomes)} properties on {sum(o.held for o in outcomes)} cases"
            + (f", {failed} failed" if failed else "")) if outcomes else "compiling"
