"""Losses of segmentation.  All take logits, and are exact where a probability rounds to 0 or 1.

Masks usually mark what is not to be learned by 255: pass `ignore_index=255`.  An ignored pixel counts nowhere, neither
in a sum nor in a denominator, and its gradient is exactly 0 whatever its logits; when all are ignored the loss is 0
(PyTorch gives nan).
"""

from __future__ import annotations

import math
from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd import Function, Tensor, as_tensor, no_grad, where
from tinyseg.errors import ArgumentError, DTypeError, ShapeError, about
from tinyseg.functional.activation import logistic, sigmoid, softmax
from tinyseg.functional.checks import channels_first, floating, one_of, per_channel
from tinyseg.kernels.registry import run

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "dice_loss", "focal_loss", "ohem_cross_entropy"]

_REDUCTIONS = ("mean", "sum", "none")
_NEVER = -100                                        # PyTorch's default ignore_index: no mask contains it


class CrossEntropy(Function):
    """Every pixel's weighted loss u · Σ q_c w_c (log Σ exp x - x_c).    dx_c = u · dl · ((Σ q w) p_c - q_c w_c)."""

    def __init__(self, target: Array, class_weight: Array, pixel_weight: Array, smoothing: float, ignore: int):
        self.target, self.class_weight, self.pixel_weight = target, class_weight, pixel_weight
        self.smoothing, self.ignore = smoothing, ignore

    def forward(self, x: Array) -> tuple[Array, Array]:
        loss, weight, *normalizers, stray = run("cross_entropy", x, self.target, self.class_weight, self.pixel_weight,
                                                self.smoothing, self.ignore)
        if stray is not None:
            hint = "; pass ignore_index=255 if it marks what is not to be learned" if stray == 255 else ""
            raise ArgumentError(f"label {stray} with {x.shape[1]} classes; "
                                f"needs 0 <= label < {x.shape[1]}, or ignore_index {self.ignore}{hint}")
        self.save(x, *normalizers)
        return loss, weight

    def backward(self, grad: Array, _: Array) -> Array:
        return run("cross_entropy_grad", *self.saved, self.target, self.class_weight, grad * self.pixel_weight,
                   self.smoothing, self.ignore)


class BinaryCrossEntropy(Function):
    """softplus(-x)·z·w₊ + softplus(x)·(1-z).    dx = σ·(1-z) - (1-σ)·z·w₊."""

    def __init__(self, target: Array, pos_weight: Array):
        self.target, self.pos_weight = target, pos_weight

    def forward(self, x: Array) -> Array:
        self.save(x)
        xp = namespace(x)
        zero = xp.zeros((), dtype=x.dtype)
        rest = xp.log1p(xp.exp(-xp.abs(x)))          # softplus(x) = max(x, 0) + rest
        return ((xp.maximum(-x, zero) + rest) * self.target * self.pos_weight
                + (xp.maximum(x, zero) + rest) * (1 - self.target))

    def backward(self, grad: Array) -> Array:
        x, = self.saved
        return grad * (logistic(x) * (1 - self.target) - logistic(-x) * self.target * self.pos_weight)


class Focus(Function):
    """(1 - p)^γ · l for the loss l = -log p.    dl = (1-p)^γ + γ (1-p)^(γ-1) p l."""

    def __init__(self, gamma: float):
        self.gamma = gamma

    def forward(self, loss: Array) -> Array:
        self.save(loss)
        return (-namespace(loss).expm1(-loss)) ** self.gamma * loss

    def backward(self, grad: Array) -> Array:
        loss, = self.saved
        xp = namespace(loss)
        miss = -xp.expm1(-loss)                      # 1 - p, without the cancellation
        one = xp.ones((), dtype=loss.dtype)
        ratio = xp.where(miss > 0, loss, one) / xp.where(miss > 0, miss, one)        # l / (1-p), which is 1 at p = 1
        return grad * miss ** self.gamma * (1 + self.gamma * (1 - miss) * ratio)


