import pytest
import torch
from torch import nn

from defenses.mixup_inference import MixupInference
from robust_eval import Rng
from robust_eval.data import Examples
from robust_eval.errors import ConfigError
from robust_eval.registry import build, describe

CLASSES, SHAPE = 6, (1, 2, 2)


def level(label):
    """The grey by which an image shows its class."""
    return (label + 1) / 10


class Decoder(nn.Module):
    """Predicts the class whose grey is nearest; keeps what it was given."""

    def __init__(self, sharpness=300.0):
        super().__init__()
        self.sharpness, self.seen = sharpness, []

    def forward(self, x):
        self.seen.append(x)
        levels = level(torch.arange(CLASSES).to(x.dtype))
        return -self.sharpness * (x.flatten(1).mean(1, keepdim=True) - levels) ** 2


def greys(labels):
    return level(labels.double()).view(-1, 1, 1, 1).expand(-1, *SHAPE).clone()


def pool(labels=None):
    if labels is None:
        labels = torch.arange(CLASSES).repeat(20)[
            torch.randperm(120, generator=torch.Generator().manual_seed(0))
        ]
    return Examples(greys(labels), labels, CLASSES)


def run(method, x, *, network=None, examples=None, rng=None):
    network = network or Decoder()
    module = method.wrap(network, examples or pool())
    module.redraw(rng or Rng(0))
    return module(x), network.seen


def classes_mixed_in(mixed, x, lam):
    """Which class each mixture was made with, read off its grey."""
    others = (mixed.unflatten(0, (len(x), -1)) - lam * x[:, None]) / (1 - lam)
    assert torch.allclose(others, others[..., :1, :1].expand_as(others))
    labels = others[..., 0, 0, 0] * 10 - 1
    assert torch.allclose(labels, labels.round(), atol=1e-5)
    return labels.round().long()


PREDICTED = torch.arange(CLASSES).repeat(50)


def test_pl_mixes_with_images_of_the_predicted_class_only():
    x = greys(PREDICTED)
    _, (alone, mixed) = run(MixupInference(kind="pl", lam_pl=0.7), x)
    assert torch.equal(alone, x)
    labels = classes_mixed_in(mixed, x, 0.7)
    assert labels.shape == (len(x), 10)
    assert torch.equal(labels, PREDICTED[:, None].expand_as(labels))


def test_ol_mixes_with_images_of_every_other_class_alike():
    x = greys(PREDICTED)
    _, (_, mixed) = run(MixupInference(kind="ol", lam_ol=0.6), x)
    labels = classes_mixed_in(mixed, x, 0.6)
    assert labels.shape == (len(x), 30)
    shift = ((labels - PREDICTED[:, None]) % CLASSES).flatten().bincount(minlength=CLASSES).double()
    assert shift[0] == 0
    expected = shift.sum() / (CLASSES - 1)
    assert ((shift[1:] - expected) ** 2 / expected).sum() < 13.3  # chi-square, 4 degrees of freedom, 99 %


def test_ol_draws_a_class_first_however_many_images_it_has():
    labels = torch.cat([torch.zeros(3), torch.ones(3), torch.full((300,), 2.0)]).long()
    x = greys(torch.zeros(200))
    _, (_, mixed) = run(MixupInference(kind="ol"), x, examples=pool(labels))
    drawn = classes_mixed_in(mixed, x, 0.5)
    assert abs((drawn == 1).double().mean() - 0.5) < 0.03 and not (drawn == 0).any()


def test_classes_that_the_pool_lacks_are_never_asked_for():
    examples = pool(torch.tensor([1, 4]).repeat(10))
    x = greys(torch.tensor([0, 1, 2, 3, 4, 5]))
    _, (_, mixed) = run(MixupInference(kind="pl"), x, examples=examples)
    nearest = torch.tensor([1, 1, 1, 4, 4, 4])
    assert torch.equal(classes_mixed_in(mixed, x, 0.5)[:, 0], nearest)
    _, (_, mixed) = run(MixupInference(kind="ol"), x, examples=examples)
    assert torch.equal(classes_mixed_in(mixed, x, 0.5), (5 - nearest)[:, None].expand(6, 30))


