import argparse
import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from robust_eval import registry
from robust_eval.classifier.normalized import Normalized
from robust_eval.errors import CheckpointError
from robust_eval.models import _content, checkpoint
from robust_eval.models.loading import load_network

ARCHITECTURE = registry.build("architecture", "small_cnn", {"width": 4})


def small(*, channels: int = 3, classes: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return ARCHITECTURE.build(channels=channels, classes=classes)


def same(state, other) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


def refusal(call, *args, **kwargs) -> str:
    """The message of the CheckpointError, which is one line and hides torch's own error."""
    with pytest.raises(CheckpointError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class Wrapped(nn.Module):
    """A user's network that keeps everything under ``model.``."""

    def __init__(self) -> None:
        super().__init__()
        self.model = small()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".PT"])
def test_weights_come_back_as_they_were_saved(tmp_path, suffix):
    state, path = small().state_dict(), tmp_path / f"weights{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(checkpoint.read_state(path), state)
    assert same(checkpoint.read_state(str(path)), state)


def test_the_old_file_format_of_torch_is_read(tmp_path):
    state, path = small().state_dict(), tmp_path / "old.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert same(checkpoint.read_state(path), state)


@pytest.mark.parametrize("levels", [*[[level] for level in _content._LEVELS], ["model", "state_dict"]])
def test_levels_around_the_weights_are_taken_off(tmp_path, levels):
    content = state = small().state_dict()
    for level in levels:
        content = {level: content, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "run.ckpt")
    assert same(checkpoint.read_state(tmp_path / "run.ckpt"), state)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_on_every_name_are_taken_off(tmp_path, prefix):
    state = small().state_dict()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "x.pt")
    assert same(checkpoint.read_state(tmp_path / "x.pt"), state)


def test_a_prefix_that_some_names_lack_stays(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.pt")
    assert set(checkpoint.read_state(tmp_path / "x.pt")) == {"module.a", "b"}


def test_nan_weights_are_read(tmp_path):
    torch.save({"a": torch.tensor([float("nan"), 1.0])}, tmp_path / "x.pt")
    assert checkpoint.read_state(tmp_path / "x.pt")["a"].isnan().tolist() == [True, False]


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path):
    torch.save({}, tmp_path / "weights.pt")
    message = refusal(checkpoint.read_state, tmp_path / "weigths.pt")
    assert "weigths.pt: no such file (did you mean 'weights.pt'?)" in message
    assert "no such file" in refusal(checkpoint.read_state, tmp_path / "nowhere" / "weights.pt")
    assert "got a folder" in refusal(checkpoint.read_state, tmp_path)


@pytest.mark.parametrize("name", ["model_best.pth.tar", "ckpt.t7_0", "weights.pkl", "best_model", "x.h5"])
@pytest.mark.parametrize("write", [torch.save, safetensors.torch.save_file])
def test_a_checkpoint_is_read_whatever_it_is_called(tmp_path, name, write):
    state = small().state_dict()
    write(state, tmp_path / name)
    assert same(checkpoint.read_state(tmp_path / name), state)


