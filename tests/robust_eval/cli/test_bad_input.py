"""Bad input: one clear line per problem on stderr, exit code 2, and nothing created."""

import io
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robust_eval.registry import build

EVALUATE = ("evaluate", "--arch", "net.py:make", "--data", "data.npz")
TRAIN = ("train", "--regularizer", "erm", "--arch", "small_cnn", "--data", "data.npz")


@pytest.fixture
def refused(cli, work):
    """Run a command that must be refused; return its lines without ``error:``."""

    def run(*arguments, out="made"):
        before = sorted(path for path in work.rglob("*") if "__pycache__" not in path.parts)
        outcome = cli(*arguments, *(["--out", out] if out else []))
        assert outcome.code == 2, outcome
        assert not outcome.out
        lines = outcome.err.splitlines()
        assert lines and all(line.startswith("error: ") for line in lines), outcome.err
        after = sorted(path for path in work.rglob("*") if "__pycache__" not in path.parts)
        assert before == after
        return [line.removeprefix("error: ") for line in lines]

    return run


def one(lines):
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*EVALUATE, "--attacks", "pdg"], ["unknown attack 'pdg'", "did you mean 'pgd'?", "deepfool"]),
        ([*EVALUATE, "--corruptions", "fogg"], ["unknown corruption 'fogg'", "did you mean 'fog'?"]),
        ([*EVALUATE, "--defenses", "sum_augmentatoin"], ["unknown defense", "did you mean 'sum_augmentation'?"]),
        (["evaluate", "w.pt", "--arch", "resnet81", "--data", "data.npz"], ["unknown architecture", "'resnet18'"]),
        ([*EVALUATE[:3], "--data", "digit"], ["unknown data 'digit'", "did you mean 'digits'?", ".npz"]),
        ([*EVALUATE[:3], "--data", "no/such"], ["no file or folder", "no/such"]),
        ([*EVALUATE[:3], "--data", "gone.npz"], ["no file", "gone.npz"]),
        ([*EVALUATE[:3], "--data", "net.py"], ["expected a .npz file or a folder of images, or", "got .py"]),
        (["train", "--regularizer", "mixupp", *TRAIN[3:]], ["unknown regularizer", "did you mean 'mixup'?"]),
        ([*TRAIN[:3], "--arch", "smal_cnn", "--data", "data.npz"], ["unknown architecture", "'small_cnn'"]),
        (["run", "quickstrat"], ["no such file or name", "did you mean 'quickstart'?"]),
        (["run", "gone.toml"], ["no such file or name"]),
        (["run", "."], ["folder without experiment.toml"]),
        (["evalute"], ["No such command 'evalute'", "'evaluate'"]),
        ([*EVALUATE, "--epss", "1"], ["No such option: --epss", "--eps"]),
        (["evaluate", "--data", "data.npz"], ["expected a checkpoint, or --arch path/to/file.py:factory"]),
        (["evaluate", "--arch", "net.py:make"], ["--data: expected a named set"]),
        (["train"], ["Missing option '--regularizer'"]),
        ([*EVALUATE[:2], "net.py:mkae", *EVALUATE[3:]], ["no function 'mkae'", "did you mean 'make'?"]),
        ([*EVALUATE[:2], "ne.py:make", *EVALUATE[3:]], ["no such file", "did you mean 'net.py'?"]),
        ([*EVALUATE[:2], "net.py:broken", *EVALUATE[3:]], ["raised KeyError", "line"]),
        ([*EVALUATE[:2], "net.py:number", *EVALUATE[3:]], ["nn.Module", "got int"]),
        ([*EVALUATE[:2], "net.py:wide", *EVALUATE[3:]], ["cannot take images of 1x8x8", "made for"]),
        ([*EVALUATE[:2], "net.py:colour", *EVALUATE[3:]], ["cannot take images of 1x8x8"]),
        ([*EVALUATE[:2], "net.py:images", *EVALUATE[3:]], ["expected logits [n,classes]", "[2, 1, 8, 8]"]),
        ([*EVALUATE[:3], "--data", "digits"], ["labels in 0..2", "got label 9"]),
        ([*EVALUATE, "--n", "13"], ["at least 13 images, got 12", "lower n"]),
        ([*EVALUATE, "--n", "0"], ["'--n'", "greater than or equal to 1"]),
        ([*EVALUATE, "--eps", "-0.1"], ["--eps", "a number >= 0", "'-0.1'"]),
        ([*EVALUATE, "--eps", "nan"], ["--eps", "'nan'"]),
        ([*EVALUATE, "--eps", "abc"], ["--eps", "8/255", "'abc'"]),
        ([*EVALUATE, "--attacks", "pgd", "--eps", "8"], ["linf radius in [0, 1]", "did you mean '8/255'?"]),
        ([*EVALUATE, "--eps", "l3:1"], ["--eps", "'l3:1'"]),
        ([*EVALUATE, "--attacks", "pgd", "--eps", "l1:1"], ["no attack of this run takes a radius in l1"]),
        ([*EVALUATE, "--attacks", "cw", "--eps", "8/255"], ["no attack", "linf", "cw takes l2"]),
        ([*EVALUATE, "--attacks", "none", "--eps", "1"], ["no attack"]),
        (
            [*EVALUATE, "--attacks", "fgsm_normalised", "--eps", "1"],
            ["takes none", "units of its own (--set fgsm_normalised.eps=VALUE)"],
        ),
        (
            [*EVALUATE, "--attacks", "fgsm_normalised", "--set", "fgsm_normalised.std=0.2,0.3"],
            ["as a list", "--set 'fgsm_normalised.std=[0.2,0.3]'"],
        ),
        (
            [*EVALUATE, "--attacks", "fgsm_normalised", "--set", "fgsm_normalised.std=[0.2,0.3]"],
            ["std: expected 1 numbers, one per channel", "[0.2, 0.3]"],
        ),
        ([*EVALUATE, "--attacks", "none", "--resize"], ["--resize", "(--ood or --shift)"]),
        ([*EVALUATE, "--attacks", "none", "--shift", ","], ["--shift: expected sets", "','"]),
        ([*EVALUATE, "--mean", "0.5"], ["mean and std together", "no std"]),
        ([*EVALUATE, "--std", "0.5"], ["mean and std together", "no mean"]),
        ([*EVALUATE, "--mean", "1,2,3", "--std", "1,2,3"], ["mean: expected 1 numbers, one per channel"]),
        ([*EVALUATE, "--mean", "0.5", "--std", "1,2"], ["std: expected 1 numbers, one per channel"]),
        ([*EVALUATE, "--mean", "0.5", "--std", "0"], ["every std > 0"]),
        ([*EVALUATE, "--mean", "a", "--std", "1"], ["--mean: expected numbers", "'a'"]),
        ([*EVALUATE, "--severity", "6", "--corruptions", "fog"], ["'fog'", "severity", "5, got 6"]),
        ([*EVALUATE, "--device", "tpu"], ["expected auto, cpu, cuda or cuda:N, got 'tpu'"]),
        ([*EVALUATE, "--device", "meta"], ["expected auto, cpu, cuda or cuda:N, got 'meta'"]),
        ([*EVALUATE, "--device", "cuda:99"], ["use cpu"]),
        ([*EVALUATE, "--set", "pgd"], ["--set", "NAME.FIELD=VALUE", "'pgd'"]),
        ([*EVALUATE, "--set", "pdg.steps=1"], ["--set pdg", "did you mean 'pgd'?"]),
        ([*EVALUATE, "--attacks", "none", "--set", "gaussian_smoothing.draws=9"],
         ["the defense gaussian_smoothing was not asked for", "it has none"]),
        ([*EVALUATE, "--attacks", "pgd", "--set", "fog.severity=2"], ["corruption fog was not asked for", "has pgd"]),
        ([*EVALUATE[:2], "net.py", *EVALUATE[3:]], ["expected file.py:factory, got 'net.py'", "'net.py:build'"]),
        (["evaluate", "w.pt", "--arch", "net.py", "--data", "data.npz"], ["expected file.py:factory, got 'net.py'"]),
        (["doctor", *EVALUATE[1:2], "net.py", *EVALUATE[3:]], ["expected file.py:factory, got 'net.py'"]),
        ([*EVALUATE, "--defenses", "flip_crop", "--set", "flip_crop.crop=8"],
         ["'flip_crop': crop: expected less than", "8 pixels, got 8", "lower it"]),
        ([*EVALUATE[:2], "net.py:inference", *EVALUATE[3:]], ["made under torch.inference_mode", "outside"]),
        ([*EVALUATE, "--set", "pgd.stesp=1"], ["unknown field 'stesp'", "did you mean 'steps'?"]),
        ([*EVALUATE, "--set", "pgd.steps=many"], ["steps: expected a whole number, got 'many'"]),
        ([*EVALUATE, "--size", "4"], ["size is for image folders"]),
        ([*EVALUATE[:3], "--data", "bare.npz", "--defenses", "sum_augmentation"], ["--pool", "train_images"]),
        ([*EVALUATE, "--defenses", "sum_augmentation", "--pool", "digit"], ["unknown data 'digit'", "'digits'"]),
        ([*EVALUATE, "--defenses", "sum_augmentation", "--pool", "wide.npz"], ["images of 1x8x8", "got 1x9x9"]),
        ([*EVALUATE[:3], "--data", "bare.npz", "--pool", "bare.npz", "--defenses", "sum_augmentation"], ["--pool"]),
        (["train", *TRAIN[1:5], "--data", "bare.npz"], ["no training images"]),
        ([*TRAIN, "--epochs", "-1"], ["epochs: expected > 0, got -1"]),
        ([*TRAIN, "--set", "recipe.lrr=1"], ["unknown field 'lrr'", "did you mean 'lr'?"]),
        ([*TRAIN, "--set", "recipe.mean=[1,2]", "--set", "recipe.std=[1,1]"], ["mean: expected 1 numbers"]),
        (["report", "."], ["expected a run folder with records/"]),
        (["report", "gone"], ["expected a run folder with records/", "no such folder"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_fix(refused, arguments, words):
    with Path("net.py").open("a") as file:
        file.write("\n\n@torch.inference_mode()\ndef inference():\n    return make()\n")
    if arguments[0] == "doctor":
        refused = partial(refused, out=None)
    np.savez("wide.npz", x=np.zeros((3, 1, 9, 9), np.uint8), y=np.arange(3))
    line = one(refused(*arguments))
    assert not [word for word in words if word not in line], line


def test_an_unknown_kind_is_refused(refused):
    assert "did you mean 'attack'?" in one(refused("list", "attacc", out=None))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.full((4, 1, 8, 8), 1.5), "y": np.arange(4) % 3}, ["pixels in [0, 1]", "1.5", "divided by 255"]),
        ({"x": np.full((4, 1, 8, 8), -0.5), "y": np.arange(4) % 3}, ["pixels in [0, 1]"]),
        ({"x": np.full((4, 1, 8, 8), np.nan), "y": np.arange(4) % 3}, ["pixels in [0, 1]", "NaN"]),
        ({"x": np.zeros((4, 1, 8, 8)), "y": np.arange(4)}, ["labels in 0..2", "got label 3"]),
        ({"x": np.zeros((4, 1, 8, 8)), "y": np.arange(4) - 1}, ["labels", "-1"]),
        ({"x": np.zeros((0, 1, 8, 8)), "y": np.zeros(0, int)}, ["at least one image, got none"]),
        ({"x": np.zeros((4, 0, 8, 8)), "y": np.arange(4) % 3}, ["at least one pixel"]),
        ({"x": np.zeros((4, 1, 8, 8)), "y": np.arange(3)}, ["4 images and 3 labels"]),
        ({"x": np.zeros((4, 1, 8, 8)), "y": np.zeros(4)}, ["whole numbers", "float64"]),
        ({"x": np.zeros((4, 1, 8, 8), int), "y": np.arange(4)}, ["uint8 or float", "int64"]),
        ({"x": np.zeros((4, 64)), "y": np.arange(4)}, ["[n,c,h,w]", "[4, 64]"]),
        ({"a": np.zeros(3)}, ["images/labels", "got a"]),
        ({"x": np.array([{}]), "y": np.arange(1)}, ["Python objects"]),
    ],
    ids=range(13),
)  # fmt: skip
def test_images_that_cannot_be_evaluated_are_refused(refused, arrays, words):
    np.savez("bad.npz", **arrays)
    line = one(refused(*EVALUATE[:3], "--data", "bad.npz"))
    assert not [word for word in ["bad.npz", *words] if word not in line], line


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_file_that_is_no_npz_is_refused(refused, content):
    Path("bad.npz").write_bytes(content)
    assert "made by numpy.savez" in one(refused(*EVALUATE[:3], "--data", "bad.npz"))


