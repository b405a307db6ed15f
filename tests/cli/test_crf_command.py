"""`tinyseg crf`, and the option --crf."""

import json

import numpy as np
import pytest

from tinyseg.crf import read_settings, write_settings

SMALL = ("--base-channels", 4, "--depth", 2, "--batch-size", 2, "--steps", 4)
FEW = ("--weight", 3, "--sigma-xy", "5,10", "--sigma-color", 8, "--smooth-sigma", 1, "--iterations", 2, "--limit", 2)


def test_find_then_use(tinyseg, street, tmp_path):
    data = ("--images", street / "images", "--masks", street / "masks")
    tinyseg("train", *data, "--classes", street / "classes.txt", *SMALL, "--out", "mine")
    out = tinyseg("crf", "mine", *data, *FEW).stdout
    assert out.count("\n│ 3 ") == 2
    assert "no CRF" in out
    assert (tmp_path / "mine" / "crf.png").exists()
    settings = tmp_path / "mine" / "crf.json"
    assert settings.exists() == ("crf.json, pictures" in out)
    settings.unlink(missing_ok=True)

    said = tinyseg("predict", "mine", street / "images", "--crf").stderr
    assert "default parameters may do harm" in said
    from tinyseg.crf import grid
    write_settings(settings, grid((3,), (5,), (8,), smooth_sigmas_xy=(1,), iterations=2)[0])
    assert read_settings(settings).iterations == 2
    assert "default" not in tinyseg("predict", "mine", street / "images", "--probabilities", "--crf", "--out",
                                    "refined").stderr
    tinyseg("predict", "mine", street / "images", "--probabilities", "--out", "plain")
    plain, refined = (np.load(tmp_path / folder / "street_00000_probabilities.npz")["probabilities"]
                      for folder in ("plain", "refined"))
    assert np.abs(plain.astype(float) - refined).max() > 0.01
    plain, refined = (json.loads(tinyseg("evaluate", "mine", *data, *crf, "--json").stdout)
                      for crf in ((), ("--crf",)))
    assert plain["cross_entropy"] != refined["cross_entropy"]
    assert 0 <= refined["border_mean_iou"] <= 1
    settings.write_text("{}")
    line = tinyseg("evaluate", "mine", *data, "--crf", status=2).stderr
    assert "is no settings of a CRF" in line
    assert "needs numbers with commas" in tinyseg("crf", "mine", "--weight", "much", status=2).stderr


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_help_tells_of_it(tinyseg, command):
    assert "--crf" in tinyseg(command, "--help").stdout
