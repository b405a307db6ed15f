"""Receptive fields against what a pixel of the input can change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg import models, nn
from tinyseg.autograd import Function, Tensor, no_grad
from tinyseg.errors import ArgumentError
from tinyseg.nn import init


def positive(net):
    """Weights above 0, so that a larger input can nowhere cancel."""
    for p in net.parameters():
        init.uniform_(p, 0.5, 1.5)
    return net.to("float64").eval()


def footprints(net, size, axis):
    """For every row (axis 0) or column (1) of the output, the first and last of the input that it depends on."""
    def rows(x):
        with no_grad():
            return net(Tensor(x)).data.sum((0, 1, 3 - axis))

    base = rows(np.zeros((1, 1, *size)))
    seen = []
    for n in range(size[axis]):
        x = np.zeros((1, 1, *size))
        x[(0, 0) + (slice(None),) * axis + (n,)] = 1e6
        seen.append(rows(x) > base)
    cells = (np.flatnonzero(column) for column in np.array(seen).T)
    return [(int(c[0]), int(c[-1])) for c in cells if len(c)]    # a unit that sees padding only has no footprint


def largest(spans):
    return max(last - first + 1 for first, last in spans)


def field(net, size):
    return nn.layer_table(net, (1, *size))[-1]["receptive_field"]


layers = st.one_of(
    st.builds(lambda k, s, p, d: nn.Conv2d(1, 1, k, s, p, d), *[st.tuples(st.integers(1, 3), st.integers(1, 3))] * 2,
              st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(st.integers(1, 2), st.integers(1, 2))),
    st.builds(nn.MaxPool2d, st.integers(1, 3), st.integers(1, 2)),
    st.builds(nn.AvgPool2d, st.integers(1, 3), st.integers(1, 2)),
    st.sampled_from([nn.ReLU(), nn.BatchNorm2d(1)]))


@given(chain=st.lists(layers, min_size=1, max_size=3))
def test_field_of_a_chain_is_the_footprint(chain):
    net, size = positive(nn.Sequential(*chain)), (40, 44)
    assert field(net, size) == tuple(largest(footprints(net, size, axis)) for axis in (0, 1))


@pytest.mark.parametrize("options", [
    {}, {"up": "bilinear"}, {"padding": "valid", "norm": None}, {"padding": "valid", "up": "bilinear", "norm": None}],
    ids=str)
@pytest.mark.parametrize("depth", [1, 2])
def test_field_of_unet_holds_every_footprint(options, depth):
    net = positive(models.build("unet", 1, 1, base_channels=1, depth=depth, **options))
    size = (72, 79) if net.padding == "same" else (net.legal_sizes[8], net.legal_sizes[9])
    claimed = field(net, size)
    for axis in (0, 1):
        seen = largest(footprints(net, size, axis))
        assert seen <= claimed[axis] <= seen + 2 ** depth    # the bound is loose by less than the coarsest stride


def test_the_number_for_the_paper():
    """140 pixels at the bottom of U-Net: 1 + 4·(1 + 2 + 4 + 8 + 16) for the convolutions, + 15 for the poolings."""
    rows = nn.layer_table(models.build("unet", 1, 2, base_channels=1), (1, 32, 32))
    by_name = {row["name"]: row for row in rows}
    assert by_name["down4.maxpool_conv.1.double_conv.3"]["receptive_field"] == (140, 140)
    assert by_name["inc.double_conv.0"] == {"name": "inc.double_conv.0", "type": "Conv2d", "output": (1, 32, 32),
                                            "receptive_field": (3, 3), "parameters": 9, "multiply_adds": 9 * 32 * 32}


@pytest.mark.parametrize(("name", "size", "multiply_adds", "stride"), [
    ("vgg16", 224, 15_470_264_320, 32),              # 15.5 G, of which 123,633,664 in the fully connected layers
    ("resnet50", 224, 4_089_184_256, 32), ("deeplab_v1", 321, None, 8), ("unet", 96, None, 16),
    ("lraspp", 96, None, 16)])
def test_facts_of_known_nets(name, size, multiply_adds, stride):
    with init.skipped():
        net = models.build(name, 3, 1000)
    facts = nn.net_facts(net, (3, size, size))
    assert facts.parameters == net.num_parameters()
    assert facts.output_stride == stride
    assert multiply_adds in (None, facts.multiply_adds)


def test_facts_of_a_small_net():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 2, 2, stride=2))
    net[1].bias.requires_grad = False
    facts = nn.net_facts(net, (3, 8, 6))
    assert facts == (224 + 64, (27 * 8 + 8 * 2 * 4) * 12, 2, (4, 4), True)     # every unit sees 3, the bound is 4
    assert nn.net_facts(net[:1], (3, 8, 6))[3:] == ((3, 3), False)
    assert sum(row["multiply_adds"] for row in nn.layer_table(net, (3, 8, 6))) == facts.multiply_adds


def test_operations_outside_of_modules_count():
    class Net(nn.Module):
        def __init__(self, change):
            self.first, self.last, self.change = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1), change

        def forward(self, x):
            return self.last(self.change(self.first(x)))

    def of(change):
        return field(Net(change), (12, 13))

    assert of(lambda x: F.conv2d(x, Tensor(np.ones((1, 1, 5, 1), np.float32)))) == (7, 3)
    assert of(lambda x: x + F.pad(F.max_pool2d(x, 3, 1), (2, 0, 0, 2))) == (5, 5)
    assert of(lambda x: x[:, :, :4, :4] + x[:, :, 4:8, 2:6]) == (7, 5)
    assert of(lambda x: x[:, :, 1::2]) == (3, 3)
    assert of(lambda x: F.pad(x, (1, 2, 3, 1), "reflect"))[0] >= 3
    assert of(lambda x: x * x.mean((2, 3), keepdim=True)) is None
    assert of(lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 1), x.shape[2:])) is None
    assert of(lambda x: x.transpose(2, 3)) is None


def test_an_unknown_operation_is_not_guessed():
    class Blur(Function):
        def forward(self, x):
            return np.roll(x, 1, axis=3) + x

    class Net(nn.Module):
        def forward(self, x):
            return Blur()(x)

    assert field(Net(), (4, 4)) is None


def test_the_table_leaves_the_net_alone():
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5))
    net[1].eval()
    before = net.state_dict()
    nn.layer_table(net, (1, 4, 4))
    assert net.training
    assert not net[1].training
    assert all(np.array_equal(before[k], v) for k, v in net.state_dict().items())
    assert net[0]._forward_hooks == ()


def test_summary_is_text():
    lines = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).summary((3, 8, 8)).splitlines()
    assert lines[0].split() == ["name", "type", "output", "field", "parameters", "multiply-adds"]
    assert lines[1].split() == ["0", "Conv2d", "8x6x6", "3x3", "224", "7,776"]
    assert lines[-1].split() == ["224", "7,776"]


def test_sizes_that_make_no_sense():
    with pytest.raises(ArgumentError, match=r"needs \(C, H, W\)"):
        nn.layer_table(nn.ReLU(), (4, 4))
