"""What is written for the Hub is read by the Hub's own library, with every doubt beside its number."""

import pytest
import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index

import reports
from reports.exports.card import card_of
from reports.exports.huggingface import huggingface
from robust_eval.findings import Check

from .conftest import HOSTILE, clean, corrupted, markup, record

CIFAR = 'name = "x"\n[data]\nname = "cifar10"\n'
HALF = (1, 1, 1, 0, 0, 0, 0, 0)


def files(of, *records, **fields):
    source, folders, _ = of(*records, **fields)
    return huggingface(card_of(source, folders))


def front(text):
    _, matter, body = text.split("---\n", 2)
    return yaml.safe_load(matter), body


def read(text):
    """The results as the library reads them."""
    return ModelCardData(**front(text)[0]).eval_results


def test_the_library_reads_the_numbers_of_the_report(of):
    made, _ = files(of, clean(data="cifar10"), record(score=HALF, data="cifar10"), experiment=CIFAR)
    plain, attacked = read(made["net/README.md"])
    assert (plain.task_type, plain.dataset_type, plain.dataset_split) == (
        "image-classification",
        "uoft-cs/cifar10",
        "test",
    )
    assert (plain.metric_type, plain.metric_value, plain.verified) == ("accuracy", 6 / 8, False)
    assert attacked.metric_value == 3 / 8
    assert attacked.metric_args["eps"] == 8 / 255 and attacked.metric_args["ci_low"] < 3 / 8
    assert "linf 8/255" in attacked.metric_name


def test_what_the_library_writes_again_is_what_was_written(of):
    made, _ = files(of, clean(data="cifar10"), record(data="cifar10"), experiment=CIFAR)
    matter, _ = front(made["net/README.md"])
    again = eval_results_to_model_index("net", read(made["net/README.md"]))
    assert [r["metrics"] for r in again[0]["results"]] == [
        r["metrics"] for r in matter["model-index"][0]["results"]
    ]


def test_the_newer_layout_is_read_by_the_library_too(of):
    parse = pytest.importorskip("huggingface_hub._eval_results").parse_eval_result_entries
    warn = Check("convergence", "warn", 0.07, "run with twice the steps")
    made, told = files(of, clean(data="cifar10"), record(data="cifar10", checks=[warn]), experiment=CIFAR)
    plain, attacked = parse(yaml.safe_load(made["net/.eval_results/robust_eval.yaml"]))
    assert (plain.dataset_id, plain.task_id, plain.value) == ("uoft-cs/cifar10", "clean", 6 / 8)
    assert attacked.task_id == "worst_case-linf_8_255"
    assert "n = 8" in attacked.notes and "doubtful: a check warns (convergence)" in attacked.notes
    assert any("registered as a benchmark" in line for line in told)


def test_a_file_called_as_a_set_is_not_that_set(of):
    named = 'name = "x"\n[data]\nname = "/tmp/cifar10.npz"\n'
    made, told = files(of, clean(data="cifar10"), experiment=named)
    assert "net/.eval_results/robust_eval.yaml" not in made
    assert read(made["net/README.md"])[0].dataset_type == "cifar10"
    assert told == (
        "huggingface: cifar10 is no set of the Hub that we know: no .eval_results/robust_eval.yaml",
    )


def test_a_number_that_is_missing_is_left_out_and_told(of):
    made, told = files(of, clean(), clean("other"), record())
    assert [result.metric_value for result in read(made["other/README.md"])] == [6 / 8]
    assert (
        "huggingface: other: worst-case accuracy over attacks, linf 8/255 is left out: not measured" in told
    )


def test_doubts_stand_in_name_and_args_and_text(of):
    fail = Check("zero_gradient", "fail", 0.5, "attack the logits")
    made, _ = files(of, clean(), record(checks=[fail]))
    _, attacked = read(made["net/README.md"])
    assert "not to be quoted: a check fails" in attacked.metric_name
    assert (attacked.metric_args["verdict"], attacked.metric_args["checks"]) == ("fail", "zero_gradient!")
    assert "not to be quoted" in front(made["net/README.md"])[1]


def test_hostile_names_stay_names(of, tmp_path):
    made, _ = files(of, clean(HOSTILE), corrupted(HOSTILE), name="run")
    (place,) = made
    assert place.count("/") == 1 and ".." not in place and len(place) < 200
    matter, body = front(made[place])
    assert matter["model-index"][0]["name"].startswith("<script>")
    assert markup(body) == {"h1", "p", "ul", "li"}
    assert len(read(made[place])) == 2
    reports.write([tmp_path / "run"], tmp_path / "out", exports=["huggingface"])
    assert (tmp_path / "out/exports/huggingface" / place).exists()


def test_two_names_alike_have_folders_of_their_own(of):
    made, _ = files(of, clean("a/b"), clean("a:b"))
    assert len(made) == 2
