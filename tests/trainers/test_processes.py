"""Training shared out by torchrun."""

import runpy
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from robust_eval.errors import ConfigError
from trainers.processes import part_of
from trainers.usage import Usage

SCRIPT = """
import dataclasses, sys
import torch
from pathlib import Path
from safetensors.torch import save_file
from torch import nn
from robust_eval.data import Examples
from robust_eval.methods import Architecture
from robust_eval.models.recipe import Journal, Recipe
from robust_eval.registry import build
import trainers

@dataclasses.dataclass(frozen=True)
class Plain(Architecture):
    def build(self, *, channels, classes):
        # no BatchNorm, which sees the images of its own process only
        return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, classes))

generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (96, 1, 8, 8), dtype=torch.uint8, generator=generator)
examples = Examples(images, torch.arange(96) % 3, 3)
out = Path(sys.argv[1])
recipe = Recipe(architecture=Plain(), regularizer=build("regularizer", "erm", {}), epochs=3, batch_size=16, crop=1,
                flip=True, validation=0.25, schedule="halve_on_plateau", patience=3, ema=0.5)
trained = trainers.train(recipe, examples, device="cpu", report=lambda *_: None, journal=Journal(out))
rank = __import__("os").environ.get("RANK", "0")
save_file(trained.network.state_dict(), out / f"{rank}.safetensors")
with_rows = dataclasses.replace(recipe, regularizer=build("regularizer", "sample_embedding", {"std": 0.1}))
trained = trainers.train(with_rows, examples, device="cpu", report=lambda *_: None)
save_file(trained.network.state_dict(), out / f"rows-{rank}.safetensors")

# every curriculum that asks, and what it chose
from trainers.usage import Usage
chosen, see = [], Usage.see
Usage.see = lambda usage, choice: (chosen.append(choice.rows.clone()), see(usage, choice))[1]
for name, fields in ASKING:
    if name == "teacher_order":
        fields = fields | {"teacher": out / f"{rank}.safetensors"}
    recipe = dataclasses.replace(recipe, curriculum=build("curriculum", name, fields), ema=0.0, epochs=2,
                                 budget="steps")
    trainers.train(recipe, examples, device="cpu", report=lambda *_: None)
save_file({"rows": torch.cat(chosen)}, out / f"chosen-{rank}.safetensors")
"""

ASKING = [
    ("loss_order", {"k": 3}),
    ("loss_delta", {"k": 3}),
    ("loss_delta", {"k": 3, "reference": "held_out"}),
    ("loss_sampler", {"k": 2}),
    ("teacher_order", {"k": 3}),
    (
        "small_loss",
        {"over": 1.0, "forget": 0.3},
    ),  # in the end 23 candidates, which two processes cannot halve
]
"""Curricula whose choices hang on what the network says."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("ASKING", repr(ASKING)))
    for name in ("one", "two"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(folder / "one")])
        patch.setattr(Usage, "see", Usage.see)  # the script puts another in its place
        runpy.run_path(str(script), run_name="__main__")
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *several, str(script), str(folder / "two")]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return folder


@pytest.mark.parametrize("name", ["0.safetensors", "rows-0.safetensors"])
def test_two_processes_train_the_weights_that_one_trains(runs, name):
    alone, shared = load_file(runs / "one" / name), load_file(runs / "two" / name)
    assert set(alone) == set(shared)
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-4, atol=1e-5)


def test_every_process_returns_the_same_network_and_one_writes_the_log(runs):
    first, second = (load_file(runs / "two" / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    log = (runs / "two" / "log.csv").read_text().splitlines()
    assert len(log) == len((runs / "one" / "log.csv").read_text().splitlines()) == 1 + len(set(log[1:]))


def test_every_process_makes_the_choices_that_one_makes(runs):
    alone, first, second = (
        load_file(runs / name / f"chosen-{rank}.safetensors")["rows"]
        for name, rank in (("one", 0), ("two", 0), ("two", 1))
    )
    assert len(alone) > 16 * 4 * len(ASKING)
    assert torch.equal(first, alone)
    assert torch.equal(second, alone)


class Several:
    world_size, global_rank = 3, 1


def test_each_process_takes_its_part_of_a_batch():
    assert part_of(torch.arange(12), Several()).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("n", [10, 3])
def test_a_batch_that_cannot_be_shared_out_is_refused(n):
    with pytest.raises(
        ConfigError, match="expected a multiple of 3, the number of processes, and two images for"
    ):
        part_of(torch.arange(n), Several())
