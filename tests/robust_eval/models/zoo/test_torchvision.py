import pytest
import torch
import torchvision

from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.models.loading import load_network
from robust_eval.models.zoo import bring, preprocessing_of

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@torch.no_grad()
def test_weights_of_other_classes_give_the_network_and_its_normalisation(tmp_path, caplog):
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=7).eval()
    wrapped = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "x.pt")
    made = load_network(tmp_path / "x.pt", "torchvision:squeezenet1_1", None, None, recipe={})
    normalised = (X - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(made.network.eval()(X), network(normalised))
    assert made.architecture["params"] == {"num_classes": "7"}
    assert "normalised inside the model by torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1" in caplog.text


def test_a_name_a_field_and_absent_weights_are_one_line(tmp_path):
    torch.save({}, tmp_path / "x.pt")
    for spec, error, said in (
        ("torchvision:resnet19", ConfigError, "did you mean 'resnet18'"),
        ("torchvision:resnet18", CheckpointError, "--download"),
        ("torchvision:resnet50(weights='V9')", ConfigError, "IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:", ConfigError, "got nothing behind the prefix"),
    ):
        with pytest.raises(error, match=said) as caught:
            bring(spec, checkpoint=None, weights=None, download=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="got both"):
        bring("torchvision:resnet18", checkpoint=tmp_path / "x.pt", weights=None, download=True)
    torch.save({"fc.weight": torch.ones(3, 512)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="weights do not fit ResNet: 101 missing"):
        bring("torchvision:resnet18", checkpoint=tmp_path / "x.pt", weights=None, download=False)


def test_nothing_is_fetched_unless_asked_for(monkeypatch):
    asked = []

    def fetched(weights, *args, **kwargs):
        asked.append(weights.name)
        torch.manual_seed(0)
        return torchvision.models.squeezenet1_1().state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetched)
    with pytest.raises(CheckpointError):
        bring("torchvision:squeezenet1_1", checkpoint=None, weights=None, download=False)
    assert not asked
    made = bring("torchvision:squeezenet1_1", checkpoint=None, weights=None, download=True)
    assert asked == ["IMAGENET1K_V1"] and len(made.weights_sha256) == 64 and made.class_names[0] == "tench"


def test_of_several_preprocessings_that_of_the_file_counts(tmp_path):
    name = "resnet50-11ad3fa6.pth"  # as torchvision calls its second weights
    said = {
        file: preprocessing_of("torchvision:resnet50", checkpoint=tmp_path / file, weights=None)
        for file in ("mine.pth", name)
    }
    assert (said["mine.pth"].size, said["mine.pth"].resize) == (224, 256)
    assert (said[name].size, said[name].resize, said[name].interpolation) == (224, 232, "bilinear")
