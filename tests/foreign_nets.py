"""Nets of others, put together from tinyseg's modules under the names that their published weights have."""

from contextlib import contextmanager

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import nn


@contextmanager
def matmul_precision(name):
    before = ts.get_float32_matmul_precision()
    ts.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        ts.set_float32_matmul_precision(before)


# -- ResNet-20 for CIFAR-10 (He et al., arXiv:1512.03385, section 4.2), as github.com/akamaster/pytorch_resnet_cifar10
class CifarBlock(nn.Module):
    def __init__(self, before, channels):
        self.grows = before != channels
        self.conv1 = nn.Conv2d(before, channels, 3, 2 if self.grows else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.grows:                               # a short cut without parameters: every other pixel, new channels 0
            x = x[:, :, ::2, ::2]
            zeros = x[:, ::2] * 0
            x = F.concatenate([zeros, x, zeros], dim=1)
        return self.relu(x + y)


class CifarResNet(nn.Module):
    """(N, 3, 32, 32) -> logits (N, 10)."""

    def __init__(self):
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        before = 16
        for k, channels in enumerate((16, 32, 64), 1):
            setattr(self, f"layer{k}", nn.Sequential(CifarBlock(before, channels), CifarBlock(channels, channels),
                                                     CifarBlock(channels, channels)))
            before = channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.linear(self.pool(x).reshape(len(x), -1))


# -- a U-Net with spatial attention (Woo et al., arXiv:1807.06521, section 3) at its bottom, for pupils of mice
class Twice(nn.Module):
    def __init__(self, before, channels):
        self.double_conv = nn.Sequential(nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
                                         nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels),
                                         nn.ReLU())

    def forward(self, x):
        return self.double_conv(x)


