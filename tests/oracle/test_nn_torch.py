"""Every module against PyTorch's of the same name and options: state, output, gradients, and state afterwards."""

import numpy as np
import pytest

from tinyseg import nn
from tinyseg.autograd import Tensor

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

MODULES = [
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}),
    ("Conv2d", (4, 3, 3), {"padding": "same", "dilation": 2, "bias": False}),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "output_padding": 1, "groups": 2}),
    ("ConvTranspose2d", (4, 2, 3), {"dilation": 2, "bias": False}),
    ("Linear", (6, 5), {}), ("Linear", (6, 2), {"bias": False}),
    ("BatchNorm2d", (4,), {}), ("BatchNorm2d", (4,), {"momentum": None, "affine": False, "eps": 0.1}),
    ("BatchNorm2d", (4,), {"track_running_stats": False}), ("BatchNorm2d", (4,), {"momentum": 0.5}),
    ("GroupNorm", (2, 4), {}), ("GroupNorm", (1, 4), {"affine": False, "eps": 0.1}),
    ("ReLU", (), {}), ("ReLU6", (), {}), ("LeakyReLU", (0.2,), {}), ("PReLU", (), {}), ("PReLU", (4,), {"init": 0.1}),
    ("Sigmoid", (), {}), ("Tanh", (), {}), ("Hardswish", (), {}), ("Hardsigmoid", (), {}), ("Softmax", (1,), {}),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}), ("MaxPool2d", (2,), {"stride": 1, "dilation": 2}),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}), ("AvgPool2d", (2,), {"count_include_pad": False}),
    ("AdaptiveAvgPool2d", ((3, 2),), {}), ("AdaptiveAvgPool2d", (1,), {}),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}),
    ("Upsample", (), {"size": (5, 11), "mode": "bilinear", "align_corners": False}),
    ("Upsample", (), {"scale_factor": 2}), ("Identity", (), {}),
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("name", "arguments", "options"), MODULES, ids=str)
def test_module(name, arguments, options, training):
    ours = getattr(nn, name)(*arguments, **options).to("float64").train(training)
    theirs = getattr(torch.nn, name)(*arguments, **options).double().train(training)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == \
        [(k, tuple(v.shape)) for k, v in theirs.state_dict().items()]
    rng = np.random.default_rng(0)
    ours.load_state_dict({k: np.asarray(v) + (rng.uniform(0.1, 1, v.shape) if v.is_floating_point() else 3)
                          for k, v in theirs.state_dict().items()})
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})

    near = {"rtol": 1e-7 if name == "Hardsigmoid" else 1e-9, "atol": 1e-11}      # PyTorch's 1/6 is a float32 there
    for _ in range(2):                               # running statistics move twice
        array = rng.standard_normal((2, 4, 7, 6))
        x, z = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        y, expected = ours(x), theirs(z)
        np.testing.assert_allclose(y.detach().data, expected.detach().numpy(), **near)
        cotangent = rng.standard_normal(y.shape)
        y.backward(cotangent)
        expected.backward(torch.tensor(cotangent))
        np.testing.assert_allclose(x.grad.data, z.grad.numpy(), **near)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-9, atol=1e-10, err_msg=key)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("options", [{}, {"weight": np.array([1.0, 2, 0.5, 3])}, {"reduction": "sum"},
                                     {"ignore_index": 1, "label_smoothing": 0.1}], ids=str)
def test_cross_entropy(options):
    rng = np.random.default_rng(0)
    array, target = rng.standard_normal((2, 4, 5, 6)), rng.integers(0, 4, (2, 5, 6))
    x, z = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    loss = nn.CrossEntropyLoss(**options)(x, target)
    expected = torch.nn.CrossEntropyLoss(**{k: torch.tensor(v) if isinstance(v, np.ndarray) else v
                                            for k, v in options.items()})(z, torch.tensor(target))
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(x.grad.data, z.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "arguments"), [
    ("Conv2d", (16, 32, 3, 1, 0, 1, 2)), ("ConvTranspose2d", (16, 32, 3, 1, 0, 0, 2)), ("Linear", (300, 200))])
def test_weights_start_with_the_same_spread(name, arguments):
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        largest = np.abs(p.detach().data).max(), q.detach().abs().max().item()
        assert largest[0] == pytest.approx(largest[1], rel=0.2)
