import pytest
import torch
from torch.nn import functional

from robust_eval import Classifier, Rng, attack


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_one_step_along_the_gradient_of_the_cross_entropy(norm, curved, images, predicted):
    network, x = curved(), images(16, low=0.0, high=1.0)
    y = predicted(network, x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(network(leaf), y), leaf)
    unit = gradient.sign() if norm == "linf" else gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    x_adv = attack("fgsm", eps=0.05, norm=norm)(Classifier(network), x, y, rng=Rng(0))
    torch.testing.assert_close(x_adv, (x + 0.05 * unit).clamp(0, 1), rtol=0, atol=1e-12)


def test_fgsm_costs_two_forwards_and_one_backward(curved, images, predicted):
    network, x = curved(), images(16)
    classifier = Classifier(network)
    attack("fgsm").run(classifier, x, predicted(network, x), rng=Rng(0).for_batch(16))
    assert (classifier.ledger["forwards"] == 2).all() and (classifier.ledger["backwards"] == 1).all()
