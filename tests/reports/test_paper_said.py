"""What the paper said beside ours: the interval of the difference, the verdict, and the table in every format."""

import csv
import math
import statistics

import pandas as pd
import pytest
import tomli_w
from scipy.stats import norm, t

import reports
from reports.bodies import Grid, Paragraphs
from reports.published import beside
from reports.section import Source
from reports.sections.paper_said import in_words, sections
from robust_eval.config.paper import Paper
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 10_000
PASSES = {
    "curriculum": "shuffled",
    "chosen_by_class": [1, 1],
    "evaluations": [1, 2],
    "steps": [1, 2],
    "train_accuracy": [0.2, 0.4],
    "validation_accuracy": [0.2, 0.4],
    "test_accuracy": [0.1, 0.3],
    "used": [1.0, 1.0],
}


def record(model, value, *, seed=0, data="cifar10", **labels):
    """Return the record of a model that is right on this share of the images."""
    spec = {"model": {"recipe": {"name": model, "seed": seed}}, "data": {"n": N}, "labels": labels}
    told = {
        **dict.fromkeys(("defense", "access", "perturbation", "norm"), "none"),
        "model": model,
        "arch": "net",
        "regularizer": "erm",
        "train_seed": seed,
        "data": data,
        "family": "clean",
        "seed": 0,
        "model_key": f"{model} {seed}",
        **labels,
    }
    rows = pd.DataFrame({"index": range(4), "score": [1.0] * 4, "attacked": told["family"] == "attack"})
    numbers = (
        Measurement("accuracy", value, value, value, N, told.get("eps")),
        Measurement("top5_accuracy", 0.99, 0.98, 1.0, N),
    )
    learnt = {"memorisation": {"untouched": {"best": 0.9, "last": 0.95}}, "passes": PASSES}
    return Record(content_key(spec), spec, told, numbers, (), {"seconds": 1.0, "training": learnt}, rows)


@pytest.fixture
def source(tmp_path):
    """Return a run of these records that makes a paper's table again."""

    def make(*records, **paper):
        store = Store(tmp_path / "run")
        for each in records:
            store.write(each)
        usual = {"title": "A title", "table": "table 1", "data": "cifar10", "reported": []}
        (tmp_path / "run" / "experiment.toml").write_text(tomli_w.dumps({"paper": usual | paper}))
        return Source(load([tmp_path / "run"]), folders=(tmp_path / "run",))

    return make


def found(source, *records, **paper):
    """Return each published number beside ours."""
    made = source(*records, **paper)
    return list(beside(Paper(**{"title": "A", "table": "1", "data": "cifar10", **paper}), made.entries))


def seeds(*values, model="net"):
    return [record(model, value, seed=i) for i, value in enumerate(values)]


def test_the_interval_is_students_over_trainings_images_and_a_training_of_the_paper(source):
    values = (0.90, 0.91, 0.92)
    (one,) = found(source, *seeds(*values), reported=({"model": "net", "value": 90.5},))
    spread, error = 100 * statistics.stdev(values), 100 * math.sqrt(0.91 * 0.09 / N)
    # a t test for one more value of the same law, but for the images
    largest = 100 * math.sqrt(0.9 * 0.1 / N)
    assert error < largest
    trainings = t.ppf(0.975, 2) * math.sqrt(spread**2 / 3 + spread**2)
    assert one.half == pytest.approx(math.hypot(trainings, norm.ppf(0.975) * largest))
    assert one.difference == pytest.approx(0.5)


def test_a_stated_deviation_over_several_trainings_takes_the_place_of_ours(source):
    values = (0.9, 0.902)
    reported = ({"model": "net", "value": 90.0, "sd": 0.3, "runs": 9},)
    (one,) = found(source, *seeds(*values), reported=reported)
    ours = 100 * statistics.stdev(values)
    trainings = t.ppf(0.975, 1) * math.sqrt(ours**2 / 2 + 0.1**2)
    assert one.half == pytest.approx(math.hypot(trainings, norm.ppf(0.975) * 0.3))


@pytest.mark.parametrize(
    "values, published, verdict, reason",
    [
        ((0.900, 0.901, 0.902), 90.2, "agrees", ""),
        ((0.900, 0.901, 0.902), 80.0, "differs", ""),
        ((0.80, 0.90, 0.99), 90.0, "cannot be told", "is more than 2"),
        ((0.9,), 90.0, "cannot be told", "one training has no spread"),
        ((), 90.0, "cannot be compared", "not measured"),
    ],
)
def test_an_interval_around_zero_agrees_only_where_it_is_narrow(source, values, published, verdict, reason):
    other = record("other", 0.5)
    (one,) = found(source, other, *seeds(*values), reported=({"model": "net", "value": published},))
    assert one.verdict == verdict and reason in one.reason


@pytest.mark.parametrize(
    "paper, more, reason",
    [
        ({"scale": "small"}, {}, "small size"),
        ({"changed": ("recipe.epochs",)}, {}, "changed: recipe.epochs"),
        ({"data": "cifar100"}, {}, "measured on cifar10"),
        ({}, {"cannot": "its radius is blank"}, "its radius is blank"),
        ({}, {"perturbation": "pgd"}, "several of our numbers fit"),
        ({}, {"perturbation": "pgd", "eps": "16/255"}, "not measured"),
    ],
)
def test_what_is_not_alike_is_not_compared_and_says_why(source, paper, more, reason):
    attacked = {"family": "attack", "perturbation": "pgd", "norm": "linf"}
    pgd = [record("net", 0.5, **attacked, eps=eps) for eps in (4 / 255, 8 / 255)]
    (one,) = found(
        source, *seeds(0.9, 0.9), *pgd, reported=({"model": "net", "value": 90.0, **more},), **paper
    )
    assert one.verdict == "cannot be compared" and reason in one.reason and one.half is None


