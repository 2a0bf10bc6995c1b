"""Programs in files answer as the networks that they were made of, have gradients, and run only when named so."""

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.models.checkpoint import read_state
from robust_eval.models.zoo import bring

X = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5)
    ).eval()


def scripted(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is an old format
        torch.jit.trace(small(), X).save(str(path))


def exported(path, batch=None):
    free = ({0: torch.export.Dim("n", min=1, max=64)},) if batch is None else None
    torch.export.save(torch.export.export(small(), (X[: batch or 5],), dynamic_shapes=free), str(path))


def as_onnx(path, batch=None):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    net, make, of = small(), onnx.helper, onnx.TensorProto.FLOAT
    weights = {"w": net[0].weight, "b": net[0].bias, "v": net[5].weight, "c": net[5].bias}
    weights |= {name: getattr(net[1], name) for name in ("weight", "bias", "running_mean", "running_var")}
    nodes = [
        make.make_node("Conv", ["x", "w", "b"], ["h"]),
        make.make_node("BatchNormalization", ["h", "weight", "bias", "running_mean", "running_var"], ["i"]),
        make.make_node("Relu", ["i"], ["j"]),
        make.make_node("Reshape", ["j", "shape"], ["k"], allowzero=1),
        make.make_node("Gemm", ["k", "v", "c"], ["y"], transB=1),
    ]
    tensors = [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([batch or -1, 144]), "shape"))
    images = make.make_tensor_value_info("x", of, [batch or "n", 3, 8, 8])
    logits = make.make_tensor_value_info("y", of, [batch or "n", 5])
    graph = make.make_graph(nodes, "net", [images], [logits], tensors)
    # of operators that the converter does not know yet
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 19)]), str(path))


MADE = {
    "torchscript": scripted,
    "export": exported,
    "export:2": lambda path: exported(path, 2),
    "onnx": as_onnx,
    "onnx:2": lambda path: as_onnx(path, 2),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", MADE)
def test_a_program_answers_as_its_network_and_has_its_gradient(tmp_path, kind, caplog):
    MADE[kind](tmp_path / "net")
    prefix = kind.partition(":")[0]
    found = bring(f"{prefix}:{tmp_path}/net", checkpoint=None, weights=None, download=False)
    network = found.network.eval()
    images, same = X.clone().requires_grad_(), X.clone().requires_grad_()
    torch.testing.assert_close(network(images), small()(same))
    for x, net in ((images, network), (same, small())):
        net(x).square().sum().backward()
    torch.testing.assert_close(images.grad, same.grad)
    assert "runs the program in this file" in caplog.text
    assert ("was made for batches of 2" in caplog.text) == (":" in kind)
    assert found.described == {prefix: found.weights_sha256}


@pytest.mark.parametrize("kind", ["torchscript", "export"])
def test_a_program_is_no_checkpoint_and_says_how_it_is_named(tmp_path, kind):
    MADE[kind](tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=f"name it as a program to be run: --arch {kind}:"):
        read_state(tmp_path / "net.pt")


@pytest.mark.parametrize("kind", ["torchscript", "export", "onnx"])
def test_what_is_no_program_is_one_line(tmp_path, kind):
    if kind == "onnx":
        pytest.importorskip("onnx2torch")
    logging.getLogger("torch.export").setLevel(logging.CRITICAL)
    torch.save(small().state_dict(), tmp_path / "net.pt")
    for spec in (f"{kind}:{tmp_path}/net.pt", f"{kind}:{tmp_path}/none.pt"):
        with pytest.raises(CheckpointError) as caught:
            bring(spec, checkpoint=None, weights=None, download=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="expected it alone"):
        bring(f"{kind}:{tmp_path}/net.pt", checkpoint=tmp_path / "net.pt", weights=None, download=False)
