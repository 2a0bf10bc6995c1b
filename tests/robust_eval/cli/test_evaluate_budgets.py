"""``evaluate --budget``, what a run costs, and attacks behind a prefix, from the command line to the report."""

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file

from robust_eval.config.budgets import BUDGETS
from robust_eval.registry import build
from robust_eval.results.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def refused(cli):
    """Run a command that must be refused with one line; return it."""

    def run(*arguments):
        outcome = cli(*arguments)
        assert outcome.code == 2 and not outcome.out and not Path("out").exists(), outcome
        (line,) = outcome.err.splitlines()
        return line.removeprefix("error: ")

    return run


def attacks(folder="out"):
    return [r.labels for r in Store(Path(folder)).records() if r.labels["family"] == "attack"]


def listed(out):
    """The perturbations of a dry run."""
    return [line.rpartition("· ")[2].split(" ")[0] for line in out.splitlines() if "to do" in line]


def test_a_budget_runs_its_attacks_and_prints_their_parameters_first(done, own):
    out = done(*own, "--budget", "quick", "--eps", "linf:4/255", "--eps", "l2:1")
    assert {labels["perturbation"] for labels in attacks()} == {table["name"] for table in BUDGETS["quick"]}
    assert {labels["params"]["steps"] for labels in attacks() if labels["perturbation"] == "pgd"} == {10}
    before = out[: out.index("[1/")].splitlines()
    assert before[0] == "attacks, by the budget quick:"
    said = [[part.strip() for part in line.split("  ") if part] for line in before[1:6]]
    assert [line[:2] for line in said] == [
        ["fgsm", "linf 4/255"],
        ["fgsm", "l2 1"],
        ["pgd", "linf 4/255"],
        ["pgd", "l2 1"],
        ["deepfool", "smallest l2, at 1"],
    ]
    assert said[2][2].startswith("steps=10, relative_step_size=0.25, restarts=1")


def test_a_field_of_a_budget_can_be_set(done, own):
    out = done(*own, "--budget", "quick", "--set", "pgd.restarts=3", "--set", "pgd.steps=4", "--dry-run")
    assert "steps=4, relative_step_size=0.625, restarts=3" in out


def test_named_attacks_are_added_to_a_budget_and_stand_alone_without(done, own):
    both = done(*own, "--budget", "quick", "--attacks", "bim,pgd", "--dry-run")
    assert listed(both) == ["clean", "fgsm", "pgd", "deepfool", "bim"]
    assert "steps=10, relative_step_size=0.25" in both  # the budget's own
    alone = done(*own, "--attacks", "bim", "--dry-run")
    assert listed(alone) == ["clean", "bim"] and "budget" not in alone
    assert listed(done(*own, "--budget", "quick", "--attacks", "none", "--dry-run")) == [
        "clean", "fgsm", "pgd", "deepfool",
    ]  # fmt: skip


def test_without_either_the_budget_is_the_default(done, own):
    out = done(*own, "--dry-run")
    assert "attacks, by the budget default:" in out
    assert listed(out) == ["clean", *(table["name"] for table in BUDGETS["default"])]
    assert not Path("out").exists()


def test_strong_gives_every_norm_to_the_attacks_that_know_it(done, own):
    out = done(*own, "--budget", "strong", "--eps", "8/255", "--eps", "l1:3", "--dry-run").partition("cost")[
        0
    ]
    by_name = {}
    for line in out.splitlines():
        if line.startswith("  "):
            name, threat = [part.strip() for part in line.split("  ") if part][:2]
            by_name.setdefault(name, []).append(threat)
    assert by_name["noise"] == by_name["auto_attack"] == ["linf 8/255", "l1 3"]
    assert by_name["fmn"] == ["smallest linf, at 8/255", "smallest l1, at 3"]
    assert by_name["cw"] == ["smallest l2, at 0.5"]


def test_an_unknown_budget_is_one_line(refused, own):
    assert refused(*own, "--budget", "qick") == (
        "unknown budget 'qick' (did you mean 'quick'?); known: black_box, default, quick, strong"
    )


# What is left out


