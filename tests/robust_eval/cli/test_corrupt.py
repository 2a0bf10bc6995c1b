"""``corrupt`` writes what ``evaluate`` measures, goes on where it was stopped, and touches no other files."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import corruption
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.corruptions import _written
from robust_eval.data import open_source
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import Corruption
from robust_eval.models.source import Loaded
from robust_eval.results.cell import Cell
from robust_eval.results.load import load
from robust_eval.results.store import Store

CORRUPT = ("corrupt", "data.npz", "--out", "c")
SEVERITIES = [1, 2, 3, 4, 5]


@pytest.fixture
def refused(cli):
    """Run a command that must be refused; return its lines."""

    def run(*arguments):
        outcome = cli(*arguments)
        assert outcome.code == 2, outcome
        return [line.removeprefix("error: ") for line in outcome.err.splitlines()]

    return run


def contents(folder="c"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != _written.LOCK}


class Shown(nn.Module):
    """Keeps what it is asked about."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(x)
        return torch.zeros(len(x), 10)


def scored(cell):
    """Return the images that a model is scored on: asked after the clean ones."""
    network = Shown()
    evaluate(cell, Workbench(lambda _: Loaded(network, "0"), batch_size=12))
    return network.batches[1]


def test_what_is_written_is_byte_for_byte_what_is_evaluated(done, monkeypatch):
    monkeypatch.setattr(_written, "AT_ONCE", 5 * 64)  # several parts
    done(*CORRUPT, "--corruptions", "gaussian_noise,fog,glass_blur", "--seed", 4)
    tables = {"data": {"name": "data.npz", "corrupted": "c"}, "model": [{"architecture": "net.py:make"}]}
    cells = [c for c in plan(parse(tables, where="test", folder=Path.cwd())) if c.family == "corruption"]
    assert len(cells) == 15
    for cell in cells:
        made = corruption(cell.labels["perturbation"], severity=cell.labels["severity"])
        evaluated = scored(Cell(cell.model, cell.data, made, seed=4))
        read = scored(Cell(cell.model, cell.data, cell.perturbation, seed=9))
        assert torch.equal((evaluated * 255).round().byte(), (read * 255).round().byte())
        assert torch.equal(read, (evaluated * 255).round() / 255)


def test_the_layout_is_that_of_cifar_10_c_and_notes_say_how_it_was_made(done):
    printed = done(*CORRUPT, "--corruptions", "frost,fog", "--n", 10, "--seed", 2)
    fog, labels = (np.load(f"c/{name}.npy") for name in ("fog", "labels"))
    assert (fog.shape, fog.dtype) == ((50, 8, 8, 1), np.uint8)
    assert np.array_equal(labels, np.tile(np.arange(10) % 3, 5))
    notes = json.loads(Path("c/corruptions.json").read_text())
    assert notes["made_by"].startswith("robust-eval ")
    assert notes["seed"] == 2
    examples = open_source("data.npz").test(10)
    assert notes["source"] == {"name": "data", "n": 10, "fingerprint": examples.fingerprint}
    assert notes["types"]["fog"]["severities"]["5"] == {"strength": [1.5, 1.75]}
    assert "not the published photographs" in notes["types"]["frost"]["note"]
    for name in ("fog", "frost"):
        sha256 = hashlib.sha256(Path(f"c/{name}.npy").read_bytes()).hexdigest()
        assert notes["types"][name]["sha256"] == sha256
        assert f"{name:5}  sha256 {sha256}\n" in printed
    assert "next:    robust-eval evaluate CHECKPOINT --data data.npz --n 10 --corrupted c\n" in printed


def test_all_are_those_that_have_severities(done, monkeypatch):
    monkeypatch.setattr(Corruption, "__call__", lambda self, x, *, rng: x)
    done(*CORRUPT, "--n", 2)
    written = {path.stem for path in Path("c").glob("*.npy")} - {"labels"}
    assert {"gaussian_noise", "jpeg_compression", "saturate"} < written
    assert len(written) >= 19
    assert not written & {"rotation", "shear", "scale"}


