"""Reports are judged on records written through the store, with rows whose answers are known by hand."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import reports
from reports.scores import Scored
from reports.section import Source
from reports.tables import MEAN, Column
from robust_eval.errors import DataError
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.intervals import wilson
from robust_eval.results.entry import COLUMNS
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 8
LINF = 8 / 255
CLEAN = [1, 1, 1, 1, 1, 1, 0, 0]


def record(
    model: str = "net",
    *,
    family: str = "attack",
    perturbation: str = "pgd",
    params: dict[str, Any] | None = None,
    norm: str = "linf",
    eps: float | None = LINF,
    severity: int | None = None,
    defense: str = "none",
    defense_params: dict[str, Any] | None = None,
    access: str = "none",
    data: str = "digits",
    fingerprint: str = "f0",
    seed: int = 0,
    identity: str = "weights",
    train_seed: int | None = 0,
    score: Sequence[float] = CLEAN,
    distance: Sequence[float] | None = None,
    summary: Sequence[Measurement] | None = None,
    checks: Sequence[Check] = (),
    arch: str | None = "resnet",
) -> Record:
    params = params or {}
    described = {"kind": family, "name": perturbation, "params": params, "version": 1}
    spec = {
        "model": [model, identity, train_seed],
        "data": {"fingerprint": fingerprint, "n": N},
        "perturbation": None if family == "clean" else {**described, "at": [norm, eps, severity]},
        "defense": None if defense == "none" else [defense, defense_params],
        "access": access,
        "seed": seed,
    }
    rows = pd.DataFrame(
        {
            "index": range(N),
            "clean_score": np.array(CLEAN, dtype=float),
            "score": np.array(score, dtype=float),
            "attacked": np.array(CLEAN) > 0,
            "distance": np.full(N, np.nan) if distance is None else distance,
            "step": 0,
            "forwards": 10,
            "backwards": 5,
        }
    )
    if summary is None:
        total = float(rows["score"].sum())
        summary = [Measurement("accuracy", total / N, *wilson(total, N), N)]
    labels = {
        "model": model,
        "arch": arch,
        "regularizer": "mixup",
        "train_seed": train_seed,
        "defense": defense,
        "defense_params": defense_params or {},
        "access": access,
        "data": data,
        "family": family,
        "perturbation": perturbation,
        "params": params,
        "norm": norm,
        "eps": eps,
        "severity": severity,
        "seed": seed,
        "model_key": content_key({"model": [model, identity, train_seed]}),
    }
    provenance = {
        "seconds": 1.5,
        "device": "cpu",
        "versions": {"torch": "2.9"},
        "weights": {"sha256": "ab12"},
    }
    return Record(content_key(spec), spec, labels, tuple(summary), tuple(checks), provenance, rows)


def clean(model: str = "net", **fields: Any) -> Record:
    return record(model, family="clean", perturbation="none", norm="none", eps=None, **fields)


def corrupted(model: str = "net", name: str = "fog", severity: int = 3, **fields: Any) -> Record:
    given = {"params": {"severity": severity}, "norm": "none", "eps": None, "severity": severity}
    return record(model, family="corruption", perturbation=name, **given, **fields)


def minimal(model: str = "net", **fields: Any) -> Record:
    summary = [
        Measurement("accuracy", 0.5, 0.2, 0.8, N, 0.5),
        Measurement("median_distance", None, 0.4, None, N),
    ]
    distance = [0.1, 0.4, 0.6, 2.0, np.nan, 0.2, np.nan, np.nan]
    given = {"perturbation": "cw", "norm": "l2", "eps": None, "summary": summary, "distance": distance}
    return record(model, **{**given, "score": [0] * N, **fields})


def save(folder: Path, *records: Record) -> Path:
    for item in records:
        Store(folder).write(item)
    return folder


def a_bit_of_everything(folder: Path) -> Path:
    warn = Check("convergence", "warn", 0.07, "run with twice the steps")
    fail = Check("zero_gradients", "fail", 0.5, "attack the logits, not the probabilities")
    made = []
    for model in ("plain", "mixup"):
        made += [clean(model), corrupted(model), corrupted(model, "snow"), minimal(model)]
        made += [
            record(model, params={"eps": LINF, "steps": 40}, score=[1, 1, 0, 0, 0, 1, 0, 0], checks=[warn]),
            record(model, perturbation="fgsm", score=[1, 0, 1, 0, 1, 1, 0, 0], checks=[fail]),
        ]
        for access in ("transfer", "adaptive"):
            made.append(
                record(
                    model,
                    params={"eps": LINF, "steps": 40},
                    defense="mixing",
                    access=access,
                    score=[0.5, 0.25, 1, 0, 1, 1, 0, 0],
                )
            )
        made.append(clean(model, defense="mixing"))
        made.append(corrupted(model, defense="mixing"))
    return save(folder, *made)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> reports.Report:
    folder = tmp_path_factory.mktemp("report")
    return reports.write([a_bit_of_everything(folder / "run")], folder / "out")


def only(results: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    for name, value in wanted.items():
        results = results[results[name] == value]
    assert len(results) == 1, results
    return results.iloc[0].to_dict()


def test_the_columns_are_the_promised_ones_in_order(written):
    with (written.out / "results.csv").open() as file:
        head = next(csv.reader(file))
    assert head == list(COLUMNS) == list(written.results.columns)
    promised = (
        "model arch regularizer defense access data family perturbation params norm eps severity metric"
    )
    promised += " value ci_low ci_high n seed train_seed seconds checks key"
    assert head[:22] == promised.split()


def test_words_are_never_empty_in_the_csv(tmp_path):
    run = save(tmp_path / "run", clean(arch=None), corrupted(arch=""), minimal(arch=None))
    reports.write([run], tmp_path / "out")
    numbers = {"eps", "severity", "value", "ci_low", "ci_high", "n", "seed", "train_seed", "seconds"}
    numbers |= {"estimated_for"}
    with (tmp_path / "out" / "results.csv").open() as file:
        for row in csv.DictReader(file):
            assert all(row[name] for name in set(COLUMNS) - numbers), row
            assert row["arch"] == "unknown"
            json.loads(row["params"])


def test_every_measurement_is_one_row_with_its_own_radius(tmp_path):
    results = reports.load([save(tmp_path, minimal(), record())]).results
    assert only(results, perturbation="cw", metric="accuracy")["eps"] == 0.5
    assert pd.isna(only(results, perturbation="cw", metric="median_distance")["value"])
    row = only(results, perturbation="pgd")
    assert (row["eps"], row["seconds"], row["checks"], row["n"]) == (LINF, 1.5, "ok", N)


def test_checks_are_named_and_a_failure_is_marked(tmp_path):
    checks = [Check("b", "warn", 1.0, "x"), Check("a", "fail", 1.0, "x"), Check("c", "ok", 0.0, "x")]
    results = reports.load([save(tmp_path, record(checks=checks))]).results
    assert list(results["checks"]) == ["a!;b"]


def test_the_worst_case_is_the_minimum_over_attacks_of_each_example(tmp_path):
    run = save(
        tmp_path,
        record(score=[1, 1, 0, 0, 0, 1, 0, 0]),
        record(perturbation="fgsm", score=[1, 0, 1, 0, 1, 0.5, 0, 0]),
    )
    row = only(reports.load([run]).results, perturbation="worst_case")
    assert row["value"] == 1.5 / N
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(wilson(1.5, N)))
    assert json.loads(row["params"]) == {"over": ["fgsm", "pgd"]}
    assert (row["family"], row["norm"], row["eps"], row["n"]) == ("attack", "linf", LINF, N)


def test_the_worst_case_scores_a_minimal_norm_attack_by_its_distances(tmp_path):
    # within 0.5: examples 0, 1 and 5 fall to cw, example 2 to pgd; 3 and 4 are left
    run = save(tmp_path, minimal(), record(norm="l2", eps=0.5, score=[1, 1, 0, 1, 1, 1, 0, 0]))
    row = only(reports.load([run]).results, perturbation="worst_case")
    assert row["value"] == 2 / N


def test_one_attack_alone_has_no_worst_case(tmp_path):
    results = reports.load(
        [save(tmp_path, record(), record(perturbation="fgsm", eps=4 / 255), minimal())]
    ).results
    assert "worst_case" not in set(results["perturbation"])


def test_the_worst_case_of_a_defended_model_is_also_taken_over_both_kinds_of_access(tmp_path):
    run = save(
        tmp_path,
        record(defense="mixing", access="transfer", score=[0, 1, 1, 1, 1, 1, 0, 0]),
        record(defense="mixing", access="adaptive", score=[1, 0, 1, 1, 1, 1, 0, 0]),
        record(score=[0] * N),
    )
    results = reports.load([run]).results
    row = only(results, perturbation="worst_case")
    assert (row["access"], row["value"]) == ("any", 4 / N)
    assert json.loads(row["params"])["over"] == ["pgd (adaptive)", "pgd (transfer)"]


def test_seeds_and_data_sets_are_never_mixed_in_a_worst_case(tmp_path):
    run = save(
        tmp_path, record(), record(perturbation="fgsm", seed=1), record(perturbation="bim", data="other")
    )
    assert "worst_case" not in set(reports.load([run]).results["perturbation"])


def test_the_same_key_in_two_runs_counts_once(tmp_path):
    one = save(tmp_path / "one", record(), clean())
    two = save(tmp_path / "two", record(), record("other"))
    results = reports.load([one, two]).results
    assert len(results) == 3
    assert only(results, model="other")["run"] == "two"
    assert set(results.loc[results["model"] == "net", "run"]) == {"one"}


def test_two_models_of_one_name_are_told_apart(tmp_path):
    one, two = save(tmp_path / "a", clean()), save(tmp_path / "b", clean(identity="others"), clean("third"))
    results = reports.load([one, two]).results
    names = sorted(set(results["model"]))
    assert names == ["net (run=a)", "net (run=b)", "third"]
    assert len(reports.comparison(results).lines) == 3


def test_models_that_no_words_tell_apart_carry_a_hash(tmp_path):
    run = save(tmp_path, clean(), clean(identity="others"))
    names = sorted(set(reports.load([run]).results["model"]))
    assert [re.sub(r"\[[0-9a-f]{6}\]$", "[#]", name) for name in names] == ["net [#]", "net [#]"]


def test_two_settings_of_an_attack_are_two_columns(tmp_path):
    run = save(
        tmp_path,
        record(params={"steps": 10, "eps": LINF}),
        record(params={"steps": 40, "eps": LINF}, score=[0] * N),
        record(params={"steps": 40, "eps": 4 / 255}, eps=4 / 255),
        record(perturbation="fgsm"),
    )
    results = reports.load([run]).results
    assert {"pgd (steps=10)", "pgd (steps=40)", "fgsm"} < set(results["perturbation"])
    assert set(results.loc[results["eps"] < LINF, "perturbation"]) == {"pgd (steps=40)"}
    table = reports.comparison(results).to_frame(intervals=False)
    assert list(table["pgd (steps=10) linf 8/255"]) == ["75.0"]
    assert list(table["pgd (steps=40) linf 8/255"]) == ["0.0"]


def drawing(gradient_draws: int | None, access: str = "adaptive") -> Record:
    made = record(defense="mixing", access=access)
    told = {} if gradient_draws is None else {"gradient_draws": gradient_draws}
    spec = made.spec | {"draws": 10} | told
    return replace(made, key=content_key(spec), spec=spec)


def test_the_draws_of_a_gradient_tell_attacks_apart_only_where_something_is_drawn(tmp_path):
    found = [
        set(reports.load([save(tmp_path / name, *records)]).results["perturbation"]) - {"worst_case"}
        for name, records in {
            "given": [record(), drawing(None, "transfer"), drawing(16)],
            "two": [record(), drawing(8), drawing(16)],
            "unset": [record(), drawing(None), drawing(16)],
        }.items()
    ]
    assert found[0] == {"pgd"}
    assert {"pgd (gradient_draws=8)", "pgd (gradient_draws=16)"} <= found[1]
    assert {"pgd (gradient_draws=unset)", "pgd (gradient_draws=16)"} <= found[2]


def test_one_attack_at_several_radii_keeps_its_name(tmp_path):
    run = save(tmp_path, *(record(eps=k / 255, params={"eps": k / 255}) for k in (2, 4, 8)))
    results = reports.load([run]).results
    assert set(results["perturbation"]) == {"pgd"}
    assert list(reports.comparison(results).to_frame())[2:] == [f"pgd linf {k}/255" for k in (2, 4, 8)]


def test_two_settings_of_a_defense_are_two_lines(tmp_path):
    run = save(tmp_path, *(clean(defense="mixing", defense_params={"samples": k}) for k in (5, 50)))
    assert set(reports.load([run]).results["defense"]) == {
        "mixing (samples=5)",
        "mixing (samples=50)",
    }


def test_data_sets_of_one_name_are_told_apart(tmp_path):
    run = save(tmp_path, clean(), clean(fingerprint="f1"))
    results = reports.load([run]).results
    assert results["data"].nunique() == 2
    assert "data" in reports.comparison(results).heads


def test_records_that_differ_in_nothing_shown_are_not_merged(tmp_path):
    first = record()
    spec = {**first.spec, "draws": 3}
    second = Record(content_key(spec), spec, first.labels, first.summary, first.checks, {}, first.rows)
    results = reports.load([save(tmp_path, first, second)]).results
    single = results[results["key"] != "none"]
    assert single["perturbation"].nunique() == 2


def trained(seed: int, correct: int, make: Callable[..., Record] = clean, **fields: Any) -> Record:
    """A record of one recipe, by default clean, trained with this seed, that gets so many images right."""
    made = make(train_seed=seed, score=[1] * correct + [0] * (N - correct), **fields)
    spec = {**made.spec, "model": {"recipe": {"lr": 0.1, "seed": seed}}}
    labels = {**made.labels, "model_key": content_key({"model": spec["model"]})}
    return replace(made, key=content_key(spec), spec=spec, labels=labels)


def test_train_seeds_are_one_line_of_mean_and_standard_deviation(tmp_path):
    counts = [1, 2, 4]
    run = save(tmp_path, *(trained(seed, correct) for seed, correct in enumerate(counts)))
    loaded = reports.load([run]).results
    assert sorted(loaded["train_seed"]) == [0, 1, 2] and set(loaded["model"]) == {"net"}
    table = reports.comparison(loaded)
    (line,) = table.lines
    assert table.heads == ("model", "defense") and line.train_seed is None
    (number,) = table.cells.values()
    shares = np.array(counts) / N
    assert number.value == pytest.approx(shares.mean()) and number.spread == pytest.approx(shares.std(ddof=1))
    assert number.short == f"{100 * shares.mean():.1f} ± {100 * shares.std(ddof=1):.1f}"
    assert number.interval == ""


def test_a_mean_over_corruptions_has_the_spread_of_the_means_of_trainings_that_met_them_all(tmp_path):
    counts = {"fog": [1, 2, 4], "snow": [5, 2, 3]}
    made = [
        trained(seed, correct, corrupted, name=name)
        for name, of in counts.items()
        for seed, correct in enumerate(of)
    ]
    found = reports.comparison(reports.load([save(tmp_path / "all", *made)]).results)
    (line,), cells = found.lines, found.cells
    means = np.mean(list(counts.values()), axis=0) / N
    assert cells[line, MEAN].value == pytest.approx(means.mean())
    assert cells[line, MEAN].spread == pytest.approx(means.std(ddof=1))
    fewer = reports.comparison(reports.load([save(tmp_path / "fewer", *made[:-1])]).results)
    assert fewer.cells[fewer.lines[0], MEAN].spread is None


def test_models_of_one_name_and_seed_alone_keep_their_seed(tmp_path):
    run = save(tmp_path, *(clean(f"net-{seed}", train_seed=seed) for seed in (0, 1)))
    table = reports.comparison(reports.load([run]).results)
    assert table.heads == ("model", "defense", "train_seed")
    assert len(table.lines) == 2


def test_clean_and_corruption_numbers_stand_in_every_access_line(written):
    table = reports.comparison(written.results).to_frame(intervals=False)
    defended = table[(table["model"] == "mixup") & (table["defense"] == "mixing")]
    assert list(defended["access"]) == ["transfer", "adaptive", "any"]
    assert set(defended["clean"]) == set(defended["fog s3"]) == {"75.0"}


def test_the_mean_over_corruptions_says_when_some_are_missing(written):
    table = reports.comparison(written.results).to_frame(intervals=False)
    assert set(table.loc[table["defense"] == "none", "mean of corruptions"]) == {"75.0"}
    assert set(table.loc[table["defense"] == "mixing", "mean of corruptions"]) == {"75.0 (1 of 2)"}


def test_numbers_to_be_doubted_are_marked(written):
    table = reports.comparison(written.results)
    line = next(line for line in table.lines if line.defense == "none")
    assert table.text(line, Column("attack", "pgd", "linf", LINF), intervals=False) == "37.5?"
    assert table.text(line, Column("attack", "fgsm", "linf", LINF), intervals=False) == "50.0!"
    assert table.text(line, Column("attack", "worst_case", "linf", LINF), intervals=False) == "25.0!"


def test_every_accuracy_of_the_csv_stands_in_the_markdown(written):
    cells: dict[tuple[str, ...], str] = {}
    heads: list[str] = []
    for text in (written.out / "table.md").read_text().splitlines():
        row = [cell.strip() for cell in text.strip("|").split("|")]
        if row[0] == "model" and "defense" in row:
            heads = row
        elif heads and text.startswith("| ") and "---" not in text:
            for head, cell in zip(heads[2:], row[2:], strict=True):
                access = row[2] if heads[2] == "access" else ""
                cells[row[0], row[1], access, head] = cell
        elif not text:
            heads = []
    names = {"attack": "{perturbation} {norm}", "corruption": "{perturbation} s{severity}", "clean": "clean"}
    accuracies = written.results[written.results["metric"] == "accuracy"]
    assert len(accuracies) > 20
    for row in accuracies.to_dict("records"):
        head = names[row["family"]].format(**row).replace("worst_case", "worst case")
        head += {"linf": " 8/255", "l2": " 0.5", "none": ""}[row["norm"]]
        access = {"attack": row["access"], "corruption": ""}.get(row["family"], "adaptive")
        access = "none" if access == "adaptive" and row["defense"] == "none" else access
        value, low, high = (f"{100 * row[name]:.1f}" for name in ("value", "ci_low", "ci_high"))
        mark = "" if row["checks"] == "ok" else "!" if "!" in row["checks"] else "?"
        assert cells[row["model"], row["defense"], access, head] == f"{value}{mark} ({low}–{high})"


def test_the_markdown_states_the_threat_the_checks_and_the_parameters(written):
    text = (written.out / "table.md").read_text()
    assert "8 images of digits; 2 models." in text
    assert "linf 8/255 or l2 0.5" in text
    assert "run with twice the steps" in text
    assert "attack the logits, not the probabilities" in text
    assert "| pgd | linf 8/255 | steps=40 |" in text
    assert "not found" in text


def test_names_cannot_inject_markup(tmp_path):
    name = '<script>alert("x")</script> | a_b & 50% \\input{x} [red](u)'
    run = save(
        tmp_path / "run", *(clean(name), record(name), record(name, perturbation="fgsm"), corrupted(name))
    )
    report = reports.write([run], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in (tmp_path / "out" / "figures" / "attacks.svg").read_text()
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "<script" not in markdown and r"\| a_b &amp; 50% \\input{x} [red\](u)" in markdown
    latex = (tmp_path / "out" / "table.tex").read_text()
    assert r"a\_b \& 50\% \textbackslash{}input\{x\}" in latex.replace(r"\allowbreak{}", "")
    console = Console(width=200, record=True, file=(tmp_path / "terminal").open("w"))
    console.print(reports.terminal(report.results))
    console.file.close()
    assert "[red](u)" in re.sub(r"\s", "", console.export_text())


def markup(page: str) -> str:
    """A page without the texts of its scripts."""
    return re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", page, flags=re.S)


def test_the_page_loads_nothing(written):
    page = markup((written.out / "index.html").read_text())
    assert not re.search(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', page)
    assert not re.search(r"<(?:link|iframe|object|embed)\b|<script[^>]*\bsrc", page)
    assert not re.search(r'<img (?!src="data:image/png;base64,[A-Za-z0-9+/]+={0,2}")', page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_page_shows_advice_intervals_and_provenance(written):
    page = (written.out / "index.html").read_text()
    assert 'title="convergence (0.07): run with twice the steps"' in page
    low, high = wilson(6.0, N)
    assert f"<small>{100 * low:.1f}–{100 * high:.1f}</small>" in page
    for row in written.results.itertuples():
        assert row.key == "none" or row.key in page
    for fact in (
        "versions.torch",
        "weights.sha256",
        "ab12",
        "forwards, all records",
        "light-dark(",
    ):
        assert fact in page


def test_ids_of_the_drawings_do_not_collide(written):
    page = markup((written.out / "index.html").read_text())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_the_figures_are_drawn_and_tell_their_numbers(written):
    names = {path.name for path in (written.out / "figures").iterdir()}
    drawn = ("attacks", "clean_vs_worst", "corruptions", "radius")
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("svg", "pdf")}
    drawing = (written.out / "figures" / "attacks.svg").read_text()
    assert drawing.startswith("<svg")
    assert "<title>plain; pgd linf 8/255: 37.5? (" in drawing


def test_a_report_of_the_same_records_has_the_same_bytes(tmp_path, written):
    run = written.out.parent / "run"
    again = reports.write([run], tmp_path)
    assert [path.relative_to(tmp_path) for path in again.files] == [
        path.relative_to(written.out) for path in written.files
    ]
    for path, earlier in zip(again.files, written.files, strict=True):
        assert path.read_bytes() == earlier.read_bytes(), path.name


def test_a_figure_of_an_earlier_report_does_not_stay(tmp_path):
    reports.write([save(tmp_path / "one", record())], tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "attacks.svg").exists()
    reports.write([save(tmp_path / "two", clean())], tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "attacks.svg").exists()


NOTHING_MEASURED = [Measurement("accuracy", None, None, None, 0)]
STOCHASTIC = [
    Measurement("accuracy", 0.5, 0.2, 0.8, N),
    Measurement("accuracy_majority", 0.4, 0.2, 0.8, N),
    Measurement("accuracy_worst_of_k", 0.3, 0.2, 0.8, N),
    Measurement("auroc", 0.7, None, None, N),
]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([clean()], id="only clean"),
        pytest.param([corrupted()], id="only a corruption"),
        pytest.param([record()], id="only one attack"),
        pytest.param([minimal()], id="only a minimal-norm attack"),
        pytest.param([clean(), minimal(), minimal("b")], id="minimal norm and clean"),
        pytest.param([clean(defense="mixing")], id="a defense never attacked"),
        pytest.param(
            [record(defense="mixing", access="adaptive", summary=STOCHASTIC)], id="stochastic metrics"
        ),
        pytest.param([clean(summary=NOTHING_MEASURED)], id="no value"),
        pytest.param([clean(summary=[])], id="an empty summary"),
        pytest.param(
            [record(norm="l1", eps=12.0), record(seed=1, train_seed=None)], id="other norm, no train seed"
        ),
        pytest.param(
            [corrupted(severity=s, name=f"c{i}") for s in (1, 5) for i in range(12)], id="many corruptions"
        ),
        pytest.param([record(perturbation=f"a{i}") for i in range(20)], id="many attacks"),
    ],
)
def test_any_run_can_be_reported(tmp_path, records):
    report = reports.write([save(tmp_path / "run", *records)], tmp_path / "out")
    assert all(path.stat().st_size for path in report.files)
    with (tmp_path / "terminal").open("w") as file:
        Console(width=110, file=file).print(reports.terminal(report.results))
    assert "nan" not in (tmp_path / "out" / "table.md").read_text().lower().replace("nano", "")


def test_further_metrics_have_tables_of_their_own(tmp_path):
    run = save(tmp_path / "run", record(defense="mixing", access="adaptive", summary=STOCHASTIC))
    reports.write([run], tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## Accuracy of the majority over draws" in text
    assert "40.0 (20.0–80.0)" in text
    assert re.search(r"## Auroc\n.*\| 0\.7 \|", text, re.S)


def test_top_5_under_attack_says_that_some_images_were_never_attacked(tmp_path):
    top = [Measurement("top5_accuracy", 0.5, 0.2, 0.8, 10)]
    for number, (made, told) in enumerate(((record(summary=top), True), (clean(summary=top), False))):
        run = save(tmp_path / f"run{number}", made)
        reports.write([run], tmp_path / f"out{number}")
        assert ("never attacked" in (tmp_path / f"out{number}" / "table.md").read_text()) == told


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
def test_a_folder_without_records_is_refused_in_one_line(tmp_path, there):
    folder = tmp_path / "somewhere"
    if there:
        folder.mkdir()
    with pytest.raises(DataError, match=r"^expected a run folder with records/, got .*somewhere; [^\n]+$"):
        reports.write([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_folder_at_all_is_refused():
    with pytest.raises(DataError, match="expected at least one run folder"):
        reports.load([])


def test_the_terminal_table_fits_a_hundred_and_ten_columns(written):
    console = Console(width=110, record=True, file=(written.out / "terminal").open("w"))
    console.print(reports.terminal(written.results))
    console.file.close()
    text = console.export_text()
    assert "37.5?" in text and "50.0!" in text and "corrupted" in text
    assert "8/255" in text and "n = 8" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_scores_behind_each_number_have_it_as_their_mean(tmp_path):
    score = [[1, 1, 0, 1, 0, 1, 0, 0], [1, 0, 1, 1, 0, 0, 0, 0], [0.5, 0.25, 0, 1, 1, 0, 0, 0]]
    save(
        tmp_path,
        clean(),
        record(score=score[0]),
        record(perturbation="bim", score=score[1]),
        *(corrupted(name=name, severity=s, score=score[s - 1]) for name in ("fog", "snow") for s in (1, 2)),
        clean(defense="noise", score=score[2]),
        record(defense="noise", access="transfer", score=score[0]),
        record(defense="noise", access="adaptive", score=score[2]),
        corrupted(defense="noise", score=score[2]),
    )
    source = Source(load([tmp_path]))
    scored = Scored(source.entries, source.table.in_mean())
    compared = 0
    for (who, column), number in source.table.cells.items():
        found = scored.of(who, column)
        # a mean over corruptions has no score of each image where a model met only some of them
        if (
            found is not None
            and number.value is not None
            and (number.of is None or number.of[0] == number.of[1])
        ):
            assert float(found.scores.mean()) == pytest.approx(number.value), (who, column)
            compared += 1
    assert compared >= 10
