import pytest

from robust_eval.config.trust import code_in
from robust_eval.models.named import from_anywhere, gives_network, runs_code, short_name
from robust_eval.models.zoo import known


def absolute(path):
    return f"/here/{path}"


@pytest.mark.parametrize(
    ("spec", "moved", "runs", "short"),
    [
        ("net.py:build(depth=18)", "/here/net.py:build(depth=18)", True, "build"),
        ("torchscript:a/b.pt", "torchscript:/here/a/b.pt", True, "b"),
        ("export:b (1).pt2", "export:/here/b (1).pt2", True, "b (1)"),
        ("onnx:b.onnx", "onnx:/here/b.onnx", True, "b"),
        ("hf:a/vit", "hf:/here/a/vit", False, "vit"),
        (
            "timm:resnet18.a1_in1k(drop_rate=.1)",
            "timm:resnet18.a1_in1k(drop_rate=.1)",
            False,
            "resnet18.a1_in1k",
        ),
        ("torchvision:vit_b_16", "torchvision:vit_b_16", False, "vit_b_16"),
        ("robustbench:A(dataset='cifar100')", "robustbench:A(dataset='cifar100')", False, "A"),
    ],
)
def test_a_name_says_where_its_file_lies_and_whether_code_is_run(spec, moved, runs, short):
    assert gives_network(spec)
    assert from_anywhere(spec, absolute) == moved
    assert (runs_code(spec) == spec) if runs else runs_code(spec) is None
    assert short_name(spec) == short
    assert bool(code_in({"model": [{"architecture": spec}]})) == runs


def test_a_table_with_a_prefix_is_as_its_name():
    table = {"name": "onnx:b.onnx"}
    assert from_anywhere(table, absolute) == {"name": "onnx:/here/b.onnx"}
    assert code_in({"attack": [{"architecture": table}]})


@pytest.mark.parametrize("other", ["resnet18", {"name": "resnet18", "width": 4}, None])
def test_an_architecture_of_ours_is_none_of_them(other):
    assert not gives_network(other) and runs_code(other) is None and from_anywhere(other, absolute) == other


def test_every_prefix_is_listed():
    assert [line.partition(":")[0] for line in known()] == [
        *("export", "hf", "onnx", "robustbench", "timm", "torchscript", "torchvision"),
    ]
