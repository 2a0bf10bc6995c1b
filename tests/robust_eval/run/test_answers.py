"""A model of the user's is known again by its answers: others make another model, and earlier records stay."""

import os
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from robust_eval import attack
from robust_eval.attacks.transfer import _loaded
from robust_eval.data import Examples
from robust_eval.models.source import OwnModel, own_model
from robust_eval.results.cell import Cell, Data
from robust_eval.results.store import Store
from robust_eval.run.answers import by_their_answers

EXAMPLES = Examples(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4) % 2, 2)
LOGITS = torch.tensor([[1.0, -1.0]] * 4)
NET = """
import json, pathlib
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        scale = json.loads(pathlib.Path(__file__).with_name("c.json").read_text())
        return scale * torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)
"""


def cell(logits, shape=(1, 2, 2)):
    model = OwnModel("net", nn.Identity(), "test", {"weights": "a"}, "0", shape=shape, answers=logits)
    return Cell(model, Data("data", EXAMPLES))


@pytest.fixture
def start(tmp_path):
    """Start a run of one cell with these answers; return its key and what was told."""

    def start(logits, *, write=True, **fields):
        told = []
        planned = [cell(logits, **fields)]
        return by_their_answers(planned, Store(tmp_path), tell=told.append, write=write)[0].key, told

    return start


def test_the_first_answers_change_no_key_and_are_known_again(start):
    assert start(LOGITS) == start(LOGITS) == start(LOGITS * (1 + 5e-5)) == (cell(LOGITS).key, [])


def test_other_answers_are_another_model_and_each_is_found_again(start):
    first, _ = start(LOGITS)
    second, told = start(-LOGITS)
    assert first != second and len(told) == 1 and "net" in told[0] and "measured anew" in told[0]
    third, _ = start(2 * LOGITS)
    assert third not in (first, second)
    assert [start(factor * LOGITS) for factor in (1, -1, 2)] == [(first, []), (second, []), (third, [])]


def test_answers_to_images_of_another_shape_are_compared_among_themselves(start):
    start(LOGITS)
    assert start(-LOGITS, shape=(1, 4, 4))[1] == []
    assert start(-LOGITS)[1] != []


def test_looking_ahead_writes_nothing_and_gives_the_same_key(start, tmp_path):
    start(LOGITS, write=False)
    assert not any(tmp_path.iterdir())
    start(LOGITS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    ahead, told = start(-LOGITS, write=False)
    assert told and {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert start(-LOGITS) == (ahead, told)


def test_answers_that_are_not_finite_are_kept_too(start):
    assert start(LOGITS / 0) == start(LOGITS / 0)
    assert start(LOGITS * float("nan"))[1]


def test_a_damaged_note_of_answers_is_written_anew(start, tmp_path):
    start(LOGITS)
    for content in (
        "{",
        "[]",
        '{"1x2x2": [{"word": 3, "logits": [[1]]}]}',
        '{"1x2x2": [{"word": "a", "logits": "b"}]}',
    ):
        next(tmp_path.glob("models/*.json")).write_text(content)
        assert start(LOGITS)[1] == []


def test_a_fifo_in_place_of_a_note_of_answers_is_replaced(start, tmp_path):
    start(LOGITS)
    [path] = tmp_path.glob("models/*.json")
    path.unlink()
    os.mkfifo(path)
    assert start(LOGITS)[1] == [] and path.is_file() and start(-LOGITS)[1] != []


def test_a_model_that_draws_or_is_trained_here_is_left_alone(start, tmp_path):
    start(None)
    assert not any(tmp_path.iterdir())


def test_a_factory_that_reads_a_configuration_is_told_apart_in_another_process_too(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    keys = []
    for scale in (1, -1):
        (tmp_path / "c.json").write_text(str(scale))
        model = own_model(
            checkpoint=None,
            architecture=f"{tmp_path}/net.py:Net",
            name=None,
            mean=None,
            std=None,
            examples=EXAMPLES,
        )
        planned = Cell(model, Data("data", EXAMPLES))
        [found] = by_their_answers([planned], Store(tmp_path / "run"), tell=lambda line: None)
        assert pickle.loads(pickle.dumps(found)).key == found.key
        assert found.model.network is replace(planned).model.network
        keys.append(found.key)
    assert len(set(keys)) == 2


def test_a_surrogate_that_answers_otherwise_is_another_attack_and_the_cells_of_others_stay(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    model = OwnModel("net", nn.Identity(), "test", {"weights": "a"}, "0", shape=(1, 2, 2), answers=LOGITS)

    def start(scale):
        (tmp_path / "c.json").write_text(str(scale))
        _loaded.cache_clear()  # as in another process
        made = attack("transfer:pgd", architecture=f"{tmp_path}/net.py:Net", steps=3)
        cells = [Cell(model, Data("data", EXAMPLES), attack) for attack in (made, None)]
        told = []
        found = by_their_answers(cells, Store(tmp_path / "run"), tell=told.append)
        again = pickle.loads(pickle.dumps(found[0]))
        assert (again.key, again.perturbation.steps) == (found[0].key, 3)
        assert found[1].key == cells[1].key
        return found[0].key, cells[0].key, told

    key, planned, told = start(1)
    assert key == planned and not told
    other, planned, told = start(-1)
    assert other not in (key, planned) and "surrogate of transfer:pgd" in told[0]
    assert start(-1)[::2] == (other, []) and start(1)[::2] == (key, [])