def cross_entropy(logits: Any, target: Any, weight: Any = None, ignore_index: int = _NEVER, reduction: str = "mean",
                  label_smoothing: float = 0.0, pixel_weight: Any = None) -> Tensor:
    """-log softmax(logits)[target] of every pixel, weighted.

    logits          (N, C, ...)
    target          (N, ...) whole numbers, each a class 0 .. C-1 or `ignore_index` (255 for most masks)
    weight          (C,): of each class
    pixel_weight    (N, ...): of each pixel, say a U-Net's border weights
    label_smoothing ε: the target is 1-ε for the label, and ε/C for every class
    reduction       "mean": the sum divided by the sum of weight[label] · pixel_weight of the counted pixels, which
                    without weights is their number; "sum"; "none": (N, ...), 0 where ignored
    All pixels ignored: "mean" is 0 with gradient 0.  Raises ShapeError, DTypeError, ArgumentError (a label that is
    neither a class nor ignored, among others).
    """
    per_pixel, weights = _cross_entropy("cross_entropy", logits, target, weight, ignore_index, reduction,
                                        label_smoothing, pixel_weight)
    return _reduce(per_pixel, reduction, namespace(weights).sum(weights, dtype="float64"))


def focal_loss(logits: Any, target: Any, gamma: float = 2.0, alpha: Any = None, ignore_index: int = _NEVER,
               reduction: str = "mean") -> Tensor:
    """-α_t (1 - p_t)^γ log p_t, with p = softmax(logits): cross-entropy that looks away from what is easy.

    logits (N, C, ...), target (N, ...) as in `cross_entropy`; gamma >= 0; alpha (C,) weighs the classes.
    "mean" divides by the number of counted pixels, not by their alphas.  Lin et al. 2017, arXiv:1708.02002, eq. 5.
    """
    if not gamma >= 0:
        raise ArgumentError(f"focal_loss: gamma {gamma}; needs gamma >= 0 (0 is cross-entropy)")
    x = channels_first("focal_loss", logits)
    surprise, counted = _cross_entropy("focal_loss", x, target, None, ignore_index, reduction, 0.0, None)
    loss = Focus(gamma)(surprise)
    if alpha is not None:
        alpha = per_channel("focal_loss", "alpha", alpha, x)._array
        labels = as_tensor(target)._array
        xp = namespace(alpha)
        safe = xp.where(labels == ignore_index, xp.zeros_like(labels), labels)
        loss = loss * Tensor(xp.astype(alpha, x.dtype)[safe])
    return _reduce(loss, reduction, namespace(counted).sum(counted, dtype="float64"))


def ohem_cross_entropy(logits: Any, target: Any, threshold: float = 0.7, min_kept: float = 1 / 16, weight: Any = None,
                       ignore_index: int = _NEVER, reduction: str = "mean", label_smoothing: float = 0.0,
                       pixel_weight: Any = None) -> Tensor:
    """`cross_entropy` of the hard pixels alone, online hard example mining: what the net is sure of does not count.

    threshold    a pixel is hard while the probability of its label is below this, 0 .. 1
    min_kept     share of the counted pixels, 0 .. 1, that are kept at least, those of the least probability; of pixels
                 that tie with the last of them all are kept
    The others are as in `cross_entropy`; "mean" divides by the weights of what is kept.  Which pixels those are is
    found anew each time and is no part of the gradient.  (Shrivastava et al. 2016, arXiv:1604.03540; for pixels Wu et
    al. 2016, arXiv:1605.06885.)
    """
    for name, value in (("threshold", threshold), ("min_kept", min_kept)):
        if not 0 <= value <= 1:
            raise ArgumentError(f"ohem_cross_entropy: {name} {value}; needs 0 <= {name} <= 1")
    with no_grad():
        surprise, counted = _cross_entropy("ohem_cross_entropy", logits, target, None, ignore_index, "none", 0.0, None)
    surprise, xp = surprise._array, namespace(counted)
    counted = counted.reshape(surprise.shape) > 0
    # Probabilities are compared by their logarithms, which still differ where probabilities round to 0.
    hard = surprise > (-math.log(threshold) if threshold > 0 else math.inf)
    ranked = xp.sort(surprise[counted])
    least = math.ceil(min_kept * len(ranked))
    if least:
        hard = hard | (surprise >= ranked[-least])
    hard = xp.astype(hard & counted, surprise.dtype)
    if pixel_weight is not None:
        hard = hard * xp.astype(as_tensor(pixel_weight)._array, surprise.dtype)
    return cross_entropy(logits, target, weight, ignore_index, reduction, label_smoothing, hard)


