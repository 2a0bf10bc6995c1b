"""An experiment file becomes cells, the same ones from wherever it is read."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch

import defenses  # noqa: F401 - registers the methods
import trainers  # noqa: F401
from robust_eval import registry
from robust_eval.config.experiment import named_experiments, parse, read
from robust_eval.config.plan import plan
from robust_eval.errors import ConfigError, DataError
from robust_eval.registry import build

EXPERIMENT = """
name = "trial"
seed = 3
draws = 4

[data]
name = "sets/data.npz"
n = 10

[recipe]
architecture = { name = "small_cnn", width = 4 }
epochs = 1
mean = [0.5]
std = [0.25]

[[train]]
regularizer = "erm"

[[train]]
name = "mixed"
regularizer = { name = "mixup", alpha = 1 }
seed = 2

[[model]]
name = "own"
checkpoint = "weights/w.pt"
architecture = { name = "small_cnn", width = 4 }

[[model]]
architecture = "net.py:make"

[[attack]]
name = "pgd"
eps = ["8/255", 0.1]
steps = 2

[[attack]]
name = "cw"
eps = [1.0, 0.5]
access = "transfer"

[[corruption]]
name = "fog"
severity = [1, 3]

[[defense]]
name = "sum_augmentation"
k = 2
"""
FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
"""


def arrays(path, n=30, side=8, **names):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (n, 1, side, side), dtype=np.uint8), np.arange(n) % 3
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        test_images=images[:12],
        test_labels=labels[:12],
        train_images=images[12:],
        train_labels=labels[12:],
    )


@pytest.fixture
def home(tmp_path):
    """A folder with an experiment and what it names."""
    home = tmp_path / "home"
    arrays(home / "sets/data.npz")
    (home / "weights").mkdir()
    torch.manual_seed(0)
    network = build("architecture", "small_cnn", {"width": 4}).build(channels=1, classes=3)
    torch.save(network.state_dict(), home / "weights/w.pt")
    (home / "net.py").write_text(FACTORY)
    (home / "trial.toml").write_text(EXPERIMENT)
    return home


def keys(experiment):
    return [cell.key for cell in plan(experiment)]


def small(**tables):
    """The cells of an experiment on digits with one model to train."""
    recipe = {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1}
    given = {"data": {"name": "digits", "n": 5}, "recipe": recipe, "train": [{"regularizer": "erm"}]} | tables
    return plan(parse(given, where="test", folder=Path.cwd()))


def test_the_cells_are_models_by_defenses_by_perturbations(home):
    cells = plan(read(str(home / "trial.toml")))
    # clean, checks in two norms, PGD at two radii, CW and fog at two severities; PGD twice when defended
    assert len(cells) == 4 * (8 + 10) == len({cell.key for cell in cells})
    assert {cell.model.name for cell in cells} == {"erm", "mixed", "own", "make"}
    assert [str(cell) for cell in cells[:8]] == [
        "erm · clean",
        "erm · quick checks",
        "erm · quick checks in l2",
        "erm · pgd linf 8/255",
        "erm · pgd linf 25.5/255",
        "erm · cw",
        "erm · fog severity 1",
        "erm · fog severity 3",
    ]
    assert {cell.score_at for cell in cells if cell.labels["perturbation"] == "cw"} == {(0.5, 1.0)}
    assert {(cell.seed, cell.draws, len(cell.data.examples)) for cell in cells} == {(3, 4, 10)}


def test_an_experiment_planned_twice_gives_the_same_keys(home, tmp_path, monkeypatch):
    first = keys(read(str(home / "trial.toml")))
    monkeypatch.chdir(home / "weights")
    assert keys(read("../trial.toml")) == first
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home, tmp_path / "elsewhere")
    assert keys(read("elsewhere/trial.toml")) == first


def test_the_effective_experiment_gives_the_same_keys_from_anywhere(home, tmp_path, monkeypatch):
    experiment = read(str(home / "trial.toml"))
    kept = tmp_path / "runs" / "experiment.toml"
    kept.parent.mkdir()
    kept.write_text(tomli_w.dumps(experiment.tables()))
    monkeypatch.chdir(tmp_path)
    again = read("runs/experiment.toml")
    assert keys(again) == keys(experiment)
    assert again.tables() == experiment.tables()


