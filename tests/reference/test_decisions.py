"""HopSkipJump and the Boundary attack against Foolbox's at as many queries, on a small network for digits."""

import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack

N = 12


class Counted(nn.Module):
    """A network that counts the images it is asked about."""

    def __init__(self, network):
        super().__init__()
        self.network, self.asked = network, 0

    def forward(self, x):
        self.asked += len(x)
        return self.network(x)


@pytest.mark.parametrize(
    ("name", "theirs", "params", "norm"),
    [
        ("hop_skip_jump", "HopSkipJumpAttack", {"steps": 7, "constraint": "l2"}, "l2"),
        ("hop_skip_jump", "HopSkipJumpAttack", {"steps": 7, "constraint": "linf"}, "linf"),
        ("boundary", "BoundaryAttack", {"steps": 1000}, "l2"),
    ],
)
def test_the_median_distance_is_no_worse_than_theirs_at_as_many_queries(
    name, theirs, params, norm, plain, recognised
):
    foolbox = pytest.importorskip("foolbox")
    x, y = recognised(plain, N)
    torch.manual_seed(0)
    counted = Counted(plain).eval()
    start = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=50)
    method = getattr(foolbox.attacks, theirs)(init_attack=start, **params)
    model = foolbox.PyTorchModel(counted, bounds=(0, 1), device="cpu")
    their, _, fooled = method(model, x, y, epsilons=None)
    assert fooled.double().mean() > 0.9
    queries = counted.asked // N
    own = {"norm": norm} if name == "hop_skip_jump" else {}
    ours = attack(name, queries=queries, **own)(Classifier(plain), x, y, rng=Rng(0))
    assert (plain(ours).argmax(1) != y).all()
    order = torch.inf if norm == "linf" else 2
    medians = [float((points - x).flatten(1).norm(p=order, dim=1).median()) for points in (ours, their)]
    assert medians[0] <= 1.02 * medians[1]
