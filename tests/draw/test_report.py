import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tinyseg.draw import Example, Report, write_report
from tinyseg.errors import ArgumentError, DataError, ShapeError
from tinyseg.metrics import ConfusionMatrix, majority_baseline

CLASSES = ["background", "cat & dog", "<b>bold</b>", 'quo"te\'s', "never seen"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page; every tag must be closed by its own end."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.tags, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and data.strip():
            self.texts.append(data.strip())


def report(**changes):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (3, 20, 30)).astype(np.uint8)
    truth[:, :3] = 255
    prediction = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
    prediction[truth == 255] = 0
    confusion = ConfusionMatrix(5, classes=CLASSES)
    confusion.update(truth, prediction)
    values = {
        "title": "FCN <8s> & friends", "classes": CLASSES,
        "palette": rng.integers(0, 256, (256, 3)).astype(np.uint8),
        "history": [{"step": s, "train_loss": 1 / (s + 1), "images_per_second": 20.0,
                     "mean_iou": s / 50 if s % 10 == 0 else None, "val_loss": math.nan} for s in range(50)],
        "confusion": confusion, "baseline": majority_baseline(confusion),
        "examples": [Example(rng.integers(0, 256, (20, 30, channels)).astype(np.uint8), truth[i], prediction[i],
                             f"example <{i}>") for i, channels in enumerate((3, 1, 3))],
        "layers": [{"name": f"layer{i}.conv", "type": "Conv2d", "output": (8, 4, 5),
                    "receptive_field": (2 * i + 1, 2 * i + 3) if i else None, "parameters": 1000 + i}
                   for i in range(40)],
        "config": {"model": {"name": "fcn", "rates": [6, 12]}, "lr": 0.1, "crop": None, "<key>": "<value>"},
        "facts": {"duration": 3725.0, "cpu": "a & b"},
    }
    return Report(**(values | changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report())
    return path.read_text(encoding="utf-8")


def write(tmp_path, **changes):
    write_report(tmp_path / "r.html", report(**changes))
    return Page((tmp_path / "r.html").read_text(encoding="utf-8"))


def test_page_needs_nothing_else(written):
    page = Page(written)
    assert "script" not in page.tags
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not re.search(r"@import|url\((?!#)", written)
    assert set(re.findall(r"https?://[^\"' ]+", written)) <= {"http://www.w3.org/2000/svg",
                                                              "http://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_references_meet_them(written):
    page = Page(written)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#(.+?)\)", written)) <= set(ids)
    assert {v[1:] for _, name, v in page.attributes if name == "xlink:href"} <= set(ids)


def test_everything_told_is_there_and_escaped(written):
    page, told = Page(written), report()
    for text in (*CLASSES, *(layer["name"] for layer in told.layers), *(e.name for e in told.examples),
                 told.title, "<key>", "<value>", "a & b", "model.rates", "6, 12", "whole image", "3 × 5",
                 "8 × 4 × 5", f"{sum(range(1000, 1040)):,}", "1 h 02 min", "right", "wrong", "ignored"):
        assert any(text in found for found in page.texts), text
    assert "<b>bold" not in written
    assert "b" in page.tags                                             # ours
    assert page.tags.count("img") == 4 * len(told.examples)


def test_figures_are_those_of_the_matrix(written):
    page, told = Page(written), report()
    assert f"{100 * told.confusion.mean_iou:.1f}" in page.texts
    assert any(f"{100 * told.baseline.mean_iou:.1f} % by always answering" in text for text in page.texts)
    row = page.texts.index("never seen", page.texts.index("Share of pixels %"))
    assert page.texts[row + 1:row + 6] == ["–"] * 4 + ["0.0"]
    assert "nan" not in re.sub(r"base64,[^\"]*", "", written).lower().replace("nano", "")


@pytest.mark.parametrize("history", [[], [{"step": 1, "train_loss": 2.0, "mean_iou": 0.1}], [{}],
                                     [{"step": 1, "train_loss": None, "val_loss": math.nan}]])
def test_short_histories(tmp_path, history):
    assert "How it learnt" in write(tmp_path, history=history).texts


def test_nothing_to_tell(tmp_path):
    empty = ConfusionMatrix(5)
    page = write(tmp_path, history=[], examples=[], layers=[], config={}, facts={}, confusion=empty,
                 baseline=majority_baseline(empty))
    assert "img" not in page.tags
    assert page.texts.count("–") > 5
    assert not any("nan" in text for text in page.texts)


def test_a_layer_called_twice_is_counted_once(tmp_path):
    layer = {"name": "relu", "type": "ReLU", "output": None, "receptive_field": 3, "parameters": 7}
    assert write(tmp_path, layers=[layer, layer]).texts.count("7") >= 3          # two rows and the total


def test_large_examples_are_shrunk(tmp_path):
    mask = np.zeros((900, 1200), np.int64)
    big = Example(np.random.default_rng(0).integers(0, 256, (900, 1200, 3)).astype(np.uint8), mask, mask, "big")
    write(tmp_path, examples=[big])
    assert (tmp_path / "r.html").stat().st_size < 500_000


@pytest.mark.parametrize(("value", "text"), [(5.25, "5.25 s"), (65, "1 min 05 s"), (7322.9, "2 h 02 min"),
                                             ("12 s", "12 s"), (math.nan, "–")])
def test_duration_in_words(tmp_path, value, text):
    page = write(tmp_path, facts={"duration": value}, examples=[])
    assert page.texts[page.texts.index("Duration") + 1] == text


def test_what_does_not_belong_together_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="2 class names"):
        write(tmp_path, classes=["a", "b"])
    example = report().examples[0]
    for change in ({"image": example.image[:5]}, {"truth": example.truth[:5]}):
        with pytest.raises(ShapeError, match=r"example <0>.*one size"):
            write(tmp_path, examples=[Example(**(vars(example) | change))])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("here before")
    with pytest.raises(DataError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", report(examples=[]))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_confusion_from_json_reports_the_same(tmp_path, written):
    confusion = ConfusionMatrix.from_dict(json.loads(json.dumps(report().confusion.to_dict())))
    write_report(tmp_path / "r.html", report(confusion=confusion))
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == written
