import numpy as np
import pytest
import torch
from torch.nn import functional

from trainers.regularizers.erm import ERM
from trainers.regularizers.loss_std import LossStd

N = 16


@pytest.mark.parametrize("criterion", ["ce", "bce"])
def test_without_the_second_term_it_is_erm(loss, criterion, network, x, y):
    none = LossStd(c=0, criterion=criterion)
    torch.testing.assert_close(loss(none, network, x, y), loss(ERM(criterion=criterion), network, x, y))


@pytest.mark.parametrize("unbiased", [True, False])
def test_the_second_term_is_numpys_standard_deviation(loss, unbiased, network, x, y):
    value = loss(LossStd(c=0.7, unbiased=unbiased), network, x, y)
    losses = functional.cross_entropy(network(x), y, reduction="none").detach().numpy()
    expected = losses.mean() + 0.7 * np.std(losses, ddof=int(unbiased))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_equal_losses_are_their_plain_mean_and_have_a_finite_slope(loss, stub, x, y):
    logits = torch.zeros(N, 5, requires_grad=True)
    value = loss(LossStd(c=1.0), stub(logits), x, y)
    assert value.item() == pytest.approx(np.log(5), abs=2e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    (plain,) = torch.autograd.grad(functional.cross_entropy(logits, y), logits)
    torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("unbiased", [True, False])
def test_its_gradient_is_that_of_a_mean_in_which_hard_examples_weigh_more(loss, unbiased, network, x, y):
    network, x, c = network.double(), x.double(), 0.5
    gradients = torch.autograd.grad(
        loss(LossStd(c=c, unbiased=unbiased), network, x, y), network.parameters()
    )
    losses = functional.cross_entropy(network(x), y, reduction="none")
    z = (losses - losses.mean()) / losses.std(correction=int(unbiased))
    weights = (1 + c * z * (N / (N - 1) if unbiased else 1)).detach()
    expected = torch.autograd.grad((weights * losses).mean(), network.parameters())
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-9)


def test_it_acts_on_smoothed_and_binary_losses_alike(loss, network, x, y):
    value = loss(LossStd(c=1.0, criterion="bce", label_smoothing=0.1), network, x, y)
    targets = 0.9 * functional.one_hot(y, 5) + 0.02
    losses = functional.binary_cross_entropy_with_logits(network(x), targets, reduction="none").mean(1)
    torch.testing.assert_close(value, losses.mean() + losses.std())


@pytest.mark.parametrize("unbiased", [True, False])
def test_one_example_has_no_spread(loss, unbiased, network, x, y):
    network.eval()
    alone = loss(LossStd(c=1.0, unbiased=unbiased), network, x[:1], y[:1])
    torch.testing.assert_close(alone, loss(ERM(), network, x[:1], y[:1]), atol=2e-6, rtol=0)
    alone.backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
