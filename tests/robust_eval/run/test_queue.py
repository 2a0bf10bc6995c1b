"""Workers on one folder measure each cell once, and wait for nothing but a training."""

import os
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

import trainers  # noqa: F401 - registers the methods
from robust_eval.data import Examples
from robust_eval.models.recipe import Recipe
from robust_eval.models.source import RecipeModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell
from robust_eval.results.planned import PLANNED
from robust_eval.results.store import Store
from robust_eval.run.leases import Leases
from robust_eval.run.queue import Queue, Taken, Training, _spread
from robust_eval.run.training import TRAINING


def own(name):
    return SimpleNamespace(name=name, identity={"name": name})


def recipe(seed=0):
    made = Recipe(
        architecture=build("architecture", "small_cnn", {"width": 4}),
        regularizer=build("regularizer", "erm", {}),
        seed=seed,
    )
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return RecipeModel(f"erm{seed}", made, Examples(images, torch.arange(6) % 3, 3))


def cells(model, count):
    return [Mock(spec=Cell, key=f"{model.name}-{i}", model=model) for i in range(count)]


class Folder:
    """A run folder whose cells are done by name."""

    def __init__(self, path):
        self.store, self.done, self.slept = Store(path), set(), []

    def queue(self, cells, *, sleep=None):
        def pause(seconds):
            self.slept.append(seconds)
            if sleep is None:
                raise AssertionError("nothing to wait for")
            sleep()

        leases = Leases(self.store.folder)
        return Queue(cells, self.store, leases, is_done=lambda cell: cell.key in self.done, sleep=pause)

    def train(self, source):
        path = self.store.checkpoint(source.key)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.with_suffix(".json").touch()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def taken(found):
    return [each.cell.key for each in found if isinstance(each, Taken)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_of_workers_in_turn_each_cell_is_measured_by_one_of_them(folder, workers):
    every = [*cells(own("a"), 7), *cells(own("b"), 4)]
    measured, at_work = [], {iter(folder.queue(every, sleep=lambda: None)): None for _ in range(workers)}
    while at_work:
        for queue, cell in list(at_work.items()):
            if cell is not None:
                folder.done.add(cell)
            others = {key for each, key in at_work.items() if each is not queue} - folder.done - {None}
            if others and len(folder.done) + len(others) == len(every):
                continue  # it would wait for the others
            found = next(queue, None)
            if found is None:
                del at_work[queue]
                continue
            assert found.cell.key not in others
            if found.cell.key not in folder.done:
                measured.append(found.cell.key)
            at_work[queue] = found.cell.key
    assert sorted(measured) == sorted(cell.key for cell in every)


def test_workers_begin_with_different_models_and_in_different_places_of_one(folder):
    a, b = cells(own("a"), 8), cells(own("b"), 8)
    firsts = [iter(folder.queue([*a, *b])) for _ in range(4)]
    assert [next(queue).cell.key for queue in firsts] == ["a-0", "b-0", "a-4", "b-4"]


def test_a_model_is_trained_by_one_while_another_goes_on_with_other_cells(folder):
    source = recipe()
    every = [*cells(source, 2), *cells(own("a"), 3)]
    trainer, other = iter(folder.queue(every)), iter(folder.queue(every, sleep=lambda: folder.train(source)))
    assert next(trainer) == Training(source)
    for _ in range(3):
        folder.done.add(next(other).cell.key)
    assert folder.slept == []
    assert taken([next(other)]) == ["erm0-0"]  # after it has waited for the training
    assert len(folder.slept) == 1


def test_where_there_are_others_all_models_are_trained_first(folder):
    one, two = recipe(1), recipe(2)
    every = [*cells(one, 2), *cells(two, 2)]
    Leases(folder.store.folder).claim("somebody", {"model": "another"})
    queue = iter(folder.queue(every))
    assert next(queue) == Training(one)
    folder.train(one)
    assert next(queue) == Training(two)


def test_alone_a_model_is_measured_before_the_next_is_trained(folder):
    one, two = recipe(1), recipe(2)
    queue = iter(folder.queue([*cells(one, 1), *cells(two, 1)]))
    assert next(queue) == Training(one)
    folder.train(one)
    assert taken([next(queue)]) == ["erm1-0"]
    assert next(queue) == Training(two)


def test_a_training_that_failed_is_not_tried_again_by_others_before_its_cells_have_failed(folder):
    source = recipe()
    every = cells(source, 2)
    queue = iter(folder.queue(every))
    assert next(queue) == Training(source)  # and no weights come of it
    assert taken([next(queue), next(queue)]) == ["erm0-0", "erm0-1"]
    assert Leases(folder.store.folder).claim(source.key + TRAINING, {}) is None
    assert next(queue, None) is None
    assert Leases(folder.store.folder).claim(source.key + TRAINING, {}) is not None


def test_what_ended_one_worker_is_tried_once_more_and_what_ended_two_is_refused(folder):
    every = cells(own("a"), 2)
    leases = Leases(folder.store.folder)
    for reasons, key in ((1, "a-0"), (2, "a-1")):
        for _ in range(reasons):
            leases.claim(key, {})
            leases.note_end(leases.read(key), "exit code 7", less_memory=True)
    once, twice = list(folder.queue(every))
    assert (once.refused, once.less_memory) == (None, True)
    assert twice.refused == "ended the 2 processes that worked on it (exit code 7)"
    assert [each.refused for each in folder.queue(every)] == [None, None], (
        "it is told once, and then forgotten"
    )


def test_a_training_that_ended_two_workers_refuses_all_cells_of_its_model(folder):
    source = recipe()
    leases, name = Leases(folder.store.folder), source.key + TRAINING
    for _ in range(2):
        leases.claim(name, {})
        leases.note_end(leases.read(name), "SIGKILL", less_memory=False)
    found = list(folder.queue([*cells(source, 2), *cells(own("a"), 1)]))
    assert [each.refused for each in found] == [
        *["training it ended the 2 processes that worked on it (SIGKILL)"] * 2,
        None,
    ]


def test_a_training_that_gets_on_between_its_workers_ends_is_not_given_up(folder):
    source = recipe()
    leases, name = Leases(folder.store.folder), source.key + TRAINING
    state = folder.store.training(source.key) / "state.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    for _ in range(3):
        leases.claim(name, {})
        since = leases.read(name).since
        leases.note_end(leases.read(name), "SIGKILL", less_memory=False)
    os.utime(state, (since + 1, since + 1))
    assert next(iter(folder.queue(cells(source, 2)))) == Training(source)
    os.utime(state, (since - 1, since - 1))
    assert next(iter(folder.queue(cells(source, 2)))).refused is not None


def test_what_failed_since_the_run_began_is_left_and_what_failed_before_is_tried(folder):
    every = cells(own("a"), 2)
    plan = folder.store.folder / PLANNED
    plan.write_text("{}")
    os.utime(plan, (1000, 1000))
    for key, time in (("a-0", 999), ("a-1", 1001)):
        folder.store.fail(key, {}, "error")
        os.utime(folder.store.folder / "failed" / f"{key}.json", (time, time))
    assert [(each.cell.key, each.failed) for each in folder.queue(every)] == [("a-0", False), ("a-1", True)]


def test_a_worker_that_is_interrupted_gives_back_what_it_holds(folder):
    leases = Leases(folder.store.folder)
    queue = iter(folder.queue(cells(own("a"), 2)))
    next(queue)
    assert leases.names() == ["a-0"]
    queue.close()
    assert leases.names() == []


def test_each_further_place_is_in_the_middle_of_a_widest_gap():
    assert [_spread(i) for i in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
