import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg.autograd import gradcheck, gradcheck_directional, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

C = 4
WEIGHT = np.array([1.0, 0.5, 2.0, 3.0])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def scene(shape=(2, 5, 6), seed=0, ignored=0.2):
    """Logits (N, C, ...), a mask (N, ...) with 255 here and there, and pixel weights."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, C, shape)
    target[rng.random(shape) < ignored] = 255
    return rng.normal(0, 2, (shape[0], C, *shape[1:])), target, rng.uniform(0.5, 2, shape)


def per_pixel(logits, target, weight=None, smoothing=0.0):
    """The definition: (loss, weight) of every pixel, one at a time."""
    weight = np.ones(C) if weight is None else weight
    loss, weights = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(target.shape):
        if target[at] != 255:
            x = logits[(at[0], slice(None), *at[1:])]
            log_p = x - x.max() - np.log(np.exp(x - x.max()).sum())
            q = np.full(C, smoothing / C) + (1 - smoothing) * np.eye(C)[target[at]]
            loss[at], weights[at] = -(q * weight * log_p).sum(), weight[target[at]]
    return loss, weights


# -- cross-entropy ------------------------------------------------------------------------------------------------
@given(shape=st.sampled_from([(7,), (3, 4), (2, 5, 6), (2, 3, 2, 4)]), seed=st.integers(0, 99),
       weighted=st.booleans(), pixels=st.booleans(), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_is_its_definition(shape, seed, weighted, pixels, smoothing):
    logits, target, pixel_weight = scene(shape, seed)
    target.flat[0] = 0                               # one counted at least
    weight = WEIGHT if weighted else None
    loss, weights = per_pixel(logits, target, weight, smoothing)
    if pixels:
        loss, weights = loss * pixel_weight, weights * pixel_weight
    options = {"weight": weight, "ignore_index": 255, "label_smoothing": smoothing,
               "pixel_weight": pixel_weight if pixels else None}
    np.testing.assert_allclose(F.cross_entropy(logits, target, **options, reduction="none").numpy(), loss,
                               rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(F.cross_entropy(logits, target, **options, reduction="sum").item(), loss.sum(),
                               rtol=1e-12)
    np.testing.assert_allclose(F.cross_entropy(logits, target, **options).item(), loss.sum() / weights.sum(),
                               rtol=1e-12)


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[1.0, 2, 1], [1, 1, 2]]))
    np.testing.assert_allclose(F.cross_entropy(logits, np.array([1, 0])).item(), (np.log(2) + np.log(4)) / 2)
    weight = np.array([3.0, 1, 1])
    np.testing.assert_allclose(F.cross_entropy(logits, np.array([1, 0]), weight).item(),
                               (np.log(2) + 3 * np.log(4)) / 4)


@REDUCTIONS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_gradients(reduction, smoothing):
    logits, target, pixel_weight = scene()
    gradcheck(lambda x: F.cross_entropy(x, target, WEIGHT, 255, reduction, smoothing, pixel_weight), [logits])
    logits, target, pixel_weight = scene((2, 40, 41))
    gradcheck_directional(lambda x: F.cross_entropy(x, target, WEIGHT, 255, reduction, smoothing, pixel_weight),
                          [logits])


@pytest.mark.parametrize("loss", [
    lambda x, t: F.cross_entropy(x, t, WEIGHT, 255, label_smoothing=0.1),
    lambda x, t: F.cross_entropy(x, t, ignore_index=255, reduction="none").sum(),
    lambda x, t: F.ohem_cross_entropy(x, t, 1.0, 1.0, ignore_index=255),
    lambda x, t: F.focal_loss(x, t, ignore_index=255),
    lambda x, t: F.dice_loss(x, t, ignore_index=255),
    lambda x, t: F.binary_cross_entropy_with_logits(x[:, 0], t, ignore_index=255),
], ids=["cross_entropy", "none", "ohem", "focal", "dice", "binary"])
@pytest.mark.parametrize("garbage", [-1e3, 1e3, np.inf, np.nan])
def test_ignored_pixels_count_nowhere(loss, garbage):
    logits, target, _ = scene()
    target[target != 255] %= 2                       # legal for the binary loss too
    values, gradients = [], []
    for fill in (0, garbage):
        x = logits.copy()
        x[np.broadcast_to((target == 255)[:, None], x.shape)] = fill
        x = tensor(x, requires_grad=True)
        y = loss(x, target)
        y.backward()
        values.append(y.item())
        gradients.append(x.grad.numpy())
    assert values[0] == values[1]
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert (np.moveaxis(gradients[1], 1, -1)[target == 255] == 0).all()
    assert (gradients[1][:, 0][target != 255] != 0).all()


@pytest.mark.parametrize("loss", [F.cross_entropy, F.ohem_cross_entropy, F.focal_loss, F.dice_loss])
def test_all_ignored_is_no_loss(loss):
    x = tensor(scene()[0], requires_grad=True)
    y = loss(x, np.full((2, 5, 6), 255), ignore_index=255)
    y.backward()
    assert y.item() == 0
    assert not x.grad.numpy().any()


@pytest.mark.parametrize("loss", [F.cross_entropy, F.ohem_cross_entropy, F.focal_loss, F.dice_loss])
def test_the_order_of_pixels_and_classes_does_not_matter(loss):
    logits, target, _ = scene((2, 30))
    expected = loss(logits, target, ignore_index=255).item()
    order = np.random.default_rng(0).permutation(30)
    moved = loss(logits[..., order], target[:, order], ignore_index=255)
    np.testing.assert_allclose(moved.item(), expected, rtol=1e-12)
    names = np.append(np.random.default_rng(0).permutation(C), np.full(256 - C, 255))
    renamed = np.empty_like(logits)
    renamed[:, names[:C]] = logits
    np.testing.assert_allclose(loss(renamed, names[target], ignore_index=255).item(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_labels_of_any_whole_type(dtype):
    logits, target, _ = scene()
    assert F.cross_entropy(logits, target.astype(dtype), ignore_index=255).item() == \
        F.cross_entropy(logits, target, ignore_index=255).item()


def test_confident_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    assert F.cross_entropy(logits, np.array([0, 1])).item() == 0
    assert F.cross_entropy(logits, np.array([1, 0])).item() == 2e4
    assert F.focal_loss(logits, np.array([0, 0])).item() == 1e4
    x = np.array([1e4, -1e4, 1e4], np.float32)
    y = F.binary_cross_entropy_with_logits(x, np.array([1.0, 0, 0]), reduction="none")
    assert y.tolist() == [0, 0, 1e4]
    assert y.dtype == "float32"


def test_a_mask_changed_after_the_loss_does_not_reach_its_gradient():
    logits, target, _ = scene()
    gradients = []
    for change in (False, True):
        x, labels = tensor(logits, requires_grad=True), target.copy()
        y = F.cross_entropy(x, labels, ignore_index=255)
        if change:
            labels[:] = 0
        y.backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_array_equal(*gradients)


# -- hard pixels --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threshold", [0, 0.3, 1])
@pytest.mark.parametrize("min_kept", [0, 0.25, 1])
@REDUCTIONS
def test_ohem_is_its_definition(threshold, min_kept, reduction):
    logits, target, pixel_weight = scene()
    surprise, counted = per_pixel(logits, target)
    hard = (np.exp(-surprise) < threshold) & (counted > 0)
    order = np.argsort(np.where(counted > 0, -surprise, np.inf), axis=None)
    hard.flat[order[:int(np.ceil(min_kept * counted.sum()))]] = True
    loss, weights = (a * hard * pixel_weight for a in per_pixel(logits, target, WEIGHT))
    mean = loss.sum() / weights.sum() if hard.any() else 0
    arguments = (target, threshold, min_kept, WEIGHT, 255, reduction, 0.0, pixel_weight)
    np.testing.assert_allclose(F.ohem_cross_entropy(logits, *arguments).numpy(),
                               {"mean": mean, "sum": loss.sum(), "none": loss}[reduction], rtol=1e-11, atol=1e-13)
    gradcheck(lambda x: F.ohem_cross_entropy(x, *arguments), [logits])


def test_ohem_looks_away_from_what_is_easy():
    """Of four pixels of probability 0.9, 0.6, 0.5, 0.2 those below 0.55 count; the easy ones have no gradient."""
    p = np.array([0.9, 0.6, 0.5, 0.2])
    x = tensor(np.log(np.stack([p, 1 - p]))[None], requires_grad=True)
    loss = F.ohem_cross_entropy(x, np.zeros((1, 4), int), threshold=0.55, min_kept=0)
    np.testing.assert_allclose(loss.item(), -(np.log(0.5) + np.log(0.2)) / 2)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy()[0, 0], [0, 0, -0.25, -0.4], atol=1e-15)
    kept = F.ohem_cross_entropy(x.detach(), np.zeros((1, 4), int), threshold=0.1, min_kept=0.3)      # two of four
    assert kept.item() == pytest.approx(loss.item())


def test_ohem_of_every_pixel_is_cross_entropy():
    logits, target, _ = scene()
    assert F.ohem_cross_entropy(logits, target, min_kept=1, ignore_index=255).item() == \
        F.cross_entropy(logits, target, ignore_index=255).item()


@pytest.mark.parametrize("values", [{"threshold": 1.5}, {"min_kept": -0.1}, {"min_kept": float("nan")}])
def test_ohem_shares(values):
    with pytest.raises(ArgumentError, match=f"{next(iter(values))} .*needs 0 <= "):
        F.ohem_cross_entropy(*scene()[:2], ignore_index=255, **values)


# -- focal --------------------------------------------------------------------------------------------------------
@REDUCTIONS
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_loss_is_its_definition(reduction, gamma):
    logits, target, _ = scene()
    surprise, counted = per_pixel(logits, target)
    alpha = np.append(WEIGHT, np.zeros(252))[target]
    loss = alpha * (1 - np.exp(-surprise)) ** gamma * surprise
    expected = {"mean": loss.sum() / counted.sum(), "sum": loss.sum(), "none": loss}[reduction]
    y = F.focal_loss(logits, target, gamma, WEIGHT, 255, reduction)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-11, atol=1e-14)
    gradcheck(lambda x: F.focal_loss(x, target, gamma, WEIGHT, 255, reduction), [logits])


def test_focal_loss_without_focus_is_cross_entropy():
    logits, target, _ = scene()
    np.testing.assert_allclose(F.focal_loss(logits, target, 0, ignore_index=255).item(),
                               F.cross_entropy(logits, target, ignore_index=255).item(), rtol=1e-13)


def test_focal_gradient_at_certainty():
    x = tensor(np.array([[1e4, 0.0]]), requires_grad=True)
    F.focal_loss(x, np.array([0]), 0.5).backward()
    assert not x.grad.numpy().any()


# -- Dice ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", ["all", "present"])
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_dice_loss_is_its_definition(classes, smooth):
    logits, target, _ = scene()
    target[target == 2] = 255                        # class 2 is absent
    kept = target != 255
    p = np.moveaxis(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1, -1)[kept]         # (pixels, C)
    y = np.eye(C)[target[kept]]
    dice = (2 * (p * y).sum(0) + smooth) / (p.sum(0) + y.sum(0) + smooth)
    if classes == "present":
        dice = dice[[0, 1, 3]]
    loss = F.dice_loss(logits, target, 255, smooth, classes)
    np.testing.assert_allclose(loss.item(), 1 - dice.mean(), rtol=1e-12)
    gradcheck(lambda x: F.dice_loss(x, target, 255, smooth, classes), [logits])


def test_dice_loss_of_one_channel():
    x, z = np.array([[[-1.0, 2, 0.5, 9]]]), np.array([[0, 1, 1, 255]])
    p = 1 / (1 + np.exp(-x[0, 0, :3]))
    expected = 1 - (2 * p[1:].sum() + 1) / (p.sum() + 2 + 1)
    np.testing.assert_allclose(F.dice_loss(x, z, 255).item(), expected)
    gradcheck(lambda x: F.dice_loss(x, z, 255), [x])


def test_a_perfect_prediction_has_no_dice_loss():
    target = scene()[1] % C
    assert F.dice_loss(1e3 * np.moveaxis(np.eye(C)[target], -1, 1), target).item() == 0


# -- binary -------------------------------------------------------------------------------------------------------
@REDUCTIONS
def test_binary_cross_entropy_is_its_definition(reduction):
    rng = np.random.default_rng(0)
    x, z = rng.normal(0, 2, (2, 3, 4)), rng.random((2, 3, 4))
    z[0, 0] = 255
    weight, pos_weight = rng.uniform(0.5, 2, (3, 4)), np.array([[1.0], [2.0], [0.5]])
    kept = z != 255
    p = 1 / (1 + np.exp(-x))
    loss = -weight * (pos_weight * z * np.log(p) + (1 - z) * np.log(1 - p)) * kept
    expected = {"mean": loss.sum() / kept.sum(), "sum": loss.sum(), "none": loss}[reduction]

    def function(x):
        return F.binary_cross_entropy_with_logits(x, z, weight, reduction, pos_weight, 255)
    np.testing.assert_allclose(function(x).numpy(), expected, rtol=1e-12, atol=1e-14)
    gradcheck(function, [x])


def test_binary_cross_entropy_is_the_two_class_case():
    x, z = np.random.default_rng(0).normal(0, 3, (4, 9)), np.random.default_rng(1).integers(0, 2, (4, 9))
    two = np.stack([np.zeros_like(x), x], axis=1)
    np.testing.assert_allclose(F.binary_cross_entropy_with_logits(x, z).item(), F.cross_entropy(two, z).item(),
                               rtol=1e-12)


# -- errors -------------------------------------------------------------------------------------------------------
X, T = np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4), int)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: F.cross_entropy(X, T + 3), ArgumentError, "cross_entropy: label 3 with 3 classes; needs 0 <= label < 3"),
    (lambda: F.cross_entropy(X, T - 1), ArgumentError, "cross_entropy: label -1"),
    (lambda: F.cross_entropy(X, T + 255), ArgumentError, "label 255 .* pass ignore_index=255"),
    (lambda: F.cross_entropy(X, T * 1.0), DTypeError, "cross_entropy: target is float64; needs whole numbers"),
    (lambda: F.cross_entropy(X, T[:1]), ShapeError, r"target \(1, 4, 4\); needs target \(2, 4, 4\)"),
    (lambda: F.cross_entropy(X.astype(int), T), DTypeError, "cross_entropy: input is int64"),
    (lambda: F.cross_entropy(X, T, np.ones(2)), ShapeError, r"weight of shape \(2,\)"),
    (lambda: F.cross_entropy(X, T, pixel_weight=np.ones((4, 4))), ShapeError, r"pixel_weight \(4, 4\)"),
    (lambda: F.cross_entropy(X, T, reduction="avg"), ArgumentError, "reduction 'avg'; legal: mean, sum, none"),
    (lambda: F.cross_entropy(X, T, label_smoothing=2), ArgumentError, "label_smoothing 2"),
    (lambda: F.focal_loss(X, T + 3), ArgumentError, "focal_loss: label 3 with 3 classes"),
    (lambda: F.focal_loss(X, T, gamma=-1), ArgumentError, "focal_loss: gamma -1"),
    (lambda: F.focal_loss(X, T, alpha=np.ones(2)), ShapeError, "focal_loss: alpha of shape"),
    (lambda: F.dice_loss(X, T + 3), ArgumentError, "dice_loss: label 3 with 3 classes"),
    (lambda: F.dice_loss(X[:, :1], T + 2), ArgumentError, "dice_loss: label 2 with 2 classes"),
    (lambda: F.dice_loss(X, T, smooth=0), ArgumentError, "dice_loss: smooth 0"),
    (lambda: F.dice_loss(X, T, classes="some"), ArgumentError, "classes 'some'; legal: all, present"),
    (lambda: F.binary_cross_entropy_with_logits(X, T), ShapeError, r"logits \(2, 3, 4, 4\), target \(2, 4, 4\)"),
    (lambda: F.binary_cross_entropy_with_logits(T * 1.0, T, np.ones(3)), ShapeError, "weight of shape"),
    (lambda: F.binary_cross_entropy_with_logits(T * 1.0, T, pos_weight=np.ones(3)), ShapeError, "pos_weight of shape"),
])
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
