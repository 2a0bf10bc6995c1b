import pytest
import torch
from torch import nn

from defenses.bit_depth import BitDepth
from robust_eval.errors import ConfigError
from robust_eval.registry import build


class Spy(nn.Module):
    """Keeps what it was given."""

    def forward(self, x):
        self.seen = x
        return x.flatten(1)[:, :3]


def seen(x, **params):
    network = Spy()
    BitDepth(**params).wrap(network)(x)
    return network.seen


@pytest.mark.parametrize("bits", range(1, 9))
def test_as_many_values_are_left_as_the_bits_can_tell(bits):
    x = torch.linspace(0, 1, 4096).view(1, 1, 64, 64)
    values = seen(x, bits=bits).unique()
    torch.testing.assert_close(values, torch.arange(2**bits) / (2**bits - 1))
    assert (seen(x, bits=bits) - x).abs().max() <= 0.5 / (2**bits - 1) + 1e-6


def test_images_of_eight_bits_keep_all_of_them():
    x = (torch.arange(256) / 255).view(1, 1, 16, 16)
    torch.testing.assert_close(seen(x, bits=8), x, rtol=0, atol=1e-7)


def test_black_and_white_stay_so():
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    for bits in (1, 5):
        assert torch.equal(seen(x, bits=bits), x)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ConfigError, match="defense 'bit_depth': bits: "):
        build("defense", "bit_depth", {"bits": bits})
