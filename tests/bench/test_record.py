"""A measurement as a file and beside another; ratios; sweeps; and the page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tinyseg.bench import report
from tinyseg.bench.harness import Result, precision_of
from tinyseg.bench.layers import Layer
from tinyseg.bench.peaks import Peaks
from tinyseg.bench.record import Bench, compare, others
from tinyseg.bench.rows import rows, spread_text
from tinyseg.bench.statistics import summarize
from tinyseg.bench.sweep import fit, swept
from tinyseg.errors import ArgumentError, DataError, TinysegError

LAYER = Layer.of(name="<tiny>", in_channels=4, out_channels=6, input_size=8, kernel_size=3, padding=1)
POOL = Layer.of(name="pool", operation="max_pool2d", in_channels=4, input_size=8, kernel_size=2)


def samples(middle):
    return [middle * (1 + k / 1000) for k in range(-10, 11)]


def bench(scale=1.0, **changes):
    results = [
        Result("<tiny>", "forward", "im2col", error=1e-7, samples=samples(2e-3 * scale), extra=5 << 20),
        Result("<tiny>", "forward", "torch", error=2e-7, samples=samples(1e-3), extra=0),
        Result("<tiny>", "forward", "my.py:conv", error=2e-7, samples=samples(1.0001e-3), extra=0),
        Result("<tiny>", "forward", "loops", "refused", "too slow"),
        Result("<tiny>", "input_grad", "im2col", "wrong", "error 1.0e+00 > 1e-04", error=1.0),
        Result("<tiny>", "input_grad", "my.py:conv", "failed", "ValueError: <b>"),
        Result("pool", "forward", "direct", error=0.0, samples=samples(1e-5), extra=0),
    ]
    peaks = Peaks(2, 1e11, 2e11, 1.5e11, 1e10, None, {"fma": "24 chains", "bf16": "none"})
    settings = {"rounds": 9, "seconds": 0.3, "patience": 10, "warm_up": 1, "memory": "resident"}
    return Bench(**{"title": "A <bench>", "machine": {"cpu": "A & B", "cores": 2}, "peaks": peaks,
                    "settings": settings, "layers": [LAYER, POOL], "results": results, "baseline": "torch",
                    "others": 0.0, **changes})


def test_it_survives_the_file(tmp_path):
    first = bench()
    first.write(tmp_path / "bench.json")
    assert Bench.read(tmp_path / "bench.json") == first


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "tinyseg-bench-1"}',
                                  '{"format": "tinyseg-bench-1", "peaks": {"a": 1}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        Bench.read(path)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(DataError, match="cannot be read"):
        Bench.read(tmp_path / "none.json")


def test_ratios_are_against_the_baseline_and_say_when_nothing_is_known():
    found = bench()
    slow = found.ratio(found.find("<tiny>", "forward", "im2col"))
    assert slow.value == pytest.approx(0.5)
    assert slow.low < 0.5 < slow.high
    assert slow.clear
    assert not found.ratio(found.find("<tiny>", "forward", "my.py:conv")).clear
    assert found.ratio(found.find("<tiny>", "forward", "torch")) is None
    assert found.ratio(found.find("pool", "forward", "direct")) is None


def test_standings_are_means_over_the_layers():
    other = LAYER.changed(name="other")
    times = [("<tiny>", "forward", "torch", 1.0), ("<tiny>", "forward", "im2col", 2.0),
             ("<tiny>", "forward", "few", 0.5), ("other", "forward", "torch", 1.0),
             ("other", "forward", "im2col", 0.125), ("other", "input_grad", "torch", 1.0),
             ("other", "input_grad", "im2col", 1.0001)]
    results = [Result(layer, direction, name, error=0, samples=samples(seconds))
               for layer, direction, name, seconds in times]
    found = bench(layers=[LAYER, other], results=results)
    standings = {(s.candidate, s.direction): s for s in found.standings()}
    assert set(standings) == {("im2col", "forward"), ("im2col", "input_grad"), ("im2col", None), ("few", "forward"),
                              ("few", None)}
    forward, one, few = (standings[key] for key in (("im2col", "forward"), ("im2col", "input_grad"),
                                                    ("few", "forward")))
    assert forward.mean == pytest.approx(2)
    assert (forward.layers, forward.of, forward.below, forward.slower) == (2, 2, 1, ["<tiny>"])
    assert one.slower == ["(other)"]                 # below 1, but not different
    assert (few.layers, few.of, few.below) == (1, 2, 0)
    assert standings["im2col", None].mean == pytest.approx(4 ** (1 / 3), rel=1e-3)
    assert found.to_dict()["means"][0]["slower"] == ["<tiny>"]
    assert "&lt;tiny&gt;</td>" in report.page(found)


def test_what_is_missing_is_told():
    found = bench(results=[], missing=[("<tiny>", "forward"), ("<tiny>", "weight_grad"), ("pool", "forward")])
    found.add(bench().results[:1])
    assert found.incomplete == ("Incomplete: 1 of 3 layers and directions are measured; missing: <tiny> (weight grad), "
                                "pool")
    assert "missing: &lt;tiny&gt;" in report.page(found)
    assert bench().incomplete is None


def test_an_unfinished_measurement_replaces_an_older_one(tmp_path):
    report.write(bench(), tmp_path)
    unfinished = bench(missing=[("pool", "input_grad")])
    report.begin(unfinished, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]
    assert Bench.read(tmp_path / "bench.json") == unfinished


def test_few_samples_are_told():
    assert spread_text(summarize(samples(1.0))) == "0.5 %"
    assert spread_text(summarize([1.0, 1.1, 0.9])) == "10 % of 3"
    assert spread_text(summarize([1.0])) == "1 call"


def test_reduced_precision_has_its_own_roof_and_no_headline():
    fast = Result("<tiny>", "forward", "auto@medium", error=1e-3, tolerance=1e-2, precision="medium",
                  samples=samples(1e-4), extra=0)
    found = bench(results=[*bench().results[:2], fast], peaks=replace(bench().peaks, bf16=1e12))
    row = rows(found)["<tiny>", "forward"][0]
    assert (row.result.candidate, row.roof) == ("auto@medium", "bfloat16")
    assert row.share == pytest.approx(LAYER.flops / 1e-4 / 1e12)
    text = report.page(found)
    assert re.search(r'speed relative to torch</div><div class="value">0\.50', text)      # im2col's, not that one's
    assert re.search(r'Largest error</div><div class="value">2\.0e-07', text)
    assert [precision_of(name) for name in ("auto", "auto@high", "auto@medium", "torch-bf16", "f.py:f@x")] == [
        "highest", "high", "medium", "medium", "highest"]


def test_rows_hold_the_arithmetic():
    groups = rows(bench())
    torch, mine, im2col = groups["<tiny>", "forward"]
    assert [r.result.candidate for r in (torch, mine, im2col)] == ["torch", "my.py:conv", "im2col"]
    assert im2col.rate == pytest.approx(LAYER.flops / 2e-3)
    assert im2col.share == pytest.approx(LAYER.flops / 2e-3 / 2e11)
    assert im2col.words[:3] == ("2 ms", "0.5 %", "0.50")
    assert im2col.words[-2:] == ("5 MiB", "1.0e-07")
    assert mine.words[2] == "not different"
    pooling, = groups["pool", "forward"]
    assert (pooling.roof, pooling.share) == ("memory", pytest.approx(POOL.bytes("forward") / 1e-5 / 1e10))
    assert [row.result.status for row in groups["<tiny>", "input_grad"]] == ["wrong", "failed"]


def test_two_machines_side_by_side():
    found = {(c.layer, c.candidate): c.ratio for c in compare(bench(), bench(scale=0.25))}
    assert found["<tiny>", "im2col"].value == pytest.approx(4)
    assert found["<tiny>", "im2col"].clear
    assert not found["<tiny>", "torch"].clear        # the same times: not different
    assert ("<tiny>", "loops") not in found
    other = bench(layers=[replace(LAYER, batch=2)], results=bench().results[:3])
    with pytest.raises(ArgumentError, match="no layer and candidate in common"):
        compare(bench(), other)


def test_a_busy_machine_is_told():
    assert bench().busy is None
    assert bench(others=None).busy is None
    assert "1.2 of 2 cores" in bench(others=1.2).busy
    cores = others()
    sum(range(100000))
    assert cores() is None or cores() >= 0


def test_better_peaks_are_kept():
    low, high = bench().peaks, Peaks(2, 2e11, None, 1e11, 2e10, 5e12, {})
    best = low.better(high)
    assert (best.fma_one, best.fma_all, best.sgemm, best.bandwidth, best.bf16) == (2e11, 2e11, 1.5e11, 2e10, 5e12)
    assert best.flops == 2e11


def test_a_sweep_changes_one_thing():
    parameter, values, layers = swept(LAYER, "dilation=4,1,2")
    assert (parameter, values) == ("dilation", [1, 2, 4])
    assert [layer.dilation for layer in layers] == [(1, 1), (2, 2), (4, 4)]
    assert {layer.output_shape for layer in layers} == {LAYER.output_shape}
    assert [layer.in_channels for layer in swept(LAYER, "channels=8,16")[2]] == [8, 16]
    assert [layer.input_size for layer in swept(POOL, "size=8,16")[2]] == [(8, 8), (16, 16)]
    assert [layer.batch for layer in swept(LAYER, "batch=1,3")[2]] == [1, 3]
    for bad in ("speed=1,2", "size=1", "size", "size=a,b", "size=0,1", "size=1,8,2,"):
        with pytest.raises(TinysegError, match="--sweep"):
            swept(POOL, bad)


def sweep_bench():
    parameter, values, layers = swept(LAYER, "channels=8,16,32")
    results = [Result(layer.name, "forward", name, error=0, samples=samples(1e-6 * v**e))
               for name, e in (("im2col", 1.5), ("torch", 2.0)) for v, layer in zip(values, layers, strict=True)]
    found = bench(layers=layers, results=results)
    found.sweep = fit(found, parameter, values)
    return found


def test_the_exponent_of_a_power_law_is_found():
    sweep = sweep_bench().sweep
    assert sweep["expected"] == pytest.approx(2)
    assert {c["candidate"]: c["exponent"] for c in sweep["curves"]} == {
        "im2col": pytest.approx(1.5), "torch": pytest.approx(2.0)}
    assert "im2col, forward: e = 1.50" in sweep["lines"]


class Page(HTMLParser):
    """Collects what a page would load, and whether its tags match."""

    def __init__(self, text):
        super().__init__()
        self.links, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes
                       if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:"))]
        if tag not in ("meta", "link", "br", "path", "use", "rect", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("found", [bench(), bench(others=1.5, baseline=None), sweep_bench(),
                                   bench(layers=[], results=[Result("U-Net", "inference", "tinyseg", error=1e-6,
                                                                    samples=samples(1.0), extra=9)])],
                         ids=["layers", "busy", "sweep", "net"])
def test_the_page_needs_nothing_else(found, tmp_path):
    path = report.write(found, tmp_path / "out")
    text = path.read_text()
    page = Page(text)
    assert not page.links
    assert not page.open
    assert "<script" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    assert "A &lt;bench&gt;" in text
    assert "<b>" not in re.sub(r"<b>[\d.,e+–-]+( \w+)?</b>", "", text)
    assert Bench.read(tmp_path / "out" / "bench.json") == found
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert ("roofline.png" in written) == bool(found.layers)
    assert ("sweep.png" in written) == bool(found.sweep)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TinysegError, match="cannot be written"):
        report.write(bench(), tmp_path / "file")


def test_a_busy_machine_gives_no_headline(tmp_path):
    assert "geometric mean of" in report.page(bench())
    busy = report.page(bench(others=1.0))
    assert "no headline" in busy
    assert "geometric mean of" not in busy


def test_a_kernel_that_is_wrong_everywhere_has_no_headline():
    results = [r for r in bench().results if r.candidate != "my.py:conv"]
    results.append(Result("<tiny>", "forward", "my.py:conv", "wrong", "error 1 > 0", error=1.0))
    text = report.page(bench(results=results))
    assert "wrong or failed on every layer" in text
    assert "tinyseg verify my.py:conv" in text
