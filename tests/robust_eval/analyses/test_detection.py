"""Detection of images that are none of the model's classes, by networks that know them or do not."""

import numpy as np
import pytest
import torch

from robust_eval import Rng
from robust_eval.analyses.detection import SCORES, Detection
from robust_eval.metrics.detection import MEASURES, measure
from robust_eval.types import StochasticModule

FAST = Detection(resamples=20)


def test_a_model_that_is_sure_of_its_own_images_alone_is_told_so_by_every_score(look, bright, images):
    table = look(FAST, bright(), images(50, 0.6, 1), other=images(40, 0, 0.4))
    found = FAST.summary(table)
    assert {number.metric for number in found} == {f"{m}_{s}" for m in MEASURES for s in SCORES}
    assert all((number.value, number.ci_low, number.n) == (1, 1, 40) for number in found)


def test_a_model_that_cannot_tell_the_sets_apart_is_at_chance(look, bright, images):
    table = look(FAST, bright(), images(40), other=images(40))
    found = {number.metric: number.value for number in FAST.summary(table)}
    assert all(found[f"auroc_{score}"] == 0.5 for score in SCORES)
    assert all(found[f"tnr_at_95_tpr_{score}"] == pytest.approx(0.05) for score in SCORES)


def test_the_table_holds_the_scores_of_each_image(look, bright, images):
    own, other = images(6, 0.2, 1), images(5, 0, 0.4)
    table = look(FAST, bright(), own, other=other)
    assert list(table.columns) == ["set", "index", *SCORES]
    assert list(table["set"]) == ["in"] * 6 + ["out"] * 5
    logits = bright()(torch.cat([own.x, other.x])).double()
    for name, score in SCORES.items():
        np.testing.assert_allclose(table[name], score(logits).numpy())


def test_the_summary_is_that_of_the_measures(look, bright, images):
    table = look(FAST, bright(), images(30), other=images(20, 0, 0.6))
    inside, outside = (table[table["set"] == name]["energy"].to_numpy() for name in ("in", "out"))
    wanted = measure({"energy": (inside, outside)}, rng=Rng(7), resamples=2).set_index("metric")["value"]
    found = {number.metric: number.value for number in FAST.summary(table)}
    assert all(found[f"{name}_energy"] == wanted[name] for name in MEASURES)


def test_labels_of_the_other_images_do_not_matter(look, bright, images):
    tables = [
        look(FAST, bright(), images(10), other=images(8)._replace(y=torch.full((8,), label), classes=100))
        for label in (0, 99)
    ]
    assert tables[0].equals(tables[1])


def test_outputs_that_are_not_finite_are_none_of_the_models_own(look, bright, images, numbers):
    class Broken(bright):
        def forward(self, x):
            return torch.where(x.flatten(1).mean(1, keepdim=True) < 0.5, torch.nan, super().forward(x))

    table = look(FAST, Broken(), images(20, 0.6, 1), other=images(20, 0, 0.4))
    assert set(numbers(FAST, table).values()) == {1.0}


def test_a_stochastic_model_gets_its_draws(look, bright, images):
    class Noisy(StochasticModule):
        def redraw(self, rng):
            self.noise = rng.normal(1)

        def forward(self, x):
            return bright()(x) + self.noise * torch.tensor([1.0, 0.0])

    first, again, other = (look(FAST, Noisy(), images(30), other=images(20), seed=seed) for seed in (0, 0, 1))
    assert first.equals(again) and not first["energy"].equals(other["energy"])


@pytest.mark.parametrize(("own", "others", "known"), [(8, 8, True), (7, 40, False), (40, 7, False)])
def test_of_few_images_there_is_no_interval(look, bright, images, own, others, known):
    found = FAST.summary(look(FAST, bright(), images(own), other=images(others)))
    assert {number.ci_low is not None for number in found} == {known}
    assert {number.ci_high is not None for number in found} == {known}
    assert all(number.value is not None for number in found)
