"""Measure how far mixed hidden features leave the plane of the two that were mixed.

Faramarzi, Amini, Badrinaaraayanan, Verma and Chandar, "PatchUp", AAAI 2022, https://arxiv.org/abs/2006.07794, appendix
C. Features h_i, h_j of two images and their mixture h', flattened, with the angles θ between them, obey

    |θ_i' - θ_'j| ≤ θ_ij ≤ θ_i' + θ_'j,   α = θ_i' + θ_'j - θ_ij ≥ 0,   β = |θ_i' - θ_'j| - θ_ij ≤ 0

(the paper's formulas are blank in print: this is the triangle inequality on the sphere, read from its text). α is 0
where h' lies in the cone between the two, as linear mixing does, and larger the more h' leaves it. β is 0 where h' lies
in their plane outside of that cone. In radians, by ``2 atan2(‖u - v‖, ‖u + v‖)`` of unit vectors in float64: an arccos
loses half of the digits near 0.

A regularizer takes part if it has ``mix_features(h, perm, rng=)``. Defaults are the paper's: batches of 100, after the
second residual stage, and one policy for both PatchUps, γ = 0.75 and b = 7. Ours: ten batches, as λ and mask are drawn
for a batch. Intervals are t-intervals of the means of the batches, about these draws more than about the images.

Deviation: no image is paired with itself. A pair with features of length zero has no angle and is left out.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import t
from torch import Tensor, nn

from robust_eval.analyses._looked_at import in_parts, reason, stages_of
from robust_eval.classifier import Classifier
from robust_eval.errors import DataError
from robust_eval.fields import Real, Whole
from robust_eval.findings import Measurement
from robust_eval.methods import Analysis, Batch, Passes, Plot
from robust_eval.registry import build, find, register
from robust_eval.rng import Rng
from robust_eval.types import Images

__all__ = ["InterpolationAngle", "MixesFeatures"]

Flat = Float[Tensor, "n d"]


@runtime_checkable
class MixesFeatures(Protocol):
    """A regularizer that mixes hidden features of two images."""

    def mix_features(self, h: Tensor, perm: Int[Tensor, " n"], *, rng: Rng) -> Tensor:
        """Return features [n,...] of which row i is mixed from h[i] and h[perm[i]], in the dtype of ``h``."""


@register("analysis", "interpolation_angle")
@dataclass(frozen=True, kw_only=True)
class InterpolationAngle(Analysis):
    """Angles between hidden features and what regularizers make of them."""

    needs_stages: ClassVar[bool] = True
    plot: ClassVar[Plot | None] = Plot(
        "α: how far mixed features leave the plane of both, in radians",
        x="alpha",
        y="share of pairs",
        split="regularizer",
    )

    regularizers: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "manifold_mixup",
        "patchup_soft",
        "patchup_hard",
    )
    """Names of regularizers whose mixing is looked at, whatever the network was trained with."""
    layer: str = "stage2"
    """The stage whose output is mixed: ``stem``, ``stage1``, ..."""
    gamma: Annotated[Real, Field(ge=0, lt=1)] = 0.75
    """Of those that mix blocks: sets how many."""
    block: Annotated[Whole, Field(ge=1)] = 7
    """Of those that mix blocks: the side of one."""
    batch: Annotated[Whole, Field(ge=2)] = 100
    """Images mixed with one another."""
    batches: Annotated[Whole, Field(ge=1)] = 10
    """How many such batches; images are taken again where there are fewer than these need."""

    def look(
        self, model: Classifier, images: Batch, *, other: Batch | None, training: Batch | None, rng: Rng
    ) -> pd.DataFrame:
        """Return one row for each pair and regularizer: batch, index and partner, theta (between the two), theta_own
        and theta_other (from each to the mixture), alpha, beta.

        Raises ``DataError`` for a network without that stage, for a regularizer that does not mix features, and for
        fewer than two images.
        """
        mixers, before = self._parts(model.network)
        if len(images.x) < 2:
            raise DataError(
                f"interpolation_angle: expected two images at least, got {len(images.x)}; raise n"
            )
        size = min(self.batch, len(images.x))
        tables = []
        for b in range(self.batches):
            # from the front again where there are not images enough
            which = torch.arange(b * size, (b + 1) * size) % len(images.x)
            draws = rng.select(which).child("batch", b)
            h = _features(before, images.x[which.to(images.x.device)], model)
            perm = _partners(size, draws).to(h.device)
            for name, mixer in mixers.items():
                mixed = mixer.mix_features(h, perm, rng=draws)
                angles = _angles(h.flatten(1), h[perm].flatten(1), mixed.flatten(1))
                index = {"batch": b, "index": which.numpy(), "partner": which[perm.cpu()].numpy()}
                tables.append(pd.DataFrame({"regularizer": name, **index, **angles}).dropna())
        table = pd.concat(tables, ignore_index=True)
        if table.empty:
            raise DataError(
                f"interpolation_angle: expected features after {self.layer} that are not all zero, got only such; "
                "look at another layer"
            )
        return table

    def summary(self, table: pd.DataFrame) -> tuple[Measurement, ...]:
        """Return the mean α and β of each regularizer; ``n`` counts pairs."""
        return tuple(
            _mean_over_batches(f"{angle}_{name}", rows, angle)
            for name, rows in table.groupby("regularizer", sort=False)
            for angle in ("alpha", "beta")
        )

    def misfit(self, network: nn.Module) -> str | None:
        """Return what is wrong with ``layer`` or ``regularizers`` for a network; ``None`` if nothing is."""
        return reason(lambda: self._parts(network))

    def cost(self, images: int, classes: int) -> Passes:
        """Return a forward pass for each image of each batch; regularizers work on what it gives."""
        return Passes(self.batches * min(self.batch, images), 0)

    def _parts(self, network: nn.Module) -> tuple[dict[str, MixesFeatures], list[nn.Module]]:
        """Return the regularizers by name and the stages before the mixing."""
        mixers = {name: self._mixer(name) for name in self.regularizers}
        return mixers, self._until(stages_of("interpolation_angle", network))

    def _mixer(self, name: str) -> MixesFeatures:
        fields = {field.name for field in dataclasses.fields(find("regularizer", name))}
        policy = {"gamma": self.gamma, "block": self.block}
        mixer = build("regularizer", name, {key: policy[key] for key in policy if key in fields})
        if not isinstance(mixer, MixesFeatures):
            raise DataError(
                f"interpolation_angle: expected regularizers that mix hidden features (mix_features), got {name}; "
                "manifold_mixup, patchup_soft and patchup_hard do"
            )
        return mixer

    def _until(self, stages: dict[str, nn.Module]) -> list[nn.Module]:
        hidden = list(stages)[:-1]
        if self.layer not in hidden:
            raise DataError(
                f"interpolation_angle: layer: expected one of {', '.join(hidden)}, got {self.layer!r}"
            )
        return [stages[name] for name in hidden[: hidden.index(self.layer) + 1]]


def _features(stages: list[nn.Module], x: Images, model: Classifier) -> Float[Tensor, "n ..."]:
    with model.frozen(), torch.no_grad():
        parts = []
        for h in in_parts(x, model.batch_size):
            for stage in stages:
                h = stage(h)
            parts.append(h.double())
        return torch.cat(parts)


def _partners(n: int, rng: Rng) -> Int[Tensor, " n"]:
    """Draw a permutation that moves everyone: one cycle."""
    order = torch.randperm(n, generator=rng.child("perm").torch_generator())
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners


def _angles(own: Flat, other: Flat, mixed: Flat) -> dict[str, NDArray[Any]]:
    """Return the angles of each row; NaN where one of the three has no direction."""
    theta, theta_own, theta_other = _angle(own, other), _angle(own, mixed), _angle(mixed, other)
    angles = {
        "theta": theta,
        "theta_own": theta_own,
        "theta_other": theta_other,
        "alpha": theta_own + theta_other - theta,
        "beta": (theta_own - theta_other).abs() - theta,
    }
    return {name: angle.cpu().numpy() for name, angle in angles.items()}


def _angle(a: Flat, b: Flat) -> Float[Tensor, " n"]:
    u, v = (vector / vector.norm(dim=1, keepdim=True) for vector in (a, b))
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))


def _mean_over_batches(metric: str, rows: pd.DataFrame, angle: str) -> Measurement:
    value, means = float(rows[angle].mean()), rows.groupby("batch")[angle].mean()
    b = len(means)
    if b < 2:
        return Measurement(metric, value, None, None, len(rows))
    half = float(t.ppf(0.975, b - 1)) * float(means.std()) / math.sqrt(b)
    return Measurement(metric, value, value - half, value + half, len(rows))