def test_a_finished_type_is_left_alone_and_a_missing_one_is_written_again(done):
    first = done(*CORRUPT, "--corruptions", "fog,contrast")
    before, times = contents(), Path("c/fog.npy").stat().st_mtime_ns
    Path("c/contrast.npy").unlink()
    second = done(*CORRUPT, "--corruptions", "fog,contrast,saturate")
    assert "(was there)" not in first
    assert [line.split()[0] for line in second.splitlines() if line.endswith("(was there)")] == ["fog"]
    assert Path("c/fog.npy").stat().st_mtime_ns == times
    after = contents()
    assert {name: after[name] for name in ("fog.npy", "contrast.npy", "labels.npy")} == {
        name: before[name] for name in ("fog.npy", "contrast.npy", "labels.npy")
    }
    assert set(json.loads(after["corruptions.json"])["types"]) == {"contrast", "fog", "saturate"}


def test_a_type_made_in_another_way_is_written_again(done):
    done(*CORRUPT, "--corruptions", "fog,contrast")
    again = done(*CORRUPT, "--corruptions", "fog,contrast", "--set", "fog.side=224")
    assert [line.split()[0] for line in again.splitlines() if "(was there)" in line] == ["contrast"]
    notes = json.loads(Path("c/corruptions.json").read_text())
    assert notes["types"]["fog"]["severities"]["1"] == {"side": 224, "strength": [1.5, 2]}


def test_a_stopped_run_leaves_whole_files_only_and_goes_on(cli, done, monkeypatch):
    blocks = _written._blocks

    def stopped(corruptions, examples, seed):
        for i, block in enumerate(blocks(corruptions, examples, seed)):
            if type(corruptions[0]).__name__ == "Fog" and i == 3:
                raise KeyboardInterrupt
            yield block

    done("corrupt", "data.npz", "--out", "whole", "--corruptions", "contrast,fog")
    whole = contents("whole")
    monkeypatch.setattr(_written, "_blocks", stopped)
    assert cli(*CORRUPT, "--corruptions", "contrast,fog").code == 130
    assert set(contents()) == {"contrast.npy", "labels.npy", "corruptions.json"}
    monkeypatch.setattr(_written, "_blocks", blocks)
    printed = done(*CORRUPT, "--corruptions", "contrast,fog")
    assert printed.splitlines()[0].endswith("(was there)")
    assert contents() == whole


def test_evaluate_measures_all_that_is_there_unless_told_less(done, own):
    done(*CORRUPT, "--corruptions", "fog,contrast")

    def listed(*more):
        lines = done(*own, "--attacks", "none", "--corrupted", "c", *more, "--dry-run").splitlines()
        return [line.partition(" · ")[2] for line in lines if "severity" in line]

    every = [f"{name} severity {severity}" for name in ("contrast", "fog") for severity in SEVERITIES]
    assert listed() == listed("--corruptions", "all") == every
    assert listed("--corruptions", "fog") == every[5:]
    assert listed("--severity", 1) == ["contrast severity 1", "fog severity 1"]
    some = listed("--corruptions", "fog", "--severity", 2, "--severity", 4)
    assert some == ["fog severity 2", "fog severity 4"]


