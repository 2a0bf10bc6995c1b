import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from robust_eval import registry
from robust_eval.errors import ConfigError
from robust_eval.methods import Architecture
from robust_eval.models import checkpoint

NARROW = {"small_cnn": {"width": 4}, "wide_resnet": {"width": 1, "depth": 10}}
ARCHITECTURES = registry.names("architecture")


def narrow(name: str, *, channels: int = 3, classes: int = 5) -> nn.Module:
    """The architecture at a small width, in eval mode with batch statistics that are not the identity."""
    fields = {field.name for field in dataclasses.fields(registry.find("architecture", name))}
    params = NARROW.get(name, {"width": 4} if "width" in fields else {})
    torch.manual_seed(0)
    network = registry.build("architecture", name, params).build(channels=channels, classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def composed(stages: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for stage in stages:
        x = stage(x)
    return x


@pytest.mark.parametrize(
    ("name", "params", "counts"),
    [
        ("preact_resnet18", {}, (11_171_146, 11_217_316, 11_268_616)),
        ("preact_resnet34", {}, (21_279_306, 21_325_476, 21_376_776)),
        ("wide_resnet", {"depth": 40, "width": 4}, (8_949_210, 8_972_340, 8_998_040)),
        ("wide_resnet", {}, (36_479_194, 36_536_884, 36_600_984)),
        ("wide_resnet", {"bias": True}, (36_479_194 + 10_096, 36_536_884 + 10_096, 36_600_984 + 10_096)),
        ("resnet18", {}, (11_173_962, 11_220_132, 11_271_432)),
    ],
)
def test_parameter_counts_are_the_published_ones(name, params, counts):
    architecture = registry.build("architecture", name, params)
    for classes, count in zip((10, 100, 200), counts, strict=True):
        with torch.device("meta"):
            network = architecture.build(channels=3, classes=classes)
        assert sum(weight.numel() for weight in network.parameters()) == count


@pytest.mark.parametrize(
    ("name", "side", "params", "shapes"),
    [
        ("preact_resnet18", 32, {}, [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]),
        ("preact_resnet34", 64, {"stem_stride": 2}, [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]),
        ("resnet18", 32, {}, [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)]),
        ("wide_resnet", 32, {}, [(16, 32), (160, 32), (320, 16), (640, 8)]),
    ],
)
def test_stages_give_the_feature_shapes_of_the_papers(name, side, params, shapes):
    network = registry.build("architecture", name, params).build(channels=3, classes=10).eval()
    *body, head = network.stages
    h = torch.rand(1, 3, side, side)
    with torch.no_grad():
        for stage, (channels, side) in zip(body, shapes, strict=True):
            h = stage(h)
            assert h.shape == (1, channels, side, side)
        assert head(h).shape == (1, 10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages_compose_to_forward_exactly(name):
    network, x = narrow(name), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(composed(network.stages, x), network(x))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages_compose_to_forward_exactly_in_training_mode(name):
    network, x = narrow(name).train(), torch.rand(3, 3, 16, 16)
    assert torch.equal(composed(network.stages, x), network(x))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stages_hold_every_weight_once_and_register_none(name):
    network = narrow(name)
    before = list(network.state_dict())
    staged = [id(weight) for stage in network.stages for weight in stage.parameters()]
    assert sorted(staged) == sorted(id(weight) for weight in network.parameters())
    assert list(network.state_dict()) == before


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("side", [8, 16, 32, 40])
def test_any_side_and_number_of_channels_gives_one_logit_per_class(name, side):
    with torch.no_grad():
        logits = narrow(name, channels=1, classes=7)(torch.rand(2, 1, side, side))
    assert logits.shape == (2, 7) and logits.isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_reach_the_pixels_and_every_weight(name):
    network, x = narrow(name).train(), torch.rand(4, 3, 16, 16, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad.flatten(1).any(1).all()
    for key, weight in network.named_parameters():
        # A bias before batch normalisation is subtracted again by it.
        assert weight.grad is not None and (weight.grad.any() or key.endswith("conv1.bias")), key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_head_names_the_weight_with_one_row_per_class(name):
    architecture = registry.find("architecture", name)()
    assert isinstance(architecture, Architecture)
    state = narrow(name, channels=2, classes=5).state_dict()
    assert checkpoint.classes_of(state, architecture) == 5
    assert checkpoint.channels_of(state) == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pooling_at_32_pixels_is_the_classic_average(name):
    if name == "wide_resnet" or name.startswith(("preact", "resnet")):
        network, x = narrow(name), torch.rand(2, 3, 32, 32)
        *body, head = network.stages
        *before, _, _, linear = head
        with torch.no_grad():
            h = composed([*body, *before], x)
            side = 8 if name == "wide_resnet" else 4
            classic = linear(nn.functional.avg_pool2d(h, side).flatten(1))
        torch.testing.assert_close(network(x), classic)


BLOCKS = {
    "resnet18": {
        *("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_var"),
        *("layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias", "layer4.1.bn2.num_batches_tracked"),
        *("layer4.1.conv2.weight", "linear.weight", "linear.bias"),
    },
    "preact_resnet18": {
        *("conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv1.weight", "layer2.0.shortcut.0.weight"),
        *("layer4.1.bn2.bias", "layer4.1.conv2.weight", "linear.weight", "linear.bias"),
    },
    "preact_resnet34": {"layer1.2.conv1.weight", "layer2.3.bn1.weight", "layer3.5.bn2.bias", "linear.bias"},
    "wide_resnet": {
        *("conv1.weight", "layer1.0.bn1.weight", "layer2.0.conv1.weight", "layer2.0.shortcut.0.weight"),
        *("layer3.0.bn2.bias", "layer3.0.conv2.weight", "bn1.running_mean", "linear.weight", "linear.bias"),
    },
    "small_cnn": {"conv1.weight", "bn1.bias", "layer1.0.weight", "layer2.1.running_var", "linear.weight"},
}


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_weights_have_the_names_of_the_common_implementations(name):
    assert set(narrow(name).state_dict()) >= BLOCKS[name]


def test_preactivation_nets_have_no_stem_or_final_normalisation():
    top = {key.split(".")[0] for key in narrow("preact_resnet18").state_dict()}
    assert top == {"conv1", "layer1", "layer2", "layer3", "layer4", "linear"}


def test_wide_resnet_with_bias_has_one_in_every_convolution():
    network = registry.build("architecture", "wide_resnet", {"depth": 10, "width": 2, "bias": True})
    convolutions = [m for m in network.build(channels=3, classes=2).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 6 + 3 and all(conv.bias is not None for conv in convolutions)


def test_preactivation_shortcut_takes_the_activated_input_and_the_wide_one_the_raw_input():
    x = torch.full((1, 4, 8, 8), -1.0)  # the activation maps it to 0 where normalisation is the identity
    preact = (
        registry.build("architecture", "preact_resnet18", {"width": 4}).build(channels=3, classes=2).eval()
    )
    wide = registry.build("architecture", "wide_resnet", {"depth": 10, "width": 1}).build(
        channels=3, classes=2
    )
    with torch.no_grad():
        assert not preact.layer2[0](x).any()
        assert wide.eval().layer2[0](x.repeat(1, 4, 1, 1)).any()


def test_wide_resnet_refuses_a_depth_that_does_not_split_into_blocks():
    with pytest.raises(
        ConfigError, match=r"expected depth = 6 k \+ 4, got depth=30; the nearest are 28 and 34"
    ):
        registry.build("architecture", "wide_resnet", {"depth": 30})
    with pytest.raises(ValueError, match="got depth=30"):
        registry.find("architecture", "wide_resnet")(depth=30)


def test_a_published_resnet18_checkpoint_loads_as_it_is():
    peer = pytest.importorskip("pyautoattack")
    path = Path(peer.__file__).parent / "examples" / "model_test.pt"
    state = checkpoint.read_state(path)
    architecture = registry.build("architecture", "resnet18", {})
    assert (checkpoint.channels_of(state), checkpoint.classes_of(state, architecture)) == (3, 10)
    network = architecture.build(channels=3, classes=10)
    network.load_state_dict(state, strict=True)
    checkpoint.load_into(network, state, source=path)
    with torch.no_grad():
        assert network.eval()(torch.rand(2, 3, 32, 32)).isfinite().all()
