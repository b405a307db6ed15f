"""Presets: fields that exist, groups that match, and the papers' numbers against each other."""

import json
from dataclasses import fields

import pytest

from tinyseg import models
from tinyseg.errors import ArgumentError
from tinyseg.nn import init
from tinyseg.optim import Poly, build_schedule, parameter_groups
from tinyseg.training import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, preset, with_preset
from tinyseg.training.presets import _PAPER

KNOWN = {f.name for part in (Config, DataConfig, AugmentConfig, OptimConfig) for f in fields(part)} | {"options"}
SMALL = {"fcn32s": {"hidden": 4}, "fcn16s": {"hidden": 4}, "fcn8s": {"hidden": 4}, "fcn8s_at_once": {"hidden": 4},
         "deeplab_v1": {"hidden": 4}, "unet": {"base_channels": 2}, "unet_paper": {"base_channels": 2}}


def config(name, **changes):
    return Config(model=ModelConfig(name, SMALL.get(name, {}), init="weights"), **changes)


def groups(recipe, **options):
    """{name: (learning rate, weight decay)} of the net of a configuration."""
    with init.skipped():
        net = models.build(recipe.model.name, 3, 4, **{**recipe.model.options, **options})
    return {name: (recipe.optim.learning_rate * g.lr, recipe.optim.weight_decay * g.decay)
            for g in parameter_groups(net.named_parameters(), recipe.optim.group_rules()) for name in g.names}


@pytest.mark.parametrize("name", _PAPER)
def test_every_preset_fits_its_net(name):
    chosen = preset("paper", name)
    assert set(chosen.values) <= KNOWN
    assert chosen.source
    assert chosen.remarks
    recipe = with_preset(config(name), chosen)
    assert Config.from_dict(json.loads(recipe.to_json())) == recipe
    assert groups(recipe)


def test_what_is_given_wins():
    recipe = with_preset(config("deeplab_v2", steps=7, optim=OptimConfig(learning_rate=1.0)),
                         preset("paper", "deeplab_v2"), keep={"learning_rate", "steps"})
    assert (recipe.optim.learning_rate, recipe.steps, recipe.optim.momentum) == (1.0, 7, 0.9)
    own = ModelConfig("deeplab_v2", {"frozen_norm": False}, "weights")
    assert with_preset(Config(model=own), preset("paper", "deeplab_v2")).model.options == {"frozen_norm": False}


def test_a_loss_given_leaves_out_what_it_has_no_place_for():
    recipe = with_preset(config("unet", optim=OptimConfig(loss="dice")), preset("paper", "unet"), keep={"loss"})
    assert (recipe.optim.loss, recipe.optim.border_weights, recipe.optim.momentum) == ("dice", 0, 0.99)


def test_only_trained_statistics_are_frozen():
    chosen = preset("paper", "deeplab_v2")
    for init_, options in (("weights", {"frozen_norm": True}), (None, {})):
        assert with_preset(Config(model=ModelConfig("deeplab_v2", init=init_)), chosen).model.options == options


@pytest.mark.parametrize(("given", "length"), [("epochs", (3, None)), ("steps", (20, 9))])
def test_one_length_given_leaves_out_the_other(given, length):
    recipe = with_preset(Config(model=ModelConfig("deeplab_v1"), **{given: length[given == "steps"]}),
                         preset("paper", "deeplab_v1"), keep={given})
    assert (recipe.epochs, recipe.steps) == length


def test_deeplab_v1():
    """x10 for the last layer's weights, x20 for its biases, x2 for others; a tenth every 2,000 of 6,000 steps."""
    recipe = with_preset(config("deeplab_v1"), preset("paper", "deeplab_v1"))
    found = groups(recipe)
    assert found["base.fov.fc8.weight"] == pytest.approx((1e-2, 5e-4))
    assert found["base.fov.fc8.bias"] == pytest.approx((2e-2, 0))
    assert found["base.fov.fc7.bias"] == found["base.features.0.bias"] == pytest.approx((2e-3, 0))
    assert found["base.fov.fc7.weight"] == found["base.features.0.weight"] == (1e-3, 5e-4)
    rule = build_schedule("step", recipe.steps, milestones=recipe.optim.milestones, factor=recipe.optim.factor)
    assert [rule(n) for n in (0, 1999, 2000, 3999, 4000, 5999)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert (recipe.augment.crop[0] - 1) % 8 == 0


def test_deeplab_v2():
    recipe = with_preset(config("deeplab_v2"), preset("paper", "deeplab_v2"))
    found = groups(recipe)
    assert found["base.aspp.c3.weight"] == pytest.approx((2.5e-3, 5e-4))
    assert found["base.aspp.c0.bias"] == pytest.approx((5e-3, 0))
    assert found["base.layer5.block3.conv3x3.conv.weight"] == (2.5e-4, 5e-4)
    assert not any(".bn." in name for name in found)                     # batch normalisation is frozen
    vgg = groups(recipe, backbone="vgg16", hidden=4)
    assert vgg["base.aspp.c2.fc8.bias"] == pytest.approx((5e-3, 0))
    assert vgg["base.aspp.c2.fc6.weight"] == (2.5e-4, 5e-4)
    assert recipe.steps * recipe.batch_size * recipe.accumulate / 10_582 == pytest.approx(18.9, abs=0.05)
    assert Poly(recipe.steps)(10_000) == pytest.approx(0.5 ** 0.9)


def test_deeplab_v3():
    recipe = with_preset(config("deeplab_v3"), preset("paper", "deeplab_v3"))
    assert recipe.steps * recipe.batch_size / 10_582 == pytest.approx(45.4, abs=0.05)
    assert (recipe.augment.crop[0] - 1) % 16 == 0
    found = groups(recipe)
    assert found["classifier.1.bias"] == (0.007, 0)
    assert {rate for rate, _ in found.values()} == {0.007}


@pytest.mark.parametrize(("name", "rate"), [("fcn32s", 1e-10), ("fcn16s", 1e-12), ("fcn8s", 1e-14),
                                            ("fcn8s_at_once", 1e-10)])
def test_fcn(name, rate):
    recipe = with_preset(config(name), preset("paper", name))
    found = groups(recipe)
    assert found["fc6.weight"] == (rate, 5e-4)
    assert found["score_fr.bias"] == (2 * rate, 0)
    assert not any(part.startswith("up") for part in found)              # interpolation is not learned
    assert (recipe.optim.reduction, recipe.batch_size, recipe.optim.momentum) == ("sum", 1, 0.99)
    assert (recipe.augment.crop, recipe.augment.flip, recipe.augment.scale) == (None, 0, None)


def test_the_auxiliary_head_of_torchvision():
    found = groups(with_preset(config("fcn_resnet50"), preset("paper", "fcn_resnet50")), aux=True)
    assert {name for name, (rate, _) in found.items() if rate != 0.02} == {
        name for name in found if name.startswith("aux_classifier")}
    assert {decay for _, decay in found.values()} == {1e-4}


def test_presets_that_there_are_not():
    with pytest.raises(ArgumentError, match="legal: paper"):
        preset("book", "unet")
    with pytest.raises(ArgumentError, match="with lraspp: nets that have one: fcn32s"):
        preset("paper", "lraspp")
