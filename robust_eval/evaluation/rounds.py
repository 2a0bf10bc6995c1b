"""Who is attacked for an estimate, round by round: of each stratum the first in one random order of all images.

A round of all strata comes first; it says whether strata are worth it. Where they are not, the images that follow are
the next ones of the whole order, so that the sample is a plain one. :mod:`robust_eval.metrics.estimation` says how many
of each stratum come next.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robust_eval.metrics.estimation import LEAST, STRATA, Sampled, informs, more, strata
from robust_eval.results.estimates import SURE

__all__ = ["Rounds"]

Places = NDArray[np.int64]


class Rounds:
    """The rounds on a set of images; iterate over :meth:`places`, and tell the scores of each with :meth:`saw`."""

    def __init__(self, whom: NDArray[np.bool_], order: Places, half_width: float) -> None:
        """``whom`` says of each image whether it may be attacked, and ``order`` holds the places of all."""
        self.half_width = half_width
        self.whom = order[whom[order]]
        """Who may be attacked, in the order in which that happens."""
        self.sure = np.flatnonzero(~whom)
        """Whose outcome needs no attack."""
        self._scores = np.full(len(whom), np.nan)
        self._stratum = np.zeros(len(self.whom), dtype=np.int64)
        self.saves = True
        """Whether the first round found strata worth it."""

    def places(self, proxy: NDArray[np.float64] | None) -> Iterator[Places]:
        """Yield whom to attack next; ``proxy`` orders :attr:`whom`, ``None`` draws them without strata."""
        if proxy is not None:
            self._stratum = strata(proxy, STRATA)
        yield self.whom[: STRATA * LEAST]
        if proxy is not None and len(self.left) and not informs(self.sampled, self.half_width):
            self._stratum, self.saves = np.zeros_like(self._stratum), False
        while len(self.left) and (wanted := more(self.sampled, self.half_width)).any():
            yield np.concatenate([self._next(h, count) for h, count in enumerate(wanted.tolist())])

    def saw(self, places: Places, scores: NDArray[np.float64]) -> None:
        """Take down the scores of some images."""
        self._scores[places] = scores

    @property
    def left(self) -> Places:
        """Who may be attacked and was not."""
        return np.asarray(self.whom[np.isnan(self._scores[self.whom])])

    @property
    def sampled(self) -> Sampled:
        """What is known by now."""
        scores = self._scores[self.whom]
        done = ~np.isnan(scores)
        sizes = np.bincount(self._stratum)
        return Sampled(
            sizes,
            np.bincount(self._stratum[done], minlength=len(sizes)),
            np.asarray(
                np.bincount(self._stratum[done], weights=scores[done], minlength=len(sizes)), dtype=np.float64
            ),
            len(self.sure),
            float(self._scores[self.sure].sum()),
        )

    def strata_of(self, places: Places) -> tuple[Places, Places]:
        """Return the stratum of each of these images, and how many images it has."""
        at = np.full(len(self._scores), SURE)
        at[self.whom] = self._stratum
        stratum = at[places]
        sizes = np.append(np.bincount(self._stratum), len(self.sure))  # the last is that of -1
        return stratum, sizes[stratum]

    def _next(self, stratum: int, count: int) -> Places:
        free = (self._stratum == stratum) & np.isnan(self._scores[self.whom])
        return np.asarray(self.whom[free][:count])
