"""A measurement as a folder: bench.json, roofline.png, and one HTML page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from tinyseg import draw
from tinyseg.bench.figures import inks, roofline_figure, sweep_figure
from tinyseg.bench.record import Bench, Ratio, Standing
from tinyseg.bench.rows import (
    NOTHING,
    Row,
    bytes_text,
    error_text,
    layers_text,
    processes_text,
    quotient_text,
    rate_text,
    ratio_text,
    rows,
)
from tinyseg.bench.statistics import geometric_mean
from tinyseg.draw.style import to_png, to_svg
from tinyseg.files import replacing, sweep

__all__ = ["begin", "page", "write"]

_STYLE = """
.tiles .value small { font-size: 0.6em; }
.warning { max-width: none; margin-top: 24px; padding: 14px 18px; border: 1px solid var(--val); border-radius: 14px; }
tr.layer td { padding-top: 18px; border-top: 2px solid var(--rule); font-weight: 650; }
tr.layer span { margin-left: 10px; color: var(--muted); font-size: 13px; font-weight: 400; }
tbody tr.layer:first-child td { padding-top: 4px; border-top: 0; }
tr.layer + tr td { border-top: 0; }
tr.base td { color: var(--muted); }
tr.bad td { color: var(--val); }
.faint { color: var(--muted); }
td.bar { width: 22%; }
td.bar b { width: 3.2em; }
"""
_DIRECTIONS = {"forward": "Forward", "input_grad": "Gradient of the input", "weight_grad": "Gradient of the weights",
               "inference": "Inference", "training step": "A training step"}


def begin(bench: Bench, folder: str | Path) -> None:
    """Write what is measured so far; what an earlier measurement left in the folder must not pass for this one's."""
    folder = Path(folder)
    bench.write(folder / "bench.json")
    for name in ("roofline.png", "sweep.png", "report.html"):
        (folder / name).unlink(missing_ok=True)
    sweep(folder)


def write(bench: Bench, folder: str | Path) -> Path:
    """Write all files and return the page's path.  Raises DataError when the folder cannot be written."""
    folder = Path(folder)
    bench.write(folder / "bench.json")
    pictures = {}
    if any(row.rate for group in rows(bench).values() for row in group):
        pictures["roofline.png"] = roofline_figure(bench)
    if bench.sweep:
        pictures["sweep.png"] = sweep_figure(bench)
    for name, picture in pictures.items():
        with replacing(folder / name) as file:
            file.write(to_png(picture))
    with replacing(folder / "report.html") as file:
        file.write(page(bench).encode())
    return folder / "report.html"


def page(bench: Bench) -> str:
    """The report as HTML."""
    groups = rows(bench)
    sections = [_head(bench, groups)]
    for warning in filter(None, (bench.incomplete, bench.busy)):
        sections.append(f'<p class="warning">{escape(warning)}</p>')
    if any(row.rate for group in groups.values() for row in group):
        sections.append(_section("Under the roof", _figure(roofline_figure(bench), "Roofline") + _ROOF_NOTE))
    if bench.sweep:
        lines = "<br>".join(map(escape, bench.sweep["lines"]))
        sections.append(_section(f"How time grows with {bench.sweep['parameter']}",
                                 _figure(sweep_figure(bench), "Time against the parameter")
                                 + f'<p class="note">{lines}</p>'))
    for direction in dict.fromkeys(direction for _, direction in groups):
        mine = {layer: group for (layer, d), group in groups.items() if d == direction}
        sections.append(_section(_DIRECTIONS.get(direction, direction), _table(bench, mine, direction)))
    sections.append(_section("How it was measured", _method(bench)))
    sections.append('<div class="two">' + _section("Machine", _pairs(bench.machine))
                    + _section("Peaks", _pairs(_peaks(bench))) + "</div>")
    style = Path(draw.__file__).with_name("report.css").read_text(encoding="utf-8") + _STYLE
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(bench.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            + "\n".join(sections) + "\n</body>\n</html>\n")


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _figure(figure: Any, label: str) -> str:
    return f'<div class="card">{to_svg(figure, label)}</div>'


