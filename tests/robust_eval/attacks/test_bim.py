import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack


def last_iterate(network, x, y, eps, steps, step_size):
    """Kurakin et al. 2017, section 2.2, to the end whatever happens on the way."""
    x_adv = x
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(leaf), y), leaf)
        x_adv = torch.clamp(x_adv + step_size * gradient.sign(), x - eps, x + eps).clamp(0, 1)
    return x_adv


@pytest.mark.parametrize("eps", [0.002, 0.3])
def test_bim_follows_its_equation_and_stops_where_the_model_is_fooled(eps, curved, images, predicted):
    network, x = curved(), images(32, low=0.0, high=1.0)
    y = predicted(network, x)
    result = attack("bim", eps=eps).run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
    for row in range(32):
        stop = 10 if result.step[row] < 0 else int(result.step[row])
        expected = last_iterate(network, x[[row]], y[[row]], eps, stop, 0.2 * eps)
        torch.testing.assert_close(result.x_adv[[row]], expected, rtol=0, atol=1e-12)
    assert (predicted(network, result.x_adv) != y).equal(result.step >= 0)
    assert (result.step == -1).any() == (eps == 0.002)


class Peak(nn.Module):
    """The other class wins within 0.003 of the mean 0.557: three steps of 0.02 from 0.5, less 0.003."""

    def forward(self, x):
        other = 0.0035 - (x.flatten(1).mean(1) - 0.557).abs()
        return torch.stack([torch.zeros_like(other), other], 1)


def test_a_success_that_the_last_step_undoes_is_kept():
    x, y = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    assert (Peak()(last_iterate(Peak(), x, y, 0.1, 10, 0.02)).argmax(1) == y).all()
    result = attack("bim", eps=0.1).run(Classifier(Peak()), x, y, rng=Rng(0).for_batch(2))
    assert (Peak()(result.x_adv).argmax(1) != y).all()
    assert result.step.tolist() == [3, 3]


def test_examples_that_are_fooled_cost_nothing_further(curved, images, predicted):
    network, x = curved(), images(32, low=0.0, high=1.0)
    classifier = Classifier(network)
    y = predicted(network, x)
    result = attack("bim", eps=0.1).run(classifier, x, y, rng=Rng(0).for_batch(32))
    fooled_early = (result.step >= 0) & (result.step < 10)
    assert fooled_early.any()
    # the point after step t is seen by the t-th gradient, counted from 0
    assert torch.equal(classifier.ledger["backwards"][fooled_early], result.step[fooled_early] + 1)
    assert (classifier.ledger["backwards"][~fooled_early] == 10).all()
    assert torch.equal(classifier.ledger["forwards"] - classifier.ledger["backwards"], (~fooled_early).long())
