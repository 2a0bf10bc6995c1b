import pytest
import torch
from torch import nn
from torch.nn import functional

import trainers
from robust_eval.errors import ConfigError
from robust_eval.mixing import binary_cross_entropy, soft_targets, sum_augment
from robust_eval.registry import build, describe, names
from robust_eval.rng import Rng
from trainers.regularizers.adversarial import Adversarial
from trainers.regularizers.cascading_sum import CascadingSum
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.mixup import Mixup
from trainers.regularizers.sum_augmentation import SumAugmentation

REQUIRED = {"sum_augmentation": {"k": 2}}
"""Parameters of the methods that cannot be built without any."""
NAMES = names("regularizer") if trainers else []
N = 16


@pytest.fixture
def x():
    return torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y():
    return torch.arange(N) % 5


@pytest.fixture(params=NAMES)
def method(request):
    return build("regularizer", request.param, REQUIRED.get(request.param, {}))


def loss(method, network, x, y, seed=0, progress=0.5):
    return method.loss(network, x, y, rng=Rng(seed).child("step").for_batch(len(x)), progress=progress)


class TestContract:
    def test_a_fixed_rng_gives_the_same_scalar_loss(self, method, network, x, y):
        # running statistics differ after the first call, but a loss in train mode does not see them unless it
        # also looks at the network in eval mode, so each call starts from the same ones
        state = {name: value.clone() for name, value in network.state_dict().items()}
        first = loss(method, network, x, y)
        network.load_state_dict(state)
        again = loss(method, network, x, y)
        assert first.shape == () and first.isfinite()
        assert first.item() == again.item()

    def test_the_loss_leaves_inputs_modes_and_global_randomness_alone(self, method, network, x, y):
        network.second[1].eval()
        modes = {name: module.training for name, module in network.named_modules()}
        x_before, y_before, random_state = x.clone(), y.clone(), torch.get_rng_state()
        loss(method, network, x, y)
        assert torch.equal(x, x_before) and torch.equal(y, y_before)
        assert modes == {name: module.training for name, module in network.named_modules()}
        assert torch.equal(torch.get_rng_state(), random_state)

    def test_evaluations_is_the_number_of_images_the_network_sees(self, method, network, x, y):
        loss(method, network, x, y)
        assert sum(map(len, network.seen)) == method.evaluations(N)

    def test_the_gradient_reaches_every_parameter(self, method, network, x, y):
        loss(method, network, x, y).backward()
        for name, weight in network.named_parameters():
            assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert all(network.get_parameter(name).grad.any() for name in ("first.0.weight", "head.1.weight"))

    def test_images_in_the_pixel_range_stay_there(self, method, network, x, y):
        loss(method, network, x, y)
        assert all(seen.min() >= 0 and seen.max() <= 1 + 1e-6 for seen in network.seen)

    def test_the_shares_of_its_stages_add_up_to_one(self, method):
        assert sum(stage.share for stage in method.stages()) == pytest.approx(1)

    def test_it_can_be_built_again_from_its_description(self, method):
        described = describe(method)
        assert build("regularizer", described.name, described.params) == method


@pytest.mark.parametrize("same_as_erm", [SumAugmentation(k=1), CutMix(probability=0.0), CascadingSum(k=1)])
def test_a_method_that_mixes_nothing_is_erm(same_as_erm, network, x, y):
    assert loss(same_as_erm, network, x, y).item() == pytest.approx(
        loss(ERM(), network, x, y).item(), abs=1e-6
    )


def test_erm_is_the_cross_entropy(network, x, y):
    torch.testing.assert_close(loss(ERM(), network, x, y), functional.cross_entropy(network(x), y))


def test_mixup_trains_on_one_line_between_the_batch_and_a_permutation_of_it(network, x, y):
    value = loss(Mixup(), network, x, y)
    (seen,) = network.seen
    torch.testing.assert_close(seen.mean(0), x.mean(0))
    # solve for lam and the partner: a single pair of numbers must explain all images
    rng = Rng(0).child("step").for_batch(N)
    λ = rng.child("lam").numpy().beta(1, 1)
    perm = torch.randperm(N, generator=rng.child("perm").torch_generator())
    torch.testing.assert_close(seen, (λ * x + (1 - λ) * x[perm]).float())
    logits = network(seen)
    by_losses = λ * functional.cross_entropy(logits, y) + (1 - λ) * functional.cross_entropy(logits, y[perm])
    torch.testing.assert_close(value, by_losses)


def test_a_small_alpha_leaves_nearly_every_mixup_batch_as_it_is(network, x, y):
    for seed in range(5):
        loss(Mixup(alpha=1e-4), network, x, y, seed=seed)
    kept = [torch.equal(seen.sort(0).values, x.sort(0).values) for seen in network.seen]
    assert all(kept)


