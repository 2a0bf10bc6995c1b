import json

import pytest
import torch

from robust_eval.errors import CheckpointError
from robust_eval.models.loading import load_network
from robust_eval.models.zoo import bring, preprocessing_of

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_preprocessor_is_read_without_transformers(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    base = {"image_mean": [0.5] * 3, "image_std": 0.25, "resample": 3}
    cases = [
        ({"size": {"height": 8, "width": 8}}, (8, "squash", "bicubic")),
        ({"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}}, (8, 10, "bicubic")),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 256, "bicubic")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, "squash", "bicubic")),
        ({"size": 8, "resample": 2}, (8, "squash", "bilinear")),
        ({"do_resize": False}, (None, None, None)),
    ]
    for said, expected in cases:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(base | said))
        found = preprocessing_of(f"hf:{tmp_path}", checkpoint=None, weights=None)
        assert (found.size, found.resize, found.interpolation) == expected, said
        assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(base | {"rescale_factor": 1 / 127.5}))
    with pytest.raises(CheckpointError, match="expected pixels scaled to"):
        preprocessing_of(f"hf:{tmp_path}", checkpoint=None, weights=None)


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "expected config.json"), ("{", "is no JSON"), ('{"auto_map": {"a": "b"}}', "is not run")],
)
def test_a_folder_that_is_none_is_one_line(tmp_path, config, said):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    if "auto_map" in (config or ""):
        pytest.importorskip("transformers")
    with pytest.raises(CheckpointError, match=said) as caught:
        bring(f"hf:{tmp_path}", checkpoint=None, weights=None, download=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="nothing is fetched"):
        bring("hf:google/vit-base", checkpoint=None, weights=None, download=False)


@pytest.fixture
def vit(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.ViTConfig(
        **tiny, image_size=8, patch_size=4, num_labels=3, id2label={0: "cat", 1: "dog", 2: "cow"}
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@torch.no_grad()
def test_a_saved_classifier_gives_its_logits_and_the_names_of_its_classes(tmp_path, vit):
    made = load_network(None, f"hf:{tmp_path}", None, None, recipe={})
    torch.testing.assert_close(made.network.eval()(X), vit(pixel_values=(X - 0.5) / 0.25).logits)
    assert made.class_names == ("cat", "dog", "cow")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_head_that_is_not_in_the_file_is_not_drawn(tmp_path, vit):
    vit.vit.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="weights are missing"):
        bring(f"hf:{tmp_path}", checkpoint=None, weights=None, download=False)
