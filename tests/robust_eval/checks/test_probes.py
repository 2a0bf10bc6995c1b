"""Small attacks find what is there in honest models, and each fault makes one of them stumble."""

import pytest
import torch
from torch import nn

from robust_eval.checks import Subject
from robust_eval.checks.planted import planted
from robust_eval.checks.probes import (
    Probe,
    converged,
    falls_with_eps,
    iterative_beats_single_step,
    unbounded,
    white_box_beats_noise,
    white_box_beats_square,
)
from robust_eval.classifier import Classifier
from robust_eval.rng import Rng
from robust_eval.threat import Threat

PROBES = [
    unbounded,
    falls_with_eps,
    iterative_beats_single_step,
    white_box_beats_noise,
    white_box_beats_square,
    converged,
]


class Linear(nn.Module):
    """Two classes, of which a grey image is the first by ``lead``; any pixel's weight is 1 or -1."""

    def __init__(self, lead):
        super().__init__()
        signs = torch.randint(2, (16,), generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.register_buffer("signs", signs.float())
        self.lead = lead

    def score(self, x):
        return self.lead - (x - 0.5).flatten(1) @ self.signs

    def forward(self, x):
        return nn.functional.pad(self.score(x)[:, None], (0, 1))


class Masked(Linear):
    """Its gradient is there only within ``reach`` of the grey image."""

    def __init__(self, lead, reach):
        super().__init__(lead)
        self.reach = reach

    def score(self, x):
        score, near = super().score(x), (x - 0.5).flatten(1).abs().amax(1) <= self.reach
        return torch.where(near, score, score.detach())


class Reversed(Linear):
    def score(self, x):
        score = super().score(x)
        return 2 * score.detach() - score


class Band(Linear):
    """Wrong only in a thin layer on the way, which long steps jump over."""

    def score(self, x):
        score = super().score(x)
        along = (self.lead - score.detach()) / (16 * 0.1)
        return score - 10 * ((along > 0.6) & (along < 0.63))


@pytest.fixture
def grey():
    """Make a subject of 32 grey images of the first class."""

    def make(network, eps, n=32):
        model = Classifier(network, precision="fp32")
        x = torch.full((n, 1, 4, 4), 0.5)
        return Subject(model, model, x, torch.zeros(n).long(), Threat("linf", eps), Rng(0).for_batch(n))

    return make


@pytest.mark.parametrize(("name", "norm"), [("plain", "l2"), ("robust", "linf"), ("smoothed", "linf")])
def test_honest_models_pass_every_probe(zoo, subject, name, norm):
    made = Probe.of(subject(getattr(zoo, name), norm=norm, eps=0.1 if norm == "linf" else 0.8))
    for probe in PROBES:
        check = probe(made)
        assert check.verdict == "ok", check


@pytest.mark.parametrize("name", ["large logits", "quantised"])
def test_an_attack_without_bounds_that_finds_nothing_fails(zoo, subject, name):
    check = unbounded(subject(zoo.faults[name]))
    assert (check.verdict, check.figure) == ("fail", 1)


def test_chance_is_what_is_left_to_a_model_attacked_without_bounds(grey):
    assert unbounded(grey(Linear(1.0), 0.05)).figure == 0
    # one of two classes is chance level for a model of two: four images that resist prove nothing
    assert unbounded(grey(Masked(1.0, 0.0), 0.05, n=4)).verdict == "ok"


def test_accuracy_that_rises_with_the_radius_fails(grey):
    check = falls_with_eps(grey(Masked(0.3, 0.06), 0.05))
    assert check.verdict == "fail"
    assert check.figure > 0.9
    honest = falls_with_eps(grey(Linear(0.3), 0.05))
    assert (honest.verdict, honest.figure) == ("ok", 0)


def test_one_step_that_beats_ten_is_noticed(grey):
    check = iterative_beats_single_step(grey(Masked(0.7, 0.0), 0.05))
    assert check.verdict == "warn"
    assert check.figure > 0.9


def test_noise_that_beats_a_gradient_of_the_wrong_sign_is_noticed(grey):
    check = white_box_beats_noise(grey(Reversed(0.23), 0.05))
    assert check.verdict == "fail"
    assert check.figure > 0.15


def test_square_breaks_what_a_zero_gradient_hides(zoo, subject):
    made = subject(zoo.faults["large logits"])
    check = white_box_beats_square(made, queries=300)
    assert check.verdict == "fail"
    assert check.figure > 0.1


def test_an_attack_too_short_to_converge_is_noticed(grey):
    check = converged(grey(Band(3.0), 0.1))
    assert check.verdict == "warn"
    assert check.figure > 0.1


@pytest.mark.parametrize("name", ["plain", "robust", "normal"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_planted_examples_are_found_in_honest_models(zoo, subject, name, norm):
    made = subject(getattr(zoo, name), norm=norm, eps=0.1 if norm == "linf" else 0.8)
    assert planted(made).figure >= 0.95


@pytest.mark.parametrize("name", ["quantised", "shattered"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_planted_examples_are_missed_where_gradients_lead_nowhere(zoo, subject, name, norm):
    check = planted(subject(zoo.faults[name], norm=norm, eps=0.1 if norm == "linf" else 0.8))
    assert check.verdict == "warn"
    assert check.figure < 0.5


def test_planted_examples_are_rare_and_provably_there(zoo, subject):
    from robust_eval.checks import planted as module

    made = subject(zoo.plain, n=16)
    rng, free = made.rng.child("planted"), torch.ones_like(made.x, dtype=torch.bool)
    readout = module._plant(made.seen, made.x, free, made.threat, rng)
    rows = torch.arange(16)
    assert readout.exists.all()
    surface = [
        module._surface(made.x, free, made.threat, rng.child("outer", i)) for i in range(module.CANDIDATES)
    ]
    scores = torch.stack([readout.score(made.seen.logits(point), rows) for point in surface])
    assert (scores.amax(0) > 0).all()
    assert all(made.threat.distance(made.x, point).max() <= 0.1 + 1e-6 for point in surface)
    fresh = [module._inside(made.x, free, made.threat, rng.child("fresh", i)) for i in range(50)]
    lucky = torch.stack([readout.score(made.seen.logits(point), rows) > 0 for point in fresh])
    assert lucky.double().mean() < 0.01


def test_nothing_is_planted_in_a_stochastic_model(zoo, subject):
    assert planted(subject(zoo.smoothed)) is None


def test_nothing_is_planted_in_a_constant_model(grey):
    class Constant(Linear):
        def forward(self, x):
            return 0 * super().forward(x) + torch.tensor([1.0, 0.0])

    assert planted(grey(Constant(1.0), 0.1)) is None


def test_a_probe_runs_an_attack_once(zoo, subject):
    made = subject(zoo.plain, n=8)
    probe = Probe.of(made)
    iterative_beats_single_step(probe)
    before = made.model.ledger["backwards"].sum()
    iterative_beats_single_step(probe)
    assert made.model.ledger["backwards"].sum() == before
    assert Probe.of(probe) is probe


def test_a_figure_does_not_depend_on_the_batch_size(zoo, subject):
    made = subject(zoo.robust, n=16)
    for probe in (unbounded, white_box_beats_noise, planted):
        small = Classifier(zoo.robust, precision="fp32", batch_size=5)
        assert probe(made._replace(model=small, seen=small)) == probe(made)


def test_a_probe_remembers_the_shortest_perturbation_that_broke_an_image(grey):
    # a grey image resists where 16 eps < lead: 0.25 and 0.5 times 0.05, and is broken by FGSM from 0.025 on
    made = Probe.of(grey(Linear(0.6), 0.05, n=4))
    assert made.broken_at.isinf().all()
    for eps in (0.0125, 0.025):
        made.attacked("fgsm", {}, eps=eps)
        assert made.broken_at.isinf().all()
    made.attacked("fgsm", {}, eps=0.05)
    assert made.broken_at.tolist() == pytest.approx([0.05] * 4)
    made.attacked("fgsm", {}, eps=0.04)
    assert made.broken_at.tolist() == pytest.approx([0.04] * 4)
    made.attacked("fgsm", {}, eps=0.1)
    assert made.broken_at.tolist() == pytest.approx([0.04] * 4)


def test_a_probe_remembers_what_broke_the_rest_and_nothing_in_another_norm(grey):
    made = Probe.of(grey(Linear(0.3), 0.05, n=4))
    made.attacked("pgd", {"steps": 5}, norm="l2", eps=5.0)
    assert made.broken_at.isinf().all()
    made.after(torch.tensor([1.0, 0.0, 0.5, 1.0]).double(), "fgsm", {})
    assert made.broken_at.isfinite().tolist() == [True, False, False, True]


class Saddle(nn.Module):
    """Wrong at one end of the ball; a third of all starts lead to the other."""

    def forward(self, x):
        pixel = (x[:, 0, 0, 0] - 0.5) / 0.1
        score = torch.where(pixel > -0.3, 1 - 2 * pixel, 0.6 + 0.1 * pixel)
        return nn.functional.pad(score[:, None], (0, 1))


def test_before_square_speaks_gradients_are_asked_from_more_starts(grey):
    made = Probe.of(grey(Saddle(), 0.1))
    climbed = made.attacked("pgd", {"steps": 10})
    searched = made.after(climbed, "square", {"queries": 100})
    assert ((climbed >= 0.8) & (searched <= 0.2)).sum() > 4, "one start misses many that square finds"
    check = white_box_beats_square(made)
    assert (check.verdict, check.figure) == ("ok", 0)
