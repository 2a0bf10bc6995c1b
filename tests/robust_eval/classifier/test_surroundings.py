"""Code of the user's leaves the process as it was."""

import builtins
import logging
import os
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Classifier
from robust_eval.classifier.surroundings import surroundings_kept
from robust_eval.models.factory import load_factory

CHANGES = {
    "folder": ("os.chdir('/')", os.getcwd),
    "default dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "default device": ("torch.set_default_device('meta')", torch.get_default_device),
    "grad mode": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "anomaly": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "deterministic": (
        "torch.use_deterministic_algorithms(True)",
        torch.are_deterministic_algorithms_enabled,
    ),
    "cudnn": ("torch.backends.cudnn.benchmark = True", lambda: torch.backends.cudnn.benchmark),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", torch.get_num_threads),
    "autocast": (
        "torch.set_autocast_enabled('cpu', True)",
        lambda: torch.is_autocast_enabled("cpu"),
    ),
    "warnings": ("warnings.simplefilter('ignore', BytesWarning)", lambda: list(warnings.filters)),
    "signals": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "numpy": ("np.seterr(all='raise')", np.geterr),
    "logging": ("logging.disable(logging.CRITICAL)", lambda: logging.root.manager.disable),
    "stdout": ("sys.stdout = None", lambda: sys.stdout),
    "print": ("builtins.print = None", lambda: builtins.print),
}
MODULES = (
    "import builtins, logging, os, signal, sys, warnings\nimport numpy as np, torch\nfrom torch import nn\n"
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_put_back(change):
    code, read = CHANGES[change]
    before = read()
    with surroundings_kept():
        exec(MODULES + code)
        assert read() != before
    assert read() == before
    with pytest.raises(KeyError), surroundings_kept():
        exec(MODULES + code)
        raise KeyError
    assert read() == before


@pytest.mark.parametrize("place", ["import", "factory", "forward"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_file_changes_nothing_for_good(change, place, tmp_path):
    code, read = CHANGES[change]
    lines = {name: code if name == place else "pass" for name in ("import", "factory", "forward")}
    (tmp_path / "net.py").write_text(f"""{MODULES}
{lines["import"]}
class Net(nn.Flatten):
    def forward(self, x):
        out = super().forward(x)
        {lines["forward"]}
        return out
def build():
    {lines["factory"]}
    return Net()
""")
    before = read()
    network = load_factory(f"{tmp_path}/net.py:build").network
    Classifier(network).logits(torch.rand(2, 1, 2, 2))
    assert read() == before


def test_a_deleted_folder_is_no_obstacle(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with surroundings_kept():
        assert isinstance(nn.Flatten(), nn.Module)
