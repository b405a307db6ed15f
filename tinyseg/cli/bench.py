"""`tinyseg bench`."""

from pathlib import Path
from typing import Annotated

import typer

from tinyseg.errors import ArgumentError, Interrupted

__all__ = ["bench"]

WHAT, CLOCK, OUT = "What is measured", "The clock", "What comes out"


def bench(
    targets: Annotated[list[str] | None, typer.Argument(
        metavar="[conv|transposed|dilated|pool|net] [FILE.py:FUNCTION]",
        help="Layers of one kind, or a whole training step of U-Net; and a kernel of your own.")] = None,
    layers: Annotated[str, typer.Option(help="unet, fcn, deeplab, lab, all, or a JSON file.",
                                        rich_help_panel=WHAT)] = "all",
    layer: Annotated[list[str] | None, typer.Option(help="Only the layer of this name; repeatable.",
                                                    rich_help_panel=WHAT)] = None,
    direction: Annotated[list[str] | None, typer.Option(
        help="forward, input_grad or weight_grad; repeatable. Default: all.", rich_help_panel=WHAT)] = None,
    algorithm: Annotated[list[str] | None, typer.Option(
        help="Only this algorithm of tinyseg; repeatable. Default: all.", rich_help_panel=WHAT)] = None,
    against: Annotated[str | None, typer.Option(
        help="torch, torch-channels-last, torch-bf16 (commas between), or none. Default: torch where it is installed.",
        rich_help_panel=WHAT)] = None,
    op: Annotated[str | None, typer.Option(
        help="Signature of your kernel, when neither its name nor its parameters tell.", rich_help_panel=WHAT)] = None,
    sweep: Annotated[str | None, typer.Option(
        help="How time grows: dilation=1,2,4, size=, channels= or batch= for the first layer.",
        rich_help_panel=WHAT)] = None,
    base: Annotated[int, typer.Option(min=1, help="net: channels of U-Net's top level.",
                                      rich_help_panel=WHAT)] = 64,
    size: Annotated[int, typer.Option(min=16, help="net: side of the images, a multiple of 16.",
                                      rich_help_panel=WHAT)] = 256,
    batch: Annotated[int, typer.Option(min=1, help="net: images at a time.", rich_help_panel=WHAT)] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="For everybody. Default: as many as Numba uses.",
                                                rich_help_panel=CLOCK)] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Samples of each candidate at least; fewer of who is far behind.",
                                        rich_help_panel=CLOCK)] = 9,
    seconds: Annotated[float, typer.Option(min=0, help="Clocked for each candidate at least.",
                                           rich_help_panel=CLOCK)] = 0.2,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that one call of your kernel may take.",
                                         rich_help_panel=CLOCK)] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the numbers and of the order of turns.",
                                      rich_help_panel=CLOCK)] = 0,
    baseline: Annotated[str | None, typer.Option(help="Whom ratios are against. Default: torch, else im2col.",
                                                 rich_help_panel=OUT)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json, roofline.png and report.html.",
                                             rich_help_panel=OUT)] = None,
    profile: Annotated[bool, typer.Option(
        "--profile", help="net: where the time goes, kernel by kernel, instead of how long it takes.",
        rich_help_panel=OUT)] = False,
    compare: Annotated[tuple[Path, Path] | None, typer.Option(
        help="Lay two bench.json side by side instead of measuring.", rich_help_panel=OUT)] = None,
) -> None:
    """Time every algorithm, PyTorch and your own kernel on the same layers, taking turns in one process.

    Who does not agree with float64 is not timed. A ratio above 1 is faster than the baseline; "not different" means
    that the intervals of the two medians overlap. Ctrl-C ends it early, with a table and a report of what is measured.
    """
    from tinyseg.bench import net, record, report, run
    from tinyseg.bench.profile import write
    from tinyseg.cli.bench_table import Terminal
    terminal = Terminal()
    if compare is not None:
        first, second = map(record.Bench.read, compare)
        terminal.compared(first, second, record.compare(first, second))
        return
    suite, kernel = _targets(targets or [])
    if out is not None and out.exists() and not out.is_dir():
        raise ArgumentError(f"--out {out}: is a file; name a folder")
    names = None if against is None else [] if against == "none" else against.split(",")

    def keep(found: record.Bench) -> None:
        if out is not None:
            report.begin(found, out)

    request = run.Request(
        suite=suite, kernel=kernel, signature=op, layers=layers, names=layer or [], directions=direction or [],
        algorithms=algorithm or [], against=names, sweep=sweep, threads=threads, rounds=rounds, seconds=seconds,
        limit=limit, seed=seed, baseline=baseline, net=net.Size(base, size, batch))
    if profile:
        terminal.profiles(profiles := run.profiles(request, terminal))
        if out is not None:
            write(profiles, out / "profile.json")
        return
    found = run.bench(request, terminal, keep)
    terminal.table(found)
    if out is not None:
        print(f"report: {report.write(found, out)}")
    if found.incomplete:
        raise Interrupted("stopped; the table" + (f" and {out}" if out else "") + " hold what was measured until then")


def _targets(targets: list[str]) -> tuple[str | None, str | None]:
    """The suite and the kernel among the arguments."""
    from tinyseg.bench.layers import SUITES
    suites, kernels = [t for t in targets if ":" not in t], [t for t in targets if ":" in t]
    legal = (*SUITES, "net")
    for suite in suites:
        if suite not in legal:
            advice = f"; a kernel needs its function too: {suite}:conv2d" if suite.endswith(".py") else ""
            raise ArgumentError(f"bench: no suite {suite!r}; legal: {', '.join(legal)}{advice}")
    if len(suites) > 1 or len(kernels) > 1:
        raise ArgumentError(f"bench: {' '.join(targets)}: needs one suite and one kernel at most")
    return suites[0] if suites else None, kernels[0] if kernels else None