def test_the_weight_of_a_cutmix_target_is_the_fraction_of_pixels_kept(network, x, y):
    for seed in range(20):
        network.seen.clear()
        value = loss(CutMix(probability=1.0), network, x, y, seed=seed)
        (seen,) = network.seen
        perm = torch.randperm(N, generator=Rng(seed).child("step", "perm").torch_generator())
        moved = perm != torch.arange(N)
        kept = (seen == x)[moved].float().mean().item()
        logits = network(seen)
        by_area = kept * functional.cross_entropy(logits, y) + (1 - kept) * functional.cross_entropy(
            logits, y[perm]
        )
        torch.testing.assert_close(value, by_area)


def test_cutmix_mixes_the_given_part_of_the_batches(network, x, y):
    for seed in range(100):
        loss(CutMix(alpha=8.0, probability=0.3), network, x, y, seed=seed)
    mixed = sum(not torch.equal(seen, x) for seen in network.seen)
    assert 15 <= mixed <= 45


def test_sum_augmentation_divides_by_k_unless_told_not_to(network, x, y):
    divided = loss(SumAugmentation(k=4), network, x, y)
    whole = loss(SumAugmentation(k=4, divide_by_k=False), network, x, y)
    torch.testing.assert_close(4 * divided, whole)


def test_sum_augmentation_offers_the_binary_loss(network, x, y):
    value = loss(SumAugmentation(k=4, divide_by_k=False, criterion="bce"), network, x, y)
    targets = sum_augment(soft_targets(y, 5), 4)
    torch.testing.assert_close(value, binary_cross_entropy(network(sum_augment(x, 4)), targets))


def test_sum_augmentation_needs_a_batch_of_k():
    with pytest.raises(ConfigError, match="expected a batch of at least k=8 images, got 6; raise batch_size"):
        SumAugmentation(k=8).evaluations(6)


@pytest.mark.parametrize(
    ("k", "stop", "sizes"),
    [(8, 1, [8, 4, 2, 1]), (8, 2, [8, 4, 2]), (6, 1, [6, 3, 1]), (1, 1, [1]), (2, 2, [2])],
)
def test_a_cascade_halves_k_down_to_stop(k, stop, sizes):
    stages = CascadingSum(k=k, stop=stop, criterion="bce").stages()
    assert [stage.regularizer for stage in stages] == [
        SumAugmentation(k=size, criterion="bce") for size in sizes
    ]
    assert {stage.share for stage in stages} == {1 / len(sizes)}
    assert {stage.hand_over for stage in stages} == {"best"}


def test_a_cascade_cannot_stop_where_it_never_comes():
    with pytest.raises(ConfigError, match="expected stop to be one of 8, 4, 2, 1, got 3"):
        build("regularizer", "cascading_sum", {"k": 8, "stop": 3})


def test_adversarial_training_stays_in_the_ball_and_moves_away_from_the_start(network, x, y):
    loss(Adversarial(eps="8/255"), network, x, y)
    assert len(network.seen) == 8
    for seen in network.seen:
        assert (seen - x).abs().max() <= 8 / 255 + 1e-6
        assert seen.min() >= 0 and seen.max() <= 1
    assert (network.seen[0] - x).abs().max() > 6 / 255


def test_adversarial_training_raises_the_loss(network, x, y):
    loss(Adversarial(), network, x, y)
    x_adv = network.seen[-1]
    network.eval()
    clean = functional.cross_entropy(network(x), y, reduction="none")
    attacked = functional.cross_entropy(network(x_adv), y, reduction="none")
    assert (attacked > clean).float().mean() >= 0.95


def test_the_start_of_an_example_does_not_depend_on_its_batch(network, x, y):
    rng = Rng(0).rows(torch.arange(100, 100 + N))
    part = torch.tensor([7, 2])
    network.eval()
    Adversarial(steps=1).loss(network, x, y, rng=rng, progress=0.0)
    Adversarial(steps=1).loss(network, x[part], y[part], rng=rng.select(part), progress=0.0)
    torch.testing.assert_close(network.seen[0][part], network.seen[2])


def test_the_ascent_does_not_touch_batch_norm_statistics_or_weight_gradients(network, x, y):
    modes, statistics = [], []

    def watch(module, _):
        modes.append(module.training)
        statistics.append(module.running_mean.clone())

    network.first[1].register_forward_pre_hook(watch)
    loss(Adversarial(), network, x, y)
    assert modes == [False] * 7 + [True]
    assert all(torch.equal(later, statistics[0]) for later in statistics)
    assert network.first[1].num_batches_tracked == 1
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_frozen_layers_stay_frozen_through_the_ascent(network, x, y):
    network.head.requires_grad_(False)
    network.second[1].eval()
    loss(Adversarial(), network, x, y).backward()
    assert not network.second[1].training and network.first[1].training
    assert network.head[1].weight.grad is None
    assert isinstance(network.first[0], nn.Conv2d) and network.first[0].weight.grad is not None
