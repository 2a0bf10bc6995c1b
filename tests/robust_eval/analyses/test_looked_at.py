"""Which networks are in stages."""

import pytest
import torch
from torch import nn

from robust_eval.analyses._looked_at import stages_of
from robust_eval.classifier.dtypes import InItsDtype, in_its_dtype
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import DataError
from robust_eval.registry import build, names


class Between(nn.Module):
    """The stages of timm's networks lie between stem and head."""

    def __init__(self, stages):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        self.stages = stages


@pytest.mark.parametrize(
    "stages", [4, [2, 2], "abc", None, nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))], ids=str
)
@pytest.mark.parametrize("normalised", [False, True])
def test_stages_of_another_meaning_are_refused_with_a_reason(stages, normalised):
    network = Between(stages)
    network = Normalized(network, [0.5] * 3, [0.5] * 3) if normalised else network
    with pytest.raises(DataError, match="expected a network in stages"):
        stages_of("activation_magnitude", network)


@pytest.mark.parametrize("name", names("architecture"))
def test_every_architecture_is_in_stages(name):
    network = build("architecture", name, {}).build(channels=3, classes=2)
    assert list(stages_of("activation_magnitude", network))[-1] == "head"


def test_a_network_of_another_dtype_has_the_stages_of_itself():
    class Staged(nn.Sequential):
        @property
        def stages(self):
            return list(self)

    network = in_its_dtype(Staged(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2)).double())
    assert isinstance(network, InItsDtype)
    x = torch.rand(2, 3, 2, 2)
    h = x
    for stage in stages_of("activation_magnitude", Normalized(network, [0.0] * 3, [1.0] * 3)).values():
        h = stage(h)
    torch.testing.assert_close(h.float(), network(x).float())