class SpatialAttention(nn.Module):
    """Where to look: a 7x7 convolution of the channels' mean and maximum, as a gate."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        seen = F.concatenate([x.mean(1, keepdim=True), x.max(1, keepdim=True)], dim=1)
        return x * F.sigmoid(self.conv(seen))


class PupilUNet(nn.Module):
    """(N, 1, H, W) in [0, 1] -> logits (N, 1, H, W), H and W multiples of 4."""

    def __init__(self):
        self.inc = Twice(1, 32)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), Twice(32, 64))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), Twice(64, 128))
        self.att = SpatialAttention()
        self.up1 = nn.ConvTranspose2d(128, 64, 2, stride=2)
        self.conv1 = Twice(128, 64)
        self.up2 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.conv2 = Twice(64, 32)
        self.outc = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        top = self.inc(x)
        middle = self.down1(top)
        x = self.att(self.down2(middle))
        x = self.conv1(F.concatenate([self.up1(x), middle], dim=1))
        x = self.conv2(F.concatenate([self.up2(x), top], dim=1))
        return self.outc(x)


# -- ESPNet (Mehta et al., arXiv:1803.06815), as github.com/sacmehta/ESPNet
def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


def conv(before, channels, kernel, stride=1, rate=1):
    return nn.Sequential({"conv": nn.Conv2d(before, channels, kernel, stride, kernel // 2 * rate, rate, bias=False)})


def norm_act(channels):
    return nn.Sequential({"bn": norm(channels), "act": nn.PReLU(channels)})


def conv_norm_act(before, channels, kernel, stride=1):
    return nn.Sequential({"conv": nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=False),
                          "bn": norm(channels), "act": nn.PReLU(channels)})


class Pyramid(nn.Module):
    """Reduce; convolve at the rates 1, 2, 4, 8, 16; join the sums of 2, 2 + 4, ... , which have no grid."""

    def __init__(self, before, channels, kernel, stride=1):
        n = channels // 5
        self.c1 = conv(before, n, kernel, stride)
        self.d1 = conv(n, channels - 4 * n, 3)
        for rate in (2, 4, 8, 16):
            setattr(self, f"d{rate}", conv(n, n, 3, rate=rate))

    def joined(self, x):
        x = self.c1(x)
        found, total = [self.d1(x)], None
        for branch in (self.d2, self.d4, self.d8, self.d16):
            total = branch(x) if total is None else total + branch(x)
            found.append(total)
        return F.concatenate(found, dim=1)


class Downsampler(Pyramid):
    def __init__(self, before, channels):
        super().__init__(before, channels, 3, 2)
        self.bn, self.act = norm(channels), nn.PReLU(channels)

    def forward(self, x):
        return self.act(self.bn(self.joined(x)))


class ESP(Pyramid):
    def __init__(self, before, channels, adds=True):
        super().__init__(before, channels, 1)
        self.adds, self.bn = adds, norm_act(channels)

    def forward(self, x):
        return self.bn(x + self.joined(x) if self.adds else self.joined(x))


class ESPNetEncoder(nn.Module):
    """ESPNet-C: (N, 3, H, W) -> logits (N, classes, H/8, W/8)."""

    def __init__(self, classes=20, p=2, q=8):
        self.level1 = conv_norm_act(3, 16, 3, 2)
        self.shrink = nn.AvgPool2d(3, 2, padding=1)
        self.b1 = norm_act(19)
        self.level2_0 = Downsampler(19, 64)
        self.level2 = nn.Sequential(*(ESP(64, 64) for _ in range(p)))
        self.b2 = norm_act(131)
        self.level3_0 = Downsampler(131, 128)
        self.level3 = nn.Sequential(*(ESP(128, 128) for _ in range(q)))
        self.b3 = norm_act(256)
        self.classifier = conv(256, classes, 1)

    def levels(self, x):
        """Features of stride 2 and 4, and the logits."""
        half = self.shrink(x)
        first = self.level1(x)
        x = self.level2_0(self.b1(F.concatenate([first, half], dim=1)))
        second = self.b2(F.concatenate([self.level2(x), x, self.shrink(half)], dim=1))
        x = self.level3_0(second)
        return first, second, self.classifier(self.b3(F.concatenate([x, self.level3(x)], dim=1)))

    def forward(self, x):
        return self.levels(x)[2]


class ESPNet(nn.Module):
    """(N, 3, H, W) -> logits (N, classes, H, W), H and W multiples of 8."""

    def __init__(self, classes=20, p=2, q=8):
        self.encoder = ESPNetEncoder(classes, p, q)
        self.level3_C = conv(131, classes, 1)
        self.br = norm(classes)
        self.conv = conv_norm_act(16 + classes, classes, 3)
        self.up_l3 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, stride=2, bias=False))
        self.combine_l2_l3 = nn.Sequential(norm_act(2 * classes), ESP(2 * classes, classes, adds=False))
        self.up_l2 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, stride=2, bias=False), norm_act(classes))
        self.classifier = nn.ConvTranspose2d(classes, classes, 2, stride=2, bias=False)

    def forward(self, x):
        first, second, third = self.encoder.levels(x)
        third = self.up_l3(self.br(third))
        x = self.up_l2(self.combine_l2_l3(F.concatenate([self.level3_C(second), third], dim=1)))
        return self.classifier(self.conv(F.concatenate([x, first], dim=1)))


# file in the folder of weights: (the net, an input's size and scale)
NETS = {"resnet_cifar/resnet20-12fca82f.th": (CifarResNet, (2, 3, 32, 32), 1),
        "mouse_pupil_unet/615pupils.pth": (PupilUNet, (1, 1, 60, 76), 1),
        "espnet_cityscapes/encoder_espnet_p_2_q_8.pth": (ESPNetEncoder, (1, 3, 64, 96), 1 / 255),
        "espnet_cityscapes/decoder_espnet_p_2_q_8.pth": (ESPNet, (1, 3, 64, 96), 1 / 255)}


# -- DeepLab v3 on MobileNetV2 of half the width (Sandler et al., arXiv:1801.04381), persons, from a file of ONNX
def unit(before, channels, kernel, stride=1, rate=1, groups=1, act=nn.ReLU6, eps=1e-3):
    layers = {"conv": nn.Conv2d(before, channels, kernel, stride, kernel // 2 * rate, rate, groups, bias=False),
              "bn": nn.BatchNorm2d(channels, eps=eps)}
    return nn.Sequential({**layers, "act": act()} if act else layers)


class InvertedResidual(nn.Module):
    def __init__(self, before, channels, stride, rate, widening):
        wide = before * widening
        if widening > 1:
            self.expand = unit(before, wide, 1)
        self.depthwise = unit(wide, wide, 3, stride, rate, wide)
        self.project = unit(wide, channels, 1, act=None)
        self.adds = stride == 1 and before == channels

    def forward(self, x):
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.adds else y


class PortraitNet(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> logits (N, 2, H/8, W/8) of background and person."""

    # channels, blocks, stride, rates of the first block and the others
    STAGES = ((8, 1, 1, 1, 1), (12, 2, 2, 1, 1), (16, 3, 2, 1, 1), (32, 4, 1, 1, 2), (48, 3, 1, 2, 2), (80, 3, 1, 2, 4),
              (160, 1, 1, 4, 4))

    def __init__(self):
        self.Conv = unit(3, 16, 3, 2)
        before, k = 16, 0
        for channels, blocks, stride, first, others in self.STAGES:
            for b in range(blocks):
                block = InvertedResidual(before, channels, 1 if b else stride, others if b else first, 6 if k else 1)
                setattr(self, f"expanded_conv_{k}" if k else "expanded_conv", block)
                before, k = channels, k + 1
        self.backbone = [getattr(self, name) for name, _ in self.named_children()]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.image_pooling = unit(160, 256, 1, act=nn.ReLU, eps=1e-5)
        self.aspp0 = unit(160, 256, 1, act=nn.ReLU, eps=1e-5)
        self.concat_projection = unit(512, 256, 1, act=nn.ReLU, eps=1e-5)
        self.semantic = nn.Conv2d(256, 2, 1)

    def forward(self, x):
        for layer in self.backbone:
            x = layer(x)
        whole = F.interpolate(self.image_pooling(self.pool(x)), x.shape[2:], mode="bilinear")
        return self.semantic(self.concat_projection(F.concatenate([whole, self.aspp0(x)], dim=1)))


def portrait_weights(graph, array_of):
    """Names of `PortraitNet` to arrays, from the file's graph.

    The file has no dilated convolutions but zeros between the weights, which are left out here.
    """
    constants = {constant.name: array_of(constant) for constant in graph.initializer}
    statistics = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    found = {}
    for node in graph.node:
        parts = node.output[0].removeprefix("MobilenetV2/").split("/")
        if node.op_type == "Conv" and len(node.input) == 3:
            found["semantic.weight"], found["semantic.bias"] = (constants[name] for name in node.input[1:])
        elif node.op_type == "Conv":
            weight = constants[node.input[1]]
            kept = 1 if weight.shape[2] in (1, 3) else weight.shape[2] // 2
            owner = parts[:2] if parts[0].startswith("expanded") else parts[:1]
            found[".".join([*owner, "conv", "weight"])] = weight[:, :, ::kept, ::kept]
        elif node.op_type == "BatchNormalization":
            for name in node.input[1:]:
                *owner, _, last = name.removeprefix("MobilenetV2/").removesuffix(":0").split("/")
                found[".".join([*owner, "bn", statistics[last]])] = constants[name]
    return found
