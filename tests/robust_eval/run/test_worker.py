"""A job that another process is sent gives the records that this process would have written."""

import importlib
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pandas.testing import assert_frame_equal

import defenses  # noqa: F401 - registers the methods
import trainers
from robust_eval import registry
from robust_eval.config.experiment import parse
from robust_eval.config.plan import plan
from robust_eval.errors import DataError
from robust_eval.models.source import OwnModel
from robust_eval.results.store import Store
from robust_eval.run.worker import Job, Options, unpacked, work

# of the libraries that foolbox imports
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PLUGIN = """
from dataclasses import dataclass
from robust_eval import Attack, AttackResult, Pixels, Threat, register

@register("attack", "lighten")
@dataclass(frozen=True, kw_only=True)
class Lighten(Attack):
    '''Adds eps.'''
    eps: Pixels = 0.1

    @property
    def threat(self):
        return Threat("linf", self.eps)

    def run(self, model, x, y, *, rng):
        return AttackResult((x + self.eps).clamp(0, 1), y * 0)

    def cost(self, classes):
        return None
"""
FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(x.flatten(1))

def build():
    return Net()
"""
CHILD = """
import sys
from pathlib import Path
import torch
from robust_eval.run.worker import unpacked, work

torch.set_num_threads(1)
outcome = work(unpacked(Path(sys.argv[1]).read_bytes()))
print(len(outcome.done), [failure.error for failure in outcome.failed])
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cells(tmp_path, monkeypatch):
    (tmp_path / "sent_plugin.py").write_text(PLUGIN)
    (tmp_path / "net.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    for kind in get_args(registry.Kind):
        registry.names(kind)  # what the packages register must outlive this test, the plug-in must not
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.delitem(sys.modules, "sent_plugin", raising=False)
    importlib.import_module("sent_plugin")
    recipe = {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1, "batch_size": 64}
    tables = {
        "name": "sent",
        "draws": 2,
        "checks": "off",
        "data": {"name": "digits", "n": 8},
        "recipe": recipe,
        "train": [{"regularizer": "mixup"}],
        "model": [{"architecture": f"{tmp_path / 'net.py'}:build", "name": "own"}],
        "attack": [
            {"name": "pgd", "steps": 2},
            {"name": "lighten"},
            {"name": "foolbox:LinfPGD", "steps": 2, "access": "none"},
        ],
        "corruption": [{"name": "fog"}],
        "defense": [{"name": "sum_augmentation", "k": 2, "copies": 2}],
    }
    return plan(parse(tables, where="test", folder=tmp_path))


def job(cells, folder, **changes):
    given = Job(tuple(cells), folder, trainers.train, ("defenses", "trainers", "sent_plugin"), Options())
    return given._replace(**changes)


def test_another_process_writes_the_same_records(cells, tmp_path):
    packed = tmp_path / "job"
    packed.write_bytes(job(cells, tmp_path / "there").packed())
    done = subprocess.run([sys.executable, "-c", CHILD, packed], capture_output=True, text=True)
    assert done.stdout.split(maxsplit=1) == [str(len(cells)), "[]\n"], done.stderr
    work(job(cells, tmp_path / "here"))
    here, there = (list(Store(tmp_path / name).records()) for name in ("here", "there"))
    assert [record.key for record in here] == [record.key for record in there] == sorted(c.key for c in cells)
    for one, other in zip(here, there, strict=True):
        assert_frame_equal(one.rows, other.rows)
        assert (one.summary, one.checks, one.labels) == (other.summary, other.checks, other.labels)


def test_what_is_packed_comes_out_the_same(cells, tmp_path):
    sent = unpacked(job(cells, tmp_path).packed())
    assert [cell.key for cell in sent.cells] == [cell.key for cell in cells]
    assert [str(cell) for cell in sent.cells] == [str(cell) for cell in cells]
    assert sent.train is trainers.train and sent.folder == tmp_path


def test_a_model_whose_file_changed_on_the_way_is_refused(cells, tmp_path):
    own = [cell for cell in cells if cell.model.name == "own"]
    packed = job(own, tmp_path).packed()
    (tmp_path / "net.py").write_text(FACTORY.replace("manual_seed(0)", "manual_seed(1)"))
    with pytest.raises(DataError, match="has changed since the run was planned"):
        unpacked(packed)


def test_what_cannot_be_sent_is_said_before_it_is(cells, tmp_path):
    class Local(torch.nn.Module):
        pass

    local = [replace(cells[0], model=OwnModel("net", Local(), "net", {"weights": "a"}, "0" * 64))]
    with pytest.raises(DataError, match=r"expected what another process can be sent, got .*Local"):
        job(local, tmp_path).packed()


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit("x"), ValueError("y")])
def test_whatever_a_model_raises_is_the_failure_of_its_cell(cells, tmp_path, error, monkeypatch):
    own = [cell for cell in cells if cell.model.name == "own"][:2]

    def forward(x):
        raise error

    monkeypatch.setattr(own[0].model.network, "forward", forward)
    outcome = work(job(own, tmp_path))
    assert [type(error).__name__ in failure.error for failure in outcome.failed] == [True, True]


def test_the_user_may_interrupt(cells, tmp_path, monkeypatch):
    def forward(x):
        raise KeyboardInterrupt

    own = [cell for cell in cells if cell.model.name == "own"][:2]
    monkeypatch.setattr(own[0].model.network, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        work(job(own, tmp_path))


def test_a_report_knows_of_an_attack_of_the_users_own_what_its_record_tells(cells, tmp_path):
    lighten = [cell for cell in cells if cell.labels["perturbation"] == "lighten" and cell.defense is None]
    work(job(lighten, tmp_path / "run"))
    for record in Store(tmp_path / "run").records():
        record.labels.pop("traits")
        Store(tmp_path / "untold").write(record)
    read = "import sys, reports\nfor run in sys.argv[1:]: print(set(reports.load([run]).results['checks']))"
    folders = [tmp_path / "untold", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", read, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    untold, told = done.stdout.splitlines()
    assert "not made" not in told and "not made" in untold
