"""`tinyseg train`."""

from pathlib import Path
from typing import Annotated

import typer

from tinyseg.cli.options import Options, class_names, net_options, numbers
from tinyseg.cli.outcome import print_outcome, running
from tinyseg.errors import ArgumentError

__all__ = ["image_size", "train"]

DATA, NET, AUGMENT, OPTIM, RUN = "Data", "Net", "Augmentation", "Loss and optimiser", "Run"


def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The net: [bold]unet[/bold], [bold]deeplab_v3[/bold] ...; "
                                              "[bold]tinyseg models[/bold] lists them.")] = "unet",
    preset: Annotated[str | None, typer.Option(
        help="paper: train as the net's paper did, which is then printed; whatever else is given here wins.")] = None,
    # -- data
    images: Annotated[Path | None, typer.Option(help="Folder of training images.", rich_help_panel=DATA)] = None,
    masks: Annotated[Path | None, typer.Option(
        help="Folder of their masks, of the same names: palette or grey PNGs whose values are class indices; 255 is "
             "not labelled. Masks of 0/255 or of colours are recognised, and told.", rich_help_panel=DATA)] = None,
    val_images: Annotated[Path | None, typer.Option(
        help="Folder of validation images; else part of the training images is held out.",
        rich_help_panel=DATA)] = None,
    val_masks: Annotated[Path | None, typer.Option(help="Folder of their masks.", rich_help_panel=DATA)] = None,
    val_fraction: Annotated[float, typer.Option(
        help="Share of the images that is held out when there is no validation folder.", rich_help_panel=DATA)] = 0.2,
    voc: Annotated[Path | None, typer.Option(
        help="A VOC tree (VOCdevkit or VOC2012), in place of folders.", rich_help_panel=DATA)] = None,
    street: Annotated[int | None, typer.Option(
        min=2, help="So many drawn street scenes, in place of files.", rich_help_panel=DATA)] = None,
    classes: Annotated[str | None, typer.Option(
        help="Names of the classes in order of label: a,b,c, or a text file with a name a line.",
        rich_help_panel=DATA)] = None,
    num_classes: Annotated[int | None, typer.Option(
        min=1, help="Number of classes; else found in the masks.", rich_help_panel=DATA)] = None,
    ignore_value: Annotated[int | None, typer.Option(
        min=0, max=255, help="A value in the masks that means 'not labelled', besides 255.",
        rich_help_panel=DATA)] = None,
    mask_encoding: Annotated[str, typer.Option(
        help="auto, index, binary or color; auto says what it found.", rich_help_panel=DATA)] = "auto",
    grey: Annotated[bool, typer.Option("--grey", help="Read images as grey, one channel.",
                                       rich_help_panel=DATA)] = False,
    resize: Annotated[str | None, typer.Option(
        help="Bring every image to HxW, or its shorter side to N.", rich_help_panel=DATA)] = None,
    # -- net
    option: Options = None,
    base_channels: Annotated[int | None, typer.Option(
        min=1, help="U-Net: channels of the first stage; each stage doubles them.", rich_help_panel=NET)] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="U-Net: how often the size is halved.",
                                              rich_help_panel=NET)] = None,
    padding: Annotated[str | None, typer.Option(
        help="U-Net: same: any size, output as large as the input; valid: the paper's, the output is smaller.",
        rich_help_panel=NET)] = None,
    up: Annotated[str | None, typer.Option(help="U-Net: transposed (learned) or bilinear up-sampling.",
                                           rich_help_panel=NET)] = None,
    norm: Annotated[str | None, typer.Option(help="U-Net: batch, or none.", rich_help_panel=NET)] = None,
    dropout: Annotated[float | None, typer.Option(
        min=0, max=0.95, help="Probability, in nets that have it.", rich_help_panel=NET)] = None,
    frozen_norm: Annotated[bool | None, typer.Option(
        "--frozen-norm/--trained-norm", rich_help_panel=NET,
        help="Keep batch normalisations as they are, for small batches on trained weights.")] = None,
    init: Annotated[Path | None, typer.Option(
        help="Begin with the weights of this run, or checkpoint, of the same net; fcn16s may begin with fcn32s, and "
             "fcn8s with fcn16s.", rich_help_panel=NET)] = None,
    # -- augmentation
    crop: Annotated[str | None, typer.Option(help="Random crops of HxW or N.", rich_help_panel=AUGMENT)] = None,
    scale: Annotated[str | None, typer.Option(
        help="Random factor of the size, LOW,HIGH; or three factors or more, one of which is chosen.",
        rich_help_panel=AUGMENT)] = None,
    flip: Annotated[float, typer.Option(
        min=0, max=1, help="Probability of a horizontal flip.", rich_help_panel=AUGMENT)] = 0.5,
    vertical_flip: Annotated[float, typer.Option(
        min=0, max=1, help="Probability of a vertical flip.", rich_help_panel=AUGMENT)] = 0.0,
    rotate90: Annotated[bool, typer.Option("--rotate90", help="Random quarter turns.",
                                           rich_help_panel=AUGMENT)] = False,
    rotate: Annotated[float, typer.Option(
        min=0, max=180, help="Largest random rotation in degrees.", rich_help_panel=AUGMENT)] = 0.0,
    elastic: Annotated[float, typer.Option(
        min=0, help="Sigma of elastic deformation in pixels; U-Net's paper has 10.", rich_help_panel=AUGMENT)] = 0.0,
    color: Annotated[float, typer.Option(
        min=0, max=1, help="Strength of random brightness, contrast, saturation.", rich_help_panel=AUGMENT)] = 0.0,
    noise: Annotated[float, typer.Option(
        min=0, help="Largest sigma of Gaussian noise, in grey levels.", rich_help_panel=AUGMENT)] = 0.0,
    # -- loss and optimiser
    loss: Annotated[str, typer.Option(
        help="ce; ohem: ce of the hard pixels alone; dice, ce+dice or focal.", rich_help_panel=OPTIM)] = "ce",
    reduction: Annotated[str, typer.Option(
        help="Of the loss over pixels: mean; or sum over each image, for rates like 1e-10.",
        rich_help_panel=OPTIM)] = "mean",
    ohem_threshold: Annotated[float, typer.Option(
        min=0, max=1, help="Pixels are hard below this probability of their label.", rich_help_panel=OPTIM)] = 0.7,
    ohem_min_kept: Annotated[float, typer.Option(
        min=0, max=1, help="Share of the labelled pixels that counts as hard at least.",
        rich_help_panel=OPTIM)] = 0.0625,
    class_weights: Annotated[str | None, typer.Option(
        help="balanced (1/sqrt of the share of pixels), median-frequency, inverse-log, or a number for each class: "
             "1,2.5,1.", rich_help_panel=OPTIM)] = None,
    border_weights: Annotated[float, typer.Option(
        min=0, help="Weight w0 of narrow gaps between objects, U-Net's has 10; 0 leaves the map out.",
        rich_help_panel=OPTIM)] = 0.0,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.99, help="Of the cross-entropy.",
                                                   rich_help_panel=OPTIM)] = 0.0,
    optimizer: Annotated[str, typer.Option(help="adamw, adam, sgd or rmsprop.", rich_help_panel=OPTIM)] = "adamw",
    lr: Annotated[float, typer.Option(help="Learning rate at its height.", rich_help_panel=OPTIM)] = 1e-3,
    momentum: Annotated[float, typer.Option(help="Of sgd and rmsprop; beta1 of adam.", rich_help_panel=OPTIM)] = 0.9,
    weight_decay: Annotated[float, typer.Option(
        help="Pulls parameters to 0, but for those that --group spares.", rich_help_panel=OPTIM)] = 1e-4,
    group: Annotated[list[str] | None, typer.Option(
        metavar="PATTERN:lr=X,decay=Y", rich_help_panel=OPTIM,
        help="Parameters in whose names the regular expression PATTERN is found learn at X times the rate and Y times "
             "the decay; may be repeated, and factors multiply: --group '^classifier:lr=10' "
             "--group 'bias$:lr=2,decay=0'. The default, vectors:decay=0, is that biases and norms do not decay.")
        ] = None,
    schedule: Annotated[str, typer.Option(
        help="poly, cosine, step, exponential or constant.", rich_help_panel=OPTIM)] = "poly",
    milestones: Annotated[str | None, typer.Option(
        help="Of step: shares of the run after which the rate falls, 0.67,0.89.", rich_help_panel=OPTIM)] = None,
    factor: Annotated[float | None, typer.Option(
        min=0, max=1, help="Of the rate, at each milestone of step (0.1) or after each epoch of exponential (0.995).",
        rich_help_panel=OPTIM)] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Steps in which the rate rises from 0.",
                                        rich_help_panel=OPTIM)] = 0,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.",
                                                    rich_help_panel=OPTIM)] = None,
    # -- run
    epochs: Annotated[int, typer.Option(min=1, help="Times through the training images.", rich_help_panel=RUN)] = 20,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in steps, in place of epochs.",
                                              rich_help_panel=RUN)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch.", rich_help_panel=RUN)] = 4,
    accumulate: Annotated[int, typer.Option(
        min=1, help="Batches whose gradients are averaged for a step.", rich_help_panel=RUN)] = 1,
    evaluate_every: Annotated[int | None, typer.Option(
        min=1, help="Steps between evaluations; default: an epoch.", rich_help_panel=RUN)] = None,
    checkpoint_every: Annotated[int | None, typer.Option(
        min=1, help="Steps between checkpoints; default: as evaluations.", rich_help_panel=RUN)] = None,
    statistics: Annotated[int, typer.Option(
        min=0, help="Batches from which batch norm's statistics are taken anew, without dropout, before each "
                    "evaluation: for nets with dropout, and for short runs.", rich_help_panel=RUN)] = 0,
    tile: Annotated[int | None, typer.Option(
        min=16, help="Validate in overlapping tiles of this side; default: whole images.",
        rich_help_panel=RUN)] = None,
    precision: Annotated[str, typer.Option(
        help="Of float32 products: highest, high, or medium (bf16), the fastest.", rich_help_panel=RUN)] = "high",
    workers: Annotated[int, typer.Option(min=0, help="Threads that load images.", rich_help_panel=RUN)] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation.", rich_help_panel=RUN)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.", rich_help_panel=RUN)] = Path("runs/train"),
    resume: Annotated[bool, typer.Option(
        "--resume", help="Go on with the run in --out; all other options come from its config.json.",
        rich_help_panel=RUN)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.",
                                            rich_help_panel=RUN)] = False,
) -> None:
    """Train a net on your images, and report how well it segments them.

    [bold]tinyseg train unet --images photos --masks labels --crop 256 --epochs 50 --out runs/mine[/bold]

    A run can be stopped with Ctrl-C, or killed: [bold]tinyseg train --resume --out runs/mine[/bold] goes on from the
    last checkpoint, to the same weights bit for bit as an uninterrupted run (same machine, same number of
    threads).  Its folder holds config.json,
    metrics.csv, last.safetensors, best.safetensors (the best mean IoU on the validation images) and in the end
    report.html.  Without data it trains on drawn street scenes.
    """
    from tinyseg import training
    from tinyseg.cli.progress import ProgressBar
    if resume:
        with running(out):
            return print_outcome(training.resume(out, ProgressBar()))
    files = any(p is not None for p in (images, masks, val_images, val_masks))
    if sum((files, voc is not None, street is not None)) > 1:
        raise ArgumentError("train: give one source of data: --images and --masks, or --voc, or --street")
    data = training.DataConfig(
        kind="folder" if files else "voc" if voc else "street", images=_text(images), masks=_text(masks),
        val_images=_text(val_images), val_masks=_text(val_masks), val_fraction=val_fraction, root=_text(voc),
        count=street or 256, val_count=max(1, (street or 256) // 5), channels=1 if grey else 3,
        classes=class_names(classes), num_classes=num_classes, ignore_value=ignore_value, mask_encoding=mask_encoding,
        resize=image_size(resize, "resize", square=False), seed=seed)
    augment = training.AugmentConfig(
        scale=scale and numbers(scale, "scale", 2), rotate=rotate, elastic=elastic, crop=image_size(crop, "crop"),
        flip=flip, vertical_flip=vertical_flip, rotate90=rotate90, color=color, noise=noise)
    options = {"base_channels": base_channels, "depth": depth, "padding": padding, "up": up, "norm": norm,
               "dropout": dropout, "frozen_norm": frozen_norm}
    options = {name: value for name, value in options.items() if value is not None} | net_options(option)
    if options.get("norm") == "none":
        options["norm"] = None
    optional = {"groups": tuple(group or ()), "milestones": milestones and numbers(milestones, "milestones")}
    optim = training.OptimConfig(
        optimizer=optimizer, learning_rate=lr, momentum=momentum, weight_decay=weight_decay, schedule=schedule,
        factor=factor, warmup=warmup, clip_norm=clip_norm, loss=loss, reduction=reduction,
        ohem_threshold=ohem_threshold, ohem_min_kept=ohem_min_kept, label_smoothing=label_smoothing,
        class_weights=_class_weights(class_weights), border_weights=border_weights,
        **{name: value for name, value in optional.items() if value})
    config = training.Config(
        data, augment, training.ModelConfig(model, options, _text(init)), optim, epochs=epochs, steps=steps,
        batch_size=batch_size, accumulate=accumulate, evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every, statistics=statistics, tile=tile, workers=workers, seed=seed,
        precision=precision)
    progress = ProgressBar()
    if preset:
        chosen = training.preset(preset, model)
        config = training.with_preset(config, chosen, keep=_given(context))
        for line in (f"{preset} of {model}: {chosen.source}", *chosen.remarks):
            progress.told(line)
    with running(out):
        print_outcome(training.train(config, out, progress, overwrite))


def _given(context: typer.Context) -> set[str]:
    """The fields of the configuration that the command line sets."""
    named = {"lr": "learning_rate", "group": "groups"}
    return {named.get(name, name) for name in context.params
            if context.get_parameter_source(name).name != "DEFAULT"}


def _text(path: Path | None) -> str | None:
    """Absolute, so that a run can be resumed from anywhere."""
    return None if path is None else str(path.absolute())


def image_size(value: str | None, name: str, square: bool = True) -> tuple[int, int] | int | None:
    """'HxW' or 'N'."""
    if value is None:
        return None
    try:
        numbers = [int(n) for n in value.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise ArgumentError(f"--{name} {value}: needs HxW or one number, for example 256x320 or 256")
    return (numbers[0], numbers[-1]) if square or len(numbers) == 2 else numbers[0]


def _class_weights(value: str | None) -> str | tuple[float, ...] | None:
    from tinyseg.training.balance import RULES
    if value in RULES:
        return value
    try:
        return value and numbers(value, "class-weights")
    except ArgumentError as error:
        raise ArgumentError(f"--class-weights {value}: needs {', '.join(RULES)}, or numbers with commas between, one "
                            "for each class") from error
