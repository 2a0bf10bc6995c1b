"""Average the predictions for several copies of the image with Gaussian noise (randomised smoothing).

Paper: Cohen, Rosenfeld and Kolter 2019, arXiv 1902.02918. The smoothed classifier predicts
``g(x) = argmax_c P(f(x + ε) = c)``, ``ε ~ N(0, σ² I)`` (equation 1). If the likeliest class has probability at least
p > 1/2, no perturbation with an l2 norm below ``σ Φ⁻¹(p)`` changes it (theorem 1 with p_B = 1 − p).

Attacked and scored is the soft version, which has a gradient: the log of ``1/C Σ_c softmax f(x + ε_c)`` (Salman et al.
2019, arXiv 1906.04584). Certified is the hard one, by votes, with algorithm CERTIFY: one set of draws selects the
class, another gives the lower Clopper-Pearson bound p of its probability, so a certificate is wrong with probability
``alpha`` at most, for each image.

Defaults: σ = 0.25, the smallest of the paper's tables; 100 draws that select and alpha = 0.001, section 4. They certify
with 100,000 draws; here 0, no certificate, because each is a forward pass. C = 16, as in sum augmentation: the 100 and
more of their PREDICT cost too much inside an attack. Noisy images are not clipped to [0, 1], as in the paper: networks
for smoothing are trained on unclipped noise, and a clipped pixel would have no gradient.

Known limits: a network not trained on noise of this σ is often wrong on it. n unanimous draws certify
``σ Φ⁻¹(alpha^(1/n))`` at most, 0.62 for σ = 0.25 and n = 1,000. The bound holds for real numbers and exact noise, not
for a floating-point network (Jin, Ohrimenko and Rubinstein 2022, arXiv 2205.10159).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Int
from pydantic import Field
from scipy.stats import beta, norm
from torch import Tensor, nn
from torch.nn import functional

from defenses._averaged import Averaged, average
from robust_eval.classifier import Classifier
from robust_eval.data import Examples
from robust_eval.fields import Positive, Real, Whole
from robust_eval.methods import Certificate, Defense
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.types import Images, Logits

__all__ = ["GaussianSmoothing"]


@register("defense", "gaussian_smoothing")
@dataclass(frozen=True, kw_only=True)
class GaussianSmoothing(Defense):
    """Randomised smoothing."""

    sigma: Positive = 0.25
    """Standard deviation of the noise, in units of the [0, 1] pixel range."""
    copies: Annotated[Whole, Field(ge=1)] = 16
    """Noisy images whose probabilities are averaged."""
    certify_draws: Annotated[Whole, Field(ge=0)] = 0
    """Noisy images that vote on a certificate; 0 gives none, the paper takes 100,000."""
    select_draws: Annotated[Whole, Field(ge=1)] = 100
    """Noisy images that vote on the class to certify."""
    alpha: Annotated[Real, Field(gt=0, lt=1)] = 0.001
    """Probability with which the certificate of an image may be wrong."""

    def wrap(self, network: nn.Module, pool: Examples | None = None) -> Averaged:
        """Return the defended model; see :class:`robust_eval.methods.Defense`."""
        return _Smoothed(network, self)

    def certify(self, model: Classifier, x: Images, *, rng: Rng) -> Certificate | None:
        """Return prediction and radius for images [n,c,h,w], ``None`` without ``certify_draws``.

        ``model.batch_size`` bounds the memory; like the batch, it changes nothing but rounding.
        """
        if not self.certify_draws:
            return None
        rng = rng.for_batch(len(x))
        with model.frozen():
            selected = self._votes(model, x, rng.child("select"), self.select_draws).argmax(1)
            votes = self._votes(model, x, rng.child("estimate"), self.certify_draws)
        count = votes.gather(1, selected[:, None])[:, 0].cpu().numpy()
        # an empty count makes the bound of Clopper and Pearson 0, where the beta distribution does not exist
        p = beta.ppf(self.alpha, count.clip(1), self.certify_draws - count + 1) * (count > 0)
        radius = torch.from_numpy(self.sigma * norm.ppf(p.clip(0.5))).to(x.device)
        return Certificate(torch.where(radius > 0, selected, -1), radius)

    @property
    def certificate_passes(self) -> int:
        """See :class:`robust_eval.methods.Defense`."""
        return self.select_draws + self.certify_draws if self.certify_draws else 0

    @property
    def largest_certificate(self) -> float:
        """See :class:`robust_eval.methods.Defense`; what unanimous draws certify."""
        if not self.certify_draws:
            return 0.0
        return max(0.0, self.sigma * float(norm.ppf(self.alpha ** (1 / self.certify_draws))))

    def _votes(self, model: Classifier, x: Images, rng: Rng, draws: int) -> Int[Tensor, "n k"]:
        """Count how often each class is predicted; an output that is not finite votes for none."""
        votes: Tensor | None = None
        # a model that draws by itself does so anew for each vote
        together = 1 if model.stochastic else max(1, model.batch_size // max(1, len(x)))
        for first in range(0, draws, together):
            some = range(first, min(first + together, draws))
            noise = torch.stack([rng.child(i).normal(*x.shape[1:], device=x.device) for i in some], 1)
            noisy = (x[:, None] + self.sigma * noise.to(x.dtype)).flatten(0, 1)
            logits = model.logits(noisy, rng=rng.child("network", first) if model.stochastic else None)
            vote = functional.one_hot(logits.argmax(1), logits.shape[1]) * logits.amax(1).isfinite()[:, None]
            counted = vote.view(len(x), len(some), vote.shape[1]).sum(1)
            votes = counted if votes is None else votes + counted
        assert votes is not None
        return votes


class _Smoothed(Averaged):
    def __init__(self, network: nn.Module, method: GaussianSmoothing) -> None:
        super().__init__(network, method.copies)
        self.sigma = method.sigma

    def average(self, x: Images, rng: Rng) -> Logits:
        noise = rng.child("noise").normal(self.copies, *x.shape[1:], device=x.device)
        return average(self.network, x[:, None] + self.sigma * noise.to(x.dtype), rng)
