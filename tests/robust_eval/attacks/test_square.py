import math

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Function, Rng, attack
from robust_eval.attacks import square
from robust_eval.attacks._squares import Bumps, Sides, bump
from robust_eval.types import StochasticModule

NORMS = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
EPS = {"linf": 0.05, "l2": 0.4, "l1": 1.5}
P = {"linf": torch.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


def run(network, x, y, *, rng=None, **params):
    classifier = network if isinstance(network, Classifier) else Classifier(network)
    rng = Rng(0).for_batch(len(x)) if rng is None else rng
    with classifier.frozen():
        return attack("square", **params).run(classifier, x, y, rng=rng)


def length(x, x_adv, norm):
    return (x_adv - x).flatten(1).norm(p=P[norm], dim=1)


def squares(x, norm):
    """The best points of a search that has just begun."""
    rng = Rng(0).for_batch(len(x))
    return Sides.begin(x, EPS["linf"], rng) if norm == "linf" else Bumps.begin(x, EPS[norm], norm, rng)


class Spy(nn.Module):
    """A network of two classes; keeps what it was asked and the lead of the wrong class."""

    def __init__(self, lead):
        super().__init__()
        self.lead, self.asked, self.leads = lead, [], []

    def forward(self, x):
        lead = self.lead(x)
        self.asked.append(x.clone())
        self.leads.append(lead.detach())
        return torch.stack([torch.zeros_like(lead), lead], 1)


def alone(network):
    """A classifier that asks the network itself and nothing made of it."""
    return Classifier(network, accelerate=False)


def brightness(x):
    """Cannot be won inside a small ball, and has a best point that no single square reaches."""
    wave = torch.arange(x[0].numel(), dtype=x.dtype).view(x.shape[1:]).mul(1.7).sin()
    return (wave * x).flatten(1).sum(1) - 100


# Closed form


def test_on_a_linear_model_exactly_those_whose_margin_is_below_the_radius_are_fooled(
    images, linear, predicted
):
    network, x = linear(2), images(48)
    y = predicted(network, x)
    normal = network.weight.detach()[0] - network.weight.detach()[1]
    optimum = (network(x).detach() @ torch.tensor([1.0, -1.0], dtype=x.dtype)).abs() / normal.abs().sum()
    eps = optimum.median().item()
    result = run(network, x, y, eps=eps, queries=1000)
    fooled = predicted(network, result.x_adv) != y
    clear = (optimum / eps - 1).abs() > 1e-6
    assert torch.equal(fooled[clear], (optimum < eps)[clear])
    assert torch.equal(result.step >= 0, fooled)


@NORMS
def test_three_hundred_queries_climb_most_of_the_way_that_the_ball_allows(norm, monkeypatch):
    monkeypatch.setattr(square, "AHEAD", 1)
    x, y = torch.full((6, 3, 8, 8), 0.5), torch.zeros(6, dtype=torch.int64)
    spy = Spy(brightness)
    run(alone(spy), x, y, norm=norm, eps=EPS[norm], queries=300, rescaled_schedule=True)
    most = EPS[norm] * torch.arange(192.0).mul(1.7).sin().norm(p=DUAL[norm])
    start, best = ((leads - brightness(x)) / most for leads in (spy.leads[0], torch.stack(spy.leads).amax(0)))
    assert (start.abs() < 0.2).all()
    # bumps have one shape: they do not follow a gradient that changes from pixel to pixel
    assert (best > {"linf": 0.6, "l2": 0.4, "l1": 0.9}[norm]).all()


# What a square is


def test_the_schedule_halves_the_share_after_the_published_numbers_of_queries():
    def shares(queries=5000, **params):
        method = attack("square", queries=queries, **params)
        return [method._side(query, 1024, 1024) ** 2 / 1024**2 for query in range(queries)]

    usual = shares()
    for first, halvings in ((0, 0), (11, 1), (51, 2), (201, 3), (501, 4), (1001, 5), (2001, 6), (4001, 7)):
        assert usual[first] == pytest.approx(0.8 / 2**halvings, rel=0.02)
        if first:
            assert usual[first - 1] == pytest.approx(0.8 / 2 ** (halvings - 1), rel=0.02)
    assert shares(p_init=0.2)[0] == pytest.approx(0.2, rel=0.01)
    stretched = shares(1000, rescaled_schedule=True)
    assert [stretched[t] for t in (0, 2, 999)] == pytest.approx([0.8, 0.4, 0.8 / 512], rel=0.05)
    assert shares(20000)[8001] == pytest.approx(0.8 / 512, rel=0.05)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (4, 4), (5, 12), (12, 5), (1, 3)])
