"""Runs that share names: what differs is told in words, in the order of the runs, beside the baseline asked for."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from robust_eval.registry import build

pytestmark = pytest.mark.usefixtures("undrawn")
OWN = ("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--checks", "off", "--attacks", "fgsm,bim")


def table(folder):
    return pd.read_csv(Path(folder) / "results.csv", keep_default_na=False)


def weights(name, seed):
    torch.manual_seed(seed)
    network = build("architecture", "small_cnn", {"width": 2}).build(channels=1, classes=3)
    torch.save(network.state_dict(), name)


def evaluate(done, checkpoint, out, *more):
    flags = ("--arch", "small_cnn", "--set", "small_cnn.width=2", "--data", "data.npz", "--checks", "off")
    return done("evaluate", checkpoint, *flags, "--attacks", "fgsm", "--name", "ok", "--out", out, *more)


def test_another_number_of_images_is_told_as_such(done):
    done(*OWN, "--out", "out")
    out = done(*OWN, "--out", "out", "--n", "7")
    assert set(table("out/report")["data"]) == {"data (n=12)", "data (n=7)"}
    assert (
        "(n=7)" in out and "[" not in out.split("accuracy in %")[0].split("fgsm", 1)[1].split("report")[0][:0]
    )
    assert "data (n=7)" in Path("out/report/index.html").read_text()


def test_models_of_one_name_are_told_by_their_run_and_keep_its_order(done):
    weights("a.pt", 0)
    weights("b.pt", 1)
    evaluate(done, "a.pt", "second")
    evaluate(done, "b.pt", "first")
    done("report", "second", "first", "--out", "both")
    found = table("both")
    assert list(dict.fromkeys(found["model"])) == ["ok (run=second)", "ok (run=first)"]
    page = Path("both/table.md").read_text()
    assert "beside ok (run=second) on the same 12 images" in page
    done("report", "second", "first", "--out", "both", "--baseline", "ok (run=first)")
    assert "beside ok (run=first) on the same 12 images" in Path("both/table.md").read_text()


def test_in_one_folder_weights_are_told(done):
    weights("a.pt", 0)
    weights("b.pt", 1)
    evaluate(done, "a.pt", "out")
    evaluate(done, "b.pt", "out")
    models = sorted(set(table("out/report")["model"]))
    assert len(models) == 2 and all(name.startswith("ok (weights=") for name in models)


def test_normalisations_are_told(done):
    weights("a.pt", 0)
    evaluate(done, "a.pt", "out")
    evaluate(done, "a.pt", "out", "--mean", "0.5", "--std", "0.25")
    models = set(table("out/report")["model"])
    assert len(models) == 2 and any("mean=[0.5], std=[0.25]" in name for name in models)


def test_a_worst_case_names_its_run(done):
    done(*OWN, "--out", "out")
    found = table("out/report")
    assert set(found[found["perturbation"] == "worst_case"]["run"]) == {"out"}