@pytest.mark.parametrize("kind", ["pl", "ol", "combined"])
def test_the_whole_weight_on_the_image_is_the_undefended_network(kind):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output, _ = run(MixupInference(kind=kind, lam_pl=1.0, lam_ol=1.0), x)
    torch.testing.assert_close(output, Decoder()(x).log_softmax(1))


@pytest.mark.parametrize("kind", ["pl", "ol"])
def test_the_output_is_the_mean_of_the_mixtures_probabilities(kind):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output, (_, mixed) = run(MixupInference(kind=kind), x)
    expected = Decoder()(mixed).softmax(1).unflatten(0, (8, -1)).mean(1)
    torch.testing.assert_close(output.exp(), expected)


def test_combined_takes_pl_where_it_costs_little_confidence_and_ol_elsewhere():
    # beyond the last grey the network is surer the further it goes: mixing costs confidence there
    x = torch.linspace(0.5, 1, 200, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    threshold, network = 0.1, Decoder(60.0)
    combined, _ = run(MixupInference(kind="combined", threshold=threshold), x, network=network)
    pl, _ = run(MixupInference(kind="pl", samples_pl=5), x, network=network)
    ol, _ = run(MixupInference(kind="ol", samples_ol=15, lam_ol=0.4), x, network=network)
    lost = network(x).softmax(1).amax(1) - pl.exp().amax(1)
    cheap = lost < threshold
    assert 20 < cheap.sum() < 180
    torch.testing.assert_close(combined, torch.where(cheap[:, None], pl, ol))


def test_the_variance_of_the_average_falls_as_one_over_the_samples():
    x = greys(torch.full((4000,), 2))
    variances = [
        run(MixupInference(kind="ol", samples_ol=samples), x, network=Decoder(20.0))[0].exp().var(0)
        for samples in (1, 16)
    ]
    torch.testing.assert_close(
        variances[0] / variances[1], torch.full((CLASSES,), 16.0, dtype=torch.float64), rtol=0.12, atol=0
    )


def test_no_gradient_flows_through_the_choice_of_the_class():
    network = Decoder(20.0)
    x = torch.rand(
        4, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    output, seen = run(MixupInference(kind="pl"), x, network=network)
    assert output.requires_grad and not seen[0].grad_fn and seen[1].grad_fn


@pytest.mark.parametrize(
    ("kind", "lam_ol", "samples", "copies"),
    [("pl", 0.5, (10, 30), 10), ("ol", 0.5, (10, 30), 30), ("combined", 0.4, (5, 15), 20)],
)
def test_fields_left_out_take_the_published_values_of_the_kind(kind, lam_ol, samples, copies):
    method = MixupInference(kind=kind)
    assert (method.lam_pl, method.lam_ol, method.threshold) == (0.5, lam_ol, 0.2)
    assert (method.samples_pl, method.samples_ol) == samples
    assert method.wrap(Decoder(), pool()).copies == copies
    assert MixupInference(kind=kind, lam_ol=0.9, samples_ol=3).lam_ol == 0.9


@pytest.mark.parametrize(
    ("base", "kind", "lam_ol"),
    [
        ("mixup", "ol", 0.5),
        ("mixup", "combined", 0.4),
        ("interpolated_adversarial", "ol", 0.6),
        ("interpolated_adversarial", "combined", 0.4),
    ],
)
def test_a_weight_left_out_takes_the_published_value_of_the_base(base, kind, lam_ol):
    assert MixupInference(base=base, kind=kind).lam_ol == lam_ol
    assert MixupInference(base=base, kind=kind, lam_ol=0.9).lam_ol == 0.9
    assert MixupInference(base=base, kind=kind).lam_pl == 0.5


def test_the_base_is_no_part_of_the_identity_but_its_weight_is():
    by_base = build("defense", "mixup_inference", {"base": "interpolated_adversarial"})
    by_weight = build("defense", "mixup_inference", {"lam_ol": 0.6})
    assert by_base == by_weight and describe(by_base) == describe(by_weight)
    assert describe(by_base) != describe(MixupInference())
    with pytest.raises(ConfigError, match="defense 'mixup_inference': base: expected 'mixup' or"):
        build("defense", "mixup_inference", {"base": "erm"})


def test_a_pool_of_one_class_is_refused():
    with pytest.raises(ConfigError, match="expected a pool with images of at least two classes, got 1"):
        MixupInference().wrap(Decoder(), pool(torch.zeros(5, dtype=torch.int64)))
