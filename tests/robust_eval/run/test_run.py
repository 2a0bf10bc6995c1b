"""A run measures what has no record, survives failures and kills, and repeats itself."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn

import defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval import attack, corruption
from robust_eval.config.experiment import read
from robust_eval.config.plan import plan
from robust_eval.data import Examples
from robust_eval.models.checkpoint import read_state, save
from robust_eval.models.recipe import Recipe, Trained
from robust_eval.models.source import OwnModel, RecipeModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.results.store import Store
from robust_eval.run.run import run
from robust_eval.run.training import trained_model

EXPERIMENT = """
name = "tiny"
draws = 2

[data]
name = "digits"
n = 12

[recipe]
architecture = { name = "small_cnn", width = 4 }
epochs = 1
batch_size = 64

[[train]]
regularizer = "erm"

[[train]]
regularizer = "mixup"

[[attack]]
name = "pgd"
steps = 2

[[attack]]
name = "deepfool"
steps = 3

[[corruption]]
name = "gaussian_noise"

[[defense]]
name = "sum_augmentation"
k = 2
copies = 2
"""
# Each cell takes a while, so that a run can be killed between two of them.
SCRIPT = """
import sys, time
from pathlib import Path
import torch, defenses, trainers
from robust_eval.config.experiment import read
from robust_eval.config.plan import plan
from robust_eval.run.run import run
from robust_eval.results.store import Store

class Slow:
    def start(self, total, found): print(total, found, flush=True)
    def tell(self, line): print(line, flush=True)
    def training(self, name, fraction, text): pass
    def begin(self, cell): time.sleep(0.05)
    def inside(self, stage, done, of): pass
    def finish(self, cell, record): pass
    def fail(self, failure): raise SystemExit(failure.error)

torch.set_num_threads(1)
run(plan(read(sys.argv[1])), Store(Path(sys.argv[2])), train=trainers.train, progress=Slow())
"""


class Seen:
    """Remembers what it is told."""

    def __init__(self):
        self.started, self.trained, self.begun, self.finished, self.failed = [], [], [], [], []
        self.told, self.inner = [], []

    def start(self, total, found):
        self.started.append((total, found))

    def tell(self, line):
        self.told.append(line)

    def training(self, name, fraction, text):
        if fraction == 1:
            self.trained.append(name)

    def begin(self, cell):
        self.begun.append(cell.key)

    def inside(self, stage, done, of):
        self.inner.append((stage, done, of))

    def finish(self, cell, record):
        self.finished.append(cell.key)

    def fail(self, failure):
        self.failed.append(failure.error)


def no_training(recipe, examples, *, device, report, journal):
    raise AssertionError("nothing to train")


def measure(cells, folder, train=no_training):
    seen = Seen()
    return run(cells, Store(folder), train=train, progress=seen), seen


def same(one, other):
    """Whether two run folders hold the same records, apart from the seconds they took."""
    found, expected = list(Store(one).records()), list(Store(other).records())
    assert [record.key for record in found] == [record.key for record in expected]
    for left, right in zip(found, expected, strict=True):
        first, second = left.to_json(), right.to_json()
        first["provenance"].pop("seconds")
        second["provenance"].pop("seconds")
        assert first == second
        assert_frame_equal(left.rows, right.rows)
    return len(found)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiment") / "tiny.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def whole(experiment):
    """The folder of an uninterrupted run."""
    folder = experiment.parent / "whole"
    outcome, seen = measure(plan(read(str(experiment))), folder, trainers.train)
    assert not outcome.failed and seen.trained == ["erm", "mixup"]
    return folder


def examples(n=12):
    generator = torch.Generator().manual_seed(0)
    return Examples(torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 3, 3)


class Flaky(nn.Module):
    """A linear model that fails on as many images as it is told to."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.inner = nn.Linear(64, 3)
        self.broken = False

    def forward(self, x):
        if self.broken:
            raise RuntimeError("out of order\nsecond line")
        return self.inner(x.flatten(1))


def own(name="net", network=None):
    return OwnModel(name, network or Flaky(), "flaky", {"weights": name}, "0" * 64)


DATA = Data("data", examples(), examples(30)[12:])


def test_a_second_run_computes_nothing(whole, experiment):
    cells = plan(read(str(experiment)))
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    outcome, seen = measure(cells, whole)
    assert (outcome.found, outcome.done, seen.begun, seen.trained) == (len(cells), [], [], [])
    assert seen.started == [(len(cells), len(cells))]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.slow
