import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg.autograd import gradcheck
from tinyseg.errors import ShapeError


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_linear(shape):
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal((5, 4)), rng.standard_normal(5)
    np.testing.assert_allclose(F.linear(x, weight, bias).numpy(), np.einsum("...i,oi->...o", x, weight) + bias)
    np.testing.assert_allclose(F.linear(x, weight).numpy(), np.einsum("...i,oi->...o", x, weight))
    gradcheck(F.linear, [x, weight, bias])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"linear: input \(2, 3\), weight \(5, 4\); needs \(..., I\) and \(O, I\)"):
        F.linear(np.zeros((2, 3)), np.zeros((5, 4)))
    with pytest.raises(ShapeError, match=r"linear: bias of shape \(4,\); needs \(5,\)"):
        F.linear(np.zeros((2, 4)), np.zeros((5, 4)), np.zeros(4))
