import hashlib

import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.methods import FORWARD
from robust_eval.registry import build, describe

TAUGHT = torch.rand(40, generator=torch.Generator().manual_seed(2))
GAINS = torch.rand(40, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def method(file):
    return lambda **fields: build("curriculum", "teacher_order", {"teacher": file, **fields})


class Asked:
    """Hands the questions of an order on, and counts them."""

    def __init__(self, hand_set, taught=TAUGHT, gains=GAINS):
        self.hand_set, self.taught, self.gains = hand_set, taught, gains
        self.files, self.tried = [], []

    def __call__(self):
        asked = self

        class Watching(self.hand_set):
            def losses_under(self, weights):
                asked.files.append(weights)
                return super().losses_under(weights)

            def deltas(self, batches, reference=None, *, relative=False):
                asked.tried.append(batches)
                return super().deltas(batches, reference, relative=relative)

        return Watching(taught=self.taught, gains=self.gains)


def test_one_candidate_is_shuffled_and_nobody_is_asked(method, task, steps, hand_set):
    asked = Asked(hand_set)
    plain = steps(build("curriculum", "shuffled", {}).start(task()), 24)
    chosen = steps(method(k=1).start(task()), 24, asked)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(chosen, plain, strict=True))
    assert not asked.files and not asked.tried


def test_a_teacher_alone_sorts_a_pass_by_its_loss_and_no_step_is_tried(method, task, steps, hand_set):
    asked = Asked(hand_set)
    chosen = steps(method(k=8, share=1.0).start(task()), 8, asked)
    means = torch.stack([TAUGHT[choice.rows].mean() for choice in chosen])
    assert torch.equal(means, means.sort().values)
    assert not asked.tried


def test_a_teacher_with_next_to_no_share_leaves_it_to_the_steps(method, task, steps, hand_set):
    other = build("curriculum", "loss_delta", {"k": 3}).start(task())
    expected = steps(other, 16, lambda: hand_set(gains=GAINS))
    chosen = steps(method(k=3, share=1e-6).start(task()), 16, Asked(hand_set))
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(chosen, expected, strict=True))


@pytest.mark.parametrize(("share", "best"), [(0.2, 0), (0.5, 1), (0.9, 2)])
def test_the_score_is_the_weighted_sum_of_both_ranks(method, task, hand_set, share, best):
    """Ranks by the teacher 3, 1, 0, 2 and by the steps 0, 1, 3, 2, whatever the distances."""
    order = method(k=4, share=share).start(task(n=20))
    _, batches = order.left.draw(4)
    taught, gains = torch.zeros(20), torch.zeros(20)
    for rows, loss, gain in zip(batches, (90.0, 0.2, 0.1, 7.0), (0.4, 0.3, -5.0, 0.2), strict=True):
        taught[rows], gains[rows] = loss, gain
    assert torch.equal(order.next(Asked(hand_set, taught, gains)()).rows, batches[best])


def test_a_pass_is_a_permutation_and_the_teacher_is_asked_once(method, task, steps, hand_set, file):
    asked = Asked(hand_set)
    chosen = steps(method(k=3).start(task()), 16, asked)
    for half in (chosen[:8], chosen[8:]):
        assert torch.equal(torch.cat([choice.rows for choice in half]).sort().values, torch.arange(40))
    assert asked.files == [file]


def test_it_goes_on_where_it_was_without_asking_the_teacher_again(method, task, steps, hand_set):
    whole, first, second = (method(k=3).start(task()) for _ in range(3))
    expected = steps(whole, 20, Asked(hand_set))[11:]
    steps(first, 11, Asked(hand_set))
    second.restore(first.state())
    asked = Asked(hand_set)
    found = steps(second, 9, asked)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(found, expected, strict=True))
    assert not asked.files and asked.tried


@pytest.mark.parametrize("per_image", [1.0, 3.0])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_its_cost_is_that_of_the_steps_and_looks_it_asks_for(method, task, steps, hand_set, share, per_image):
    given, asked, made = task()._replace(per_image=per_image), Asked(hand_set), method(k=3, share=share)
    steps(made.start(given), 8, asked)
    tried = sum(len(batches) for batches in asked.tried)
    look = {1.0: FORWARD, 3.0: 2 + FORWARD}[per_image]
    assert made.evaluations(given) * 8 == pytest.approx(5 * tried * (per_image + look))
    assert bool(tried) is (share < 1)


def test_a_teacher_is_known_by_what_the_file_holds(method, file, tmp_path):
    first = describe(method()).params
    assert first["teacher_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert "teacher" not in first
    moved = file.rename(tmp_path / "moved.pt")
    assert describe(method(teacher=moved)).params == first
    moved.write_bytes(b"others")
    assert describe(method(teacher=moved)).params != first
    with pytest.raises(ConfigError, match=r"expected the teacher that was used then, got other weights"):
        method(teacher=moved, **first)


def test_what_is_no_file_is_refused(method, tmp_path):
    with pytest.raises(
        ConfigError, match=r"expected a weights file as teacher, got .*gone.pt', where there is none"
    ):
        method(teacher=tmp_path / "gone.pt")
    with pytest.raises(ConfigError, match=r"expected a weights file as teacher, .* where there is a folder"):
        method(teacher=tmp_path)
    with pytest.raises(ConfigError, match="field 'teacher' is missing"):
        build("curriculum", "teacher_order", {})


@pytest.mark.parametrize("fields", [{"k": 0}, {"share": 0.0}, {"share": 1.1}])
def test_fields_out_of_range_are_refused(method, fields):
    with pytest.raises(ConfigError, match=f"{next(iter(fields))}: expected"):
        method(**fields)


def test_more_candidates_than_batches_are_refused(method, task):
    with pytest.raises(ConfigError, match=r"teacher_order: expected k of at most 8, .* got 9; lower k"):
        method(k=9).start(task())
