"""How the papers trained their nets, as settings of a run.

Each function gives fields of `Config` and its parts by name, and remarks on what no setting can say; its docstring
says where they are from.  Weights of ImageNet are where nearly all of them begin; from scratch their rates are small.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any

from tinyseg.errors import ArgumentError
from tinyseg.training.config import NO_PLACE, Config

__all__ = ["NAMES", "Preset", "preset", "with_preset"]

NAMES = ("paper",)
SHRUNK = "the loss compares the coarse scores with masks shrunk to them"
ENLARGED = "the loss compares scores enlarged to the image with whole masks"


@dataclass(frozen=True)
class Preset:
    """Fields of `Config` and its parts by their names; "options" are those of the net.

    remarks    what no field can say, a line each
    source     where they are from
    """

    values: dict[str, Any]
    remarks: tuple[str, ...]
    source: str = ""


def fcn(name: str) -> Preset:
    """Shelhamer, Long & Darrell, arXiv:1605.06211, with the solvers of
    github.com/shelhamer/fcn.berkeleyvision.org.

    The loss is summed over an image: 500 x 375 pixels make 1e-10 a rate of 1.9e-5 for the mean, and momentum 0.99
    multiplies steps by 100 in the long run.  100,000 steps a stage; 300,000 where 8s is trained at once.
    """
    stage = {"fcn32s": 1e-10, "fcn16s": 1e-12, "fcn8s": 1e-14, "fcn8s_at_once": 1e-10}
    before = {"fcn16s": "fcn32s", "fcn8s": "fcn16s"}.get(name)
    begin = f"the weights of {before}: give its run to --init" if before else "VGG16 trained on ImageNet"
    return Preset({
        "optimizer": "sgd", "learning_rate": stage[name], "momentum": 0.99, "weight_decay": 5e-4,
        "groups": ("bias$:lr=2,decay=0",), "schedule": "constant", "loss": "ce", "reduction": "sum", "batch_size": 1,
        "steps": 300_000 if name == "fcn8s_at_once" else 100_000, "flip": 0.0, "crop": None, "scale": None,
    }, (f"begins with {begin}", ENLARGED))


def torchvision(name: str) -> Preset:
    """torchvision's reference training, references/segmentation, for nets on ResNets: 8 processes of 4 images, each
    with its own batch statistics, which is 8 batches accumulated here.

    There is no paper of this FCN.  Weight decay has no exceptions, and the auxiliary head learns 10 times as fast.
    """
    return Preset({
        "optimizer": "sgd", "learning_rate": 0.02, "momentum": 0.9, "weight_decay": 1e-4,
        "groups": ("^aux_classifier:lr=10",), "schedule": "poly", "loss": "ce", "batch_size": 4, "accumulate": 8,
        "epochs": 30, "resize": 520, "scale": (0.5, 2.0), "crop": (480, 480), "flip": 0.5,
    }, ("begins with a ResNet trained on ImageNet", ENLARGED))


def deeplab_v1(name: str) -> Preset:
    """Chen et al., arXiv:1412.7062: 20 images a batch, the rate divided by 10 every 2,000 of 6,000 steps, 10 times the
    rate for the last layer; crops of 321 and Caffe's factors for biases as in the authors' solver.

    321 = 8·40 + 1, so that the 41 x 41 scores lie on every eighth pixel.  Biases learn twice as fast and do not decay,
    which makes 20 for those of the last layer.
    """
    return Preset({
        "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 5e-4,
        "groups": (r"\.fc8\.:lr=10", "bias$:lr=2,decay=0"), "schedule": "step", "milestones": (1 / 3, 2 / 3),
        "factor": 0.1, "loss": "ce", "batch_size": 20, "steps": 6000, "crop": (321, 321), "flip": 0.5,
    }, ("begins with VGG16 trained on ImageNet", SHRUNK))


def deeplab_v2(name: str) -> Preset:
    """Chen et al., arXiv:1606.00915, with the settings of github.com/kazuto1011/deeplab-pytorch: 20,000
    steps of 10 images, 5 at a time, batch statistics as they were trained.

    10 x 20,000 images are 18.9 epochs of VOC's 10,582.  The layers that score, on ResNet-101 those of ASPP and on VGG16
    its fc8, learn 10 times as fast, and their biases 20 times, without decay.
    """
    return Preset({
        "optimizer": "sgd", "learning_rate": 2.5e-4, "momentum": 0.9, "weight_decay": 5e-4,
        "groups": (r"\.fc8\.|\.aspp\.c\d\.(weight|bias)$:lr=10", "bias$:lr=2,decay=0"), "schedule": "poly",
        "loss": "ce", "batch_size": 5, "accumulate": 2, "steps": 20_000, "scale": (0.5, 0.75, 1.0, 1.25, 1.5),
        "crop": (321, 321), "flip": 0.5, "options": {"frozen_norm": True},
    }, ("begins with weights trained on MS-COCO, whose batch statistics stay; without --init they are trained, and the "
        "paper's rate is too large: the first steps bear --lr 2.5e-6", SHRUNK))


def deeplab_v3(name: str) -> Preset:
    """Chen et al., arXiv:1706.05587, section 4.1, the first of two stages: output stride 16, 30,000 steps of 16 images,
    which is 45 epochs of VOC's 10,582.  Weight decay is that of github.com/tensorflow/models, research/deeplab, for
    ResNets.

    The second stage: -o output_stride=8 --frozen-norm --lr 0.001 --init FIRST.
    """
    return Preset({
        "optimizer": "sgd", "learning_rate": 0.007, "momentum": 0.9, "weight_decay": 1e-4,
        "groups": ("vectors:decay=0",), "schedule": "poly", "loss": "ce", "batch_size": 16, "steps": 30_000,
        "scale": (0.5, 2.0), "crop": (513, 513), "flip": 0.5, "options": {"output_stride": 16},
    }, ("begins with a ResNet trained on ImageNet, whose batch statistics move by 0.0003 a step; here they move by 0.1",
        ENLARGED))


def unet(name: str) -> Preset:
    """Ronneberger, Fischer & Brox, arXiv:1505.04597, section 3: one tile of 572 a step, momentum 0.99, the weight map
    of borders, elastic deformations of 10 pixels on a 3 x 3 grid, dropout at the end of the way down.

    The paper names no learning rate, no length and no strength of rotations and grey values; 1e-3 is ours.
    """
    return Preset({
        "optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.99, "weight_decay": 0.0,
        "schedule": "constant", "loss": "ce", "border_weights": 10.0, "batch_size": 1, "crop": (572, 572),
        "elastic": 10.0, "flip": 0.0, "options": {"dropout": 0.5},
    }, ("the paper names no learning rate; 0.001 is a guess",
        *(["unet_paper is the published net: no padding, no normalisation"] if name == "unet" else [])))


def fc_densenet(name: str) -> Preset:
    """Jegou et al., arXiv:1611.09326, section 4.1, with the settings of github.com/SimJeg/FC-DenseNet: the first of two
    stages, on crops of 224; the rate times 0.995 after every epoch, up to 750 of them.

    Their RMSprop forgets with 0.9, this one with 0.99.  The second stage is on whole images: --lr 1e-4 --init FIRST.
    """
    return Preset({
        "optimizer": "rmsprop", "learning_rate": 1e-3, "momentum": 0.0, "weight_decay": 1e-4,
        "groups": ("vectors:decay=0",), "schedule": "exponential", "factor": 0.995, "loss": "ce", "batch_size": 5,
        "epochs": 750, "crop": (224, 224), "flip": 0.5,
    }, ("the authors stop when the validation set has not improved for 150 epochs; best.safetensors is the best",))


_PAPER: dict[str, Callable[[str], Preset]] = {
    **dict.fromkeys(("fcn32s", "fcn16s", "fcn8s", "fcn8s_at_once"), fcn),
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"), torchvision),
    "deeplab_v1": deeplab_v1, "deeplab_v2": deeplab_v2, "deeplab_v3": deeplab_v3,
    **dict.fromkeys(("unet", "unet_paper"), unet), **dict.fromkeys(("fc_densenet56", "fc_densenet103"), fc_densenet)}


def preset(name: str, model: str) -> Preset:
    """The settings that a name of `NAMES` stands for with a net.  Raises ArgumentError where there are none."""
    if name not in NAMES:
        raise ArgumentError(f"preset {name!r}: legal: {', '.join(NAMES)}")
    if model not in _PAPER:
        raise ArgumentError(f"preset {name!r} with {model}: nets that have one: {', '.join(_PAPER)}")
    found = _PAPER[model](model)
    return replace(found, source=" ".join(_PAPER[model].__doc__.split("\n\n")[0].split()))


def with_preset(config: Config, chosen: Preset, keep: Collection[str] = ()) -> Config:
    """`config` with the values of a preset, but for the fields named in `keep`; the net's own options win too.

    Batch normalisations are frozen only where weights to begin with, `config.model.init`, bring their statistics.
    """
    gone = {"options", *keep, *(NO_PLACE.get(config.optim.loss, ()) if "loss" in keep else ())}
    values = {name: value for name, value in chosen.values.items() if name not in gone}
    if "epochs" in keep or "steps" in keep:          # one of them decides the length
        values = {name: value for name, value in values.items() if name not in ("epochs", "steps")}

    def changed(part: Any) -> Any:
        return replace(part, **{f.name: values.pop(f.name) for f in fields(part) if f.name in values})

    options = {**chosen.values.get("options", {})}
    if config.model.init is None:                    # fresh statistics, frozen, would normalise nothing
        options.pop("frozen_norm", None)
    model = replace(config.model, options={**options, **config.model.options})
    return changed(replace(config, data=changed(config.data), augment=changed(config.augment), model=model,
                           optim=changed(config.optim)))