def test_a_run_says_in_a_line_what_it_leaves_out_and_how_to_have_it_measured(cli, own):
    run = (*own, "--attacks", "pgd,cw,deepfool", "--dry-run")
    defended = (*run, "--defenses", "sum_augmentation,jpeg")

    def said(*arguments):
        return [line for line in cli(*arguments).err.splitlines() if line.startswith("left out")]

    (line,) = said(*defended)
    assert line.startswith("left out: cw, deepfool by transfer to sum_augmentation, jpeg: what just fools")
    assert "--set cw.access=transfer" in line
    (other,) = said(*defended, "--set", "cw.access=transfer")
    assert other.startswith("left out: deepfool by transfer")
    assert not said(*run) and not said(
        *defended, "--set", "cw.access=none", "--set", "deepfool.access=adaptive"
    )


# What it costs


def test_a_long_run_says_what_it_costs_at_most_before_it_starts(done, monkeypatch, own):
    assert "cost at most" not in done(*own, "--budget", "quick", "--dry-run")
    monkeypatch.setattr("robust_eval.cli._said_before.LONG", 0)
    out = done(*own, "--budget", "quick", "--dry-run")
    said = out[out.index("cost at most") : out.index("to do")].splitlines()
    looks = [line for line in said if "five steps of PGD" in line]
    assert len(looks) == 1 and "linf 8/255" in looks[0] and "of 12 images" in looks[0]
    said.remove(looks[0])
    assert [line.split()[0] for line in said[1:-1]] == ["fgsm", "pgd", "deepfool", "scoring", "in"]
    assert said[2].split()[1:5] == ["1", "cell", "120", "gradients"]  # 12 images, 10 steps
    assert "about" in said[-2]
    real = done(*own, "--budget", "quick")
    assert real.index("cost at most") < real.index("[1/4]")
    spent = sum(
        json.loads(p.read_text())["provenance"]["backwards"] for p in Path("out/records").rglob("*.json")
    )
    assert 0 < spent <= 12 + 120 + 12 * 10 * 2
    assert "cost at most" not in done(*own, "--budget", "quick", "--dry-run")  # every cell has its record


def test_a_model_that_cannot_be_asked_fails_in_its_cells_and_not_before(cli):
    outcome = cli(
        "evaluate", "--arch", "net.py:Small", "--data", "data.npz", "--attacks", "fgsm", "--out", "out"
    )
    assert outcome.code == 1 and "failed: 3 cells: RuntimeError: too many images" in outcome.err
    assert outcome.err.splitlines()[0] == "cost not estimated: RuntimeError: too many images"


def test_a_run_is_estimated_in_the_precision_it_will_be_measured_in(done, monkeypatch, own):
    from robust_eval.run import cost

    asked = []

    def estimate(cells, bench):
        prepared = bench.prepare(cells[0])
        how = prepared.execution
        asked.append((how.precision, how.device.type, prepared.batch_size))
        return cost.Estimate((), 0.0)

    monkeypatch.setattr(cost, "estimate", estimate)
    flags = ("--attacks", "fgsm", "--device", "cpu", "--dry-run")
    done(*own, *flags, "--precision", "fp32", "--batch-size", "3")
    done(*own, *flags, "--precision", "bf16", "--batch-size", "4")
    assert asked == [("fp32", "cpu", 3), ("bf16", "cpu", 4)]


def test_lines_of_a_dry_run_that_would_read_alike_show_what_differs(done):
    Path("grid.toml").write_text(
        """
data = { name = "data.npz" }
attack = [{ name = "pgd", steps = 3 }, { name = "pgd", steps = 7 }, "fgsm"]
[recipe]
architecture = { name = "small_cnn", width = 2 }
[[train]]
regularizer = "erm"
seeds = [0, 1]
"""
    )
    lines = [line.partition("to do  ")[2] for line in done("run", "grid.toml", "--dry-run").splitlines()]
    lines = [line for line in lines if line]
    assert len(set(lines)) == len(lines) == 10
    assert any("pgd linf 8/255 (" in line and "steps=7" in line and "train_seed=1" in line for line in lines)
    assert "steps" not in next(line for line in lines if "fgsm" in line)


# Attacks of other libraries, and of a surrogate


