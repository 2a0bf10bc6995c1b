"""How a model answers images: its predictions, and how far they are those of the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from robust_eval.adaptive import GlobalDraws
from robust_eval.classifier import Classifier
from robust_eval.metrics.classification import CLASSES_KEPT
from robust_eval.metrics.per_example import per_example
from robust_eval.rng import Rng, seeded
from robust_eval.types import Images, Labels, Logits, Mask

__all__ = ["Scored", "asked_twice", "fooled_in_bytes", "score"]


class Scored(NamedTuple):
    """How a model answers a batch."""

    prediction: Labels
    """The class; for a stochastic model the one most draws give. -1 where the output is not finite."""
    confidence: Float[Tensor, " n"]
    """Probability of the predicted class, averaged over draws."""
    score: Float[Tensor, " n"]
    """1 for correct, 0 for wrong; the share of correct draws for a stochastic model."""
    worst: Float[Tensor, " n"] | None
    """1 where every draw is correct; ``None`` for a deterministic model."""
    measures: dict[str, Tensor]
    """Each metric of :data:`robust_eval.metrics.per_example.PER_EXAMPLE` by its name, [n]."""
    probabilities: Float[Tensor, "n k"] | None
    """Of each class, averaged over draws, in float32; ``None`` for more than ``CLASSES_KEPT`` classes."""

    def part(self, which: slice | Tensor) -> Scored:
        """Return the answers to some of the images."""
        columns: list[Any] = [_mapped(lambda column: column[which], column) for column in self]
        return Scored(*columns)

    @classmethod
    def together(cls, parts: Sequence[Scored]) -> Scored:
        """Return the answers to several batches as those to one."""
        columns: list[Any] = [
            _mapped(lambda *several: torch.cat(several), *column) for column in zip(*parts, strict=True)
        ]
        return cls(*columns)


def score(model: Classifier, x: Images, y: Labels, *, draws: int, rng: Rng) -> Scored:
    """Score a model on images [n,c,h,w] with labels [n]; a stochastic one over ``draws`` that no attack has seen."""
    with seeded(rng):
        outputs = [
            model.logits(x, rng=rng.child("draw", draw)).double().softmax(1)
            for draw in range(draws if model.stochastic else 1)
        ]
    predictions = torch.stack([_predicted(output) for output in outputs])
    probabilities = torch.stack(outputs).mean(0)
    right = (predictions == y).double()
    # the class most draws give; the smallest of several
    majority = predictions.mode(0).values
    confidence = probabilities.gather(1, majority.clamp(min=0)[:, None])[:, 0]
    worst = right.amin(0) if model.stochastic else None
    kept = probabilities.float() if probabilities.shape[1] <= CLASSES_KEPT else None
    return Scored(majority, confidence, right.mean(0), worst, per_example(probabilities, y), kept)


def fooled_in_bytes(
    model: Classifier, x_adv: Images, y: Labels, fooled: Mask, *, draws: int, rng: Rng
) -> Mask:
    """Return which of the images that are ``fooled`` [n] fool the model as well when rounded to 8 bits a channel.

    ``rng`` is the one that scored them: other draws would be counted as rounding.
    """
    still = fooled.clone()
    if fooled.any():
        in_bytes = (x_adv[fooled] * 255).round() / 255
        scored = score(model, in_bytes, y[fooled], draws=draws, rng=rng.select(fooled))
        still[fooled] = scored.prediction != y[fooled]
    return still


def asked_twice(model: Classifier, x: Images, *, rng: Rng) -> tuple[Logits, Logits]:
    """Return a model's logits for the same images twice: with the same draws, where it lets them be set.

    A network that draws from torch's global generators draws anew, whether or not that is known of it.
    """
    again = rng.child("again") if isinstance(model.network, GlobalDraws) else rng
    with seeded(rng):
        return model.logits(x, rng=rng), model.logits(x, rng=again)


def _mapped(change: Callable[..., Tensor], *columns: Any) -> Any:
    """Return the changed column, each of those in a dictionary, ``None`` where there is none."""
    first = columns[0]
    if isinstance(first, dict):
        return {name: change(*(column[name] for column in columns)) for name in first}
    return None if first is None else change(*columns)


def _predicted(probabilities: Float[Tensor, "n k"]) -> Labels:
    return torch.where(probabilities.isfinite().all(1), probabilities.argmax(1), -1)
