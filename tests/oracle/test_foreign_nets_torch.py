"""Published weights: nets of tinyseg's modules against the same nets from PyTorch's, loaded by torch.load."""

import numpy as np
import pytest
from foreign_nets import NETS, matmul_precision

from tinyseg.autograd import Tensor, no_grad
from tinyseg.interop import load_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle
tnn, tF = torch.nn, torch.nn.functional


class CifarBlock(tnn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(i, o, 3, stride, 1, bias=False), tnn.BatchNorm2d(o)
        self.conv2, self.bn2 = tnn.Conv2d(o, o, 3, 1, 1, bias=False), tnn.BatchNorm2d(o)
        self.o, self.stride = o, stride

    def forward(self, x):
        y = self.bn2(self.conv2(tF.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = tF.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.o // 4, self.o // 4), "constant", 0)
        return tF.relu(y + x)


class CifarResNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(3, 16, 3, 1, 1, bias=False), tnn.BatchNorm2d(16)
        self.layer1 = tnn.Sequential(CifarBlock(16, 16, 1), CifarBlock(16, 16, 1), CifarBlock(16, 16, 1))
        self.layer2 = tnn.Sequential(CifarBlock(16, 32, 2), CifarBlock(32, 32, 1), CifarBlock(32, 32, 1))
        self.layer3 = tnn.Sequential(CifarBlock(32, 64, 2), CifarBlock(64, 64, 1), CifarBlock(64, 64, 1))
        self.linear = tnn.Linear(64, 10)

    def forward(self, x):
        x = tF.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Twice(tnn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.double_conv = tnn.Sequential(tnn.Conv2d(i, o, 3, padding=1), tnn.BatchNorm2d(o), tnn.ReLU(),
                                          tnn.Conv2d(o, o, 3, padding=1), tnn.BatchNorm2d(o), tnn.ReLU())

    def forward(self, x):
        return self.double_conv(x)


class PupilUNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.inc = Twice(1, 32)
        self.down1 = tnn.Sequential(tnn.MaxPool2d(2), Twice(32, 64))
        self.down2 = tnn.Sequential(tnn.MaxPool2d(2), Twice(64, 128))
        self.att = tnn.Module()
        self.att.conv = tnn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.up1, self.conv1 = tnn.ConvTranspose2d(128, 64, 2, 2), Twice(128, 64)
        self.up2, self.conv2 = tnn.ConvTranspose2d(64, 32, 2, 2), Twice(64, 32)
        self.outc = tnn.Conv2d(32, 1, 1)

    def forward(self, x):
        a = self.inc(x)
        b = self.down1(a)
        c = self.down2(b)
        c = c * torch.sigmoid(self.att.conv(torch.cat([c.mean(1, keepdim=True), c.amax(1, keepdim=True)], 1)))
        b = self.conv1(torch.cat([self.up1(c), b], 1))
        return self.outc(self.conv2(torch.cat([self.up2(b), a], 1)))


class Block(tnn.Module):
    """Some of convolution, normalisation and activation."""

    def __init__(self, i, o, k=None, stride=1, d=1, bn=True, act=True):
        super().__init__()
        if k:
            self.conv = tnn.Conv2d(i, o, k, stride, (k - 1) // 2 * d, d, bias=False)
        if bn:
            self.bn = tnn.BatchNorm2d(o, eps=1e-3)
        if act:
            self.act = tnn.PReLU(o)

    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x


class Pyramid(tnn.Module):
    def __init__(self, i, o, down, add):
        super().__init__()
        n = o // 5
        self.down, self.add = down, add
        self.c1 = Block(i, n, 3 if down else 1, 2 if down else 1, bn=False, act=False)
        self.d1 = Block(n, o - 4 * n, 3, bn=False, act=False)
        self.d2, self.d4 = Block(n, n, 3, d=2, bn=False, act=False), Block(n, n, 3, d=4, bn=False, act=False)
        self.d8, self.d16 = Block(n, n, 3, d=8, bn=False, act=False), Block(n, n, 3, d=16, bn=False, act=False)
        if down:
            self.bn, self.act = tnn.BatchNorm2d(o, eps=1e-3), tnn.PReLU(o)
        else:
            self.bn = Block(o, o)

    def forward(self, x):
        r = self.c1(x)
        d2, d4, d8, d16 = self.d2(r), self.d4(r), self.d8(r), self.d16(r)
        y = torch.cat([self.d1(r), d2, d2 + d4, d2 + d4 + d8, d2 + d4 + d8 + d16], 1)
        if self.down:
            return self.act(self.bn(y))
        return self.bn(x + y if self.add else y)


class ESPNetEncoder(tnn.Module):
    def __init__(self):
        super().__init__()
        self.level1, self.b1 = Block(3, 16, 3, 2), Block(19, 19)
        self.level2_0, self.b2 = Pyramid(19, 64, True, False), Block(131, 131)
        self.level2 = tnn.ModuleList([Pyramid(64, 64, False, True) for _ in range(2)])
        self.level3_0, self.b3 = Pyramid(131, 128, True, False), Block(256, 256)
        self.level3 = tnn.ModuleList([Pyramid(128, 128, False, True) for _ in range(8)])
        self.classifier = Block(256, 20, 1, bn=False, act=False)

    def steps(self, x):
        small = tF.avg_pool2d(x, 3, 2, 1)
        smaller = tF.avg_pool2d(small, 3, 2, 1)
        one = self.level1(x)
        start = y = self.level2_0(self.b1(torch.cat([one, small], 1)))
        for layer in self.level2:
            y = layer(y)
        two = self.b2(torch.cat([y, start, smaller], 1))
        start = y = self.level3_0(two)
        for layer in self.level3:
            y = layer(y)
        return one, two, self.classifier(self.b3(torch.cat([start, y], 1)))

    def forward(self, x):
        return self.steps(x)[-1]


class ESPNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ESPNetEncoder()
        self.level3_C, self.br = Block(131, 20, 1, bn=False, act=False), tnn.BatchNorm2d(20, eps=1e-3)
        self.conv = Block(36, 20, 3)
        self.up_l3 = tnn.Sequential(tnn.ConvTranspose2d(20, 20, 2, 2, bias=False))
        self.combine_l2_l3 = tnn.Sequential(Block(40, 40), Pyramid(40, 20, False, False))
        self.up_l2 = tnn.Sequential(tnn.ConvTranspose2d(20, 20, 2, 2, bias=False), Block(20, 20))
        self.classifier = tnn.ConvTranspose2d(20, 20, 2, 2, bias=False)

    def forward(self, x):
        one, two, three = self.encoder.steps(x)
        both = torch.cat([self.level3_C(two), self.up_l3(self.br(three))], 1)
        return self.classifier(self.conv(torch.cat([self.up_l2(self.combine_l2_l3(both)), one], 1)))


THEIRS = {"CifarResNet": CifarResNet, "PupilUNet": PupilUNet, "ESPNetEncoder": ESPNetEncoder, "ESPNet": ESPNet}


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("file", NETS)
def test_logits(test_data, file, precision):
    make, size, scale = NETS[file]
    ours, theirs = make(), THEIRS[make.__name__]().eval()
    load_weights(ours, test_data / "weights" / file)
    state = torch.load(test_data / "weights" / file, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): value for name, value in state.get("state_dict", state).items()}
    left = theirs.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left.missing_keys)

    x = np.random.default_rng(5).normal(size=size).astype(np.float32) * np.float32(scale)
    with torch.no_grad(), no_grad(), matmul_precision(precision):
        expected = theirs(torch.from_numpy(x)).numpy()
        found = ours.eval()(Tensor(x)).data
    assert np.abs(expected).max() > 1
    atol = 1e-4 if precision == "highest" else 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
