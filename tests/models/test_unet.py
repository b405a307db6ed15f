import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.models import build, names
from tinyseg.models.unet import UNet

DOUBLE = [f"double_conv.{i}.{part}" for i in (0, 1, 3, 4)
          for part in (("weight",) if i in (0, 3) else ("weight", "bias", "running_mean", "running_var",
                                                        "num_batches_tracked"))]


def small(**options):
    return UNet(1, 2, base_channels=2, **options).eval()


def run(net, *size):
    with no_grad():
        return net(Tensor(np.zeros((1, net.in_channels, *size), np.float32)))


@pytest.mark.parametrize(("name", "classes", "options", "parameters"), [
    ("unet", (3, 2), {}, 31_037_698), ("unet", (3, 2), {"up": "bilinear"}, 17_263_042),
    ("unet_paper", (1, 2), {}, 31_030_658)])
def test_number_of_parameters(name, classes, options, parameters):
    assert build(name, *classes, **options).num_parameters() == parameters


def test_names_of_parameters():
    names = [f"inc.{n}" for n in DOUBLE]
    for i in range(1, 5):
        names += [f"down{i}.maxpool_conv.1.{n}" for n in DOUBLE]
    for i in range(1, 5):
        names += [f"up{i}.up.weight", f"up{i}.up.bias"] + [f"up{i}.conv.{n}" for n in DOUBLE]
    assert list(small().state_dict()) == [*names, "outc.conv.weight", "outc.conv.bias"]


def test_names_without_normalisation():
    state = list(small(norm=None).state_dict())
    assert state[:4] == [f"inc.double_conv.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]


def test_bilinear_net_has_no_up_weights():
    assert not [n for n in small(up="bilinear").state_dict() if ".up." in n]


def test_the_tile_of_the_paper():
    """572 -> 388; the skips 568, 280, 136, 64 are cropped to 392, 200, 104, 56 (figure 1)."""
    net = UNet(1, 2, base_channels=1, padding="valid", norm=None).eval()
    shapes = {}
    hooks = [getattr(net, f"up{i}").conv.register_forward_hook(
        lambda module, inputs, output, i=i: shapes.update({i: inputs[0].shape[2]})) for i in range(1, 5)]
    hooks.append(net.inc.register_forward_hook(lambda module, inputs, output: shapes.update({0: output.shape[2]})))
    assert run(net, 572, 572).shape == (1, 2, 388, 388)
    assert shapes == {0: 568, 1: 56, 2: 104, 3: 200, 4: 392}
    assert net.output_size(572) == (388, 388)
    for hook in hooks:
        hook.remove()


@given(depth=st.integers(1, 3), steps=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_valid_output_size_is_that_of_the_logits(depth, steps):
    net = small(padding="valid", norm=None, depth=depth)
    size = tuple(net.legal_sizes[n] for n in steps)
    assert run(net, *size).shape[2:] == net.output_size(size)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_legal_sizes_are_all_there_are(depth):
    """A size is legal when every pooling finds an even one and something is left at the end."""
    def fits(n):
        skips = []
        for _ in range(depth):
            n -= 4
            if n < 2 or n % 2:
                return False
            skips.append(n)
            n //= 2
        n -= 4
        for skip in reversed(skips):
            if n < 1 or 2 * n > skip:
                return False
            n = 2 * n - 4
        return n >= 1

    net = small(padding="valid", depth=depth)
    assert [n for n in range(1, 400) if n in net.legal_sizes] == [n for n in range(1, 400) if fits(n)]


@given(depth=st.integers(1, 4), extra=st.tuples(st.integers(0, 33), st.integers(0, 33)),
       up=st.sampled_from(["transposed", "bilinear"]))
def test_padded_net_takes_any_size_and_keeps_it(depth, extra, up):
    net = small(depth=depth, up=up)
    size = tuple(2 ** depth + n for n in extra)
    assert run(net, *size).shape == (1, 2, *size)
    assert net.output_size(size) == size


@pytest.mark.parametrize(("options", "size", "text"), [
    ({}, (15, 40), "15 in H: needs at least 16"),
    ({"padding": "valid"}, (572, 570), "570 in W: .*556 and 572"),
    ({"padding": "valid"}, (572, 100), "100 in W: needs at least 188"),
])
def test_sizes_that_do_not_fit(options, size, text):
    with pytest.raises(ShapeError, match=text):
        run(small(**options), *size)


def test_channels_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"needs \(N, 1, H, W\)"):
        small()(Tensor(np.zeros((1, 3, 32, 32), np.float32)))


def test_he_initialisation_of_the_paper():
    net = build("unet_paper", 1, 2, base_channels=16)
    weight, up = net.down2.maxpool_conv[1].double_conv[2].weight, net.up1.up.weight
    assert np.std(weight.detach().data) == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert np.std(up.detach().data) == pytest.approx(np.sqrt(2 / 256), rel=0.02)
    assert not np.any(net.inc.double_conv[0].bias.detach().data)


def test_dropout_acts_in_training_only():
    net = small(dropout=0.5)
    x = Tensor(np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32))
    with no_grad():
        np.testing.assert_array_equal(net(x).data, net(x).data)
        net.train()
        assert np.any(net(x).data != net(x).data)


def test_registry():
    assert "unet" in names()
    with pytest.raises(ArgumentError, match="no model 'nit'"):
        build("nit", 3, 2)
    with pytest.raises(ArgumentError, match=r"unet:.*depths"):
        build("unet", 3, 2, depths=3)
    with pytest.raises(ArgumentError, match="padding 'full'"):
        build("unet", 3, 2, padding="full")