@pytest.mark.parametrize("table", ["[recipe]", "[[train]]"])
def test_the_weights_to_start_from_are_beside_the_experiment(home, tmp_path, monkeypatch, table):
    text = EXPERIMENT.replace(table, f'{table}\nstart = "weights/w.pt"', 1)
    (home / "trial.toml").write_text(text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = read(str(home / "trial.toml"))
    assert given.recipes[0][1].start == home / "weights/w.pt"
    # the effective experiment, from a third place
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.toml").write_text(tomli_w.dumps(given.tables()))
    again = read(str(tmp_path / "run/experiment.toml"))
    assert [recipe.start for _, recipe in again.recipes] == [recipe.start for _, recipe in given.recipes]
    assert keys(again) == keys(given)


@pytest.mark.parametrize("table", ["[recipe]", "[[train]]"])
def test_the_weights_of_a_teacher_are_beside_the_experiment(home, tmp_path, monkeypatch, table):
    text = 'curriculum = { name = "teacher_order", teacher = "weights/w.pt", k = 1 }'
    (home / "trial.toml").write_text(EXPERIMENT.replace(table, f"{table}\n{text}", 1))
    monkeypatch.chdir(tmp_path)
    given = read(str(home / "trial.toml"))
    assert given.recipes[0][1].curriculum.teacher == home / "weights/w.pt"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.toml").write_text(tomli_w.dumps(given.tables()))
    again = read(str(tmp_path / "run/experiment.toml"))
    assert again.recipes[0][1].curriculum == given.recipes[0][1].curriculum
    assert keys(again) == keys(given)


def test_weights_to_start_from_that_are_missing_are_named_in_full(home):
    (home / "trial.toml").write_text(EXPERIMENT.replace("[recipe]", '[recipe]\nstart = "gone.pt"'))
    with pytest.raises(ConfigError) as caught:
        read(str(home / "trial.toml"))
    assert any(
        f"start: expected a weights file, got '{home}/gone.pt'" in line for line in caught.value.problems
    )


@pytest.mark.parametrize(("crop", "expected"), [(-1, ">= 0"), ("random", "a whole number")])
def test_crops_are_a_padding_or_of_random_size(crop, expected):
    recipe = {"architecture": "small_cnn", "crop": "resized"}
    assert small(recipe=recipe)[0].model.recipe.crop == "resized"
    with pytest.raises(ConfigError, match=f"crop: expected {expected} or 'resized', got {crop!r}"):
        small(recipe=recipe | {"crop": crop})


def test_modules_of_the_user_are_found_again_by_the_effective_experiment(home, tmp_path, monkeypatch):
    registry.names("corruption")
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = """
from dataclasses import dataclass
from robust_eval import Corruption
from robust_eval.registry import register

@register("corruption", "fade_of_mine")
@dataclass(frozen=True, kw_only=True)
class Fade(Corruption):
    severity: int = 3
    group = "digital"

    def apply(self, x, *, rng):
        return x * (1 - self.severity / 10)
"""
    (home / "fade_of_mine.py").write_text(module)
    tables = {
        "imports": ["fade_of_mine"],
        "data": {"name": "sets/data.npz"},
        "model": [{"architecture": "net.py:make"}],
        "corruption": ["fade_of_mine"],
    }
    experiment = parse(tables, where="test", folder=home)
    first = keys(experiment)
    # as a new process would: the module is not there yet, nor is the folder it is in
    monkeypatch.delitem(sys.modules, "fade_of_mine")
    monkeypatch.delitem(registry._METHODS, ("corruption", "fade_of_mine"))
    sys.path.remove(str(home))
    assert keys(parse(experiment.tables(), where="test", folder=tmp_path)) == first


def test_numbers_written_in_another_way_plan_the_same_cells():
    def with_(eps, lr, steps):
        return small(
            attack=[{"name": "pgd", "eps": eps, "steps": steps}],
            train=[{"regularizer": {"name": "mixup", "alpha": lr}, "lr": lr}],
        )

    first = [cell.key for cell in with_("8/255", 1, 3)]
    assert [cell.key for cell in with_(8 / 255, 1.0, 3.0)] == first
    assert [cell.key for cell in with_([8 / 255, "8/255"], 1.0, 3)] == first


@pytest.mark.parametrize(
    "changed",
    [{"epochs": 2}, {"lr": 0.2}, {"seed": 1}, {"regularizer": "mixup"}, {"batch_size": 64}, {"flip": True},
     {"mean": [0.1], "std": [1]}, {"architecture": {"name": "small_cnn", "width": 8}}],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_what_decides_the_weights_is_in_the_key(changed):
    (first, _), (second, _) = small(), small(train=[{"regularizer": "erm", **changed}])
    assert first.key != second.key
    assert small(train=[{"regularizer": "erm", "name": "renamed"}])[0].key == first.key


def test_a_table_with_seeds_is_one_model_trained_several_times():
    cells = small(train=[{"regularizer": "erm", "seeds": [0, 1, 2]}], checks="off")
    assert [cell.labels["train_seed"] for cell in cells] == [0, 1, 2]
    assert {cell.labels["model"] for cell in cells} == {"erm"}
    (alone,) = small(train=[{"regularizer": "erm", "seed": 1}], checks="off")
    assert alone.key == cells[1].key
    of_all = small(
        recipe={"architecture": "small_cnn", "seeds": [3, 4]},
        train=[{"regularizer": "erm"}, {"regularizer": "mixup", "seed": 0}],
        checks="off",
    )
    assert [cell.labels["train_seed"] for cell in of_all] == [3, 4, 0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"seeds": [1, 1]}, r"seeds: expected a list of different whole numbers, got \[1, 1\]"),
        ({"seeds": []}, "seeds: expected a list"),
        ({"seeds": 3}, "seeds: expected a list"),
        ({"seeds": [1], "seed": 2}, "expected seed or seeds, got both"),
        ({"seeds": [-1]}, "seed"),
    ],
)
def test_seeds_that_cannot_be_are_told(table, message):
    with pytest.raises(ConfigError, match=message):
        small(train=[{"regularizer": "erm", **table}])