def test_numbers_are_found_by_attack_radius_defense_access_metric_and_pass(source):
    attack = {"family": "attack", "perturbation": "pgd", "norm": "linf", "eps": 8 / 255}
    defended = attack | {"defense": "jpeg"}
    records = [
        record("net", 0.9),
        record("net", 0.5, **attack),
        *(record("net", v, **defended, access=a) for a, v in (("transfer", 0.4), ("adaptive", 0.2))),
    ]
    reported = [
        {"model": "net", "value": 1, "metric": "error"},
        {"model": "net", "value": 1, "metric": "top5_error"},
        {"model": "net", "value": 1, "perturbation": "pgd", "eps": "8/255"},
        {"model": "net", "value": 1, "perturbation": "pgd", "defense": "jpeg"},
        {"model": "net", "value": 1, "perturbation": "pgd", "defense": "jpeg", "access": "transfer"},
        {"model": "net", "value": 1, "perturbation": "training", "metric": "test_accuracy", "epoch": 2},
        {"model": "net", "value": 1, "perturbation": "memorisation", "metric": "untouched_error"},
        {"model": "net", "value": 1, "unit": "fraction"},
    ]
    numbers = [each.mean for each in found(source, *records, reported=tuple(reported))]
    assert numbers == pytest.approx([10, 1, 50, 20, 40, 30, 5, 0.9])


def test_the_table_is_set_as_the_paper_has_it(source):
    paper = {
        "layout": {"rows": "K", "columns": "images", "metric": "error"},
        "block": [
            {
                "rows": ["8", "4"],
                "columns": ["few", "many"],
                "model": "{row} {column}",
                "numbers": [[9, 5], ["-", 6]],
            }
        ],
        "chosen": [{"field": "attack.eps", "choice": "8/255", "why": "Not stated."}],
        "differs": ["Half precision."],
    }
    records = [*seeds(0.91, 0.912, 0.911, model="8 few"), *seeds(0.7, 0.701, model="8 many")]
    made = source(*records, **paper)
    table, lines, choices = list(sections(made))
    assert (
        isinstance(table.body, Grid) and isinstance(lines.body, Grid) and isinstance(choices.body, Paragraphs)
    )
    assert table.body.heads == ("K \\ images", "few", "many")
    assert table.body.rows == (("8", "9.00 / 8.90 ± 0.10 =", "5.00 / 29.95 ± 0.07 ≠"), ("4", "–", "6.00 / –"))
    assert [row[2] for row in lines.body.rows] == ["agrees", "differs", "cannot be compared: not measured"]
    assert choices.body.texts == (
        "Our choice: attack.eps = 8/255. Not stated.",
        "Not as in the paper: Half precision.",
    )
    assert in_words(made) == (
        "table 1: 3 published numbers, 1 agrees, 1 differs, 1 cannot be compared; see paper.csv",
    )


def test_at_the_small_size_numbers_are_shown_without_a_verdict(source):
    made = source(
        record("net", 0.5, data="digits"), reported=[{"model": "net", "value": 90.0}], scale="small"
    )
    (table,) = sections(made)
    assert table.body.rows == (("net", "90.00 / 50.00"),)
    assert "the small size, on digits" in table.note and "=: agrees" not in table.note
    assert "without a verdict" in in_words(made)[0]


def test_a_run_without_a_paper_says_nothing_and_an_unreadable_one_says_so(source, tmp_path):
    made = source(record("net", 0.5))
    (tmp_path / "run" / "experiment.toml").write_text("name = 'plain'")
    assert list(sections(made)) == []
    (tmp_path / "run" / "experiment.toml").write_text("[paper]\ntitle = 3")
    (one,) = sections(made)
    assert "The experiment file of run cannot be read" in one.body.texts[0]


HOSTILE = "<script>alert(1)</script> \\input{/etc/passwd} =cmd() | **x**"


def test_hostile_texts_come_out_escaped_in_every_format(source, tmp_path):
    texts = {
        "title": HOSTILE + "\n" + "long " * 40,
        "table": "=cmd()",
        "notes": [HOSTILE],
        "differs": ["$x_1$ & 5 %"],
    }
    reported = [{"model": "net", "value": 90.0, "row": HOSTILE, "column": "=2+3", "footnote": HOSTILE}]
    source(*seeds(0.9, 0.901, 0.9), reported=reported, **texts)
    out = tmp_path / "report"
    written = reports.write([tmp_path / "run"], out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "alert(1)" in page and "<script>alert(1)" not in page
    tables = [path for path in (out / "tables").glob("*.tex") if "passwd" in path.read_text(encoding="utf-8")]
    assert tables
    assert not any("\\input{/etc" in path.read_text(encoding="utf-8") for path in tables)
    with (out / "paper.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["column"] == "'=2+3" and row["table"] == "'=cmd()" and float(row["paper_value"]) == 90
    assert float(row["low"]) < float(row["difference"]) < float(row["high"])
    assert written.paper and "1 agrees" in written.paper[0]
    assert "<script>" not in (out / "table.md").read_text(encoding="utf-8")
