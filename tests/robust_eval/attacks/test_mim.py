import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack


def dong_et_al(network, x, y, *, eps, steps, momentum):
    """Equations 6 and 7 of arXiv 1710.06081, for one example, to the end."""
    g, x_t = torch.zeros_like(x), x
    for _ in range(steps):
        leaf = x_t.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(leaf), y), leaf)
        g = momentum * g + gradient / gradient.abs().sum()
        x_t = (x_t + eps / steps * g.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return x_t


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_mim_equals_the_paper_on_examples_that_are_not_fooled_on_the_way(momentum, curved, images, predicted):
    network, x = curved(), images(24, low=0.0, high=1.0)
    y, eps = predicted(network, x), 0.02
    method = attack("mim", eps=eps, momentum=momentum)
    result = method.run(Classifier(network), x, y, rng=Rng(0).for_batch(24))
    resisted = (result.step < 0) | (result.step == 10)
    assert resisted.sum() >= 8
    for row in resisted.nonzero().flatten().tolist():
        one = slice(row, row + 1)
        expected = dong_et_al(network, x[one], y[one], eps=eps, steps=10, momentum=momentum)
        torch.testing.assert_close(result.x_adv[one], expected, rtol=0, atol=1e-12)


def test_momentum_makes_a_difference(curved, images, predicted):
    network, x = curved(), images(24, low=0.0, high=1.0)
    y = predicted(network, x)
    results = [attack("mim", eps=0.02, momentum=m)(Classifier(network), x, y, rng=Rng(0)) for m in (0.0, 1.0)]
    assert not torch.equal(*results)


class Plateau(nn.Module):
    """Flat between mean pixels 0.5 and 0.53 and rising after it; NaN gradients or zero ones on the flat part."""

    def __init__(self, nan):
        super().__init__()
        self.nan = nan

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        flat = (mean > 0.5) & (mean < 0.53)
        slope = torch.where(flat, mean.detach(), mean)
        if self.nan:
            slope = slope + torch.where(flat[:, None], x.flatten(1) * 0, 1.0).sqrt().sum(1) * 0
        return torch.stack([torch.full_like(mean, 0.58), slope], 1)


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_or_nan_gradient_on_the_way_does_not_freeze_the_walk(nan, norm):
    x, y = torch.full((1, 1, 2, 2), 0.495, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    classifier, network = Classifier(Plateau(nan)), Plateau(nan)
    eps = 0.1 if norm == "linf" else 0.2  # the same walk: four equal pixels
    result = attack("mim", eps=eps, norm=norm, look_ahead=False).run(
        classifier, x, y, rng=Rng(0).for_batch(1)
    )
    assert (network(result.x_adv).argmax(1) != y).all()
    assert classifier.ledger["zero_gradients"].item() + classifier.ledger["bad_gradients"].item() >= 3


def test_a_gradient_too_small_for_float32_sums_still_counts_as_one(images):
    class Faint(nn.Module):
        def forward(self, x):
            return torch.stack([1e-30 + 0 * x.flatten(1).sum(1), 1e-38 * x.flatten(1).sum(1)], 1)

    x, y = images(4).float(), torch.zeros(4, dtype=torch.int64)
    x_adv = attack("mim", eps=0.1)(Classifier(Faint()), x, y, rng=Rng(0))
    torch.testing.assert_close(x_adv, x + 0.1)