def test_a_cell_asked_for_twice_is_planned_once_with_all_radii():
    cells = small(
        attack=[{"name": "cw", "eps": 1}, {"name": "cw", "eps": "1/2"}, {"name": "deepfool", "eps": [1, 1.0]}]
    )
    assert [cell.score_at for cell in cells] == [(), (), (0.5, 1.0), (1.0,)]


@pytest.mark.parametrize(
    ("attacks", "wanted"),
    [
        ([{"name": "pgd", "eps": "4/255"}], [("linf", 4 / 255, False)]),
        (
            [{"name": "pgd", "eps": ["1/255", "4/255", "32/255"]}, {"name": "fgsm"}],
            [("linf", 8 / 255, False)],
        ),
        ([{"name": "pgd", "eps": ["2/255", "32/255"]}], [("linf", 2 / 255, False)]),
        ([{"name": "cw", "eps": [0.1, 0.4]}], [("l2", 0.4, False)]),
        (["pgd", "cw", {"name": "fmn", "norm": "l1"}], [("linf", 8 / 255, False), ("l2", 0.5, True)]),
        (["cw", "pgd"], [("l2", 0.5, False), ("linf", 8 / 255, True)]),
        ([{"name": "square", "norm": "l1"}], [("linf", 8 / 255, False)]),
        ([{"name": "pgd", "eps": 0}], [("linf", 8 / 255, False)]),
    ],
)
def test_a_model_is_examined_once_in_each_norm_near_the_usual_radius(attacks, wanted):
    cells = small(attack=attacks, checks="full")
    found = [cell.perturbation for cell in cells if cell.family == "examination"]
    assert [(look.norm, pytest.approx(look.eps), look.norm_only) for look in found] == wanted
    assert {look.level for look in found} == {"full"}


