"""Which images a cell measures: all of them, or under an attack so many that its accuracy is known well enough.

The proxy of an estimate is how far an image is from the nearest error if the model were linear around it: its margin
over the dual length of the margin's gradient, one gradient an image (as margin consistency, Kim et al. 2024, arXiv
2406.18451, takes the margin alone). Strata are parts of that order, and one random order of the images, by the cell's
seed, decides who of each is attacked (:mod:`.rounds`), whatever the attack: so attacks of one norm have images in
common, and what they break together can be told as well.

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
from numpy.typing import NDArray
from torch import Tensor

from robust_eval.errors import NoGradientError
from robust_eval.evaluation.perturbing import whom_to_attack
from robust_eval.evaluation.prepared import Prepared
from robust_eval.evaluation.rounds import Rounds
from robust_eval.evaluation.rows import together
from robust_eval.geometry import dual_length
from robust_eval.losses import margin
from robust_eval.methods import Attack
from robust_eval.metrics.estimation import LEAST, STRATA, estimated
from robust_eval.results.estimates import SIZE, STRATUM
from robust_eval.rng import Rng, seeded
from robust_eval.threat import Ball, Threat, bare_norm

__all__ = ["Everything", "Part", "Sample", "chosen_images"]

Part = slice | Tensor
"""Images by their places: some that follow one another, or any."""
VANISHED = 0.1
"""Share of the images without a gradient from which on the proxy says nothing."""
_DUAL: dict[str, Ball] = {"linf": "linf", "l2": "l2", "l1": "l1", "l0": "l1"}
"""As which norm the length of a gradient is taken; of l0, as of l1, the pixel that changes most counts."""


class Everything:
    """All images, in parts that fit the memory."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.told: dict[str, Any] = {}
        """What provenance says of the choice."""
        self.order: slice | Tensor = slice(None)
        """In which the images of all parts come to stand in the order of the set."""

    def __iter__(self) -> Iterator[Part]:
        yield from self.prepared.parts

    def saw(self, rows: pd.DataFrame) -> None:
        """Look at what was measured on the last part: nothing depends on it."""

    def together(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of all parts."""
        return together(parts)


class Sample(Everything):
    """Images in rounds, until the accuracy under the attack is known to within the half-width."""

    def __init__(self, prepared: Prepared, half_width: float, *, rng: Rng) -> None:
        super().__init__(prepared)
        attack = prepared.cell.perturbation
        assert isinstance(attack, Attack)
        labels = prepared.cell.data.examples.labels.cpu()
        whom = whom_to_attack(prepared.aimed_at.clean.prediction.cpu(), labels) & ~attack.own_class(labels)
        order = rng.numpy().permutation(len(labels))
        self._rounds = Rounds(whom.numpy(), order, half_width)
        self._asked: list[NDArray[np.int64]] = []
        self.told = {"half_width": half_width}

    def __iter__(self) -> Iterator[Part]:
        yield from self._parts(self._rounds.sure)
        proxy = self._proxy()
        for places in self._rounds.places(proxy):
            yield from self._parts(places)
        if not self._rounds.saves:
            self.told["plain_because"] = "by the first images attacked, strata would save few or none"
        known = self._rounds.sampled
        self.told |= {"attacked": known.attacked, "of": known.images, "strata": len(known.sizes)}
        if len(self._rounds.left):
            low, high = estimated(known).here
            self.told |= {"low": round(low, 6), "high": round(high, 6)}

    def saw(self, rows: pd.DataFrame) -> None:
        """Look at what was measured on the last part."""
        self._rounds.saw(self._asked[-1], rows["score"].to_numpy(dtype=float))

    def together(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of all parts in the order of the set, with their strata where not all were attacked."""
        places = np.concatenate(self._asked)
        order = np.argsort(places)
        self.order = torch.from_numpy(order)
        rows = together(parts).iloc[order].reset_index(drop=True)
        rows["index"] = places[order]
        if not len(self._rounds.left):
            return rows
        stratum, size = self._rounds.strata_of(places[order])
        return rows.assign(**{STRATUM: stratum, SIZE: size})

    def _parts(self, places: NDArray[np.int64]) -> Iterator[Part]:
        size = self.prepared.at_a_time
        for start in range(0, len(places), size):
            self._asked.append(places[start : start + size])
            yield torch.from_numpy(self._asked[-1])

    def _proxy(self) -> NDArray[np.float64] | None:
        """Return how far each image that may be attacked seems from an error; ``None`` where nothing tells."""
        prepared, few = self.prepared, len(self._rounds.whom)
        assert isinstance(prepared.cell.perturbation, Attack)
        threat = prepared.cell.perturbation.threat
        norm = _DUAL.get(bare_norm(threat.norm)) if isinstance(threat, Threat) else None
        if few < 2 * STRATA * LEAST:
            why = f"{few} images that may be attacked are too few for strata"
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

    def _margins(self, norm: Ball) -> NDArray[np.float64]:
        """Return margin over slope of whom may be attacked; infinity where there is no slope."""
        prepared, whom, found = self.prepared, self._rounds.whom, []
        for start in range(0, len(whom), prepared.at_a_time):
            places = torch.from_numpy(whom[start : start + prepared.at_a_time])
            prepared.told("gradients of clean images", start, len(whom))
            x, y = prepared.images(places)
            rng = prepared.rng(places).child("estimate")
            with seeded(rng):
                logits, gradient = prepared.followed.input_gradient(x, y, margin, rng=rng)
            if prepared.cell.mask is not None:
                gradient = gradient * prepared.cell.mask.of(places, x.device)
            slope = dual_length(gradient.flatten(1), norm)
            found.append((-margin(logits, y) / slope).where(slope > 0, torch.inf).double().cpu().numpy())
        self.told["gradients"] = len(whom)
        return np.concatenate(found)


def chosen_images(prepared: Prepared) -> Everything:
    """Return the images that a cell measures: iterate over the parts, and let it see the rows of each."""
    cell = prepared.cell
    if cell.estimate is None:
        return Everything(prepared)
    return Sample(prepared, cell.estimate, rng=Rng(cell.seed).child("estimate"))