def test_both_kinds_are_told_apart_in_one_report(done, own, work):
    done(*CORRUPT, "--corruptions", "fog")
    fog = {"name": "fog", "severity": 3}
    tables = {"data": {"name": "data.npz"}, "model": [{"architecture": "net.py:make"}], "corruption": [fog]}
    read = tables | {"data": {"name": "data.npz", "corrupted": "c"}}
    cells = [plan(parse(each, where="test", folder=work))[-1] for each in (tables, read)]
    store = Store(work / "out")
    bench = Workbench(lambda model: Loaded(model.network, model.weights_sha256))
    for cell in cells:
        store.write(evaluate(cell, bench))
    names = {entry.labels["perturbation"] for entry in load([store.folder]).entries}
    assert names == {"fog (files=c)", "fog (files=unset)"}
    shutil.rmtree(store.folder)
    store.write(evaluate(cells[1], bench))
    (entry,) = load([store.folder]).entries
    assert (entry.labels["perturbation"], entry.params) == ("fog", {"severity": 3, "files": "c"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--corruptions", "fogg"], "unknown corruption 'fogg' (did you mean 'fog'?)"),
        (
            ["--corruptions", "rotation"],
            "'rotation': expected one with severities, which the files hold five of",
        ),
        (["--corruptions", "none"], "--corruptions: expected names or all, got none; known: brightness"),
        (
            ["--corruptions", "fog", "--set", "fog.severity=6"],
            "'fog': severity: expected none, since the files",
        ),
        (["--corruptions", "fog", "--set", "snow.side=32"], "--set snow: no such method in this run"),
        (["--corruptions", "fog", "--set", "fog.sid=32"], "unknown field 'sid' (did you mean 'side'?)"),
        (["--corruptions", "fog", "--n", "99"], "expected at least 99 images, got 12; lower n"),
        (["--corruptions", "fog", "--size", "16"], "size is for image folders"),
    ],
)
def test_a_bad_option_is_told_in_one_line_and_nothing_is_written(refused, arguments, words):
    (line,) = refused(*CORRUPT, *arguments)
    assert words in line
    assert not Path("c").exists()


def test_images_too_small_for_a_corruption_are_told_before_anything_is_written(refused):
    np.savez("tiny.npz", images=np.zeros((3, 1, 2, 2), np.uint8), labels=np.arange(3))
    lines = refused("corrupt", "tiny.npz", "--out", "c", "--corruptions", "fog,glass_blur,elastic_transform")
    assert lines and all("expected images of at least 3 x 3 pixels" in line for line in lines)
    assert not Path("c").exists()


def test_files_of_other_images_or_another_program_are_not_touched(done, refused):
    done(*CORRUPT, "--corruptions", "fog")
    before = contents()
    for other in (("--seed", 1), ("--n", 5)):
        (line,) = refused(*CORRUPT, "--corruptions", "fog", *other)
        assert "expected corrupted images of the same set and seed, or an empty folder" in line
        assert "got some of 12 images of data with seed 0; give another folder" in line
    assert contents() == before
    Path("c/corruptions.json").write_text("{")
    assert "corruptions.json cannot be read" in refused(*CORRUPT, "--corruptions", "fog")[0]
    Path("c/corruptions.json").unlink()
    (line,) = refused(*CORRUPT, "--corruptions", "fog")
    assert "expected no fog.npy that another program wrote, got one without corruptions.json" in line
    assert contents() == {name: content for name, content in before.items() if name != "corruptions.json"}


