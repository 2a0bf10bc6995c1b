"""The long table, with rows and from summaries alone."""

from dataclasses import replace

import pytest
import torch

import defenses  # noqa: F401 - registers the methods
from robust_eval import attack
from robust_eval.data import Examples
from robust_eval.models.source import OwnModel
from robust_eval.results.cell import Cell, Data
from robust_eval.results.load import load
from robust_eval.results.store import Store
from robust_eval.run.worker import Job, work


class Bright(torch.nn.Module):
    """Two classes: dark and bright images."""

    def forward(self, x):
        bright = x.flatten(1).mean(1, keepdim=True) - 0.5
        return torch.cat([-bright, bright], 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pixels = torch.linspace(0, 255, 40).to(torch.uint8)[:, None, None, None].expand(40, 1, 4, 4).contiguous()
    data = Data("shades", Examples(pixels, (pixels[:, 0, 0, 0] > 127).long(), 2))
    model = OwnModel("bright", Bright(), "bright", {"weights": "a"}, "0" * 64)
    cells = [
        Cell(model, data, each) for each in (None, attack("fgsm", eps=0.1), attack("pgd", eps=0.1, steps=2))
    ]
    outcome = work(Job(tuple(cells), folder, train=lambda *_, **__: None))
    assert not outcome.failed
    return folder


def test_summaries_give_every_measured_number_and_nothing_that_takes_rows(run):
    whole, short = load([run]).results, load([run], rows=False).results
    measured = whole[(whole["key"] != "none") & ~whole["metric"].str.contains("calibration|confidence_gap")]
    shown = ["perturbation", "norm", "eps", "metric", "value", "ci_low", "ci_high", "n", "key"]
    assert short[shown].reset_index(drop=True).equals(measured[shown].reset_index(drop=True))
    assert (whole["perturbation"] == "worst_case").any()


def test_summaries_are_read_without_their_rows(run, tmp_path):
    for path in run.rglob("*.json"):
        there = tmp_path / path.relative_to(run)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    assert len(load([tmp_path], rows=False).results) and all(
        len(r.rows) == 0 for r in Store(tmp_path).records(rows=False)
    )


def test_names_of_others_are_made_printable_when_they_are_read(run, tmp_path):
    raw = "net\x1b[31m\0"
    for record in Store(run).records():
        renamed = {**record.labels, "model": raw, "data": raw, "params": {"path": raw}}
        Store(tmp_path).write(
            replace(record, labels=renamed, provenance={**record.provenance, "device": raw})
        )
    Store(tmp_path).fail("0" * 64, {**renamed, "family": "examination"}, f"{raw}\n{raw}")
    loaded = load([tmp_path])
    assert set(loaded.results["model"]) == {"net\\x1b[31m\\x00"}
    shown = [loaded.results.to_csv(), *(f"{e.labels} {e.record}" for e in loaded.entries), str(loaded.failed)]
    assert not any("\x1b" in text or "\0" in text for text in shown)
    assert load([run]).results["value"].equals(loaded.results["value"])
