"""What cells share is decided by the parts of the spec that a table names, and by nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import defenses  # noqa: F401 - registers the methods
from robust_eval import Rng, attack, corruption
from robust_eval.data import Examples
from robust_eval.evaluation.evaluate import evaluate
from robust_eval.evaluation.perturbing import untouched
from robust_eval.evaluation.prepared import DEPENDS_ON
from robust_eval.evaluation.workbench import Workbench
from robust_eval.models.source import OwnModel
from robust_eval.registry import build
from robust_eval.results.cell import Cell, Data
from robust_eval.types import StochasticModule

N = 6


class Noisy(StochasticModule):
    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def redraw(self, rng):
        self.rng = rng

    def forward(self, x):
        return self.network(x) + 0.1 * self.rng.normal(3)


def model(name, seed):
    return OwnModel(name, Noisy(seed), "test", {"weights": name}, "0" * 64)


def examples(seed):
    images = torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Examples(images, torch.arange(N) % 3, 3)


def summed(copies):
    return build("defense", "sum_augmentation", {"copies": copies})


def bench():
    return Workbench(lambda source: source.untrained())


POOL = examples(9)
CELL = Cell(
    model("a", 0),
    Data("data", examples(0), POOL),
    attack("pgd", eps=0.02, steps=1),
    summed(1),
    "adaptive",
    draws=2,
    gradient_draws=2,
)
CORRUPTED = replace(CELL, perturbation=corruption("fog"), access="none")
"""Nothing of it is adapted to."""
OTHER = {
    "model": {"model": model("b", 1)},
    "data": {"data": Data("data", examples(1), POOL)},
    "perturbation": {"perturbation": attack("pgd", eps=0.01, steps=1)},
    "defense": {"defense": summed(2)},
    "pool": {"data": Data("data", CELL.data.examples, examples(8))},
    "access": {"access": "transfer"},
    "seed": {"seed": 1},
    "draws": {"draws": 3},
    "gradient_draws": {"gradient_draws": 3},
}
"""For each part of the spec, fields of a cell that differs in it alone."""


def part_of(prepared):
    return prepared.perturbed(slice(0, N), lambda: untouched(prepared.images()[0].clone())).x


KEPT = {
    "loaded": lambda prepared: prepared.loaded.network,
    "checks": lambda prepared: prepared.checks,
    "defended": lambda prepared: prepared.model.network,
    "clean": lambda prepared: prepared.clean.prediction,
    "adapted": lambda prepared: prepared.adapted.network,
    "corrupted": part_of,
    "attacked": part_of,
}
"""Each kept thing, as an object that is another one when it is made anew."""


@pytest.fixture
def loading():
    """A workbench that hands out a new network at each load: what is not kept shows."""
    seeds = {"a": 0, "b": 1}

    def load(source):
        return source.untrained()._replace(network=Noisy(seeds[source.name]))

    return Workbench(load)


def test_the_law_is_about_every_kept_thing_and_every_part_of_the_spec():
    assert set(KEPT) | {"images_that_fit"} == set(DEPENDS_ON)
    assert set(OTHER) == set(CELL.spec) - {"schema", "adaptation"}  # numbers of versions
    for part, fields in OTHER.items():
        cell = replace(CELL, **fields)
        assert [name for name in CELL.spec if cell.spec[name] != CELL.spec[name]] == [part]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("part", OTHER)
def test_what_is_kept_serves_every_cell_that_differs_in_other_parts_and_no_cell_that_differs_in_its_own(
    name, part, loading
):
    cell = CORRUPTED if name == "corrupted" else CELL
    fields = (
        OTHER[part] if name != "corrupted" or part != "perturbation" else {"perturbation": corruption("snow")}
    )
    made = KEPT[name](loading.prepare(cell))
    assert KEPT[name](loading.prepare(cell)) is made, "the same cell finds it"
    again = KEPT[name](loading.prepare(replace(cell, **fields)))
    assert (again is made) is (part not in DEPENDS_ON[name])


def answers(network):
    network.redraw(Rng(0).for_batch(N))
    with torch.no_grad():
        return network.eval()(CELL.data.examples.pixels()).tolist()


VALUES = {
    "loaded": lambda prepared: answers(prepared.loaded.network),
    "checks": lambda prepared: prepared.checks,
    "defended": lambda prepared: answers(prepared.model.network),
    "clean": lambda prepared: prepared.clean.probabilities.tolist(),
    "adapted": lambda prepared: (answers(prepared.adapted.network), prepared.adapted.draws),
    "corrupted": lambda prepared: list(evaluate(prepared.cell, bench()).rows["distance_l2"]),
}
"""What a kept thing is worth."""


@pytest.mark.parametrize(
    ("name", "part"), [(name, part) for name in VALUES for part in OTHER if part not in DEPENDS_ON[name]]
)
def test_parts_that_the_table_does_not_name_change_nothing(name, part):
    cell = CORRUPTED if name == "corrupted" else CELL
    # each by itself, so that one cannot find what the other has made
    value, other = (VALUES[name](bench().prepare(each)) for each in (cell, replace(cell, **OTHER[part])))
    assert value == other


@pytest.mark.parametrize("name", ["clean", "adapted"])
@pytest.mark.parametrize("part", ["defense", "pool"])
def test_by_transfer_what_is_aimed_at_has_no_defense(name, part, loading):
    carried = replace(CELL, access="transfer")
    other = replace(carried, **OTHER[part])
    plain = replace(CELL, defense=None, access="none")
    made = KEPT[name](loading.prepare(carried).aimed_at)
    assert KEPT[name](loading.prepare(other).aimed_at) is made
    assert KEPT[name](loading.prepare(plain)) is made
    assert KEPT[name](loading.prepare(CELL).aimed_at) is not made


@pytest.mark.parametrize(("method", "shared"), [(attack("deepfool"), True), (CELL.perturbation, False)])
def test_images_attacked_by_transfer_serve_every_defense_and_the_smallest_ones_the_plain_model(
    method, shared
):
    common = bench()
    carried = replace(CELL, access="transfer", perturbation=method)
    made = part_of(common.prepare(carried))
    assert part_of(common.prepare(replace(carried, defense=summed(2)))) is made
    plain = replace(carried, defense=None, access="none")
    # within a radius an attack to carry over takes every step, and stops at the first success otherwise
    assert (part_of(common.prepare(plain)) is made) is shared


def test_what_another_cell_made_tells_the_seconds_that_it_saved():
    common = bench()
    first, second = (
        common.prepare(CELL).perturbed(slice(0, N), lambda: untouched(CELL.data.examples.pixels()))
        for _ in range(2)
    )
    assert first.seconds_saved == 0 and second.seconds_saved > 0


def test_nothing_is_made_before_it_is_asked_for():
    refusing = Workbench(lambda source: pytest.fail("was loaded"))
    prepared = refusing.prepare(CORRUPTED)
    assert len(prepared.images()[0]) == N and prepared.parts == [slice(0, N)]
    part_of(prepared)


def test_a_network_too_large_to_be_kept_is_loaded_once_for_a_cell():
    loads = []
    tight = Workbench(lambda source: loads.append(source) or source.untrained(), memory=1)
    prepared = tight.prepare(replace(CELL, access="transfer"))
    _ = prepared.clean, prepared.aimed_at.clean, prepared.seen, prepared.checks
    assert len(loads) == 1
