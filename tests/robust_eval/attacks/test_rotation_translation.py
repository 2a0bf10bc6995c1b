"""The worst of a grid of rotations and translations, against torchvision and an exhaustive search."""

import pytest
import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks.rotation_translation import RotationTranslation
from robust_eval.errors import ConfigError
from robust_eval.types import StochasticModule

SHAPE = (3, 20, 24)


class Curved(nn.Module):
    """A smooth network whose rows are computed alike in a batch of any size."""

    def __init__(self, shape=SHAPE, classes=4):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        inputs = torch.Size(shape).numel()
        self.first = nn.Parameter(torch.randn(12, inputs, generator=generator, dtype=torch.float64) / 8)
        self.second = nn.Parameter(torch.randn(classes, 12, generator=generator, dtype=torch.float64))

    def forward(self, x):
        hidden = torch.tanh(((x.double().flatten(1) - 0.5)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)


def smooth_images(n, shape=SHAPE):
    """Photo-like images: a turn by a degree changes little."""
    generator = torch.Generator().manual_seed(n)
    coarse = torch.rand(n, shape[0], 5, 6, generator=generator)
    return nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear").clamp(0, 1)


def predicted(network, x):
    with torch.no_grad():
        return network(x).argmax(1)


SMALL = RotationTranslation(angles=5, shifts=3)
MILD = RotationTranslation(degrees=3, translation=0.05, angles=5, shifts=3)


def test_the_default_grid_is_the_papers():
    grid = RotationTranslation().grid(32, 32)
    assert len(set(grid)) == 31 * 5 * 5
    assert sorted({c.angle for c in grid}) == pytest.approx([2 * i - 30 for i in range(31)])
    assert sorted({c.right for c in grid}) == [-3, -1.5, 0, 1.5, 3] == sorted({c.down for c in grid})
    assert (0, 0, 0) in grid and abs(grid[0].angle) == 30
    wide = RotationTranslation().grid(28, 224)
    assert max(c.right for c in wide) == 22 and max(c.down for c in wide) == 3


def test_one_angle_and_one_shift_leave_the_image_alone():
    method, x = RotationTranslation(angles=1, shifts=1), smooth_images(3)
    assert method.grid(20, 24) == [(0, 0, 0)]
    assert torch.allclose(method._moved(x, method.grid(20, 24)[0]), x, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_a_candidate_equals_torchvisions_rotation_and_translation(interpolation):
    method, x = RotationTranslation(interpolation=interpolation), smooth_images(4)
    mode = InterpolationMode(interpolation)
    for candidate in method.grid(20, 24)[::60]:
        # torchvision's tensors move by whole pixels only
        if candidate.right % 1 or candidate.down % 1:
            continue
        shift = [int(candidate.right), int(candidate.down)]
        expected = reference.affine(x, candidate.angle, shift, 1.0, [0.0, 0.0], interpolation=mode)
        off = (method._moved(x, candidate) - expected).abs() > 1e-4
        assert off.double().mean() < 0.01


def test_half_a_pixel_to_the_right_is_the_mean_of_two_neighbours():
    x = smooth_images(2)
    method = RotationTranslation(angles=1)
    moved = method._moved(x, type(method.grid(20, 24)[0])(0.0, 0.5, 0.0))
    assert torch.allclose(moved[..., 1:], (x[..., 1:] + x[..., :-1]) / 2, atol=1e-5)
    assert torch.allclose(moved[..., 0], x[..., 0] / 2, atol=1e-5)


@pytest.mark.parametrize("stops", [True, False])
def test_an_image_is_fooled_where_any_of_the_grid_fools_the_model(stops):
    network, x = Curved(), smooth_images(48)
    y = predicted(network, x)
    candidates = [MILD._moved(x, candidate) for candidate in MILD.grid(20, 24)]
    wrong = torch.stack([predicted(network, moved) != y for moved in candidates])
    assert 0.1 < wrong.any(0).double().mean() < 1 and wrong.any(0).sum() > wrong.sum(1).max()
    classifier = Classifier(network, stop_when_fooled=stops)
    result = MILD.run(classifier, x, y, rng=Rng(0).for_batch(48))
    assert torch.equal(predicted(network, result.x_adv) != y, wrong.any(0))
    assert torch.equal(result.step >= 0, wrong.any(0))
    found = wrong.any(0)
    if stops:
        assert torch.equal(result.step[found], wrong.int().argmax(0)[found])
    else:
        logits = torch.stack([network(moved).detach() for moved in [*candidates, x]])
        right = logits.gather(2, y.expand(len(logits), -1)[..., None])[..., 0]
        others = logits.scatter(2, y.expand(len(logits), -1)[..., None], -torch.inf).amax(2)
        reached = network(result.x_adv).detach()
        own = reached.gather(1, y[:, None])[:, 0]
        assert torch.allclose(
            reached.scatter(1, y[:, None], -torch.inf).amax(1) - own, (others - right).amax(0), atol=1e-9
        )


def test_a_larger_grid_fools_at_least_as_many():
    network, x = Curved(), smooth_images(48)
    y = predicted(network, x)
    fooled = []
    for method in (RotationTranslation(angles=3, shifts=1), RotationTranslation(angles=5, shifts=3)):
        fooled.append(predicted(network, method(Classifier(network), x, y, rng=Rng(0))) != y)
    assert (fooled[1] | ~fooled[0]).all() and fooled[1].sum() > fooled[0].sum()


def test_an_image_leaves_when_it_is_fooled():
    network, x = Curved(), smooth_images(48)
    y = predicted(network, x)
    classifier = Classifier(network)
    result = SMALL.run(classifier, x, y, rng=Rng(0).for_batch(48))
    forwards = classifier.ledger["forwards"]
    found = result.step >= 0
    # before the first candidate the clean image, at the end the best one
    assert torch.equal(forwards[found], result.step[found] + 2)
    assert (forwards[~found] == 45 + 2).all()
    assert forwards.max() <= SMALL.cost(4).forwards


def test_a_model_that_cannot_be_fooled_gets_the_clean_image_back():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([1.0, 0.0]) + 0 * x.flatten(1).mean(1, keepdim=True)

    x = smooth_images(4)
    result = SMALL.run(Classifier(Constant()), x, torch.zeros(4, dtype=torch.int64), rng=Rng(0).for_batch(4))
    assert torch.equal(result.x_adv, x) and (result.step == -1).all()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batch_size_order_and_company_change_no_bit(size):
    network, x = Curved(), smooth_images(24)
    y = predicted(network, x)
    whole = SMALL(Classifier(network), x, y, rng=Rng(0))
    assert torch.equal(SMALL(Classifier(network, batch_size=size), x, y, rng=Rng(0)), whole)
    perm = torch.randperm(24, generator=torch.Generator().manual_seed(size))[:9]
    part = SMALL(Classifier(network), x[perm], y[perm], rng=Rng(0).rows(perm))
    assert torch.equal(part, whole[perm])


def test_a_result_stays_in_the_box_and_the_input_is_not_written():
    network, x = Curved(), smooth_images(24).mul(1.4).sub(0.2).clamp(0, 1)
    before, y = x.clone(), predicted(network, x)
    x_adv = SMALL(Classifier(network), x, y, rng=Rng(0))
    assert x_adv.min() >= 0 and x_adv.max() <= 1 and x_adv.dtype == x.dtype and not torch.equal(x_adv, x)
    assert torch.equal(x, before)
    assert (SMALL.threat.norm, SMALL.threat.degrees, SMALL.threat.translation) == ("spatial", 30, 0.1)


def test_a_stochastic_model_is_asked_about_every_candidate_with_fresh_draws():
    class Noisy(StochasticModule):
        def __init__(self):
            super().__init__()
            self.network, self.paths = Curved(), []

        def redraw(self, rng):
            self.noise = rng.normal(1).double() / 10
            self.paths.append(rng.path)

        def forward(self, x):
            return self.network(x) + self.noise * torch.tensor([1.0, 0, 0, 0])

    network, x = Noisy(), smooth_images(8)
    SMALL.run(Classifier(network), x, predicted(Curved(), x), rng=Rng(0).for_batch(8))
    assert len(network.paths) == len(set(network.paths)) == 45 + 2


@pytest.mark.parametrize(
    "wrong",
    [{"degrees": -1}, {"degrees": 181}, {"translation": 1}, {"angles": 0}, {"shifts": 0}, {"eps": 0.1}],
)
def test_fields_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"attack 'rotation_translation': .*{next(iter(wrong))}"):
        attack("rotation_translation", **wrong)
