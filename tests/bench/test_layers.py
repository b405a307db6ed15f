"""Layers: their work and traffic against brute counts, the built-in sets, and files of layers."""

import json

import numpy as np
import pytest
from measured_layers import LAYERS

from tinyseg.bench.layers import SETS, SUITES, read_layers, select
from tinyseg.errors import ArgumentError, DataError, TinysegError


def products(layer):
    """(output, tap, channel in, channel out) that meet a cell of the convolution's input, one by one."""
    g, count = layer.geometry, 0
    for p in range(g.output_size[0]):
        for q in range(g.output_size[1]):
            for u in range(g.kernel_size[0]):
                for v in range(g.kernel_size[1]):
                    h = p * g.stride[0] - g.padding[0][0] + u * g.dilation[0]
                    w = q * g.stride[1] - g.padding[1][0] + v * g.dilation[1]
                    count += 0 <= h < g.input_size[0] and 0 <= w < g.input_size[1]
    return count * layer.batch


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.operation} {layer.text}")
def test_flops_count_the_products_with_cells_of_the_image(layer):
    if layer.pools:
        assert layer.flops == products(layer) * layer.in_channels
    else:
        assert layer.flops == 2 * products(layer) * layer.in_channels * layer.out_channels // layer.groups


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.operation} {layer.text}")
def test_bytes_are_those_of_the_arrays(layer):
    x, y = np.empty(layer.input_shape, "f"), np.empty(layer.output_shape, "f")
    weight = np.empty(layer.weight_shape if layer.weight_shape else (0,), "f")
    assert layer.bytes("forward") == x.nbytes + weight.nbytes + y.nbytes
    indices = y.nbytes if layer.operation == "max_pool2d" else 0
    assert layer.bytes("input_grad") == layer.bytes("forward") + indices


def test_the_sets_and_suites():
    assert len(SETS["lab"]) == 13
    names = [layer.name for layer in SETS["all"]]
    assert len(names) == len(set(names))
    assert sum(len(select(SETS["all"], suite)) for suite in SUITES) == len(names)
    assert [layer.name for layer in select(SETS["all"], "dilated")] == ["fc6", "aspp 12"]
    with pytest.raises(ArgumentError, match=r"none of the layers level 1, .* belongs to the suite 'dilated'"):
        select(SETS["unet"], "dilated")
    with pytest.raises(ArgumentError, match="no layer 'levle'; legal: level 1"):
        select(SETS["unet"], names=["levle"])


def test_a_layer_survives_the_file(tmp_path):
    named = [layer.changed(name=f"n{k}") for k, layer in enumerate(LAYERS)]
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([layer.to_dict() for layer in named]))
    assert read_layers(str(path)) == named


@pytest.mark.parametrize(("text", "message"), [
    ("[{", "is not JSON"),
    ("{}", "needs a list of layers like"),
    ("[]", "needs a list of layers like"),
    ('[{"name": "a"}]', "layer 'a': needs 'in_channels'"),
    ('[{"in_channels": 1, "out_channels": 1, "input_size": 4, "kernel_size": 5}]', "kernel 5 .* <= i|spans 5 > padded"),
    ('[{"in_channels": 1, "out_channels": 1, "input_size": 4, "kernel": 5}]', "no field 'kernel'; legal: name"),
    ('[{"in_channels": "x", "out_channels": 1, "input_size": 4, "kernel_size": 1}]', "in_channels 'x': needs a whole"),
    ('[{"in_channels": 3, "out_channels": 4, "groups": 2, "input_size": 4, "kernel_size": 1}]', "groups 2 with 3"),
    ('[{"operation": "conv3d"}]', "operation 'conv3d'; legal: conv2d"),
    ('[{"operation": "max_pool2d", "in_channels": 1, "out_channels": 2, "input_size": 4, "kernel_size": 2}]',
     "pooling keeps its 1 channels"),
    ('[{"name": "a", "in_channels": 1, "out_channels": 1, "input_size": 4, "kernel_size": 1}, '
     '{"name": "a", "in_channels": 1, "out_channels": 1, "input_size": 4, "kernel_size": 1}]', "two layers are called"),
])
def test_a_bad_file_is_named(tmp_path, text, message):
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(TinysegError, match=message) as caught:
        read_layers(str(path))
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_an_unknown_set(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_layers(str(tmp_path / "none.json"))
    with pytest.raises(ArgumentError, match=r"'unett'; legal: unet, fcn, deeplab, all, lab, or a file NAME\.json"):
        read_layers("unett")
