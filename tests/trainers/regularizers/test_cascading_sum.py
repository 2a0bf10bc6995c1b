import pytest

from robust_eval.errors import ConfigError
from robust_eval.registry import build, describe
from robust_eval.rng import Rng
from trainers.regularizers.cascading_sum import CascadingSum
from trainers.regularizers.erm import ERM
from trainers.regularizers.sum_augmentation import SumAugmentation

N = 16


def test_drawn_coefficients_reach_every_stage_and_change_no_key_where_there_are_none():
    stages = CascadingSum(k=4, coefficients="beta", alpha=0.2).stages()
    assert [stage.regularizer for stage in stages] == [
        SumAugmentation(k=size, coefficients="beta", alpha=0.2) for size in (4, 2, 1)
    ]
    assert set(describe(CascadingSum()).params) == {
        *("k", "stop", "divide_by_k", "give_up_after", "criterion", "label_smoothing")
    }
    assert describe(CascadingSum(coefficients="random")).params["coefficients"] == "random"


@pytest.mark.parametrize(
    ("k", "stop", "sizes"),
    [(8, 1, [8, 4, 2, 1]), (8, 2, [8, 4, 2]), (6, 1, [6, 3, 1]), (1, 1, [1]), (2, 2, [2])],
)
def test_a_cascade_halves_k_down_to_stop(k, stop, sizes):
    stages = CascadingSum(k=k, stop=stop, criterion="bce", label_smoothing=0.1).stages()
    assert [stage.regularizer for stage in stages] == [
        SumAugmentation(k=size, criterion="bce", label_smoothing=0.1) for size in sizes
    ]
    assert {stage.share for stage in stages} == {1 / len(sizes)}
    assert {stage.hand_over for stage in stages} == {"best"}


def test_a_cascade_cannot_stop_where_it_never_comes():
    with pytest.raises(ConfigError, match="expected stop to be one of 8, 4, 2, 1, got 3"):
        build("regularizer", "cascading_sum", {"k": 8, "stop": 3})


def test_a_cascade_of_one_image_is_erm(network, x, y):
    rng = Rng(0).for_batch(N)
    cascade, plain = (
        method.loss(network, x, y, rng=rng, progress=0.5).item() for method in (CascadingSum(k=1), ERM())
    )
    assert cascade == pytest.approx(plain, abs=1e-6)


def test_its_own_loss_is_that_of_its_first_stage(network, x, y):
    rng = Rng(0).for_batch(N)
    cascade, first = (
        method.loss(network, x, y, rng=rng, progress=0.5).item()
        for method in (CascadingSum(k=4), SumAugmentation(k=4))
    )
    assert cascade == first
    assert CascadingSum(k=4).evaluations(N) == 4
