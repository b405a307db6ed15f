"""Mean field as a layer: the same numbers as the CRF, and gradients that are right."""

import numpy as np
import pytest

import tinyseg as ts
import tinyseg.functional as F
from tinyseg.crf import Appearance, DenseCRF, MeanField, Smoothness
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.optim import SGD

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 4, 5, 3), np.uint8)
POTENTIALS = Appearance(compatibility=1.5, sigma_xy=3, sigma_color=90), Smoothness(compatibility=0.5, sigma_xy=1)


@pytest.mark.parametrize("method", ["lattice", "exact"])
@pytest.mark.parametrize("normalization", ["symmetric", "after", "none"])
def test_gradients(method, normalization):
    potentials = [type(p)(**{**vars(p), "normalization": normalization}) for p in POTENTIALS]
    layer = MeanField(3, potentials, iterations=3, method=method).to("float64")
    scores, weight = RNG.normal(size=(2, 3, 4, 5)), RNG.uniform(0.2, 1, (2, 3))
    compatibility = RNG.normal(size=(3, 3))          # not symmetric, as training leaves it

    def refine(scores, weight, compatibility):
        layer.__dict__.update(weight=weight, compatibility=compatibility)
        return layer.forward(scores, IMAGES)

    assert ts.gradcheck(refine, [scores, weight, compatibility])


def test_it_is_the_crf():
    image = RNG.integers(0, 256, (12, 17, 3), np.uint8)
    scores = RNG.normal(size=(1, 4, 12, 17)).astype(np.float32)
    p = F.softmax(scores).numpy()[0]
    layer = MeanField(4, POTENTIALS, iterations=4)
    with ts.no_grad():
        refined = F.softmax(layer(ts.tensor(scores), [image])).numpy()[0]
    np.testing.assert_allclose(refined, DenseCRF(POTENTIALS, 4)(image, p), atol=1e-5)


def test_it_learns():
    """Two halves of different colour, and a wrong score in each: the layer learns to listen to neighbours."""
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[..., 4:, :] = 200
    truth = (image[..., 0] > 0).astype(np.int64)
    scores = np.stack([1 - truth, truth], axis=1).astype(np.float32)
    scores[:, :, 2, 1::5] = 1 - scores[:, :, 2, 1::5]
    layer = MeanField(2, (Appearance(compatibility=0.1, sigma_xy=4, sigma_color=30),), iterations=2)
    optimizer, losses = SGD(layer.parameters(), lr=1.0), []
    for _ in range(12):
        optimizer.zero_grad()
        refined = layer(ts.tensor(scores), image)
        loss = F.cross_entropy(refined, ts.tensor(truth))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert np.array_equal(refined.detach().numpy().argmax(axis=1), truth)
    assert not np.array_equal(scores.argmax(axis=1), truth)


def test_its_state():
    layer = MeanField(3, POTENTIALS)
    assert {k: v.shape for k, v in layer.state_dict().items()} == {"weight": (2, 3), "compatibility": (3, 3)}
    assert repr(layer) == "MeanField(3, iterations=5, potentials=2)"


def test_bad_input():
    layer, scores = MeanField(3, POTENTIALS), np.zeros((2, 3, 4, 5), np.float32)
    with pytest.raises(ShapeError, match=r"needs \(N, 3, H, W\) and N images"):
        layer(ts.tensor(scores), IMAGES[:1])
    with pytest.raises(ShapeError, match=r"needs \(N, 3, H, W\)"):
        layer(ts.tensor(scores[:, :2]), IMAGES)
    with pytest.raises(ShapeError, match="needs one size"):
        layer(ts.tensor(scores), IMAGES[:, :3])
    with pytest.raises(ArgumentError, match="before a net's normalisation"):
        layer(ts.tensor(scores), IMAGES / 100.0 - 1)
    with pytest.raises(ArgumentError, match="a number for its compatibility"):
        MeanField(2, (Smoothness(compatibility=np.eye(2)),))
    with pytest.raises(ArgumentError, match="needs at least 1"):
        MeanField(2, iterations=0)
