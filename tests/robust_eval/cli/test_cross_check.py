"""``evaluate --cross-check``: other libraries' versions on the same images, and who broke which."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.formats.terminal import agreement_table
from reports.sections.agreement import Agreement, agreements
from robust_eval.results.load import load
from robust_eval.results.store import Store

pytest.importorskip("foolbox")
pytest.importorskip("torchattacks")

pytestmark = pytest.mark.usefixtures("undrawn")


def records(folder="out"):
    return {r.labels["perturbation"]: r for r in Store(Path(folder)).records()}


def rewrite(record, broken, distance=None):
    """Store a record in which just these of the attacked images are broken."""
    rows = record.rows.copy()
    rows["attacked"] = True
    rows["clean_score"] = 1.0
    rows["score"] = np.where(rows["index"].isin(broken), 0.0, 1.0)
    if distance is not None:
        rows["distance"] = np.where(rows["index"].isin(broken), distance, 0.0)
    Store(Path("out")).write(type(record)(**{**vars(record), "rows": rows}))


def test_the_libraries_versions_run_at_the_same_parameters(done, own):
    done(*own, "--attacks", "fgsm,pgd", "--eps", "0.1", "--set", "pgd.steps=6", "--cross-check")
    found = records()
    assert set(found) == {
        "none", "fgsm", "pgd", "foolbox:FGSM", "torchattacks:FGSM", "foolbox:PGD", "torchattacks:PGD",
    }  # fmt: skip
    foolbox, torchattacks = (found[f"{name}:PGD"].labels["params"] for name in ("foolbox", "torchattacks"))
    assert (foolbox["steps"], foolbox["eps"], foolbox["rel_stepsize"]) == (6, 0.1, pytest.approx(2.5 / 6))
    assert (torchattacks["steps"], torchattacks["alpha"]) == (6, pytest.approx(0.1 * 2.5 / 6))
    assert "7 cells, 7 have a record" in done("run", "out", "--allow-imports")


def test_the_smallest_perturbations_are_compared_at_the_same_radii_and_by_their_medians(done, own):
    out = done(
        *own,
        "--attacks",
        "deepfool",
        "--eps",
        "l2:0.05",
        "--eps",
        "l2:3",
        "--set",
        "deepfool.steps=5",
        "--cross-check",
    )
    lines = agreements(load([Path("out")]).entries)
    assert [(line.attack, line.peer, line.strength) for line in lines] == [
        ("deepfool", "foolbox:L2DeepFoolAttack", "l2 0.05"),
        ("deepfool", "foolbox:L2DeepFoolAttack", "l2 3"),
    ]
    assert lines[0].both <= lines[1].both and all(line.distances == lines[0].distances for line in lines)
    assert all(line.n == lines[0].n and line.neither >= 0 for line in lines)
    assert "Median distances are ours / theirs" in " ".join(out.split())


def test_defended_models_are_not_cross_checked(done, own):
    flags = ("--defenses", "sum_augmentation", "--set", "sum_augmentation.copies=2")
    done(*own, "--attacks", "fgsm", *flags, "--cross-check")
    found = [(r.labels["perturbation"], r.labels["defense"]) for r in Store(Path("out")).records()]
    assert {defense for name, defense in found if ":" in name} == {"none"}
    assert ("fgsm", "sum_augmentation") in found


def test_agreement_is_counted_per_image_from_the_rows(done, own):
    done(*own, "--attacks", "fgsm", "--cross-check")
    found = records()
    rewrite(found["fgsm"], [0, 1, 2, 3])
    rewrite(found["foolbox:FGSM"], [2, 3, 4])
    rewrite(found["torchattacks:FGSM"], [0, 1, 2, 3])
    first, second = agreements(load([Path("out")]).entries)
    assert (first.peer, first.n, first.both, first.ours, first.theirs, first.neither) == (
        "foolbox:FGSM", 12, 2, 2, 1, 7,
    )  # fmt: skip
    assert (second.peer, second.both, second.ours, second.theirs) == ("torchattacks:FGSM", 4, 0, 0)
    assert first.distances is None and first.strength == "linf 8/255"


def test_the_report_and_the_console_show_the_table_again_without_running(done, own):
    out = done(*own, "--attacks", "fgsm", "--cross-check")
    assert "only theirs" in out and "torchattacks:FGSM" in out
    again = done("report", "out")
    assert "only theirs" in again
    for name in ("table.md", "index.html"):
        text = Path("out/report", name).read_text()
        assert "Agreement with other libraries" in text and "only theirs" in text
    columns = pd.read_csv("out/report/results.csv")
    assert {"fgsm", "foolbox:FGSM", "torchattacks:FGSM", "worst_case"} <= set(columns["perturbation"])


def test_without_a_counterpart_in_the_run_there_is_no_table(done, own):
    out = done(*own, "--attacks", "fgsm,foolbox:LinfPGD", "--set", "foolbox:LinfPGD.steps=2")
    assert "only theirs" not in out
    assert "Agreement" not in Path("out/report/table.md").read_text()


def test_other_parameters_or_another_radius_are_no_pair(done, own):
    flags = ("--attacks", "pgd,foolbox:LinfPGD", "--set", "pgd.steps=5", "--set", "foolbox:LinfPGD.steps=5")
    done(*own, *flags)
    assert agreements(load([Path("out")]).entries) == []
    done(*own, *flags, "--set", "foolbox:LinfPGD.rel_stepsize=0.5")
    (line,) = agreements(load([Path("out")]).entries)
    assert line.attack == "pgd" and line.peer.startswith("foolbox:PGD")


def test_several_settings_are_paired_with_their_own(done, own):
    for steps in (2, 3):
        done(*own, "--attacks", "pgd", "--set", f"pgd.steps={steps}", "--cross-check")
    lines = agreements(load([Path("out")]).entries)
    assert len(lines) == 4
    for line in lines:
        assert ("steps=2" in line.attack) == ("steps=2" in line.peer) == ("steps=3" not in line.peer)


def test_the_table_fits_a_terminal(capsys):
    from rich.console import Console

    line = Agreement("[red]model", "cw", "foolbox:L2CarliniWagnerAttack", "l2 0.5", 9, 1, 2, 3, (0.25, None))
    Console(width=110).print(agreement_table([line, line._replace(model="other")]))
    printed = capsys.readouterr().out
    assert "[red]model" in printed and "0.25 / not found" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--attacks", "noise"), ["--cross-check", "such as pgd or cw", "got noise"]),
        (("--attacks", "none"), ["--cross-check", "got no attack"]),
        (("--attacks", "pdg"), ["unknown attack 'pdg'"]),
        (("--attacks", "pgd", "--set", "pgd.steps=0"), ["steps: expected >= 1, got 0"]),
    ],
)
def test_what_cannot_be_cross_checked_is_one_line(cli, arguments, words, own):
    outcome = cli(*own, *arguments, "--cross-check")
    assert outcome.code == 2 and not outcome.out and not Path("out").exists()
    (line,) = outcome.err.splitlines()
    assert not [word for word in words if word not in line], line


def test_without_any_library_it_says_what_to_install(cli, monkeypatch, own):
    monkeypatch.setattr("robust_eval.config.options.installed", dict)
    outcome = cli(*own, "--attacks", "pgd", "--cross-check")
    assert outcome.code == 2 and "pip install 'robust-eval[peers]'" in outcome.err
    assert len(outcome.err.splitlines()) == 1
