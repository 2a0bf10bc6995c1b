import pytest
import torch
from torch.nn import functional

import trainers
from robust_eval.registry import build, describe, names
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.loss_std import LossStd
from trainers.regularizers.mixup import Mixup

NAMES = names("regularizer") if trainers else []
N = 16
LOOKS_AT_LABELS = {"adversarial", "between_class", "puzzle_mix"}


@pytest.fixture(params=NAMES)
def method(request):
    return build("regularizer", request.param, {})


class TestContract:
    def test_a_fixed_rng_gives_the_same_scalar_loss(self, loss, method, network, x, y):
        # running statistics differ after the first call, but a loss in train mode does not see them unless it
        # also looks at the network in eval mode, so each call starts from the same ones
        state = {name: value.clone() for name, value in network.state_dict().items()}
        first = loss(method, network, x, y)
        network.load_state_dict(state)
        again = loss(method, network, x, y)
        assert first.shape == () and first.isfinite()
        assert first.item() == again.item()

    def test_the_loss_leaves_inputs_modes_and_global_randomness_alone(self, loss, method, network, x, y):
        network.second[1].eval()
        modes = {name: module.training for name, module in network.named_modules()}
        x_before, y_before, random_state = x.clone(), y.clone(), torch.get_rng_state()
        loss(method, network, x, y)
        assert torch.equal(x, x_before) and torch.equal(y, y_before)
        assert modes == {name: module.training for name, module in network.named_modules()}
        assert torch.equal(torch.get_rng_state(), random_state)

    def test_evaluations_is_the_number_of_images_the_network_sees(self, loss, method, network, x, y):
        loss(method, network, x, y)
        assert sum(map(len, network.seen)) == method.evaluations(N)

    def test_the_gradient_reaches_every_parameter(self, loss, method, network, x, y):
        loss(method, network, x, y).backward()
        for name, weight in network.named_parameters():
            assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert all(network.get_parameter(name).grad.any() for name in ("first.0.weight", "head.1.weight"))

    def test_images_in_the_pixel_range_stay_there(self, loss, method, network, x, y):
        loss(method, network, x, y)
        assert all(seen.min() >= 0 and seen.max() <= 1 + 1e-6 for seen in network.seen)

    def test_equal_weights_are_none(self, loss, method, network, x, y):
        assert method.takes_weights
        state = {name: value.clone() for name, value in network.state_dict().items()}
        plain = loss(method, network, x, y)
        network.load_state_dict(state)
        assert loss(method, network, x, y, weights=torch.ones(N)).item() == pytest.approx(
            plain.item(), rel=1e-5
        )

    def test_the_label_of_an_image_without_weight_is_of_no_matter(self, loss, method, network, x, y):
        if describe(method).name in LOOKS_AT_LABELS:
            pytest.skip("labels decide the images, not only the targets")
        state = {name: value.clone() for name, value in network.state_dict().items()}
        weights = torch.linspace(0.5, 1.5, N).index_fill(0, torch.tensor([2, 9]), 0.0)
        other = y.clone()
        other[[2, 9]] = (y[[2, 9]] + 1) % 5
        first = loss(method, network, x, y, weights=weights)
        network.load_state_dict(state)
        assert loss(method, network, x, other, weights=weights).item() == pytest.approx(
            first.item(), rel=1e-5
        )
        network.load_state_dict(state)
        assert loss(method, network, x, y).item() != pytest.approx(first.item(), rel=1e-4)

    def test_the_shares_of_its_stages_add_up_to_one(self, method):
        assert sum(stage.share for stage in method.stages()) == pytest.approx(1)

    def test_it_can_be_built_again_from_its_description(self, method):
        described = describe(method)
        assert build("regularizer", described.name, described.params) == method