def test_an_attack_of_a_library_is_a_cell_like_any_other(done, own):
    pytest.importorskip("foolbox")
    pytest.importorskip("torchattacks")
    flags = (
        "--attacks",
        "foolbox:LinfPGD,torchattacks:Pixle,foolbox:DDNAttack",
        "--eps",
        "4/255",
        "--eps",
        "l2:1",
    )
    fields = ("--set", "foolbox:LinfPGD.steps=3", "--set", "torchattacks:Pixle.restarts=2")
    done(*own, *flags, *fields)
    found = {labels["perturbation"]: labels for labels in attacks()}
    assert set(found) == {"foolbox:PGD", "torchattacks:Pixle", "foolbox:DDNAttack"}
    assert found["foolbox:PGD"]["params"]["steps"] == 3 and found["foolbox:PGD"]["eps"] == 4 / 255
    assert found["torchattacks:Pixle"]["params"]["library"].startswith("torchattacks ")
    table = pd.read_csv("out/report/results.csv")
    pixle = table[(table["perturbation"] == "torchattacks:Pixle") & (table["metric"] == "accuracy")]
    assert sorted(pixle["eps"]) == [pytest.approx(4 / 255), 1.0]  # at the radius asked for, and at any
    assert "foolbox:PGD" in Path("out/report/table.md").read_text()
    assert "4 cells, 4 have a record" in done("run", "out", "--allow-imports")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--attacks", "foolbox:LinfPDG"), ["did you mean 'LinfPGD'?"]),
        (("--attacks", "fulbox:PGD"), ["unknown attack 'fulbox:PGD'", "foolbox:NAME"]),
        (("--attacks", "foolbox:GenAttack"), ["cannot be used here"]),
        (("--attacks", "foolbox:LinfPGD", "--set", "foolbox:LinfPGD.stesp=1"), ["did you mean 'steps'?"]),
        (("--attacks", "foolbox:LinfPGD", "--eps", "l2:1"), ["no attack of this run takes a radius in l2"]),
        (("--attacks", "foolbox:LinfPGD", "--eps", "8"), ["did you mean '8/255'?"]),
        (("--attacks", "transfer:pgd"), ["expected surrogate"]),
        (("--attacks", "transfer:pgd", "--set", "transfer:pgd.surrogate=gone.pt"), ["gone.pt: no such file"]),
        (("--attacks", "transfer:cw"), ["stays within a radius"]),
    ],
)
def test_a_mistake_behind_a_prefix_is_one_line(refused, arguments, words, own):
    pytest.importorskip("foolbox")
    line = refused(*own, *arguments)
    assert not [word for word in words if word not in line], line


def test_a_library_that_is_not_there_is_one_line(refused, monkeypatch, own):
    from robust_eval.attacks.peers import resolve as peers

    monkeypatch.setattr(peers, "installed", dict)
    peers._resolve.cache_clear()
    line = refused(*own, "--attacks", "torchattacks:CW2")
    assert "torchattacks is not installed; pip install 'robust-eval[peers]'" in line


def test_a_surrogates_points_have_one_key_from_any_folder(done, work, monkeypatch, own):
    network = build("architecture", "small_cnn", {"width": 2}).build(channels=1, classes=3)
    save_file(network.state_dict(), "surrogate.safetensors")
    flags = (
        "--attacks",
        "fgsm,transfer:fgsm",
        "--set",
        "transfer:fgsm.architecture={name='small_cnn', width=2}",
    )
    done(*own, *flags, "--set", "transfer:fgsm.surrogate=surrogate.safetensors", "--eps", "0.1")
    (record,) = [r for r in Store(Path("out")).records() if r.labels["perturbation"] == "transfer:fgsm"]
    assert record.spec["perturbation"]["params"]["identity"]["weights"] and record.labels["eps"] == 0.1
    Path("below").mkdir()
    monkeypatch.chdir(work / "below")
    there = ("evaluate", "--arch", "../net.py:make", "--data", "../data.npz", "--checks", "off")
    there += ("--out", "../out", *flags)
    out = done(*there, "--set", "transfer:fgsm.surrogate=../surrogate.safetensors", "--eps", "0.1")
    assert "3 cells, 3 have a record" in out
    assert "3 cells, 3 have a record" in done("run", "../out", "--allow-imports")


def test_the_list_names_what_is_behind_prefixes(done):
    out = done("list", "attack")
    assert "  transfer:NAME (" in out
    pytest.importorskip("foolbox")
    assert "  foolbox:NAME (any of foolbox " in out
