import pytest
import torch
from torch.nn import functional

from robust_eval.mixing import mix, soft_targets
from trainers.fitting import Fitting, per_example, smooth

CRITERIA = ["ce", "bce", "bce_softmax"]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_mixing_targets_is_mixing_losses(generator, criterion):
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    first = soft_targets(torch.tensor([0, 1, 2, 3, 0]), 4)
    second = soft_targets(torch.tensor([1, 1, 0, 2, 3]), 4)
    together = per_example(criterion, logits, mix(first, second, 0.3))
    apart = 0.3 * per_example(criterion, logits, first) + 0.7 * per_example(criterion, logits, second)
    torch.testing.assert_close(together, apart)


def test_cross_entropy_of_certain_targets_is_that_of_labels(generator):
    logits, y = torch.randn(6, 5, generator=generator), torch.tensor([0, 4, 2, 2, 1, 3])
    found = per_example("ce", logits, soft_targets(y, 5))
    torch.testing.assert_close(found, functional.cross_entropy(logits, y, reduction="none"))


@pytest.mark.parametrize(
    ("criterion", "to_p"), [("bce", torch.sigmoid), ("bce_softmax", lambda o: o.softmax(1))]
)
def test_the_binary_losses_are_means_over_the_classes(generator, criterion, to_p):
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    targets = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    p = to_p(logits)
    by_hand = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean(1)
    torch.testing.assert_close(per_example(criterion, logits, targets), by_hand)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_sure_logits_give_finite_losses_and_gradients_that_point_to_the_target(criterion):
    logits = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    loss = per_example(criterion, logits, torch.tensor([[0.0, 1.0, 0.0]])).sum()
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


@pytest.mark.parametrize(("form", "total"), [("uniform", 1.0), ("others", 1.0), ("printed", 1 - 0.1 / 10)])
def test_smoothed_targets_add_up_to_what_their_form_says(form, total):
    targets = smooth(soft_targets(torch.arange(10), 10), 0.1, form)
    torch.testing.assert_close(targets.sum(1), torch.full((10,), total))
    assert (targets.argmax(1) == torch.arange(10)).all()


def test_the_logit_gap_at_the_optimum_of_smoothed_cross_entropy_is_the_closed_form():
    amount, classes = 0.1, 10
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 3] = torch.tensor((1 - amount + amount / classes) / (amount / classes)).double().log()
    logits.requires_grad_()
    targets = smooth(soft_targets(torch.tensor([3]), classes).double(), amount)
    (gradient,) = torch.autograd.grad(per_example("ce", logits, targets).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_label_smoothing_is_a_choice_of_every_regularizer_that_fits_targets(generator):
    class Some(Fitting):
        def loss(self, model, x, y, *, rng, progress):
            raise NotImplementedError

    logits, targets = torch.randn(4, 5, generator=generator), soft_targets(torch.arange(4), 5)
    smoothed = Some(label_smoothing=0.2).fit(logits, targets)
    torch.testing.assert_close(
        smoothed, functional.cross_entropy(logits, torch.arange(4), label_smoothing=0.2)
    )
