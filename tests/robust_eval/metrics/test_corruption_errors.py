"""mCE and its kin, against plain loops and closed forms."""

import numpy as np
import pandas as pd
import pytest

from robust_eval.errors import DataError
from robust_eval.metrics.corruption_errors import ALEXNET, CorruptionErrors, published
from robust_eval.rng import Rng

SEVERITIES = (1, 2, 3, 4, 5)


def cells(n=200, types=("fog", "snow", "frost"), seed=0, base=0.2):
    """Rows of cells whose error rises with the severity, and of the clean cell."""
    generator = np.random.default_rng(seed)
    label = np.random.default_rng(99).integers(0, 10, n)
    hard = generator.uniform(size=n)
    made = {
        (name, s): pd.DataFrame({"label": label, "score": (hard > base + 0.05 * s + 0.05 * t).astype(float)})
        for t, name in enumerate(types)
        for s in SEVERITIES
    }
    return made, pd.DataFrame({"label": label, "score": (hard > base).astype(float)})


def values(measurements):
    return {m.metric: m.value for m in measurements}


def test_every_number_equals_a_loop_over_its_formula():
    (rows, clean), (other, other_clean) = cells(), cells(seed=1, base=0.35)
    own, base = CorruptionErrors.of(rows, clean), CorruptionErrors.of(other, other_clean)
    errors = {key: 1 - cell["score"].mean() for key, cell in rows.items()}
    theirs = {key: 1 - cell["score"].mean() for key, cell in other.items()}
    e, e_base = 1 - clean["score"].mean(), 1 - other_clean["score"].mean()
    summed, quotient, relative = {}, [], []
    for name in ("fog", "snow", "frost"):
        summed[name] = sum(errors[name, s] for s in SEVERITIES)
        quotient.append(summed[name] / sum(theirs[name, s] for s in SEVERITIES))
        relative.append(
            sum(errors[name, s] - e for s in SEVERITIES) / sum(theirs[name, s] - e_base for s in SEVERITIES)
        )
    found = values(own.summary(base, rng=Rng(0), resamples=10))
    assert found == pytest.approx(
        {
            "mean_error": np.mean(list(errors.values())),
            "mce": np.mean(quotient),
            "relative_mce": np.mean(relative),
        }
    )
    lines = own.by_type(base, rng=Rng(0), resamples=10).set_index(["metric", "type"])["value"]
    assert lines["summed_error"].to_dict() == pytest.approx(summed)
    assert lines["corruption_error"].tolist() == pytest.approx(quotient)
    assert lines["relative_corruption_error"].tolist() == pytest.approx(relative)
    assert own.table().loc["snow", 4] == pytest.approx(errors["snow", 4])


def test_a_model_is_as_good_as_itself_without_doubt():
    own = CorruptionErrors.of(*cells())
    for m in own.summary(own, rng=Rng(0), resamples=100)[1:]:
        assert (m.value, m.ci_low, m.ci_high, m.n) == pytest.approx((1, 1, 1, 200))


def test_alexnet_against_itself_is_one_and_half_its_errors_are_half():
    rows = {}
    for name, error in ALEXNET.errors.items():
        wrong = np.arange(1000) < round(error * 1000)
        rows |= {(name, s): pd.DataFrame({"label": 0, "score": 1.0 - wrong}) for s in SEVERITIES}
    clean = pd.DataFrame({"label": 0, "score": 1.0 - (np.arange(1000) < 434.5)})
    found = values(CorruptionErrors.of(rows, clean).summary(ALEXNET, rng=Rng(0), resamples=20))
    assert found["mce"] == pytest.approx(1, abs=1e-3) and found["relative_mce"] == pytest.approx(1, abs=5e-3)
    assert found["mean_error"] == pytest.approx(np.mean(list(ALEXNET.errors.values())), abs=1e-3)
    assert len(ALEXNET.errors) == 15


def test_the_interval_follows_the_shared_images():
    # fifteen cells that are wrong on the same images are no more certain than one of them
    n, wrong = 400, np.arange(400) < 100
    rows = {
        (name, s): pd.DataFrame({"label": 0, "score": 1.0 - wrong}, index=range(n))
        for name in ("fog", "snow", "frost")
        for s in SEVERITIES
    }
    (mean,) = CorruptionErrors.of(rows).summary(rng=Rng(0), resamples=4000)
    half = 1.96 * np.sqrt(0.25 * 0.75 / n)
    assert (mean.ci_low, mean.ci_high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.004)
    # with errors that have nothing to do with each other the interval is narrower by the root of 15
    generator = np.random.default_rng(0)
    for key in rows:
        rows[key] = rows[key].assign(score=generator.permutation(rows[key]["score"]))
    (apart,) = CorruptionErrors.of(rows).summary(rng=Rng(0), resamples=4000)
    ratio = (mean.ci_high - mean.ci_low) / (apart.ci_high - apart.ci_low)
    assert ratio == pytest.approx(np.sqrt(15), rel=0.1)


