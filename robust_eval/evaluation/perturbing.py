"""Images after a perturbation, what they cost, and whom an attack is aimed at."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from robust_eval.classifier import Batches, Classifier, Ledger
from robust_eval.methods import Attack, Corruption
from robust_eval.methods.held import expect_result, run_within
from robust_eval.rng import Rng, seeded
from robust_eval.surroundings import surroundings_kept
from robust_eval.types import Images, Labels, Mask

__all__ = ["Perturbed", "attacked", "corrupted", "untouched", "whom_to_attack"]


class Perturbed(NamedTuple):
    """Perturbed images, what they cost, and whom the attack was aimed at."""

    x: Images
    attacked: Mask
    step: Int[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]
    zero_gradients: Int[Tensor, " n"]
    bad_gradients: Int[Tensor, " n"]
    target: Labels | None = None
    """The class each example was pushed to, -1 for those not attacked; ``None`` if the attack is not targeted."""
    precision: str = "fp32"
    """Of the gradients; success and distance are measured in fp32."""
    slow_because: str | None = None
    """Why the attack asked the network itself and not a faster twin."""
    batch_size: int | None = None
    """Images at a time, as it was at the end of the attack."""
    batches: Batches | None = None
    """The calls of the network by way, precision and size."""
    seconds_saved: float = 0.0
    """What making them had cost when another cell made them; counted to every cell that uses them."""


def whom_to_attack(prediction: Labels, labels: Labels) -> Mask:
    """Return which images are attacked: those that are classified correctly as they are.

    *Robust* means correct before and after the attack, so an image that is wrong already has nothing to lose; to move
    it could only make it right by chance.
    """
    return prediction == labels


def untouched(x: Images) -> Perturbed:
    """Return images as they are."""
    nobody = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    nothing = torch.zeros(len(x), dtype=torch.int64)
    return Perturbed(x, nobody, nothing - 1, nothing, nothing, nothing, nothing)


def corrupted(corruption: Corruption, x: Images, *, rng: Rng) -> Perturbed:
    """Return images after a corruption, which asks no model."""
    return untouched(x)._replace(x=corruption(x, rng=rng))


def attacked(
    attack: Attack,
    seen: Classifier,
    x: Images,
    y: Labels,
    whom: Mask,
    *,
    rng: Rng,
    told: Callable[[int], None] | None = None,
    free: Bool[Tensor, "n c h w"] | None = None,
) -> Perturbed:
    """Attack the images of ``whom`` [n] through the model that the attack sees, and leave the others as they are.

    Where pixels are ``free`` and others not, those alone are the attack's.

    ``rng`` carries the ids of all of them, under which their passes are counted; ``told`` is called with their sum.
    """
    if not whom.any():
        return untouched(x)
    assert rng.index is not None
    seen.ledger = ledger = Ledger(told)
    with seen.frozen(), seeded(rng), surroundings_kept():
        if free is None:
            result = attack.run(seen, x[whom], y[whom], rng=rng.select(whom))
        else:
            result = run_within(attack, seen, x[whom], y[whom], free[whom], rng=rng.select(whom))
    expect_result(attack, result, x[whom])
    x_adv, step, target = x.clone(), torch.full_like(y, -1), None
    x_adv[whom], step[whom] = result.x_adv, result.step
    if result.target is not None:
        target = torch.full_like(y, -1)
        target[whom] = result.target
    ids = rng.index.cpu()
    forwards, backwards, zero, bad = (ledger.padded(name, int(ids.max()) + 1)[ids] for name in Ledger.NAMES)
    return Perturbed(
        x_adv,
        whom,
        step,
        forwards,
        backwards,
        zero,
        bad,
        target=target,
        precision="bf16" if seen.proposes else "fp32",
        slow_because=seen.slow_because,
        batch_size=seen.batch_size,
        batches=ledger.batches,
    )
