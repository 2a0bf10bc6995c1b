"""Records keep what the first images look like and what the model makes of them; no number depends on it."""

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import defenses  # noqa: F401 - registers the methods
from robust_eval.data import Examples
from robust_eval.evaluation import evaluate as evaluation
from robust_eval.evaluation import prepared
from robust_eval.evaluation.workbench import Workbench
from robust_eval.models.source import Loaded, OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.results.difference import recomposed
from robust_eval.results.pictured import MOST, AttackPictured, CleanPictured, pictured
from robust_eval.results.thumbnail import thumbnail

EPS = 0.1


def opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"])


def network(shape, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def cell(perturbation=None, *, n=12, shape=(1, 8, 8), names=None, wrong=(), **fields):
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    net = network(shape)
    labels = net(images).argmax(1)
    for i in wrong:
        labels[i] = (labels[i] + 1) % 3
    source = OwnModel("net", net, "test", {"weights": str(shape)}, "0" * 64)
    data = Data("data", Examples(images, labels, 3, class_names=names))
    return Cell(source, data, perturbation, **fields)


def evaluated(asked):
    return evaluation.evaluate(asked, Workbench(lambda model: Loaded(model.network, model.weights_sha256)))


def fgsm(**params):
    return build("attack", "fgsm", {"eps": EPS, **params})


def test_clean_images_are_kept_as_they_are_with_the_models_answers():
    asked = cell()
    record = evaluated(asked)
    found = pictured(record, CleanPictured)
    assert list(found) == list(range(MOST))
    for i, seen in found.items():
        assert seen.picture == thumbnail(asked.data.examples.pixels(slice(i, i + 1))[0])
        assert seen.prediction == str(record.rows["prediction"][i])
        assert seen.confidence == pytest.approx(record.rows["confidence"][i], abs=1e-4)


def test_of_attacks_the_change_is_kept_and_with_the_clean_picture_gives_the_adversarial():
    asked = cell(fgsm(), wrong=[1])
    record, bench = evaluated(asked), Workbench(lambda model: Loaded(model.network, model.weights_sha256))
    clean = pictured(evaluated(cell(wrong=[1])), CleanPictured)
    kept = bench.prepare(asked)
    x, y = kept.images()
    x_adv = fgsm().run(kept.seen, x, y, rng=kept.rng(kept.parts[0])).x_adv
    found = pictured(record, AttackPictured)
    rows = record.rows
    assert list(found) == list(range(MOST))
    assert not found[1].attacked and found[1].difference is None and not found[1].right
    for i in set(found) - {1}:
        seen = found[i]
        assert seen.scale == EPS and seen.right and seen.distance == rows["distance"][i]
        assert seen.broken == (rows["prediction"][i] != rows["label"][i])
        assert (seen.prediction, seen.clean_prediction) == (
            str(rows["prediction"][i]),
            str(rows["clean_prediction"][i]),
        )
        pictures = [opened(text).convert("RGB") for text in (clean[i].picture, seen.difference)]
        assert (recomposed(*pictures, EPS)[0] - x_adv[i, 0]).abs().max() <= 2 / 255


def test_the_smallest_perturbation_fills_the_range_by_its_own_largest_change():
    record = evaluated(cell(build("attack", "deepfool", {})))
    changed = {i: np.asarray(opened(seen.difference)) for i, seen in pictured(record, AttackPictured).items()}
    assert changed
    for i, shown in changed.items():
        assert np.abs(shown.astype(int) - 128).max() == 127
        scale = pictured(record, AttackPictured)[i].scale
        assert scale == pytest.approx(record.rows["distance_linf"][i], rel=1e-6)


def test_classes_are_called_by_their_names_where_the_set_has_them():
    record = evaluated(cell(fgsm(), names=("ant", "bee", "<cow>")))
    seen = pictured(record, AttackPictured)[0]
    assert {seen.label, seen.prediction, seen.clean_prediction} <= {"ant", "bee", "<cow>"}
    assert seen.label == ("ant", "bee", "<cow>")[record.rows["label"][0]]


def test_a_model_that_draws_tells_its_mean_probability():
    defended = {"defense": build("defense", "gaussian_smoothing", {"sigma": 0.3}), "access": "adaptive"}
    record = evaluated(cell(fgsm(), **defended))
    for i, seen in pictured(record, AttackPictured).items():
        assert seen.confidence == pytest.approx(record.rows["confidence"][i], abs=1e-4)
        assert seen.prediction == str(record.rows["prediction"][i])


def test_an_image_that_a_defended_model_was_wrong_on_already_is_not_broken():
    defended = {"defense": build("defense", "gaussian_smoothing", {"sigma": 3.0}), "access": "transfer"}
    record = evaluated(cell(fgsm(), **defended))
    rows = record.rows
    found = pictured(record, AttackPictured)
    wrong = [i for i in found if rows["clean_prediction"][i] != rows["label"][i]]
    assert wrong and all(found[i].attacked and not found[i].broken and not found[i].right for i in wrong)


@pytest.mark.parametrize("perturbation", [None, fgsm(), build("attack", "deepfool", {})], ids=str)
def test_all_but_provenance_is_the_same_without_pictures(monkeypatch, perturbation):
    with_pictures = evaluated(cell(perturbation))
    monkeypatch.setattr(evaluation, "shown", lambda *_: {})
    without = evaluated(cell(perturbation))
    assert "pictures" in with_pictures.provenance and "pictures" not in without.provenance
    left, right = ({**r.to_json(), "provenance": None} for r in (with_pictures, without))
    assert left == right
    assert with_pictures.rows.equals(without.rows)


def test_measured_in_parts_the_pictures_are_those_of_the_first(monkeypatch):
    whole = evaluated(cell(fgsm())).provenance["pictures"]
    monkeypatch.setattr(prepared, "VALUES_IN_MEMORY", 4 * 64)
    parts = evaluated(cell(fgsm())).provenance["pictures"]
    assert len(whole) == 6 and parts == whole[:4]


def test_a_record_of_noise_in_colour_stays_small_and_keeps_two_images():
    pictures = evaluated(cell(fgsm(), shape=(3, 32, 32))).provenance["pictures"]
    assert len(pictures) == MOST and len(json.dumps(pictures)) <= 12_000
    large = evaluated(cell(fgsm(), shape=(3, 96, 96))).provenance["pictures"]
    assert len(large) == 2


def test_pictures_are_json_even_where_outputs_are_not_finite():
    asked = cell(fgsm())
    with torch.no_grad():
        asked.model.network[1].weight.mul_(math.nan)
    pictures = evaluated(asked).provenance["pictures"]
    assert json.dumps(pictures, allow_nan=False)
    assert {item["prediction"] for item in pictures} == {"none"}
    assert {item["confidence"] for item in pictures} == {None}
