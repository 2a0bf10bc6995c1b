"""A twin gives the network's own logits, or there is none."""

import copy
import gc
import inspect
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.classifier.accelerate import Twins, pick_precision, twins
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import ConfigError
from robust_eval.losses import cross_entropy
from robust_eval.registry import build, names
from robust_eval.types import StochasticModule

SMALL = {"width": 4, "depth": 8, "widen": 1}


def images(n=6, side=16, channels=3):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(n))


def lived_in(network):
    """Give batch normalisations statistics that folding has to respect."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


def convnet():
    torch.manual_seed(1)
    return lived_in(
        nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 16),
            nn.ReLU(),
            nn.Linear(16, 4),
        )
    )


def architecture(name):
    fields = build("architecture", name, {}).__dataclass_fields__
    params = {k: v for k, v in SMALL.items() if k in fields}
    # its depths are 6 k + 4, those of the other families 6 k + 2
    return build("architecture", name, params | ({"depth": 10} if name == "wide_resnet" else {}))


@pytest.mark.parametrize("name", names("architecture"))
@pytest.mark.parametrize("normalised", [False, True], ids=["bare", "normalised"])
def test_every_architecture_has_twins_with_its_own_logits(name, normalised):
    network = lived_in(architecture(name).build(channels=3, classes=5))
    if normalised:
        network = Normalized(network, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    x = images(side=32)
    made = twins(network, x, "bf16")
    assert made.exact is not None and made.fast is not None and made.reason is None
    with torch.no_grad():
        logits, exact, fast = network(x), made.exact(x), made.fast(x)
    torch.testing.assert_close(exact, logits, rtol=0, atol=1e-4 * logits.abs().max().item())
    assert fast.dtype == torch.float32
    error = (fast - logits).abs().max() / (logits.amax(1) - logits.amin(1)).median()
    assert 0 < error < 0.1


def test_a_normalisation_behind_a_convolution_is_folded_into_it():
    made = twins(convnet(), images(), "bf16")
    for twin in (made.exact, made.fast):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())


def test_the_first_and_the_last_layer_stay_in_float32_and_the_rest_does_not():
    fast = twins(convnet(), images(), "bf16").fast
    layers = [module for module in fast.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [layer.weight.dtype for layer in layers] == [
        torch.float32,
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    ]


def test_fp32_has_no_fast_twin():
    made = twins(convnet(), images(), "fp32")
    assert made.exact is not None and made.fast is None and made.reason is None


def test_a_convolution_that_is_used_twice_is_not_folded_into_either_use():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.head = nn.Linear(3, 4)

        def forward(self, x):
            h = self.b(self.conv(self.a(self.conv(x))))
            return self.head(h.mean((2, 3)))

    network, x = lived_in(Shared()), images()
    exact = twins(network, x, "fp32").exact
    assert sum(isinstance(module, nn.BatchNorm2d) for module in exact.modules()) == 2
    torch.testing.assert_close(exact(x), network(x), rtol=1e-4, atol=1e-4)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convnet()
        self.calls, self.kept, self.limit = 0, None, 0.0


class Dropping(Wrapped):
    def forward(self, x):
        return functional.dropout(self.network(x), 0.5, training=True)


class Drawing(Wrapped):
    def forward(self, x):
        return self.network(x + 0.1 * torch.rand(3, 1, 1))


class Counting(Wrapped):
    def forward(self, x):
        self.calls += 1
        return self.network(x)


class Keeping(Wrapped):
    def forward(self, x):
        self.kept = x.mean()
        return self.network(x)


class Branching(Wrapped):
    def forward(self, x):
        return self.network(x) if x.mean() > self.limit else self.network(1 - x)


class Stochastic(Wrapped):
    def __init__(self):
        super().__init__()
        self.inner = StochasticModule()

    def forward(self, x):
        return self.network(x)


class ByTheBatch(Wrapped):
    def forward(self, x):
        return self.network(x - x.mean((0, 2, 3), keepdim=True))


class NotFinite(Wrapped):
    def forward(self, x):
        return self.network(x) / 0


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Dropping, "random"),
        (Drawing, "random"),
        (Counting, "keeps values"),
        (Keeping, "keeps values"),
        (Branching, "cannot be traced"),
        (Stochastic, "random"),
        (ByTheBatch, "other logits"),
        (NotFinite, "not finite"),
    ],
)
def test_a_network_that_tracing_could_misread_is_used_as_it_is(network, reason, caplog):
    caplog.set_level("INFO")
    network = network().eval()
    made = twins(network, images(), "bf16")
    assert made.exact is None and made.fast is None
    assert reason in made.reason and reason in caplog.text
    if isinstance(network, Counting):
        assert network.calls == 0


def test_a_network_with_hooks_is_used_as_it_is_and_its_hooks_run():
    network, seen = convnet(), []
    network[3].register_forward_hook(lambda *_: seen.append(1))
    classifier = Classifier(network)
    classifier.logits(images())
    assert classifier.slow_because == "it has hooks" and seen == [1]


def test_parametrised_weights_are_not_copied():
    network = convnet()
    nn.utils.parametrizations.weight_norm(network[0])
    assert twins(network, images(), "fp32").reason == "its weights are computed at each call"


def test_float64_is_never_turned_into_something_else():
    classifier = Classifier(convnet().double(), precision="bf16")
    assert classifier.logits(images().double()).dtype == torch.float64
    assert not classifier.proposes and "float64" in classifier.slow_because


@pytest.mark.parametrize("change", ["in place", "load_state_dict", "statistics"])
def test_new_weights_give_new_logits(change):
    network, x = convnet(), images()
    classifier = Classifier(network)
    classifier.logits(x)
    with torch.no_grad():
        if change == "in place":
            network[3].weight.mul_(2)
        elif change == "statistics":
            network[4].running_mean.add_(1)
        else:
            network.load_state_dict({key: value * 1.5 for key, value in network.state_dict().items()})
        expected = network(x)
    torch.testing.assert_close(classifier.logits(x), expected, rtol=1e-4, atol=1e-4)


def test_a_twin_lives_as_long_as_its_network():
    network = convnet()
    exact = weakref.ref(twins(network, images(), "fp32").exact)
    assert exact() is not None
    del network
    gc.collect()
    assert exact() is None


def test_the_network_itself_is_left_alone():
    network = convnet().train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    classifier = Classifier(network, precision="bf16")
    classifier.input_gradient(images(), torch.zeros(6, dtype=torch.int64), cross_entropy)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(weight.requires_grad and weight.is_contiguous() for weight in network.parameters())


@pytest.fixture
def aot_eager(monkeypatch):
    """Compile for real, all but the code for the processor, which takes a minute."""
    made, compile_ = [], torch.compile

    def compile_quickly(twin, **options):
        made.append(twin)
        return compile_(twin, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile_quickly)
    yield made
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler looks at .grad of what is no leaf
def test_compiled_twins_answer_and_are_compiled_once_per_network(aot_eager):
    network, x, y = convnet(), images(), torch.zeros(6, dtype=torch.int64)
    for _ in range(2):
        model = Classifier(network, precision="bf16", compiled=True)
        compiled = model.input_gradient(x, y, cross_entropy).gradient
    assert len(aot_eager) == 2  # the exact twin and the fast one
    plain = Classifier(network, precision="bf16").input_gradient(x, y, cross_entropy).gradient
    assert len(aot_eager) == 2
    assert functional.cosine_similarity(compiled.flatten(1), plain.flatten(1)).min() > 0.98


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_network_has_its_jacobian(aot_eager, precision):
    network, x, classes = convnet(), images(), torch.arange(4).expand(6, 4)
    _, plain = Classifier(network, precision=precision).jacobian(x, classes)
    _, compiled = Classifier(network, precision=precision, compiled=True).jacobian(x, classes)
    _, theirs = Classifier(torch.compile(network), precision=precision).jacobian(x, classes)
    close = {"rtol": 1e-3, "atol": 1e-5} if precision == "fp32" else {"rtol": 0.1, "atol": 0.02}
    torch.testing.assert_close(compiled, plain, **close)
    torch.testing.assert_close(theirs, plain, **close)


def test_a_graph_that_serves_once_is_made_again_for_each_column():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.spent = False
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            if ctx.spent:
                raise RuntimeError("This backward function was compiled with non-empty donated buffers")
            ctx.spent = True
            return gradient

    class Donating(Wrapped):
        def forward(self, x):
            return Once.apply(self.network(x))

    network, x, classes = Donating().eval(), images(), torch.arange(4).expand(6, 4)
    model = Classifier(network)
    model.jacobian(x, classes, rng=Rng(0).for_batch(6))
    assert (model.ledger["backwards"] == 4).all()
    expected = Classifier(network.network, accelerate=False).jacobian(x, classes)[1]
    torch.testing.assert_close(model.jacobian(x, classes)[1], expected)


POOLING = {
    "mean": lambda h: h.mean((2, 3)),
    "flatten": lambda h: functional.adaptive_avg_pool2d(h, 1).flatten(1),
    "view": lambda h: functional.avg_pool2d(h, h.shape[-1]).view(h.shape[0], -1),
    "amax": lambda h: h.amax((2, 3)),
    "squeeze": lambda h: functional.adaptive_max_pool2d(h, 1).squeeze(-1).squeeze(-1),
}


@pytest.mark.parametrize("buffer", ["mean", "flatten", "view", "amax", "squeeze"])
@pytest.mark.parametrize("pooling", POOLING)
def test_a_method_of_a_tensor_is_not_taken_for_a_buffer_of_the_same_name(pooling, buffer):
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
            self.register_buffer(buffer, torch.full((1, 3, 1, 1), 0.5))

        def forward(self, x):
            h = (self.a(x - getattr(self, buffer)) - 0.1).relu()
            return self.head(POOLING[pooling](self.b(h).relu()))

    network = Pooling().eval()
    made = twins(network, images(), "bf16")
    assert made.fast is not None and made.reason is None


def test_a_network_of_two_layers_has_no_fast_twin_and_says_why():
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 4)).eval()
    assert "fewer than three layers with weights" in twins(small, images(), "bf16").reason


def test_an_unknown_precision_is_refused():
    unchecked = inspect.unwrap(pick_precision)
    with pytest.raises(ConfigError, match="precision: expected one of auto, fp32, bf16, got 'fp16'"):
        unchecked("fp16", torch.device("cpu"))


def test_gradients_in_bfloat16_point_where_those_in_float32_do():
    x, y = images(), torch.arange(6) % 4
    first, second = (
        Classifier(convnet(), precision=precision).input_gradient(x, y, cross_entropy).gradient.flatten(1)
        for precision in ("fp32", "bf16")
    )
    assert functional.cosine_similarity(first, second).min() > 0.98


def test_full_precision_decides_what_low_precision_proposed(monkeypatch):
    """A fast twin that calls everything fooled, and one that sees nothing: the points must be right all the same."""

    class Lying(nn.Module):
        def __init__(self, network, offset):
            super().__init__()
            self.network, self.offset = network, offset

        def forward(self, x):
            logits = self.network(x)
            return logits + self.offset * functional.one_hot(logits.argmax(1), logits.shape[1])

    network, x = convnet(), images(24)
    with torch.no_grad():
        y = network(x).argmax(1)
    for offset in (-1e3, 1e3):
        monkeypatch.setattr(
            "robust_eval.classifier.classifier.twins",
            lambda net, *_, offset=offset, **__: Twins(net, Lying(net, offset), None),
        )
        for name in ("pgd", "bim", "mim", "cw", "deepfool"):
            params = {"eps": 0.03} if name in ("pgd", "bim", "mim") else {}
            result = attack(name, steps=8, **params).run(Classifier(network), x, y, rng=Rng(0).for_batch(24))
            with torch.no_grad():
                fooled = network(result.x_adv).argmax(1) != y
            assert torch.equal(result.step >= 0, fooled), (name, offset)
            assert offset > 0 or name == "deepfool" or not (result.step == 0).any()


class Hungry(Wrapped):
    """Has memory for three images."""

    def forward(self, x):
        if len(x) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return self.network(x)


def test_out_of_memory_halves_the_batch_and_says_so(caplog):
    network, x, y = Hungry(), images(20), torch.zeros(20, dtype=torch.int64)
    classifier = Classifier(network, batch_size=8)
    rng = Rng(0).for_batch(20)
    torch.testing.assert_close(classifier.logits(x, rng=rng), network.network(x), rtol=1e-4, atol=1e-5)
    classifier.input_gradient(x, y, cross_entropy, rng=rng)
    assert classifier.batch_size == 2
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"out of memory: from now on {n} images at a time" for n in (4, 2)]
    assert (classifier.ledger["forwards"] == 2).all() and (classifier.ledger["backwards"] == 1).all()


def test_out_of_memory_at_one_image_is_an_error():
    class Starving(Wrapped):
        def forward(self, x):
            raise RuntimeError("can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate"):
        Classifier(Starving(), batch_size=4).logits(images())


class _Step(torch.autograd.Function):
    """Rounds, and lets the gradient through."""

    @staticmethod
    def forward(ctx, x):
        return (x * 15).round() / 15

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class ByFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convnet()

    def forward(self, x):
        return self.network(_Step.apply(x))


class BySwitch(ByFunction):
    def forward(self, x):
        with torch.no_grad():
            moved = (x * 15).round() / 15 - x
        return self.network(x + moved)


@pytest.mark.parametrize("network", [ByFunction, BySwitch])
def test_a_backward_pass_of_the_networks_own_is_not_lost(network):
    x = images(8)
    made = twins(network(), x, "fp32")
    assert made.exact is None and made.reason is not None
    y = network()(x).argmax(1)
    got = Classifier(network()).input_gradient(x, y, cross_entropy).gradient
    wanted = Classifier(network(), accelerate=False).input_gradient(x, y, cross_entropy).gradient
    assert torch.allclose(got, wanted, atol=1e-6) and got.abs().amax() > 0
