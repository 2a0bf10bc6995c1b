"""One step in the units of normalised images, against the step that the papers' code takes there."""

import pytest
import torch
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.checks import violations
from robust_eval.errors import ConfigError, DataError

MEAN = torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64).view(3, 1, 1)
DEVIATIONS = [0.2470, 0.2435, 0.2616]
STD = torch.tensor(DEVIATIONS, dtype=torch.float64).view(3, 1, 1)


@pytest.mark.parametrize("eps", [0.05, 0.2])
def test_it_is_a_step_of_fgsm_on_the_normalised_image(eps, curved, images, predicted):
    network, x = curved(), images(16, low=0.0, high=1.0)
    y = predicted(network, x)
    z = ((x - MEAN) / STD).requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(network(z * STD + MEAN), y), z)
    expected = ((z.detach() + eps * gradient.sign()) * STD + MEAN).clamp(0, 1)
    x_adv = attack("fgsm_normalised", eps=eps, std=DEVIATIONS)(Classifier(network), x, y, rng=Rng(0))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


def test_with_one_deviation_it_is_fgsm_at_its_product_with_eps(curved, images, predicted):
    network, x = curved(), images(16)
    y = predicted(network, x)
    one = attack("fgsm_normalised", eps=0.2, std=[0.25])
    results = [made(Classifier(network), x, y, rng=Rng(0)) for made in (one, attack("fgsm", eps=0.05))]
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_the_cube_of_the_largest_deviation_holds_every_step(curved, images, predicted):
    network, x = curved(), images(16).float().double()
    method = attack("fgsm_normalised", eps=0.1, std=DEVIATIONS)
    assert method.threat.norm == "linf" and method.threat.eps == pytest.approx(0.02616)
    x_adv = method(Classifier(network), x, predicted(network, x), rng=Rng(0))
    assert not violations(x.float(), x_adv.float(), method.threat).any()
    steps = (x_adv - x).abs().amax((0, 2, 3))
    assert steps.tolist() == pytest.approx([0.0247, 0.02435, 0.02616])


def test_clipped_to_the_image_it_keeps_the_images_own_darkest_and_brightest_pixel(curved, images, predicted):
    network, x = curved(), images(24, low=0.1, high=0.9)
    y, method = predicted(network, x), attack("fgsm_normalised", eps=2.0, clip="image")
    x_adv = method(Classifier(network), x, y, rng=Rng(0))
    for before, after in zip(x, x_adv, strict=True):
        assert (after.min(), after.max()) == (before.min(), before.max())
    perm = torch.randperm(24, generator=torch.Generator().manual_seed(0))[:7]
    part = method(Classifier(network), x[perm], y[perm], rng=Rng(0).rows(perm))
    assert torch.equal(part, x_adv[perm])


def test_it_costs_two_forwards_and_one_backward(curved, images, predicted):
    network, x = curved(), images(16)
    classifier = Classifier(network)
    attack("fgsm_normalised").run(classifier, x, predicted(network, x), rng=Rng(0).for_batch(16))
    assert (classifier.ledger["forwards"] == 2).all() and (classifier.ledger["backwards"] == 1).all()


def test_images_of_other_channels_are_refused():
    x = torch.rand(2, 1, 4, 4)
    classifier = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)))
    y = classifier.logits(x).argmax(1)  # who is wrong already is not attacked
    with pytest.raises(DataError, match=r"std: expected 1 numbers, one per channel, or one for all, got \["):
        attack("fgsm_normalised", std=DEVIATIONS)(classifier, x, y, rng=Rng(0))


@pytest.mark.parametrize("wrong", [{"std": []}, {"std": [0.2, 0, 0.2]}, {"eps": -0.1}, {"clip": "batch"}])
def test_fields_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"attack 'fgsm_normalised': {next(iter(wrong))}"):
        attack("fgsm_normalised", **wrong)
