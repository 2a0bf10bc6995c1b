"""How much of noisy labels was learnt, from training to the report."""

import json
from pathlib import Path

import pytest

from robust_eval.results.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")
TRAIN = ("train", "--regularizer", "erm", "--arch", "small_cnn", "--data", "data.npz", "--epochs", "2")
SMALL = ("--set", "small_cnn.width=2", "--set", "recipe.batch_size=8", "--out", "out")
EXPERIMENT = """
name = "noisy"
checks = "off"

[data]
name = "data.npz"
label_noise = 0.5

[recipe]
architecture = {{ name = "small_cnn", width = 2 }}
epochs = 2
batch_size = 8
validation = 0.0
seeds = {seeds}

[[train]]
regularizer = "erm"
"""


def learnt(card):
    return {(part, at): value for part, both in card["memorisation"].items() for at, value in both.items()}


def test_train_says_how_much_of_each_part_was_learnt_and_keeps_it_on_the_card(done):
    printed = done(*TRAIN, *SMALL, "--set", "data.label_noise=0.5")
    (path,) = Path("out/checkpoints").glob("*.json")
    card = json.loads(path.read_text())
    assert 0 < card["wrong_labels"] <= 0.5
    found = learnt(card)
    assert set(found) == {(part, at) for part in ("untouched", "corrupted") for at in ("best", "last")}
    assert {part: found[part, "last"] for part in ("untouched", "corrupted")} == {
        part: card["history"][-1][f"{part}_accuracy"] for part in ("untouched", "corrupted")
    }
    for part in ("untouched", "corrupted"):
        assert f"{part}:" in printed and f"{100 * found[part, 'last']:.1f} % of these" in printed


def test_train_says_nothing_without_noise(done):
    printed = done(*TRAIN, *SMALL)
    (path,) = Path("out/checkpoints").glob("*.json")
    assert "untouched" not in printed + path.read_text()


def test_records_carry_it_and_the_report_shows_one_line_for_each_model(done):
    Path("noisy.toml").write_text(EXPERIMENT.format(seeds=[0, 1]))
    done("run", "noisy.toml", "--out", "out")
    (records, cards) = (
        list(Store(Path("out")).records()),
        [json.loads(path.read_text()) for path in Path("out/checkpoints").glob("*.json")],
    )
    told = sorted(str(record.provenance["training"]["memorisation"]) for record in records)
    assert told == sorted(str(card["memorisation"]) for card in cards) and len(told) == 2
    table = Path("out/report/table.md").read_text()
    section = table[table.index("Label noise") :]
    line = next(text for text in section.splitlines() if text.startswith("| erm"))
    last = [100 * card["memorisation"]["corrupted"]["last"] for card in cards]
    assert f"/ {sum(last) / 2:.1f} ± " in line and "50% label noise" in line
    assert "training.memorisation" not in table