def test_a_damaged_npz_is_refused(refused):
    np.savez_compressed("bad.npz", x=np.random.default_rng(0).random((9, 1, 8, 8)), y=np.arange(9) % 3)
    content = bytearray(Path("bad.npz").read_bytes())
    content[300:900] = bytes(600)
    Path("bad.npz").write_bytes(content)
    assert "damaged" in one(refused(*EVALUATE[:3], "--data", "bad.npz"))


class Payload:
    """Unpickling it creates a file."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_that_needs_code_is_refused_and_never_run(refused):
    Path("bad.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"state_dict": Payload()}, "zip.pt")
    for name in ("bad.pt", "zip.pt"):
        line = one(refused("evaluate", name, "--arch", "small_cnn", "--data", "data.npz"))
        assert name in line and "needs code" in line and "torch.save" in line
    assert not Path("executed").exists()


def test_a_checkpoint_that_does_not_fit_names_keys_and_shapes(refused):
    state = build("architecture", "small_cnn", {"width": 4}).build(channels=1, classes=3).state_dict()
    name, value = next(iter(state.items()))
    save_file({**{k: v for k, v in state.items() if k != name}, "extra": value.clone()}, "keys.safetensors")
    line = one(refused("evaluate", "keys.safetensors", "--arch", "small_cnn", "--data", "data.npz"))
    assert name in line and "extra" in line and "of another shape" in line
    save_file(state, "shape.safetensors")
    line = one(refused("evaluate", "shape.safetensors", "--arch", "small_cnn", "--data", "data.npz"))
    assert "expected [32, 1, 3, 3], got [4, 1, 3, 3]" in line


def test_a_checkpoint_for_other_channels_says_which_images_it_cannot_take(refused):
    state = build("architecture", "small_cnn", {"width": 4}).build(channels=3, classes=3).state_dict()
    torch.save(state, "colour.pt")
    line = one(
        refused(
            "evaluate", "colour.pt", "--arch", "small_cnn", "--data", "data.npz", "--set", "small_cnn.width=4"
        )
    )
    assert "cannot take images of 1x8x8" in line


def test_a_file_that_is_no_checkpoint_is_refused(refused):
    for name, content in {"a.pt": b"<html>", "b.safetensors": b"nothing", "c.pt": b"", "d.txt": b"x"}.items():
        Path(name).write_bytes(content)
        assert name in one(refused("evaluate", name, "--arch", "small_cnn", "--data", "data.npz"))
    line = one(refused("evaluate", "wieghts.pt", "--arch", "small_cnn", "--data", "data.npz"))
    assert "no such file" in line


def test_a_card_that_is_not_ours_does_not_describe_the_model(refused):
    torch.save({}, "w.pt")
    for text in ('{"recipe": "pancakes"}', '{"recipe": {"seed": 1}}'):
        Path("w.json").write_text(text)
        assert "expected an architecture" in one(refused("evaluate", "w.pt", "--data", "data.npz"))


EXPERIMENT = """
name = "bad"
sede = 1
draws = 0

