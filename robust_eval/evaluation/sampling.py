"""Which images a cell measures: all of them, or under an attack so many that its accuracy is known well enough.

The proxy of an estimate is how far an image is from the nearest error if the model were linear around it: its margin
over the dual length of the margin's gradient, one gradient an image (as margin consistency, Kim et al. 2024, arXiv
2406.18451, takes the margin alone). Strata are parts of that order; :mod:`robust_eval.metrics.estimation` says how many
of each are attacked, round by round. One random order of the images, by the cell's seed, decides which: the first of
each stratum, whatever the attack. So attacks of one norm have images in common, and what they break together can be
told as well.

Ours: images are drawn without strata, which is said, where the proxy says nothing: without gradients, of a model that
draws, where gradients vanish on a tenth of the images, for what is bounded by no norm, where images are few, and where
the first of them show that strata would save little. Once all images are attacked, the record is like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from robust_eval.errors import NoGradientError
from robust_eval.evaluation.perturbing import whom_to_attack
from robust_eval.evaluation.prepared import Prepared
from robust_eval.evaluation.rows import together
from robust_eval.geometry import dual_length
from robust_eval.losses import margin
from robust_eval.methods import Attack
from robust_eval.metrics.estimation import LEAST, STRATA, Sampled, estimated, informs, more, strata
from robust_eval.results.estimates import SIZE, STRATUM, SURE
from robust_eval.rng import Rng, seeded
from robust_eval.threat import Ball, Threat

__all__ = ["Everything", "Part", "Sample", "chosen_images"]

Part = slice | Tensor
"""Images by their places: some that follow one another, or any."""
VANISHED = 0.1
"""Share of the images without a gradient from which on the proxy says nothing."""
_DUAL: dict[str, Ball] = {"linf": "linf", "l2": "l2", "l1": "l1", "l0": "l1"}
"""As which norm the length of a gradient is taken; of l0, as of l1, the pixel that changes most counts."""


class Everything:
    """All images, in parts that fit the memory."""

    order: slice | Tensor = slice(None)
    """In which the images of all parts come to stand in the order of the set."""
    told: dict[str, Any]
    """What provenance says of the choice."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.told = {}

    def __iter__(self) -> Iterator[Part]:
        yield from self._prepared.parts

    def saw(self, rows: pd.DataFrame) -> None:
        """Look at what was measured on the last part: nothing depends on it."""

    def together(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of all parts."""
        return together(parts)


class Sample(Everything):
    """Images in rounds, until the accuracy under the attack is known to within the cell's half-width."""

    def __init__(self, prepared: Prepared, half_width: float) -> None:
        super().__init__(prepared)
        cell = prepared.cell
        assert isinstance(cell.perturbation, Attack)
        self._half_width = half_width
        labels = cell.data.examples.labels.cpu()
        whom = whom_to_attack(prepared.aimed_at.clean.prediction.cpu(), labels)
        whom &= ~cell.perturbation.own_class(labels)
        order = Rng(cell.seed).child("estimate").numpy().permutation(len(labels))
        self._whom = order[whom.numpy()[order]]
        """Who may be attacked, in the order in which that happens."""
        self._sure = (~whom).nonzero()[:, 0].numpy()
        self._scores = np.full(len(labels), np.nan)
        self._last: Int[ndarray, " n"] = self._sure
        self._asked: list[Int[ndarray, " n"]] = []
        self._stratum = np.zeros(len(self._whom), dtype=np.int64)
        self.told = {"half_width": half_width}

    def __iter__(self) -> Iterator[Part]:
        yield from self._parts(self._sure)
        proxy = self._proxy()
        if proxy is not None:
            self._stratum = strata(proxy, STRATA)
        yield from self._parts(self._whom[: STRATA * LEAST])
        if proxy is not None and len(self._left) and not informs(self._sampled, self._half_width):
            self._stratum[:] = 0
            self.told["plain_because"] = "by the first images attacked, strata would save few or none"
        while (next_ := more(self._sampled, self._half_width)).any():
            yield from self._parts(np.concatenate([self._first(h, count) for h, count in enumerate(next_)]))
        self.told |= self._facts()

    def saw(self, rows: pd.DataFrame) -> None:
        """Look at what was measured on the last part."""
        self._scores[self._last] = rows["score"].to_numpy(dtype=float)

    def together(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of all parts in the order of the set, with their strata where not all were attacked."""
        places = np.concatenate(self._asked)
        order = np.argsort(places)
        self.order = torch.from_numpy(order)
        rows = together(parts).iloc[order].reset_index(drop=True)
        rows["index"] = places[order]
        if not len(self._left):
            return rows
        at = np.full(len(self._scores), SURE)
        at[self._whom] = self._stratum
        sizes = np.bincount(self._stratum)
        stratum = at[rows["index"].to_numpy()]
        size = np.where(stratum == SURE, len(self._sure), sizes[stratum])
        return rows.assign(**{STRATUM: stratum, SIZE: size})

    def _parts(self, places: Int[ndarray, " n"]) -> Iterator[Part]:
        size = self._prepared.at_a_time
        for start in range(0, len(places), size):
            self._last = places[start : start + size]
            self._asked.append(self._last)
            yield torch.from_numpy(self._last)

    def _first(self, stratum: int, count: int) -> Int[ndarray, " n"]:
        """Return the next images of a stratum."""
        return self._whom[(self._stratum == stratum) & np.isnan(self._scores[self._whom])][:count]

    @property
    def _left(self) -> Int[ndarray, " n"]:
        """Who may be attacked and was not."""
        return self._whom[np.isnan(self._scores[self._whom])]

    @property
    def _sampled(self) -> Sampled:
        scores = self._scores[self._whom]
        done = ~np.isnan(scores)
        sizes = np.bincount(self._stratum)
        return Sampled(
            sizes,
            np.bincount(self._stratum[done], minlength=len(sizes)),
            np.bincount(self._stratum[done], weights=scores[done], minlength=len(sizes)),
            len(self._sure),
            float(self._scores[self._sure].sum()),
        )

    def _facts(self) -> dict[str, Any]:
        if not len(self._whom):
            return {"attacked": 0, "of": len(self._scores)}
        known = self._sampled
        here = estimated(known).here
        return {
            "attacked": known.attacked,
            "of": known.images,
            "strata": len(known.sizes),
            "low": round(here.low, 6),
            "high": round(here.high, 6),
        }

    def _proxy(self) -> Float[ndarray, " n"] | None:
        """Return how far each image that may be attacked seems from an error; ``None`` where nothing tells."""
        prepared, why = self._prepared, ""
        assert isinstance(prepared.cell.perturbation, Attack)
        threat = prepared.cell.perturbation.threat
        norm = _DUAL.get(threat.norm) if isinstance(threat, Threat) else None
        if len(self._whom) < 2 * STRATA * LEAST:
            why = f"too few images for strata ({len(self._whom)})"
        elif norm is None:
            why = "what bounds the attack is no norm"
        elif prepared.black_box:
            why = "the model has no gradients"
        elif prepared.model.stochastic or prepared.aimed_at.model.stochastic:
            why = "the model draws"
        else:
            try:
                found = self._margins(norm)
            except NoGradientError:
                why = "the model has no gradients"
            else:
                lost = float((~np.isfinite(found)).mean())
                if lost <= VANISHED:
                    return found
                why = f"gradients vanish on {100 * lost:.0f} % of the images"
        self.told["plain_because"] = why
        return None

    def _margins(self, norm: Ball) -> Float[ndarray, " n"]:
        prepared, found = self._prepared, []
        size = prepared.at_a_time
        for start in range(0, len(self._whom), size):
            places = torch.from_numpy(self._whom[start : start + size])
            prepared.told("gradients of the clean images", start, len(self._whom))
            x, y = prepared.images(places)
            rng = prepared.rng(places).child("estimate")
            with seeded(rng):
                logits, gradient = prepared.followed.input_gradient(x, y, margin, rng=rng)
            if prepared.cell.mask is not None:
                gradient = gradient * prepared.cell.mask.of(places, x.device)
            slope = dual_length(gradient.flatten(1), norm)
            found.append((-margin(logits, y) / slope).where(slope > 0, torch.inf).double().cpu().numpy())
        self.told["gradients"] = len(self._whom)
        return np.concatenate(found)


def chosen_images(prepared: Prepared) -> Everything:
    """Return the images that a cell measures: iterate over the parts, and let it see the rows of each."""
    half_width = prepared.cell.estimate
    return Everything(prepared) if half_width is None else Sample(prepared, half_width)
