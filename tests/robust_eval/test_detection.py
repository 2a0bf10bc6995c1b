"""Detection out of distribution, against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn import metrics
from torch import nn

from robust_eval import Classifier, Rng
from robust_eval.detection import MEASURES, SCORES, detect, gaussian_images, measure, uniform_images
from robust_eval.errors import DataError
from robust_eval.types import StochasticModule


def scores(n=600, m=400, shift=1.0, decimals=None):
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(shift, size=n), generator.normal(size=m)
    return (inside, outside) if decimals is None else (inside.round(decimals), outside.round(decimals))


def measured(inside, outside, resamples=20):
    table = measure({"score": (inside, outside)}, rng=Rng(0), resamples=resamples)
    assert tuple(table["metric"]) == MEASURES
    return dict(zip(table["metric"], table["value"], strict=True))


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_areas_equal_scikit_learns(decimals):
    inside, outside = scores(decimals=decimals)
    found = measured(inside, outside)
    truth, score = np.arange(1000) < 600, np.concatenate([inside, outside])
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(truth, score))
    assert found["aupr_in"] == pytest.approx(metrics.average_precision_score(truth, score))
    assert found["aupr_out"] == pytest.approx(metrics.average_precision_score(~truth, -score))
    fpr, tpr, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    assert found["detection_accuracy"] == pytest.approx(((tpr + 1 - fpr) / 2).max())
    assert found["tnr_at_95_tpr"] == pytest.approx(1 - fpr[tpr >= 0.95 - 1e-12].min())


def test_areas_approach_those_of_two_normal_distributions():
    found = measured(*scores(100_000, 100_000), resamples=2)
    assert found["auroc"] == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.005)
    assert found["detection_accuracy"] == pytest.approx(norm.cdf(0.5), abs=0.005)
    # 95 % of the own images lie above 1 - 1.645
    assert found["tnr_at_95_tpr"] == pytest.approx(norm.cdf(1 - norm.ppf(0.95)), abs=0.01)


def test_equal_sets_cannot_be_told_apart_and_separate_ones_can():
    same = np.arange(100.0)
    found = measured(same, same)
    assert found["auroc"] == 0.5 and found["detection_accuracy"] == 0.5
    assert found["tnr_at_95_tpr"] == pytest.approx(0.05)
    apart = measured(same + 100, same)
    assert set(apart.values()) == {1.0}
    mirrored = measured(same, same + 100)
    assert mirrored["auroc"] == 0 and mirrored["tnr_at_95_tpr"] == 0 and mirrored["detection_accuracy"] == 0.5


def test_a_score_with_one_value_knows_nothing():
    found = measured(np.zeros(30), np.zeros(10))
    assert (found["auroc"], found["detection_accuracy"], found["tnr_at_95_tpr"]) == (0.5, 0.5, 0.0)
    assert (found["aupr_in"], found["aupr_out"]) == (0.75, 0.25)


def test_swapping_the_sets_and_the_sign_swaps_the_precisions():
    inside, outside = scores(decimals=1)
    one, other = measured(inside, outside), measured(-outside, -inside)
    assert one["auroc"] == pytest.approx(other["auroc"])
    assert (one["aupr_in"], one["aupr_out"]) == pytest.approx((other["aupr_out"], other["aupr_in"]))


def test_at_least_95_percent_of_few_images_are_kept():
    # of 20, one may be lost; of 19, none
    inside = np.arange(20.0)
    assert measured(inside, np.array([0.5]))["tnr_at_95_tpr"] == 1
    assert measured(inside[:19], np.array([0.5]))["tnr_at_95_tpr"] == 0


def test_the_interval_of_the_auroc_is_hanley_and_mcneils():
    table = measure({"score": scores(600, 400)}, rng=Rng(0), resamples=2000)
    line = table.set_index("metric").loc["auroc"]
    area = line["value"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 599 * (q1 - area**2) + 399 * (q2 - area**2)) / 600 / 400)
    assert line["ci_high"] - line["ci_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert line["ci_low"] < area < line["ci_high"]


def test_the_interval_depends_on_the_seed_only():
    inside, outside = scores()
    first, again, other = (
        measure({"score": (inside, outside)}, rng=Rng(seed), resamples=50) for seed in (0, 0, 1)
    )
    assert first.equals(again) and not first["ci_low"].equals(other["ci_low"])


class Brightness(nn.Module):
    """Two logits: as large as the image is bright, and zero."""

    def forward(self, x):
        bright = 10 * x.flatten(1).mean(1)
        return torch.stack([bright, torch.zeros_like(bright)], 1)


def images(n, low, high):
    generator = torch.Generator().manual_seed(n)
    return low + (high - low) * torch.rand(n, 3, 4, 4, generator=generator)


def test_a_model_that_is_sure_of_its_own_images_alone_is_told_so_by_every_score():
    table = detect(Classifier(Brightness()), images(50, 0.6, 1), images(40, 0, 0.4), rng=Rng(0), resamples=20)
    assert list(table["score"].unique()) == list(SCORES)
    assert (table["value"] == 1).all() and (table["ci_low"] == 1).all()
    assert set(table["n_in"]) == {50} and set(table["n_out"]) == {40}


def test_scores_are_those_of_their_papers():
    z = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(SCORES["max_softmax"](z).sigmoid().float(), z.softmax(1).amax(1))
    assert torch.allclose(SCORES["energy"](z).float(), z.exp().sum(1).log())
    assert torch.equal(SCORES["max_logit"](z).float(), z.amax(1))


def test_confident_answers_are_still_told_apart():
    z = torch.tensor([[50.0, 0.0], [60.0, 0.0]])
    assert z.double().softmax(1).amax(1).unique().numel() == 1
    low, high = SCORES["max_softmax"](z)
    assert low < high


def test_outputs_that_are_not_finite_are_none_of_the_models_own():
    class Broken(Brightness):
        def forward(self, x):
            return torch.where(x.flatten(1).mean(1, keepdim=True) < 0.5, torch.nan, super().forward(x))

    table = detect(Classifier(Broken()), images(20, 0.6, 1), images(20, 0, 0.4), rng=Rng(0), resamples=5)
    assert (table["value"] == 1).all()


def test_the_batch_size_of_the_model_changes_nothing():
    tables = [
        detect(Classifier(Brightness(), batch_size=size), images(30, 0, 1), images(20, 0, 0.6), rng=Rng(0))
        for size in (64, 7)
    ]
    assert tables[0].equals(tables[1])


def test_a_stochastic_model_gets_its_draws():
    class Noisy(StochasticModule):
        def redraw(self, rng):
            self.noise = rng.normal(1)

        def forward(self, x):
            return Brightness()(x) + self.noise * torch.tensor([1.0, 0.0])

    first, again = (
        detect(Classifier(Noisy()), images(30, 0, 1), images(20, 0, 0.6), rng=Rng(0), resamples=5)
        for _ in range(2)
    )
    assert first.equals(again)


def test_noise_is_in_the_box_and_a_row_depends_on_its_id_only():
    shape = (3, 8, 8)
    uniform, normal = uniform_images(200, shape, rng=Rng(0)), gaussian_images(200, shape, rng=Rng(0))
    for x in (uniform, normal):
        assert x.shape == (200, *shape) and x.min() >= 0 and x.max() <= 1
        assert x.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, rel=0.02)
    # clipped at half a standard deviation
    assert (normal == 0).double().mean().item() == pytest.approx(norm.cdf(-0.5), abs=0.01)
    assert gaussian_images(200, shape, rng=Rng(0), std=0.1).std().item() == pytest.approx(0.1, rel=0.02)
    rows = Rng(0).rows(torch.tensor([150, 3]))
    assert torch.equal(uniform_images(2, shape, rng=rows), uniform[[150, 3]])
    assert torch.equal(gaussian_images(2, shape, rng=rows), normal[[150, 3]])


@pytest.mark.parametrize("other", [(3, 8, 8), (1, 4, 4)])
def test_images_of_another_shape_are_refused_with_the_way_out(other):
    with pytest.raises(
        DataError, match=r"^detection: expected images of 3x4x4 .*, got \dx\dx\d; resize.*size = 4"
    ):
        detect(Classifier(Brightness()), images(4, 0, 1), torch.rand(4, *other), rng=Rng(0))


def test_no_images_and_pixels_outside_the_box_are_refused():
    model, x = Classifier(Brightness()), images(4, 0, 1)
    with pytest.raises(DataError, match="at least one of the other images"):
        detect(model, x, x[:0], rng=Rng(0))
    with pytest.raises(DataError, match=r"the other images in \[0, 1\], got"):
        detect(model, x, x - 0.5, rng=Rng(0))