def _head(bench: Bench, groups: Mapping[tuple[str, str], list[Row]]) -> str:
    who, ratios = _subject(bench, groups)
    measured = [row for group in groups.values() for row in group if row.result.time]
    calls = sum(len(row.result.samples) * row.result.calls_per_sample for row in measured)
    errors = [row.result.error for row in measured if not row.result.reduced]
    peaks = bench.peaks
    tiles = [
        ("Measured", f"{len(groups)}", "layers and directions" if bench.layers else "nets and modes"),
        ("Calls on the clock", f"{calls:,}", f"{len({row.result.candidate for row in measured})} candidates in turn"),
        ("Largest error", error_text(max(errors, default=None)), "float32, of the largest value"),
        ("float32 peak", f"{rate_text(peaks.flops)}<small>GFLOP/s</small>", f"{peaks.threads} threads, measured"),
        ("Memory", f"{peaks.bandwidth / 1e9:.3g}<small>GB/s</small>", "triad, measured"),
        ("Matrix unit", f"{rate_text(peaks.bf16)}<small>GFLOP/s</small>" if peaks.bf16 else NOTHING,
         "bfloat16, measured" if peaks.bf16 else "none that could be measured"),
    ]
    cards = "\n".join(f'<div class="card"><div class="label">{name}</div><div class="value">{value}</div>'
                      f'<div class="label">{escape(note)}</div></div>' for name, value, note in tiles)
    return f"""<header>
<div class="eyebrow">tinyseg · bench</div>
<h1>{escape(bench.title)}</h1>
<p class="muted">{escape(str(bench.machine.get("cpu", "")))}, {peaks.threads} threads. Only who agrees with float64 is \
timed; all took turns in one process.</p>
</header>
<div class="headline">
<div class="card hero">{_hero(bench, who, ratios)}</div>
<div class="tiles">
{cards}
</div>
</div>"""


def _subject(bench: Bench, groups: Mapping[tuple[str, str], list[Row]]) -> tuple[str, list[Ratio]]:
    """Whom the headline is about, the user's kernel or the fastest of ours each time; its ratios to the baseline.

    Not one of reduced precision: it does less work than the baseline.
    """
    own = next((name for name in bench.candidates if ":" in name), None)
    ratios = []
    for group in groups.values():
        ours = [row for row in group if row.ratio and
                (row.result.candidate == own if own else
                 not row.result.candidate.startswith("torch") and not row.result.reduced)]
        ratios += [ours[0].ratio] if ours else []
    return own or ("tinyseg" if not bench.layers else "tinyseg’s fastest algorithm"), ratios


def _hero(bench: Bench, who: str, ratios: list[Ratio]) -> str:
    if not ratios:
        alone = bench.baseline is None or any(r.candidate == who and r.time for r in bench.results)
        why = "nobody to compare with" if alone or ":" not in who else "wrong or failed on every layer; see below"
        return (f'<div class="label">{escape(who)}</div><div class="value">{NOTHING}</div>'
                f'<div class="label">{why}</div>')
    if bench.busy:
        return (f'<div class="label">{escape(who)}, speed relative to {escape(bench.baseline or "")}</div>'
                f'<div class="value">{NOTHING}</div><div class="label">other programs ran meanwhile: no headline comes '
                "from such a measurement</div>")
    faster = sum(r.clear and r.value > 1 for r in ratios)
    slower = sum(r.clear and r.value < 1 for r in ratios)
    mean = geometric_mean(r.value for r in ratios)
    return (f'<div class="label">{escape(who)}, speed relative to {escape(bench.baseline or "")}</div>'
            f'<div class="value">{mean:.2f}<small>×</small></div>'
            f'<div class="label">geometric mean of {len(ratios)}: faster on {faster}, slower on {slower}, '
            f'not different on {len(ratios) - faster - slower}</div>')


def _table(bench: Bench, groups: Mapping[str, list[Row]], direction: str) -> str:
    colors, lines = inks(bench), []
    for name, group in groups.items():
        layer = bench.layer(name)
        about = "" if layer is None else (f"{layer.text} · {layer.flops / 1e9:.3g} GFLOP · moves at least "
                                          f"{bytes_text(layer.bytes(direction))}")
        lines.append(f'<tr class="layer"><td colspan="8">{escape(name)}<span>{escape(about)}</span></td></tr>')
        lines += [_line(row, colors[row.result.candidate]) for row in group]
    standings = [s for s in bench.standings() if s.direction == direction and len(groups) > 1]
    note = (f'<p class="note">Ratio: time of {escape(bench.baseline)} over this time; above 1 is faster. “not '
            f"different”: the intervals of the medians overlap.</p>" if bench.baseline else "")
    note += _standings(standings) if standings else ""
    if memory := processes_text(bench, direction):
        note += f'<p class="note">{escape(memory)}.</p>'
    return ('<div class="card wide"><table>\n<thead><tr><th>Candidate</th><th>Time</th><th>±</th><th>Ratio</th>'
            '<th>GFLOP/s</th><th class="left">% of peak</th><th>Extra memory</th><th>Error</th></tr></thead>\n<tbody>\n'
            + "\n".join(lines) + f"\n</tbody></table></div>\n{note}")