def test_nobody_examines_what_is_only_analysed_or_when_told_not_to():
    for tables in ({"analysis": ["weight_norm"]}, {"attack": ["pgd"], "checks": "off"}):
        assert "examination" not in {cell.family for cell in small(**tables)}


@pytest.mark.parametrize("corruptions", [[], [{"name": "fog", "severity": 3}]], ids=["clean", "fog"])
def test_a_model_that_is_not_attacked_has_its_answers_looked_at(corruptions):
    tables = {"corruption": corruptions, "defense": ["sum_augmentation"]}
    cells = small(**tables)
    (look,) = [cell for cell in cells if cell.family == "examination"]
    assert look.perturbation.level == "answers" and look.defense is None
    off = small(**tables, checks="off")
    assert [cell.key for cell in off] == [cell.key for cell in cells if cell is not look], (
        "others keep their keys"
    )


def test_draws_of_a_gradient_are_part_of_a_key_only_where_they_are_given():
    tables = {"attack": ["pgd"], "defense": ["sum_augmentation"]}
    plain, given = small(**tables), small(**tables, gradient_draws=3)
    changed = [one for one, other in zip(plain, given, strict=True) if one.key != other.key]
    # by transfer, gradients are those of the base, which draws nothing
    assert [str(cell) for cell in changed] == [
        "erm · sum_augmentation (adaptive) · quick checks",
        "erm · sum_augmentation (adaptive) · pgd linf 8/255",
    ]


def test_the_smallest_perturbation_is_carried_over_to_a_defended_model_only_where_that_is_asked_for():
    def aimed(**fields):
        tables = [{"name": name, **fields} for name in ("pgd", "cw", "fmn")]
        cells = small(attack=tables, defense=["sum_augmentation"], checks="off")
        attacked = [cell for cell in cells if cell.family == "attack" and cell.defense is not None]
        return {(cell.labels["perturbation"], cell.access): cell.key for cell in attacked}

    unsaid, both = aimed(), aimed(access=["transfer", "adaptive"])
    assert set(both) - set(unsaid) == {("cw", "transfer"), ("fmn", "transfer")}
    assert unsaid.items() < both.items(), "what is still planned keeps its key"
    assert set(aimed(access="transfer")) == {(name, "transfer") for name in ("pgd", "cw", "fmn")}
    assert not aimed(access="none")


def test_a_folder_called_like_a_registered_set_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert small()[0].labels["data"] == "digits"
    with pytest.raises(DataError, match="sub-folder"):
        small(data={"name": "./digits"})


def test_the_pool_is_the_train_split_or_what_is_named(home):
    arrays(home / "sets/other.npz", n=40)
    arrays(home / "sets/wide.npz", side=9)
    tables = {
        "data": {"name": "sets/data.npz"},
        "model": [{"architecture": "net.py:make"}],
        "defense": ["sum_augmentation"],
    }

    def pool(**data):
        return plan(parse(tables | {"data": tables["data"] | data}, where="test", folder=home))[-1].data.pool

    assert len(pool()) == 18
    named = pool(pool="sets/other.npz")
    assert len(named) == 28 and named.fingerprint != pool().fingerprint
    with pytest.raises(DataError, match="images of 1x8x8 like those measured, got 1x9x9"):
        pool(pool="sets/wide.npz")
    with pytest.raises(ConfigError, match=r"unknown data 'digts' \(did you mean 'digits'\?\)"):
        pool(pool="digts")


def test_a_pool_that_is_what_is_measured_is_refused(home):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    np.savez(home / "same.npz", x=images, y=np.arange(6) % 3)
    tables = {
        "data": {"name": "same.npz", "pool": "same.npz"},
        "model": [{"architecture": "net.py:make"}],
        "defense": ["sum_augmentation"],
    }
    with pytest.raises(DataError, match="all of its 6 images are among those measured"):
        plan(parse(tables, where="test", folder=home))


