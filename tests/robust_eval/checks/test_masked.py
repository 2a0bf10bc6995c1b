"""An examination of attacks that may change some pixels only looks at those: what is wrong elsewhere is none of its."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import robust_eval
from robust_eval import Classifier
from robust_eval.checks import Subject
from robust_eval.checks.card import card_of
from robust_eval.checks.gradients import gradient_agrees, smooth_loss
from robust_eval.checks.planted import planted
from robust_eval.checks.probes import (
    Probe,
    converged,
    unbounded,
    white_box_beats_noise,
    white_box_beats_square,
)
from robust_eval.results.concerns import examines
from robust_eval.results.load import load
from robust_eval.rng import Rng
from robust_eval.threat import Threat

SHAPE, N, EPS = (1, 6, 6), 24, 0.05
LEFT = torch.arange(6).view(1, 1, 6).expand(SHAPE) < 3


class Plane(nn.Module):
    """Two classes, told apart by a plane; of one half of the image the gradient may be none, as rounding has."""

    def __init__(self, blind=None):
        super().__init__()
        self.w = nn.Parameter(torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)))
        self.register_buffer("blind", torch.zeros(SHAPE, dtype=torch.bool) if blind is None else blind)

    def forward(self, x):
        seen = torch.where(self.blind, x.detach(), x)
        side = ((seen - 0.5) * self.w).flatten(1).sum(1)
        return torch.stack([-side, side], 1) / 2


def subject(network, free, norm="linf"):
    """Images at margins up to twice what the free pixels can bring."""
    w = network.w.detach()
    reach = EPS * (w * free).abs().sum() if norm == "linf" else EPS * (w * free).norm()
    margins = torch.linspace(0.05, 2, N) * reach
    x = 0.5 + margins.view(-1, 1, 1, 1) * w / w.square().sum()
    model = Classifier(network)
    held = free.expand(N, *SHAPE)
    made = Subject(
        model,
        Classifier(network),
        x,
        torch.ones(N, dtype=torch.int64),
        Threat(norm, EPS),
        Rng(0).for_batch(N),
        held,
    )
    return made, margins / reach


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_probes_break_what_the_free_pixels_can_and_nothing_else(norm):
    made, share = subject(Plane(), LEFT, norm)
    probe = Probe.of(made)
    assert white_box_beats_noise(probe).verdict == converged(probe).verdict == "ok"
    assert white_box_beats_square(probe, queries=50).verdict == "ok"
    assert (probe.broken_at[share < 0.9] <= EPS * 1.0001).all() and probe.broken_at[
        share > 1.01
    ].isinf().all()


@pytest.mark.parametrize(("free", "verdict"), [(LEFT, "ok"), (~LEFT, "warn")], ids=["elsewhere", "here"])
def test_a_gradient_that_is_wrong_counts_where_pixels_may_change(free, verdict):
    network = Plane(blind=~LEFT)
    made, _ = subject(network, free)
    assert gradient_agrees(made).verdict == verdict
    assert gradient_agrees(made._replace(free=None)).verdict == "warn"


def test_planted_points_and_neighbours_change_free_pixels_only():
    class Watched(Plane):
        outside = 0.0

        def forward(self, x):
            # a row may be of any image: the one that it is nearest to
            far = ((x[:, None] - self.around) * ~LEFT).flatten(2).abs().amax(2).amin(1)
            self.outside = max(self.outside, far.max().item())
            return super().forward(x)

    network = Watched()
    made, _ = subject(network, LEFT)
    network.around = made.x
    for check in (planted, smooth_loss):
        assert check(made).verdict == "ok"
    assert network.outside == 0
    planted(made._replace(free=None))
    assert network.outside > 0.5 * EPS


def test_what_a_mask_allows_at_will_is_not_known_to_be_enough():
    made, _ = subject(Plane(), LEFT)
    assert unbounded(made) is None and unbounded(made._replace(free=None)).verdict == "ok"


def test_a_masked_attack_is_judged_by_an_examination_within_its_mask(tmp_path):
    made, _ = subject(Plane(), LEFT)
    net, mask = Plane(), LEFT[0].numpy()
    settings = {"attacks": "pgd", "eps": EPS, "out": tmp_path, "progress": False}
    robust_eval.evaluate(net, made.x, made.y, mask=mask, **settings)
    found = load([tmp_path])
    (entry,) = (e for e in found.entries if e.labels["family"] == "attack")
    (look,) = found.examinations
    assert look.record.spec["mask"] == entry.record.spec["mask"]
    made_here = {
        check.name: check.verdict for check in entry.checks if card_of(check.name).about != "answers"
    }
    assert {"beats_examination", "planted", "gradient_agrees"} <= set(made_here)
    assert set(made_here.values()) == {"ok"} and np.isfinite(look.record.rows["broken_at"]).any()
    # one of all pixels says nothing of it, and the other way round
    bare = {name: value for name, value in look.record.spec.items() if name != "mask"}
    assert examines(look.record, entry.record) and not examines(replace(look.record, spec=bare), entry.record)
    assert not examines(look.record, replace(entry.record, spec=bare))
