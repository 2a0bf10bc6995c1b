"""Networks of other kinds through the command: what it says, and what it measures."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

BARE = ("--attacks", "none", "--checks", "off", "--data", "data.npz", "--out", "out")


@pytest.fixture
def weights(work):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    torch.save({"state_dict": network.state_dict(), "ema": network.state_dict()}, "net.pt")
    return network


def records():
    return [json.loads(path.read_text()) for path in Path("out/records").rglob("*.json")]


def test_a_factory_takes_arguments_and_a_checkpoint_has_several_weights(done, weights, undrawn, caplog):
    done("evaluate", "net.pt", "--arch", "net.py:make(classes=3)", "--weights", "ema", *BARE)
    (record,) = records()
    assert record["labels"]["arch"] == "make(classes=3)" and record["labels"]["model"] == "net"
    assert "not those under" not in caplog.text


def test_a_program_is_run_when_named_as_one(done, cli, weights, undrawn, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is an old format
        torch.jit.trace(weights, torch.rand(2, 1, 8, 8)).save("script.pt")
    refused = cli("evaluate", "script.pt", "--arch", "net.py:make", *BARE)
    assert refused.code == 2 and "--arch torchscript:" in refused.err and not Path("out").exists()
    done("evaluate", "--arch", "torchscript:script.pt", *BARE)
    assert "runs the program in this file" in caplog.text and "weights with sha256" in caplog.text
    (record,) = records()
    assert record["labels"]["model"] == "script"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["net.pt", "--arch", "net.py:make(classes=n)"], "got code (n), which is not run"),
        (["net.pt", "--arch", "net.py:make(depth=3)"], "expected arguments of make(classes=3)"),
        (["net.pt", "--arch", "net.py:make", "--weights", "emma"], "did you mean 'ema'"),
        (["net.pt", "--arch", "net.py:make", "--download"], "--download: expected a network of a library"),
        (["--arch", "torchvision:resnet18"], "fetched with --download"),
        (["--arch", "hf:nowhere"], "nothing is fetched"),
        (["--arch", "torchscript:net.pt"], "expected a TorchScript archive"),
        (["net.pt", "--arch", "torchscript:net.pt"], "expected it alone"),
        (["net.pt", "--arch", "torchvison:resnet18"], "did you mean 'torchvision:resnet18'"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(cli, weights, arguments, said):
    outcome = cli("evaluate", *arguments, *BARE)
    assert outcome.code == 2 and said in outcome.err, outcome
    assert len(outcome.err.strip().splitlines()) == 1 and not Path("out").exists()


def test_the_list_shows_the_prefixes(done):
    listed = done("list", "architectures")
    for prefix in (
        "torchvision:NAME",
        "timm:NAME",
        "hf:FOLDER",
        "robustbench:NAME",
        "onnx:FILE",
        "file.py:FACTORY",
    ):
        assert prefix in listed
