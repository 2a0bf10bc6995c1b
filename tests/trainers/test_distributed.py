"""Every regularizer's loss under torch.compile, and with its gradients averaged over two processes."""

import os
import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn

import trainers
from robust_eval.registry import build, names
from robust_eval.rng import Rng
from trainers.objective import Objective

NAMES = names("regularizer") if trainers else []
N = 16


class Small(nn.Module):
    """A network in stages, smooth everywhere: a gradient then tells exactly what was averaged."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh()),
                nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh()),
                nn.Sequential(nn.Conv2d(6, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh()),
                nn.Sequential(nn.Flatten(), nn.Linear(54, 5)),
            ]
        )

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def network():
    torch.manual_seed(0)
    return Small().train()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(N, 3, 8, 8, generator=generator), torch.arange(N) % 5


def rng_of(part):
    return Rng(0).child("step").rows(torch.arange(N)[part])


def gradients(module, part):
    x, y = batch()
    module(x[part], y[part], rng_of(part), 0.5).backward()
    return [weight.grad.clone() for weight in module.parameters()]


def objective(name):
    made, method = network(), build("regularizer", name, {})
    return Objective(made, method, companion=method.companion(made, N, rng=Rng(0)))


def halves():
    return slice(0, N // 2), slice(N // 2, N)


def work(rank, port, found):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    for name in NAMES:
        wrapped = nn.parallel.DistributedDataParallel(objective(name))
        mine = gradients(wrapped, halves()[rank])
        if rank == 0:
            found[name] = [gradient.numpy() for gradient in mine]
    distributed.destroy_process_group()


def test_two_processes_take_the_exact_mean_of_their_gradients():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.Manager() as manager:
        found = manager.dict()
        multiprocessing.spawn(work, args=(port, found), nprocs=2)
        assert set(found) == set(NAMES)
        for name in NAMES:
            alone = [gradients(objective(name), part) for part in halves()]
            for mean, *each in zip(map(torch.tensor, found[name]), *alone, strict=True):
                torch.testing.assert_close(mean, sum(each) / 2, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_network_gives_the_same_loss(name):
    # or it stops compiling after a few networks of one class, and says so in a log alone
    torch.compiler.reset()
    x, y = batch()
    method = build("regularizer", name, {})
    plain = method.loss(network(), x, y, rng=rng_of(slice(None)), progress=0.5)
    compiled = torch.compile(network(), backend="eager", dynamic=True)
    loss = method.loss(compiled, x, y, rng=rng_of(slice(None)), progress=0.5)
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in compiled.parameters())
