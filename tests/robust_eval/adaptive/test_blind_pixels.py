"""Gradients that are missing at a part of the pixels are found, and brought back where something tells them."""

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Rng
from robust_eval.adaptive import Adapted, mend
from robust_eval.adaptive.blind_pixels import jumping, points_of
from robust_eval.adaptive.mending import Mended
from robust_eval.checks import blind_pixels
from robust_eval.checks.results import vanishing_gradient

N = 16


class Front(nn.Module):
    """A smooth network behind a function of the image."""

    def __init__(self, front=lambda x: x):
        super().__init__()
        self.front = front
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 5))
        generator = torch.Generator().manual_seed(1)
        for weight in self.parameters():
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator)

    def forward(self, x):
        return self.net(self.front(x))


class OwnBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


def upper(change):
    return lambda x: torch.cat([change(x[:, :, :4]), x[:, :, 4:]], 2)


def in_numpy(x):
    return torch.from_numpy(np.asarray(x.detach()) * 0.5).mul(2)


def images():
    x = (2 * torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(2)) - 0.5).clamp(0, 1)
    return (x * 255).round() / 255  # a quarter black, a quarter white


def mended(front):
    x = images()
    network = Front(front)
    return mend(network, x, network(x).argmax(1), rng=Rng(0))


def as_seen(mending):
    return Adapted(mending.network, mending, None)


INSIDE = {
    "clamp": lambda x: x.clamp(0, 1),
    "hardtanh": nn.Hardtanh(0, 1),
    "relu": torch.relu,
    "abs": torch.abs,
    "root": lambda x: x.sqrt(),
    "gamma": lambda x: x ** (1 / 2.2),
}
THROUGH = {
    "detached patch": upper(lambda x: x.detach()),
    "rounded patch": upper(lambda x: (255 * x).round() / 255),
    "coarse patch": upper(lambda x: (15 * x).round() / 15),
    "clamped beyond what is there": lambda x: x.clamp(0.05, 0.95),
    "thresholded": lambda x: torch.relu(x - 0.05),
}


@pytest.mark.parametrize("front", [*INSIDE, *THROUGH])
def test_gradients_come_back_at_pixels_that_had_none(front):
    function = (INSIDE | THROUGH)[front]
    made = mended(function)
    assert made.blind_pixels_before > 0.1 and made.blind_pixels == 0 and made.blind == 0
    assert made.remedies == ("gradients taken just inside the box",) or front in THROUGH
    x, y = images(), torch.zeros(N).long()
    assert torch.allclose(made.network(x), Front(function)(x), atol=1e-6), "its values stay"
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made.network(leaf).gather(1, y[:, None]).sum(), leaf)
    assert gradient.isfinite().all() and (gradient != 0).all()
    assert blind_pixels(as_seen(made)).verdict == "warn"
    assert blind_pixels(as_seen(made), adapts=False).verdict == "fail"


@pytest.mark.parametrize("patch", [OwnBackward.apply, in_numpy])
def test_pixels_that_nothing_tells_of_are_flagged(patch):
    made = mended(upper(patch))
    assert made.remedies == () and made.blind_pixels == made.blind_pixels_before > 0.3
    assert blind_pixels(as_seen(made)).verdict == "fail"


def crop(x):
    return nn.functional.pad(x[..., 1:-1, 1:-1], (1, 1, 1, 1))


@pytest.mark.parametrize(
    "front",
    [
        lambda x: x,
        lambda x: (x - 0.5) / 0.25,
        crop,
        upper(torch.zeros_like),
        lambda x: nn.functional.max_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3),
    ],
    ids=["plain", "normalised", "cropped", "masked", "pooled"],
)
def test_pixels_that_a_model_ignores_are_no_fault(front):
    made = mended(front)
    assert made.remedies == () and made.blind_pixels_before == 0
    assert not isinstance(made.network, Mended)
    assert blind_pixels(as_seen(made)).verdict == "ok"


@pytest.mark.parametrize("after", ["softmax", "large"])
def test_a_wall_does_not_hide_behind_another_fault(after):
    head = {"softmax": lambda z: z.softmax(1), "large": lambda z: 1e4 * z}[after]

    class Both(Front):
        def forward(self, x):
            return head(super().forward(x.clamp(0, 1)))

    x, network = images(), Both()
    made = mend(network, x, network(x).argmax(1), rng=Rng(0))
    assert len(made.remedies) == 2 and made.remedies[-1] == "gradients taken just inside the box"
    assert made.blind == 0


def test_advice_names_what_makes_a_gradient_infinite():
    check = vanishing_gradient(as_seen(mended(torch.sqrt)))
    assert check.verdict == "warn" and "sqrt" in check.advice and "detach" not in check.advice


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("part", ["rows", "columns"])
def test_pixels_that_are_compared_with_a_threshold_are_flagged(part, threshold):
    def front(x):
        bits = (x > threshold).to(x)
        silent = torch.arange(8) < 4
        return torch.where(silent[:, None] if part == "rows" else silent, bits, x)

    x, network = images().round(), Front(front)  # black and white: none is near the threshold
    made = mend(network, x, network(x).argmax(1), rng=Rng(0))
    assert made.remedies == () and 0.4 < made.blind_pixels == made.blind_pixels_before <= 0.5
    assert blind_pixels(as_seen(made)).verdict == "fail"


@pytest.mark.parametrize(
    "front",
    [
        lambda x: nn.functional.max_pool2d(x, 4).repeat_interleave(4, 2).repeat_interleave(4, 3),
        lambda x: torch.relu(20 * (x - 0.3)) / 14,
        lambda x: x.clamp(0.3, 0.6),
        lambda x: x.sort(-1).values * torch.tensor([0.0] * 6 + [1.0] * 2),
    ],
    ids=["pooled", "steep", "clamped", "sorted"],
)
def test_what_bends_and_does_not_jump_is_no_threshold(front):
    x, network = images(), Front(front)
    y = network(x).argmax(1)
    points = points_of(x, y, around=8 / 255, rng=Rng(0).for_batch(N), batch_size=N)
    own = points.gradient(network)
    assert (own == 0).double().mean() > 0.1
    assert jumping(network, points, own == 0, own) == 0
