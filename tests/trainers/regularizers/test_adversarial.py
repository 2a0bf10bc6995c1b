import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.registry import build, describe, described
from robust_eval.rng import Rng
from trainers.regularizers.adversarial import Adversarial
from trainers.regularizers.cutmix import CutMix
from trainers.regularizers.erm import ERM
from trainers.regularizers.mixup import Mixup
from trainers.regularizers.sum_augmentation import SumAugmentation

N = 16
EPS = 8 / 255


class Linear(nn.Module):
    """Two classes, logits (-w x, w x); `seen` holds every batch that came in."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(192, generator=torch.Generator().manual_seed(2)))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        margin = x.flatten(1) @ self.w.to(x.dtype)
        return torch.stack([-margin, margin], 1)


def moved(network, x):
    return (network.seen[-1] != x).flatten(1).any(1)


def test_it_stays_in_the_ball_and_moves_away_from_the_start(loss, network, x, y):
    loss(Adversarial(eps="8/255"), network, x, y)
    assert len(network.seen) == 8
    for seen in network.seen:
        assert (seen - x).abs().max() <= EPS + 1e-6
        assert seen.min() >= 0 and seen.max() <= 1
    assert (network.seen[0] - x).abs().max() > 6 / 255
    assert not torch.equal(network.seen[-1], network.seen[0])


def test_in_l2_the_length_of_what_is_added_is_at_most_eps(loss, network, x, y):
    loss(Adversarial(norm="l2", eps=0.5, step_size=0.125), network, x, y)
    lengths = torch.stack([(seen - x).flatten(1).norm(dim=1) for seen in network.seen])
    assert lengths.max() <= 0.5 + 1e-5 and lengths[0].min() > 0.4
    assert all(seen.min() >= 0 and seen.max() <= 1 for seen in network.seen)


def test_it_raises_the_loss(loss, network, x, y):
    loss(Adversarial(), network, x, y)
    start, x_adv = network.seen[0], network.seen[-1]
    network.eval()
    clean, started, attacked = (
        functional.cross_entropy(network(images), y, reduction="none") for images in (x, start, x_adv)
    )
    assert (attacked > clean).float().mean() >= 0.95
    assert (attacked > started).float().mean() >= 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_network_it_reaches_the_worst_point_of_the_ball(loss, norm, dtype):
    network, eps = Linear().to(dtype), 0.02
    # away from 0 and 1, and near the border between the classes, where no softmax is saturated
    x = torch.full((2, 3, 8, 8), 0.5, dtype=dtype)
    y = torch.tensor([0, 1])
    loss(Adversarial(norm=norm, eps=eps, step_size=eps / 2, steps=30), network, x, y)
    w = network.w.detach().view(3, 8, 8)
    away = w.sign() if norm == "linf" else w / w.norm()
    tolerance = 1e-6 if norm == "linf" else 1e-4
    assert network.seen[-1].dtype == dtype
    expected = torch.stack([0.5 + eps * away, 0.5 - eps * away])
    torch.testing.assert_close(network.seen[-1], expected, atol=tolerance, rtol=0)


def test_the_steps_are_those_of_a_plain_loop(loss, network, x, y):
    network.eval()
    loss(Adversarial(steps=3), network, x, y)
    seen = network.seen.copy()
    for before, after in itertools.pairwise(seen):
        leaf = before.clone().requires_grad_()
        functional.cross_entropy(network(leaf), y).backward()
        by_hand = torch.empty_like(x)
        for index in range(x.numel()):
            i = tuple(int(part) for part in torch.unravel_index(torch.tensor(index), x.shape))
            stepped = before[i] + 2 / 255 * leaf.grad[i].sign()
            by_hand[i] = min(max(stepped, x[i] - EPS, 0), x[i] + EPS, 1)
        torch.testing.assert_close(after, by_hand, atol=1e-6, rtol=0)


def test_the_fast_single_step_is_a_setting(loss, network, x, y):
    fast = Adversarial(steps=1, step_size="10/255")
    loss(fast, network, x, y)
    _, x_adv = network.seen
    # 1.25 eps from anywhere in the ball: most pixels reach its border
    at_border = ((x_adv - x).abs() - EPS).abs() < 1e-6
    assert at_border[(x > EPS) & (x < 1 - EPS)].float().mean() > 0.6
    assert fast.evaluations(N) == 2 * N


@pytest.mark.parametrize("same_as_erm", [Adversarial(probability=0.0), Adversarial(eps=0, steps=2)])
def test_what_perturbs_nothing_is_erm(loss, same_as_erm, network, x, y):
    assert loss(same_as_erm, network, x, y).item() == pytest.approx(
        loss(ERM(), network, x, y).item(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("probability", "count"), [(0.0, 0), (0.03, 0), (0.25, 4), (0.5, 8), (0.9, 14), (1.0, 16)]
)
def test_exactly_a_share_of_the_batch_is_perturbed(loss, probability, count, network, x, y):
    method = Adversarial(probability=probability, steps=2)
    loss(method, network, x, y)
    assert int(moved(network, x).sum()) == count
    assert sum(map(len, network.seen)) == method.evaluations(N) == N + 2 * count


def test_which_images_are_perturbed_is_drawn_anew_for_each_batch(loss, network, x, y):
    often = torch.zeros(N)
    for seed in range(60):
        loss(Adversarial(probability=0.5, steps=1), network, x, y, seed)
        often += moved(network, x)
    assert often.min() > 15 and often.max() < 45


def test_a_perturbed_image_does_not_depend_on_which_others_are(loss, network, x, y):
    network.eval()
    loss(Adversarial(), network, x, y)
    all_of_them = network.seen[-1]
    loss(Adversarial(probability=0.5), network, x, y)
    some = network.seen[-1]
    torch.testing.assert_close(some[moved(network, x)], all_of_them[moved(network, x)], atol=1e-6, rtol=0)


@pytest.mark.parametrize("then", [Mixup(), CutMix(), SumAugmentation()])
def test_another_regularizer_gets_the_perturbed_images(loss, then, network, x, y):
    name = {Mixup: "mixup", CutMix: "cutmix", SumAugmentation: "sum_augmentation"}[type(then)]
    method = Adversarial(steps=2, then=name)
    network.eval()
    value = loss(method, network, x, y)
    assert sum(map(len, network.seen)) == method.evaluations(N) == 2 * N + then.evaluations(N)
    network.seen.clear()
    loss(Adversarial(steps=2), network, x, y)
    x_adv = network.seen[-1]
    direct = then.loss(network, x_adv, y, rng=Rng(0).child("step", "then").for_batch(N), progress=0.5)
    assert value.item() == direct.item()


@pytest.mark.parametrize("then", [{"name": "mixup", "alpha": 0.2}, Mixup(alpha=0.2)])
def test_the_other_regularizer_may_have_fields_of_its_own(loss, then, network, x, y):
    method = build("regularizer", "adversarial", {"steps": 1, "then": then})
    assert method.then == Mixup(alpha=0.2)
    network.eval()
    value = loss(method, network, x, y)
    assert value.item() != loss(Adversarial(steps=1, then="mixup"), network, x, y).item()
    found = describe(method)
    assert found.params["then"] == {"name": "mixup", "alpha": 0.2, "criterion": "ce", "label_smoothing": 0.0}
    assert build("regularizer", found.name, found.params) == method


def test_one_with_defaults_is_described_by_its_name_as_before():
    for then in ("mixup", {"name": "mixup"}, {"name": "mixup", "alpha": 1}, Mixup()):
        assert describe(Adversarial(then=then)).params["then"] == "mixup"
    assert describe(Adversarial()).params["then"] == "erm"


def test_a_raised_version_of_the_other_regularizer_is_part_of_the_key():
    assert described(Adversarial(then="sum_augmentation"))["versions"] == {"regularizer:sum_augmentation": 2}
    assert "versions" not in described(Adversarial(then="mixup"))


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (3, "then: expected the name of a regularizer, or a table such as .*, got 3$"),
        ({"alpha": 1}, "then: expected the name of a regularizer, or a table such as .*, got {'alpha': 1}$"),
        ({"name": "mixup", "alpha": -1}, "^regularizer 'mixup': alpha: expected > 0, got -1$"),
        (
            {"name": "mixup", "alhpa": 1},
            r"^regularizer 'mixup': unknown field 'alhpa' \(did you mean 'alpha'",
        ),
        ("mixupp", r"^unknown regularizer 'mixupp' \(did you mean 'mixup'\?\); known: .*$"),
        (
            "adversarial",
            "^then: expected a regularizer that does not perturb images itself, got 'adversarial'",
        ),
        ("trades", "^then: expected a regularizer that does not perturb images itself, got 'trades'"),
        (
            "cascading_sum",
            "^then: expected a regularizer of one stage, got 'cascading_sum', which has several$",
        ),
    ],
)
def test_what_cannot_come_then_is_told_in_one_line(then, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build("regularizer", "adversarial", {"then": then})
    assert "\n" not in str(caught.value)


def test_a_radius_in_units_of_1_255_is_refused():
    with pytest.raises(ConfigError, match=r"eps: expected a linf radius in .*, got 8; did you mean '8/255'"):
        build("regularizer", "adversarial", {"eps": 8})
    build("regularizer", "adversarial", {"eps": 8, "norm": "l2"})


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_of_an_example_does_not_depend_on_its_batch(norm, network, x, y):
    rng = Rng(0).rows(torch.arange(100, 100 + N))
    part = torch.tensor([7, 2])
    network.eval()
    method = Adversarial(steps=1, norm=norm)
    method.loss(network, x, y, rng=rng, progress=0.0)
    method.loss(network, x[part], y[part], rng=rng.select(part), progress=0.0)
    torch.testing.assert_close(network.seen[0][part], network.seen[2])


def test_the_ascent_does_not_touch_batch_norm_statistics_or_weight_gradients(loss, passes, network, x, y):
    loss(Adversarial(), network, x, y)
    assert passes.modes == [False] * 7 + [True]
    assert all(torch.equal(later, passes.statistics[0]) for later in passes.statistics)
    assert network.first[1].num_batches_tracked == 1
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_frozen_layers_stay_frozen_through_the_ascent(loss, network, x, y):
    network.head.requires_grad_(False)
    network.second[1].eval()
    loss(Adversarial(), network, x, y).backward()
    assert not network.second[1].training and network.first[1].training
    assert network.head[1].weight.grad is None
    assert isinstance(network.first[0], nn.Conv2d) and network.first[0].weight.grad is not None


@pytest.mark.parametrize("method", [Adversarial(steps=2), Adversarial(steps=2, norm="l2", probability=0.5)])
def test_it_works_in_mixed_precision_and_for_one_image(loss, method, network, x, y):
    with torch.autocast("cpu", torch.bfloat16):
        loss(method, network, x, y).backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert loss(method, network, x[:1], y[:1]).isfinite()
