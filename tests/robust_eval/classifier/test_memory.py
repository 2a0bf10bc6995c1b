import pytest
import torch
from torch import nn

from robust_eval import machine
from robust_eval.classifier import memory
from robust_eval.classifier.memory import bytes_per_image, images_that_fit
from robust_eval.machine import available
from robust_eval.types import StochasticModule


def test_a_convolution_and_a_rectifier_keep_what_their_backward_passes_need():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU())
    x = torch.rand(2, 3, 16, 16)
    # frozen weights: the gradient of the convolution needs its weights alone, that of the rectifier its output
    assert bytes_per_image(network, x) in (8 * 16 * 16 * 4, (8 + 3) * 16 * 16 * 4)
    assert all(weight.requires_grad for weight in network.parameters())


def test_twice_the_width_takes_twice_the_memory():
    def size(width):
        net = nn.Sequential(nn.Conv2d(3, width, 3), nn.Tanh(), nn.Conv2d(width, width, 3), nn.Tanh())
        return bytes_per_image(net, torch.rand(1, 3, 32, 32))

    assert size(32) == pytest.approx(2 * size(16), rel=0.1)


def test_as_many_images_fit_as_the_share_of_free_memory_holds(monkeypatch):
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh()), torch.rand(1, 3, 2, 2)
    needed = bytes_per_image(network, x)
    for free in (1, 100 * needed, 10_000 * needed):
        monkeypatch.setattr(memory, "available", lambda _, free=free: free)
        assert images_that_fit(network, x) == max(1, int(memory.SHARE * free / needed))


def test_what_cannot_be_told_is_not_guessed(monkeypatch):
    class Broken(StochasticModule):
        def forward(self, x):
            raise RuntimeError("no draws")

    x = torch.rand(1, 3, 2, 2)
    assert images_that_fit(Broken(), x) is None
    monkeypatch.setattr(memory, "available", lambda _: None)
    assert images_that_fit(nn.Flatten(), x) is None


def test_a_container_bounds_the_free_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    free = available(torch.device("cpu"))
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("5000\n")
    assert available(torch.device("cpu")) == 4000
    (tmp_path / "memory.max").write_text("max\n")
    assert available(torch.device("cpu")) == pytest.approx(free, rel=0.5)
