"""Copies of one network, trained at once, are what each would be alone."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval.analyses._orders import answers, clustered, every_order, one_of
from robust_eval.models.architectures.plain_cnn import PlainNetwork

BATCHES, SIZE = 3, 4


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PlainNetwork(2, channels=1, classes=3).eval()


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(BATCHES, SIZE, 1, 8, 8, generator=generator)
    return x, torch.randint(3, (BATCHES, SIZE), generator=generator)


def grown(network, split, lr=0.5):
    return every_order(network, dict(network.named_parameters()), *split, lr=lr)


def test_each_order_gives_the_network_that_a_plain_loop_of_sgd_gives(network, split):
    trained = grown(network, split)
    assert trained.orders == list(itertools.permutations(range(BATCHES)))
    for i, order in enumerate(trained.orders):
        alone = copy.deepcopy(network)
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.5)
        for k in order:
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(split[0][k]), split[1][k]).backward()
            optimizer.step()
        for name, weight in alone.named_parameters():
            torch.testing.assert_close(trained.weights[name][i], weight.detach(), rtol=1e-5, atol=1e-6)


def test_no_two_orders_give_the_same_network_and_the_first_one_is_left_as_it_was(network, split):
    before = copy.deepcopy(network.state_dict())
    trained = grown(network, split)
    together = torch.cat([weight.flatten(1) for weight in trained.weights.values()], 1)
    assert len(together.unique(dim=0)) == 6
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_without_a_step_all_are_the_network_itself_and_with_one_the_same_bits_again(network, split):
    still, first, again = grown(network, split, lr=0.0), grown(network, split), grown(network, split)
    for name, weight in network.named_parameters():
        assert (still.weights[name] == weight).all()
        assert torch.equal(first.weights[name], again.weights[name])


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_answers_of_many_are_those_of_each(network, split, batch_size):
    trained = grown(network, split)
    x, y = split[0].flatten(0, 1), split[1].flatten()
    found = answers(network, trained.weights, x, y, batch_size=batch_size)
    for i in range(6):
        logits = torch.func.functional_call(network, one_of(trained.weights, i), (x,))
        loss = nn.functional.cross_entropy(logits, y, reduction="none")
        torch.testing.assert_close(found.loss[i], loss.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(found.right[i], logits.argmax(1) == y)


def test_the_network_nearest_to_the_centre_stands_for_its_cluster():
    losses = np.array([10.0, 1.0, 11.0, 1.25, 10.25, 2.0])
    groups = clustered(losses, 2, seed=0)
    assert list(groups.of) == [1, 0, 1, 0, 1, 0]
    # the centres are 1.4167 and 10.4167
    assert list(groups.chosen) == [3, 4]


def test_of_several_as_near_the_first_stands_for_them_and_equal_losses_are_one_cluster():
    assert list(clustered(np.array([3.0, 1.0, 3.0, 1.0]), 2, seed=0).chosen) == [1, 0]
    same = clustered(np.full(6, 0.7), 4, seed=0)
    assert list(same.chosen) == [0] and not same.of.any()


def test_as_many_clusters_as_losses_keep_every_network():
    losses = np.random.default_rng(0).permutation(8).astype(float)
    assert sorted(clustered(losses, 8, seed=0).chosen) == list(range(8))
