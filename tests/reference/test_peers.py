"""Against Foolbox and torchattacks, on a small network trained for a few seconds on real digits.

Both are measured as an attack is here: what they hand back is classified again, and an example is robust if it is
still classified correctly.
"""

import numpy as np
import pytest
import torch

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier import frozen

N = 96
N_SLOW = 24
GRACE = 1 / N
"""One example, for attacks that start at random or end while still swinging around a boundary."""


@pytest.fixture(scope="module")
def network(plain):
    return plain


@pytest.fixture(scope="module")
def digits(network, recognised):
    """Test images that the network gets right, and their labels."""
    return recognised(network, N, share=0.9)


def ours(network, digits, name, **params):
    x, y = digits
    # in bfloat16 the sign of a slope near zero may be the other one: points are compared in full precision
    model = Classifier(network, precision="fp32")
    return attack(name, **params).run(model, x, y, rng=Rng(0).for_batch(len(x)))


def robust(network, digits, x_adv, radius=None):
    """Robust accuracy; within an L2 radius for an attack that looks for the smallest perturbation."""
    x, y = digits
    fooled = Classifier(network)(x_adv).argmax(1) != y
    if radius is not None:
        fooled &= (x_adv - x).flatten(1).norm(dim=1) <= radius
    return 1 - fooled.double().mean().item()


@pytest.fixture(scope="module")
def foolbox(network, digits):
    """Run one of its attacks; without a radius for the smallest perturbation."""
    fb = pytest.importorskip("foolbox")

    def run(method, eps=None, first=N):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        with frozen(network):
            model = fb.PyTorchModel(network, bounds=(0, 1))
            return method(fb)(model, *(part[:first] for part in digits), epsilons=eps)[1].detach()

    return run


@pytest.fixture(scope="module")
def torchattacks(network, digits):
    ta = pytest.importorskip("torchattacks")

    def run(method, first=N):
        torch.manual_seed(0)
        return method(ta)(network)(*(part[:first] for part in digits)).detach()

    return run


# The same walk


@pytest.mark.parametrize("eps", [0.05, 0.15])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_gives_foolboxs_point(network, digits, foolbox, norm, eps):
    radius = eps if norm == "linf" else 8 * eps
    theirs = foolbox(lambda fb: fb.attacks.FGSM() if norm == "linf" else fb.attacks.FGM(), radius)
    result = ours(network, digits, "fgsm", eps=radius, norm=norm)
    assert (result.step != 0).all()
    # a gradient in l2 is scaled as it is: the kernels of two batch layouts round it differently on some processors
    torch.testing.assert_close(result.x_adv, theirs, rtol=0, atol=2e-6 if norm == "linf" else 2e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bim_gives_foolboxs_last_point_where_nothing_is_fooled_early(network, digits, foolbox, norm):
    radius = 0.06 if norm == "linf" else 0.4

    def method(fb):
        kind = fb.attacks.LinfBasicIterativeAttack if norm == "linf" else fb.attacks.L2BasicIterativeAttack
        return kind(rel_stepsize=0.2, steps=10)

    theirs = foolbox(method, radius)
    result = ours(network, digits, "bim", eps=radius, norm=norm)
    late = (result.step < 0) | (result.step == 10)
    assert 20 < late.sum() < N
    torch.testing.assert_close(result.x_adv[late], theirs[late], rtol=0, atol=1e-5)


def test_mim_gives_torchattacks_last_point_where_nothing_is_fooled_early(network, digits, torchattacks):
    theirs = torchattacks(lambda ta: lambda net: ta.MIFGSM(net, eps=0.06, alpha=0.006, steps=10))
    result = ours(network, digits, "mim", eps=0.06)
    late = (result.step < 0) | (result.step == 10)
    assert 20 < late.sum() < N
    torch.testing.assert_close(result.x_adv[late], theirs[late], rtol=0, atol=1e-5)


# At least as strong at an equal budget


@pytest.mark.parametrize("eps", [0.05, 0.08])
@pytest.mark.parametrize(
    ("name", "params", "in_foolbox", "in_torchattacks", "grace"),
    [
        (
            "fgsm",
            {},
            lambda fb: fb.attacks.FGSM(),
            lambda ta, eps: lambda net: ta.FGSM(net, eps=eps),
            0,
        ),
        (
            "bim",
            {},
            lambda fb: fb.attacks.LinfBasicIterativeAttack(rel_stepsize=0.2, steps=10),
            lambda ta, eps: lambda net: ta.BIM(net, eps=eps, alpha=0.2 * eps, steps=10),
            0,
        ),
        (
            "mim",
            {},
            None,  # accumulates signs, another method
            lambda ta, eps: lambda net: ta.MIFGSM(net, eps=eps, alpha=0.1 * eps, steps=10),
            0,
        ),
        (
            "pgd",
            {"steps": 20},
            lambda fb: fb.attacks.LinfPGD(rel_stepsize=2.5 / 20, steps=20),
            lambda ta, eps: lambda net: ta.PGD(net, eps=eps, alpha=2.5 / 20 * eps, steps=20),
            GRACE,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_robust_accuracy_is_not_above_theirs(
    network, digits, foolbox, torchattacks, name, params, in_foolbox, in_torchattacks, grace, eps
):
    our = robust(network, digits, ours(network, digits, name, eps=eps, **params).x_adv)
    assert 0 < our < 1
    theirs = [torchattacks(lambda ta: in_torchattacks(ta, eps))]
    if in_foolbox is not None:
        theirs.append(foolbox(in_foolbox, eps))
    for x_adv in theirs:
        assert our <= robust(network, digits, x_adv) + grace


RADII = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3)


def test_deepfool_finds_perturbations_no_larger_than_theirs(network, digits, foolbox, torchattacks):
    digits = tuple(part[:N_SLOW] for part in digits)
    our = ours(network, digits, "deepfool").x_adv
    for theirs in (
        foolbox(
            lambda fb: fb.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02), first=N_SLOW
        ),
        torchattacks(lambda ta: lambda net: ta.DeepFool(net, steps=50, overshoot=0.02), first=N_SLOW),
    ):
        for radius in RADII:
            assert robust(network, digits, our, radius) <= robust(network, digits, theirs, radius)


def test_cw_finds_perturbations_no_larger_than_theirs(network, digits, foolbox, torchattacks):
    # pixels of exactly 0 and 1 are the rule here, where tanh is flat: the larger step is for all three
    searches, steps, lr = 5, 60, 0.1
    params = {"binary_search_steps": searches, "steps": steps, "abort_early": False}
    our = ours(network, digits, "cw", lr=lr, **params).x_adv
    for theirs in (
        foolbox(lambda fb: fb.attacks.L2CarliniWagnerAttack(stepsize=lr, **params)),
        torchattacks(lambda ta: lambda net: ta.CW(net, c=1, steps=searches * steps, lr=lr)),
    ):
        for radius in RADII:
            assert robust(network, digits, our, radius) <= robust(network, digits, theirs, radius) + GRACE
