"""Contact sheets show what was measured, and nothing that a record merely claims to be a picture."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import reports
from reports.pictures import png
from reports.sections.sheet import sheets
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.record import Record
from robust_eval.results.store import Store
from robust_eval.results.thumbnail import thumbnail

RED = thumbnail(torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 32, 32))


def pictured(
    name: str, severity: int | None, sample: Any, *, model: str = "net", data: str = "shapes"
) -> Record:
    params = {"degrees": 20.0} if severity is None else {"severity": severity}
    spec = {"model": model, "data": {"fingerprint": data, "n": 4}, "perturbation": [name, params]}
    rows = pd.DataFrame({"index": range(4), "label": 0, "prediction": 0, "score": 1.0, "clean_score": 1.0})
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": 0,
        "seed": 0,
        "defense": "none",
        "defense_params": {},
        "access": "none",
        "data": data,
        "family": "corruption",
        "perturbation": name,
        "params": params,
        "norm": "none",
        "eps": None,
        "severity": severity,
        "model_key": model,
    }
    provenance = {"seconds": 1.0, "sample": sample}
    accuracy = Measurement("accuracy", 1.0, 0.4, 1.0, 4)
    return Record(content_key(spec), spec, labels, (accuracy,), (), provenance, rows)


def saved(folder: Path, *records: Record) -> Path:
    for record in records:
        Store(folder).write(record)
    return folder


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def test_rows_are_types_and_columns_are_severities(tmp_path):
    run = saved(
        tmp_path,
        *(pictured("snow", s, RED) for s in (1, 3)),
        *(pictured("gaussian_noise", s, RED) for s in (1, 2)),
        pictured("rotation", None, RED),
    )
    (sheet,) = sheets(reports.load([run]).entries)
    assert sheet.severities == (1, 2, 3)
    shown = {name: [p and p.told for p in pictures] for name, pictures in sheet.rows}
    assert shown == {
        "gaussian_noise": ["gaussian_noise s1", "gaussian_noise s2", None],
        "snow": ["snow s1", None, "snow s3"],
    }
    assert list(shown) == ["gaussian_noise", "snow"]
    assert [picture.told for picture in sheet.others] == ["rotation ±20°"]


def test_every_data_set_has_a_sheet_of_one_model(tmp_path):
    blue = thumbnail(torch.tensor([0, 0, 1.0]).view(3, 1, 1).expand(3, 8, 8))
    run = saved(
        tmp_path,
        pictured("fog", 1, RED, model="a"),
        pictured("fog", 1, blue, model="b"),
        pictured("fog", 1, blue, model="b", data="other"),
    )
    other, shapes = sheets(reports.load([run]).entries)
    assert (other.data, shapes.data) == ("other", "shapes")
    assert [sheet.rows[0][1][0].text for sheet in (other, shapes)] == [blue, RED]


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param('"><script>alert(1)</script>', id="markup"),
        pytest.param(RED[:40], id="cut off"),
        pytest.param(RED + "\n", id="a line break"),
        pytest.param(RED.replace("A", "%", 1), id="another alphabet"),
        pytest.param(encoded(Image.new("RGB", (8, 8)), "GIF"), id="another format"),
        pytest.param(encoded(Image.new("RGB", (97, 8))), id="too large"),
        pytest.param(7, id="a number"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_not_a_small_png_in_base64_is_not_shown(tmp_path, sample):
    run = saved(tmp_path / "run", pictured("fog", 1, sample), pictured("snow", 1, RED))
    reports.write([run], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert re.findall(r"<img [^>]*alt=\"([^\"]*)\"", page) == ["snow s1"]
    assert "<script>alert" not in page
    assert "img-src data:" in page


def test_a_picture_is_in_no_listing_of_provenance(tmp_path):
    run = saved(tmp_path / "run", pictured("fog", 1, RED))
    reports.write([run], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count(RED) == 1
    provenance = page[page.index("<h2>Provenance</h2>") :]
    assert "sample" not in provenance[: provenance.index("</section>")]


def test_the_sheet_as_a_file_has_each_picture_in_its_place_and_the_same_bytes_again(tmp_path):
    run = saved(
        tmp_path / "run", pictured("fog", 1, RED), pictured("fog", 2, RED), pictured("rotation", None, RED)
    )
    found = sheets(reports.load([run]).entries)
    whole = np.asarray(Image.open(io.BytesIO(png(found))).convert("RGB"))
    red = (whole == [255, 0, 0]).all(2)
    assert red.sum() == 3 * 96 * 96
    assert png(found) == png(found)
    report = reports.write([run], tmp_path / "out")
    assert tmp_path / "out" / "corruptions.png" in report.files


def test_a_sheet_of_an_earlier_report_does_not_stay(tmp_path):
    out = tmp_path / "out"
    reports.write([saved(tmp_path / "one", pictured("fog", 1, RED))], out)
    assert (out / "corruptions.png").exists()
    reports.write([saved(tmp_path / "two", pictured("fog", 1, None))], out)
    assert not (out / "corruptions.png").exists()
