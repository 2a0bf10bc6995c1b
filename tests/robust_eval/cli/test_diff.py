"""``robust-eval diff``: exit code 0 whatever it finds, 2 for wrong input, and a document alone for a pipe."""

import json

import pytest

import robust_eval


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of linear models on the same images: one that is right on most of them, and one that is on few."""
    import numpy as np
    import torch

    folder = tmp_path_factory.mktemp("runs")
    images = np.random.default_rng(0).random((60, 1, 4, 4), dtype=np.float32)
    labels = (images[:, 0, :2].mean((1, 2)) > images[:, 0, 2:].mean((1, 2))).astype(int)
    for name, sign in (("last", 1.0), ("new", -1.0)):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2, bias=False))
        with torch.no_grad():
            top = sign * torch.tensor([1.0] * 8 + [-1.0] * 8)
            net[1].weight.copy_(torch.stack([-top, top]))
        robust_eval.evaluate(
            net, images, labels, attacks="none", checks="off", name="net", out=folder / name, progress=False
        )
    return folder


def test_what_changed_is_one_sentence_a_table_and_exit_code_0(cli, runs, tmp_path):
    done = cli("diff", runs / "last", runs / "new", "--html", tmp_path / "d.html")
    assert (done.code, done.err) == (0, ""), done
    assert done.out.startswith("1 of 1 number changed beyond noise: net: clean fell by 100.0 points (")
    page = (tmp_path / "d.html").read_text(encoding="utf-8")
    assert page.count("<img") == 6 and "54 images without a picture" in page


def test_each_format_stands_alone_on_stdout(cli, runs):
    pair = (runs / "last", runs / "new")
    told = json.loads(cli("diff", *pair, "--format", "json").out)
    assert told["numbers"][0]["change"] == -1.0 and len(told["numbers"][0]["to_wrong"]) == 60
    assert cli("diff", *pair, "--format", "csv").out.startswith("changed,model,number,before,after,change,")
    assert cli("diff", *pair, "--format", "md").out.startswith("# From last to new\n\n1 of 1 number changed")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["last", "lst"], "did you mean 'last'?"),
        (["last", "last"], "expected each run once"),
        (["last"], "Missing argument 'B'"),
        (["last", "new", "--format", "jsn"], "did you mean 'json'?"),
        (["last", "new", "--html", "."], "expected a file to write, got a folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(cli, runs, monkeypatch, arguments, line):
    monkeypatch.chdir(runs)
    done = cli("diff", *arguments)
    assert (done.code, done.out) == (2, "") and line in done.err and done.err.count("\n") == 1
