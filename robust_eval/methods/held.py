"""An attack held to the pixels that may change: it is given those alone, and the others stay as they are."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from robust_eval.classifier import Classifier
from robust_eval.classifier.masked import Masked, views
from robust_eval.errors import DataError
from robust_eval.methods.attack import Attack
from robust_eval.rng import Rng
from robust_eval.types import AttackResult, Images, Labels

__all__ = ["expect_result", "run_within"]


def run_within(
    attack: Attack, seen: Classifier, x: Images, y: Labels, free: Bool[Tensor, "n c h w"], *, rng: Rng
) -> AttackResult:
    """Attack the free pixels of images [n,c,h,w]; those of an image without any stay as they are."""
    assert attack.masked_as is not None and rng.index is not None
    x_adv, step, target = x.clone(), torch.full_like(y, -1), None
    for view in views(free, attack.masked_as):
        rows, ids = view.rows, rng.index[view.rows.to(rng.index.device)]
        model = Masked(seen, x[rows], view, ids)
        part = model.part
        found = attack.run(model, part, y[rows], rng=rng.select(rows))
        expect_result(attack, found, part)
        x_adv[rows], step[rows] = model.whole(found.x_adv), found.step
        if found.target is not None:
            target = torch.full_like(y, -1) if target is None else target
            target[rows] = found.target
    return AttackResult(x_adv, step, target)


def expect_result(attack: Attack, result: object, x: Images) -> None:
    """Raise ``DataError`` for what an attack of the user's must not hand back."""
    name = type(attack).__qualname__
    if not isinstance(result, AttackResult):
        raise DataError(
            f"{name}.run: expected an AttackResult, got {type(result).__name__}; return AttackResult(x_adv, step)"
        )
    for field, value, shape in (("x_adv", result.x_adv, x.shape), ("step", result.step, x.shape[:1])):
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if got != list(shape):
            raise DataError(f"{name}.run: {field}: expected a tensor of {list(shape)}, got {got}")