def test_a_run_killed_and_resumed_equals_an_uninterrupted_one(whole, experiment, tmp_path):
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, experiment, killed], stdout=subprocess.DEVNULL)
    while len(list(killed.glob("records/??/*.json"))) < 6:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(list(Store(killed).records()))
    cells = plan(read(str(experiment)))
    assert 6 <= kept < len(cells)
    outcome, seen = measure(cells, killed, trainers.train)
    assert (outcome.found, len(outcome.done)) == (kept, len(cells) - kept)
    assert seen.started == [(len(cells), kept)]
    assert same(killed, whole) == len(cells)


@pytest.mark.slow
def test_two_processes_on_one_folder_end_with_the_same_records(whole, experiment, tmp_path):
    shared = tmp_path / "shared"
    cells = plan(read(str(experiment)))
    command = [sys.executable, "-c", SCRIPT, experiment, shared]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == f"{len(cells)} 0\n"
        outcome, _ = measure(cells, shared, trainers.train)
        assert other.wait() == 0
    assert not outcome.failed and same(shared, whole) == len(cells)
    assert not list(shared.rglob("*.tmp")) and not (shared / "failed").exists()


def test_a_training_that_was_interrupted_before_its_card_is_repeated(whole, experiment, tmp_path):
    source = plan(read(str(experiment)))[0].model
    path = Store(whole).checkpoint(source.key)
    there = Store(tmp_path).checkpoint(source.key)
    there.parent.mkdir()
    there.write_bytes(b"weights without a card")
    made = trained_model(source, Store(tmp_path), train=trainers.train, device="cpu", report=lambda *_: None)
    assert made.read_bytes() == path.read_bytes()
    assert made.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()


def test_weights_that_another_process_finished_first_are_kept(tmp_path):
    recipe = Recipe(
        architecture=build("architecture", "small_cnn", {"width": 4}),
        regularizer=build("regularizer", "erm", {}),
    )
    source, store = RecipeModel("erm", recipe, examples()), Store(tmp_path)

    def train(recipe, examples, *, device, report, journal, test=None):
        # the other one, on a file system whose locks do not hold, finishes while this one trains
        theirs = other(recipe, examples, device=device, report=report, journal=journal)
        save(theirs.network, store.checkpoint(source.key), {"key": source.key})
        return other(recipe, examples, device=device, report=report, journal=journal)

    def other(recipe, examples, *, device, report, journal, test=None):
        made.append(recipe.architecture.build(channels=1, classes=3))
        return Trained(made[-1], [], 0, 0, {"used": 0.0, "chosen_by_class": [0, 0, 0]})

    made = []
    path = trained_model(source, store, train=train, device="cpu", report=lambda *_: None)
    assert len(made) == 2
    assert json.loads(path.with_suffix(".json").read_text())["key"] == source.key
    assert torch.equal(read_state(path)["conv1.weight"], made[0].state_dict()["conv1.weight"])


def test_a_failing_cell_does_not_stop_the_run_and_is_tried_again(tmp_path):
    good, bad = own("good"), own("bad")
    bad.network.broken = True
    cells = [
        Cell(model, DATA, perturbation) for model in (bad, good) for perturbation in (None, corruption("fog"))
    ]
    outcome, seen = measure(cells, tmp_path)
    assert len(outcome.done) == 2 and seen.failed == ["RuntimeError: out of order"] * 2
    notes = [json.loads(path.read_text()) for path in sorted((tmp_path / "failed").iterdir())]
    assert {note["key"] for note in notes} == {cell.key for cell in cells[:2]}
    assert all("Traceback" in note["error"] and "second line" in note["error"] for note in notes)
    assert all(note["labels"]["model"] == "bad" for note in notes)

    bad.network.broken = False
    outcome, seen = measure(cells, tmp_path)
    assert (outcome.found, len(outcome.done), outcome.failed) == (2, 2, [])
    assert not list((tmp_path / "failed").iterdir())


def test_who_watches_is_told_how_far_an_attack_is(tmp_path):
    outcome, seen = measure([Cell(own(), DATA), Cell(own(), DATA, attack("pgd", steps=3))], tmp_path)
    assert not outcome.failed
    stages = list(dict.fromkeys(stage for stage, _, _ in seen.inner))
    assert stages == ["clean answers", "attack, image passes", "scoring"]
    counts = [(done, of) for stage, done, of in seen.inner if stage.startswith("attack")]
    assert counts and all(0 < done <= of for done, of in counts)


def test_a_training_that_fails_is_not_repeated_for_every_cell(tmp_path):
    recipe = Recipe(
        architecture=build("architecture", "small_cnn", {"width": 4}),
        regularizer=build("regularizer", "erm", {}),
    )
    tried = []

    def train(recipe, examples, *, device, report, journal, test=None):
        tried.append(recipe)
        raise RuntimeError("diverged")

    model = RecipeModel("erm", recipe, examples())
    outcome, _ = measure(
        [Cell(model, DATA, p) for p in (None, corruption("fog"), attack("fgsm"))], tmp_path, train
    )
    assert [failure.error for failure in outcome.failed] == ["RuntimeError: diverged"] * 3
    assert len(tried) == 1