def test_the_cards_normalisation_holds_also_when_the_architecture_is_named(home):
    from robust_eval.models.checkpoint import save

    network = build("architecture", "small_cnn", {"width": 4}).build(channels=1, classes=3)
    parts = {"architecture": {"name": "small_cnn", "params": {"width": 4}}, "regularizer": {"name": "mixup"}}
    save(network, home / "ours", {"recipe": {**parts, "seed": 7, "mean": [0.5], "std": [0.25]}})

    def model(**table):
        tables = {"data": {"name": "sets/data.npz"}, "model": [{"checkpoint": "ours.safetensors", **table}]}
        return plan(parse(tables, where="test", folder=home))[0].model

    by_card, by_name = model(), model(architecture={"name": "small_cnn", "width": 4})
    assert by_card.identity == by_name.identity
    assert by_card.identity["mean"] == [0.5]
    assert by_card.labels == {"arch": "small_cnn", "regularizer": "mixup", "train_seed": 7}
    assert model(mean=[0.1], std=[1]).identity["mean"] == [0.1]


def test_training_needs_training_images_and_one_mean_per_channel(home):
    np.savez(home / "bare.npz", x=np.zeros((3, 1, 8, 8), np.uint8), y=np.arange(3))
    with pytest.raises(DataError, match="has no training images"):
        small(data={"name": str(home / "bare.npz")})
    with pytest.raises(ConfigError, match="model erm: mean: expected 1 numbers, one per channel"):
        small(train=[{"regularizer": "erm", "mean": [1, 2], "std": [1, 2]}])
    with pytest.raises(ConfigError, match="mean and std together"):
        small(train=[{"regularizer": "erm", "mean": [1]}])


def test_shipped_experiments_are_valid_and_read_back(tmp_path):
    assert "quickstart" in named_experiments()
    for name in named_experiments():
        experiment = read(name)
        again = parse(experiment.tables(), where="test", folder=tmp_path)
        assert again.tables() == experiment.tables() and again.attacks == experiment.attacks


@pytest.mark.parametrize("name", named_experiments())
def test_no_shipped_experiment_measures_what_the_checks_call_no_measure(name):
    experiment = read(name)
    smallest = [each for each in experiment.attacks if each.attack.minimal_norm]
    assert not experiment.defenses or not any("transfer" in each.access for each in smallest)
    # a weak attack alone in its ball is what strong_enough warns about, for every model
    bounded = [each.attack for each in experiment.attacks if not each.attack.minimal_norm]
    weak = [method for method in bounded if method.single_step or method.baseline]
    strong = {(m.threat.norm, f"{m.threat.eps:.6g}") for m in bounded if m not in weak}
    assert {(m.threat.norm, f"{m.threat.eps:.6g}") for m in weak} <= strong


@pytest.mark.parametrize("where", ["experiment", "model"])
def test_a_name_with_a_nul_character_is_refused(where, tmp_path):
    tables = {
        "name": "a\0b" if where == "experiment" else "ab",
        "data": {"name": "digits", "n": 4},
        "model": [{"architecture": "net.py:build", "name": "a\0b" if where == "model" else None}],
    }
    with pytest.raises(ConfigError, match=r"name: expected text, got 'a.x00b' with a NUL character"):
        parse(tables, where="test", folder=tmp_path)


def test_options_change_the_tables_of_data_and_recipe_and_no_method():
    found = read("quickstart", fields={"data": {"n": 7}, "recipe": {"epochs": 2}})
    assert found.frame.data.n == 7 and {recipe.epochs for _, recipe in found.recipes} == {2}
    with pytest.raises(ConfigError, match=r"--set pgd: expected data.FIELD or recipe.FIELD, got pgd"):
        read("quickstart", fields={"pgd": {"steps": 3}})


