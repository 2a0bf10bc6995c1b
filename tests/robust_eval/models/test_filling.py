"""Weights in every wrapping give the network that they were taken from, with the normalisation in front of it."""

import pytest
import torch
from torch import nn

from robust_eval.errors import CheckpointError
from robust_eval.models.checkpoint import read_state
from robust_eval.models.loading import load_network
from robust_eval.registry import build

ARCHITECTURE = {"name": "small_cnn", "width": 4}
X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]


class Normalise(nn.Module):
    def __init__(self, mean: str = "mean", std: str = "std") -> None:
        super().__init__()
        self.names = mean, std
        self.register_buffer(mean, torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer(std, torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x):
        mean, std = (getattr(self, name) for name in self.names)
        return (x - mean) / std


class Holder(nn.Module):
    """Keeps the normalisation beside the network's own names, as some zoos do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.normalize, self.backbone = Normalise("mu", "sigma"), network

    def forward(self, x):
        return self.backbone(self.normalize(x))


def small(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build("architecture", "small_cnn", {"width": 4}).build(channels=3, classes=5).eval()


@torch.no_grad()
def logits(path, **options):
    made = load_network(
        path, ARCHITECTURE, options.pop("mean", None), options.pop("std", None), recipe={}, **options
    )
    return made.network.eval()(X), made


@torch.no_grad()
def answer(network):
    return network.eval()(X)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda net: nn.Sequential(Normalise(), net),
        Holder,
        lambda net: nn.Sequential(Normalise("mu", "sigma"), net),
    ],
    ids=["sequential", "beside", "mu and sigma"],
)
def test_a_normalisation_in_the_file_is_used_and_said(tmp_path, caplog, wrapped):
    network = wrapped(small())
    torch.save(network.state_dict(), tmp_path / "x.pt")
    found, made = logits(tmp_path / "x.pt")
    torch.testing.assert_close(found, answer(network))
    assert (made.mean, made.std) == (MEAN, STD)
    assert made.identity("0")["mean"] == MEAN
    assert "normalised inside the model by what lies beside its weights" in caplog.text


def test_a_mean_that_is_given_goes_before_that_in_the_file(tmp_path, caplog):
    torch.save(nn.Sequential(Normalise(), small()).state_dict(), tmp_path / "x.pt")
    found, made = logits(tmp_path / "x.pt", mean=[0.0] * 3, std=[1.0] * 3)
    torch.testing.assert_close(found, answer(small()))
    assert made.mean == [0.0] * 3 and "normalised" not in caplog.text


def test_a_first_layer_without_weights_is_asked_for(tmp_path, caplog):
    torch.save(nn.Sequential(nn.Identity(), small()).state_dict(), tmp_path / "x.pt")
    found, _ = logits(tmp_path / "x.pt")
    torch.testing.assert_close(found, answer(small()))
    assert "follow a first layer that has none: where that is a normalisation, give --mean" in caplog.text


@pytest.mark.parametrize("prefix", ["net.", "backbone.", "encoder.", "model.net.", "module.1.", "0."])
def test_any_prefix_of_all_names_is_taken_off(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in small().state_dict().items()}, tmp_path / "x.pt")
    torch.testing.assert_close(logits(tmp_path / "x.pt")[0], answer(small()))


def test_a_network_that_has_a_mean_of_its_own_keeps_it(tmp_path):
    code = (
        "import torch\nfrom torch import nn\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('mean', torch.zeros(3))\n        self.register_buffer('std', torch.ones(3))\n"
        "        self.linear = nn.Linear(192, 2)\n"
        "    def forward(self, x):\n        return self.linear(x.flatten(1)) + self.mean.sum()\n"
    )
    (tmp_path / "net.py").write_text(code)
    state = {"mean": torch.ones(3), "std": torch.ones(3), "linear.weight": torch.zeros(2, 192)}
    torch.save({**state, "linear.bias": torch.zeros(2)}, tmp_path / "x.pt")
    made = load_network(tmp_path / "x.pt", f"{tmp_path}/net.py:Net", None, None, recipe={})
    assert made.mean is None and made.network(X).tolist() == [[3.0, 3.0]] * 3


def test_of_several_weights_those_asked_for_are_taken_and_told_apart(tmp_path):
    content = {"model": small(1).state_dict(), "model_ema": {"shadow": small(2).state_dict()}, "epoch": 3}
    torch.save(content, tmp_path / "x.pt")
    first, plain = logits(tmp_path / "x.pt")
    found, made = logits(tmp_path / "x.pt", weights="model_ema")
    torch.testing.assert_close(first, answer(small(1)))
    torch.testing.assert_close(found, answer(small(2)))
    assert made.identity("0") == {**plain.identity("0"), "weights_under": "model_ema"}


def test_weights_under_an_unusual_name_are_named_and_those_of_an_optimizer_are_not(tmp_path):
    adam = {"state": {"a": {"step": torch.ones(1)}}}
    torch.save({"mine": small().state_dict(), "optimizer": adam}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"--weights KEY takes those under 'mine'$"):
        read_state(tmp_path / "x.pt")
    assert set(read_state(tmp_path / "x.pt", "mine")) == set(small().state_dict())


def test_a_place_without_weights_is_refused_with_the_near_one(tmp_path):
    torch.save({"model": small().state_dict(), "ema": small().state_dict()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"did you mean 'ema'.*it has some under 'model', 'ema'"):
        read_state(tmp_path / "x.pt", "emma")


def test_nan_in_the_weights_is_refused_with_their_name(tmp_path):
    state = small().state_dict()
    state["linear.bias"][0] = float("nan")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"got NaN in 1 of \d+ \(linear.bias\)") as caught:
        logits(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_half_precision_is_computed_with_in_float32_and_said(tmp_path, caplog):
    half = small().half()
    torch.save(half.state_dict(), tmp_path / "x.pt")
    found, _ = logits(tmp_path / "x.pt")
    torch.testing.assert_close(found, answer(half.float()))
    assert "weights in float16, computed with in float32" in caplog.text


def test_the_arguments_of_a_factory_are_part_of_its_identity(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef build(classes=2):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))\n"
    )
    spec = f"{tmp_path}/net.py:build"
    plain, five = (load_network(None, each, None, None, recipe={}) for each in (spec, f"{spec}(classes=5)"))
    assert plain.network(X).shape == (3, 2) and five.network(X).shape == (3, 5)
    assert five.architecture == {**plain.architecture, "arguments": {"classes": "5"}}
    assert (plain.arch, five.arch) == ("build", "build(classes=5)")
