"""Errors under common corruptions in one number, from the per-example rows of the cells of one model.

``E_{s,c}`` is the error on type c at severity s (Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3):

``mean_error``
    ``mean_{s,c} E_{s,c}``, the unnormalised mean over all cells, 15 x 5 of them (AugMix, arXiv 1912.02781)
``summed_error``
    ``Σ_s E_{s,c}`` for each type, 0 to 5 (PatchUp, arXiv 2006.07794)
``mce``
    ``mean_c Σ_s E_{s,c} / Σ_s E^base_{s,c}``
``relative_mce``
    ``mean_c Σ_s (E_{s,c} - E_clean) / Σ_s (E^base_{s,c} - E^base_clean)``

1 is as good as the baseline. The baseline is another model measured on the same images, or AlexNet as published, for
ImageNet alone (:data:`ALEXNET`; the mean over severities of each type).

All cells share their images, so intervals are percentiles of a bootstrap over images: a resample takes an image in all
of its corruptions, clean, and for the baseline too. AlexNet's errors are constants. Numbers that are not there, such as
a relative error where corruptions cost the baseline nothing, are ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.rng import Rng

__all__ = ["ALEXNET", "EXTRA_TYPES", "TEST_TYPES", "CorruptionErrors", "Published", "published"]

AT_ONCE = 1 << 22
"""Numbers of a bootstrap held at a time: bounds memory."""


@dataclass(frozen=True)
class Published:
    """A baseline known by its numbers alone: fractions in [0, 1], means over the five severities."""

    name: str
    data: str
    """The data set of which they are the numbers."""
    clean: float
    errors: Mapping[str, float]


ALEXNET = Published(
    "AlexNet",
    "imagenet",
    0.4345,
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
)
"""As the authors' repository (hendrycks/robustness) states them."""


