import numpy as np
import pytest
import torch
from torch.nn import functional

from robust_eval.errors import ConfigError
from robust_eval.mixing import sum_augment
from robust_eval.registry import build
from trainers.regularizers.erm import ERM
from trainers.regularizers.sample_pairing import SamplePairing

N = 16
ALWAYS = {"start": 0.0, "stop": 1.0, "on": 1.0}


@pytest.fixture
def paired(stub, loss):
    """Return whether a batch of 32 images, each with a colour of its own, is mixed."""

    def look(method, progress):
        x, watcher = torch.linspace(0, 1, 32).view(-1, 1, 1, 1), stub()
        loss(method, watcher, x, torch.zeros(32, dtype=torch.int64), progress=progress)
        return not torch.equal(watcher.seen[0], x)

    return look


@pytest.mark.parametrize(
    "never",
    [{"start": 0.3, "stop": 0.3}, {"on": 0.0}, {"start": 0.6}, {"stop": 0.4}, {"start": 0.47, "on": 0.5}],
)
def test_while_pairs_are_off_it_is_erm(loss, never, network, x, y):
    torch.testing.assert_close(loss(SamplePairing(**never), network, x, y), loss(ERM(), network, x, y))
    assert torch.equal(network.seen[0], x)


def test_images_are_averages_of_two_and_labels_those_of_the_first(loss, permutation, network, x, y):
    value = loss(SamplePairing(**ALWAYS), network, x, y)
    (seen,) = network.seen
    perm = permutation()
    torch.testing.assert_close(seen, torch.stack([(x[i] + x[perm[i]]) / 2 for i in range(N)]))
    torch.testing.assert_close(value, functional.cross_entropy(network(seen), y))


def test_its_images_are_those_of_sum_augmentation_with_two(loss, permutation, network, x, y):
    loss(SamplePairing(**ALWAYS), network, x, y)
    perm = permutation()
    torch.testing.assert_close(network.seen[0], sum_augment(torch.cat([x, x[perm]]), 2))


def test_the_mean_of_a_batch_is_kept(loss, network, x, y):
    loss(SamplePairing(**ALWAYS), network, x, y)
    torch.testing.assert_close(network.seen[0].mean(0), x.mean(0))


def test_by_default_plain_images_come_first_and_last_and_pairs_alternate_eight_to_two_between(paired):
    steps = [(i + 0.5) / 1000 for i in range(1000)]
    on = np.array([paired(SamplePairing(), progress) for progress in steps])
    assert not on[:100].any() and not on[800:].any()
    cycles = on[100:800].reshape(14, 50)
    assert cycles[:, :40].all() and not cycles[:, 40:].any()


def test_the_last_cycle_may_be_cut_short(paired):
    method = SamplePairing(start=0.0, stop=0.25, cycle=0.2, on=0.5)
    on = [paired(method, progress) for progress in (0.0, 0.09, 0.11, 0.19, 0.21, 0.24, 0.26, 0.45)]
    assert on == [True, True, False, False, True, True, False, False]


def test_pairs_can_be_on_from_the_first_step_to_the_last(paired):
    assert all(paired(SamplePairing(**ALWAYS), i / 50) for i in range(50))


def test_pairs_cannot_stop_before_they_start():
    with pytest.raises(ConfigError, match=r"expected start <= stop, got start=0.9 and stop=0.8"):
        build("regularizer", "sample_pairing", {"start": 0.9})


def test_it_keeps_double_precision_and_works_for_one_image(loss, network, x, y):
    value = loss(SamplePairing(**ALWAYS), network.double(), x.double(), y)
    assert value.dtype == torch.float64
    network.eval()
    alone = loss(SamplePairing(**ALWAYS), network, x[:1].double(), y[:1])
    torch.testing.assert_close(alone, loss(ERM(), network, x[:1].double(), y[:1]))
