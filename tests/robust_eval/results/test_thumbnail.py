"""A record keeps a small picture of its first image, and the probabilities of a few classes."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from robust_eval.data import Examples
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.workbench import Workbench
from robust_eval.metrics.classification import CLASSES_KEPT
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.results.thumbnail import LONGEST, thumbnail


def opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "L")])
def test_a_small_image_is_kept_pixel_by_pixel(channels, mode):
    image = torch.arange(channels * 35).view(channels, 5, 7) / 255
    picture = opened(thumbnail(image))
    assert (picture.mode, picture.size) == (mode, (7, 5))
    shown = image if channels != 4 else image.mean(0, keepdim=True)
    expected = (shown * 255).round().permute(1, 2, 0).squeeze(2 if mode == "L" else ()).numpy()
    assert np.abs(np.asarray(picture) - expected).max() == 0


def test_a_large_image_keeps_its_shape_and_its_mean():
    image = torch.zeros(3, 200, 400)
    image[:, :, 200:] = 1
    picture = opened(thumbnail(image))
    assert picture.size == (LONGEST, LONGEST // 2)
    assert np.asarray(picture).mean() == pytest.approx(127.5, abs=0.5)


def network(classes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def recorded(classes, perturbation=None):
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Data("data", Examples(images, torch.arange(12) % classes, classes))
    source = OwnModel("net", network(classes), "test", {"weights": str(classes)}, "0" * 64)
    bench = Workbench(lambda model: Loaded(model.network, model.weights_sha256))
    return images, evaluate(Cell(source, data, perturbation), bench)


def test_the_records_of_corruptions_and_clean_images_show_the_first_and_those_of_attacks_none():
    contrast = build("corruption", "contrast", {"severity": 5})
    images, record = recorded(3, contrast)
    shown = np.asarray(opened(record.provenance["sample"])).astype(float)
    mean = images[0].mean().item()
    severest = 255 * (0.15 * (images[0, 0].numpy() - mean) + mean)
    assert np.abs(shown - severest).max() <= 0.51
    clean, record = recorded(3)
    assert np.array_equal(opened(record.provenance["sample"]), np.round(255 * clean[0, 0].numpy()))
    attacked = recorded(3, build("attack", "fgsm", {}))[1]
    assert "sample" not in attacked.provenance


def test_the_probabilities_of_a_record_are_those_of_the_model():
    images, record = recorded(6)
    expected = network(6)(images).softmax(1)
    kept = record.rows[[f"p{k}" for k in range(6)]]
    assert set(kept.dtypes) == {np.dtype("float32")}
    assert np.allclose(kept, expected.detach().numpy(), atol=1e-6)
    assert (kept.to_numpy().max(1) == record.rows["confidence"].to_numpy(dtype=np.float32)).all()
    assert "top5_accuracy" in {measurement.metric for measurement in record.summary}


def test_a_model_of_many_classes_keeps_none_and_one_of_five_no_top_5():
    _, many = recorded(CLASSES_KEPT + 1)
    assert "p0" not in many.rows and "top5_accuracy" in {m.metric for m in many.summary}
    assert "top5_accuracy" not in {m.metric for m in recorded(5)[1].summary}
