"""What RobustBench is given is what was measured, and what lacks for a submission is said."""

import io
import json

import pytest
import torch

from reports.exports.adversarials import save_adversarials
from reports.exports.model_info import ModelInfo
from reports.exports.robustbench import robustbench
from robust_eval.errors import DataError
from robust_eval.findings import Check
from robust_eval.metrics.corruption_errors import TEST_TYPES
from robust_eval.results.adversarials import save_adversarials as save_examples

from .conftest import HOSTILE, clean, corrupted, markup, record

CIFAR = 'name = "x"\n[data]\nname = "cifar10"\n'
STANDARD = {"version": "standard", "steps": 100, "targets": 9, "eps": 8 / 255, "norm": "linf"}
HALF = (1, 1, 1, 0, 0, 0, 0, 0)
WHOLE = {"data": "cifar10", "n": 10_000}


def made(of, *records, experiment=CIFAR, **fields):
    source, folders, _ = of(*records, experiment=experiment, **fields)
    files, told = robustbench(source, folders)
    infos = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
    for info in infos.values():
        ModelInfo.model_validate(info)
    return infos, files.get("submission.md", ""), told


def test_a_claim_that_meets_the_conditions_is_filled_as_the_boards_files_are(of):
    auto = record(name="auto_attack", params=STANDARD, score=HALF, **WHOLE)
    infos, text, told = made(of, clean(**WHOLE), auto)
    info = infos["model_info/cifar10/Linf/net.json"]
    assert (info["dataset"], info["eps"], info["clean_acc"]) == ("cifar10", "8/255", "75.00")
    assert (info["autoattack_acc"], info["reported"], info["unreliable"]) == ("37.50", "37.50", False)
    assert info["link"] is None and info["authors"] is None and info["additional_data"] is None
    assert "corruptions_acc" not in info
    assert told == ("robustbench: meets the board's conditions: net Linf",)
    assert "It meets the board's conditions" in text and "**Robust accuracy**: 37.50%" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"params": {**STANDARD, "version": "rand"}}, "AutoAttack was not run"),
        ({"params": {**STANDARD, "steps": 10}}, "AutoAttack was not run"),
        ({"name": "pgd", "params": {}}, "AutoAttack was not run"),
        ({"eps": 4 / 255}, "the radius of the board, 8/255, was not attacked at"),
        ({"n": 1000}, "1000 images were measured, the board's number is 10000"),
        ({"data": "digits"}, "the images are of digits"),
    ],
)
def test_each_condition_that_is_not_met_is_named(of, changes, reason):
    images = {key: changes[key] for key in ("n", "data") if key in changes}
    attack = {"name": "auto_attack", "params": STANDARD, **WHOLE, **changes}
    infos, text, told = made(of, clean(**{**WHOLE, **images}), record(**attack))
    assert any(reason in line for line in told) and reason in text
    (info,) = infos.values()
    assert (info["autoattack_acc"] is None) == ("AutoAttack" in reason)
    assert info["reported"] == "75.00"


def test_a_file_called_as_a_set_is_not_taken_for_it(of):
    auto = record(name="auto_attack", params=STANDARD, **WHOLE)
    _, _, told = made(of, clean(**WHOLE), auto, experiment='name = "x"\n[data]\nname = "/tmp/cifar10.npz"\n')
    assert "it is not known that these are the images of cifar10" in told[0]


def test_the_reported_number_is_the_worst_case_over_attacks(of):
    one, other = (1, 0, 0, 1, 1, 1, 0, 0), (0, 1, 1, 1, 1, 1, 0, 0)
    infos, _, _ = made(
        of, clean(**WHOLE), record(score=one, **WHOLE), record(name="fgsm", score=other, **WHOLE)
    )
    assert infos["model_info/cifar10/Linf/net.json"]["reported"] == "37.50"


def test_all_corruptions_from_the_published_files_are_a_claim_and_fewer_are_not(of):
    every = [
        corrupted(name=kind, severity=s, params={"files": "CIFAR-10-C"}, score=HALF, **WHOLE)
        for kind in TEST_TYPES
        for s in range(1, 6)
    ]
    infos, _, told = made(of, clean(**WHOLE), *every)
    info = infos["model_info/cifar10/corruptions/net.json"]
    assert (info["corruptions_acc"], info["eps"]) == ("37.50", None) and "autoattack_acc" not in info
    assert told == ("robustbench: meets the board's conditions: net corruptions",)
    infos, _, told = made(of, clean(**WHOLE), corrupted(**WHOLE), name="few")
    assert infos["model_info/cifar10/corruptions/net.json"]["corruptions_acc"] is None
    assert any("1 of 75 corruptions" in line for line in told) and any("made anew" in line for line in told)


