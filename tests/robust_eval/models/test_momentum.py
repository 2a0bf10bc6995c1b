"""Residual networks whose blocks add an average of residuals."""

import pytest
import torch
from torch import nn

from robust_eval.classifier.accelerate import twins
from robust_eval.errors import ConfigError
from robust_eval.models.architectures._momentum import MomentumLayer, Parts, ResidualMomentum
from robust_eval.registry import build, describe

NAMES = {
    "preresnet": {"width": 4, "depth": 20},
    "preact_resnet18": {"width": 4, "blocks": [3, 2, 1, 1]},
    "preact_resnet101": {"width": 4, "blocks": [3, 2, 1, 1]},
}
every_name = pytest.mark.parametrize("name", NAMES)


class Adds(nn.Module):
    """A block that adds a number."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def parts(self, x):
        return Parts(torch.full_like(x, self.number), x)


def added(numbers, **fields):
    """What each block of a layer adds to 0."""
    blocks = nn.Sequential(*map(Adds, numbers))
    sums = [
        MomentumLayer(blocks[:count], ResidualMomentum(**fields))(
            torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        ).item()
        for count in range(1, len(numbers) + 1)
    ]
    return [after - before for before, after in zip([0.0, *sums], sums, strict=False)]


def test_the_average_is_a_geometric_series_of_residuals():
    μ, numbers = 0.5, [1.0, -2.0, 5.0, 3.0]
    expected = [sum(μ ** (last - i) * numbers[i] for i in range(last + 1)) for last in range(4)]
    assert added(numbers, residual="average", mu=μ) == pytest.approx(expected)
    assert added([1.0] * 60, residual="average", mu=0.8)[-1] == pytest.approx(1 / (1 - 0.8), rel=1e-4)


@pytest.mark.parametrize("w", [1, 2, 3, 9])
def test_the_window_is_the_mean_of_the_last_residuals_that_there_are(w):
    numbers = [1.0, -2.0, 5.0, 3.0]
    windows = [numbers[max(0, last + 1 - w) : last + 1] for last in range(4)]
    expected = [sum(window) / len(window) for window in windows]
    assert added(numbers, residual="window", window=w) == pytest.approx(expected)


def made(name, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("architecture", name, NAMES[name] | fields).build(channels=3, classes=5)


@every_name
@pytest.mark.parametrize("fields", [{"residual": "average", "mu": 0.0}, {"residual": "window", "window": 1}])
def test_without_memory_it_is_the_plain_network_bit_for_bit(name, fields):
    plain, other = made(name), made(name, **fields)
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for network in (plain, other):
        network.logits = network(x)
        network.logits.square().mean().backward()
    assert torch.equal(plain.logits, other.logits)
    for (first, weight), (second, same) in zip(
        plain.named_parameters(), other.named_parameters(), strict=True
    ):
        assert first == second and torch.equal(weight.grad, same.grad), first


@every_name
@pytest.mark.parametrize("residual", ["average", "window"])
def test_with_memory_weights_have_the_same_names_and_other_logits(name, residual):
    plain, other = made(name).eval(), made(name, residual=residual).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert (plain(x) - other(x)).abs().max() > 1e-4
    h = x
    for stage in other.stages:
        h = stage(h)
    assert torch.equal(h, other(x))


def test_each_layer_begins_anew():
    network, x = made("preact_resnet18", residual="average").eval(), torch.rand(2, 3, 16, 16)
    plain = made("preact_resnet18").eval()
    # layers of one block have nothing to average
    h = network.layer2(network.layer1(network.conv1(x)))
    assert torch.equal(network.layer4(network.layer3(h)), plain.layer4(plain.layer3(h)))
    assert not torch.allclose(network.layer1(network.conv1(x)), plain.layer1(plain.conv1(x)), atol=1e-3)


@pytest.mark.parametrize("residual", ["average", "window"])
def test_it_has_a_faster_twin(residual):
    network, x = made("preresnet", residual=residual).eval(), torch.rand(4, 3, 16, 16)
    twin = twins(network, x, "fp32").exact
    assert twin is not None
    torch.testing.assert_close(twin(x), network(x), atol=1e-4, rtol=1e-3)


@every_name
def test_the_description_of_a_plain_network_stays(name):
    described = describe(build("architecture", name, {})).params
    assert not {"residual", "mu", "window"} & set(described)
    params = describe(build("architecture", name, {"residual": "average", "mu": 0.9})).params
    assert params == {**described, "residual": "average", "mu": 0.9}
    assert build("architecture", name, params) == build(
        "architecture", name, {"residual": "average", "mu": 0.9}
    )


@every_name
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"residual": "mean"}, "residual: expected 'plain', 'average' or 'window', got 'mean'"),
        ({"mu": 0.9}, "expected residual='average' with mu=0.9, got 'plain'"),
        ({"residual": "average", "window": 3}, "expected residual='window' with window=3, got 'average'"),
        ({"residual": "average", "mu": 1}, "mu: expected < 1, got 1"),
        ({"residual": "window", "window": 0}, "window: expected >= 1, got 0"),
    ],
)
def test_wrong_fields_are_told(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        build("architecture", name, fields)