def test_squares_fit_into_the_image(height, width):
    for norm, least in (("linf", 1), ("l2", 3), ("l1", 3)):
        sides = {attack("square", norm=norm)._side(query, height, width) for query in range(0, 9000, 10)}
        assert min(sides) == min(least, height, width) and max(sides) <= min(height, width)
        if norm != "linf":
            assert all(side % 2 or side == min(height, width) for side in sides)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 9), (9, 5)])
def test_a_linf_proposal_changes_one_square_with_a_sign_for_each_channel(height, width):
    x, side = torch.full((400, 3, height, width), 0.5, dtype=torch.float64), 3
    state = squares(x, "linf")
    before = state.best.clone()
    # all the same sign, so that what changes is seen
    state.best[:] = x
    numbers = Rng(1).for_batch(400).uniform(state.numbers)
    delta = state.propose(torch.arange(400), side, numbers) - x
    assert torch.equal(delta.abs() > 1e-9, delta.abs() > EPS["linf"] - 1e-9)
    changed = delta.abs().sum(1) > 0
    assert (changed.sum((1, 2)) == side**2).all()
    rows, columns = changed.any(2), changed.any(1)
    assert (rows.sum(1) == side).all() and (columns.sum(1) == side).all()
    assert (delta.abs().amax((2, 3)) > 0).all() and delta.flatten(2).std(2, unbiased=False).gt(0).all()
    signs = delta.sum((2, 3)).sign()
    assert (signs.abs() == 1).all() and len(signs.unique(dim=0)) == 8
    # every place, the last row and column among them
    places = {(r.nonzero()[0].item(), c.nonzero()[0].item()) for r, c in zip(rows, columns, strict=True)}
    assert len(places) == (height - side + 1) * (width - side + 1)
    assert torch.equal(before, squares(x, "linf").best)


@NORMS
def test_a_proposal_is_that_of_its_row_alone_and_leaves_the_best_point_as_it_was(norm):
    x = torch.linspace(0.2, 0.8, 8 * 3 * 36).view(8, 3, 6, 6)
    state = squares(x, norm)
    before, rows = state.best.clone(), torch.tensor([5, 0, 5, 5])
    numbers = Rng(1).for_batch(4).uniform(state.numbers)
    proposed = state.propose(rows, 3, numbers)
    assert torch.equal(state.best, before) and len(proposed.unique(dim=0)) == 4
    for i, row in enumerate(rows):
        one = state.select(torch.arange(8) == row)
        assert torch.equal(one.best, state.best[row : row + 1])
        alone = one.propose(torch.zeros(1, dtype=torch.int64), 3, numbers[i : i + 1])
        assert torch.equal(alone, proposed[i : i + 1]) and not torch.equal(alone, one.best)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 4, 9), (3, 9, 4)], ids=str)
def test_bumps_use_all_of_the_radius_at_the_start_and_after_each_proposal(norm, shape):
    x = torch.full((5, *shape), 0.5, dtype=torch.float64)
    state = squares(x, norm)
    for turn in range(6):
        torch.testing.assert_close(
            length(x, state.best, norm), torch.full((5,), EPS[norm]).double(), rtol=2e-6, atol=0
        )
        assert (state.best - x).abs().amax((1, 2, 3)).min() > 0
        numbers = Rng(turn).for_batch(5).uniform(state.numbers)
        state.best = state.propose(torch.arange(5), 3, numbers)


