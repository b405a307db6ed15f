"""Twenty steps of every optimiser against PyTorch's."""

import numpy as np
import pytest

from tinyseg import optim
from tinyseg.autograd import Tensor
from tinyseg.nn import Parameter

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

CASES = [("SGD", o) for o in ({}, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
                              {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
                              {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1})]
CASES += [(name, o) for name in ("Adam", "AdamW")
          for o in ({}, {"weight_decay": 0.1}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3})]
CASES += [("RMSprop", o) for o in ({}, {"weight_decay": 0.1, "alpha": 0.9}, {"momentum": 0.9}, {"centered": True},
                                   {"centered": True, "momentum": 0.5, "eps": 1e-3})]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_twenty_steps(name, options):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in ((7, 5), (3,), ())]
    ours, theirs = [Parameter(s.copy()) for s in start], [torch.tensor(s, requires_grad=True) for s in start]
    groups = [{"params": ours[:2]}, {"params": ours[2:], "lr": 0.03}]
    torch_groups = [{"params": theirs[:2]}, {"params": theirs[2:], "lr": 0.03}]
    mine, other = getattr(optim, name)(groups, **options), getattr(torch.optim, name)(torch_groups, **options)
    for n in range(20):
        for k, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = rng.standard_normal(p.shape)
            p.grad, q.grad = (None, None) if (n + k) % 5 == 4 else (Tensor(np.array(g)), torch.tensor(g))
        mine.step()
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.detach().data, q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", [0.5, 1e9])
def test_clipping(norm):
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for shape in ((7, 5), (3,), ()):
        p, q = Parameter(np.zeros(shape)), torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        g = rng.standard_normal(shape)
        p.grad, q.grad = Tensor(np.array(g)), torch.tensor(g)
        ours.append(p)
        theirs.append(q)
    total = torch.nn.utils.clip_grad_norm_(theirs, norm)
    assert optim.clip_grad_norm_(ours, norm) == pytest.approx(total.item(), rel=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-12)
