"""Every shipped experiment runs from its file to its report: at a tiny size, on digits.

`pytest -n 0 -m experiments tests/robust_eval/cli/test_shipped_experiments.py` runs them all; the suite runs one.
"""

from pathlib import Path

import pytest
import tomli_w

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from reports.published import beside
from robust_eval.config.experiment import named_experiments, parse
from robust_eval.config.paper import TRAINING
from robust_eval.config.plan import plan
from robust_eval.config.scale import scaled, sizes
from robust_eval.config.shipped import shipped
from robust_eval.results.load import load

QUICK = ("mixup_fgsm",)
ORDERS = {"per_class": 4, "batch_size": 4, "epochs": 2, "clusters": 2}
"""Of the analysis of all orders: two batches of two classes."""


def tiny(name, size=None):
    """Return the tables of an experiment with all of its methods, on few images and for one pass."""
    tables = scaled(shipped(name), size, where=name)
    noise = tables["data"].get("label_noise", 0.0)
    tables["data"] = {"name": "digits", "n": 6, "per_class": 10, "label_noise": noise}
    less = {"epochs": 1, "batch_size": 18, "seeds": [0]}
    if "recipe" in tables:
        tables["recipe"] = {**tables["recipe"], **less}
        tables["recipe"] |= {key: [0.5] for key in ("mean", "std") if key in tables["recipe"]}
    amounts, tried = [], []
    least = min((t["epochs"] for t in tables.get("train", ()) if "epochs" in t), default=0)
    for table in tables.get("train", ()):
        if "epochs" in table:
            table["epochs"] = 2 if table["epochs"] == least else 3
        if "k" in (curriculum := table.get("curriculum", {})):
            tried.append(curriculum["k"])
            curriculum["k"] = 2 + sorted(set(tried)).index(curriculum["k"])
        if "per_class" in (own := table.get("data", {})):
            amounts.append(own["per_class"])
            own["per_class"] = 5 + sorted(set(amounts)).index(own["per_class"])
    for table in tables.get("attack", ()):
        table |= {key: table[key][:1] for key in ("eps",) if isinstance(table.get(key), list)}
        table |= {"std": [0.25]} if "std" in table else {}
        table |= {"steps": 2} if table["name"] in ("pgd", "cw", "ddn", "deepfool") else {}
    for table in tables.get("defense", ()):
        table |= {"copies": 2} if table["name"] == "sum_augmentation" else {"samples_ol": 2}
    for table in tables.get("analysis", ()):
        table |= ORDERS if table["name"] == "perfect_order" else {}
        table |= {"other": ["uniform"]} if "other" in table else {}
    tables["corruption"] = tables.get("corruption", [])[:2]
    tables["checks"] = "off"
    return tables


def ends_in_a_report(name, done):
    Path("tiny.toml").write_text(tomli_w.dumps(tiny(name)))
    done("run", "tiny.toml", "--out", "out")
    assert Path("out/report/index.html").is_file()
    paper = parse(tiny(name), where=name, folder=Path()).frame.paper
    if paper is None or not paper.numbers:
        return
    assert Path("out/report/paper.csv").is_file()
    loaded = load([Path("out")])
    models = {str(entry.record.labels["model"]) for entry in (*loaded.entries, *loaded.analyses)}
    for each in beside(paper, (*loaded.entries, *loaded.analyses)):
        there = each.reported.model in models and not each.reported.cannot
        passes = 1 if each.reported.perturbation == TRAINING else ORDERS["epochs"]
        later = (each.reported.epoch or 0) > passes
        assert each.mean is not None or not there or later, each


@pytest.mark.parametrize("name", QUICK)
def test_an_experiment_of_a_paper_ends_in_a_report_with_each_of_its_numbers(name, done, undrawn):
    ends_in_a_report(name, done)


@pytest.mark.experiments
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(set(named_experiments()) - set(QUICK)))
def test_every_experiment_ends_in_a_report_with_each_of_its_numbers(name, done, undrawn):
    ends_in_a_report(name, done)


@pytest.mark.experiments
@pytest.mark.parametrize("name", [name for name in named_experiments() if sizes(shipped(name))])
def test_every_full_experiment_can_be_planned(name):
    assert plan(parse(tiny(name, "full"), where=name, folder=Path()))


def test_experiments_are_listed_with_their_paper_their_data_and_their_cost(done):
    out = done("list", "experiments")
    assert (
        "mixup_cifar10\n      mixup: Beyond Empirical Risk Minimization, table of CIFAR-10, https://arxiv"
        in out
    )
    assert "--scale small: digits; " in out and "--scale full: cifar10; 120 million to train 12 models" in out
    assert "https://arxiv.org/abs/1710.09412" not in done("list")


def test_a_dry_run_of_a_set_that_is_not_here_tells_the_cost_and_fetches_nothing(done, monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUST_EVAL_DATA", str(tmp_path / "none"))
    out = done("run", "cascading_sum_cifar10", "--scale", "full", "--dry-run")
    assert "242 million to train 72 models" in out and "cells are known once cifar10 is here" in out
    assert not (tmp_path / "none").exists() and not Path("runs").exists()
