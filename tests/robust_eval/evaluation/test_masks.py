"""Attacks that may change some pixels only, on linear models, where the answer is known: an example falls exactly when
its margin is below eps times the dual norm of the free weights.
"""

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import attack
from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Masked, views
from robust_eval.evaluation.perturbing import attacked
from robust_eval.registry import find, names
from robust_eval.rng import Rng

SHAPE = (2, 6, 5)
EPS = {"linf": 0.01, "l2": 0.03, "l1": 0.06}
N = 18


def rectangle():
    mask = torch.zeros(1, *SHAPE, dtype=torch.bool)
    mask[:, :, 1:4, 2:5] = True
    return mask


def scattered():
    return (torch.rand(1, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(5)) < 0.4).expand(1, *SHAPE)


def of_each_image():
    """Return one for each image, of two numbers of free values at places of its own."""
    order = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(6)).flatten(1).argsort(1)
    return (order < torch.tensor([14, 25]).repeat(N // 2)[:, None]).view(N, *SHAPE)


MASKS = {"rectangle": rectangle, "scattered": scattered, "of each image": of_each_image}


class Plane(nn.Module):
    """Two classes, told apart by a plane through the middle of the box."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)))

    def forward(self, x):
        side = ((x - 0.5) * self.w).flatten(1).sum(1)
        return torch.stack([-side, side], 1) / 2


def images(n=N):
    """Return images near the middle of the box, with the labels that the model gives them, and their margins."""
    x = 0.5 + 0.02 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(2))
    side = ((x - 0.5) * Plane().w).flatten(1).sum(1).detach()
    return x, (side > 0).long(), side.abs()


def reach(mask, norm):
    """Return how far eps goes along the free weights: eps times their dual norm."""
    weights = (Plane().w.detach() * mask).flatten(1)
    dual = {"linf": weights.abs().sum(1), "l2": weights.norm(dim=1), "l1": weights.abs().amax(1)}
    return EPS[norm] * dual[norm]


def run(method, mask, *, model=None):
    x, y, margins = images()
    model = Classifier(Plane()) if model is None else model
    free = mask.expand(len(x), *SHAPE)
    rng = Rng(0).rows(torch.arange(100, 100 + len(x)))
    found = attacked(method, model, x, y, torch.ones(len(x), dtype=torch.bool), rng=rng, free=free)
    with torch.no_grad():
        fooled = Plane()(found.x).argmax(1) != y
    return x, found, free, fooled, margins


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_within_a_mask_flips_exactly_what_the_dual_norm_of_the_free_weights_allows(mask, norm):
    free = MASKS[mask]()
    method = attack("pgd", norm=norm, eps=EPS[norm], relative_step_size=0.25)
    *_, fooled, margins = run(method, free)
    expected = margins < reach(free, norm)
    assert torch.equal(fooled, expected) and 0 < int(expected.sum()) < len(expected)


FIXED = [
    *(("fgsm", norm) for norm in ("linf", "l2")),
    *(("bim", norm) for norm in ("linf", "l2")),
    *(("mim", norm) for norm in ("linf",)),
    *(("apgd_ce", norm) for norm in ("linf", "l2", "l1")),
    *(("fab", norm) for norm in ("linf", "l2")),
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("name", "norm"), FIXED)
def test_attacks_within_a_radius_stay_there_and_find_what_is_clearly_to_be_found(name, norm, mask):
    free = MASKS[mask]()
    x, found, kept, fooled, margins = run(attack(name, norm=norm, eps=EPS[norm]), free)
    assert torch.equal(found.x[~kept], x[~kept])
    assert bool(
        (attack(name, norm=norm, eps=EPS[norm]).threat.distance(x, found.x) <= EPS[norm] * 1.001).all()
    )
    clear = margins < 0.93 * reach(free, norm)
    assert not (fooled & (margins > 1.001 * reach(free, norm))).any() and fooled[clear].all()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("deepfool", {}),
        ("ddn", {"steps": 40}),
        ("fmn", {"norm": "l2", "steps": 60}),
        ("fab_minimal", {"norm": "l2", "steps": 5}),
    ],
)
def test_the_smallest_perturbation_within_a_mask_is_the_margin_over_the_dual_norm(name, fields, mask):
    free = MASKS[mask]()
    x, found, kept, fooled, margins = run(attack(name, **fields), free)
    nearest = margins / (reach(free, "l2") / EPS["l2"])
    assert torch.equal(found.x[~kept], x[~kept])
    assert fooled.all()
    lengths = (found.x - x).flatten(1).norm(dim=1)
    assert bool((lengths >= nearest * 0.999).all()) and (lengths / nearest).median() < 1.05


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_moves_free_pixels_only_and_breaks_most_of_what_can_be_broken(norm, mask):
    free = MASKS[mask]()
    x, found, kept, fooled, margins = run(attack("square", norm=norm, eps=EPS[norm], queries=300), free)
    assert torch.equal(found.x[~kept], x[~kept])
    assert not (fooled & (margins > 1.001 * reach(free, norm))).any()
    assert fooled[margins < 0.6 * reach(free, norm)].float().mean() > 0.8


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_auto_attack_loses_nothing_to_pgd_within_a_random_mask_of_each_image(norm):
    # each image at a chosen share of what its own free weights can bring: from just below to just beyond the radius
    free, w = of_each_image(), Plane().w.detach()
    share = torch.linspace(0.9, 1.1, N)
    x = 0.5 + (share * reach(free, norm)).view(-1, 1, 1, 1) * w / w.square().sum()
    y, everyone, rng = (
        torch.ones(N, dtype=torch.int64),
        torch.ones(N, dtype=torch.bool),
        Rng(0).rows(torch.arange(N)),
    )
    short = {"pgd": {"relative_step_size": 0.1}, "auto_attack": {"steps": 20, "queries": 20, "targets": 1}}
    within = {}
    for name, fields in short.items():
        if norm in find("attack", name).norms:
            method = attack(name, norm=norm, eps=EPS[norm], **fields)
            found = attacked(method, Classifier(Plane()), x, y, everyone, rng=rng, free=free)
            assert torch.equal(found.x[~free], x[~free])
            with torch.no_grad():
                within[name] = Plane()(found.x).argmax(1) != y
    # a walk of finite length ends within 2 % of the best point of a ball with a round border
    sure = 0.999 if norm == "linf" else 0.98
    assert within["auto_attack"][share < sure].all() and not within["auto_attack"][share > 1.001].any()
    assert not (within.get("pgd", ~everyone) & ~within["auto_attack"]).any()


CHEAP = {"steps": 3, "queries": 5, "restarts": 1}
MASKABLE = [
    name
    for name in names("attack")
    if find("attack", name).masked_as and find("attack", name).min_classes < 3
]


@pytest.mark.parametrize("name", sorted({*MASKABLE} - {"auto_attack"}))
def test_no_attack_changes_a_pixel_that_is_not_free(name):
    fields = {
        field: value for field, value in CHEAP.items() if field in find("attack", name).__dataclass_fields__
    }
    x, found, kept, _, _ = run(attack(name, **fields), of_each_image())
    assert torch.equal(found.x[~kept], x[~kept])
    assert not torch.equal(found.x, x)


def test_images_without_a_free_pixel_are_left_as_they_are():
    mask = of_each_image()
    mask[::2] = False
    x, found, *_ = run(attack("pgd", eps=0.1), mask)
    assert (
        torch.equal(found.x[::2], x[::2]) and (found.step[::2] == -1).all() and (found.step[1::2] >= 0).any()
    )


def test_a_mask_of_all_pixels_is_no_mask():
    x, y, _ = images()
    whom, rng = torch.ones(len(x), dtype=torch.bool), Rng(0).rows(torch.arange(len(x)))
    method = attack("fgsm", eps=0.02)
    free = torch.ones(len(x), *SHAPE, dtype=torch.bool)
    masked, plain = (
        attacked(method, Classifier(Plane()), x, y, whom, rng=rng, free=each) for each in (free, None)
    )
    assert torch.allclose(masked.x, plain.x) and torch.equal(masked.step, plain.step)
    assert torch.equal(masked.forwards, plain.forwards) and torch.equal(masked.backwards, plain.backwards)


def test_a_gradient_that_lies_outside_of_the_mask_counts_as_zero():
    network = Plane()
    with torch.no_grad():
        network.w[:, 1:4, 2:5] = 0
    _, found, *_ = run(attack("fgsm", eps=0.02), rectangle(), model=Classifier(network))
    assert (found.zero_gradients > 0).all()


@pytest.mark.parametrize("layout", ["pixels", "crop", "image"])
def test_a_view_puts_parts_back_where_they_were_and_asks_of_the_whole_image(layout):
    x = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(3))
    free, rows = of_each_image(), []
    for view in views(free, layout):
        model = Masked(Classifier(Plane()), x[view.rows], view, view.rows + 7)
        assert torch.equal(model.whole(model.part), x[view.rows])
        whole = model.whole(torch.zeros_like(model.part))
        assert torch.equal(whole, x[view.rows] * ~free[view.rows])
        # in another order, and one of them twice
        asked = torch.tensor([*reversed(range(len(view.rows))), 0])
        logits = model.logits(torch.zeros_like(model.part)[asked], rng=Rng(0).rows((view.rows + 7)[asked]))
        assert torch.allclose(logits, Plane()(whole[asked]).detach(), atol=1e-6)
        rows += view.rows.tolist()
    assert sorted(rows) == list(range(N))


def test_an_attack_that_keeps_its_stream_to_itself_is_told():
    (view,) = views(rectangle(), "crop")
    model = Masked(Classifier(Plane()), torch.rand(1, *SHAPE), view, torch.tensor([0]))
    with pytest.raises(Exception, match="hands its stream on"):
        model.logits(model.part)
    assert np.isfinite(model.logits(model.part, rng=Rng(0).for_batch(1)).numpy()).all()
