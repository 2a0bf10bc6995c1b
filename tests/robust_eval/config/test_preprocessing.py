"""Images of a folder are made as the library of the model says, where the experiment says nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from robust_eval.config.experiment import parse
from robust_eval.data import open_source
from robust_eval.errors import ConfigError


@pytest.fixture
def work(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(
                tmp_path / "images" / name / f"{i}.png"
            )
    saved(tmp_path / "vit", {"size": {"shortest_edge": 10}, "crop_size": 8, "resample": 3})
    saved(tmp_path / "other", {"size": {"height": 6, "width": 6}, "resample": 2})
    return tmp_path


def saved(folder, said):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


def parsed(work, *models, **data):
    tables = {
        "data": {"name": "images"} | data,
        "model": [{"name": model, "architecture": f"hf:{model}"} for model in models],
    }
    return parse(tables, where="test", folder=work)


def test_size_resize_and_interpolation_are_the_models_and_said(work, caplog):
    experiment = parsed(work, "vit")
    data = experiment.tables()["data"]
    assert (data["size"], data["resize"], data["interpolation"]) == (8, 10, "bicubic")
    assert (
        "images are made as for hf:vit, 8x8 pixels, cropped at the centre of images of 10 (bicubic)"
        in caplog.text
    )
    found = experiment.source().test(None)
    assert found.shape == (3, 8, 8)
    caplog.clear()
    again = parse(experiment.tables(), where="again", folder=work)
    assert again.source().test(None).fingerprint == found.fingerprint and not caplog.records


def test_a_size_that_is_given_goes_before(work, caplog):
    assert parsed(work, "vit", size=5).source().test(None).shape == (3, 5, 5)
    assert "images are made" not in caplog.text


def test_images_of_a_list_are_made_so_too(work):
    rows = [f"images/{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(2)]
    (work / "list.csv").write_text("\n".join(["path,label", *rows]))
    source = parsed(work, "vit", name="list.csv").source()
    listed, folder = source.test(None), parsed(work, "vit").source().test(None)
    assert listed.shape == (3, 8, 8)
    assert {image.numpy().tobytes() for image in listed.images} == {
        image.numpy().tobytes() for image in folder.images
    }


def test_models_made_for_different_images_are_refused(work):
    with pytest.raises(ConfigError, match="its models were made for different images"):
        parsed(work, "vit", "other")
    assert parsed(work, "vit", "other", size=8).frame.data.resize is None


def test_images_are_resized_as_pillow_does(work):
    first = sorted((work / "images").rglob("*.png"))
    arrays = [Image.open(path) for path in first]
    ways = {
        ("squash", "bilinear"): lambda image: image.resize((6, 6), Image.Resampling.BILINEAR),
        (9, "bicubic"): lambda image: image.resize((12, 9), Image.Resampling.BICUBIC).crop((3, 2, 9, 8)),
    }
    for (resize, way), make in ways.items():
        found = open_source(str(work / "images"), size=6, resize=resize, interpolation=way).test(None)
        expected = {np.asarray(make(image)).transpose(2, 0, 1).tobytes() for image in arrays}
        assert {image.numpy().tobytes() for image in found.images} == expected


def test_what_cannot_be_cropped_is_refused(work):
    for data, said in (({"resize": 5}, "expected a size"), ({"size": 9, "resize": 5}, "at most resize")):
        with pytest.raises(ConfigError, match=said):
            parsed(work, "vit", **data)
    with pytest.raises(ConfigError, match="resize and interpolation are for image folders"):
        open_source("digits", resize="squash", size=8)
