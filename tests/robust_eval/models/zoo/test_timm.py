import pytest
import safetensors.torch
import torch

from robust_eval.errors import ConfigError
from robust_eval.models.loading import load_network
from robust_eval.models.zoo import bring, preprocessing_of

timm = pytest.importorskip("timm")
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_classes_side_and_normalisation_are_those_of_the_weights(tmp_path, caplog):
    spec = "timm:vit_tiny_patch16_224(depth=1)"
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=7, depth=1).eval()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "x.safetensors")
    made = load_network(tmp_path / "x.safetensors", spec, None, None, recipe={})
    torch.testing.assert_close(made.network.eval()(X), network((X - 0.5) / 0.5))
    assert made.architecture["params"] == {"depth": "1", "img_size": "32", "num_classes": "7"}
    assert "normalised inside the model by timm's configuration: mean 0.5, 0.5, 0.5" in caplog.text
    said = preprocessing_of(spec, checkpoint=tmp_path / "x.safetensors", weights=None)
    assert (said.size, said.resize, said.interpolation) == (32, 35, "bicubic")  # 32 / 0.9


@torch.no_grad()
def test_channels_are_those_of_the_weights_and_a_mean_beside_them_is_used(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3, in_chans=1).eval()
    state = {f"1.{name}": value for name, value in network.state_dict().items()}
    torch.save({"0.mean": torch.tensor([0.25]), "0.std": torch.tensor([0.5]), **state}, tmp_path / "x.pt")
    made = load_network(tmp_path / "x.pt", "timm:test_resnet", None, None, recipe={})
    torch.testing.assert_close(made.network.eval()(X[:, :1]), network((X[:, :1] - 0.25) / 0.5))
    assert (made.mean, made.std) == ([0.25], [0.5])


def test_an_unknown_name_is_one_line_with_the_near_one():
    for name, near in (("resnet181", "resnet18"), ("resnet18.a9_in1k", "resnet18.a")):
        with pytest.raises(ConfigError, match=f"did you mean '{near}") as caught:
            bring(f"timm:{name}", checkpoint=None, weights=None, download=False)
        assert "\n" not in str(caught.value)