def test_a_record_gets_new_names_and_radii_without_being_computed_again(tmp_path):
    cell = Cell(own(), DATA, attack("deepfool"), score_at=(0.5,))
    measure([cell], tmp_path)
    first = Store(tmp_path).read(cell.key)
    network = Flaky()
    network.broken = True
    renamed = replace(
        cell,
        model=replace(cell.model, name="renamed", network=network),
        data=replace(DATA, name="other"),
        score_at=(1.0, 0.1),
    )
    outcome, seen = measure([renamed], tmp_path)
    assert outcome.found == 1 and not seen.begun
    record = Store(tmp_path).read(cell.key)
    assert (record.labels["model"], record.labels["data"]) == ("renamed", "other")
    assert [m.eps for m in record.summary if m.metric == "accuracy"] == [0.1, 0.5, 1.0]
    assert [m for m in record.summary if m.eps == 0.5] == [m for m in first.summary if m.eps == 0.5]
    assert record.provenance == first.provenance
    assert_frame_equal(record.rows, first.rows)
    direct = tmp_path / "direct"
    measure([replace(cell, score_at=(0.1, 0.5, 1.0))], direct)
    assert record.summary == Store(direct).read(cell.key).summary


def test_a_cell_that_another_process_finished_meanwhile_is_taken_over(tmp_path):
    cells = [Cell(own(), DATA, p, score_at=s) for p, s in ((None, ()), (attack("deepfool"), (0.5,)))]

    class Other(Seen):
        def finish(self, cell, record):
            super().finish(cell, record)
            if len(self.finished) == 1:
                measure([replace(cells[1], score_at=(0.1,))], tmp_path)

    seen = Other()
    outcome = run(cells, Store(tmp_path), train=no_training, progress=seen)
    assert (outcome.found, len(outcome.done)) == (1, 1)
    assert seen.finished == [cell.key for cell in cells] and seen.begun == [cells[0].key]
    found = [m.eps for m in Store(tmp_path).read(cells[1].key).summary if m.metric == "accuracy"]
    assert found == [0.1, 0.5]


def test_a_record_does_not_depend_on_what_was_measured_before_it(tmp_path):
    model = own()
    defense = build("defense", "sum_augmentation", {"k": 2, "copies": 2})
    perturbations = (
        None,
        attack("pgd", eps=0.1, steps=2),
        attack("cw", steps=3, binary_search_steps=2),
        corruption("fog"),
    )
    cells = [Cell(model, DATA, perturbation, draws=2) for perturbation in perturbations]
    for access in ("transfer", "adaptive"):
        cells += [Cell(model, DATA, p, defense, access, draws=2) for p in perturbations[:3]]
    measure(cells, tmp_path / "forwards")
    measure(cells[::-1], tmp_path / "backwards")
    for cell in cells:  # each in a worker of its own
        measure([cell], tmp_path / "alone")
    assert same(tmp_path / "backwards", tmp_path / "forwards") == len(cells)
    assert same(tmp_path / "alone", tmp_path / "forwards") == len(cells)


def test_the_batch_size_does_not_change_a_record(tmp_path):
    cells = [Cell(own(), DATA, attack("pgd", eps=0.1, steps=2))]
    run(cells, Store(tmp_path / "a"), train=no_training, progress=Seen(), batch_size=5)
    run(cells, Store(tmp_path / "b"), train=no_training, progress=Seen(), batch_size=12)
    first, second = (Store(tmp_path / name).read(cells[0].key) for name in "ab")
    assert first.provenance["batch_size"] == 5
    for one, other in zip(
        first.summary, second.summary, strict=True
    ):  # kernels round by the size of their batch
        assert (one.metric, one.eps, one.n) == (other.metric, other.eps, other.n)
        for name in ("value", "ci_low", "ci_high"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)
    assert_frame_equal(first.rows, second.rows, rtol=1e-5)


def test_a_damaged_record_is_told_and_measured_again(tmp_path):
    cells = [Cell(own(), DATA), Cell(own(), DATA, corruption("fog"))]
    measure(cells, tmp_path / "spoilt")
    measure(cells, tmp_path / "whole")
    fog = next((tmp_path / "spoilt").rglob(f"{cells[1].key}.json"))
    fog.write_text(fog.read_text().replace('"accuracy"', '"accuracy "'))
    outcome, seen = measure(cells, tmp_path / "spoilt")
    assert (outcome.found, seen.begun) == (1, [cells[1].key])
    (line,) = seen.told
    assert cells[1].key in line and "has been damaged or edited" in line and "measured again" in line
    assert same(tmp_path / "spoilt", tmp_path / "whole") == 2
