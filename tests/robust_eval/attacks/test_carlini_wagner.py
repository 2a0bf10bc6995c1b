from robust_eval import Classifier, Rng, attack
from robust_eval.losses import margin


def test_a_first_step_that_overshoots_does_not_end_the_search_for_c(linear, images, predicted, nearest):
    network, x = linear(2), images(96)
    y = predicted(network, x)
    optimum, first_step = nearest(network, x, y), 0.01 / 2 * 48**0.5
    overshot = (optimum > first_step / 2) & (optimum < first_step)
    assert overshot.sum() >= 5
    x, y, optimum = x[overshot], y[overshot], optimum[overshot]
    x_adv = attack("cw")(Classifier(network), x, y, rng=Rng(0))
    assert ((x_adv - x).flatten(1).norm(dim=1) / optimum).max() < 1.05


def test_the_wrong_class_wins_by_the_confidence(linear, images, predicted, nearest):
    network, x = linear(2), images(24)
    y = predicted(network, x)
    x_adv = attack("cw", confidence=2.0)(Classifier(network), x, y, rng=Rng(0))
    assert margin(network(x_adv), y).min() >= 2
    # the hyperplane is that much further away
    further = nearest(network, x, y) + 2 / (network.weight[0] - network.weight[1]).norm().item()
    assert ((x_adv - x).flatten(1).norm(dim=1) / further).max() < 1.05


def test_an_example_that_has_converged_leaves_its_search_with_any_confidence(linear, images, predicted):
    network, x = linear(2), images(24)
    y = predicted(network, x)
    for confidence in (0.0, 2.0):
        spent = []
        for abort_early in (True, False):
            classifier = Classifier(network)
            method = attack(
                "cw", confidence=confidence, abort_early=abort_early, initial_const=0.1, binary_search_steps=2
            )
            method.run(classifier, x, y, rng=Rng(0).for_batch(24))
            spent.append(classifier.ledger["backwards"])
        assert (spent[1] == 200).all()
        assert spent[0].double().mean() < 0.9 * 200 and spent[0].max() <= 200
