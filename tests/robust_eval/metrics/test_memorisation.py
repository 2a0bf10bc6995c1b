"""What a card says of noisy labels is taken from the right passes."""

from robust_eval.metrics.memorisation import memorisation


def row(untouched, corrupted, validation=None, stage=0):
    learnt = {"untouched_accuracy": untouched, "corrupted_accuracy": corrupted}
    return {"stage": stage, "validation_accuracy": validation, **learnt}


def test_best_is_the_first_pass_with_the_highest_validation_accuracy():
    history = [row(0.5, 0.1, 0.4), row(0.8, 0.2, 0.7), row(0.9, 0.4, 0.7), row(1.0, 0.9, 0.6)]
    assert memorisation(history) == {
        "untouched": {"best": 0.8, "last": 1.0},
        "corrupted": {"best": 0.2, "last": 0.9},
    }


def test_without_validation_each_part_has_its_own_highest():
    history = [row(0.5, 0.3), row(0.8, 0.1), row(0.7, 0.2)]
    assert memorisation(history) == {
        "untouched": {"best": 0.8, "last": 0.7},
        "corrupted": {"best": 0.3, "last": 0.2},
    }


def test_only_the_last_stage_counts_as_for_the_weights_that_come_back():
    history = [row(0.9, 0.9, 0.9), row(0.5, 0.2, 0.4, stage=1), row(0.6, 0.3, 0.5, stage=1)]
    assert memorisation(history)["corrupted"] == {"best": 0.3, "last": 0.3}


def test_a_part_that_no_label_is_in_is_left_out():
    assert memorisation([row(0.9, None, 0.8)]) == {"untouched": {"best": 0.9, "last": 0.9}}


def test_a_training_without_noise_says_nothing():
    assert memorisation([{"stage": 0, "validation_accuracy": 0.5}]) == memorisation([]) == {}
