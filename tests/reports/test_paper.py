"""A paper's main table: the columns that were asked for, what is left out and why, and lines for what is wrong."""

import pandas as pd
import pytest

from reports.formats.tex import tex_files
from reports.formats.tex.main import left_out
from reports.paper import Style, main_table
from reports.section import Source
from reports.sections import answer
from robust_eval.errors import ConfigError
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.intervals import wilson
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 40
LINF = 8 / 255


def record(model, family, perturbation, right, *, norm="none", eps=None, severity=None, regularizer="mixup"):
    spec = {
        "model": {"recipe": {"epochs": 30.0 if model == "erm" else 40.0, "name": model}},
        "data": {"fingerprint": "f", "n": N},
        "perturbation": [family, perturbation, norm, eps, severity],
    }
    score = [1.0] * right + [0.0] * (N - right)
    rows = pd.DataFrame({"index": range(N), "score": score, "clean_score": 1.0, "label": 0})
    rows = rows.assign(attacked=family == "attack", distance=float("nan"), step=0)
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": regularizer,
        "train_seed": 0,
        "defense": "none",
        "access": "none",
        "data": "digits",
        "family": family,
        "perturbation": perturbation,
        "norm": norm,
        "params": {"steps": 40} if family == "attack" else {},
        "eps": eps,
        "severity": severity,
        "seed": 0,
        "model_key": content_key({"model": model}),
    }
    numbers = [Measurement("accuracy", right / N, *wilson(float(right), N), N)]
    if eps is None and family == "attack":
        numbers = [Measurement("median_distance", 0.25 * right, 0.1, None, N)]
    return Record(content_key(spec), spec, labels, tuple(numbers), (), {"seconds": 1.0}, rows)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("run"))
    for model, right in (("strong", 30), ("erm", 10)):
        store.write(record(model, "clean", "none", 38))
        for eps in (LINF, 2 * LINF):
            store.write(record(model, "attack", "pgd", int(right * LINF / eps), norm="linf", eps=eps))
        for i, name in enumerate(("gaussian_noise", "shot_noise", "fog", "jpeg_compression")):
            store.write(record(model, "corruption", name, right + i, severity=3))
        for i, name in enumerate(("cw", "deepfool")):
            store.write(record(model, "attack", name, 1 + i, norm="l2"))
    return Source(load([store.folder]))


def table(source, *asked, **more):
    parts = list(answer.sections(source))
    main = main_table(source, parts, Style.of(*asked, **more))
    return main, tex_files(parts, main)["table.tex"]


def names(main):
    return [column.name for column in main.columns]


def test_each_preset_has_its_columns(source):
    assert names(table(source)[0]) == ["clean", "linf", "corruptions", "checks"]
    assert names(table(source, "robustness")[0]) == [
        *("clean", "worst case linf 8/255", "worst case linf 16/255", "distance l2", "checks"),
    ]
    assert names(table(source, "corruption")[0]) == [
        "clean",
        *("noise", "weather", "digital"),
        "corruptions",
        "checks",
    ]
    assert names(table(source, "regularizers")[0]) == ["epochs", "clean", "linf", "corruptions"]


def test_the_mean_of_a_group_is_that_over_its_types_and_the_distance_the_least(source):
    main, text = table(source, columns="noise,distance l2,epochs")
    cells = {column.name: [cell.text for cell in column.cells] for column in main.columns}
    assert cells == {
        "noise": [f"{100 * 30.5 / N:.1f}", f"{100 * 10.5 / N:.1f}"],
        "distance l2": ["0.25", "0.25"],
        "epochs": ["40", "30"],
    }
    assert r"\textbf{76.2}" in text and r"\textbf{26.2}" not in text


def test_the_best_is_bold_and_what_no_test_tells_apart_has_a_dagger(source):
    _, text = table(source)
    assert r"strong & 95.0\rlap{\textsuperscript{\textdagger{}}} & \textbf{75.0}" in text
    assert "no test tells it from the highest" in text and "Bold: the best of its column" in text


def test_the_caption_states_threat_images_seed_and_attacks(source):
    _, text = table(source)
    for words in ("40 images of digits", "8/255", "pgd (40 steps)", "Seed of the attacks", "at severity 3"):
        assert words in text, words
    assert "% attack: pgd linf 8/255: steps=40" in text


def test_intervals_stand_there_when_they_are_asked_for(source):
    assert "95 \\% intervals" not in table(source)[1]
    text = table(source, width="text", intervals=True)[1]
    assert r"\scriptsize (59.8--85.8)" in text and "95 \\% intervals" in text


def test_what_does_not_fit_is_left_out_from_the_end_and_the_file_says_so(source):
    asked = "clean,linf,noise,weather,digital,corruptions,pgd linf 16/255,fog s3,epochs,regularizer"
    main, text = table(source, columns=asked, width="2")
    dropped = [line.partition(":")[0] for line in left_out(main)]
    assert dropped and dropped == list(reversed(asked.split(",")))[: len(dropped)]
    assert all(f"% left out: {line}" in text for line in left_out(main))
    assert not left_out(table(source, columns=asked, width="20")[0])


def test_a_preset_says_what_is_the_same_everywhere(source):
    assert any("defense: none in every line" in line for line in table(source)[0].dropped)
    assert any(line.startswith("arch: the same") for line in table(source, "regularizers")[0].dropped)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"preset": "robustnes"}, r"unknown preset 'robustnes' \(did you mean 'robustness'\?\)"),
        ({"width": "colum"}, r"width: expected column, text, article or inches.*did you mean 'column'"),
        ({"width": "-3"}, "width: expected"),
        ({"width": "nan"}, "width: expected"),
        ({"columns": " , "}, "columns: expected names"),
        ({"columns": "clean,corruption"}, r"columns: unknown 'corruption' \(did you mean 'corruptions'\?\)"),
        ({"columns": "pgd linf 8/256"}, r"did you mean 'pgd linf 8/255'"),
    ],
)
def test_what_is_not_there_is_told_with_a_near_name(source, asked, said):
    with pytest.raises(ConfigError, match=said):
        table(source, **asked)


def test_names_between_brackets_keep_their_commas():
    assert Style.of(columns="clean, pgd (steps=10, restarts=2) linf 8/255").columns == (
        "clean",
        "pgd (steps=10, restarts=2) linf 8/255",
    )


def test_a_preset_of_what_was_not_measured_is_refused(tmp_path):
    Store(tmp_path).write(record("net", "clean", "none", 38))
    found = Source(load([tmp_path]))
    assert names(table(found)[0]) == ["clean", "checks"]
    for preset, what in (("robustness", "attacked"), ("corruption", "corrupted")):
        with pytest.raises(ConfigError, match=f"preset {preset}: expected records of {what} images"):
            table(found, preset)
