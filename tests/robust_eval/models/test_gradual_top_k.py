"""Layers that choose among branches as training goes on."""

import pytest
import torch

from robust_eval.errors import ConfigError
from robust_eval.mixing import gradual_coefficients
from robust_eval.models.architectures.gradual_top_k import GradualTopKLayer
from robust_eval.registry import build


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = GradualTopKLayer(6, 8, branches=4, finetune=0.25).eval()
    made.attention.weight.data.mul_(20)
    return made


@pytest.fixture
def h():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(10, 6, 8, 8, generator=generator) * torch.rand(10, 6, 1, 1, generator=generator)


def attention(layer, h):
    return (h.mean((2, 3)) @ layer.attention.weight.T + layer.attention.bias).softmax(1)


def test_a_new_layer_weighs_all_branches_by_attention(layer, h):
    assert layer.t == 0
    expected = sum(
        attention(layer, h)[:, i, None, None, None] * branch(h) for i, branch in enumerate(layer.branches)
    )
    torch.testing.assert_close(layer(h), expected)


@pytest.mark.parametrize("progress", [0.75, 0.8, 1.0])
def test_at_the_end_each_image_has_its_best_branch_alone(layer, h, progress):
    layer.at_progress(progress)
    assert layer.t == 1
    best = attention(layer, h).argmax(1)
    assert len(best.unique()) > 1
    for i, branch in enumerate(best.tolist()):
        torch.testing.assert_close(layer(h)[i], layer.branches[branch](h)[i], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("progress", [0.1, 0.25, 0.4, 0.6])
def test_between_the_ends_weights_are_attention_times_coefficients_by_rank(layer, h, progress):
    layer.at_progress(progress)
    coefficients = gradual_coefficients(4, progress / 0.75)
    weights = layer.weights(h)
    for a, got in zip(attention(layer, h).tolist(), weights.tolist(), strict=True):
        by_rank = sorted(range(4), key=lambda i: -a[i])
        kept = {i: a[i] * c for i, c in zip(by_rank, coefficients, strict=True)}
        assert got == pytest.approx([kept[i] / sum(kept.values()) for i in range(4)], abs=1e-5)


def test_the_choice_moves_without_jumps(layer, h):
    before = None
    for step in range(1001):
        layer.at_progress(step / 1000)
        weights = layer.weights(h)
        if before is not None:
            assert (weights - before).abs().max() < 0.02
        before = weights


def test_it_is_kept_with_the_weights(layer, h):
    layer.at_progress(0.4)
    other = GradualTopKLayer(6, 8, branches=4, finetune=0.25).eval()
    other.load_state_dict(layer.state_dict())
    assert other.t == layer.t == pytest.approx(0.4 / 0.75) and torch.equal(other(h), layer(h))


def test_one_branch_is_small_cnn():
    one = (
        build("architecture", "gradual_top_k", {"width": 4, "branches": 1})
        .build(channels=3, classes=5)
        .eval()
    )
    small = build("architecture", "small_cnn", {"width": 4}).build(channels=3, classes=5).eval()
    kept = {name.replace("branches.0.", ""): value for name, value in one.state_dict().items()}
    small.load_state_dict({name: value for name, value in kept.items() if name in small.state_dict()})
    x = torch.rand(4, 3, 16, 16)
    for progress in (0.0, 0.5, 1.0):
        one.layer1.at_progress(progress)
        torch.testing.assert_close(one(x), small(x))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": 0}, "branches: expected >= 1, got 0"),
        ({"finetune": 1}, "finetune: expected < 1, got 1"),
    ],
)
def test_wrong_fields_are_told(fields, message):
    with pytest.raises(ConfigError, match=message):
        build("architecture", "gradual_top_k", fields)