@pytest.mark.parametrize("name", ["model_best.pth.tar", "weights.pkl", "best_model"])
def test_a_file_of_any_name_that_is_no_checkpoint_is_described(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello, this is no checkpoint")
    assert "begins with b'hello, this " in refusal(checkpoint.read_state, tmp_path / name)
    torch.save({"a": Payload(tmp_path / "made")}, tmp_path / name)
    assert "which is not run" in refusal(checkpoint.read_state, tmp_path / name)
    assert not (tmp_path / "made").exists()


def test_the_card_of_a_checkpoint_of_any_name_is_held_against_its_weights(tmp_path):
    torch.save(small().state_dict(), tmp_path / "model_best.pth.tar")
    (tmp_path / "model_best.pth.tar.json").write_text(json.dumps({"sha256": "0" * 64}))
    assert "expected weights with sha256 000000000000" in refusal(
        checkpoint.read_card, tmp_path / "model_best.pth.tar"
    )


def test_a_level_that_holds_a_configuration_is_passed_over(tmp_path):
    state = small().state_dict()
    for configuration in ({"name": "resnet"}, {}, {"class_weights": torch.ones(5)}):
        torch.save({"model": configuration, "model_state_dict": state}, tmp_path / "x.pt")
        assert same(checkpoint.read_state(tmp_path / "x.pt"), state)


def test_which_of_several_weights_was_taken_is_told(tmp_path, caplog):
    state, other = small().state_dict(), small(seed=1).state_dict()
    torch.save({"ema": other, "state_dict": state}, tmp_path / "x.pt")
    assert same(checkpoint.read_state(tmp_path / "x.pt"), state)
    assert "took the weights under 'state_dict', not those under 'ema'" in caplog.text


def test_a_table_that_holds_itself_ends(tmp_path):
    content = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "x.pt")
    assert "expected only tensors by name" in refusal(checkpoint.read_state, tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_sparse_weights_are_made_dense(tmp_path):
    dense = torch.eye(4)
    torch.save({"a": dense.to_sparse(), "b": dense.to_sparse_csr()}, tmp_path / "x.pt")
    assert all(torch.equal(value, dense) for value in checkpoint.read_state(tmp_path / "x.pt").values())


def test_weights_without_values_are_refused(tmp_path):
    torch.save({"a": torch.empty(2, device="meta")}, tmp_path / "x.pt")
    assert "got a shape without values for 'a' (meta)" in refusal(checkpoint.read_state, tmp_path / "x.pt")


@pytest.mark.parametrize("form", ["archive", "old", "bare"])
def test_a_pickle_that_needs_code_is_refused_and_never_run(tmp_path, form):
    target, path = tmp_path / "created", tmp_path / "x.pt"
    if form == "bare":
        path.write_bytes(pickle.dumps(Payload(target)))
    else:
        content = {"state_dict": small().state_dict(), "extra": Payload(target)}
        torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
    message = refusal(checkpoint.read_state, path)
    assert not target.exists()
    assert "expected plain weights, got a pickle that needs code" in message
    assert "which is not run; save `model.state_dict()`" in message and ".safetensors" in message
    assert form == "bare" or f"({os.name}.mkdir)" in message
    pickle.loads(pickle.dumps(Payload(target)))  # the payload itself works
    assert target.exists()


def test_the_refused_global_is_named(tmp_path):
    torch.save({"state_dict": small().state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pt")
    assert "needs code (argparse.Namespace)" in refusal(checkpoint.read_state, tmp_path / "x.pt")


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_whole_pickled_module_is_refused_as_such(tmp_path, archive, nested):
    content = {"model": small()} if nested else small()
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=archive)
    message = refusal(checkpoint.read_state, tmp_path / "x.pt")
    assert "got a whole pickled module (robust_eval.models.architectures.small_cnn.SmallNetwork)" in message
    assert "save `model.state_dict()`" in message


def test_a_torchscript_archive_is_refused_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/constants.pkl", pickle.dumps(()))
        archive.writestr("x/code/__torch__.py", "")
    assert "got a TorchScript archive" in refusal(checkpoint.read_state, tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got an empty file"),
        (b"<!DOCTYPE html><html></html>", "got a web page; download the file again"),
        (b"version https://git-lfs.github.com/spec/v1", "run `git lfs pull`"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 50, "an HDF5 file"),
        (b"hello, this is no checkpoint", "begins with b'hello, this "),
        (b"PK\x03\x04 cut off", "a damaged or unknown file"),
        (b"\x00" * 64, "expected a checkpoint, got a file that begins with"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_described(tmp_path, content, said):
    (tmp_path / "x.pt").write_bytes(content)
    assert said in refusal(checkpoint.read_state, tmp_path / "x.pt")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    torch.save(small().state_dict(), tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:-200])
    assert "a damaged or unknown file" in refusal(checkpoint.read_state, tmp_path / "x.pt")
    (tmp_path / "x.safetensors").write_bytes(safetensors.torch.save(small().state_dict())[:-8])
    message = refusal(checkpoint.read_state, tmp_path / "x.safetensors")
    assert "expected a safetensors file, got a damaged or unknown file" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "got a checkpoint without any"),
        ({"state_dict": {}}, "got a checkpoint without any"),
        ({"optimizer": {"lr": 1}, "epoch": 3}, "got optimizer: dict, epoch: int"),
        ({"a": torch.ones(1), "best": 0.9}, "expected only tensors by name, got best: float"),
        (torch.ones(2), "expected weights by name, got Tensor"),
        ([torch.ones(2)], "expected weights by name, got list"),
    ],
)
def test_a_file_without_weights_by_name_is_refused(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pt")
    assert said in refusal(checkpoint.read_state, tmp_path / "x.pt")


def test_loading_makes_two_networks_agree():
    network, other, x = small(seed=1).eval(), small(seed=2).eval(), torch.rand(2, 3, 8, 8)
    checkpoint.load_into(other, network.state_dict(), source="x.pt")
    with torch.no_grad():
        assert torch.equal(network(x), other(x))


def test_counters_of_batches_may_be_missing_and_nothing_else():
    state = {name: value for name, value in small().state_dict().items() if "num_batches" not in name}
    checkpoint.load_into(small(seed=1), state, source="x.pt")
    del state["bn1.running_mean"]
    message = refusal(checkpoint.load_into, small(), state, source="x.pt")
    assert "x.pt: weights do not fit SmallNetwork: 1 missing (bn1.running_mean)" in message


def test_other_shapes_are_named_with_both():
    before = small()
    state = before.state_dict()
    network = small(classes=7, channels=1)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    message = refusal(checkpoint.load_into, network, state, source="x.pt")
    assert "3 of another shape (conv1.weight: expected [4, 1, 3, 3], got [4, 3, 3, 3], " in message
    assert "linear.bias: expected [7], got [5])" in message and "number of classes" in message
    assert same(network.state_dict(), kept)


def test_long_lists_of_differences_are_cut_at_five_with_a_count():
    state = OrderedDict({f"extra{i}": torch.ones(1) for i in range(9)}, **small().state_dict())
    message = refusal(checkpoint.load_into, small(), state, source="x.pt")
    assert "9 unexpected (extra0, extra1, extra2, extra3, extra4, ...)" in message


def test_weights_of_another_implementation_are_pointed_to_the_users_code():
    message = refusal(checkpoint.load_into, small(), {"block.0.w": torch.ones(1)}, source="x.pt")
    assert "no name agrees: name the network's own code as file.py:factory" in message


def test_a_network_that_keeps_everything_under_a_prefix_gets_its_own_weights_back(tmp_path):
    network, other = Wrapped(), Wrapped()
    torch.save(network.state_dict(), tmp_path / "x.pt")
    for state in (checkpoint.read_state(tmp_path / "x.pt"), network.state_dict()):
        with torch.no_grad():
            other.model.linear.bias.zero_()
        checkpoint.load_into(other, state, source="x.pt")
        assert same(other.state_dict(), network.state_dict())


BESIDE = {
    "an averaged model": ("module.", {"n_averaged": torch.tensor(3)}, ""),
    "a weighted loss": ("model.", {"criterion.weight": torch.ones(5)}, "left out criterion.weight"),
    "a normalisation in front": ("1.", {"0.mean": torch.zeros(3)}, "left out 0.mean; a normalisation"),
    "counters of THOP": ("", {"total_ops": torch.zeros(1), "conv1.total_ops": torch.zeros(1)}, ""),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_other_names_beside_the_weights_are_left_out_and_told(tmp_path, caplog, beside):
    prefix, others, told = BESIDE[beside]
    state = small(seed=1).state_dict()
    torch.save({**others, **{prefix + name: value for name, value in state.items()}}, tmp_path / "x.pt")
    network = small(seed=2)
    checkpoint.load_into(network, checkpoint.read_state(tmp_path / "x.pt"), source="x.pt")
    assert same(network.state_dict(), state)
    assert told in caplog.text and bool(told) == bool(caplog.records)
    named = load_network(tmp_path / "x.pt", {"name": "small_cnn", "width": 4}, None, None, recipe={})
    assert same(named.network.state_dict(), state)


def test_of_two_networks_in_one_file_the_one_that_was_taken_is_told(caplog):
    state, other = small(seed=1).state_dict(), small(seed=2).state_dict()
    both = {
        f"{who}.{name}": v for who, of in (("student", state), ("teacher", other)) for name, v in of.items()
    }
    network = small()
    checkpoint.load_into(network, both, source="x.pt")
    assert same(network.state_dict(), state)
    assert "took the weights under 'student.' (not under 'teacher.')" in caplog.text


def test_a_lazy_layer_takes_its_shape_from_the_weights():
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    state = {"1.weight": torch.ones(2, 12), "1.bias": torch.zeros(2)}
    checkpoint.load_into(network, state, source="x.pt")
    assert network(torch.ones(1, 3, 2, 2)).tolist() == [[12.0, 12.0]]


def test_classes_and_channels_are_read_from_the_weights():
    state = small(channels=1, classes=9).state_dict()
    assert (checkpoint.classes_of(state, ARCHITECTURE), checkpoint.channels_of(state)) == (9, 1)
    assert checkpoint.classes_of({}, ARCHITECTURE) is None and checkpoint.channels_of({}) is None


def test_saving_writes_weights_and_a_card_with_their_hash(tmp_path):
    network = small()
    checkpoint.save(network, tmp_path / "deep" / "run.v1", {"architecture": "small_cnn", "classes": 5})
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [
        "run.v1.json",
        "run.v1.safetensors",
    ]
    weights = tmp_path / "deep" / "run.v1.safetensors"
    assert same(checkpoint.read_state(weights), network.state_dict())
    card = {"architecture": "small_cnn", "classes": 5, "sha256": checkpoint.file_sha256(weights)}
    for name in ("run.v1", "run.v1.safetensors", "run.v1.json"):
        assert checkpoint.read_card(tmp_path / "deep" / name) == card


def test_a_normalised_network_is_saved_as_inner_weights_and_a_mean_and_std_in_the_card(tmp_path):
    network = Normalized(small(), [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
    checkpoint.save(network, tmp_path / "x", {})
    card = checkpoint.read_card(tmp_path / "x")
    assert card["mean"] == [0.4914, 0.4822, 0.4465] and card["std"] == [0.247, 0.2435, 0.2616]
    again = Normalized(small(seed=3), card["mean"], card["std"])
    state = checkpoint.read_state(tmp_path / "x.safetensors")
    assert same(state, network.network.state_dict())
    checkpoint.load_into(again, state, source="x")
    assert checkpoint.state_sha256(again) == checkpoint.state_sha256(network)
    assert torch.equal(again.eval()(torch.ones(1, 3, 8, 8)), network.eval()(torch.ones(1, 3, 8, 8)))


def test_weights_that_share_memory_can_be_saved(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    checkpoint.save(network, tmp_path / "x", {})
    assert same(checkpoint.read_state(tmp_path / "x.safetensors"), network.state_dict())


def test_saving_again_replaces_both_files_and_equal_weights_give_equal_bytes(tmp_path):
    for path, seed in (("a", 1), ("a", 2), ("b", 2)):
        checkpoint.save(small(seed=seed), tmp_path / path, {"seed": seed})
    assert checkpoint.read_card(tmp_path / "a") == checkpoint.read_card(tmp_path / "b")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_card_that_cannot_be_written_leaves_what_was_there(tmp_path):
    checkpoint.save(small(seed=1), tmp_path / "x", {"seed": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for card in ({"loss": float("nan")}, {"network": object()}):
        with pytest.raises((TypeError, ValueError)):
            checkpoint.save(small(seed=2), tmp_path / "x", card)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_save_leaves_no_card_and_no_temporary_file(tmp_path, monkeypatch):
    checkpoint.save(small(seed=1), tmp_path / "x", {"seed": 1})
    replace = Path.replace

    def interrupted(self, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(small(seed=2), tmp_path / "x", {"seed": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert checkpoint.read_card(tmp_path / "x") is None


def test_a_card_of_other_weights_is_refused(tmp_path):
    checkpoint.save(small(seed=1), tmp_path / "x", {})
    (tmp_path / "x.safetensors").write_bytes(safetensors.torch.save(small(seed=2).state_dict()))
    assert "one of the two was replaced" in refusal(checkpoint.read_card, tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "said"), [("{", "expected a card in JSON"), ("[1]", "a JSON object, got list")]
)
def test_a_file_that_is_no_card_is_refused(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    assert said in refusal(checkpoint.read_card, tmp_path / "x.safetensors")


def test_a_users_card_beside_any_weights_is_read(tmp_path):
    torch.save(small().state_dict(), tmp_path / "x.pt")
    assert checkpoint.read_card(tmp_path / "x.pt") is None
    (tmp_path / "x.json").write_text(json.dumps({"mean": [0.5]}))
    assert checkpoint.read_card(tmp_path / "x.pt") == {"mean": [0.5]}


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert checkpoint.file_sha256(tmp_path / "x").startswith("ba7816bf8f01cfea")
    assert "no such file" in refusal(checkpoint.file_sha256, tmp_path / "y")


def test_the_hash_of_a_state_changes_with_any_value_type_name_or_normalisation():
    network = small()
    hashes = [checkpoint.state_sha256(network), checkpoint.state_sha256(Normalized(network, [0.5], [0.5]))]
    assert checkpoint.state_sha256(small()) == hashes[0] and re.fullmatch("[0-9a-f]{64}", hashes[0])
    with torch.no_grad():
        network.linear.bias[0] = torch.nextafter(network.linear.bias[0], torch.tensor(9.0))
    hashes += [checkpoint.state_sha256(network), checkpoint.state_sha256(network.bfloat16())]
    hashes += [checkpoint.state_sha256(nn.Sequential(network))]
    assert len(set(hashes)) == 5
