"""A zoo of small models with one planted fault each, and honest ones: every check is tested on all of them."""

import copy
import functools
from collections.abc import Callable
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robust_eval.checks import Subject
from robust_eval.classifier import Classifier
from robust_eval.classifier.normalized import Normalized
from robust_eval.models.architectures.small_cnn import SmallCnn
from robust_eval.registry import build
from robust_eval.rng import Rng
from robust_eval.threat import Threat
from robust_eval.types import StochasticModule

EPS = 0.1


class Wrapped(nn.Module):
    """A trained network inside a module that does one thing wrong."""

    def __init__(self, network):
        super().__init__()
        self.network = network


class LargeLogits(Wrapped):
    def forward(self, x):
        return 1e4 * self.network(x)


class Quantised(Wrapped):
    """Sixteen grey levels, as an image of 4 bits; rounding has no gradient."""

    def forward(self, x):
        return self.network((15 * x).round() / 15)


class Softmax(Wrapped):
    def forward(self, x):
        return self.network(x).softmax(1)


class NoisyInput(Wrapped):
    def forward(self, x):
        return self.network(x + 0.2 * torch.randn_like(x))


class CoinFlip(Wrapped):
    """One answer in twenty is that of another class, whatever the image."""

    def forward(self, x):
        logits = self.network(x)
        return torch.where(torch.rand(len(x), 1) < 0.05, logits.roll(1, 1), logits)


class Detached(Wrapped):
    def forward(self, x):
        return self.network(x.detach())


class StraightThrough(Wrapped):
    def forward(self, x):
        z = self.network(x)
        return F.one_hot(z.argmax(1), z.shape[1]) + z - z.detach()


class BatchStatistics(Wrapped):
    """Batch normalisation by the batch at hand, whatever the mode."""

    def forward(self, x):
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = True
        return self.network(x)


class AwakeDropout(Wrapped):
    """Dropout that a careless `train` keeps awake."""

    def __init__(self, network):
        super().__init__(network)
        self.dropout = nn.Dropout(0.3)

    def train(self, mode=True):
        super().train(mode)
        self.dropout.training = True
        return self

    def forward(self, x):
        return self.network(self.dropout(x))


class Shattered(Wrapped):
    """A ripple on every pixel, too small to change many answers, that turns the gradient about."""

    def forward(self, x):
        return self.network(x + 0.05 * torch.sin(1000 * x))


class Clamped(Wrapped):
    """Changes no image; the gradient is zero at black and white pixels."""

    def forward(self, x):
        return self.network(x.clamp(0, 1))


class Rectified(Wrapped):
    def forward(self, x):
        return self.network(torch.relu(x))


class Absolute(Wrapped):
    def forward(self, x):
        return self.network(x.abs())


class Masked(Wrapped):
    """The gradient of every other column is cut off."""

    def forward(self, x):
        open_ = torch.arange(x.shape[-1]) % 2 == 0
        return self.network(torch.where(open_, x, x.detach()))


class Patched(Wrapped):
    """The upper half is rounded to 8 bits, which changes no digit."""

    def forward(self, x):
        half = x.shape[2] // 2
        return self.network(torch.cat([(x[:, :, :half] * 240).round() / 240, x[:, :, half:]], 2))


class Thresholded(Wrapped):
    """The upper half is black or white, which few digits hang on."""

    def forward(self, x):
        half = x.shape[2] // 2
        return self.network(torch.cat([(x[:, :, :half] > 0.5).to(x), x[:, :, half:]], 2))


class Rooted(Wrapped):
    """A square root that is undone: its gradient is infinite at black pixels, then not a number."""

    def forward(self, x):
        return self.network(x.sqrt().square())


class Purified(Wrapped):
    """Climbs its own confidence by a few gradient steps before it answers."""

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(z).logsumexp(1).sum(), z)
        return self.network(x + 1e-3 * gradient.sign())


class Smoothed(StochasticModule):
    """Randomised smoothing: the mean probability of four noisy copies, drawn from the rng it is given."""

    copies = 4

    def __init__(self, network):
        super().__init__()
        self.network = network

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        noise = 0.1 * self.rng.normal(self.copies, *x.shape[1:], device=x.device).to(x.dtype)
        logits = self.network((x[:, None] + noise).flatten(0, 1))
        return logits.log_softmax(1).unflatten(0, (len(x), self.copies)).logsumexp(1)


FAULTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "large logits": LargeLogits,
    "quantised": Quantised,
    "softmax": Softmax,
    "noisy input": NoisyInput,
    "coin flip": CoinFlip,
    "detached": Detached,
    "straight through": StraightThrough,
    "batch statistics": BatchStatistics,
    "awake dropout": AwakeDropout,
    "shattered": Shattered,
    "purified": Purified,
    "clamped": Clamped,
    "rectified": Rectified,
    "absolute": Absolute,
    "masked": Masked,
    "patched": Patched,
    "thresholded": Thresholded,
    "rooted": Rooted,
}


def fitted(network, images, labels, *, seed, epochs, eps=0.0):
    """Train in place; with `eps` on the points that five steps of PGD find."""
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=epochs * 11)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=shuffle)[: 11 * 117].split(117):
            x, y = images[rows], labels[rows]
            network.eval()
            delta = (2 * torch.rand(x.shape, generator=shuffle) - 1) * eps
            for _ in range(5 if eps else 0):
                delta.requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(network(x + delta), y), delta)
                delta = (delta + eps / 2 * gradient.sign()).detach().clamp(-eps, eps)
            network.train()
            loss = F.cross_entropy(network((x + delta).clamp(0, 1) if eps else x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def small(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmallCnn(width=8).build(channels=1, classes=10)


@pytest.fixture(scope="session")
def zoo(request):
    """Trained networks of one seed, 0 unless a test is parametrised by others."""
    return trained(getattr(request, "param", 0))


@functools.cache
def trained(seed):
    """Train an undefended network, one adversarially, and one that wants its input normalised; plant the faults."""
    digits = build("data", "digits", {})
    train, test = digits.train(), digits.test(None)
    plain = fitted(small(seed), train.images, train.labels, seed=seed, epochs=8)
    robust = fitted(small(seed), train.images, train.labels, seed=seed, epochs=10, eps=EPS)
    normal = Normalized(small(seed), [0.1307], [0.3081])
    fitted(normal, train.images, train.labels, seed=seed, epochs=8)
    return SimpleNamespace(
        seed=seed,
        images=test.images,
        labels=test.labels,
        plain=plain,
        robust=robust,
        normal=normal,
        smoothed=Smoothed(robust),
        faults={name: make(copy.deepcopy(plain)) for name, make in FAULTS.items()},
    )


@pytest.fixture
def shapes_unchecked():
    """Without run-time checks of shapes, which take most of the time of a thousand small calls."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def subject(zoo):
    """Make a subject of a network: the first images that it classifies correctly."""

    def make(network, *, n=32, norm="linf", eps=EPS, images=None, labels=None):
        images = zoo.images if images is None else images
        labels = zoo.labels if labels is None else labels
        model = Classifier(network, precision="fp32")
        draws = Rng(zoo.seed).child("clean").for_batch(len(images))
        logits = [
            model.logits(images, rng=draws.child(i)).softmax(1) for i in range(10 if model.stochastic else 1)
        ]
        rows = (torch.stack(logits).mean(0).argmax(1) == labels).nonzero()[:n, 0]
        model = Classifier(network, precision="fp32")  # with an empty ledger
        return Subject(model, model, images[rows], labels[rows], Threat(norm, eps), Rng(zoo.seed).rows(rows))

    return make
