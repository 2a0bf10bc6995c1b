"""What MLflow keeps: a run for each model, one in it for each cell, and doubts as tags."""

import sys

import pytest

import reports
from reports.exports.card import card_of
from reports.exports.mlflow import _NO_NAME, log, tracked
from robust_eval.errors import ConfigError
from robust_eval.findings import Check, Measurement
from robust_eval.results.store import Store

from .conftest import HOSTILE, clean, record

WARN = Check("convergence", "warn", 0.07, "run with twice the steps")
HALF = (1, 1, 1, 0, 0, 0, 0, 0)


def runs(of, *records, **fields):
    source, folders, _ = of(*records, **fields)
    return tracked(source, card_of(source, folders))


def test_a_model_has_the_numbers_that_decide_and_its_cells_theirs(of):
    (run,) = runs(of, clean(), record(score=HALF, params={"steps": 40}, checks=[WARN]))
    assert run.metrics["clean accuracy"] == 6 / 8
    assert run.metrics["worst_case linf 8/255 accuracy"] == 3 / 8
    assert run.metrics["worst_case linf 8/255 accuracy ci_low"] < 3 / 8
    assert run.tags["verdict.worst_case linf 8/255 accuracy"] == run.tags["verdict"] == "warn"
    plain, attacked = run.children
    assert plain.metrics["accuracy"] == 6 / 8 and plain.tags["verdict"] == "ok"
    assert attacked.metrics["accuracy"] == 3 / 8 and attacked.params["params.steps"] == "40"
    assert (attacked.tags["verdict"], attacked.tags["checks"]) == ("warn", "convergence")


def test_what_has_no_number_is_no_metric(of, tmp_path):
    Store(tmp_path / "run").fail("f" * 64, record("other").labels, "RuntimeError: no memory")
    absent = record(summary=[Measurement("median_distance", None, 0.4, None, 8)])
    net, other = runs(of, clean(), absent, clean("other"))
    assert "median_distance" not in net.children[1].metrics
    assert net.children[1].metrics["median_distance_ci_low"] == 0.4
    assert not any("worst_case" in name for name in other.metrics)
    failed = other.children[-1]
    assert failed.failed and failed.metrics == {} and failed.tags["error"] == "RuntimeError: no memory"


def test_hostile_names_are_names_that_mlflow_takes(of):
    (run,) = runs(of, clean(HOSTILE), record(HOSTILE, params={"../../x$": "y" * 9000}))
    for each in (run, *run.children):
        for name in (*each.params, *each.metrics, *each.tags):
            assert not _NO_NAME.search(name) and ".." not in name and not name.startswith("/")
        assert all(len(value) <= 500 for value in each.params.values())


def test_without_mlflow_one_line_says_how_to_get_it_and_nothing_is_written(of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _, _, folder = of(clean())
    with pytest.raises(ConfigError, match=r"pip install 'robust-eval\[mlflow\]'"):
        reports.write([folder], tmp_path / "out", exports=["mlflow"])
    assert not (tmp_path / "out").exists()


def test_an_export_that_there_is_not_is_one_line_with_the_near_name(of, tmp_path):
    _, _, folder = of(clean())
    with pytest.raises(ConfigError, match=r"'robustbensh': no such export \(did you mean 'robustbench'\?\)"):
        reports.write([folder], tmp_path / "out", exports=["robustbensh"])


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return pytest.importorskip("mlflow", reason="MLflow is not installed: pip install '.[mlflow]'")


@pytest.mark.filterwarnings("ignore")
def test_a_local_store_holds_what_was_logged_once(mlflow, of, tmp_path):
    Store(tmp_path / "run").fail(
        "f" * 64, record().labels | {"perturbation": "square"}, "RuntimeError: no memory"
    )
    _, _, folder = of(clean(), record(score=HALF, checks=[WARN]))
    first = reports.write([folder], tmp_path / "out", exports=["mlflow"])
    again = reports.write([folder], tmp_path / "out", exports=["mlflow"])
    assert "1 model logged to file://" in first.told[-1]
    assert "0 models logged" in again.told[-1] and "1 there already" in again.told[-1]
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "out/exports/mlruns").as_uri())
    place = client.get_experiment_by_name("robust-eval: run").experiment_id
    found = client.search_runs([place])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics["worst_case linf 8/255 accuracy"] == 3 / 8
    assert parent.info.run_name == "net" and parent.info.status == "FINISHED"
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(found) == 4 and len(children) == 3
    (attacked,) = client.search_runs([place], "tags.verdict = 'warn' and tags.`mlflow.parentRunId` != ''")
    assert attacked.data.metrics["accuracy"] == 3 / 8 and attacked.data.params["eps"] == "8/255"
    (failed,) = client.search_runs([place], "attributes.status = 'FAILED'")
    assert failed.data.metrics == {} and "no memory" in failed.data.tags["error"]


@pytest.mark.filterwarnings("ignore")
def test_a_place_that_takes_no_runs_is_one_line(mlflow, of, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(ConfigError, match="nonsense://x takes no runs") as told:
        log(runs(of, clean()), "x", tmp_path)
    assert "\n" not in str(told.value)
