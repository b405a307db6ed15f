"""FCN-32s, -16s and -8s on VGG16 (Shelhamer, Long & Darrell, arXiv:1605.06211, figure 3 and section 4).

The fully connected layers of VGG16 become convolutions, a 1x1 convolution scores their result, and a transposed
convolution that interpolates bilinearly brings the scores back to the image, by 32 at once, or in steps that add the
scores of pool4 and pool3 on the way.

Traps: the first convolution pads by 100, so that the 7x7 layer fits on small images; poolings round their size up; and
what is added or returned is cropped so that the centres of its units meet, by 5, 9, 19, 27 and 31 cells.  Those offsets
follow from the layers' arithmetic and are computed here.  The authors' weights, of Caffe, see images as blue, green,
red, 0..255 minus the mean colour; `interop` turns them to red, green, blue.
"""

from __future__ import annotations

from fractions import Fraction

from tinyseg import nn
from tinyseg.arithmetic import ReceptiveField
from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError
from tinyseg.models.segmenter import Segmenter
from tinyseg.models.vgg import VGG16, stages
from tinyseg.nn import init
from tinyseg.nn.containers import chain

__all__ = ["FCN"]

_AT_ONCE = {4: 1e-2, 3: 1e-4}                        # scales of pool4 and pool3 where all of 8s is trained at once


class FCN(Segmenter):
    """(N, in_channels, H, W) -> logits (N, num_classes, H, W), of any size.

    stride      32, 16 or 8: what the last up-sampling makes up for
    at_once     for stride 8: scale the poolings before they are scored, so that all three can be trained together
                instead of 32s, 16s and 8s one after the other
    learn_up    train the up-sampling too; it starts as bilinear interpolation
    hidden      channels of fc6 and fc7

    Trained parameters for 3 channels and 21 classes: 134,346,581 (32s), 134,357,354 (16s), 134,362,751 (8s).
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 21, stride: int = 8, at_once: bool = False,
                 learn_up: bool = False, dropout: float = 0.5, hidden: int = 4096):
        if stride not in (8, 16, 32):
            raise ArgumentError(f"FCN: stride {stride}; legal: 8, 16, 32")
        if at_once and stride != 8:
            raise ArgumentError(f"FCN: at_once with stride {stride}; it is a way to train stride 8")
        self.in_channels, self.stride, self.at_once = in_channels, stride, at_once
        for k, layers in enumerate(stages(in_channels, None, pool=False), 1):
            if k == 1:
                layers[0] = nn.Conv2d(in_channels, 64, 3, padding=100)
            setattr(self, f"conv{k}", nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.fc6 = nn.Conv2d(512, hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(dropout)
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)
        if stride <= 16:
            self.score_pool4 = nn.Conv2d(512, num_classes, 1)
            self.upscore2 = _up(num_classes, 2, learn_up)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(256, num_classes, 1)
            self.upscore_pool4 = _up(num_classes, 2, learn_up)
        self.upscore = _up(num_classes, stride, learn_up)
        self._initialize()
        self._offsets = self._align()

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        size, pools = x.shape[2:], {}
        for k in range(1, 6):
            x = pools[k] = self.pool(getattr(self, f"conv{k}")(x))
        x = chain((self.fc6, self.relu, self.dropout, self.fc7, self.relu, self.dropout, self.score_fr), x)
        if self.stride <= 16:
            x = self._add(self.upscore2(x), self.score_pool4, pools[4], 4)
        if self.stride == 8:
            x = self._add(self.upscore_pool4(x), self.score_pool3, pools[3], 3)
        return _crop(self.upscore(x), self._offsets["image"], size)

    def _add(self, x: Tensor, score: nn.Conv2d, pool: Tensor, k: int) -> Tensor:
        """Scores of pooling k, cropped to x, added to it."""
        if self.at_once:
            pool = pool * _AT_ONCE[k]
        return x + _crop(score(pool), self._offsets[f"pool{k}"], x.shape[2:])

    def _align(self) -> dict[str, int]:
        """How many cells to crop before the first one that is kept: where the centres of fields meet."""
        field, pools = ReceptiveField(), {}
        for k in range(1, 6):
            for layer in getattr(self, f"conv{k}"):
                if isinstance(layer, nn.Conv2d):
                    field = field.convolution(3, p=layer.padding[0])
            field = pools[k] = field.convolution(2, 2)
        field = field.convolution(7)
        offsets = {}
        for k in range(4, 4 - {32: 0, 16: 1, 8: 2}[self.stride], -1):
            field = field.transposed(4, 2)
            offsets[f"pool{k}"] = _whole((field.start - pools[k].start) / pools[k].stride)
        field = field.transposed(2 * self.stride, self.stride)
        return {**offsets, "image": _whole(-field.start / field.stride)}

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.he_normal_(module.weight)
                init.zeros_(module.bias)
        for name, module in self.named_modules():
            if name.startswith("score"):             # the net starts without an opinion
                init.zeros_(module.weight)

    def load_classifier(self, net: VGG16) -> None:
        """Start from a trained VGG16 (norm=None): its first two fully connected layers, seen as convolutions."""
        with no_grad():
            if net.classifier is None:
                raise ArgumentError("FCN: a VGG16 without classifier; fc6 and fc7 start from its first two layers")
            convolutions = [m for k in range(1, 6) for m in getattr(self, f"conv{k}") if isinstance(m, nn.Conv2d)]
            theirs = [m for m in net.features if isinstance(m, nn.Conv2d)]
            full = [m for m in net.classifier if isinstance(m, nn.Linear)][:2]
            for mine, other in zip([*convolutions, self.fc6, self.fc7], [*theirs, *full], strict=True):
                mine.weight[...] = other.weight.data.reshape(mine.weight.shape)
                mine.bias[...] = other.bias.data

    def load_coarser(self, net: FCN) -> None:
        """Start from a trained net of twice the stride, the step from 32s to 16s and from 16s to 8s.

        Its scores and up-sampling go on; what is new starts at zero and as interpolation.
        """
        if net.stride != 2 * self.stride:
            raise ArgumentError(f"FCN: stride {self.stride} from stride {net.stride}; needs {2 * self.stride}")
        weights = {name: array for name, array in net.state_dict().items() if not name.startswith("upscore.")}
        self.load_state_dict(weights, strict=False)


def _up(channels: int, factor: int, learn: bool) -> nn.ConvTranspose2d:
    """Bilinear interpolation by `factor` as a transposed convolution."""
    up = nn.ConvTranspose2d(channels, channels, 2 * factor, stride=factor, bias=False)
    init.bilinear_(up.weight)
    up.weight.requires_grad = learn
    return up


def _crop(x: Tensor, offset: int, size: tuple[int, int]) -> Tensor:
    return x[:, :, offset:offset + size[0], offset:offset + size[1]]


def _whole(offset: Fraction) -> int:
    assert offset == int(offset) >= 0, "the centres do not meet"
    return int(offset)