TEST_TYPES = tuple(ALEXNET.errors)
"""The 15 types that a mean over corruptions is of."""
EXTRA_TYPES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 types that are held out, to choose hyper-parameters by."""


def published(data: str) -> Published:
    """Return the published baseline for a data set; raises ``DataError`` where there is none."""
    if data != ALEXNET.data:
        raise DataError(
            f"corruption errors of {data}: expected a measured baseline, got {ALEXNET.name}'s published errors, which "
            "are of ImageNet alone; name a run of another model on the same images"
        )
    return ALEXNET


@dataclass(frozen=True, eq=False)
class CorruptionErrors:
    """The errors of one model on every image under every corruption."""

    types: tuple[str, ...]
    severities: tuple[int, ...]
    errors: NDArray[np.float64]
    """[images, types, severities]: 1 for wrong, 0 for right, between them the share of draws of a stochastic model."""
    label: NDArray[np.int64]
    """[images]: by which images of two models are known to be the same."""
    clean: NDArray[np.float64] | None = None
    """[images]: the same without a corruption; ``None`` where it was not measured."""

    @classmethod
    def of(
        cls, cells: Mapping[tuple[str, int], pd.DataFrame], clean: pd.DataFrame | None = None
    ) -> CorruptionErrors:
        """Gather the rows of cells, one for each type and severity, and those of the clean cell.

        Raises ``DataError`` for no cells, for a severity that only some types were measured at, and for cells of other
        images.
        """
        if not cells:
            raise DataError("corruption errors: expected the rows of at least one corruption, got none")
        types = tuple(dict.fromkeys(name for name, _ in cells))
        severities = tuple(sorted({severity for _, severity in cells}))
        missing = [f"{name} {s}" for name in types for s in severities if (name, s) not in cells]
        if missing:
            raise DataError(
                f"corruption errors: expected every type at severities {', '.join(map(str, severities))}, got none for "
                f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}; measure them, or leave the others out"
            )
        label = next(iter(cells.values()))["label"].to_numpy(dtype=np.int64)
        every = {f"{name} {severity}": rows for (name, severity), rows in cells.items()}
        for name, rows in (every if clean is None else every | {"clean": clean}).items():
            if not np.array_equal(rows["label"].to_numpy(dtype=np.int64), label):
                raise DataError(
                    f"corruption errors: expected the same images in every cell, got others in {name}; "
                    "measure all of them with the same data and n"
                )
        columns = [[_error(cells[name, severity]) for severity in severities] for name in types]
        errors = np.moveaxis(np.array(columns), 2, 0)
        return cls(types, severities, errors, label, None if clean is None else _error(clean))

    def summary(
        self, baseline: CorruptionErrors | Published | None = None, *, rng: Rng, resamples: int = 1000
    ) -> tuple[Measurement, ...]:
        """Return the mean error, and against a baseline mCE and, where both have clean errors, relative mCE."""
        numbers: dict[str, Callable[[_Resampled], NDArray[Any]]] = {"mean_error": _Resampled.mean_error}
        if baseline is not None:
            self._require_comparable(baseline)
            numbers["mce"] = _Resampled.mce
            if self.clean is not None and baseline.clean is not None:
                numbers["relative_mce"] = _Resampled.relative_mce
        return tuple(
            Measurement(name, *triple[0], len(self.errors))
            for name, triple in self._bootstrap(numbers, baseline, rng, resamples).items()
        )

    def by_type(
        self, baseline: CorruptionErrors | Published | None = None, *, rng: Rng, resamples: int = 1000
    ) -> pd.DataFrame:
        """Return a line for each type: ``type metric value ci_low ci_high``, of ``summed_error`` and, against a
        baseline, of ``corruption_error``, their quotient, and ``relative_corruption_error``.
        """
        numbers: dict[str, Callable[[_Resampled], NDArray[Any]]] = {"summed_error": _Resampled.summed_error}
        if baseline is not None:
            self._require_comparable(baseline)
            numbers["corruption_error"] = _Resampled.corruption_error
            if self.clean is not None and baseline.clean is not None:
                numbers["relative_corruption_error"] = _Resampled.relative_corruption_error
        found = self._bootstrap(numbers, baseline, rng, resamples)
        lines = [
            (name, metric, *triple)
            for metric, triples in found.items()
            for name, triple in zip(self.types, triples, strict=True)
        ]
        return pd.DataFrame(lines, columns=["type", "metric", "value", "ci_low", "ci_high"])

    def table(self) -> pd.DataFrame:
        """Return the error of each type (line) at each severity (column)."""
        return pd.DataFrame(self.errors.mean(0), index=[*self.types], columns=[*self.severities])

    def _require_comparable(self, baseline: CorruptionErrors | Published) -> None:
        known = baseline.types if isinstance(baseline, CorruptionErrors) else tuple(baseline.errors)
        unknown = [name for name in self.types if name not in known]
        if unknown:
            raise DataError(
                f"corruption errors: expected types that the baseline has too, got {', '.join(unknown[:5])}; "
                f"it has {', '.join(known)}"
            )
        if isinstance(baseline, Published):
            if self.severities != (1, 2, 3, 4, 5):
                raise DataError(
                    f"corruption errors: expected severities 1 to 5, as {baseline.name}'s errors are means over, got "
                    f"{', '.join(map(str, self.severities))}"
                )
        elif not np.array_equal(baseline.label, self.label):
            raise DataError(
                f"corruption errors: expected a baseline on the same {len(self.label)} images, got one on "
                f"{len(baseline.label)} others; measure both with the same data and n"
            )
        elif baseline.severities != self.severities:
            raise DataError(
                f"corruption errors: expected a baseline at severities {', '.join(map(str, self.severities))}, got "
                f"{', '.join(map(str, baseline.severities))}"
            )

    def _bootstrap(
        self,
        numbers: Mapping[str, Callable[[_Resampled], NDArray[Any]]],
        baseline: CorruptionErrors | Published | None,
        rng: Rng,
        resamples: int,
    ) -> dict[str, list[tuple[float | None, float | None, float | None]]]:
        """Return value, low and high of each number: a list of one, or of one for each type."""
        n = len(self.errors)
        whole = self._resampled(np.ones((1, n)), baseline)
        drawn = [self._resampled(weights, baseline) for weights in _weights(n, resamples, rng)]
        found = {}
        for name, number in numbers.items():
            values = np.concatenate([number(part) for part in drawn])
            # a resample in which the baseline loses nothing has no quotient
            bounds = np.full((2, values.shape[1]), np.nan)
            known = np.isfinite(values).all(0)
            bounds[:, known] = np.percentile(values[:, known], [2.5, 97.5], axis=0)
            triples = np.stack([number(whole)[0], *bounds], 1)
            found[name] = [
                (_number(value), _number(low), _number(high)) for value, low, high in triples.tolist()
            ]
        return found

    def _resampled(self, weights: NDArray[Any], baseline: CorruptionErrors | Published | None) -> _Resampled:
        own, clean = self._weighted(weights)
        if isinstance(baseline, Published):
            base = np.array([[baseline.errors[name] for name in self.types]])
            return _Resampled(own, clean, base, np.array([baseline.clean]))
        if baseline is None:
            return _Resampled(own, clean, None, None)
        theirs, base_clean = baseline._weighted(weights)
        return _Resampled(
            own, clean, theirs[:, [baseline.types.index(name) for name in self.types]].mean(2), base_clean
        )

    def _weighted(self, weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the errors [b, types, severities] and clean errors [b] of weighted images [b, n]."""
        n, *shape = self.errors.shape
        weights = weights / n
        errors = (weights @ self.errors.reshape(n, -1)).reshape(-1, *shape)
        return errors, None if self.clean is None else weights @ self.clean