def test_an_l2_proposal_empties_one_square_and_fills_another():
    x = torch.full((300, 2, 12, 12), 0.5, dtype=torch.float64)
    state = squares(x, "l2")
    before = (state.best - x).clone()
    after = state.propose(torch.arange(300), 3, Rng(1).for_batch(300).uniform(state.numbers)) - x
    emptied = (after.abs() < 1e-12) & (before.abs() > 1e-6)
    kept = after / before
    for i in range(300):
        # what was not touched keeps its proportions: at least 144 - 2 * 9 pixels of each channel
        ratios = kept[i][before[i].abs() > 1e-6]
        usual = ratios.median()
        assert ((ratios / usual - 1).abs() < 1e-6).sum() >= (before[i].abs() > 1e-6).sum() - 2 * 2 * 9
    # it overlaps the filled one now and then
    assert emptied.flatten(1).sum(1).median() > 2


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 4)])
@pytest.mark.parametrize("side", [1, 2, 3, 6, 7])
def test_a_bump_is_two_hills_of_opposite_sign_as_published(norm, power, side):
    upright, turned = bump(side, norm, torch.float64, torch.device("cpu")).view(2, side, side)
    assert upright.flatten().norm(p=P[norm]).item() == pytest.approx(1)
    assert torch.equal(upright.T, turned)
    upper = side // 2
    assert (upright[:upper] > 0).all() and (upright[upper:] < 0).all()

    def hill(height, width):
        centre = (height // 2, width // 2)
        value = torch.zeros(height, width, dtype=torch.float64)
        for r in range(height):
            for c in range(width):
                far = max(abs(r - centre[0]), abs(c - centre[1]))
                value[r, c] = sum(1 / (k + 1) ** power for k in range(far, max(height, width) // 2 + 1))
        return value / value.flatten().norm(p=P[norm])

    lower = hill(side - upper, side)
    both = torch.cat([hill(upper, side), -lower]) if upper else -lower
    torch.testing.assert_close(upright, both / both.flatten().norm(p=P[norm]))


# Queries


@NORMS
def test_the_point_with_the_highest_margin_of_all_queries_is_handed_back(norm, monkeypatch):
    monkeypatch.setattr(square, "AHEAD", 1)
    x = torch.full((6, 2, 8, 8), 0.5)
    spy, y = Spy(brightness), torch.zeros(6, dtype=torch.int64)
    result = run(alone(spy), x, y, norm=norm, eps=EPS[norm], queries=150)
    leads = torch.stack(spy.leads[-150:])
    asked = torch.stack(spy.asked[-150:])
    assert (result.step == -1).all()
    assert torch.equal(result.x_adv, asked[leads.argmax(0), torch.arange(6)])
    # queries change the best point so far: each differs from it in few pixels
    improved = (leads[1:] > leads.cummax(0).values[:-1]).double().mean()
    assert 0.02 < improved < 0.5


@NORMS
@pytest.mark.parametrize("queries", [1, 2, 63, 65, 130])
def test_as_many_queries_are_spent_as_were_allowed_and_none_after_a_success(
    norm, queries, linear, images, predicted
):
    network, x = linear(2), images(40)
    y = predicted(network, x)
    classifier, weight = Classifier(network), network.weight.detach()
    dual = (weight[0] - weight[1]).norm(p=DUAL[norm])
    # a quarter is out of reach
    optimum = network(x).detach().sub(network(x).detach().amax(1, keepdim=True)).abs().amax(1) / dual
    result = run(classifier, x, y, norm=norm, eps=optimum.quantile(0.75).item(), queries=queries)
    spent = classifier.ledger["forwards"]
    fooled = result.step >= 0
    assert (fooled.any() or queries < 60) and (~fooled).any()
    asked = torch.where(fooled, result.step + 1, queries)
    # what was thrown away went through the network too
    assert (spent >= asked).all() and (spent <= asked * 5 // 4).all()
    assert (spent[result.step == 0] == 1).all()


class RowByRow(nn.Module):
    """A smooth network in two classes whose rows are computed alike in a batch of any size."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = torch.randn(12, 48, generator=generator, dtype=torch.float64) / 2
        self.second = torch.randn(4, 12, generator=generator, dtype=torch.float64)

    def forward(self, x):
        hidden = torch.tanh(((x.flatten(1) - 0.5)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)


@NORMS
@pytest.mark.parametrize("stops", [True, False])
def test_several_proposals_from_one_state_give_the_result_of_one_after_another(
    norm, stops, monkeypatch, images, predicted
):
    network, x = RowByRow(), images(9, low=0.0, high=1.0)
    y, found = predicted(network, x), []
    for ahead, call in ((1, 8), (7, 1e6)):
        monkeypatch.setattr(square, "AHEAD", ahead)
        monkeypatch.setattr(square, "CALL", (call, call))
        model = Classifier(network, stop_when_fooled=stops)
        result = run(model, x, y, norm=norm, eps=EPS[norm] / 2, queries=80, restarts=2)
        found.append((result, model.ledger["forwards"].clone(), sum(model.ledger.batches.values())))
    (one, asked, calls), (several, asked_of_several, fewer) = found
    assert 0 < (one.step >= 0).sum() < 9 and (one.step > 0).any()
    assert torch.equal(one.step, several.step) and torch.equal(one.x_adv, several.x_adv)
    assert fewer < 0.8 * calls
    assert (asked_of_several >= asked).all() and (asked_of_several > asked).any()
    assert asked_of_several.sum() <= 1.25 * asked.sum()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_as_many_proposals_are_made_as_count_most_in_a_call(rate):
    def progress(chances, k, images):
        counted = sum((1 - rate) ** turn for turn in range(k))
        return counted / (square.CALL[0] + images * k)

    chances = square._Chances(torch.device("cpu"))
    for _ in range(100):
        chances.tell(tried=1000, accepted=round(1000 * rate))
    chosen = [chances.at_once(images, 256) for images in (1, 4, 16, 64, 300)]
    assert chosen == sorted(chosen, reverse=True) and chosen[-1] == 1 and chosen[0] > 1
    for images, many in zip((1, 4, 16, 64), chosen, strict=False):
        most = min(64, 256 // images)
        best = max(progress(chances, k, images) for k in range(1, most + 1))
        assert progress(chances, many, images) == pytest.approx(best, rel=1e-3)


def test_another_restart_is_spent_on_those_who_resist(linear, images, predicted):
    network, x = linear(2), images(64)
    y = predicted(network, x)
    one, three = (run(network, x, y, eps=0.1, queries=8, restarts=restarts) for restarts in (1, 3))
    first = one.step >= 0
    assert torch.equal(one.x_adv[first], three.x_adv[first]) and torch.equal(
        one.step[first], three.step[first]
    )
    later = ~first & (three.step >= 0)
    assert later.any() and (three.step[later] >= 8).all() and (three.step[later] < 24).all()


def test_no_two_examples_share_their_squares():
    x = torch.full((5, 3, 8, 8), 0.5)
    starts = squares(x, "linf").best
    assert len(starts.unique(dim=0)) == 5
    changes = squares(x, "linf").propose(torch.arange(5), 3, Rng(0).for_batch(5).uniform(5)) != starts
    assert len(changes.unique(dim=0)) == 5


class Rash(Classifier):
    """Proposes with noise, and thinks the wrong class wins long before it does."""

    proposes = True

    def proposal(self, x, *, rng=None):
        logits = super().proposal(x, rng=rng)
        return logits + torch.tensor([0.0, 0.3], dtype=logits.dtype)


def test_success_is_decided_at_full_precision(linear, images, predicted):
    network, x = linear(2), images(40)
    y = predicted(network, x)
    x, y = x[y == 0], y[y == 0]
    result = run(Rash(network), x, y, eps=0.08, queries=100)
    fooled = predicted(network, result.x_adv) != y
    assert torch.equal(result.step >= 0, fooled)
    assert fooled.any() and (~fooled).any()


# Models that draw


class Lucky(StochasticModule):
    """Noise on the margin, far larger than what a square changes."""

    def redraw(self, rng):
        self.noise = 0.5 * rng.normal().double()

    def forward(self, x):
        lead = brightness(x) + self.noise
        return torch.stack([torch.zeros_like(lead), lead], 1)


def test_a_lucky_draw_does_not_end_the_search_of_a_stochastic_model():
    x = torch.full((30, 1, 8, 8), 0.5, dtype=torch.float64)
    y = torch.zeros(30, dtype=torch.int64)
    reached = []
    for queries in (65, 513):
        classifier = Classifier(Lucky())
        result = run(classifier, x, y, eps=0.05, queries=queries)
        assert (classifier.ledger["forwards"] == queries + 10).all()
        reached.append((brightness(result.x_adv) - brightness(x)).mean().item())
    assert reached[1] > 1.2 * reached[0] > 0
    assert math.isfinite(reached[1])


def test_a_black_box_is_asked_about_no_proposal_for_nothing(linear, images, predicted):
    network, x = linear(2), images(8)
    y = predicted(network, x)
    function = Function(lambda z: network(torch.from_numpy(z)).detach().numpy())
    classifier = Classifier(function, accelerate=False)
    function.find_out(x[:1])
    before = function.queries
    result = run(classifier, x, y, norm="linf", eps=0.001, queries=40)
    assert (result.step < 0).all() and function.queries - before == 8 * 40
