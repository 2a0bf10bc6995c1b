"""What a report says first of the adversary: what it may use, and by how much it may change an image."""

import pandas as pd
import pytest

import reports
from reports.section import Source
from reports.sections.statement import statement
from robust_eval.findings import Measurement
from robust_eval.identity import content_key
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store


def attacked(folder, model="net", *, name="square", norm="linf", eps=4 / 255, train_seed=None, **provenance):
    """A record of an attack on a model."""
    rows = pd.DataFrame(
        {"index": range(8), "score": [1.0] * 5 + [0.0] * 3, "clean_score": 1.0, "attacked": True}
    )
    spec = {
        "model": f"{model}{train_seed or ''}",
        "data": {"fingerprint": "f", "n": 8},
        "perturbation": {"name": name},
        "norm": norm,
    }
    labels = {
        **dict.fromkeys(("model", "arch", "regularizer", "model_key"), model),
        **dict.fromkeys(("defense", "access"), "none"),
        "data": "shapes",
        "family": "attack",
        "perturbation": name,
        "norm": norm,
        "eps": eps,
        "seed": 0,
        "train_seed": train_seed,
    }
    number = Measurement("accuracy", 0.625, 0.3, 0.9, 8)
    made = {"seconds": 1.0, **provenance}
    Store(folder).write(Record(content_key(spec), spec, labels, (number,), (), made, rows))


def told(folder):
    return " ".join(statement(Source(load([folder]))))


def test_a_function_without_gradients_is_a_black_box_and_a_network_is_none(tmp_path):
    attacked(tmp_path / "white")
    attacked(tmp_path / "black", black_box=True)
    white, black = told(tmp_path / "white"), told(tmp_path / "black")
    assert (
        "may use the model's weights and gradients and the true label, and change an image by linf 4/255"
        in white
    )
    assert "black box" not in white
    assert "may use the model's answers alone (a black box: queries, no weights, no gradients)" in black


def test_of_several_models_the_black_boxes_are_named_or_counted(tmp_path):
    attacked(tmp_path, "white")
    attacked(tmp_path, "remote", black_box=True)
    assert "weights and gradients (black box, answers alone: remote) and the true label" in told(tmp_path)
    for number in range(3):
        attacked(tmp_path, f"other{number}", black_box=True)
    assert "(black box, answers alone: 4 of the models)" in told(tmp_path)


def test_l0_is_told_in_pixels_and_has_no_part_in_the_pixel_range(tmp_path):
    attacked(tmp_path, name="sigma_zero", norm="l0", eps=10.0)
    assert told(tmp_path).endswith("change an image by l0 10 pixels.")
    attacked(tmp_path)
    assert told(tmp_path).endswith("by linf 4/255 or l0 10 pixels, in units of the [0, 1] pixel range.")


def test_the_fast_version_of_auto_attack_is_not_taken_for_the_standard(tmp_path):
    attacked(tmp_path, name="auto_attack", substitute="fast (not the standard)")
    assert "auto_attack fast (not the standard)" in set(load([tmp_path]).results["perturbation"])


@pytest.mark.parametrize("hostile", [False, True])
def test_a_substitute_stands_in_the_name_of_an_attack_and_cannot_break_out_of_a_table(tmp_path, hostile):
    words = "substitute for 3 classes: margin in place of DLR"
    words = f"<script>alert(1)</script>|\\input{{x}}\n{'x' * 300}" if hostile else words
    attacked(tmp_path / "run", name="auto_attack", substitute=words)
    attacked(tmp_path / "run", name="pgd")
    loaded = load([tmp_path / "run"])
    (name,) = {n for n in loaded.results["perturbation"] if n.startswith("auto_attack")}
    written = reports.write([tmp_path / "run"], tmp_path / "out")
    page, table, tex = ((written.out / n).read_text() for n in ("index.html", "table.md", "report.tex"))
    if not hostile:
        assert name == "auto_attack (3 classes: margin in place of DLR)"
        assert name in page and name in table and "margin in place of" in tex
        return
    assert len(name) < 100 and "\n" not in name
    assert "<script>alert" not in page and "<script>alert" not in table and r"\input{x}" not in tex


def test_norms_stand_in_one_order_with_a_mask_or_without(tmp_path):
    for norm, eps in (("l0", 3.0), ("l2", 0.5), ("linf", 4 / 255)):
        attacked(
            tmp_path, name=f"of {norm}", norm=f"{norm} within a mask of 5 % of the pixels (abc)", eps=eps
        )
    text = told(tmp_path)
    places = [text.index(words) for words in ("linf 4/255 within", "l2 0.5 within", "l0 3 pixels within")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([("a", 0), ("b", 0)], True),
        ([("a", 0), ("b", 0), ("b", 1)], False),
        ([("a", 0)], False),
        ([("a", None), ("b", None)], False),
    ],
    ids=["each once", "one of them twice", "one model", "not trained here"],
)
def test_recipes_that_were_trained_once_are_said_to_be(tmp_path, seeds, said):
    for model, seed in seeds:
        attacked(tmp_path, model, train_seed=seed)
    assert ("trained once" in told(tmp_path)) is said