@pytest.mark.parametrize(
    ("curriculum", "recipe", "message"),
    [
        (
            {"name": "loss_order", "k": 99},
            {},
            r"model erm, loss_order: loss_order: expected k of at most \d+, .* got 99",
        ),
        (
            {"name": "loss_delta", "reference": "held_out"},
            {"validation": 0},
            "expected validation > 0 with LossDelta",
        ),
        ({"name": "facility_location", "ratio": 2}, {}, "ratio: expected <= 1, got 2"),
        ("loss_ordr", {}, r"unknown curriculum 'loss_ordr' \(did you mean 'loss_order'"),
    ],
)
def test_a_curriculum_that_cannot_start_is_refused_before_anything_is_trained(curriculum, recipe, message):
    with pytest.raises(ConfigError, match=message):
        small(train=[{"regularizer": "erm", "curriculum": curriculum, **recipe}])


def test_shuffled_passes_by_name_are_the_recipe_that_they_were():
    plain, *_ = small(train=[{"regularizer": "erm"}])
    named, *_ = small(train=[{"regularizer": "erm", "curriculum": "shuffled", "budget": "evaluations"}])
    ordered, *_ = small(train=[{"regularizer": "erm", "curriculum": {"name": "loss_order", "k": 2}}])
    stepped, *_ = small(train=[{"regularizer": "erm", "budget": "steps"}])
    assert named.key == plain.key and named.model.name == "erm"
    assert len({plain.key, ordered.key, stepped.key}) == 3 and ordered.model.name == "erm, loss_order"


def test_test_images_that_choose_are_in_the_key_and_those_that_are_only_watched_are_not():
    plain, *_ = small(train=[{"regularizer": "erm"}])
    watched, *_ = small(train=[{"regularizer": "erm"}], watch_test=True)
    assert plain.key == watched.key and watched.model.test is not None and plain.model.test is None
    leak = {"name": "loss_delta", "k": 2, "reference": "test"}
    five, *_ = small(train=[{"regularizer": "erm", "curriculum": leak}])
    assert five.model.identity["test"] == five.data.examples.fingerprint


def test_an_estimate_is_of_attacks_within_a_radius_that_see_what_is_scored():
    tables = {
        "data": {"name": "digits", "n": 20},
        "train": [{"regularizer": "erm"}],
        "recipe": {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1},
        "attack": [{"name": "pgd"}, {"name": "cw"}, {"name": "bim", "target": "next"}],
        "defense": [{"name": "bit_depth"}],
    }
    found = plan(parse(tables | {"estimate": 0.02}, where="x", folder=Path()))
    asked = {
        (c.labels["perturbation"], c.access) for c in found if c.family == "attack" and c.estimate == 0.02
    }
    assert asked == {("pgd", "none"), ("pgd", "adaptive")}
    assert all(cell.estimate is None for cell in found if cell.family != "attack")
    without = {cell.key for cell in plan(parse(tables, where="x", folder=Path()))}
    assert {cell.key for cell in found} - without == {cell.key for cell in found if cell.estimate}
    with_it = parse(tables | {"estimate": 0.02}, where="x", folder=Path())
    again = plan(parse(with_it.tables(), where="x", folder=Path()))
    assert [cell.key for cell in again] == [cell.key for cell in found]


@pytest.mark.parametrize("wrong", [0, -0.1, 0.5, 1, "a"])
def test_a_half_width_that_is_none_is_told_in_one_line(wrong):
    tables = {"data": {"name": "digits"}, "attack": [{"name": "pgd"}], "estimate": wrong}
    tables["train"] = [{"regularizer": "erm", "architecture": {"name": "small_cnn", "width": 4}, "epochs": 1}]
    with pytest.raises(ConfigError, match=r"^x: estimate: expected .*, got ") as raised:
        parse(tables, where="x", folder=Path())
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("attacks", [[], [{"name": "cw"}]])
def test_an_estimate_without_an_attack_that_it_is_for_is_told(attacks):
    tables = {"data": {"name": "digits"}, "train": [{"regularizer": "erm"}], "attack": attacks}
    tables["recipe"] = {"architecture": {"name": "small_cnn", "width": 4}, "epochs": 1}
    with pytest.raises(ConfigError, match="estimate: expected an attack that it is for"):
        parse(tables | {"estimate": 0.01}, where="x", folder=Path())
