"""`DenseCRF` on images: how near the lattice comes to the definition, what it gains, and what it refuses."""

import math
import tracemalloc

import numba
import numpy as np
import pytest
from crf.coarse import coarse

from tinyseg import machine
from tinyseg.crf import (
    Appearance,
    DenseCRF,
    Gaussian,
    Smoothness,
    unary_from_labels,
    unary_from_probabilities,
)
from tinyseg.data import StreetScenes, read_image, read_mask
from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.kernels.cpu.threads import num_threads

POTENTIALS = Appearance(compatibility=4, sigma_xy=30, sigma_color=8), Smoothness(sigma_xy=1)


def compared(image, probabilities):
    fast, exact = (DenseCRF(POTENTIALS, 5, method)(image, probabilities) for method in ("lattice", "exact"))
    agreement = np.mean(fast.argmax(axis=0) == exact.argmax(axis=0))
    return agreement, np.abs(fast - exact).mean()


def test_the_lattice_agrees_with_the_definition():
    agreement, error = np.mean([compared(s.image, coarse(s.mask, 8)) for s in StreetScenes(4, (48, 64))], axis=0)
    assert agreement >= 0.985
    assert error < 0.005


def test_the_lattice_agrees_on_photographs(test_data):
    found = []
    for path in sorted((test_data / "camvid" / "val").glob("*.png"))[:3]:
        image = read_image(path)[::8, ::8]           # 45x60
        mask = read_mask(test_data / "camvid" / "valannot" / path.name)[::8, ::8]
        found.append(compared(np.ascontiguousarray(image), coarse(np.where(mask == 11, 255, mask), 11)))
    agreement, error = np.mean(found, axis=0)
    assert agreement >= 0.985
    assert error < 0.005


def discs(rng):
    """Two discs on a background, and labels of which a third is wrong."""
    rows, columns = np.mgrid[:40, :60]
    truth = np.zeros((40, 60), np.uint8)
    truth[(rows - 18)**2 + (columns - 18)**2 < 120] = 1
    truth[(rows - 22)**2 + (columns - 42)**2 < 150] = 2
    image = np.array([[60, 90, 70], [200, 60, 40], [40, 80, 210]])[truth] + rng.normal(0, 6, (40, 60, 3))
    labels = np.where(rng.random(truth.shape) < 0.35, rng.integers(0, 3, truth.shape), truth)
    return truth, image.clip(0, 255).astype(np.uint8), np.exp(-unary_from_labels(labels, 3, 0.6))


def test_it_repairs_noisy_labels():
    truth, image, p = discs(np.random.default_rng(0))
    before = np.mean(p.argmax(axis=0) == truth)
    q = DenseCRF((Appearance(compatibility=4, sigma_xy=20), Smoothness()))(image, p)
    assert before < 0.8
    assert np.mean(q.argmax(axis=0) == truth) > 0.98
    np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)
    assert q.dtype == np.float32


@pytest.mark.parametrize("potentials", [(Smoothness(),), (Appearance(compatibility=4, sigma_xy=20), Smoothness())])
@pytest.mark.parametrize("iterations", [1, 5])
def test_the_lattice_agrees_on_noisy_labels(potentials, iterations):
    _, image, p = discs(np.random.default_rng(0))
    fast, exact = (DenseCRF(potentials, iterations, method)(image, p) for method in ("lattice", "exact"))
    assert np.mean(fast.argmax(axis=0) == exact.argmax(axis=0)) >= 0.995
    assert np.abs(fast - exact).mean() < 0.003


def test_images_of_all_kinds():
    _, image, p = discs(np.random.default_rng(1))
    crf = DenseCRF(POTENTIALS)
    expected = crf(image, p)
    assert np.array_equal(crf(image.astype(np.float64), p), expected)
    assert np.array_equal(crf(image, p.astype(np.float16)).argmax(axis=0), expected.argmax(axis=0))
    assert np.array_equal(crf(np.asfortranarray(image)[::-1], p[:, ::-1]), crf(image[::-1].copy(), p[:, ::-1].copy()))
    grey = image[..., :1].copy()
    assert np.array_equal(crf(grey[..., 0], p), crf(grey, p))
    points = np.concatenate([np.mgrid[:40, :60].transpose(1, 2, 0) / 30, grey / 8], axis=-1)
    ours = DenseCRF((Gaussian(compatibility=4, points=points), POTENTIALS[1]))
    np.testing.assert_allclose(ours(grey, p), crf(grey, p), atol=1e-5)


def test_small_things():
    image = np.zeros((1, 1, 3), np.uint8)
    assert np.array_equal(DenseCRF()(image, np.ones((1, 1, 1))), np.ones((1, 1, 1)))
    one_class = DenseCRF()(np.zeros((5, 7, 3), np.uint8), np.ones((1, 5, 7)))
    assert np.array_equal(one_class, np.ones((1, 5, 7)))
    p = np.full((2, 5, 7), 0.5)
    assert np.allclose(DenseCRF(iterations=0)(np.zeros((5, 7, 3), np.uint8), p), p)


def test_threads_change_nothing():
    scene = StreetScenes(1, (96, 128))[0]
    p, crf, threads = coarse(scene.mask, 8), DenseCRF(POTENTIALS), num_threads()
    answers = []
    try:
        for n in (1, threads):
            numba.set_num_threads(n)
            answers.append(crf(scene.image, p))
    finally:
        numba.set_num_threads(threads)
    assert np.array_equal(*answers)


