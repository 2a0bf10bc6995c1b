"""Cut two images along lines where neither loses what matters, and mix the labels by the areas.

Kim, Choo and Song, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup", ICML 2020,
https://arxiv.org/abs/2009.06962. A grid of N = b x b blocks gets labels z in {0, 1/m, ..., 1}, the share of the first
image. With s the saliency of each image in a block, adding up to 1:

    z = argmin  sum_i (1 - z_i) s1_i + z_i s2_i  +  β' sum_ij (z_i - z_j)^2  +  β' γ sum_ij φ_ij(z_i, z_j)
                - η/N sum_i log Binomial(m z_i; m, λ),    λ ~ Beta(α, α),  β' = β / (16 b)
    x' = z Π1 x1 + (1 - z) Π2 x2,    y' = mean(z) y1 + (1 - mean(z)) y2

The pairs ij are neighbouring blocks. φ_ij(z_i, z_j) is the mean difference of pixels at their border, from whichever
images the two blocks show. Π moves blocks to where they are shown (see ``trainers._transport``). Saliency is the size
of the gradient of the cross-entropy at the plain batch, whose forward and backward a batch costs more.

Defaults are those of the authors' code for CIFAR-100: three labels, β = 1.2, γ = 0.5, η = 0.2, ξ = 0.8, α = 1, and
b drawn anew for each batch from 2, 4, 8, 16. On Tiny ImageNet the authors have ``clean_lam`` = 1, whole blocks moved
(``transport_cells`` = 1) and ``adv_p`` = 0.15 with the adversarial variant, which has ``adv_p`` = 0.1 on CIFAR-100.

Deviations:
- The authors look for labels by alpha-beta swap, which ends in a local minimum. Here the energy is the least of all
  (see ``trainers._graph_cut``), which no swap lowers any further. Swap ended higher for 17 of 116 pairs of CIFAR-10
  images under a trained ResNet-18 (from z = 1), and gave 0.5 to 2 % of the blocks another label.
- φ is bilinear between labels 0 and 1; as in the authors' code only what is linear in z and (z_i - z_j)^2 are kept,
  which is the same at 0 and 1.
- λ in the prior is kept 1e-4 away from 0 and 1, where the authors add 1e-8 to the probability: the prior stays convex.
- Saliency is the gradient by pixels, not by normalised ones.
- Sides that blocks do not divide are padded with border pixels, which are cut off again.
- The clean loss has the criterion of the mixed one; the authors take the cross-entropy and scale it by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from robust_eval.classifier import frozen
from robust_eval.errors import ConfigError
from robust_eval.fields import Positive, Real, Whole
from robust_eval.mixing import mix
from robust_eval.registry import register
from robust_eval.rng import Rng
from robust_eval.threat import Pixels
from robust_eval.types import Images, Labels, Logits, Weights
from trainers._graph_cut import minimum
from trainers._transport import sources
from trainers.fitting import Fitting

__all__ = ["PuzzleMix"]

Map = Float[Tensor, "n h w"]
"""One number for each pixel."""
Grid = Float[Tensor, "n rows columns"]
"""One number for each block."""
Weight = Annotated[Real, Field(ge=0)]
Probability = Annotated[Real, Field(ge=0, le=1)]


@register("regularizer", "puzzle_mix")
@dataclass(frozen=True, kw_only=True)
class PuzzleMix(Fitting):
    """Loss of images that are put together from the salient blocks of two, targets mixed by area."""

    alpha: Positive = 1.0
    """Both parameters of the Beta distribution of λ, the expected share of the first image."""
    n_labels: Annotated[Whole, Field(ge=2, le=4)] = 3
    """Shares of the first image that a block can have: 0, 1/2, 1 for 3 of them."""
    blocks: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (2, 4, 8, 16)
    """Numbers of blocks along the shorter side; one is drawn for each batch, of those not above its pixels."""
    beta: Weight = 1.2
    """Weight of label smoothness: how little neighbouring blocks may differ in their share."""
    gamma: Probability = 0.5
    """Weight of data smoothness, in units of ``beta``."""
    eta: Weight = 0.2
    """Weight of the prior, which pulls the mean share to λ."""
    border: Annotated[Whole, Field(ge=1)] = 4
    """Largest width, in pixels, of the cells at the border of two blocks whose mean colours are compared."""
    transport: bool = True
    """Whether blocks are moved to where they are shown."""
    xi: Weight = 0.8
    """What a move costs: times the squared distance, with the image's side as unit, it is paid in saliency."""
    transport_cells: Annotated[Whole, Field(ge=1)] = 8
    """Blocks fewer than this along a side are cut up to be moved, into up to this many; 1 moves whole blocks."""
    clean_lam: Weight = 0.0
    """Weight of the loss of the plain batch, taken in the pass that gives the saliency."""
    adv_p: Probability = 0.0
    """Chance of either image to be perturbed by one step of gradient ascent, drawn for each batch."""
    adv_eps: Pixels = 10 / 255
    """Radius of that perturbation, in units of the [0, 1] pixel range."""

    def loss(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        *,
        rng: Rng,
        progress: float,
        weights: Weights | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the mixed batch, with ``clean_lam`` times that of the plain one."""
        λ = rng.child("lam").numpy().beta(self.alpha, self.alpha)
        tiling = self._tiling(x, rng)
        perm = torch.randperm(len(x), generator=rng.child("perm").torch_generator()).to(x.device)
        chances = rng.child("adv").numpy().random(3)
        perturbed = [bool(chance < self.adv_p) for chance in chances[:2]]
        start = torch.zeros_like(x)
        if any(perturbed):
            noise = torch.rand(
                x.shape, generator=rng.child("noise").torch_generator(x.device), device=x.device
            )
            start = (x + (2 * noise.to(x.dtype) - 1) * self.adv_eps).clamp(0, 1) - x
        clean, gradient = self._look(model, x + start, y, weights)

        with torch.no_grad():
            saliency = _saliency(gradient)
            z = self._shares(x, saliency, perm, λ, tiling)
            x1 = x2 = x
            if any(perturbed):
                ascent = start + (self.adv_eps + 2 / 255) * gradient.sign()
                noisy = (x + float(chances[2]) * ascent.clamp(-self.adv_eps, self.adv_eps)).clamp(0, 1)
                x1, x2 = (noisy if one else x for one in perturbed)
            x2 = x2[perm]
            if self.transport:
                x1, x2 = self._moved(x1, x2, z, saliency, perm, tiling)
            mask = tiling.spread(z)
            mixed = mask[:, None] * x1 + (1 - mask[:, None]) * x2
        logits: Logits = model(mixed)
        targets = self.targets(y, logits, weights)
        ratio = mask.mean((1, 2)).to(logits.dtype)
        loss = self.fit(logits, mix(targets, targets[perm], ratio))
        return loss if clean is None else loss + self.clean_lam * clean

    def evaluations(self, n: int) -> int:
        """Return ``2 n``: the plain batch for its saliency, and the mixed one."""
        return 2 * n

    def _tiling(self, x: Images, rng: Rng) -> _Tiling:
        h, w = x.shape[-2:]
        fitting = [blocks for blocks in self.blocks if blocks <= min(h, w)]
        if not fitting:
            raise ConfigError(
                f"puzzle_mix: expected some of blocks to be at most {min(h, w)}, the pixels of the shorter side, "
                f"got {', '.join(map(str, self.blocks))}"
            )
        blocks = fitting[int(rng.child("blocks").numpy().integers(len(fitting)))]
        return _Tiling(h, w, side=math.ceil(min(h, w) / blocks))

    def _look(
        self, model: nn.Module, x: Images, y: Labels, weights: Weights | None
    ) -> tuple[Float[Tensor, ""] | None, Images]:
        """Return the loss of a plain batch, if it is wanted, and the gradient of its cross-entropy by pixels."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            if self.clean_lam == 0:
                with frozen(model):
                    return None, _gradient(model(leaf), y, leaf, again=False)
            logits: Logits = model(leaf)
            return self.fit(logits, self.targets(y, logits, weights)), _gradient(logits, y, leaf, again=True)

    def _shares(self, x: Images, saliency: Map, perm: Tensor, lam: float, tiling: _Tiling) -> Grid:
        """Return the share of the first image in each block of each pair that costs least."""
        m, cells = self.n_labels - 1, tiling.rows * tiling.columns
        smooth = self.beta / (16 * math.sqrt(cells))
        s = tiling.pool(saliency, tiling.side)
        linear, weights = s[perm] - s, []
        for axis, border in zip((2, 1), tiling.borders(x, self.border), strict=True):
            d11, d10 = border.differences(border.after), border.differences(border.after[perm])
            d00, d01 = d11[perm], border.swapped(perm).differences(border.after)
            # z_i z_j d11 + z_i (1 - z_j) d10 + ... is a term of each block and one of being different
            weights.append(smooth * (1 + self.gamma * (d10 + d01 - d11 - d00) / 2))
            blocks = linear.shape[axis] - 1
            linear.narrow(axis, 0, blocks).add_(d11 + d10 - d01 - d00, alpha=smooth * self.gamma / 2)
            linear.narrow(axis, 1, blocks).add_(d11 + d01 - d10 - d00, alpha=smooth * self.gamma / 2)
        slopes = [self.eta / cells * slope for slope in _prior_slopes(m, lam)]
        # whole numbers, as fine as 32 bits allow: a bound of what one label up can cost in all blocks together
        most = (2 + cells * 12 * smooth * (1 + self.gamma)) / m + cells * max(map(abs, slopes))
        scale = 2.0**30 / most
        labels = minimum(
            (linear * (scale / m)).round().int(),
            [round(scale * slope) for slope in slopes],
            *((weight * (scale / m**2)).round().int() for weight in weights),
        )
        return labels.to(x.dtype) / m

    def _moved(
        self, x1: Images, x2: Images, z: Grid, saliency: Map, perm: Tensor, tiling: _Tiling
    ) -> tuple[Images, Images]:
        """Return both images with their cells where ``z`` shows them."""
        longer = max(tiling.rows, tiling.columns)
        parts = [k for k in _divisors(tiling.side) if k == 1 or k * longer <= self.transport_cells]
        side = tiling.side // parts[-1]
        s = tiling.pool(saliency, side)
        z = _enlarged(z, parts[-1])
        source = sources(torch.cat([s, s[perm]]), torch.cat([z > 0, z < 1]), self.xi)
        both = tiling.fill(torch.cat([x1, x2]))
        n, c, h, w = both.shape
        cells = (
            both.reshape(n, c, h // side, side, w // side, side)
            .permute(0, 2, 4, 1, 3, 5)
            .flatten(3)
            .flatten(1, 2)
        )
        cells = cells.gather(1, source[..., None].expand_as(cells))
        both = (
            cells.view(n, h // side, w // side, c, side, side).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
        )
        x1, x2 = both[..., : tiling.h, : tiling.w].chunk(2)
        return x1, x2


class _Border(NamedTuple):
    """Mean colours along both sides of the borders between blocks."""

    before: Float[Tensor, "n c rows columns k"]
    """Of the block above or to the left, at its last pixels."""
    after: Float[Tensor, "n c rows columns k"]
    """Of the block below or to the right, at its first pixels."""

    def swapped(self, perm: Tensor) -> _Border:
        """The same with the blocks before the border taken from the other images."""
        return _Border(self.before[perm], self.after)

    def differences(self, after: Float[Tensor, "n c rows columns k"]) -> Grid:
        """Mean over the border and the channels of the absolute difference."""
        return (self.before - after).abs().mean((1, -1))


class _Tiling(NamedTuple):
    """A grid of square blocks on images of h x w pixels; blocks may reach over the right and the lower edge."""

    h: int
    w: int
    side: int
    """Pixels of a block's side."""

    @property
    def rows(self) -> int:
        return math.ceil(self.h / self.side)

    @property
    def columns(self) -> int:
        return math.ceil(self.w / self.side)

    def fill(self, x: Images) -> Float[Tensor, "n c height width"]:
        """Continue images to whole blocks, with the pixels at their edge."""
        right, below = self.columns * self.side - self.w, self.rows * self.side - self.h
        return functional.pad(x, (0, right, 0, below), mode="replicate") if right or below else x

    def pool(self, saliency: Map, side: int) -> Grid:
        """Return each cell's part of an image's saliency; all equal parts if there is none at all."""
        right, below = self.columns * self.side - self.w, self.rows * self.side - self.h
        cells = functional.avg_pool2d(functional.pad(saliency, (0, right, 0, below)), side)
        total = cells.sum((1, 2), keepdim=True)
        return torch.where(total > 0, cells / total, 1 / cells[0].numel())

    def spread(self, z: Grid) -> Map:
        """Return the number of its block for each pixel."""
        return _enlarged(z, self.side)[:, : self.h, : self.w]

    def borders(self, x: Images, width: int) -> tuple[_Border, _Border]:
        """Return the borders of blocks side by side, then one below the other, in steps of up to ``width`` pixels."""
        width = max(k for k in _divisors(self.side) if k <= width)
        pooled = functional.avg_pool2d(self.fill(x), width)
        k = self.side // width
        cells = pooled.reshape(*x.shape[:2], self.rows, k, self.columns, k)
        vertical = cells.movedim(3, 5)
        return (
            _Border(vertical[..., :-1, -1, :], vertical[..., 1:, 0, :]),
            _Border(cells[:, :, :-1, -1], cells[:, :, 1:, 0]),
        )


def _gradient(logits: Logits, y: Labels, leaf: Images, *, again: bool) -> Images:
    """Return the gradient of each example's cross-entropy by its pixels; 0 where it is not finite."""
    loss = functional.cross_entropy(logits, y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=again)
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _saliency(gradient: Images) -> Map:
    """Return the root mean square over the channels, in units of the image's largest entry."""
    # gradients of images that are learned are so small that their squares would be 0
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    return (gradient / torch.where(largest > 0, largest, 1)).square().mean(1).sqrt()


def _prior_slopes(m: int, lam: float) -> list[float]:
    """Return how much -log Binomial(k; m, λ) grows from each k < m to the next: more and more."""
    λ = min(max(lam, 1e-4), 1 - 1e-4)
    return [math.log((k + 1) / (m - k)) - math.log(λ / (1 - λ)) for k in range(m)]


def _divisors(side: int) -> list[int]:
    return [k for k in range(1, side + 1) if side % k == 0]


def _enlarged(z: Grid, times: int) -> Map:
    return z.repeat_interleave(times, 1).repeat_interleave(times, 2)