@dataclass(frozen=True, eq=False)
class _Resampled:
    """Mean errors of b resamples, and every number that is made of them [b, 1] or [b, types]."""

    errors: NDArray[Any]
    clean: NDArray[Any] | None
    base: NDArray[Any] | None
    """Mean over severities of the baseline's errors [b, types], or [1, types]."""
    base_clean: NDArray[Any] | None

    def mean_error(self) -> NDArray[Any]:
        mean: NDArray[Any] = self.errors.mean((1, 2))[:, None]
        return mean

    def summed_error(self) -> NDArray[Any]:
        total: NDArray[Any] = self.errors.sum(2)
        return total

    def corruption_error(self) -> NDArray[Any]:
        assert self.base is not None
        return _quotient(self.errors.mean(2), self.base)

    def relative_corruption_error(self) -> NDArray[Any]:
        assert self.clean is not None and self.base is not None and self.base_clean is not None
        return _quotient(self.errors.mean(2) - self.clean[:, None], self.base - self.base_clean[:, None])

    def mce(self) -> NDArray[Any]:
        mean: NDArray[Any] = self.corruption_error().mean(1, keepdims=True)
        return mean

    def relative_mce(self) -> NDArray[Any]:
        mean: NDArray[Any] = self.relative_corruption_error().mean(1, keepdims=True)
        return mean


def _weights(n: int, resamples: int, rng: Rng) -> Iterator[NDArray[Any]]:
    """Yield how often each image is drawn in each resample [b, n]."""
    generator = rng.numpy()
    step = max(1, AT_ONCE // n)
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        drawn = generator.integers(0, n, (b, n)) + np.arange(b)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(float)


def _quotient(over: NDArray[Any], under: NDArray[Any]) -> NDArray[Any]:
    """Return the quotient where the denominator is above rounding, NaN elsewhere."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: NDArray[Any] = np.where(np.abs(under) > 1e-12, over / under, np.nan)
    return quotient


def _error(rows: pd.DataFrame) -> NDArray[np.float64]:
    return 1 - rows["score"].to_numpy(dtype=float)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