def test_a_disk_that_is_full_is_told_and_what_is_whole_is_kept(cli, done, refused, monkeypatch):
    done(*CORRUPT, "--corruptions", "contrast")

    def full(*_):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(_written, "_blocks", full)
    outcome = cli(*CORRUPT, "--corruptions", "contrast,fog")
    (line,) = outcome.err.splitlines()
    assert outcome.code == 1
    assert line.startswith(
        "error: c/fog.npy: cannot be written (No space left on device); what is finished is kept"
    )
    assert set(contents()) == {"contrast.npy", "labels.npy", "corruptions.json"}
    monkeypatch.setattr(_written.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    (line,) = refused(*CORRUPT, "--corruptions", "contrast,fog")
    assert "expected room for 3.8 kB, got 0.1 kB; name fewer corruptions or images" in line


def test_a_folder_that_cannot_be_made_is_told_as_such(refused, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refuse)
    (line,) = refused(*CORRUPT, "--corruptions", "fog")
    assert line == "--out c: cannot be made (No such file or directory); give another folder"


def zeroed(name):
    path = Path("c", name)
    content = bytearray(path.read_bytes())
    content[-20:] = bytes(20)
    path.write_bytes(content)


def test_a_damaged_file_is_told_and_written_anew(done, refused, own):
    done(*CORRUPT, "--corruptions", "fog,contrast")
    before = contents()
    for name in ("fog.npy", "contrast.npy"):
        zeroed(name)
    # the damage is at severity 5: the file is hashed, not what is measured of it
    (line,) = refused(*own, "--attacks", "none", "--corrupted", "c", "--severity", 1, "--n", 4)
    assert (
        "contrast.npy and 1 other: expected the file that corruptions.json describes, got a damaged" in line
    )
    printed = done(*CORRUPT, "--corruptions", "fog,contrast")
    assert all(line.endswith("(was damaged: written anew)") for line in printed.splitlines()[:2])
    assert contents() == before


@pytest.mark.parametrize("n", [12, 11, 3])
def test_files_of_other_images_with_the_same_labels_are_refused(done, refused, n):
    done(*CORRUPT, "--corruptions", "fog,contrast")
    with np.load("data.npz") as found:
        given = dict(found)
    np.savez("twin.npz", **given | {"test_images": given["test_images"][..., ::-1]})
    read = (
        "evaluate",
        "--arch",
        "net.py:make",
        "--attacks",
        "none",
        "--corrupted",
        "c",
        "--n",
        n,
        "--dry-run",
    )
    done(*read, "--data", "data.npz")
    (line,) = refused(*read, "--data", "twin.npz")
    assert "the corrupted files are of other images: expected those of data that corruptions.json" in line


def test_notes_without_hashes_of_images_are_compared_by_the_fingerprint_of_all(done, refused):
    done(*CORRUPT, "--corruptions", "fog")
    notes = json.loads(Path("c/corruptions.json").read_text())
    del notes["sha256_of_first"]
    notes["source"]["fingerprint"] = "0"
    Path("c/corruptions.json").write_text(json.dumps(notes))
    read = (
        "evaluate",
        "--arch",
        "net.py:make",
        "--attacks",
        "none",
        "--corrupted",
        "c",
        "--data",
        "data.npz",
    )
    done(*read, "--n", 5, "--dry-run")
    assert "are of other images" in refused(*read, "--dry-run")[0]


@pytest.mark.parametrize("notes", ["{", "[]", '{"source": {}, "types": {}, "sha256_of_first": {"x": 1}}'])
def test_notes_that_cannot_be_read_are_told(done, refused, own, notes):
    done(*CORRUPT, "--corruptions", "fog")
    Path("c/corruptions.json").write_text(notes)
    (line,) = refused(*own, "--attacks", "none", "--corrupted", "c", "--dry-run")
    assert "corruptions.json: expected the notes of robust-eval corrupt, got what cannot be read" in line


def test_the_next_command_can_be_pasted(done):
    printed = done("corrupt", "data.npz", "--out", "c 60 sp", "--corruptions", "fog")
    assert printed.endswith("--data data.npz --corrupted 'c 60 sp'\n")


def test_evaluate_refuses_files_that_do_not_fit_in_one_line_and_writes_nothing(done, refused, own):
    done(*CORRUPT, "--corruptions", "fog,contrast")
    read = ("evaluate", "--arch", "net.py:make", "--data", "data.npz", "--attacks", "none", "--out", "made")

    def one(*arguments):
        (line,) = refused(*read, "--corrupted", *arguments)
        assert not Path("made").exists()
        return line

    assert "nowhere: expected a folder, got none" in one("nowhere")
    assert "'snow': expected files of it in" in one("c", "--corruptions", "snow")
    assert "severity: expected <= 5, got 6" in one("c", "--corruptions", "fog", "--severity", "6")
    np.savez("other.npz", images=np.zeros((12, 1, 8, 8), np.uint8), labels=np.arange(12)[::-1] % 3)
    assert "the corrupted files are of other images" in one("c", "--data", "other.npz")
    np.save("c/labels.npy", np.load("c/labels.npy")[:-1])
    assert "labels.npy: expected whole numbers [5n]" in one("c")
