import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import Outputs
from robust_eval.registry import build

CLUMPS = torch.tensor([0.0, 100.0, 200.0])
"""Three clumps in each class, far from each other: 5, 3 and 2 images."""
SIZES = torch.tensor([5, 3, 2])


@pytest.fixture
def outputs():
    """Ten images in each of four classes, in clumps of a radius below 1."""
    generator = torch.Generator().manual_seed(0)
    clump = torch.repeat_interleave(torch.arange(3), SIZES)
    # image i of class c is at row 4 i + c
    features = (CLUMPS[clump][:, None] + torch.rand(10, 4, generator=generator)).reshape(40, 1)
    return Outputs(torch.zeros(40, 4), features)


def chosen(task, steps, hand_set, outputs, number, **fields):
    order = build("curriculum", "set_cover", {"after": 0} | fields).start(task)
    return steps(order, number, lambda: hand_set(seen=outputs))


def clump_of(outputs, rows):
    return (outputs.features[rows, 0] / 100).long()


def test_a_pass_has_one_image_of_each_ball_weighted_by_its_size(task, steps, hand_set, outputs):
    for choice in chosen(task(batch_size=12), steps, hand_set, outputs, 5, radius=1.0):
        pairs = sorted(zip((choice.rows % 4).tolist(), clump_of(outputs, choice.rows).tolist(), strict=True))
        assert pairs == [(label, clump) for label in range(4) for clump in range(3)]
        assert torch.equal(choice.weights, SIZES[clump_of(outputs, choice.rows)].float())
        assert choice.weights.sum() == 40


def test_each_pass_draws_anew_and_in_the_end_shows_every_image(task, steps, hand_set, outputs):
    found = chosen(task(batch_size=12), steps, hand_set, outputs, 40, radius=1.0)
    rows = torch.cat([choice.rows for choice in found])
    assert len(rows.unique()) == 40
    counts = torch.bincount(rows, minlength=40)[clump_of(outputs, torch.arange(40)) == 2]
    assert counts.sum() == 4 * 40 and counts.min() > 8  # one of two, by even chance


def test_weighted_only_takes_all_images_by_the_density_around_them(task, steps, hand_set, outputs):
    found = chosen(task(batch_size=10), steps, hand_set, outputs, 4, radius=1.0, weighted_only=True)
    rows, weights = (torch.cat(part) for part in zip(*found, strict=True))
    assert torch.equal(rows.sort().values, torch.arange(40))
    assert torch.equal(weights, SIZES[clump_of(outputs, rows)].float())


def test_without_weights_balls_count_alike(task, steps, hand_set, outputs):
    (choice,) = chosen(task(batch_size=12), steps, hand_set, outputs, 1, radius=1.0, weighted=False)
    assert choice.weights is None


def test_a_share_of_pairs_sets_the_radius_of_each_class_whatever_the_scale(task, steps, hand_set, outputs):
    # (10 + 3 + 1) of 45 pairs are within a clump
    for scale in (1e-3, 1.0, 1e3):
        scaled = outputs._replace(features=outputs.features * scale)
        (choice,) = chosen(task(batch_size=12), steps, hand_set, scaled, 1, share=14 / 45)
        assert sorted(choice.weights.tolist()) == sorted([5.0, 3.0, 2.0] * 4)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_a_ratio_sets_how_many_images_cover_each_class(task, hand_set, ratio):
    generator = torch.Generator().manual_seed(2)
    # 100 images of each of two classes, of very different scales
    features = torch.randn(200, 5, generator=generator) * torch.tensor([1.0, 1000.0]).repeat(100)[:, None]
    seen = Outputs(torch.zeros(200, 2), features)
    method = build("curriculum", "set_cover", {"after": 0, "ratio": ratio})
    order = method.start(task(n=200, classes=2))
    order.next(hand_set(seen=seen))
    for label in range(2):
        clusters = order.selection.group[torch.arange(200) % 2 == label].unique()
        assert 0.8 * ratio * 100 - 1 <= len(clusters) <= ratio * 100


@pytest.mark.parametrize(
    ("radius", "what"),
    [(1e9, "one ball covers each class"), (0.0, "each image is covered by its own ball alone")],
)
def test_a_radius_that_leaves_no_choice_is_refused_with_the_distances(
    task, steps, hand_set, outputs, radius, what
):
    with pytest.raises(
        ConfigError, match=rf"with which {what}; distances in the largest class are 0\.\d+, .* 20\d"
    ):
        chosen(task(), steps, hand_set, outputs, 1, radius=radius)


def test_it_goes_on_where_it_was_within_a_pass(task, steps, hand_set, outputs):
    def trial():
        return hand_set(seen=outputs)

    method = build("curriculum", "set_cover", {"radius": 1.0, "after": 1, "every": 3})
    expected = steps(method.start(task()), 30, trial)[13:]
    first, second = method.start(task()), method.start(task())
    steps(first, 13, trial)
    second.restore(first.state())
    for one, other in zip(steps(second, 17, trial), expected, strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.weights, other.weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"share": 0.0}, "share: expected > 0, got 0.0"),
        ({"share": 1.0}, "share: expected < 1, got 1.0"),
        ({"radius": -1.0}, "radius: expected >= 0, got -1.0"),
        ({"ratio": 0.0}, "ratio: expected > 0, got 0.0"),
        ({"ratio": 0.5, "radius": 2.0}, "ratio: expected neither radius nor weighted_only with it"),
        ({"weighted_only": True, "weighted": False}, "weighted_only: expected weighted = true with it"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError, match=message):
        build("curriculum", "set_cover", fields)


def test_a_share_that_covers_all_is_refused_at_first_and_told_later(task, steps, hand_set, outputs, caplog):
    with pytest.raises(
        ConfigError, match=r"share: expected balls that leave a choice, got 0.999, with which one ball"
    ):
        chosen(task(), steps, hand_set, outputs, 1, share=0.999)
    order = build("curriculum", "set_cover", {"after": 0, "every": 1, "radius": 1.0}).start(
        task(batch_size=12)
    )
    order.next(hand_set(seen=outputs))
    # the network has grown since
    order.next(hand_set(seen=outputs._replace(features=outputs.features * 1e6)))
    assert "each image is covered by its own ball alone" in caplog.text


def test_a_ratio_says_what_a_selection_costs(task):
    method = build("curriculum", "set_cover", {"every": 1, "ratio": 0.25})
    assert method.evaluations(task()) == pytest.approx(5 / 3 / 0.25)
