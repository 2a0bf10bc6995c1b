"""The commands end to end, on models of a dozen lines."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from robust_eval import registry
from robust_eval.config.experiment import named_experiments
from robust_eval.identity import file_sha256
from robust_eval.registry import build
from robust_eval.results.store import Store

OWN = ("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--checks", "off")
FAST = ("--set", "cw.steps=2", "--set", "cw.binary_search_steps=2", "--set", "pgd.steps=2")
WORDS = (
    "model",
    "arch",
    "regularizer",
    "defense",
    "access",
    "data",
    "family",
    "perturbation",
    "norm",
    "checks",
    "key",
)
COLUMNS = [
    "model", "arch", "regularizer", "defense", "access", "data", "family", "perturbation", "params", "norm",
    "eps", "severity", "metric", "value", "ci_low", "ci_high", "n", "seed", "train_seed", "seconds", "checks", "key",
]  # fmt: skip
EXPERIMENT = """
name = "tiny"
draws = 2

[data]
name = "data.npz"

[recipe]
architecture = { name = "small_cnn", width = 2 }
epochs = 1
validation = 0

[[train]]
regularizer = "erm"

[[attack]]
name = "fgsm"
"""


def results(folder):
    return pd.read_csv(Path(folder) / "report/results.csv", keep_default_na=False)


def cells(folder):
    return [record.labels for record in Store(Path(folder)).records()]


def test_all_six_attacks_and_the_clean_cell_are_the_default(done):
    out = done(*OWN, *FAST, "--out", "out")
    found = results("out")
    assert set(found["perturbation"]) >= {"none", "fgsm", "bim", "mim", "pgd", "cw", "deepfool"}
    clean = found[found["family"] == "clean"].iloc[0]
    assert (clean["metric"], clean["n"], clean["access"]) == ("accuracy", 12, "none")
    bounded = found[found["perturbation"] == "pgd"]
    assert set(bounded["norm"]) == {"linf"} and float(bounded["eps"].iloc[0]) == pytest.approx(8 / 255)
    cw = found[found["perturbation"] == "cw"]
    assert set(cw["metric"]) >= {"accuracy", "median_distance"} and "0.5" in set(cw["eps"].astype(str))
    assert "8 cells" in out and "report: out/report/index.html" in out
    assert Path("out/report/index.html").exists() and Path("out/report/table.md").exists()


def test_the_long_table_has_its_columns_and_a_word_wherever_one_is_meant(done):
    done(
        *OWN,
        "--attacks",
        "fgsm,deepfool",
        "--corruptions",
        "fog",
        "--defenses",
        "sum_augmentation",
        "--out",
        "out",
    )
    found = results("out")
    assert list(found.columns)[: len(COLUMNS)] == COLUMNS
    for column in WORDS:
        assert not (found[column].astype(str).str.strip() == "").any(), column
    assert set(found["regularizer"]) == {"unknown"} and set(found["arch"]) == {"make"}
    assert set(found["family"]) == {"clean", "attack", "corruption"}
    assert {"none", "transfer", "adaptive"} <= set(found["access"])
    assert all(isinstance(json.loads(text), dict) for text in found["params"])
    accuracies = found[found["metric"] == "accuracy"].astype(
        {"value": float, "ci_low": float, "ci_high": float}
    )
    assert accuracies[["value", "ci_low", "ci_high"]].stack().between(0, 1).all()


def test_radii_go_to_the_attacks_of_their_norm_and_fields_are_set(done):
    eps = ("--eps", "4/255", "--eps", "linf:0.1", "--eps", "l2:1")
    done(
        *OWN,
        "--attacks",
        "pgd,deepfool",
        *eps,
        "--set",
        "pgd.steps=2",
        "--set",
        "deepfool.steps=5",
        "--out",
        "out",
    )
    found = {(c["perturbation"], c["norm"], c["eps"]) for c in cells("out")}
    assert found == {
        ("none", "none", None),
        ("pgd", "linf", 4 / 255),
        ("pgd", "linf", 0.1),
        ("pgd", "l2", 1.0),
        ("deepfool", "l2", None),
    }
    assert {c["params"].get("steps") for c in cells("out")} == {None, 2, 5}
    (deepfool,) = [r for r in Store(Path("out")).records() if r.labels["perturbation"] == "deepfool"]
    assert [m.eps for m in deepfool.summary if m.metric == "accuracy"] == [1.0]


def test_all_and_none_are_names_of_every_and_no_method(done):
    done(
        *OWN,
        "--attacks",
        "none",
        "--corruptions",
        "all",
        "--severity",
        "1",
        "--severity",
        "5",
        "--out",
        "out",
    )
    found = {(c["perturbation"], c["severity"]) for c in cells("out")}
    shapes = {"rotation", "shear", "scale"}  # which have no severity
    severe = set(registry.names("corruption")) - shapes
    assert found == {("none", None), *((n, None) for n in shapes), *((n, s) for n in severe for s in (1, 5))}
    assert "fgsm(" in done("list", "attack")
    out = done(*OWN, "--attacks", "all", "--defenses", "all", "--dry-run")
    assert all(name in out for name in (*registry.names("attack"), *registry.names("defense")))


def test_a_defense_mixes_with_the_training_images_of_the_file_or_with_a_pool(done):
    flags = ("--attacks", "none", "--defenses", "sum_augmentation", "--set", "sum_augmentation.copies=2")
    done(*OWN, *flags, "--out", "of_file")
    done(*OWN, *flags, "--pool", "bare.npz", "--pool", "data.npz", "--out", "named")
    done(
        "evaluate",
        "--arch",
        "net.py:make",
        "--data",
        "bare.npz",
        "--pool",
        "data.npz",
        *flags,
        "--out",
        "other",
    )
    specs = [{r.spec["pool"] for r in Store(Path(run)).records()} for run in ("of_file", "named", "other")]
    assert specs[0] == specs[1] == specs[2]
    assert None in specs[0] and len(specs[0]) == 2  # the plain cell knows of no pool


def test_a_second_run_finds_every_record_and_new_flags_add_to_it(done):
    done(*OWN, "--attacks", "fgsm", "--out", "out")
    before = {path: path.read_bytes() for path in Path("out/records").rglob("*.*")}
    assert "2 cells, 2 have a record" in done(*OWN, "--attacks", "fgsm", "--out", "out")
    assert "3 cells, 2 have a record" in done(*OWN, "--attacks", "fgsm,bim", "--out", "out")
    assert before.items() <= {path: path.read_bytes() for path in Path("out/records").rglob("*.*")}.items()
    assert "3 cells, 3 have a record" in done("run", "out", "--allow-imports")
    assert "3 cells, 3 have a record" in done("run", "--out", "out", "--allow-imports")


def test_the_same_flags_give_the_same_keys_from_another_folder(done, work, monkeypatch):
    done(*OWN, "--attacks", "fgsm", "--out", "out")
    Path("below").mkdir()
    monkeypatch.chdir(work / "below")
    paths = ("--arch", "../net.py:make", "--data", "../data.npz")
    flags = ("--attacks", "fgsm", "--checks", "off", "--out", "../out")
    assert "2 cells, 2 have a record" in done("evaluate", *paths, *flags)
    assert "2 cells, 2 have a record" in done("run", "../out", "--allow-imports")


@pytest.mark.parametrize(
    ("factory", "check", "verdict"), [("probabilities", "logits", "warn"), ("nan", "finite", "fail")]
)
def test_a_model_that_returns_no_logits_is_flagged(done, factory, check, verdict):
    out = done(
        "evaluate", "--arch", f"net.py:{factory}", "--data", "data.npz", "--attacks", "none", "--out", "out"
    )
    (record,) = [each for each in Store(Path("out")).records() if each.labels["family"] == "clean"]
    assert (check, verdict) in {(c.name, c.verdict) for c in record.checks}
    assert f"{verdict}: {check} " in out and f": {factory} (2 of 2 record" in out
    assert check in results("out")["checks"].iloc[0]


def test_a_dry_run_prints_cells_and_keys_and_creates_nothing(done, work):
    Path("tiny.toml").write_text(EXPERIMENT)
    before = set(work.rglob("*"))
    out = done("run", "tiny.toml", "--dry-run")
    cost, *lines = out.splitlines()
    assert cost.startswith("evaluations at most: 28 to train 1 model, 96 forward passes")
    assert [line.split(maxsplit=3)[1:] for line in lines[:3]] == [
        ["to", "do", "erm · clean"],
        ["to", "do", "erm · quick checks"],
        ["to", "do", "erm · fgsm linf 8/255"],
    ]
    assert lines[3] == "3 cells"
    assert {path for path in work.rglob("*") if "__pycache__" not in path.parts} <= before
    done("run", "tiny.toml", "--out", "out")
    keys = {record.key for record in Store(Path("out")).records()}
    assert {line.split()[0] for line in lines[:3]} == keys
    assert "done " in done("run", "tiny.toml", "--out", "out", "--dry-run")


def test_a_failing_cell_is_told_and_the_exit_code_is_one(cli):
    outcome = cli(
        "evaluate", "--arch", "net.py:Small", "--data", "data.npz", "--attacks", "fgsm", "--out", "out"
    )
    assert outcome.code == 1 and not outcome.out
    assert "failed: 3 cells: RuntimeError: too many images" in outcome.err
    assert "tracebacks: out/failed" in outcome.err
    notes = [json.loads(path.read_text()) for path in Path("out/failed").iterdir()]
    assert len(notes) == 3 and all("Traceback" in note["error"] for note in notes)
    assert not Path("out/report").exists()


def test_torchrun_shares_out_training_alone(cli, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = cli(
        "evaluate", "--arch", "net.py:make", "--data", "data.npz", "--attacks", "fgsm", "--out", "out"
    )
    assert outcome.code == 2
    assert "expected one process, got 2 from torchrun; only `train` is shared out among them" in outcome.err


def test_a_trained_model_has_a_card_and_is_the_same_for_the_same_seed(done, cli):
    train = ("train", "--regularizer", "mixup", "--arch", "small_cnn", "--data", "data.npz", "--epochs", "1")
    fields = ("--set", "small_cnn.width=2", "--set", "recipe.validation=0", "--set", "mixup.alpha=0.5")
    normal = ("--set", "recipe.mean=[0.5]", "--set", "recipe.std=[0.25]")
    paths = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        printed = done(*train, *fields, *normal, "--seed", seed, "--out", out)
        (path,) = Path(out).rglob("*.safetensors")
        assert f"weights: {path}" in printed and f"robust-eval evaluate {path} --data data.npz" in printed
        paths.append(path)
    first, again, other = map(file_sha256, paths)
    assert first == again != other
    card = json.loads(paths[0].with_suffix(".json").read_text())
    fields = {"alpha": 0.5, "criterion": "ce", "label_smoothing": 0.0}
    assert card["sha256"] == first and card["recipe"]["regularizer"]["params"] == fields
    assert (card["channels"], card["classes"], card["mean"], card["std"]) == (1, 3, [0.5], [0.25])

    # the card says how to load it
    done("evaluate", paths[0], "--data", "data.npz", "--attacks", "none", "--checks", "off", "--out", "out")
    (record,) = Store(Path("out")).records()
    labels = {name: record.labels[name] for name in ("model", "arch", "regularizer", "train_seed")}
    assert labels == {"model": "mixup", "arch": "small_cnn", "regularizer": "mixup", "train_seed": 0}
    assert record.spec["model"]["mean"] == [0.5] and record.spec["model"]["weights"] == first

    paths[0].write_bytes(paths[2].read_bytes())
    outcome = cli("evaluate", paths[0], "--data", "data.npz", "--out", "mixed_up")
    assert (
        outcome.code == 2 and "expected weights with sha256" in outcome.err and not Path("mixed_up").exists()
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_of_ones_own_is_evaluated_with_its_normalisation(done, suffix):
    network = build("architecture", "small_cnn", {"width": 2}).build(channels=1, classes=3)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    if suffix == ".pt":
        torch.save({"state_dict": state, "epoch": 3}, "own.pt")
    else:
        from safetensors.torch import save_file

        save_file(state, "own.safetensors")
    flags = ("--arch", "small_cnn", "--set", "small_cnn.width=2", "--data", "data.npz", "--attacks", "fgsm")
    done("evaluate", f"own{suffix}", *flags, "--mean", "0.5", "--std", "0.25", "--n", "5")
    records = list(Store(Path("runs/own")).records())
    assert len(records) == 3 and {r.spec["data"]["n"] for r in records} == {5}
    assert {r.labels["model"] for r in records} == {"own"} and {r.labels["regularizer"] for r in records} == {
        "unknown"
    }
    assert records[0].spec["model"]["std"] == [0.25]


def test_an_experiment_runs_from_its_file_to_its_report(done):
    Path("tiny.toml").write_text(EXPERIMENT)
    out = done("run", "tiny.toml")
    assert "trained erm" in out and "[3/3]" in out and "report: runs/tiny/report/index.html" in out
    assert {"erm"} == set(results("runs/tiny")["regularizer"])
    assert len(list(Path("runs/tiny/checkpoints").iterdir())) == 2
    again = done("run", "tiny.toml")
    assert "3 cells, 3 have a record" in again and "trained" not in again


def test_a_report_joins_several_runs_and_computes_nothing(done):
    done(*OWN, "--attacks", "fgsm", "--out", "a")
    done("evaluate", "--arch", "net.py:ten", "--data", "data.npz", "--attacks", "none", "--out", "b")
    report = Path("a/report/results.csv").read_bytes()
    done("report", "a")
    assert Path("a/report/results.csv").read_bytes() == report
    out = done("report", "a", "b", "--out", "joint")
    assert "make" in out and "ten" in out and "joint/index.html" in out
    assert set(pd.read_csv("joint/results.csv")["model"]) == {"make", "ten"}


def test_a_damaged_record_is_one_clear_line(cli, done):
    done(*OWN, "--attacks", "none", "--out", "out")
    (path,) = Path("out/records").rglob("*.json")
    path.write_text("{")
    outcome = cli("report", "out")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: record {path}: cannot be read") and outcome.err.count("\n") == 1
    again = done(*OWN, "--attacks", "none", "--out", "out")
    assert f"record {path}: cannot be read" in again and "it is measured again" in again
    done("report", "out")


def test_everything_registered_is_listed_with_its_fields_and_card(done):
    out = done("list")
    for kind in ("attack", "corruption", "defense", "regularizer", "architecture", "data"):
        assert f"{kind}:\n" in out
        assert all(f"  {name}(" in out for name in registry.names(kind))
        assert done("list", kind).startswith(f"{kind}:\n")
    assert all(f"  {name}" in out for name in named_experiments())
    assert "steps=40" in out
    card = registry.card("attack", "pgd").splitlines()[0]
    assert card not in out and card in done("list", "attack", "--long")


def test_help_and_no_arguments_exit_cleanly(done):
    assert "evaluate" in done() and "evaluate" in done("--help")
    assert "--eps" in done("evaluate", "--help")


def test_an_interrupted_command_says_that_it_can_go_on(cli, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robust_eval.config.plan.plan", interrupt)
    outcome = cli(*OWN, "--out", "out")
    assert outcome.code == 130 and outcome.err.startswith("stopped: ")
