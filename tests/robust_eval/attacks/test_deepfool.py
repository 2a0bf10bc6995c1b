import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack


@pytest.mark.parametrize("classes", [2, 3, 5, 20])
def test_deepfool_is_within_1_percent_of_the_nearest_of_several_hyperplanes(
    classes, linear, images, predicted, nearest
):
    network, x = linear(classes), images(64)
    y = predicted(network, x)
    x_adv = attack("deepfool", candidates=20)(Classifier(network), x, y, rng=Rng(0))
    ratio = (x_adv - x).flatten(1).norm(dim=1) / nearest(network, x, y)
    assert (predicted(network, x_adv) != y).all()
    assert ratio.min() > 1 - 1e-9 and ratio[nearest(network, x, y) > 0.01].max() < 1.01


def test_without_line_search_the_point_of_the_paper_oversteps_by_the_overshoot(
    linear, images, predicted, nearest
):
    network, x = linear(2), images(64)
    y = predicted(network, x)
    result = attack("deepfool", overshoot=0.1, line_search=0).run(
        Classifier(network), x, y, rng=Rng(0).for_batch(64)
    )
    distance, optimum = (result.x_adv - x).flatten(1).norm(dim=1), nearest(network, x, y)
    # and by the 1e-4 pixels that keep the walk from stopping on the boundary
    torch.testing.assert_close(distance, 1.1 * (optimum + 1e-4))
    assert (result.step == 1).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
def test_the_scale_of_the_logits_does_not_change_the_path(scale, curved, images, predicted):
    x = images(24)
    y = predicted(curved(), x)
    usual, scaled = (attack("deepfool")(Classifier(curved(s)), x, y, rng=Rng(0)) for s in (1.0, scale))
    torch.testing.assert_close(scaled, usual, rtol=0, atol=1e-9)


def test_the_line_search_only_ever_comes_closer_and_still_fools(curved, images, predicted):
    network, x = curved(), images(48)
    y = predicted(network, x)
    far, near = (attack("deepfool", line_search=n)(Classifier(network), x, y, rng=Rng(0)) for n in (0, 10))
    assert (predicted(network, near) != y).all()
    assert ((near - x).flatten(1).norm(dim=1) <= (far - x).flatten(1).norm(dim=1)).all()


def test_classes_that_are_not_candidates_are_not_looked_at(linear, images, predicted):
    network, x = linear(20), images(8)
    classifier = Classifier(network)
    method = attack("deepfool", candidates=3, line_search=0)
    result = method.run(classifier, x, predicted(network, x), rng=Rng(0).for_batch(8))
    assert torch.equal(classifier.ledger["backwards"], 2 * result.step)


def test_an_example_on_the_boundary_leaves_it():
    class Half(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1)
            return torch.stack([torch.full_like(mean, 0.5), mean], 1)

    x, y = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    x_adv = attack("deepfool")(Classifier(Half()), x, y, rng=Rng(0))
    assert (Half()(x_adv).argmax(1) != y).all() and (x_adv - x).norm() < 1e-3


def test_a_class_whose_gradient_equals_the_labels_is_out_of_reach(linear, images):
    network, x = linear(2), images(8)

    class Twin(nn.Module):
        """Class 2 is class 0 once more: the nearest in logits, but never reached."""

        def forward(self, x):
            logits = network(x)
            return torch.cat([logits, logits[:, :1]], 1)

    zeros = Classifier(network)(x).argmax(1) == 0
    y = torch.zeros(int(zeros.sum()), dtype=torch.int64)
    x_adv = attack("deepfool")(Classifier(Twin()), x[zeros], y, rng=Rng(0))
    assert len(y) and (Twin()(x_adv).argmax(1) == 1).all()
