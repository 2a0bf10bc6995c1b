import torch
from torch import nn

from defenses._averaged import ANY, Pool, average
from robust_eval import Rng
from robust_eval.data import Examples


def test_the_average_is_over_probabilities_and_not_over_logits():
    logits = torch.tensor([[0.0, 10.0], [10.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    mixed = logits.view(2, 2, 2, 1, 1)
    expected = logits.softmax(1).view(2, 2, 2).mean(1).log()
    torch.testing.assert_close(average(nn.Flatten(), mixed, Rng(0)), expected)


def test_the_average_is_finite_where_a_probability_underflows():
    mixed = torch.tensor([[0.0, 1000.0], [0.0, 900.0]]).view(1, 2, 2, 1, 1)
    got = average(nn.Flatten(), mixed, Rng(0))
    torch.testing.assert_close(got, torch.tensor([[-900.0 - torch.tensor(2.0).log().item(), 0.0]]))


def encoded(counts):
    """A shuffled pool in which every pixel of an image is its class, with this many images of each class."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    return Pool(Examples(images, labels, len(counts)))


def test_an_image_of_a_class_is_of_that_class_for_any_draw():
    pool = encoded([3, 1, 7, 5])
    draws = torch.tensor([0, 1, 2, 6, 7, 1_000_003, ANY - 1])
    for label in range(4):
        taken = pool.of_class(torch.full((1, len(draws)), label), draws[None]) * 255
        assert (taken.round() == label).all()


def test_consecutive_draws_go_through_all_images_of_a_class():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(5)
    images = torch.rand(15, 1, 2, 2, generator=generator)
    pool = Pool(Examples(images, labels, 3))
    taken = pool.of_class(torch.full((1, 5), 1), torch.arange(5)[None])[0]
    assert torch.equal(taken, images[labels == 1])


def test_classes_without_images_are_known():
    pool = encoded([2, 0, 3, 0])
    assert len(pool) == 5 and pool.classes.tolist() == [0, 2] and pool.count.tolist() == [2, 0, 3, 0]
