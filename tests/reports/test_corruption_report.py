"""What a report says of corruptions is judged on records whose errors are known by hand."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import reports
from reports.comparison import comparison
from reports.section import Section, Source
from reports.sections import corruption_errors, reading
from reports.sections.corruption_errors import in_words
from reports.sections.corruptions import severity_means
from reports.sections.deformations import apart, seen
from robust_eval.cli import app
from robust_eval.corruptions.deformation import DEFORMATIONS
from robust_eval.errors import DataError
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.corruption_errors import ALEXNET, EXTRA_TYPES, TEST_TYPES
from robust_eval.metrics.intervals import wilson
from robust_eval.registry import describe
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 20


def measured(
    model: str,
    perturbation: str,
    wrong: int,
    *,
    params: dict[str, Any] | None = None,
    data: str = "shapes",
    defense: str = "none",
    train_seed: int = 0,
) -> Record:
    """A record in which the first ``wrong`` of ``N`` images are wrong."""
    family = "clean" if perturbation == "none" else "corruption"
    params = params or {}
    spec = {
        "model": [model, train_seed],
        "data": {"fingerprint": data, "n": N},
        "perturbation": None if family == "clean" else {"name": perturbation, "params": params},
        "defense": defense,
    }
    score = (np.arange(N) >= wrong).astype(float)
    rows = pd.DataFrame({"index": range(N), "label": np.arange(N) % 4, "clean_score": 1.0, "score": score})
    rows["prediction"] = np.where(score > 0, rows["label"], (rows["label"] + 1) % 4)
    labels = {
        "model": model,
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": train_seed,
        "seed": 0,
        "defense": defense,
        "defense_params": {},
        "access": "none",
        "data": data,
        "family": family,
        "perturbation": perturbation,
        "params": params,
        "norm": "none",
        "eps": None,
        "severity": params.get("severity"),
        "model_key": content_key({"model": [model, train_seed]}),
    }
    accuracy = Measurement("accuracy", 1 - wrong / N, *wilson(float(N - wrong), N), N)
    return Record(content_key(spec), spec, labels, (accuracy,), (), {"seconds": 1.0}, rows)


def suite(model: str, errors: dict[str, list[int]], *, clean: int = 2, **fields: Any) -> list[Record]:
    """Records of a model: how many images are wrong for each type, at severities 1, 2, ..."""
    made = [measured(model, "none", clean, **fields)]
    for name, wrong in errors.items():
        made += [
            measured(model, name, count, params={"severity": s}, **fields) for s, count in enumerate(wrong, 1)
        ]
    return made


def loaded(folder: Path, *records: Record) -> reports.Loaded:
    for record in records:
        Store(folder).write(record)
    return reports.load([folder])


def errors_in(found: reports.Loaded, baseline: str | None = None) -> list[Section]:
    return list(corruption_errors.sections(Source(found, baseline)))


def numbers(section: Section) -> list[dict[str, str]]:
    return [dict(zip(section.body.heads, row, strict=True)) for row in section.body.rows]


HALF, QUARTER = [10] * 5, [5] * 5


def test_the_15_test_types_and_the_4_extra_ones_are_in_no_mean_together(tmp_path):
    errors = {**{name: [10] for name in TEST_TYPES}, **{name: [5] for name in EXTRA_TYPES}}
    found = loaded(tmp_path, *suite("net", errors))
    test, extra = numbers(errors_in(found)[0])
    assert (test["corruptions"], test["mean over"]) == ("test types", "15 types × 1 severity")
    assert test["mean error"].startswith("50.0 (") and test["clean error"] == "10.0"
    assert (extra["corruptions"], extra["mean over"]) == ("extra types", "4 types × 1 severity")
    assert extra["mean error"].startswith("25.0 (")
    table = comparison(found.results)
    assert set(table.to_frame(intervals=False)["mean of corruptions"]) == {"50.0"}
    assert set(severity_means(table).to_frame(intervals=False)["mean s1"]) == {"50.0"}


def test_a_mean_over_some_types_says_over_which(tmp_path):
    found = loaded(tmp_path, *suite("net", {"fog": [4, 8], "snow": [12], "frost": [16]}))
    (line,) = numbers(errors_in(found)[0])
    assert line["mean over"] == "3 types × 1 severity (1 more measured)"
    assert line["mean error"].startswith(f"{100 * (4 + 12 + 16) / 3 / N:.1f} (")
    assert "mCE" not in line


def test_mce_divides_summed_errors_and_relative_mce_what_corruptions_add(tmp_path):
    records = [
        *suite("base", {"fog": [4, 4, 8, 8, 16], "snow": [10] * 5}, clean=2),
        *suite("net", {"fog": [2, 4, 4, 4, 6], "snow": [15] * 5}, clean=1),
    ]
    grids = errors_in(loaded(tmp_path, *records), "base")
    base, net = sorted(numbers(grids[0]), key=lambda line: line["model"])
    assert base["mCE"] == base["relative mCE"] == "100.0 (100.0–100.0)"
    assert net["mCE"].startswith(f"{100 * (20 / 40 + 75 / 50) / 2:.1f} (")
    relative = ((20 - 5) / (40 - 10) + (75 - 5) / (50 - 10)) / 2
    assert net["relative mCE"].startswith(f"{100 * relative:.1f}")
    fog = next(line for line in numbers(grids[1]) if (line["model"], line["type"]) == ("net", "fog"))
    assert [fog[f"s{s}"] for s in range(1, 6)] == ["10.0", "20.0", "20.0", "20.0", "30.0"]
    assert fog["sum"].startswith("1.00 (") and fog["of base's"].startswith("50.0 (")
    assert next(in_words(grids)).startswith(
        "base, none, test types, 2 types × 5 severities: clean error 10.0,"
    )


def test_without_all_five_severities_of_any_type_there_is_no_column_of_sums(tmp_path):
    grid = errors_in(loaded(tmp_path, *suite("net", {"fog": [4] * 3})))[1]
    assert {"sum", "–"}.isdisjoint(numbers(grid)[0]) and "sum" not in grid.note


def test_sums_over_severities_stand_only_where_all_five_were_measured(tmp_path):
    found = loaded(tmp_path, *suite("net", {"fog": [4] * 5, "snow": [4] * 3}))
    lines = {line["type"]: line for line in numbers(errors_in(found)[1])}
    assert lines["fog"]["sum"].startswith("1.00 (")
    assert (lines["snow"]["sum"], lines["snow"]["s4"]) == ("–", "–")


def test_a_baseline_that_lacks_a_type_gives_no_mce(tmp_path):
    records = [*suite("base", {"fog": HALF}), *suite("net", {"fog": HALF, "snow": HALF})]
    lines = numbers(errors_in(loaded(tmp_path, *records), "base")[0])
    assert {line["model"]: line["mCE"] != "–" for line in lines} == {"base": True, "net": False}


def test_alexnet_is_the_baseline_of_imagenet_and_of_nothing_else(tmp_path):
    errors = dict.fromkeys(TEST_TYPES[::5], HALF)
    found = loaded(tmp_path / "a", *suite("net", errors, data="imagenet"))
    (line,) = numbers(errors_in(found)[0])
    expected = np.mean([0.5 / ALEXNET.errors[name] for name in errors])
    assert line["mCE"].startswith(f"{100 * expected:.1f} (")
    found = loaded(tmp_path / "b", *suite("net", errors, data="cifar10"))
    assert "mCE" not in errors_in(found)[0].body.heads


def test_generated_and_given_corruptions_are_in_no_mean_together(tmp_path):
    given = [measured("net", "fog", 12, params={"severity": s, "files": "CIFAR-10-C"}) for s in range(1, 6)]
    found = loaded(tmp_path, *suite("net", {"fog": QUARTER, "snow": QUARTER}), *given)
    lines = {line["corruptions"]: line for line in numbers(errors_in(found)[0])}
    assert lines["test types"]["mean error"].startswith("25.0 (")
    assert lines["test types of CIFAR-10-C"]["mean error"].startswith("60.0 (")


def test_every_deformation_of_the_protocol_has_a_name_of_its_own_by_what_one_sees():
    names = [seen(describe(d).name, describe(d).params) for d in DEFORMATIONS.values()]
    assert names == [
        *("rotation ±20°", "rotation ±40°", "shear ±28.6°", "shear ±57.3°"),
        *("content at 60 %", "content at 80 %", "content at 120 %", "content at 140 %"),
    ]


def test_deformations_have_a_table_of_their_own_in_the_order_of_their_strength(tmp_path):
    scales = [measured("net", "scale", 4, params={"content": c}) for c in (1.2, 0.6)]
    found = loaded(tmp_path / "run", *suite("net", {"fog": HALF}), *scales)
    table = comparison(found.results).part("clean", "corruption")
    severe, deformed = apart(table, found.entries)
    assert [column.text for column in deformed.columns] == ["clean", "content at 60 %", "content at 120 %"]
    assert not any("scale" in column.text for column in severe.columns)
    reports.write([tmp_path / "run"], tmp_path / "out")
    assert "| net | none | 90.0" in (tmp_path / "out" / "table.md").read_text()
    assert "## Deformations" in (tmp_path / "out" / "table.md").read_text()


def test_many_corruptions_are_means_first_and_every_number_is_still_there(tmp_path):
    errors = {name: [i + s for s in range(1, 6)] for i, name in enumerate(TEST_TYPES[:2])}
    loaded(tmp_path / "run", *suite("net", errors))
    reports.write([tmp_path / "run"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    corruptions = page[page.index("<h2>Corruptions</h2>") :]
    assert corruptions.index(">mean<small>s1</small>") < corruptions.index('<details class="details">')
    folded = corruptions[corruptions.index("Accuracy under every corruption") :]
    for name, severity in itertools.product(errors, range(1, 6)):
        assert f"{name}<small>s{severity}</small>" in folded
    drawing = (tmp_path / "out" / "figures" / "corruptions.svg").read_text()
    assert re.search(r"<title>net; shot_noise s5: \d", drawing)
    assert "mean s3" in (tmp_path / "out" / "table.md").read_text()


def test_a_page_of_corruptions_alone_says_what_its_marks_mean(tmp_path):
    records = [each for each in suite("net", {"fog": [1, 2, 3]}) if each.labels["family"] == "corruption"]
    loaded(tmp_path / "run", *records)
    reports.write([tmp_path / "run"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<h2>Attacks</h2>" not in page and page.count("a check warns or could not be made") == 1


@pytest.mark.parametrize("models", [2, 7])
def test_a_drawing_of_many_corruptions_names_each_model_and_type_once(tmp_path, models):
    errors = {name: [3, 5, 8] for name in TEST_TYPES[:3]}
    records = [record for i in range(models) for record in suite(f"net{i}", errors)]
    loaded(tmp_path / "run", *records)
    reports.write([tmp_path / "run"], tmp_path / "out")
    drawing = (tmp_path / "out" / "figures" / "corruptions.svg").read_text()
    words = re.findall(r">([^<>]+)</text>", drawing)
    assert [words.count(f"net{i}") for i in range(models)] == [1] * models
    # with few models each has a map of its own, whose types stand at the first of a line of maps
    assert [words.count(name) for name in TEST_TYPES[:3]] == [1] * 3


def test_the_command_tells_the_errors_against_the_baseline(tmp_path):
    loaded(tmp_path / "run", *suite("net", {"fog": HALF}), *suite("base", {"fog": QUARTER}))
    told = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--baseline", "base"])
    assert told.exit_code == 0
    assert "net, none, test types, 1 type × 5 severities: clean error 10.0, mean error 50.0 (" in told.stdout
    assert "mCE 200.0" in told.stdout
    told = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert "mean error" not in told.stdout


def test_an_unknown_baseline_is_refused_in_one_line(tmp_path):
    loaded(tmp_path / "run", *suite("net", {"fog": HALF}), *suite("base", {"fog": HALF}))
    with pytest.raises(
        DataError, match=r"^baseline: expected one of the models base, net, got 'bas'; [^\n]+$"
    ):
        reports.write([tmp_path / "run"], tmp_path / "out", baseline="bas")


def test_intervals_are_the_same_in_every_report(tmp_path):
    records = [*suite("net", {"fog": [3, 6, 9, 12, 15]}), *suite("base", {"fog": HALF})]
    found = loaded(tmp_path, *records)
    assert errors_in(found, "base") == errors_in(found, "base")


def test_a_type_counts_once_in_the_mean_however_many_images_of_it_were_measured(tmp_path):
    def of(name, wrong, **params):
        return measured("net", name, wrong, params={"severity": 1, **params})

    made = [of("fog", 0), of("contrast", 10)]
    read = [of("fog", 16, files="c"), of("snow", 12, files="c")]
    table = comparison(loaded(tmp_path / "both", *made, *read).results)
    assert table.counted_once
    # made and read fog: 20 % of the files, not 100 %
    mean = f"{100 * (0.2 + 0.5 + 0.4) / 3:.1f}"
    assert set(table.to_frame(intervals=False)["mean of corruptions"]) == {mean}
    assert set(severity_means(table).to_frame(intervals=False)["mean s1"]) == {mean}
    # of two folders the first by name
    again = comparison(loaded(tmp_path / "three", *made, *read, of("fog", 4, files="d")).results)
    assert set(again.to_frame(intervals=False)["mean of corruptions"]) == {mean}
    alone = loaded(tmp_path / "made", *made)
    assert not comparison(alone.results).counted_once
    told = [
        reading.ONCE in section.body.texts
        for name in ("both", "made")
        for section in reading.sections(Source(reports.load([tmp_path / name])))
    ]
    assert told == [True, False]
