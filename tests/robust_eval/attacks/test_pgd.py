import pytest
import torch

from robust_eval import Classifier, Rng, attack

STEPS = 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_reaches_the_closed_form_optimum_on_a_linear_model(norm, linear, images, predicted):
    network, x = linear(2), images(256)
    y = predicted(network, x)
    logits, normal = network(x).detach(), (network.weight[0] - network.weight[1]).detach()
    optimum = (logits[:, 0] - logits[:, 1]).abs() / normal.norm(p=1 if norm == "linf" else 2)
    eps = optimum.median().item()
    x_adv = attack("pgd", eps=eps, norm=norm, relative_step_size=0.25)(Classifier(network), x, y, rng=Rng(0))
    clear = (optimum / eps - 1).abs() > 1e-6
    assert torch.equal((predicted(network, x_adv) != y)[clear], (optimum < eps)[clear])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_another_seed_starts_elsewhere(norm, curved, images, predicted):
    network, x = curved(), images(8)
    y = predicted(network, x)
    method = attack("pgd", eps=0.01, norm=norm, steps=1, relative_step_size=0.1)
    results = [method(Classifier(network), x, y, rng=Rng(seed)) for seed in (0, 1)]
    assert not any(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_default_steps_add_up_to_two_and_a_half_radii(curved, images, predicted):
    network, x = curved(), images(8)
    y = predicted(network, x)
    usual, spelt_out = (
        attack("pgd", eps=0.1, steps=20, **params)(Classifier(network), x, y, rng=Rng(0))
        for params in ({}, {"relative_step_size": 2.5 / 20})
    )
    assert torch.equal(usual, spelt_out)


def weak(restarts):
    """Short steps, so that where the walk starts matters."""
    return attack("pgd", eps=0.15, steps=STEPS, relative_step_size=0.05, restarts=restarts, look_ahead=False)


def test_more_restarts_keep_every_success_and_are_spent_on_the_rest(curved, images, predicted):
    network, x = curved(), images(64, low=0.0, high=1.0)
    y = predicted(network, x)
    fooled, spent = [], []
    for restarts in (1, 2, 4):
        classifier = Classifier(network)
        result = weak(restarts).run(classifier, x, y, rng=Rng(0).for_batch(64))
        fooled.append(predicted(network, result.x_adv) != y)
        assert torch.equal(result.step >= 0, fooled[-1])
        spent.append(classifier.ledger["backwards"])
    assert fooled[0].sum() < fooled[1].sum() < fooled[2].sum() < 64
    for restarts, fewer, more in ((1, 0, 1), (2, 1, 2)):
        assert (fooled[fewer] <= fooled[more]).all()
        # who was fooled costs nothing more, who resisted costs each restart in full
        assert torch.equal(spent[more][fooled[fewer]], spent[fewer][fooled[fewer]])
        assert (spent[fewer][~fooled[fewer]] == restarts * STEPS).all()
        assert (spent[more][~fooled[fewer]] > restarts * STEPS).all()


def test_the_step_of_a_success_counts_the_restarts_before_it(curved, images, predicted):
    network, x = curved(), images(64, low=0.0, high=1.0)
    y = predicted(network, x)
    one, four = (
        weak(restarts).run(Classifier(network), x, y, rng=Rng(0).for_batch(64)) for restarts in (1, 4)
    )
    first, later = one.step >= 0, (one.step < 0) & (four.step >= 0)
    assert torch.equal(one.step[first], four.step[first])
    assert later.any() and (four.step[later] > STEPS).all() and (four.step[later] < 4 * (STEPS + 1)).all()


def test_restarts_against_a_stochastic_model_keep_the_point_that_fools_more_draws(hidden):
    x, y = torch.full((400, 1, 1, 2), 0.5, dtype=torch.float64), torch.zeros(400, dtype=torch.int64)
    rate = []
    for restarts in (1, 6):
        method = attack("pgd", eps=0.25, steps=1, restarts=restarts)
        x_adv = method.run(Classifier(hidden()), x, y, rng=Rng(0).for_batch(400)).x_adv
        rate.append((x_adv.flatten(1)[:, 0] * 2 - 0.5).mean().item())
    assert rate[0] == pytest.approx(0.5, abs=0.05)
    # the largest of six uniform draws is 6/7 in the mean; ten draws judge it a little blurred
    assert rate[1] > 0.78
