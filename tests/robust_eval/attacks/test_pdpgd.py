import pytest
import torch

from robust_eval import Classifier, Rng, attack
from robust_eval.errors import ConfigError

NORMS = ("linf", "l2", "l1")
P = {"linf": float("inf"), "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}

every_norm = pytest.mark.parametrize("norm", NORMS)


def run(method, classifier, x, y):
    return method.run(classifier, x, y, rng=Rng(0).for_batch(len(x)))


def lengths(x_adv, x, norm):
    return (x_adv - x).flatten(1).norm(p=P[norm], dim=1)


@every_norm
@pytest.mark.parametrize("line_search", [0, 4])
def test_pdpgd_is_within_1_percent_of_the_hyperplane_in_each_norm(
    norm, line_search, linear, images, predicted
):
    network, x = linear(2), images(64)
    y = predicted(network, x)
    logits, weight = network(x).detach(), network.weight.detach()
    best = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).norm(p=DUAL[norm])
    x_adv = attack("pdpgd", norm=norm, line_search=line_search)(Classifier(network), x, y, rng=Rng(0))
    assert (predicted(network, x_adv) != y).all()
    # within that no pixel has to leave the box; the walk alone ends its last steps a little beyond the plane
    ratio = (lengths(x_adv, x, norm) / best)[
        (best < 0.29) & (best > {"linf": 0.004, "l2": 0.02, "l1": 0.05}[norm])
    ]
    assert len(ratio) > 25 and ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.01 if line_search else ratio.median() < 1.05


@every_norm
def test_pdpgd_comes_about_as_near_as_fmn_with_as_many_gradients(norm, curved, images, predicted):
    network, x = curved(), images(48)
    y = predicted(network, x)
    ours, fmn = (
        lengths(attack(name, norm=norm)(Classifier(network), x, y, rng=Rng(0)), x, norm)
        for name in ("pdpgd", "fmn")
    )
    assert ours.median() < 1.05 * fmn.median()


def test_each_norm_is_smallest_where_it_is_the_one_made_small(curved, images, predicted):
    network, x = curved(), images(32)
    y = predicted(network, x)
    found = {
        norm: attack("pdpgd", norm=norm, steps=60)(Classifier(network), x, y, rng=Rng(0)) for norm in NORMS
    }
    for norm in NORMS:
        medians = {made: lengths(found[made], x, norm).median().item() for made in NORMS}
        assert min(medians, key=medians.__getitem__) == norm


@every_norm
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_scale_of_the_logits_does_not_change_the_distances(norm, scale, curved, images, predicted):
    x = images(24)
    y = predicted(curved(), x)
    usual, scaled = (
        attack("pdpgd", norm=norm, steps=20)(Classifier(curved(s)), x, y, rng=Rng(0)) for s in (1.0, scale)
    )
    # rounding may decide on which side of the boundary a step ends
    ratio = lengths(scaled, x, norm).mean() / lengths(usual, x, norm).mean()
    assert ratio.item() == pytest.approx(1, abs=0.05)


@every_norm
def test_the_wrong_class_is_the_target(norm, curved, images, predicted):
    network, x = curved(), images(32, low=0.2, high=0.8)
    y = predicted(network, x)
    result = run(attack("pdpgd", norm=norm, target="next", steps=60), Classifier(network), x, y)
    reached = predicted(network, result.x_adv) == result.target
    assert torch.equal(reached, result.step >= 0) and reached.double().mean() > 0.8


def test_every_example_takes_every_step(curved, images, predicted):
    network, x = curved(), images(24)
    classifier = Classifier(network)
    run(attack("pdpgd", steps=20), classifier, x, predicted(network, x))
    assert (classifier.ledger["backwards"] == 20).all()
    # one more for the point after the last step, and the line search
    assert (classifier.ledger["forwards"] == 20 + 1 + 4).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("dual_step", 0), ("ratio", 0), ("step_size", 0), ("norm", "l0"), ("loss", "dlr"), ("line_search", -1)],
)
def test_values_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"attack 'pdpgd': {field}: "):
        attack("pdpgd", **{field: value})
