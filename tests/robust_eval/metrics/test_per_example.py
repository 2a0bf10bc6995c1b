"""A metric of single answers is a function and a line: its column, its number and its words follow."""

import pytest
import torch

from robust_eval import corruption
from robust_eval.data import Examples
from robust_eval.metrics.per_example import PER_EXAMPLE, PerExample, per_example
from robust_eval.models.source import OwnModel
from robust_eval.results.cell import Cell, Data
from robust_eval.results.store import Store
from robust_eval.run.worker import Job, work


class Bright(torch.nn.Module):
    def forward(self, x):
        bright = x.flatten(1).mean(1, keepdim=True) - 0.5
        return torch.cat([-bright, bright], 1)


def test_a_new_metric_is_a_column_and_a_number_of_every_cell(tmp_path, monkeypatch):
    def entropy(probabilities, y):
        return -(probabilities * probabilities.log()).sum(1)

    monkeypatch.setitem(PER_EXAMPLE, "entropy", PerExample(entropy, "entropy in nats"))
    pixels = torch.linspace(0, 255, 12).to(torch.uint8)[:, None, None, None].expand(12, 1, 4, 4).contiguous()
    data = Data("shades", Examples(pixels, (pixels[:, 0, 0, 0] > 127).long(), 2))
    model = OwnModel("bright", Bright(), "bright", {"weights": "a"}, "0" * 64)
    cells = [Cell(model, data), Cell(model, data, corruption("brightness", severity=3))]
    assert not work(Job(tuple(cells), tmp_path, train=lambda *_, **__: None)).failed
    for record in Store(tmp_path).records():
        (number,) = [m for m in record.summary if m.metric == "entropy"]
        assert number.value == pytest.approx(record.rows["entropy"].mean()) and 0 < number.value < 0.7
        assert number.ci_low < number.value < number.ci_high


def test_every_metric_gives_a_column_for_answers_that_are_not_finite():
    p = torch.tensor([[0.2, 0.8], [float("nan"), 0.5]])
    columns = per_example(p, torch.tensor([0, 0]))
    assert list(columns) == list(PER_EXAMPLE) == ["nll", "brier", "rank"]
    assert all(column.isfinite().all() and len(column) == 2 for column in columns.values())
    assert columns["brier"].tolist() == pytest.approx([1.28, 2.0]) and columns["rank"].tolist() == [1, 1]
