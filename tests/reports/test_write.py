"""What is written to the disk: all of a report or nothing, no formulas, what could not be believed is told."""

import csv
import errno
import json
import os
import re

import pandas as pd
import pytest
import torch

import reports
from reports.formats.tex import MADE
from robust_eval import corruption, files
from robust_eval.data import Examples
from robust_eval.errors import DataError, StorageError
from robust_eval.models.source import OwnModel
from robust_eval.results.cell import Cell, Data
from robust_eval.run.worker import Job, work


class Bright(torch.nn.Module):
    def forward(self, x):
        bright = x.flatten(1).mean(1, keepdim=True) - 0.5
        return torch.cat([-bright, bright], 1)


def measured(folder, name="bright"):
    pixels = torch.linspace(0, 255, 12).to(torch.uint8)[:, None, None, None].expand(12, 1, 4, 4).contiguous()
    data = Data("shades", Examples(pixels, (pixels[:, 0, 0, 0] > 127).long(), 2))
    model = OwnModel(name, Bright(), "bright", {"weights": name}, "0" * 64)
    cells = [Cell(model, data), Cell(model, data, corruption("brightness", severity=3))]
    assert not work(Job(tuple(cells), folder, train=lambda *_, **__: None)).failed
    return cells


def test_a_record_that_cannot_be_believed_is_left_out_and_told(tmp_path):
    _, spoilt = measured(tmp_path)
    (path,) = tmp_path.rglob(f"{spoilt.key}.json")
    path.write_text(path.read_text().replace('"accuracy"', '"akkuracy"'))
    written = reports.write([tmp_path], tmp_path / "report")
    (line,) = written.left_out
    assert spoilt.key in line and set(written.results["family"]) == {"clean"}
    for name in ("index.html", "table.md"):
        assert spoilt.key in (tmp_path / "report" / name).read_text()


def test_no_text_in_a_csv_file_is_a_formula(tmp_path):
    names = ['=HYPERLINK("http://x","y")', "+1", "-1", "@sum", "\t=1", "net"]
    for i, name in enumerate(names):
        measured(tmp_path / str(i), name)
    reports.write([tmp_path / str(i) for i in range(len(names))], tmp_path / "report")
    for file in ("results.csv", "classes.csv"):
        with (tmp_path / "report" / file).open(newline="") as opened:
            rows = list(csv.reader(opened))
        assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "@", "\t")]
        assert not [row for row in rows if row[0].startswith("-")]
    read = pd.read_csv(tmp_path / "report" / "results.csv")
    assert "net" in set(read["model"]) and read["value"].dtype == "float64"


def test_a_report_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    measured(tmp_path)
    folder = tmp_path / "report"
    reports.write([tmp_path], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    flush, flushed = os.fsync, []

    def full(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    measured(tmp_path, "another name")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        reports.write([tmp_path], folder, baseline=None)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_tables_of_an_earlier_report_go_and_those_of_the_paper_stay(tmp_path):
    measured(tmp_path)
    tables = tmp_path / "report" / "tables"
    tables.mkdir(parents=True)
    (tables / "of-an-attack.tex").write_text(f"{MADE}\nan attack that is not there any more\n")
    (tables / "mine.tex").write_text("% by hand\n")
    reports.write([tmp_path], tmp_path / "report")
    inputs = re.findall(r"\\input\{tables/(.+?)\}", (tmp_path / "report" / "report.tex").read_text())
    assert {path.name for path in tables.iterdir()} == {*inputs, "mine.tex"}
    assert inputs


def test_a_link_in_the_place_of_the_report_is_not_written_through(tmp_path):
    measured(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="got a link"):
        reports.write([tmp_path / "run"], tmp_path / "run" / "report")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_note_of_a_failure_in_an_older_form_stops_no_report(tmp_path):
    measured(tmp_path)
    (tmp_path / "failed").mkdir(exist_ok=True)
    for i, note in enumerate(
        ({}, [], {"labels": []}, {"labels": {"family": "examination"}}, {"labels": None})
    ):
        (tmp_path / "failed" / f"{i}.json").write_text(json.dumps(note))
    assert len(reports.write([tmp_path], tmp_path / "report").results)
