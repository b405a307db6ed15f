"""Runs of every kind learn something."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from tinyseg.data import Resize, StreetScenes
from tinyseg.errors import ArgumentError, CheckpointError, ShapeError
from tinyseg.functional import interpolate
from tinyseg.inference import Predictor
from tinyseg.training import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, train


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("loss", ["ce", "ohem", "dice", "ce+dice", "focal"])
def test_every_loss_falls(tmp_path, loss):
    train(Config(DataConfig(count=4, val_count=1, size=(32, 32)), AugmentConfig(flip=0),
                 ModelConfig("unet", {"base_channels": 4, "depth": 2}), OptimConfig(learning_rate=1e-2, loss=loss),
                 steps=15, batch_size=4), tmp_path)
    values = losses(tmp_path)
    assert np.mean(values[-3:]) < 0.95 * np.mean(values[:3])


def test_the_papers_net_trains_on_mirrored_tiles(tmp_path):
    """Valid convolutions, no norm, border weights, grey images: the masks' centre is what is learned."""
    result = train(Config(DataConfig(count=4, val_count=2, size=(48, 64), channels=3), AugmentConfig(crop=(68, 68)),
                          ModelConfig("unet", {"base_channels": 4, "depth": 2, "padding": "valid", "norm": None}),
                          OptimConfig(learning_rate=3e-3, border_weights=10.0), steps=12, batch_size=2), tmp_path)
    values = losses(tmp_path)
    assert np.mean(values[-3:]) < np.mean(values[:3])
    labelled = sum(int((s.mask != 255).sum()) for s in StreetScenes(2, (48, 64), first=4))
    assert result.confusion.pixels == labelled       # every labelled pixel was judged, also at the image's border


def test_balanced_classes_and_folders(tmp_path):
    StreetScenes(6, (32, 48)).write(tmp_path / "data")
    result = train(Config(DataConfig("folder", str(tmp_path / "data/images"), str(tmp_path / "data/masks")),
                          model=ModelConfig("unet", {"base_channels": 4, "depth": 2, "up": "bilinear"}),
                          optim=OptimConfig("sgd", learning_rate=0.05, class_weights="balanced", schedule="cosine"),
                          epochs=2, batch_size=2), tmp_path / "run")
    assert result.steps == 4
    assert Predictor.load(tmp_path / "run").evaluate(StreetScenes(1, (32, 48))).confusion.pixels


def test_a_summed_loss_takes_a_smaller_rate(tmp_path):
    """As FCN: of some 1,000 pixels, so that 1e-5 is a rate of 1e-2 for the mean."""
    train(Config(DataConfig(count=4, val_count=1, size=(32, 32)), AugmentConfig(flip=0),
                 ModelConfig("unet", {"base_channels": 4, "depth": 2, "norm": None}),
                 OptimConfig("sgd", 1e-5, momentum=0.9, reduction="sum", schedule="constant"), steps=12, batch_size=1),
          tmp_path)
    values = losses(tmp_path)
    assert np.mean(values[-4:]) < np.mean(values[:4])
    assert values[0] > 100


def test_fcns_begin_with_coarser_ones(tmp_path):
    def config(name, init=None):
        return Config(DataConfig(count=2, val_count=1, size=(32, 32)), AugmentConfig(flip=0),
                      ModelConfig(name, {"hidden": 4}, init), OptimConfig(learning_rate=1e-4), steps=1, batch_size=1)

    train(config("fcn32s"), tmp_path / "32")
    train(config("fcn16s", str(tmp_path / "32")), tmp_path / "16")
    coarse, fine = (Predictor.load(tmp_path / run / "last.safetensors").model for run in ("32", "16"))
    for name, p in coarse.named_parameters():
        if not name.startswith("upscore"):           # one step of Adam later
            np.testing.assert_allclose(dict(fine.named_parameters())[name].data, p.data, atol=2e-4)
    with pytest.raises(ArgumentError, match="stride 8 from stride 32"):
        train(config("fcn8s", str(tmp_path / "32")), tmp_path / "8")


def test_a_net_is_used_at_the_size_at_which_it_was_trained(tmp_path):
    train(Config(DataConfig(count=2, val_count=1, size=(48, 64), resize=24),
                 model=ModelConfig("unet", {"base_channels": 4, "depth": 2}), steps=1, batch_size=2), tmp_path)
    predictor = Predictor.load(tmp_path)
    assert predictor.resize == 24
    sample = StreetScenes(1, (48, 64))[0]
    small = Resize(24)(sample)
    assert small.size == (24, 32)
    found, expected = predictor(sample.image).probabilities, predictor(small.image).probabilities
    np.testing.assert_allclose(found, interpolate(expected[None], (48, 64), mode="bilinear").numpy()[0], rtol=1e-5)


def test_a_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ShapeError, match="at least 64"):
        train(Config(DataConfig(size=(32, 32)), model=ModelConfig("unet", {"depth": 6, "base_channels": 1})),
              tmp_path / "run")
    with pytest.raises(ArgumentError, match="tile > 2·overlap"):
        train(Config(DataConfig(size=(32, 32)), model=ModelConfig("unet", {"base_channels": 1}), tile=24),
              tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_begins_where_another_ended(tmp_path):
    config = Config(DataConfig(count=4, val_count=2, size=(32, 32)), AugmentConfig(flip=0),
                    ModelConfig("unet", {"base_channels": 4, "depth": 2}), OptimConfig(learning_rate=1e-2), steps=20,
                    batch_size=4)
    train(config, tmp_path / "first")
    on = replace(config, model=replace(config.model, init=str(tmp_path / "first")), steps=2)
    train(on, tmp_path / "second")
    assert losses(tmp_path / "second")[0] < np.mean(losses(tmp_path / "first")[:2])
    other = replace(on, model=replace(on.model, options={"base_channels": 8, "depth": 2}))
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*does not fit UNet"):
        train(other, tmp_path / "third")
    assert not (tmp_path / "third").exists()