[data]
name = "data.npz"
nn = 3

[recipe]
architecture = { name = "small_cnn", widht = 4 }

[[train]]
regularizer = "erm"
epochs = -1

[[train]]
regularizer = "mixupp"
lr = "fast"

[[train]]

[[model]]
architecture = 5

[[attack]]
name = "pgd"
stepz = 3
eps = "abc"

[[attack]]
name = "cw"
eps = [0.5, -1.0, inf]
access = "blackbox"

[[attack]]
name = 7

[[corruption]]
name = "fog"
severity = [3, 9]

[[corruption]]
name = "fogg"

[[corruption]]
name = "contrast"
severity = []

[[defense]]
k = 2
"""


def test_all_problems_of_a_file_are_told_at_once(refused):
    Path("bad.toml").write_text(EXPERIMENT)
    lines = refused("run", "bad.toml")
    assert all(line.startswith("bad.toml: ") for line in lines)
    for words in [
        ("unknown field 'sede'", "'seed'"),
        ("draws: expected >= 1, got 0",),
        ("data: unknown field 'nn'", "it has name, n, pool"),
        ("[[train]] 1: architecture 'small_cnn': unknown field 'widht'", "'width'"),
        ("[[train]] 1: epochs: expected > 0, got -1",),
        ("[[train]] 2: unknown regularizer 'mixupp'", "'mixup'"),
        ("[[train]] 2: lr: expected a number, got 'fast'",),
        ("[[train]] 3: field 'regularizer' is missing",),
        ("model 1: architecture: expected a string or a table, got 5",),
        ("attack 'pgd': unknown field 'stepz'", "'steps'"),
        ("attack 'pgd': eps:", "'abc'"),
        ("attack 'cw': eps: expected a finite number >= 0", "got -1.0"),
        ("attack 'cw': eps: expected a finite number >= 0", "got inf"),
        ("attack 'cw': access:", "'blackbox'"),
        ("[[attack]] 3: name: expected a string, got 7",),
        ("corruption 'fog': severity: expected <= 5, got 9",),
        ("unknown corruption 'fogg'", "'fog'"),
        ("corruption 'contrast': severity: expected at least one value",),
        ("[[defense]] 1: field 'name' is missing",),
    ]:
        assert [line for line in lines if all(word in line for word in words)], words
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[train\n", ["not valid TOML", "line 1"]),
        ("", ["data", "missing"]),
        ('gradient_draws = "4"\n[data]\nname = "data.npz"', ["gradient_draws: expected a whole number, got '4'"]),
        ('gradient_draws = true\n[data]\nname = "data.npz"', ["gradient_draws: expected a whole number, got True"]),
        ('draws = 2.0\n[data]\nname = "data.npz"', ["draws: expected a whole number, got 2.0"]),
        ('[data]\nname = "data.npz"\n[[model]]\narchitecture = "net.py"', ["expected file.py:factory", "net.py:build"]),
        ('[data]\nname = "data.npz"', ["at least one [[train]] or [[model]]"]),
        ('[data]\nname = 3\n[[train]]\nregularizer = "erm"\narchitecture = "small_cnn"', ["data: name", "got 3"]),
        ('attack = "pgd"\n[data]\nname = "data.npz"\n[[model]]', ["attack: expected a list, got 'pgd'"]),
        ('imports = ["gone_module"]\n[data]\nname = "data.npz"\n[[model]]', ["'gone_module' cannot be imported"]),
        ('[data]\nname = "data.npz"\n[[model]]\narchitecture = "resnet81"', ["[[model]] 1", "did you mean"]),
        ('[data]\nname = "data.npz"\n[[model]]\narchitecture = { width = 4 }', ["[[model]] 1", "'name' is missing"]),
        ('[data]\nname = "data.npz"\n[[attack]]\nname = "pgd"\naccess = 5\n[[model]]', ["access", "got 5"]),
        ('[data]\nname = "data.npz"\n[[model]]\ncheckpoint = "gone.pt"\narchitecture = "resnet18"', ["no such file"]),
        (
            '[data]\nname = "data.npz"\n[recipe]\narchitecture = "small_cnn"\n[[train]]\nregularizer = "erm"\n'
            '[[train]]\nregularizer = "erm"\nseed = 1',
            ["two models are named 'erm'"],
        ),
    ],
)  # fmt: skip
def test_an_experiment_file_is_refused_with_its_fix(refused, text, words):
    Path("bad.toml").write_text(text)
    lines = [line for line in refused("run", "bad.toml") if all(word in line for word in words)]
    assert lines and ("bad.toml" in lines[0] or "gone.pt" in lines[0])


def place(kind: str, ending: str) -> str:
    """Make what lies at a path of this kind; return the path."""
    path = Path(f"odd{ending}")
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to nothing":
        path.symlink_to("gone")
    elif kind == "circle of links":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    return {
        "long name": "z" * 300 + ending,
        "long path": "a/" * 2500 + f"b{ending}",
        "NUL": f"a\0b{ending}",
        "not UTF-8": os.fsdecode(b"caf\xe9" + ending.encode()),
        "no home": f"~nobody-of-that-name/x{ending}",
        "empty": "",
    }.get(kind, str(path))


KINDS = (
    "FIFO", "socket", "link to a device", "link to nothing", "circle of links", "long name", "long path", "NUL",
    "not UTF-8",
)  # fmt: skip
READ = {
    "evaluate --data": (".npz", [*EVALUATE[:3], "--data", "{}"]),
    "evaluate --data, a folder": ("", [*EVALUATE[:3], "--data", "./{}"]),
    "evaluate CHECKPOINT": (".pt", ["evaluate", "{}", "--arch", "small_cnn", "--data", "data.npz"]),
    "evaluate CHECKPOINT with a card": (".safetensors", ["evaluate", "{}", "--data", "data.npz"]),
    "evaluate --arch": (".py", ["evaluate", "--arch", "{}:make", "--data", "data.npz"]),
    "evaluate --pool": (".npz", [*EVALUATE, "--defenses", "sum_augmentation", "--pool", "{}"]),
    "evaluate --corrupted": ("", [*EVALUATE, "--corrupted", "{}"]),
    "evaluate --ood": (".npz", [*EVALUATE, "--attacks", "none", "--ood", "{}"]),
    "evaluate --shift": (".npz", [*EVALUATE, "--attacks", "none", "--shift", "{}"]),
    "evaluate, a surrogate": (
        ".pt",
        [*EVALUATE, "--attacks", "transfer:pgd", "--set", "transfer:pgd.architecture=small_cnn",
         "--set", "transfer:pgd.surrogate={}"],
    ),
    "evaluate, textures": (
        "",
        [*EVALUATE, "--attacks", "none", "--corruptions", "frost", "--set", "frost.textures={}"],
    ),
    "analyze --data": (".npz", ["analyze", *EVALUATE[1:3], "--data", "{}"]),
    "analyze --other": (".npz", ["analyze", *EVALUATE[1:], "--analyses", "detection", "--other", "{}"]),
    "analyze --pool": (".npz", ["analyze", *EVALUATE[1:], "--analyses", "weight_norm", "--pool", "{}"]),
    "doctor --data": (".npz", ["doctor", *EVALUATE[1:3], "--data", "{}"]),
    "doctor CHECKPOINT": (".pth", ["doctor", "{}", "--arch", "small_cnn", "--data", "data.npz"]),
    "doctor --pool": (".npz", ["doctor", *EVALUATE[1:], "--defenses", "sum_augmentation", "--pool", "{}"]),
    "train --data": (".npz", [*TRAIN[:5], "--data", "{}"]),
    "train, a start": (".pt", [*TRAIN, "--set", "recipe.start={}"]),
    "corrupt DATA": (".npz", ["corrupt", "{}"]),
    "run FILE": (".toml", ["run", "{}"]),
    "run --data": (".npz", ["run", "quickstart", "--data", "{}"]),
    "report RUN": ("", ["report", "{}"]),
}  # fmt: skip
WRITTEN = {
    "evaluate": [*EVALUATE, "--attacks", "none"],
    "analyze": ["analyze", *EVALUATE[1:], "--analyses", "weight_norm"],
    "train": [*TRAIN],
    "corrupt": ["corrupt", "data.npz"],
    "run": ["run", "quickstart"],
    "report": ["report", "."],
}


OPTIONAL = ("evaluate CHECKPOINT with a card", "evaluate --ood", "evaluate --shift")
"""Where an empty text asks for nothing, or leaves the place to a name."""
READINGS = [
    (where, kind)
    for where, (_, command) in READ.items()
    for kind in [*KINDS, "no home", "empty"]
    if kind != "empty" or ("{}" in command and where not in OPTIONAL)
]


@pytest.mark.parametrize(("where", "kind"), READINGS)
def test_what_is_no_file_is_named_and_never_waited_for(refused, where, kind):
    ending, command = READ[where]
    path = place(kind, ending)
    arguments = [part.replace("{}", path) for part in command]
    line = one(refused(*arguments, out=None if command[0] == "doctor" else "made"))
    assert "expected" in line or "no file" in line or "no such" in line, line
    assert len(line) < 600


@pytest.mark.parametrize("kind", [*KINDS, "empty"])
@pytest.mark.parametrize("command", WRITTEN)
def test_a_folder_that_cannot_be_made_is_named(refused, command, kind):
    assert "--out" in one(refused(*WRITTEN[command], "--out", place(kind, ""), out=None))


@pytest.mark.parametrize("name", ["corruptions.json", "labels.npy", "fog.npy"])
def test_what_is_no_file_among_those_to_be_written_is_named(refused, name):
    Path("made").mkdir()
    os.mkfifo(f"made/{name}")
    assert f"expected a file {name}, got a FIFO" in one(
        refused("corrupt", "data.npz", "--corruptions", "fog")
    )


MODEL = '[[model]]\narchitecture = "net.py:make"\n'
TABLES = {
    "data.name": (".npz", '[data]\nname = "{}"\n' + MODEL),
    "data.pool": (".npz", '[data]\nname = "data.npz"\npool = "{}"\n' + MODEL),
    "data.corrupted": ("", '[data]\nname = "data.npz"\ncorrupted = "{}"\n' + MODEL),
    "checkpoint": (".pt", '[data]\nname = "data.npz"\n[[model]]\narchitecture = "small_cnn"\ncheckpoint = "{}"\n'),
    "architecture": (".py", '[data]\nname = "data.npz"\n[[model]]\narchitecture = "{}:make"\n'),
    "start": (
        ".pt",
        '[data]\nname = "data.npz"\n[recipe]\narchitecture = "small_cnn"\nstart = "{}"\n[[train]]\n'
        'regularizer = "erm"\n',
    ),
    "teacher": (
        ".pt",
        '[data]\nname = "data.npz"\n[recipe]\narchitecture = "small_cnn"\n[[train]]\nregularizer = "erm"\n'
        'curriculum = { name = "teacher_order", teacher = "{}" }\n',
    ),
    "other": (".npz", '[data]\nname = "data.npz"\n' + MODEL + '[[analysis]]\nname = "detection"\nother = "{}"\n'),
    "imports": (".py", 'imports = ["{}"]\n[data]\nname = "data.npz"\n' + MODEL),
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "not UTF-8"])
@pytest.mark.parametrize("field", TABLES)
def test_a_path_in_an_experiment_that_is_no_file_is_named(refused, field, kind):
    ending, text = TABLES[field]
    path = place(kind, ending)
    path = path.removesuffix(".py").replace("/", ".") if field == "imports" else path
    Path("e.toml").write_text(text.replace("{}", path.replace("\0", "\\u0000")))
    assert len(one(refused("run", "e.toml"))) < 6000


HUGE = ("true", "1e22", "-1", "9" * 5000, "nan", "[1]", "[" * 3000 + "]" * 3000)
FIELDS = {
    "pgd.steps": [*EVALUATE, "--attacks", "pgd"],
    "pgd.eps": [*EVALUATE, "--attacks", "pgd"],
    "square.queries": [*EVALUATE, "--attacks", "square"],
    "cw.lr": [*EVALUATE, "--attacks", "cw"],
    "fog.severity": [*EVALUATE, "--attacks", "none", "--corruptions", "fog"],
    "gaussian_smoothing.copies": [*EVALUATE, "--attacks", "none", "--defenses", "gaussian_smoothing"],
    "small_cnn.width": ["evaluate", "w.pt", "--arch", "small_cnn", "--data", "data.npz"],
    "in_between.pairs": ["analyze", *EVALUATE[1:], "--analyses", "in_between"],
    "erm.label_smoothing": [*TRAIN],
    "recipe.seed": [*TRAIN],
    "recipe.batch_size": [*TRAIN],
    "recipe.lr": [*TRAIN],
    "data.per_class": [*TRAIN],
    "data.seed": [*TRAIN],
}


SWEPT = ("pgd.eps", "fog.severity")
"""Fields that may be lists."""
NUMBERS = [(field, value) for field in FIELDS for value in HUGE if not (field in SWEPT and value == "[1]")]


@pytest.mark.parametrize(("field", "value"), NUMBERS, ids=lambda text: text[:16])
def test_a_number_that_nobody_means_is_refused_at_the_door(refused, field, value):
    lines = refused(*FIELDS[field], "--set", f"{field}={value}")
    assert field.partition(".")[2] in one(list(dict.fromkeys(lines))) and len(lines[0]) < 400


@pytest.mark.parametrize(
    "arguments",
    [
        [*EVALUATE, "--seed", str(2**63)],
        [*EVALUATE, "--seed", "-1"],
        [*EVALUATE, "--seed", "true"],
        [*EVALUATE, "--seed", "9" * 5000],
        [*EVALUATE, "--n", "1e3"],
        [*EVALUATE, "--n", str(10**12)],
        [*EVALUATE, "--batch-size", str(10**12)],
        [*EVALUATE, "--batch-size", "0"],
        [*EVALUATE, "--gradient-draws", str(10**12)],
        [*EVALUATE, "--size", str(10**9)],
        [*EVALUATE, "--eps", "true"],
        [*EVALUATE, "--eps", "1e999999999"],
        [*EVALUATE, "--eps", "l2:" + "9" * 5000],
        [*EVALUATE, "--severity", str(2**70), "--corruptions", "fog"],
        [*EVALUATE, "--checks", "none"],
        [*EVALUATE, "--budget", "strnog"],
        [*EVALUATE, "--attacks", "pgd", "--set", "pgd.target=3"],
        [*EVALUATE, "--attacks", "pgd", "--set", "pgd.target=99"],
        [*EVALUATE, "--attacks", "cw,deepfool", "--set", "cw.target=3"],
        [*EVALUATE, "--data", "/"],
        ["analyze", *EVALUATE[1:], "--seed", str(2**64)],
        ["analyze", *EVALUATE[1:], "--analyses", "none"],
        ["analyze", *EVALUATE[1:], "--analyses", "detecton"],
        ["analyze", *EVALUATE[1:], "--resize"],
        ["analyze", *EVALUATE[1:3], "--data", "/"],
        ["train", *TRAIN[1:], "--seed", str(2**63)],
        ["train", *TRAIN[1:], "--epochs", "nan"],
        ["train", *TRAIN[1:], "--epochs", "1e300"],
        ["train", *TRAIN[1:], "--robust-every", "-1"],
        ["train", *TRAIN[1:5], "--data", "/"],
        ["corrupt", "data.npz", "--seed", str(2**63)],
        ["corrupt", "data.npz", "--n", "0"],
        ["corrupt", "data.npz", "--corruptions", "fogg"],
        ["corrupt", "data.npz", "--corruptions", "rotation"],
        ["corrupt", "/"],
        ["run", "quickstart", "--checks", "some"],
        ["run", "quickstart", "--data", "/"],
        ["run", "quickstart", "--device", "tpu"],
        ["report"],
        ["report", "data.npz"],
        ["report", ".", "gone"],
    ],
    ids=lambda arguments: " ".join(arguments)[:70],
)  # fmt: skip
def test_an_option_out_of_its_range_is_one_line(refused, arguments):
    assert one(refused(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", *EVALUATE[1:], "--checks", "off"],
        ["doctor", *EVALUATE[1:], "--eps", "0"],
        ["doctor", *EVALUATE[1:], "--eps", "true"],
        ["doctor", *EVALUATE[1:], "--eps", "l1:1"],
        ["doctor", *EVALUATE[1:], "--seed", str(2**63)],
        ["doctor", *EVALUATE[1:], "--n", str(10**12)],
        ["doctor", *EVALUATE[1:3], "--data", "/"],
        ["doctor", "--data", "data.npz"],
        ["list", ""],
        ["list", "a\0b"],
        ["guide", "nothing"],
        ["guide", "../README"],
        ["guide", ""],
    ],
    ids=lambda arguments: " ".join(arguments)[:70],
)  # fmt: skip
def test_commands_that_write_nothing_refuse_alike(refused, arguments):
    assert one(refused(*arguments, out=None))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x=" + b"[" * 5000 + b"]" * 5000, "too deep"),
        (b"x=" + b"[" * 100 + b"]" * 100, "deep"),
        (b"x" + b".x" * 5000 + b"=1", "deep"),
        (b"seed=" + b"9" * 5000, "limit"),
        (b'name="caf\xe9"', "UTF-8"),
        (b"\xff\xfen\x00", "UTF-8"),
        (b"#" * (5 << 20), "at most 4 MiB"),
        (b"seed=9223372036854775808", "seed"),
        (b"seed=true", "seed"),
        (b"draws=1e22", "draws"),
        (b"draws=10000000000", "draws"),
        (b"data=3", "data"),
        (b"[data]\nname=''", "name"),
        (b"[data]\nname='data.npz'\nn=true", "n: expected"),
        (b"[data]\nname='data.npz'\nn=0", "n: expected"),
        (b"[data]\nname='data.npz'\nseed=9223372036854775808", "seed"),
        (b"[data]\nname='data.npz'\nlabel_noise=true", "label_noise"),
        (b"[data]\nname='data.npz'\nsize=100000000", "size"),
        (b"[[model]]\nmean=[true]", "mean"),
        (b"[[attack]]\nname='pgd'\neps=true", "eps"),
        (b"[[attack]]\nname='pgd'\neps=[0.1, true]", "eps"),
        (b"[[attack]]\nname='cw'\neps=true", "eps"),
        (b"[[attack]]\nname='pgd'\nsteps=[1, 2]", "steps"),
        (b"[[attack]]\nname='pgd'\ntarget=-1", "target"),
        (b"[[corruption]]\nname='fog'\nseverity=true", "severity"),
        (b"[[train]]\nregularizer='erm'\nseeds=[9223372036854775808]", "seed"),
        (b"[[train]]\nregularizer='erm'\nseeds=[true]", "seed"),
        (b"[[train]]\nregularizer='mixup'\narchitecture={name='small_cnn', width=100000000}", "width"),
        (b"[[train]]\nregularizer={name='mixup', alpha=true}\narchitecture='small_cnn'", "alpha"),
    ],
    ids=range(29),
)  # fmt: skip
def test_a_file_of_toml_that_nobody_means_is_refused(refused, content, words):
    Path("e.toml").write_bytes(content)
    lines = refused("run", "e.toml")
    assert any(words in line for line in lines) and max(map(len, lines)) < 600, lines


def header(shape, dtype="|u1", magic=b"\x93NUMPY\x01\x00"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return magic + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (header((10**9, 1, 1000, 1000)), "damaged: its header tells of 1,000,000,000,000,000 bytes"),
        (header((4, 1, 8, 8)), "damaged: its header tells of 256 bytes, and there are 0"),
        (header((-4, 1, 8, 8)), "no array or is damaged"),
        (header((4, 1, 8, 8), "|O"), "holds Python objects"),
        (header((4, 1, 8, 8), "|Q9"), "no array or is damaged"),
        (header("'many'"), "no array or is damaged"),
        (header((2**70, 1, 8, 8)), "damaged"),
        (b"plain text", "no array or is damaged"),
        (b"", "no array or is damaged"),
        (header((4,), magic=b"\x93NUMPY\x09\x00"), "no array or is damaged"),
    ],
    ids=range(10),
)  # fmt: skip
def test_an_array_is_believed_by_its_bytes_not_by_its_header(refused, member, words):
    labels = io.BytesIO()
    np.save(labels, np.arange(4) % 3)
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", labels.getvalue())
    assert words in one(refused(*EVALUATE[:3], "--data", "bad.npz"))


def test_images_that_unpack_to_more_than_there_is_memory_are_refused_before_they_are_unpacked(
    refused, monkeypatch
):
    monkeypatch.setattr("robust_eval.data._npz.available", lambda _: 10**6)
    np.savez_compressed("bad.npz", x=np.zeros((20000, 1, 8, 8), np.uint8), y=np.arange(20000) % 3)
    assert "fit into memory" in one(refused(*EVALUATE[:3], "--data", "bad.npz"))


@pytest.mark.parametrize("command", [EVALUATE, TRAIN, ("run",)], ids=lambda command: command[0])
def test_an_out_folder_that_is_a_file_is_refused(refused, command):
    for out in ("net.py", "net.py/below"):
        assert f"--out {out}: expected a folder" in one(refused(*command, out=out))


def test_an_out_folder_that_cannot_be_made_is_refused(refused, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    assert one(refused(*EVALUATE, "--attacks", "none")).startswith(
        "--out made: cannot be made (Permission denied)"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_out_folder_that_is_not_writable_is_refused(refused):
    Path("locked").mkdir(mode=0o500)
    assert "not writable" in one(refused(*EVALUATE, out="locked/run"))


@pytest.mark.slow
def test_a_folder_that_hides_our_packages_is_refused_and_not_run(work):
    Path("trainers").mkdir()
    Path("trainers/__init__.py").write_text("raise SystemExit('ran')")
    command = [sys.executable, "-c", "from robust_eval.cli import main; main()", "list"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(work)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and not done.stdout
    line = one(done.stderr.splitlines())
    assert line.startswith("error: package 'trainers'")
    assert str(work / "trainers") in line
    assert str(Path(__file__).parents[3] / "trainers") in line
