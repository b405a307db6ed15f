"""DeepLab v3 from a file of ONNX, in a net of tinyseg's modules: against the file's graph, followed by PyTorch."""

import json

import numpy as np
import pytest
from foreign_nets import PortraitNet, matmul_precision, portrait_weights
from PIL import Image, ImageDraw

import tinyseg.functional as F
from tinyseg.autograd import Tensor, no_grad
from tinyseg.interop import load_weights

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle
tF = torch.nn.functional


@pytest.fixture(scope="module")
def graph(test_data):
    return onnx.load(test_data / "weights/portrait_deeplab_mnv2/deeplab_nchw.onnx").graph


@pytest.fixture(scope="module")
def net(graph):
    net = PortraitNet()
    report = load_weights(net, portrait_weights(graph, onnx.numpy_helper.to_array))
    assert len(report.loaded) == 272
    return net.eval()


@pytest.fixture(scope="module")
def picture(test_data):
    """A photo of one person as the net takes it, (1, 3, 513, 513), and the person's mask."""
    notes = json.loads((test_data / "coco/instances.json").read_text())
    file = next(image["file_name"] for image in notes["images"] if image["id"] == 253956)
    photo = Image.open(next((test_data / "coco").rglob(file))).convert("RGB")
    mask = Image.new("L", photo.size)
    for note in notes["annotations"]:
        if note["image_id"] == 253956 and note["category_id"] == 1:
            for polygon in note["segmentation"]:
                ImageDraw.Draw(mask).polygon(polygon, fill=1)
    x = np.asarray(photo.resize((513, 513)), np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
    return x, np.asarray(mask.resize((513, 513), Image.Resampling.NEAREST)) == 1


def follow(graph, x, until):
    """The value of a name in the graph, by PyTorch."""
    values = {c.name: torch.from_numpy(onnx.numpy_helper.to_array(c).copy()) for c in graph.initializer}
    values[graph.input[0].name] = x
    for node in graph.node:
        a = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        v = [values[name] for name in node.input]
        values[node.output[0]] = {
            "Conv": lambda v=v, a=a: tF.conv2d(*v[:2], v[2] if v[2:] else None, a["strides"], a["pads"][:2],
                                               a["dilations"], a.get("group", 1)),
            "BatchNormalization": lambda v=v, a=a: tF.batch_norm(v[0], v[3], v[4], v[1], v[2], eps=a["epsilon"]),
            "Clip": lambda v=v, a=a: v[0].clamp(a["min"], a["max"]), "Relu": lambda v=v: v[0].relu(),
            "Add": lambda v=v: v[0] + v[1], "Concat": lambda v=v, a=a: torch.cat(v, a["axis"]),
            "AveragePool": lambda v=v, a=a: tF.avg_pool2d(v[0], a["kernel_shape"], a["strides"]),
            "Upsample": lambda v=v, a=a: v[0].expand(-1, -1, *(int(s) for s in a["scales"][2:])),     # from one pixel
        }[node.op_type]()
        if node.op_type == until[0] and len(node.input) == until[1]:
            return values[node.output[0]]
    raise AssertionError("the graph has no such node")


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_logits(graph, net, picture, precision):
    with torch.no_grad(), no_grad(), matmul_precision(precision):
        expected = follow(graph, torch.from_numpy(picture[0]), ("Conv", 3)).numpy()
        found = net(Tensor(picture[0])).data
    assert found.shape == expected.shape == (1, 2, 65, 65)
    atol = 1e-4 if precision == "highest" else 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_it_finds_the_person(net, picture):
    x, mask = picture
    with no_grad():
        logits = F.interpolate(net(Tensor(x)), (513, 513), mode="bilinear", align_corners=True).data
    person = logits[0].argmax(0) == 1
    assert (person & mask).sum() / (person | mask).sum() > 0.7