def _standings(standings: list[Standing]) -> str:
    lines = [f"<tr><td>{escape(s.candidate)}</td><td>{quotient_text(s.mean)}</td><td>{layers_text(s)}</td>"
             f'<td>{s.below}</td><td class="left">{escape(", ".join(s.slower)) or NOTHING}</td></tr>'
             for s in standings]
    return ('<div class="card wide"><table>\n<thead><tr><th>Over the layers</th><th>Geometric mean of the ratios</th>'
            '<th>Layers</th><th>Under 1</th><th class="left">Slower on (in parentheses: not different)</th></tr>'
            "</thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>")


def _line(row: Row, color: str) -> str:
    result = row.result
    swatch = f'<i class="swatch" style="background:{color}"></i>'
    if result.time is None:
        return (f'<tr class="bad"><td>{swatch}{escape(result.candidate)}</td><td colspan="6" class="left">'
                f"{result.status}: {escape(result.reason)}{_advice(row)}</td><td>{error_text(result.error)}</td></tr>")
    time, spread, ratio, rate, share, extra, error = row.words
    if row.ratio is not None and not row.ratio.clear:
        ratio = f'<span class="faint">{ratio_text(row.ratio)}</span>'
    width = f"{100 * min(row.share or 0, 1):.1f}%"
    unit = "" if row.roof == "float32" else f" {'bf16' if row.roof == 'bfloat16' else row.roof}"
    track = f'<span><i style="width:{width};background:{color}"></i></span>' if row.share is not None else ""
    bar = f'<td class="bar"><div><b>{share}{unit}</b>{track}</div></td>'
    return (f'<tr{" class=base" if row.is_baseline else ""}><td>{swatch}{escape(result.candidate)}</td><td>{time}</td>'
            f"<td>{spread}</td><td>{ratio}</td><td>{rate}</td>{bar}<td>{escape(extra)}</td><td>{error}</td></tr>")


def _advice(row: Row) -> str:
    name = escape(row.result.candidate)
    return f". Find out where: <code>tinyseg verify {name}</code>" if row.result.status == "wrong" else ""


def _method(bench: Bench) -> str:
    s, counts = bench.settings, Counter(len(r.samples) for r in bench.results if r.time)
    least = min(counts, default=0)
    sure = min((r.time.confidence for r in bench.results if r.time), default=0)
    paragraphs = [
        f"Candidates take turns in a new random order each round, after a warm-up until two calls differ by less than "
        f"10 % or {s['warm_up']:g} s have passed. At least {s['rounds']} samples and {s['seconds']:g} s each; slow "
        f"ones stop after {s['patience']:g} s, who takes twenty times the fastest’s time after five samples or one "
        f"second; the fewest here are {least}. A call faster than 50 ms is preceded by one that is "
        "not clocked: its predecessor’s threads may still spin, its own may sleep.",
        "Time is the median. ± is half the interval that holds it with 95 % probability, from order statistics, "
        "without assuming a distribution (with fewer than six samples it is worth less; the least here is "
        f"{100 * sure:.0f} %).",
        "GFLOP counts two operations for each product of a weight with a cell of the image; products with padding are "
        "no work. “Moves at least” is each operand read once and the result written once. Peaks are the best of many "
        "tries, before and after. Operands of channels-last and bfloat16 candidates are in their layout and type "
        "before the clock starts, and results stay in it.",
        f"Error is max |y − y64| / max |y64| against float64. Extra memory: {s['memory']}.",
    ]
    return '<div class="card">' + "".join(f'<p style="max-width:none;margin:6px 0">{escape(p)}</p>'
                                          for p in paragraphs) + "</div>"


def _peaks(bench: Bench) -> dict[str, Any]:
    p = bench.peaks
    found = {"float32, one thread": p.fma_one, f"float32, {p.threads} threads": p.fma_all, "BLAS": p.sgemm,
             "bfloat16": p.bf16}
    return {**{name: f"{rate_text(value)} GFLOP/s" if value else NOTHING for name, value in found.items()},
            "memory": f"{p.bandwidth / 1e9:.3g} GB/s", **{f"how: {name}": note for name, note in p.notes.items()},
            "other programs": NOTHING if bench.others is None else f"{bench.others:.2f} cores meanwhile"}


def _pairs(values: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in values.items())
    return f'<div class="card"><dl>{items}</dl></div>'


_ROOF_NOTE = ('<p class="note">Each layer stands at its operations per byte; the farther below the '
              "roof, the more a better kernel could gain. An algorithm with fewer products than the definition, like "
              "Winograd’s, may stand above it. Bytes are those of float32; bfloat16 moves about half.</p>")
