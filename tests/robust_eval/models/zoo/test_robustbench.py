"""The adapter with a stand-in for the library, which is too large to ask for in a test."""

import os
import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from robust_eval.errors import CheckpointError, ConfigError
from robust_eval.models.zoo import bring, robustbench

X = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Named(str):
    """Stands for a member of their enums."""

    @property
    def value(self):
        return str(self)


def known(*names):
    def find(name):
        if name not in names:
            raise ValueError(name)
        return Named(name)

    return find


def load_model(name, model_dir, dataset, threat_model):
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    network.load_state_dict(torch.load(model_dir / dataset / threat_model / f"{name}.pt", weights_only=True))
    return network


@pytest.fixture(autouse=True)
def library(monkeypatch):
    enums = SimpleNamespace(BenchmarkDataset=known("cifar10"), ThreatModel=known("Linf", "L2"))
    models = {"Wong2020Fast": {"gdrive_id": "a"}, "Two": {"gdrive_id": ["a", "b"]}}
    dicts = {Named("cifar10"): {Named("Linf"): models, Named("L2"): {}}}
    made = SimpleNamespace(
        model_zoo=SimpleNamespace(enums=enums, models=SimpleNamespace(model_dicts=dicts)),
        utils=SimpleNamespace(load_model=load_model),
    )
    monkeypatch.setattr(robustbench, "_library", lambda wanted: made)


def made(spec, checkpoint, download=False):
    return bring(f"robustbench:{spec}", checkpoint=checkpoint, weights=None, download=download)


def test_weights_of_a_file_and_of_a_folder_give_one_network(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    place = tmp_path / "zoo" / "cifar10" / "Linf"
    place.mkdir(parents=True)
    for path in (place / "Wong2020Fast.pt", tmp_path / "mine.pt"):
        torch.save(network.state_dict(), path)
        found = made("Wong2020Fast", path if path.parent == tmp_path else tmp_path / "zoo")
        assert torch.equal(found.network(X), network(X))
        assert len(found.weights_sha256) == 64
    assert found.described == {"robustbench": "Wong2020Fast", "threat_model": "Linf", "dataset": "cifar10"}
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_is_not_there_is_one_line_and_nothing_is_fetched(tmp_path):
    torch.save({}, tmp_path / "x.pt")
    for spec, checkpoint, error, said in (
        ("Wong2020Fas", tmp_path / "x.pt", ConfigError, "did you mean 'Wong2020Fast'"),
        ("Wong2020Fast(threat_model='L3')", tmp_path / "x.pt", ConfigError, "cifar10/Linf, cifar10/L2"),
        ("Wong2020Fast(eps=1)", tmp_path / "x.pt", ConfigError, "got eps"),
        ("Wong2020Fast", None, CheckpointError, "--download"),
        ("Wong2020Fast", tmp_path, CheckpointError, "no such file"),
        ("Two", tmp_path / "x.pt", CheckpointError, "has 2 files of weights"),
    ):
        with pytest.raises(error, match=said) as caught:
            made(spec, checkpoint)
        assert "\n" not in str(caught.value)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_a_pickle_that_needs_code_is_told_as_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match="needs code"):
        made("Wong2020Fast", tmp_path / "x.pt")
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_the_modules_it_lacks_are_lent_to_it_only_while_it_is_imported(monkeypatch):
    pytest.importorskip("pyautoattack")
    for name in ("autoattack", "autoattack.state", "pkg_resources"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    with robustbench._stand_ins():
        import autoattack

        assert autoattack.AutoAttack is sys.modules["pyautoattack"].AutoAttack
        assert isinstance(sys.modules["pkg_resources"], ModuleType)
        found = sys.modules["pkg_resources"].resource_filename("json", "x.json")
    assert found.endswith("json/x.json")
    assert not {"autoattack", "autoattack.state"} & (set(sys.modules) - before)