def test_unaries():
    p = np.array([0, 1e-9, 0.25, 1])
    np.testing.assert_allclose(unary_from_probabilities(p), -np.log([1e-5, 1e-5, 0.25, 1]))
    u = unary_from_labels(np.array([[1, 255]]), 3, 0.8)
    np.testing.assert_allclose(np.exp(-u[:, 0]), [[0.1, 1 / 3], [0.8, 1 / 3], [0.1, 1 / 3]], rtol=1e-6)
    with pytest.raises(ArgumentError, match=r"label 3; of 3 classes labels are 0 \.\. 2, or 255"):
        unary_from_labels(np.array([[3]]), 3, 0.8)
    with pytest.raises(ArgumentError, match="needs 0 < certainty < 1"):
        unary_from_labels(np.array([[0]]), 3, 1.0)


IMAGE, P = np.full((4, 5, 3), 9, np.uint8), np.full((2, 4, 5), 0.5, np.float32)
NAN = np.where(np.arange(5) == 2, math.nan, P)


@pytest.mark.parametrize(("image", "probabilities", "error", "message"), [
    (IMAGE[:3], P, ShapeError, r"needs \(classes, 3, 5\)"),
    (IMAGE, P.transpose(1, 2, 0), ShapeError, r"probabilities \(4, 5, 2\)"),
    (IMAGE, P[:0], ShapeError, r"needs \(classes, 4, 5\)"),
    (IMAGE[:0], P[:, :0], ShapeError, "not empty"),
    (IMAGE[None], P, ShapeError, r"needs \(H, W, 3\)"),
    (IMAGE, NAN, ArgumentError, "sum is nan"),
    (IMAGE, 2 * P, ArgumentError, "sum is 2.*softmax first"),
    (IMAGE, np.stack([1.5 * np.ones((4, 5)), -0.5 * np.ones((4, 5))]), ArgumentError, "from -0.5"),
    (IMAGE, np.zeros((2, 4, 5), np.int64), DTypeError, "int64"),
    (IMAGE / 255, P, ArgumentError, "multiply by 255"),
    (IMAGE - 100.0, P, ArgumentError, "as it was before a net's normalisation"),
    (IMAGE * math.nan, P, ArgumentError, "values from nan"),
    (IMAGE.astype(np.int32), P, DTypeError, "int32")])
def test_bad_input(image, probabilities, error, message):
    with pytest.raises(error, match=message):
        DenseCRF()(image, probabilities)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Smoothness(sigma_xy=0), "needs sigma_xy > 0"),
    (lambda: Appearance(sigma_color=-1), "needs sigma_color > 0"),
    (lambda: Appearance(sigma_xy=(80, math.nan)), "needs sigma_xy > 0"),
    (lambda: Appearance(sigma_xy=(1, 2, 3)), "3 values of sigma_xy"),
    (lambda: Smoothness(sigma_xy="wide"), "needs a number"),
    (lambda: Smoothness(compatibility=math.inf), "needs finite numbers"),
    (lambda: Smoothness(normalization="both"), "legal: none"),
    (lambda: Gaussian(points=np.zeros((4, 5))), r"needs numbers \(H, W, d\)"),
    (lambda: DenseCRF(iterations=-1), "a whole number >= 0"),
    (lambda: DenseCRF(iterations=2.5), "a whole number >= 0"),
    (lambda: DenseCRF(Appearance()), "needs a list of Appearance"),
    (lambda: DenseCRF()(None, None), "needs floats|needs .H, W, 3"),
    (lambda: DenseCRF(method="fast"), "legal: lattice, exact"),
    (lambda: DenseCRF((Gaussian(points=np.zeros((4, 4, 1))),))(IMAGE, P), "needs one size"),
    (lambda: DenseCRF((Appearance(sigma_color=(3, 3)),))(IMAGE, P), "2 values of sigma_color; needs one number, or 3"),
    (lambda: DenseCRF((Appearance(sigma_xy=1e-9),))(IMAGE, P), "a larger sigma"),
    (lambda: DenseCRF((Smoothness(compatibility=np.eye(3)),))(IMAGE, P), r"or \(2, 2\) for 2 classes"),
    (lambda: DenseCRF(method="exact")(np.zeros((200, 200)), np.ones((1, 200, 200))), "visits every pair")])
def test_bad_settings(make, message):
    with pytest.raises((ArgumentError, ShapeError, DTypeError), match=message):
        make()


def test_memory_is_told_before_it_is_taken(monkeypatch):
    endless = np.broadcast_to(np.uint8(0), (60_000, 60_000, 3)), np.broadcast_to(np.float32(1), (1, 60_000, 60_000))
    monkeypatch.setattr(machine, "available_memory", lambda: 30_000_000)
    image, p = np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 1), np.float32)
    large = np.broadcast_to(image, (600, 1000, 3)), np.broadcast_to(p / 4, (4, 600, 1000))
    tracemalloc.start()
    with pytest.raises(ArgumentError, match=r"600x1000 pixels with 4 classes: takes .* GiB .* Take a smaller image"):
        DenseCRF()(*large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    with pytest.raises(ArgumentError, match=r"60000x60000 pixels .* takes 67\.1 GiB"):
        DenseCRF()(*endless)
    with pytest.raises(ArgumentError, match="lattice of 180,000 points"):
        DenseCRF()(large[0][:300, :600].copy(), np.ones((1, 300, 600), np.float32))