def test_intervals_depend_on_the_seed_only_and_hold_the_value():
    own, base = CorruptionErrors.of(*cells()), CorruptionErrors.of(*cells(seed=1, base=0.3))
    first, again, other = (own.summary(base, rng=Rng(seed), resamples=100) for seed in (0, 0, 1))
    assert first == again != other
    assert all(m.ci_low < m.value < m.ci_high for m in first)


def test_a_stochastic_models_shares_of_draws_are_averaged():
    rows = {("fog", 1): pd.DataFrame({"label": 0, "score": [0.5, 1.0, 0.0]})}
    (mean,) = CorruptionErrors.of(rows).summary(rng=Rng(0), resamples=5)
    assert mean.value == pytest.approx(0.5)


def test_what_was_not_measured_is_left_out():
    rows, clean = cells()
    own = CorruptionErrors.of(rows)
    assert set(values(own.summary(rng=Rng(0), resamples=5))) == {"mean_error"}
    base = CorruptionErrors.of(rows, clean)
    assert set(values(own.summary(base, rng=Rng(0), resamples=5))) == {"mean_error", "mce"}
    assert set(own.by_type(rng=Rng(0), resamples=5)["metric"]) == {"summed_error"}


def test_a_baseline_that_loses_nothing_has_no_relative_error():
    rows, clean = cells()
    flat = CorruptionErrors.of(dict.fromkeys(rows, clean), clean)
    found = {m.metric: m for m in CorruptionErrors.of(rows, clean).summary(flat, rng=Rng(0), resamples=5)}
    relative = found["relative_mce"]
    assert (relative.value, relative.ci_low, relative.ci_high) == (None, None, None)
    assert found["mce"].value > 1


def test_alexnet_is_refused_for_any_other_data():
    assert published("imagenet") is ALEXNET
    with pytest.raises(
        DataError, match=r"^corruption errors of cifar10: expected a measured baseline, got AlexNet's"
    ):
        published("cifar10")


def test_alexnet_needs_all_severities_and_its_own_types():
    rows, clean = cells()
    some = {key: cell for key, cell in rows.items() if key[1] > 2}
    with pytest.raises(DataError, match=r"expected severities 1 to 5, .* got 3, 4, 5"):
        CorruptionErrors.of(some, clean).summary(ALEXNET, rng=Rng(0))
    other = CorruptionErrors.of(*cells(types=("fog", "spatter")))
    with pytest.raises(DataError, match="got spatter; it has gaussian_noise, "):
        other.summary(ALEXNET, rng=Rng(0))


def test_cells_that_do_not_belong_together_are_refused():
    rows, clean = cells()
    with pytest.raises(DataError, match="at least one corruption, got none"):
        CorruptionErrors.of({})
    with pytest.raises(DataError, match="got none for snow 2; measure them"):
        CorruptionErrors.of({key: cell for key, cell in rows.items() if key != ("snow", 2)})
    with pytest.raises(DataError, match="got others in frost 3; "):
        CorruptionErrors.of(rows | {("frost", 3): clean[:-1]})
    with pytest.raises(DataError, match="got others in clean; "):
        CorruptionErrors.of(rows, clean.assign(label=clean["label"].to_numpy()[::-1]))


def test_a_baseline_of_other_images_types_or_severities_is_refused():
    own = CorruptionErrors.of(*cells())
    with pytest.raises(DataError, match="on the same 200 images, got one on 150 others"):
        own.summary(CorruptionErrors.of(*cells(n=150)), rng=Rng(0))
    with pytest.raises(DataError, match="got frost; it has fog, snow"):
        own.summary(CorruptionErrors.of(*cells(types=("fog", "snow"))), rng=Rng(0))
    rows, clean = cells()
    some = CorruptionErrors.of({key: cell for key, cell in rows.items() if key[1] < 3}, clean)
    with pytest.raises(DataError, match="baseline at severities 1, 2, 3, 4, 5, got 1, 2"):
        own.summary(some, rng=Rng(0))