def binary_cross_entropy_with_logits(logits: Any, target: Any, weight: Any = None, reduction: str = "mean",
                                     pos_weight: Any = None, ignore_index: int | None = None) -> Tensor:
    """-(w₊ z log σ(x) + (1-z) log(1 - σ(x))), of every element.

    logits, target  x and z of one shape; 0 <= z <= 1 for a loss bounded below
    weight          of each element; broadcasts
    pos_weight      w₊, of the positive targets; broadcasts
    ignore_index    the target value that marks elements not to be learned
    reduction       "mean" divides by the number of counted elements, not by their weights, as PyTorch; "sum"; "none"
    """
    one_of("binary_cross_entropy_with_logits", "reduction", reduction, _REDUCTIONS)
    x = floating("binary_cross_entropy_with_logits", logits)
    xp = namespace(x._array)
    z = as_tensor(target)._array
    if z.shape != x.shape:
        raise ShapeError(f"binary_cross_entropy_with_logits: logits {x.shape}, target {z.shape}; they must be equal")
    kept = xp.ones_like(z, dtype=bool) if ignore_index is None else z != ignore_index
    weights = [xp.astype(kept, x.dtype)]
    for name, value in (("weight", weight), ("pos_weight", pos_weight)):
        value = xp.ones((), dtype=x.dtype) if value is None else xp.astype(as_tensor(value)._array, x.dtype)
        try:
            weights.append(xp.broadcast_to(value, x.shape))
        except ValueError as error:
            raise ShapeError(f"binary_cross_entropy_with_logits: {name} of shape {value.shape} does not broadcast to "
                             f"{x.shape}; axes counted from the right must be equal, or 1") from error
    kept_weight, weight, pos_weight = weights
    z = xp.where(kept, xp.astype(z, x.dtype), xp.zeros((), dtype=x.dtype))
    # Ignored logits are replaced before they are used: their weight 0 would not stop an infinite loss.
    loss = BinaryCrossEntropy(z, pos_weight)(_only(x, kept)) * Tensor(kept_weight * weight)
    return _reduce(loss, reduction, xp.sum(kept_weight, dtype="float64"))


