"""DDN and FMN against Foolbox at equal steps, on two small networks trained for a few seconds on real digits.

Both are measured alike: what an attack hands back is classified again, and its distance is that to the image.
"""

from functools import cache

import pytest
import torch
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import frozen

N = 128
STEPS = 100
GRACE = 1.01
"""What a median of 128 distances may exceed theirs by: as much as neighbours in its middle are apart. The mean, which
does not hang on single examples, may not.
"""
plain_only = pytest.mark.parametrize("case", ["plain"], indirect=True)
P = {"linf": float("inf"), "l2": 2, "l1": 1}


def pushed(net, x, y):
    """FGSM points from random ones."""
    start = (x + 0.15 * (2 * torch.rand_like(x) - 1)).requires_grad_()
    functional.cross_entropy(net(start), y).backward()
    points = (start + 0.15 * start.grad.sign()).detach()
    return torch.minimum(torch.maximum(points, x - 0.15), x + 0.15).clamp(0, 1)


@pytest.fixture(scope="module", params=["plain", "adversarial"])
def case(request, trained, plain, recognised):
    """A network with test images it gets right and their labels, trained on clean images or on FGSM points."""
    network = plain if request.param == "plain" else trained(harden=pushed)
    return network, *recognised(network, N, share=0.9)


def distances(case, x_adv, norm):
    """Distance of each example to its adversarial point, infinite where there is none."""
    network, x, y = case
    fooled = Classifier(network)(x_adv).argmax(1) != y
    return (x_adv - x).flatten(1).norm(p=P[norm], dim=1).where(fooled, torch.inf)


@cache
def ours(case, name, made_small, **params):
    network, x, y = case
    result = attack(name, **params).run(Classifier(network), x, y, rng=Rng(0).for_batch(N))
    return distances(case, result.x_adv, made_small)


@cache
def theirs(case, kind, norm):
    foolbox = pytest.importorskip("foolbox")
    network, x, y = case
    torch.manual_seed(0)
    with frozen(network):
        model = foolbox.PyTorchModel(network, bounds=(0, 1))
        method = getattr(foolbox.attacks, kind)(steps=STEPS)
        return distances(case, method(model, x, y, epsilons=None)[1].detach(), norm)


def test_ddn_finds_perturbations_no_larger_than_foolboxs(case):
    our, their = ours(case, "ddn", "l2", steps=STEPS), theirs(case, "DDNAttack", "l2")
    assert our.isfinite().sum() >= their.isfinite().sum()
    assert our.median() <= GRACE * their.median()
    assert our.mean() <= their.mean()


@plain_only
def test_ddn_with_the_papers_loss_walks_as_foolboxs(case):
    their = theirs(case, "DDNAttack", "l2")
    our = ours(case, "ddn", "l2", steps=STEPS, loss="ce", line_search=0)
    # the same walk but for the rounding of a gradient; a step that ends elsewhere by 1e-7 may decide otherwise
    assert (our / their - 1).abs().median() < 0.002
    assert torch.quantile(our / their, torch.tensor([0.05, 0.95])).tolist() == pytest.approx([1, 1], abs=0.02)


@pytest.mark.parametrize(
    ("norm", "kind"), [("linf", "LInfFMNAttack"), ("l2", "L2FMNAttack"), ("l1", "L1FMNAttack")]
)
def test_fmn_finds_perturbations_no_larger_than_foolboxs(case, norm, kind):
    our, their = ours(case, "fmn", norm, norm=norm, steps=STEPS), theirs(case, kind, norm)
    assert our.isfinite().all()
    assert our.median() <= GRACE * their.median()
    found = their.isfinite()
    assert our[found].mean() <= their[found].mean()


@plain_only
def test_fmn_in_l2_finds_perturbations_about_as_large_as_ddn(case):
    # Foolbox's L2 walk is never projected: DDN is the better reference
    fmn, ddn = (
        ours(case, name, "l2", steps=STEPS, **params)
        for name, params in (("fmn", {"norm": "l2"}), ("ddn", {}))
    )
    assert (fmn.mean() / ddn.mean()).item() == pytest.approx(1, abs=0.02)
    assert fmn.median() <= 1.01 * theirs(case, "DDNAttack", "l2").median()


@plain_only
def test_fmn_with_the_papers_loss_is_as_strong_as_foolboxs_in_linf(case):
    # the walk differs where a step meets the box, of which only the entries that can move count here
    our = ours(case, "fmn", "linf", steps=STEPS, loss="margin", line_search=0)
    their = theirs(case, "LInfFMNAttack", "linf")
    assert our.median() <= GRACE * their.median()
    assert ((our / their - 1).abs() < 0.01).double().mean() > 0.8


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pdpgd_finds_perturbations_about_as_large_as_fmn_with_as_many_gradients(case, norm):
    pdpgd, fmn = (ours(case, name, norm, norm=norm, steps=STEPS) for name in ("pdpgd", "fmn"))
    assert pdpgd.isfinite().all()
    assert pdpgd.median() <= 1.05 * fmn.median() and pdpgd.mean() <= 1.05 * fmn.mean()
