"""A network keeps its twins however it pools and flattens, and whatever its layers and tensors are called."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval.classifier.accelerate import twins

IDIOMS = {
    "mean": lambda h: h.mean((2, 3)),
    "adaptive_avg_pool2d": lambda h: functional.adaptive_avg_pool2d(h, 1)[:, :, 0, 0],
    "avg_pool2d": lambda h: functional.avg_pool2d(h, 4).flatten(1),
    "flatten": lambda h: torch.flatten(h, 1),
    "view": lambda h: h.contiguous().view(h.size(0), -1),
    "reshape": lambda h: h.reshape(h.shape[0], -1),
    "einsum": lambda h: torch.einsum("nchw,nchw->nc", h, h) / 16,
    "permute": lambda h: h.permute(0, 2, 3, 1).reshape(h.shape[0], -1),
    "functional relu": lambda h: functional.relu(h).mean([-1, -2]),
    "+=": lambda h: _added(h).flatten(1),
    "cat": lambda h: torch.cat([h.amax((2, 3)), h.mean((2, 3))], 1),
    "chunk": lambda h: _gated(h).sum((2, 3)),
}
WIDTH = dict.fromkeys(("flatten", "view", "reshape", "permute", "+="), 128) | {"cat": 16, "chunk": 4}
NAMES = ("mean", "std", "view", "add")


def _gated(h):
    a, b = h.chunk(2, 1)
    return a * torch.sigmoid(b)


def _added(h):
    h = h * 0.5
    h += 0.1
    return h


class Idiom(nn.Module):
    """Two convolutions and a head around one way to pool; one tensor or one layer has the name of a method."""

    def __init__(self, idiom, name, kind):
        super().__init__()
        self.idiom, self.name, self.kind = idiom, name, kind
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Linear(WIDTH.get(idiom, 8), 4)
        if kind == "layer":
            setattr(self, name, nn.Conv2d(8, 8, 3))
        else:
            self.second = nn.Conv2d(8, 8, 3)
            self.register_buffer(name, torch.full((1, 3, 1, 1), 0.5))

    def forward(self, x):
        named = getattr(self, self.name)
        h = functional.relu(self.first(x - named if self.kind == "tensor" else x))
        return self.head(IDIOMS[self.idiom](named(h) if self.kind == "layer" else self.second(h)))


def spread(logits):
    return (logits.amax(1) - logits.amin(1)).median()


def expect_right(network, x):
    made = twins(network, x, "bf16")
    assert made.exact is not None and made.fast is not None and made.reason is None
    half = {weight.dtype for weight in made.fast.state_dict().values()}
    assert half == {torch.float32, torch.bfloat16}
    other = torch.rand(3, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        logits = network(other)
        torch.testing.assert_close(made.exact(other), logits, rtol=1e-4, atol=1e-4)
        assert 0 < (made.fast(other) - logits).abs().max() < 0.1 * spread(logits)


def built(network):
    torch.manual_seed(3)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network.eval()


@pytest.mark.parametrize("kind", ["tensor", "layer"])
@pytest.mark.parametrize("idiom", IDIOMS)
def test_no_way_to_pool_and_no_name_costs_a_network_its_twins(idiom, kind):
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for name in NAMES:
        expect_right(built(Idiom(idiom, name, kind)), x)


class Idle(Idiom):
    """Asks in Python what a trace cannot know."""

    def forward(self, x):
        return self.head(self.second(self.first(x)).reshape(len(x), -1))


def test_where_there_is_none_the_reason_is_the_true_one():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    made = twins(built(Idle("view", "mean", "tensor")), x, "bf16")
    assert made.exact is None and made.reason is not None
    assert "it cannot be traced" in made.reason and "len" in made.reason


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, width))


class Transformer(nn.Module):
    """Patches, a class token, positions, one block of attention and one of two layers."""

    def __init__(self, attention):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token, self.add = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 5, 8))
        self.norm1, self.norm2, self.attention = nn.LayerNorm(8), nn.LayerNorm(8), attention
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.add
        h = self.norm1(x)
        h = self.attention(h) if isinstance(self.attention, Attention) else self.attention(h, h, h)[0]
        x = x + h
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


class ConvNeXt(nn.Module):
    """One block with layer scale, channels last inside."""

    def __init__(self):
        super().__init__()
        self.stem, self.view = nn.Conv2d(3, 8, 2, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.mean = nn.LayerNorm(8), nn.Parameter(torch.ones(8))
        self.wide, self.back, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        h = self.norm(self.view(x).permute(0, 2, 3, 1))
        h = self.mean * self.back(functional.gelu(self.wide(h)))
        x = x + h.permute(0, 3, 1, 2)
        return self.head(functional.layer_norm(x.mean([-2, -1]), (8,)))


def grouped():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(inplace=True)),
        *(nn.Conv2d(8, 8, 3), nn.GroupNorm(4, 8), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


MODERN = {
    "transformer": lambda: Transformer(Attention(8)),
    "transformer of torch's attention": lambda: Transformer(nn.MultiheadAttention(8, 2, batch_first=True)),
    "convnext": ConvNeXt,
    "group norm": grouped,
}


@pytest.mark.parametrize("name", MODERN)
def test_transformers_and_other_normalisations_have_twins(name):
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    expect_right(built(MODERN[name]()), x)