def dice_loss(logits: Any, target: Any, ignore_index: int = _NEVER, smooth: float = 1.0,
              classes: str = "all") -> Tensor:
    """1 - the mean over classes of the soft Dice coefficient (2 Σ p y + smooth) / (Σ p + Σ y + smooth).

    logits      (N, C, ...); p = softmax over C.  With C = 1 p = sigmoid, and the one class is label 1.
    target      (N, ...) whole numbers, a class 0 .. C-1 (0 or 1 for C = 1) or `ignore_index`; y is its one-hot form
    smooth      > 0; a class that is neither predicted nor there scores 1
    classes     "all", or "present": the mean over those that the target contains
    Sums run over all counted pixels of the batch, and the denominator is linear in p.  (Milletari et al. 2016,
    arXiv:1606.04797, has Σ p² + Σ y².)  The loss is 0 when every pixel is ignored or no class is present.
    """
    one_of("dice_loss", "classes", classes, ("all", "present"))
    if not smooth > 0:
        raise ArgumentError(f"dice_loss: smooth {smooth}; needs smooth > 0, it keeps an empty class from 0/0")
    x = channels_first("dice_loss", logits)
    xp = namespace(x._array)
    labels = _labels("dice_loss", x, target)
    channels = x.shape[1]
    names = xp.arange(channels) if channels > 1 else xp.ones(1, dtype="int64")
    kept = labels != ignore_index
    strays = labels[kept & ((labels < 0) | (labels >= max(channels, 2)))]
    if strays.size:
        raise ArgumentError(f"dice_loss: label {int(strays[0])} with {max(channels, 2)} classes; needs "
                            f"0 <= label < {max(channels, 2)}, or ignore_index {ignore_index}")
    hot = xp.expand_dims(labels, axis=1) == xp.reshape(names, (-1,) + (1,) * (x.ndim - 2))       # (N, C, ...)
    hot = xp.astype(hot & xp.expand_dims(kept, axis=1), x.dtype)
    mask = xp.expand_dims(kept, axis=1)

    x = _only(x, xp.broadcast_to(mask, x.shape))
    p = (softmax(x, 1) if channels > 1 else sigmoid(x)) * Tensor(xp.astype(mask, x.dtype))
    over = (0, *range(2, x.ndim))
    truth = xp.sum(hot, axis=over)                                                               # (C,)
    score = (2 * (p * Tensor(hot)).sum(over) + smooth) / (p.sum(over) + Tensor(truth + smooth))
    counted = xp.astype(truth > 0, x.dtype) if classes == "present" else xp.ones_like(truth)
    number = float(xp.sum(counted)) if bool(xp.any(kept)) else 0.0
    return ((1 - score) * Tensor(counted)).sum() * (1 / number if number else 0.0)


def _cross_entropy(operation: str, logits: Any, target: Any, weight: Any, ignore_index: int, reduction: str,
                   smoothing: float, pixel_weight: Any) -> tuple[Tensor, Array]:
    """The loss of every pixel, (N, ...), and the weight of each."""
    one_of(operation, "reduction", reduction, _REDUCTIONS)
    if not 0 <= smoothing <= 1:
        raise ArgumentError(f"{operation}: label_smoothing {smoothing}; needs 0 <= label_smoothing <= 1")
    x = channels_first(operation, logits)
    xp = namespace(x._array)
    labels = _labels(operation, x, target)
    class_weight = xp.ones(x.shape[1]) if weight is None else per_channel(operation, "weight", weight, x)._array
    if pixel_weight is None:
        pixel_weight = xp.ones(labels.shape, dtype=x.dtype)
    else:
        pixel_weight = as_tensor(pixel_weight)._array
        if pixel_weight.shape != labels.shape:
            raise ShapeError(f"{operation}: pixel_weight {pixel_weight.shape}, target {labels.shape}; "
                             "they must be equal")
    flat = (x.shape[0], math.prod(x.shape[2:]))                                                  # (N, S)
    function = CrossEntropy(xp.reshape(labels, flat), xp.astype(class_weight, x.dtype),
                            xp.reshape(xp.astype(pixel_weight, x.dtype), flat), float(smoothing), int(ignore_index))
    with about(operation):
        loss, weights = function(x.reshape(x.shape[0], x.shape[1], flat[1]))
    return loss.reshape(labels.shape), weights._array


def _labels(operation: str, x: Tensor, target: Any) -> Array:
    """The target as int64 of shape (N, ...)."""
    target = as_tensor(target)
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{operation}: target is {target.dtype}; needs whole numbers, the class of each pixel")
    if target.shape != (x.shape[0], *x.shape[2:]):
        raise ShapeError(f"{operation}: logits {x.shape}, target {target.shape}; needs target "
                         f"{(x.shape[0], *x.shape[2:])}, without the axis of classes")
    return namespace(target._array).astype(target._array, "int64")


def _reduce(loss: Tensor, reduction: str, denominator: float) -> Tensor:
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    return total * (1 / float(denominator) if denominator else 0.0)


def _only(x: Tensor, kept: Array) -> Tensor:
    """x where `kept`, 0 elsewhere, where no gradient flows."""
    return x if bool(namespace(kept).all(kept)) else where(Tensor(kept), x, 0.0)
