"""Published weights in nets of tinyseg's modules: they load to the last name, and see what they were trained to see."""

import numpy as np
import pytest
from foreign_nets import NETS, CifarResNet, ESPNet, PupilUNet
from PIL import Image

from tinyseg.autograd import Tensor, no_grad
from tinyseg.interop import guess_architecture, load_weights, read_weights, write_weights

# of CamVid's classes: Cityscapes' with the same meaning
SKY, BUILDING, ROAD = (0, 10), (1, 2), (3, 0)


def logits(net, x):
    with no_grad():
        return net.eval()(Tensor(np.ascontiguousarray(x, np.float32))).data


@pytest.mark.parametrize("file", NETS)
def test_every_name_has_its_place(test_data, file):
    net = NETS[file][0]()
    report = load_weights(net, test_data / "weights" / file)
    assert [report.missing, report.unexpected, report.other_shape, report.folded] == [[], [], {}, []]
    assert {name for name in net.state_dict() if not name.endswith("num_batches_tracked")} <= set(report.loaded)


def test_what_the_files_say(test_data):
    found = read_weights(test_data / "weights/resnet_cifar/resnet20-12fca82f.th")
    assert (found.kind, found.key) == ("PyTorch (stream, before 1.6)", "state_dict")
    assert found.notes["best_prec1"] == pytest.approx(91.78)
    assert guess_architecture({name: a.shape for name, a in found.arrays.items()}) \
        == "ResNet-20, 3 channels, 10 classes"
    found = read_weights(test_data / "weights/espnet_cityscapes/decoder_espnet_p_2_q_8.pth")
    assert guess_architecture({name: a.shape for name, a in found.arrays.items()}) \
        == "ESPNet, p=2, q=8, 3 channels, 20 classes"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_the_same_answers_after_a_conversion(test_data, tmp_path, suffix):
    first, second = CifarResNet(), CifarResNet()
    source = test_data / "weights/resnet_cifar/resnet20-12fca82f.th"
    load_weights(first, source)
    write_weights(tmp_path / f"x{suffix}", read_weights(source).arrays)
    load_weights(second, tmp_path / f"x{suffix}")
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    np.testing.assert_array_equal(logits(first, x), logits(second, x))


def test_a_street_that_espnet_has_not_seen(test_data):
    """Trained in German cities, it finds sky, houses and road in an English one."""
    net = ESPNet()
    load_weights(net, test_data / "weights/espnet_cityscapes/decoder_espnet_p_2_q_8.pth")
    mean, std = (72.3923111, 82.90893555, 73.15840149), (45.3192215, 46.15289307, 44.91483307)      # blue, green, red
    seen, true = [], []
    for path in sorted((test_data / "camvid/val").glob("*.png"))[::5]:
        pixels = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
        seen.append(logits(net, ((pixels - np.array(mean)) / std / 255).transpose(2, 0, 1)[None])[0].argmax(0))
        true.append(np.asarray(Image.open(test_data / "camvid/valannot" / path.name)))
    seen, true = np.stack(seen), np.stack(true)
    for camvid, cityscapes in (SKY, BUILDING, ROAD):
        assert (seen[true == camvid] == cityscapes).mean() > 0.75


@pytest.mark.parametrize(("y", "x", "height", "width"), [(74, 74, 18, 20), (60, 90, 30, 26)])
def test_a_drawn_eye(test_data, y, x, height, width):
    """A dark ellipse with a glint, in a grey one."""
    net = PupilUNet()
    load_weights(net, test_data / "weights/mouse_pupil_unet/615pupils.pth")
    rows, columns = np.mgrid[:148, :148]

    def ellipse(y, x, height, width):
        return ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1

    pupil = ellipse(y, x, height, width)
    eye = np.where(ellipse(74, 74, 60, 68), 0.35, 0.6) + 0.05 * np.sin(rows / 7) * np.cos(columns / 9)
    eye = np.where(ellipse(y - 6, x - 6, 3, 3), 0.95, np.where(pupil, 0.09, eye))
    eye = np.clip(eye + 0.02 * np.random.default_rng(0).normal(size=eye.shape), 0, 1)
    found = logits(net, eye[None, None])[0, 0] > 0
    assert (found & pupil).sum() / (found | pupil).sum() > 0.75
