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
    result = attack("bim", eps=eps, look_ahead=False).run(Classifier(network), x, y, rng=Rng(0).for_batch(32))
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
    result = attack("bim", eps=0.1, look_ahead=False).run(classifier, x, y, rng=Rng(0).for_batch(32))
    fooled_early = (result.step >= 0) & (result.step < 10)
    assert fooled_early.any()
    # the point after step t is seen by the t-th gradient, counted from 0
    assert torch.equal(classifier.ledger["backwards"][fooled_early], result.step[fooled_early] + 1)
    assert (classifier.ledger["backwards"][~fooled_early] == 10).all()
    assert torch.equal(classifier.ledger["forwards"] - classifier.ledger["backwards"], (~fooled_early).long())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["bim", "mim", "pgd"])
def test_looking_ahead_finds_all_that_the_walk_finds_with_fewer_gradients(
    name, norm, curved, images, predicted
):
    network, x = curved(), images(64, low=0.0, high=1.0)
    y, eps = predicted(network, x), {"linf": 0.02, "l2": 0.1}[norm]
    walked, looked = Classifier(network), Classifier(network)
    plain, ahead = (
        attack(name, eps=eps, norm=norm, look_ahead=look).run(model, x, y, rng=Rng(0).for_batch(64))
        for look, model in ((False, walked), (True, looked))
    )
    found, jumped = plain.step >= 0, predicted(network, ahead.x_adv) != y
    assert torch.equal(jumped, ahead.step >= 0) and (found <= jumped).all() and found.any()
    assert (looked.ledger["backwards"] <= walked.ledger["backwards"]).all()
    assert looked.ledger["backwards"][found].sum() < walked.ledger["backwards"][found].sum()
    # who resists to the end walked the same way
    assert (~jumped).any()
    torch.testing.assert_close(ahead.x_adv[~jumped], plain.x_adv[~jumped], rtol=0, atol=1e-12)
    if norm == "linf":
        assert ((ahead.x_adv - x).abs().amax((1, 2, 3)) <= eps + 1e-12).all()


def test_the_far_end_that_is_judged_first_is_the_point_of_fgsm(curved, images, predicted):
    network, x = curved(), images(64, low=0.0, high=1.0)
    y = predicted(network, x)
    ahead = attack("bim", eps=0.05).run(Classifier(network), x, y, rng=Rng(0).for_batch(64))
    fgsm = attack("fgsm", eps=0.05).run(Classifier(network), x, y, rng=Rng(0).for_batch(64))
    at_once = predicted(network, fgsm.x_adv) != y
    assert at_once.any() and torch.equal(at_once, ahead.step == 1)
    torch.testing.assert_close(ahead.x_adv[at_once], fgsm.x_adv[at_once], rtol=0, atol=1e-12)
