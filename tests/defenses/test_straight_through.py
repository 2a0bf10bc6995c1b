import pytest
import torch
from torch import nn

from defenses._straight_through import straight_through
from defenses.bit_depth import BitDepth
from robust_eval import Classifier, Rng, attack


def test_the_value_is_the_transformed_one_to_the_bit_and_the_gradient_that_of_the_image():
    x = torch.rand(2, 1, 3, 3).requires_grad_()
    transformed = (x.detach() * 7).round() / 7
    out = straight_through(x, transformed)
    assert torch.equal(out, transformed)
    weights = torch.rand(x.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize("batched", [False, True])
def test_several_gradients_can_be_asked_for_at_once(batched):
    x = torch.rand(2, 1, 2, 2).requires_grad_()
    out = straight_through(x, x.detach() + 1).flatten()
    every = torch.eye(8)
    if batched:
        (got,) = torch.autograd.grad(out, x, every, is_grads_batched=True)
    else:
        got = torch.stack([torch.autograd.grad(out, x, one, retain_graph=True)[0] for one in every])
    assert torch.equal(got.flatten(1), every)


class Plane(nn.Module):
    """Class 1 beyond a plane at this linf distance from an image, class 0 before it."""

    def __init__(self, x, distance):
        super().__init__()
        self.normal = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0))
        self.offset = -(x.flatten(1) @ self.normal).item() - distance * self.normal.abs().sum()

    def forward(self, x):
        margin = x.flatten(1) @ self.normal + self.offset
        return torch.stack([-margin, margin], 1)


@pytest.mark.parametrize(("share", "fooled"), [(0.9, True), (1.1, False)])
def test_an_attack_climbs_over_a_step_that_has_no_gradient(share, fooled):
    # image and corners of the box are values of 4 bits: the exact answer is that of the plane without rounding
    x, eps = torch.full((1, 1, 4, 4), 8 / 15), 2 / 15
    model = Classifier(BitDepth(bits=4).wrap(Plane(x, share * eps)))
    found = attack("pgd", eps=eps, steps=20)(model, x, torch.tensor([0]), rng=Rng(0))
    assert (model.logits(found).argmax(1) == 1).item() is fooled
