"""U-Net against one built from PyTorch's own modules, with the same weights: logits and every gradient."""

import numpy as np
import pytest

from tinyseg.autograd import Tensor
from tinyseg.models import build

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle
tnn, tF = torch.nn, torch.nn.functional


class DoubleConv(tnn.Module):
    def __init__(self, i, o, m, pad, norm):
        super().__init__()
        bias = norm is None
        first, second = tnn.Conv2d(i, m, 3, padding=pad, bias=bias), tnn.Conv2d(m, o, 3, padding=pad, bias=bias)
        if norm:
            layers = [first, tnn.BatchNorm2d(m), tnn.ReLU(), second, tnn.BatchNorm2d(o), tnn.ReLU()]
        else:
            layers = [first, tnn.ReLU(), second, tnn.ReLU()]
        self.double_conv = tnn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Down(tnn.Module):
    def __init__(self, i, o, pad, norm):
        super().__init__()
        self.maxpool_conv = tnn.Sequential(tnn.MaxPool2d(2), DoubleConv(i, o, o, pad, norm))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(tnn.Module):
    def __init__(self, i, o, pad, bilinear, norm):
        super().__init__()
        self.crops = pad == 0
        if bilinear:
            self.up = tnn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = tnn.ConvTranspose2d(i, i // 2, 2, stride=2)
        self.conv = DoubleConv(i, o, i // 2 if bilinear else o, pad, norm)

    def forward(self, low, skip):
        low = self.up(low)
        dy, dx = skip.shape[2] - low.shape[2], skip.shape[3] - low.shape[3]
        if self.crops:
            skip = tF.pad(skip, [-(dx // 2), -(dx - dx // 2), -(dy // 2), -(dy - dy // 2)])
        else:
            low = tF.pad(low, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([skip, low], dim=1))


class OutConv(tnn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = tnn.Conv2d(i, o, 1)

    def forward(self, x):
        return self.conv(x)


class TorchUNet(tnn.Module):
    """Written out level by level, as the ports write it."""

    def __init__(self, channels, classes, c, bilinear=False, pad=1, norm=True):
        super().__init__()
        f = 2 if bilinear else 1
        norm = norm or None
        self.inc = DoubleConv(channels, c, c, pad, norm)
        self.down1, self.down2 = Down(c, 2 * c, pad, norm), Down(2 * c, 4 * c, pad, norm)
        self.down3, self.down4 = Down(4 * c, 8 * c, pad, norm), Down(8 * c, 16 * c // f, pad, norm)
        self.up1, self.up2 = Up(16 * c, 8 * c // f, pad, bilinear, norm), Up(8 * c, 4 * c // f, pad, bilinear, norm)
        self.up3, self.up4 = Up(4 * c, 2 * c // f, pad, bilinear, norm), Up(2 * c, c, pad, bilinear, norm)
        self.outc = OutConv(c, classes)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        return self.outc(self.up4(x, x1))


FLAVOURS = {
    "padded": ({}, {}, (3, 48, 32)),
    "odd sizes": ({}, {}, (3, 37, 51)),
    "bilinear": ({"up": "bilinear"}, {"bilinear": True}, (3, 35, 50)),
    "paper": ({"padding": "valid", "norm": None}, {"pad": 0, "norm": False}, (3, 188, 204)),
    "paper, normalised": ({"padding": "valid"}, {"pad": 0}, (3, 204, 188)),
}


def pair(flavour, dtype):
    """Our net and PyTorch's with the same weights, running statistics included."""
    options, torch_options, size = FLAVOURS[flavour]
    theirs = TorchUNet(3, 2, 2, **torch_options).to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in (*theirs.named_parameters(), *theirs.named_buffers()):
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=generator)
            elif value.is_floating_point():
                value += 0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    ours = build("unet", 3, 2, base_channels=2, **options).to(str(dtype).removeprefix("torch."))
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})
    x = torch.randn(2, *size, generator=generator, dtype=dtype)
    return ours, theirs, x


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_logits_and_gradients(flavour, training):
    ours, theirs, x = pair(flavour, torch.float64)
    ours.train(training)
    theirs.train(training)
    expected = theirs(x)
    logits = ours(Tensor(x.numpy()))
    np.testing.assert_allclose(logits.detach().data, expected.detach().numpy(), rtol=1e-9, atol=1e-9)

    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected.backward(cotangent)
    logits.backward(cotangent.numpy())
    gradients = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        g = gradients[name].grad.numpy()
        np.testing.assert_allclose(p.grad.data, g, rtol=0, atol=1e-9 * max(1, np.abs(g).max()), err_msg=name)
    for name, buffer in theirs.named_buffers():      # running statistics have moved alike
        np.testing.assert_allclose(ours.state_dict()[name], buffer.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("flavour", ["padded", "bilinear", "paper"])
def test_logits_in_single_precision(flavour):
    ours, theirs, x = pair(flavour, torch.float32)
    np.testing.assert_allclose(ours.eval()(Tensor(x.numpy())).detach().data, theirs.eval()(x).detach().numpy(),
                               rtol=1e-4, atol=1e-4)