@pytest.mark.parametrize("same_as_erm", [CutMix(probability=0.0)])
def test_a_method_that_mixes_nothing_is_erm(loss, same_as_erm, network, x, y):
    assert loss(same_as_erm, network, x, y).item() == pytest.approx(
        loss(ERM(), network, x, y).item(), abs=1e-6
    )


def test_erm_is_the_cross_entropy(loss, network, x, y):
    torch.testing.assert_close(loss(ERM(), network, x, y), functional.cross_entropy(network(x), y))


def test_mixup_trains_on_one_line_between_the_batch_and_a_permutation_of_it(
    loss, step, permutation, network, x, y
):
    value = loss(Mixup(), network, x, y)
    (seen,) = network.seen
    torch.testing.assert_close(seen.mean(0), x.mean(0))
    # solve for lam and the partner: a single pair of numbers must explain all images
    λ, perm = step().child("lam").numpy().beta(1, 1), permutation()
    torch.testing.assert_close(seen, (λ * x + (1 - λ) * x[perm]).float())
    logits = network(seen)
    by_losses = λ * functional.cross_entropy(logits, y) + (1 - λ) * functional.cross_entropy(logits, y[perm])
    torch.testing.assert_close(value, by_losses)


def test_a_small_alpha_leaves_nearly_every_mixup_batch_as_it_is(loss, network, x, y):
    for seed in range(5):
        loss(Mixup(alpha=1e-4), network, x, y, seed=seed)
    kept = [torch.equal(seen.sort(0).values, x.sort(0).values) for seen in network.seen]
    assert all(kept)


def test_the_weight_of_a_cutmix_target_is_the_fraction_of_pixels_kept(loss, permutation, network, x, y):
    for seed in range(20):
        network.seen.clear()
        value = loss(CutMix(probability=1.0), network, x, y, seed=seed)
        (seen,) = network.seen
        perm = permutation(seed=seed)
        moved = perm != torch.arange(N)
        kept = (seen == x)[moved].float().mean().item()
        logits = network(seen)
        by_area = kept * functional.cross_entropy(logits, y) + (1 - kept) * functional.cross_entropy(
            logits, y[perm]
        )
        torch.testing.assert_close(value, by_area)


def test_cutmix_mixes_the_given_part_of_the_batches(loss, network, x, y):
    for seed in range(100):
        loss(CutMix(alpha=8.0, probability=0.3), network, x, y, seed=seed)
    mixed = sum(not torch.equal(seen, x) for seen in network.seen)
    assert 15 <= mixed <= 45


@pytest.mark.parametrize("criterion", ["ce", "bce", "bce_softmax"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_are_those_of_each_label_wherever_it_is_mixed(
    loss, step, permutation, network, x, y, criterion, smoothing
):
    """Losses are affine in the targets: a mixed row counts what its two labels do."""
    method = Mixup(criterion=criterion, label_smoothing=smoothing)
    weights = torch.linspace(0.2, 1.8, N)
    λ, perm = step().child("lam").numpy().beta(1, 1), permutation()
    value = loss(method, network, x, y, weights=weights)
    logits = network(λ * x + (1 - λ) * x[perm])

    def each(labels):
        return ERM(criterion=criterion, label_smoothing=smoothing).each(
            logits, functional.one_hot(labels, 5).float()
        )

    expected = (λ * weights * each(y) + (1 - λ) * weights[perm] * each(y[perm])).mean()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_loss_std_with_whole_weights_is_that_of_repeated_images(loss, network, x, y):
    """A weight of 2 counts like two of the same image: in the mean, and in the squares that are averaged over n."""
    method, logits = LossStd(unbiased=False), network(x)
    losses = functional.cross_entropy(logits, y, reduction="none")
    weights = torch.tensor([2.0] * 8 + [0.0] * 8)
    repeated = losses[:8]
    expected = repeated.mean() + method.c * repeated.std(correction=0)
    torch.testing.assert_close(loss(method, network, x, y, weights=weights), expected, rtol=1e-4, atol=1e-5)
