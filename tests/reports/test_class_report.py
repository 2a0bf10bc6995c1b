"""Averages over classes in a report are those of scikit-learn, and classes.csv has a line for each class."""

import csv

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import reports
from reports.section import Source
from reports.sections.classes import class_table, sections
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N, CLASSES = 60, 3


def answered(family: str = "clean", *, classes: int = CLASSES, kept: bool = True, seed: int = 0) -> Record:
    """A record whose predictions are the most probable of random probabilities."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet([1.0] * classes, N)
    label = np.arange(N) % classes
    rows = pd.DataFrame(
        {"index": range(N), "label": label, "prediction": p.argmax(1), "confidence": p.max(1)}
    )
    rows["score"] = rows["clean_score"] = (rows["label"] == rows["prediction"]).astype(float)
    if kept:
        rows = rows.assign(**{f"p{k}": p[:, k].astype(np.float32) for k in range(classes)})
    attack = family == "attack"
    labels = {
        "model": "net",
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": 0,
        "seed": 0,
        "defense": "none",
        "defense_params": {},
        "access": "none",
        "data": "shapes",
        "family": family,
        "perturbation": "pgd" if attack else "none",
        "params": {},
        "severity": None,
        "model_key": "net",
        "norm": "linf" if attack else "none",
        "eps": 0.1 if attack else None,
    }
    rows["attacked"] = True
    accuracy = Measurement("accuracy", float(rows["score"].mean()), 0.1, 0.9, N)
    spec = {"model": "net", "data": {"fingerprint": "f", "n": N}, "perturbation": family, "seed": seed}
    return Record(content_key(spec), spec, labels, (accuracy,), (), {"seconds": 1.0}, rows)


def loaded(folder, *records):
    for record in records:
        Store(folder).write(record)
    return reports.load([folder])


def of_classes(folder, *records):
    return list(sections(Source(loaded(folder, *records))))


def test_the_averages_over_classes_are_those_of_scikit_learn(tmp_path):
    record = answered()
    grid = of_classes(tmp_path, record)[0].body
    shown = {head: float(text) for head, text in zip(grid.heads[2:], grid.rows[0][2:], strict=True)}
    y, said = record.rows["label"], record.rows["prediction"]
    p = record.rows[[f"p{k}" for k in range(CLASSES)]].to_numpy(dtype=float)
    assert shown["precision"] == pytest.approx(metrics.precision_score(y, said, average="macro"), abs=5e-4)
    assert shown["recall"] == pytest.approx(metrics.recall_score(y, said, average="macro"), abs=5e-4)
    assert shown["F1"] == pytest.approx(metrics.f1_score(y, said, average="macro"), abs=5e-4)
    assert shown["MCC of all classes"] == pytest.approx(metrics.matthews_corrcoef(y, said), abs=5e-4)
    one = np.eye(CLASSES)[y]
    assert shown["AUC"] == pytest.approx(metrics.roc_auc_score(one, p, average="macro"), abs=5e-4)
    assert shown["micro AUC"] == pytest.approx(metrics.roc_auc_score(one, p, average="micro"), abs=5e-4)
    assert shown["specificity"] == pytest.approx(1 - shown["FPR"], abs=1e-3)
    assert shown["precision"] == pytest.approx(1 - shown["FDR"], abs=1e-3)


def test_a_model_has_its_confusion_matrix_and_its_classes_folded(tmp_path):
    record = answered()
    _, classes, matrix = of_classes(tmp_path, record)
    assert classes.folded and matrix.folded
    assert (classes.title, matrix.title) == ("Classes of net", "Confusion matrix of net")
    counts = np.array([[int(text) for text in row[1:]] for row in matrix.body.rows])
    expected = metrics.confusion_matrix(record.rows["label"], record.rows["prediction"])
    assert (counts == expected).all()
    assert [row[0] for row in classes.body.rows] == ["0", "1", "2", "macro", "micro"]


def test_without_probabilities_nothing_is_said_that_depends_on_them(tmp_path):
    grid = of_classes(tmp_path, answered(kept=False))[0].body
    shown = dict(zip(grid.heads, grid.rows[0], strict=True))
    assert {shown[name] for name in ("AUC", "micro AUC", "micro specificity", "micro FPR")} == {"–"}
    assert shown["precision"] != "–"


def test_what_is_undefined_of_a_class_has_no_value(tmp_path):
    record = answered()
    for column in ("label", "prediction"):
        record.rows[column] = record.rows[column].clip(upper=1)
    _, classes, _ = of_classes(tmp_path, record)
    shown = dict(zip(classes.body.heads, classes.body.rows[2], strict=True))
    assert {name for name, text in shown.items() if text == "–"} == {
        "precision", "recall", "FDR", "F1", "MCC", "AUC",
    }  # fmt: skip
    assert (shown["class"], shown["images"], shown["specificity"]) == ("2", "0", "1.000")
    assert "–" not in classes.body.rows[0]


def test_a_model_of_many_classes_has_averages_and_no_large_tables(tmp_path):
    found = of_classes(tmp_path, answered(classes=30, kept=False))
    assert [grid.title for grid in found] == ["Classification"]


def test_the_file_of_classes_has_every_class_of_every_cell(tmp_path):
    records = [answered(), answered("attack", seed=1)]
    found = loaded(tmp_path / "run", *records).entries
    report = reports.write([tmp_path / "run"], tmp_path / "out")
    assert tmp_path / "out" / "classes.csv" in report.files
    with (tmp_path / "out" / "classes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(records) * (CLASSES + 2)
    for record in records:
        own = [line for line in lines if line["key"] == record.key]
        assert [line["class"] for line in own] == ["0", "1", "2", "macro", "micro"]
        assert sum(int(line["images"]) for line in own[:CLASSES]) == N
        right = (record.rows["label"] == record.rows["prediction"]).sum()
        assert sum(int(line["tp"]) for line in own[:CLASSES]) == int(own[-1]["tp"]) == right
    assert {(line["perturbation"], line["eps"]) for line in lines} == {("none", ""), ("pgd", "0.1")}
    assert class_table([]) is None
    assert len(class_table(found)) == len(lines)


def test_calibration_is_told_by_equal_width_and_by_equal_mass(tmp_path):
    Store(tmp_path / "run").write(answered())
    report = reports.write([tmp_path / "run"], tmp_path / "out")
    measured = report.results.set_index("metric")["value"]
    text = (tmp_path / "out" / "table.md").read_text()
    head = "| model | defense | ECE, equal width | ECE, equal mass | mean confidence - accuracy |"
    line = text[text.index(head) :].splitlines()[2]
    for name in ("calibration_error", "calibration_error_equal_mass", "confidence_gap"):
        assert f"{measured[name]:.3g}" in line
