"""The nets again, written for themselves in PyTorch's functional form, on weights that are taken by their keys.

Strides and rates are spelled out where ours are derived, so that the two agree only if both are right.  Each function
returns what the net gives in training: name -> scores; the logits are the last.
"""

import torch
import torch.nn.functional as F


class Weights:
    """A state dict as tensors, and the layers that use it."""

    def __init__(self, state, trained):
        self.tensors = {key: torch.tensor(array) for key, array in state.items()}
        for key in trained:
            self.tensors[key].requires_grad_()
        self.used = set()

    def get(self, key):
        self.used.add(key)
        return self.tensors.get(key)

    def conv(self, x, name, **options):
        return F.conv2d(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"), **options)

    def up(self, x, name, **options):
        return F.conv_transpose2d(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"), **options)

    def norm(self, x, name, eps=1e-5):
        self.used.add(f"{name}.num_batches_tracked")
        return F.batch_norm(x, *(self.get(f"{name}.{what}") for what in ("running_mean", "running_var", "weight",
                                                                         "bias")), eps=eps)

    def linear(self, x, name):
        return F.linear(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"))

    def unit(self, x, conv, norm, act=F.relu, eps=1e-5, **options):
        return act(self.norm(self.conv(x, conv, **options), norm, eps))

    def within(self, x, names, act=F.relu, **options):
        """Convolutions with bias, each with an activation."""
        for name in names:
            x = act(self.conv(x, name, **options))
        return x


def same(x):
    return x


def resized(x, like, align_corners=False):
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=align_corners)


# -- backbones ---------------------------------------------------------------------------------------------------------
def resnet(w, x, p, strides, rates):
    """Features after each stage.  rates: of every 3x3 convolution."""
    x = F.max_pool2d(w.unit(x, f"{p}conv1", f"{p}bn1", stride=2, padding=3), 3, 2, 1)
    found = []
    for s, (stride, stage) in enumerate(zip(strides, rates, strict=True), 1):
        for b, rate in enumerate(stage):
            name = f"{p}layer{s}.{b}"
            y = w.unit(x, f"{name}.conv1", f"{name}.bn1")
            y = w.unit(y, f"{name}.conv2", f"{name}.bn2", stride=stride if b == 0 else 1, padding=rate, dilation=rate)
            y = w.unit(y, f"{name}.conv3", f"{name}.bn3", same)
            if b == 0 and f"{name}.downsample.0.weight" in w.tensors:
                x = w.unit(x, f"{name}.downsample.0", f"{name}.downsample.1", same, stride=stride)
            x = F.relu(x + y)
        found.append(x)
    return found


def basic_resnet(w, x, blocks):
    x = F.max_pool2d(w.unit(x, "conv1", "bn1", stride=2, padding=3), 3, 2, 1)
    for s, count in enumerate(blocks, 1):
        for b in range(count):
            name, stride = f"layer{s}.{b}", 2 if b == 0 and s > 1 else 1
            y = w.unit(x, f"{name}.conv1", f"{name}.bn1", stride=stride, padding=1)
            y = w.unit(y, f"{name}.conv2", f"{name}.bn2", same, padding=1)
            if stride == 2:
                x = w.unit(x, f"{name}.downsample.0", f"{name}.downsample.1", same, stride=2)
            x = F.relu(x + y)
    return x


TV8 = (1, 2, 1, 1), ([1] * 3, [1] * 4, [1, 2, 2, 2, 2, 2], [2, 4, 4])
PAPER16 = (1, 2, 2, 1), ([1] * 3, [1] * 4, [1] * 6, [2, 4, 8])
PAPER8 = (1, 2, 1, 1), ([1] * 3, [1] * 4, [2] * 6, [4, 8, 16])
CASCADE = (*PAPER16[0], 1, 1, 1), (*PAPER16[1], [4, 8, 16], [8, 16, 32], [16, 32, 64])


def mobilenet_v3(w, x, p):
    """All features.  kernel, widened, gate's width, swish, stride, dilation."""
    rows = [(3, 16, 0, 0, 1, 1), (3, 64, 0, 0, 2, 1), (3, 72, 0, 0, 1, 1), (5, 72, 24, 0, 2, 1), (5, 120, 32, 0, 1, 1),
            (5, 120, 32, 0, 1, 1), (3, 240, 0, 1, 2, 1), (3, 200, 0, 1, 1, 1), (3, 184, 0, 1, 1, 1),
            (3, 184, 0, 1, 1, 1), (3, 480, 120, 1, 1, 1), (3, 672, 168, 1, 1, 1), (5, 672, 168, 1, 1, 2),
            (5, 960, 240, 1, 1, 2), (5, 960, 240, 1, 1, 2)]
    x = w.unit(x, f"{p}0.0", f"{p}0.1", F.hardswish, 1e-3, stride=2, padding=1)
    found = [x]
    for k, (kernel, wide, gate, swish, stride, dilation) in enumerate(rows, 1):
        act, y, j = F.hardswish if swish else F.relu, x, 0
        if wide != x.shape[1]:
            y, j = w.unit(y, f"{p}{k}.block.0.0", f"{p}{k}.block.0.1", act, 1e-3), 1
        y = w.unit(y, f"{p}{k}.block.{j}.0", f"{p}{k}.block.{j}.1", act, 1e-3, stride=stride, dilation=dilation,
                   padding=kernel // 2 * dilation, groups=wide)
        if gate:
            j += 1
            assert w.get(f"{p}{k}.block.{j}.fc1.weight").shape[0] == gate
            g = F.relu(w.conv(y.mean((2, 3), keepdim=True), f"{p}{k}.block.{j}.fc1"))
            y = y * F.hardsigmoid(w.conv(g, f"{p}{k}.block.{j}.fc2"))
        y = w.unit(y, f"{p}{k}.block.{j + 1}.0", f"{p}{k}.block.{j + 1}.1", same, 1e-3)
        x = x + y if y.shape == x.shape and stride == 1 else y
        found.append(x)
    found.append(w.unit(x, f"{p}16.0", f"{p}16.1", F.hardswish, 1e-3))
    return found


def mobilenet_v2(w, x, p, strides, rates):
    """All features but the last 1x1's.  strides and rates: of the seventeen blocks."""
    x = w.unit(x, f"{p}0.0", f"{p}0.1", F.relu6, stride=2, padding=1)
    found = [x]
    for k, (stride, rate) in enumerate(zip(strides, rates, strict=True), 1):
        y, j = x, 0
        if k > 1:
            y, j = w.unit(y, f"{p}{k}.conv.0.0", f"{p}{k}.conv.0.1", F.relu6), 1
        y = w.unit(y, f"{p}{k}.conv.{j}.0", f"{p}{k}.conv.{j}.1", F.relu6, stride=stride, padding=rate, dilation=rate,
                   groups=y.shape[1])
        y = w.unit(y, f"{p}{k}.conv.{j + 1}", f"{p}{k}.conv.{j + 2}", same)
        x = x + y if y.shape == x.shape and stride == 1 else y
        found.append(x)
    return found


V2_32 = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1), [1] * 17
V2_8 = (1, 2, 1, 2, *[1] * 13), [1] * 7 + [2] * 7 + [4] * 3


def dense_block(w, x, p, layers):
    for k in range(1, layers + 1):
        name = f"{p}.denselayer{k}"
        y = w.conv(F.relu(w.norm(x, f"{name}.norm1")), f"{name}.conv1")
        x = torch.cat([x, w.conv(F.relu(w.norm(y, f"{name}.norm2")), f"{name}.conv2", padding=1)], 1)
    return x


# -- heads -------------------------------------------------------------------------------------------------------------
def fcn_head(w, x, p):
    return w.conv(w.unit(x, f"{p}.0", f"{p}.1", padding=1), f"{p}.4")


def aspp(w, x, p, rates, separable=False):
    found = [w.unit(x, f"{p}.convs.0.0", f"{p}.convs.0.1")]
    for k, rate in enumerate(rates, 1):
        found.append(filtered(w, x, f"{p}.convs.{k}", rate, separable))
    pooled = w.unit(x.mean((2, 3), keepdim=True), f"{p}.convs.4.1", f"{p}.convs.4.2")
    return w.unit(torch.cat([*found, pooled.expand_as(found[0])], 1), f"{p}.project.0", f"{p}.project.1")


def filtered(w, x, p, rate, separable):
    """3x3, and where separable 1x1 after 3x3 of each channel."""
    if not separable:
        return w.unit(x, f"{p}.0", f"{p}.1", padding=rate, dilation=rate)
    x = w.unit(x, f"{p}.0", f"{p}.1", padding=rate, dilation=rate, groups=x.shape[1])
    return w.unit(x, f"{p}.3", f"{p}.4")


def torchvision_head(w, x, p):
    return w.conv(w.unit(aspp(w, x, f"{p}.0", (12, 24, 36)), f"{p}.1", f"{p}.2", padding=1), f"{p}.4")


# -- nets --------------------------------------------------------------------------------------------------------------
def fcn_resnet50(w, x):
    *_, third, fourth = resnet(w, x, "backbone.", *TV8)
    return {"aux": resized(fcn_head(w, third, "aux_classifier"), x),
            "out": resized(fcn_head(w, fourth, "classifier"), x)}


def deeplabv3_resnet50(w, x):
    *_, third, fourth = resnet(w, x, "backbone.", *TV8)
    return {"aux": resized(fcn_head(w, third, "aux_classifier"), x),
            "out": resized(torchvision_head(w, fourth, "classifier"), x)}


def deeplabv3_mobilenet(w, x):
    found = mobilenet_v3(w, x, "backbone.")
    return {"aux": resized(fcn_head(w, found[4], "aux_classifier"), x),
            "out": resized(torchvision_head(w, found[16], "classifier"), x)}


def lraspp(w, x):
    found = mobilenet_v3(w, x, "backbone.")
    low, high = found[4], found[16]
    gate = torch.sigmoid(w.conv(high.mean((2, 3), keepdim=True), "classifier.scale.1"))
    y = w.unit(high, "classifier.cbr.0", "classifier.cbr.1") * gate
    y = w.conv(low, "classifier.low_classifier") + w.conv(resized(y, low), "classifier.high_classifier")
    return {"out": resized(y, x)}


def deeplab_v3(layout, rates):
    def net(w, x):
        features = resnet(w, x, "backbone.", *layout)[-1]
        return {"out": resized(w.conv(aspp(w, features, "classifier.0", rates), "classifier.1"), x)}
    return net


def deeplab_v3_cascade(w, x):
    return {"out": resized(w.conv(resnet(w, x, "backbone.", *CASCADE)[-1], "classifier"), x)}


def decoded(w, x, low, high, rates, separable=False):
    large = resized(aspp(w, high, "classifier.aspp", rates, separable), low)
    y = torch.cat([large, w.unit(low, "classifier.reduce.0", "classifier.reduce.1")], 1)
    for k in (0, 1):
        y = filtered(w, y, f"classifier.refine.{k}", 1, separable)
    return {"out": resized(w.conv(y, "classifier.score"), x)}


def deeplab_v3plus(w, x):
    low, *_, high = resnet(w, x, "backbone.", *PAPER16)
    return decoded(w, x, low, high, (6, 12, 18))


def deeplab_v3plus_mobilenet(separable):
    def net(w, x):
        found = mobilenet_v2(w, x, "backbone.", *V2_8)
        return decoded(w, x, found[3], found[17], (12, 24, 36), separable)
    return net


def deeplab_v3plus_xception(w, x):
    """Every depthwise convolution: stride, rate, for an output stride of 16."""
    def block(x, name, stride=1, shortcut=True):
        y = x
        for k in range(3):
            s = stride if k == 2 else 1
            y = w.unit(F.relu(y), f"{name}.convs.{3 * k + 1}.0", f"{name}.convs.{3 * k + 1}.1", stride=s, padding=1,
                       groups=y.shape[1])
            y = w.unit(y, f"{name}.convs.{3 * k + 2}.0", f"{name}.convs.{3 * k + 2}.1", same)
        return y + (w.unit(x, f"{name}.shortcut.0", f"{name}.shortcut.1", same, stride=stride) if shortcut else x)

    y = w.unit(x, "backbone.stem.0.0", "backbone.stem.0.1", stride=2, padding=1)
    y = w.unit(y, "backbone.stem.1.0", "backbone.stem.1.1", padding=1)
    y = low = block(y, "backbone.entry1", 2)
    y = block(block(y, "backbone.entry2", 2), "backbone.entry3", 2)
    for k in range(1, 17):
        y = block(y, f"backbone.middle{k}", shortcut=False)
    y = block(y, "backbone.exit1")
    for k in (0, 2, 4):
        y = w.unit(y, f"backbone.exit2.{k}.0", f"backbone.exit2.{k}.1", padding=2, dilation=2, groups=y.shape[1])
        y = w.unit(y, f"backbone.exit2.{k + 1}.0", f"backbone.exit2.{k + 1}.1")
    return decoded(w, x, low, y, (6, 12, 18), True)


VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def deeplab_vgg(w, x):
    for k, stage in enumerate(VGG):
        rate = 2 if k == 4 else 1
        x = w.within(x, [f"base.features.{i}" for i in stage], padding=rate, dilation=rate)
        x = F.max_pool2d(x, 3, 2 if k < 3 else 1, 1)
    return x


def field_of_view(w, x, p, padding, rate):
    x = F.relu(w.conv(x, f"{p}.fc6", padding=padding, dilation=rate))
    return w.conv(F.relu(w.conv(x, f"{p}.fc7")), f"{p}.fc8")


def deeplab_v1(padding, rate):
    def net(w, x):
        y = F.avg_pool2d(deeplab_vgg(w, x), 3, 1, 1)
        y = field_of_view(w, y, "base.fov", padding, rate)
        return {"1x": y, "logits": resized(y, x, align_corners=True)}
    return net


def scored(base, w, x):
    """Three scales and their maximum."""
    found = {"1x": base(w, x)}
    for scale in (0.5, 0.75):
        found[f"{scale}x"] = base(w, F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False))
    found["max"] = torch.stack([resized(y, found["1x"]) for y in found.values()]).amax(0)
    return {**found, "logits": resized(found["max"], x)}


def deeplab_v2_vgg(w, x):
    def base(w, x):
        y = deeplab_vgg(w, x)
        return sum(field_of_view(w, y, f"base.aspp.c{k}", rate, rate) for k, rate in enumerate((2, 4, 8, 12)))
    return scored(base, w, x)


def deeplab_v2_resnet101(w, x):
    def unit(x, name, act=F.relu, **options):
        return w.unit(x, f"base.{name}.conv", f"base.{name}.bn", act, **options)

    def base(w, x):
        x = F.max_pool2d(unit(x, "layer1.conv1", stride=2, padding=3), 3, 2, 1, ceil_mode=True)
        for layer, blocks, stride, rate in ((2, 3, 1, 1), (3, 4, 2, 1), (4, 23, 1, 2), (5, 3, 1, 4)):
            for b in range(1, blocks + 1):
                name, s = f"layer{layer}.block{b}", stride if b == 1 else 1
                y = unit(x, f"{name}.reduce", stride=s)
                y = unit(y, f"{name}.conv3x3", padding=rate, dilation=rate)
                y = unit(y, f"{name}.increase", same)
                x = F.relu(y + (unit(x, f"{name}.shortcut", same, stride=s) if b == 1 else x))
        return sum(w.conv(x, f"base.aspp.c{k}", padding=rate, dilation=rate) for k, rate in enumerate((6, 12, 18, 24)))
    return scored(base, w, x)


def fcn(stride):
    """Crops are the paper's numbers."""
    skips = [("upscore2", "score_pool4", 3, 5), ("upscore_pool4", "score_pool3", 2, 9)]
    skips, crop = {32: (skips[:0], 19), 16: (skips[:1], 27), 8: (skips, 31)}[stride]

    def net(w, x):
        y = F.pad(x, (99,) * 4)
        pools = []
        for k, stage in enumerate(VGG, 1):
            y = w.within(y, [f"conv{k}.{2 * i}" for i in range(len(stage))], padding=1)
            y = F.max_pool2d(y, 2, 2, ceil_mode=True)
            pools.append(y)
        y = w.conv(w.within(w.within(y, ["fc6"]), ["fc7"]), "score_fr")
        for up, score, pool, offset in skips:
            y = w.up(y, up, stride=2)
            h, v = y.shape[2:]
            y = y + w.conv(pools[pool], score)[:, :, offset:offset + h, offset:offset + v]
        y = w.up(y, "upscore", stride=stride)
        return {"out": y[:, :, crop:crop + x.shape[2], crop:crop + x.shape[3]]}
    return net


def fc_densenet(w, x, blocks):
    def block(x, p, layers):
        new = []
        for k in range(layers):
            name = f"{p}.layers.{k}"
            y = F.relu(w.norm(torch.cat([x, *new], 1), f"{name}.0"))
            new.append(w.conv(y, f"{name}.2", padding=1))
        return torch.cat(new, 1)

    *way, bottom = blocks
    x, skips = w.conv(x, "first", padding=1), []
    for k, layers in enumerate(way):
        x = torch.cat([x, block(x, f"down.{k}", layers)], 1)
        skips.append(x)
        x = F.max_pool2d(w.conv(F.relu(w.norm(x, f"shrink.{k}.0")), f"shrink.{k}.2"), 2)
    new = block(x, "bottom", bottom)
    for k, layers in enumerate(reversed(way)):
        x = torch.cat([w.up(new, f"enlarge.{k}", stride=2, padding=1, output_padding=1), skips.pop()], 1)
        new = block(x, f"up.{k}", layers)
    return {"out": w.conv(torch.cat([x, new], 1), "last")}


# -- classifiers -------------------------------------------------------------------------------------------------------
def densenet121(w, x):
    x = F.max_pool2d(w.unit(x, "features.conv0", "features.norm0", stride=2, padding=3), 3, 2, 1)
    for k, layers in enumerate((6, 12, 24, 16), 1):
        x = dense_block(w, x, f"features.denseblock{k}", layers)
        if k < 4:
            name = f"features.transition{k}"
            x = F.avg_pool2d(w.conv(F.relu(w.norm(x, f"{name}.norm")), f"{name}.conv"), 2)
    return {"out": w.linear(F.relu(w.norm(x, "features.norm5")).mean((2, 3)), "classifier")}


def resnet18(w, x):
    return {"out": w.linear(basic_resnet(w, x, (2, 2, 2, 2)).mean((2, 3)), "fc")}


def resnet34(w, x):
    return {"out": w.linear(basic_resnet(w, x, (3, 4, 6, 3)).mean((2, 3)), "fc")}


def vgg16(w, x):
    for stage in VGG:
        x = F.max_pool2d(w.within(x, [f"features.{i}" for i in stage], padding=1), 2)
    return vgg16_classifier(w, x)


def vgg16_bn(w, x):
    for stage in ((0, 3), (7, 10), (14, 17, 20), (24, 27, 30), (34, 37, 40)):
        for i in stage:
            x = w.unit(x, f"features.{i}", f"features.{i + 1}", padding=1)
        x = F.max_pool2d(x, 2)
    return vgg16_classifier(w, x)


def vgg16_classifier(w, x):
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for k in (0, 3):
        x = F.relu(w.linear(x, f"classifier.{k}"))
    return {"out": w.linear(x, "classifier.6")}


def mobilenet_v2_classifier(w, x):
    x = mobilenet_v2(w, x, "features.", *V2_32)[-1]
    x = w.unit(x, "features.18.0", "features.18.1", F.relu6)
    return {"out": w.linear(x.mean((2, 3)), "classifier.1")}