def test_doubts_are_in_the_file(of):
    attack = record(
        name="auto_attack", params=STANDARD, checks=[Check("convergence", "warn", 1.0, "x")], **WHOLE
    )
    infos, _, _ = made(of, clean(**WHOLE), attack)
    (info,) = infos.values()
    assert info["unreliable"] is True and "convergence" in info["footnote"]
    infos, _, _ = made(of, clean(**WHOLE), record(checks=[Check.not_made("seeds", "x")], **WHOLE), name="b")
    assert next(iter(infos.values()))["unreliable"] is None


def test_a_defended_model_is_no_claim(of):
    infos, text, told = made(of, clean(defense="jpeg"), record(defense="jpeg", access="adaptive"))
    assert (infos, text) == ({}, "") and "nothing to write" in told[0]


def test_hostile_names_stay_names(of):
    infos, text, _ = made(of, clean(HOSTILE), record(HOSTILE))
    (place,) = infos
    assert place.count("/") == 3 and "<" not in place
    assert markup(text) <= {"h1", "h2", "p", "ul", "li", "strong", "pre", "code"}


def test_adversarials_are_saved_without_loss_and_read_without_running_code(tmp_path):
    x_adv = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    path = save_adversarials(tmp_path / "adv.pt", x_adv[::2], of=torch.zeros(3, 3, 4, 4))
    loaded = torch.load(path, weights_only=True)
    assert torch.equal(loaded, x_adv[::2]) and loaded.dtype == torch.float32
    assert loaded.untyped_storage().nbytes() == 3 * 48 * 4


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 4), r"expected floats \[n,c,h,w\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((2, 3, 4, 4), 1.5), r"pixels in \[0, 1\]"),
        (torch.full((2, 3, 4, 4), torch.nan), r"pixels in \[0, 1\]"),
        (torch.zeros(3, 3, 4, 4), "shape of the clean images"),
    ],
)
def test_other_things_are_not_saved(tmp_path, images, words):
    with pytest.raises(DataError, match=words):
        save_adversarials(tmp_path / "adv.pt", images, of=torch.zeros(2, 3, 4, 4))
    assert not list(tmp_path.iterdir())


def kept(run, attack, change, fooled):
    """Keep adversarials of a record, as ``--save-examples`` does: eight grey images, changed by so much."""
    x = torch.full((8, 1, 4, 4), 0.5) + change
    rows = attack.rows.assign(
        attacked=True, label=0, prediction=[int(i in fooled) for i in range(8)], distance=change
    )
    save_examples(run, attack.key, attack.labels, x, rows, torch.zeros(8, dtype=torch.bool))


def test_kept_adversarials_are_handed_in_as_the_worst_of_each_image(of):
    one, two = (record(name=name, params={"steps": 1}, data="cifar10") for name in ("pgd", "mim"))
    source, folders, run = of(clean(data="cifar10"), one, two, experiment=CIFAR)
    kept(run, one, 0.01, fooled={0, 1})
    kept(run, two, 0.02, fooled={1, 2})
    files, told = robustbench(source, folders)
    x = torch.load(io.BytesIO(files["adversarials/cifar10/Linf/net.pt"]), weights_only=True)
    changes = (x - 0.5).amax((1, 2, 3))
    order = [entry.record.key for entry in source.entries if entry.labels["family"] == "attack"]
    first = 0.01 if order[0] == one.key else 0.02
    own = {0: 0.01, 1: first, 2: 0.02} | dict.fromkeys(range(3, 8), first)
    assert changes.tolist() == pytest.approx([own[i] for i in range(8)], abs=1e-6)
    assert "`adversarials/cifar10/Linf/net.pt`" in files["submission.md"]
    assert not any("adversarials" in line for line in told)
    assert files == robustbench(source, folders)[0]


def test_kept_adversarials_that_were_changed_are_told_and_left_out(of):
    attack = record(data="cifar10")
    source, folders, run = of(clean(data="cifar10"), attack, experiment=CIFAR)
    kept(run, attack, 0.01, fooled={0})
    (run / "examples" / f"{attack.key}.npz").write_bytes(b"other")
    files, told = robustbench(source, folders)
    assert not [name for name in files if name.endswith(".pt")]
    assert any("is not what was written" in line for line in told)
    assert "--save-examples" in files["submission.md"]
