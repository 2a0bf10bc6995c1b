import torch

from robust_eval.registry import build


def test_a_pass_shows_every_example_at_most_once_and_passes_differ(task, steps):
    chosen = steps(build("curriculum", "shuffled", {}).start(task(n=23, batch_size=5)), 8)
    first, second = (torch.cat([choice.rows for choice in half]) for half in (chosen[:4], chosen[4:]))
    assert len(first.unique()) == len(second.unique()) == 20
    assert not torch.equal(first, second)


def test_batches_of_the_whole_set_are_permutations_of_it(task, steps):
    for choice in steps(build("curriculum", "shuffled", {}).start(task(n=7, batch_size=7)), 3):
        assert torch.equal(choice.rows.sort().values, torch.arange(7))


def test_it_goes_on_from_any_step(task, steps):
    whole = steps(build("curriculum", "shuffled", {}).start(task()), 20)
    rest = steps(build("curriculum", "shuffled", {}).start(task()), 7, first=13)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(whole[13:], rest, strict=True))
