import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet as torchvision_resnet

from robust_eval import registry
from robust_eval.classifier.accelerate import twins
from robust_eval.errors import ConfigError
from robust_eval.methods import Architecture
from robust_eval.models import checkpoint
from robust_eval.models.architectures._layers import Padding

NARROW = {
    "small_cnn": {"width": 4},
    "wide_resnet": {"width": 1, "depth": 10},
    "preresnet": {"width": 4, "depth": 8},
    "cifar_resnet": {"width": 4, "depth": 8},
    "preact_resnet101": {"width": 4, "blocks": [1, 2, 1, 1]},
    "preact_resnet152": {"width": 4, "blocks": [1, 1, 2, 1]},
    "resnet101": {"width": 4, "blocks": [1, 2, 1, 1]},
    "resnet152": {"width": 4, "blocks": [1, 1, 2, 1]},
}
THREE_LAYERS = ("wide_resnet", "preresnet", "cifar_resnet")
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
        ("preact_resnet101", {}, (42_501_194, 42_685_604, 42_890_504)),
        ("preact_resnet152", {}, (58_144_842, 58_329_252, 58_534_152)),
        ("preresnet", {}, (855_578, 855_578 + 90 * 65, 855_578 + 190 * 65)),
        ("preresnet", {"shortcut": "padding"}, (853_018, 853_018 + 90 * 65, 853_018 + 190 * 65)),
        ("preresnet", {"block": "bottleneck"}, (590_426, 590_426 + 90 * 257, 590_426 + 190 * 257)),
        ("cifar_resnet", {}, (464_154, 464_154 + 90 * 65, 464_154 + 190 * 65)),
        ("cifar_resnet", {"shortcut": "projection"}, (466_906, 466_906 + 90 * 65, 466_906 + 190 * 65)),
        ("resnet101", {}, (42_909_960 - 190 * 2049, 42_909_960 - 100 * 2049, 42_909_960)),
        ("resnet152", {}, (58_553_608 - 190 * 2049, 58_553_608 - 100 * 2049, 58_553_608)),
        ("resnet152", {"max_pool": False}, (58_553_608 - 190 * 2049, 58_553_608 - 100 * 2049, 58_553_608)),
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
        (
            "wide_resnet",
            64,
            {"depth": 40, "width": 4, "stem_stride": 2},
            [(16, 32), (64, 32), (128, 16), (256, 8)],
        ),
        ("preact_resnet101", 64, {"stem_stride": 2}, [(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)]),
        ("preact_resnet152", 32, {}, [(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)]),
        ("preresnet", 32, {}, [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("preresnet", 32, {"block": "bottleneck"}, [(16, 32), (64, 32), (128, 16), (256, 8)]),
        ("preresnet", 64, {"stem_stride": 2, "shortcut": "padding"}, [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("cifar_resnet", 32, {}, [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("resnet101", 224, {}, [(64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7)]),
        ("resnet152", 64, {"max_pool": False}, [(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)]),
    ],
)
def test_stages_give_the_feature_shapes_of_the_papers(name, side, params, shapes):
    with torch.device("meta"):  # shapes only: nothing is computed
        network = registry.build("architecture", name, params).build(channels=3, classes=10).eval()
        h = torch.rand(1, 3, side, side)
    *body, head = network.stages
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
    if name not in ("small_cnn", "plain_cnn", "gradual_top_k", "resnet101", "resnet152"):
        network, x = narrow(name), torch.rand(2, 3, 32, 32)
        *body, head = network.stages
        *before, _, _, linear = head
        with torch.no_grad():
            h = composed([*body, *before], x)
            side = 8 if name in THREE_LAYERS else 4
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
    "preact_resnet101": {
        *("conv1.weight", "layer1.0.bn3.weight", "layer1.0.shortcut.0.weight", "layer2.1.conv3.weight"),
        *("layer4.0.bn1.running_mean", "linear.weight", "linear.bias"),
    },
    "preresnet": {
        "conv1.weight",
        "layer2.0.shortcut.0.weight",
        "layer3.0.bn2.bias",
        "bn1.weight",
        "linear.bias",
    },
    "cifar_resnet": {
        "conv1.weight",
        "bn1.weight",
        "layer1.0.conv1.weight",
        "layer3.0.bn2.bias",
        "linear.bias",
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


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("preresnet", {"depth": 57}, r"expected depth = 6 k \+ 2, got depth=57; the nearest are 56 and 62"),
        (
            "preresnet",
            {"depth": 32, "block": "bottleneck"},
            r"9 k \+ 2, got depth=32; the nearest are 29 and 38",
        ),
        ("preresnet", {"depth": 8, "block": "bottleneck"}, r"got depth=8; the nearest are 11 and 20"),
        (
            "cifar_resnet",
            {"depth": 33},
            r"expected depth = 6 k \+ 2, got depth=33; the nearest are 32 and 38",
        ),
        (
            "cifar_resnet",
            {"shortcut": "option_a"},
            "shortcut: expected 'projection' or 'padding', got 'option_a'",
        ),
        ("preact_resnet18", {"blocks": [2, 2, 0, 2]}, "blocks 3: expected >= 1, got 0"),
        ("resnet101", {"blocks": 3}, "blocks: expected a list, got 3"),
        ("resnet152", {"stem_stride": 2}, "unknown field 'stem_stride'"),
    ],
)
def test_fields_that_make_no_network_are_refused_in_one_line(name, fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        registry.build("architecture", name, fields)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_can_be_built_again_from_its_description(name):
    architecture = registry.build("architecture", name, NARROW.get(name, {}))
    described = json.loads(json.dumps(registry.describe(architecture).params))
    assert registry.build("architecture", name, described) == architecture


def test_a_shortcut_without_weights_keeps_every_other_pixel_and_adds_zeros_on_both_sides():
    x = torch.rand(2, 4, 7, 7)
    h = Padding(4, 9, 2)(x)
    assert h.shape == (2, 9, 4, 4)
    assert torch.equal(h[:, 2:6], nn.functional.max_pool2d(x, 1, stride=2))
    assert not h[:, :2].any() and not h[:, 6:].any()


@pytest.mark.parametrize("name", ["preresnet", "cifar_resnet"])
def test_shortcuts_without_weights_have_none(name):
    both = [
        registry.build("architecture", name, {"depth": 8, "shortcut": kind}).build(channels=3, classes=2)
        for kind in ("projection", "padding")
    ]
    keys = [{key for key in network.state_dict() if "shortcut" in key} for network in both]
    assert len(keys[0]) > 0 == len(keys[1])
    for network in both:
        assert network(torch.rand(2, 3, 16, 16)).isfinite().all()


def test_a_padded_block_that_computes_nothing_passes_the_image_on():
    network = registry.build("architecture", "cifar_resnet", {"depth": 8, "width": 4}).build(
        channels=3, classes=2
    )
    block, x = network.eval().layer2[0], torch.rand(1, 4, 8, 8)
    nn.init.zeros_(block.bn2.weight)
    with torch.no_grad():
        assert torch.equal(block(x)[:, 2:6], x[:, :, ::2, ::2])


def test_a_preactivation_bottleneck_is_the_plain_formula():
    block = narrow("preact_resnet101").layer2[0]
    x = torch.randn(2, 16, 9, 9)
    f = nn.functional
    with torch.no_grad():
        a = block.bn1(x).clamp(min=0)
        h = f.conv2d(a, block.conv1.weight)
        h = f.conv2d(block.bn2(h).clamp(min=0), block.conv2.weight, stride=2, padding=1)
        h = f.conv2d(block.bn3(h).clamp(min=0), block.conv3.weight)
        torch.testing.assert_close(block(x), h + f.conv2d(a, block.shortcut[0].weight, stride=2))


@pytest.mark.parametrize("blocks", [(1, 2, 1, 1), (2, 1, 1, 2)])
def test_large_resnets_are_those_of_torchvision_and_load_their_weights(blocks):
    theirs = torchvision_resnet.ResNet(torchvision_resnet.Bottleneck, list(blocks), num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    ours = registry.build("architecture", "resnet101", {"blocks": blocks}).build(channels=3, classes=7).eval()
    checkpoint.load_into(ours, theirs.state_dict(), source="torchvision")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["resnet101", "resnet152"])
def test_large_resnets_have_the_weights_of_torchvision_by_name_and_shape(name):
    with torch.device("meta"):
        ours = registry.build("architecture", name, {}).build(channels=3, classes=1000).state_dict()
        theirs = getattr(torchvision_resnet, name)().state_dict()
    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_64_pixels_without_max_pooling_see_the_same_weights_at_a_finer_grid():
    fields = NARROW["resnet101"]
    coarse, fine = (
        registry.build("architecture", "resnet101", {**fields, "max_pool": pool}).build(channels=3, classes=2)
        for pool in (True, False)
    )
    fine.load_state_dict(coarse.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert composed(coarse.eval().stages[:-1], x).shape[2:] == (2, 2)
        assert composed(fine.eval().stages[:-1], x).shape[2:] == (4, 4)


@pytest.mark.parametrize("name", ["preresnet", "cifar_resnet", "resnet101"])
def test_convolutions_are_drawn_with_the_variance_of_the_paper(name):
    torch.manual_seed(0)
    network = registry.build(
        "architecture", name, {"width": 32} | ({"depth": 8} if "depth" in NARROW[name] else {})
    )
    for module in network.build(channels=3, classes=2).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES} - {"small_cnn"}))
def test_every_architecture_has_a_faster_twin(name):
    network, x = narrow(name), torch.rand(4, 3, 32, 32)
    assert twins(network, x, "fp32").exact is not None


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
