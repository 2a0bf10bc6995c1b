import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import nn

from defenses.gaussian_smoothing import GaussianSmoothing
from robust_eval import Classifier, Rng
from robust_eval.errors import ConfigError
from robust_eval.registry import build
from robust_eval.types import StochasticModule

SHAPE = (1, 2, 2)


class Halves(nn.Module):
    """Class 1 on one side of a plane, class 0 on the other; keeps what it was given."""

    def __init__(self, normal=(3.0, -1.0, 2.0, 0.5), offset=-2.0):
        super().__init__()
        self.normal, self.offset = torch.tensor(normal), offset

    def margin(self, x):
        return x.flatten(1) @ self.normal.to(x.dtype) + self.offset

    def forward(self, x):
        self.seen = x
        return torch.stack([-self.margin(x), self.margin(x)], 1)


class Answers(nn.Module):
    """Gives class 1 to every third image it sees, or what is asked for."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits[torch.arange(len(x)) % len(self.logits)]


def images(n=100):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def certify(network, x, *, batch_size=2000, rng=None, **params):
    return GaussianSmoothing(**params).certify(
        Classifier(network, batch_size=batch_size, accelerate=False), x, rng=rng or Rng(0)
    )


def distance(network, x):
    """The smoothed classifier of a half-space is that half-space: its exact radius is the distance to the plane."""
    return (network.margin(x).abs() / network.normal.norm()).double()


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_certified_radii_of_a_linear_model_exceed_its_distance_to_the_plane_for_a_share_of_alpha(alpha):
    network, x = Halves(), images(300)
    exact, classes = distance(network, x), network(x).argmax(1)
    found = certify(network, x, certify_draws=300, alpha=alpha)
    certified = found.prediction >= 0
    assert 200 < certified.sum() <= 300
    wrong = (found.radius > exact) | ((found.prediction != classes) & certified)
    assert wrong.sum() <= binom.ppf(0.999, 300, alpha)
    assert alpha < 0.01 or wrong.any(), "the bound is no tighter than it has to be"


def test_certified_radii_of_a_linear_model_approach_its_distance_to_the_plane():
    network, x = Halves(), images(40)
    exact, sigma = distance(network, x), 0.4
    x, exact = x[exact < 1.5 * sigma], exact[exact < 1.5 * sigma]
    gaps = [
        (exact - certify(network, x, sigma=sigma, certify_draws=draws).radius).mean()
        for draws in (50, 500, 3000)
    ]
    # the bound on a probability tightens with the root of the draws
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0 and gaps[2] < 0.07 * sigma


def test_the_radius_is_that_of_the_lower_clopper_pearson_bound():
    # one image after the other: the network's answers repeat in the order of the draws
    network = Answers([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0])
    found = certify(network, images(1), batch_size=500, sigma=0.5, certify_draws=500, alpha=0.01)
    bound = binomtest(400, 500, alternative="greater").proportion_ci(0.99, method="exact").low
    assert found.prediction.tolist() == [1]
    assert found.radius.item() == pytest.approx(0.5 * norm.ppf(bound), rel=1e-12)


def test_unanimous_draws_certify_no_more_than_their_number_allows():
    found = certify(Answers([1.0, 0.0]), images(3), certify_draws=1000)
    limit = 0.25 * norm.ppf(0.001 ** (1 / 1000))
    np.testing.assert_allclose(found.radius.numpy(), limit)
    assert limit == pytest.approx(0.62, abs=0.005)  # as the docstring says
    assert GaussianSmoothing(certify_draws=1000).largest_certificate == pytest.approx(limit)
    assert GaussianSmoothing(certify_draws=3).largest_certificate == 0, "three draws prove no majority"


def test_a_close_call_is_no_certificate():
    found = certify(Answers([1.0, 0.0], [0.0, 1.0]), images(4), certify_draws=1000)
    assert found.prediction.tolist() == [-1] * 4 and found.radius.tolist() == [0.0] * 4


def test_an_output_that_is_not_finite_votes_for_nothing():
    nan, inf = float("nan"), float("inf")
    for bad in ([nan, 0.0], [inf, 0.0], [nan, nan]):
        assert certify(Answers(bad), images(2), certify_draws=200).prediction.tolist() == [-1, -1]
        mostly = certify(Answers([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], bad), images(1), certify_draws=200)
        assert mostly.prediction.tolist() == [1]


def test_a_certificate_does_not_depend_on_the_batch():
    network, x = Halves(), images(30)
    params = {"certify_draws": 40, "select_draws": 20}
    whole = certify(network, x, **params)
    for batch_size in (7, 64):
        again = certify(network, x, **params, batch_size=batch_size)
        assert torch.equal(again.radius, whole.radius) and torch.equal(again.prediction, whole.prediction)
    rows = torch.tensor([20, 3, 11])
    some = certify(network, x[rows], **params, rng=Rng(0).rows(rows))
    assert torch.equal(some.radius, whole.radius[rows])
    assert not torch.equal(certify(network, x, **params, rng=Rng(1)).radius, whole.radius)
    assert len(certify(network, x[:0], certify_draws=5).radius) == 0


def test_the_draws_that_select_a_class_are_not_those_that_estimate_it():
    class Recorder(Halves):
        def forward(self, x):
            noise.append(x)
            return super().forward(x)

    noise = []
    certify(Recorder(), torch.zeros(1, *SHAPE), certify_draws=100, select_draws=30)
    assert torch.cat(noise).flatten().unique().numel() == 130 * 4
    assert GaussianSmoothing(certify_draws=100, select_draws=30).certificate_passes == 130
    assert GaussianSmoothing().certificate_passes == 0


def test_a_model_that_draws_by_itself_draws_anew_for_each_vote():
    class Coin(StochasticModule):
        def redraw(self, rng):
            self.rng = rng

        def forward(self, x):
            heads = self.rng.for_batch(len(x)).uniform(device=x.device) < 0.5
            return torch.stack([heads, ~heads], 1).float()

    found = certify(Coin(), images(20), certify_draws=100)
    assert found.prediction.tolist() == [-1] * 20


def test_the_noise_is_gaussian_of_that_size_and_not_clipped():
    network = Halves()
    module = GaussianSmoothing(sigma=0.5, copies=1000).wrap(network)
    module.redraw(Rng(0))
    x = images(20)
    module(x)
    noise = (network.seen.view(20, 1000, -1) - x.flatten(1)[:, None]).double()
    assert network.seen.min() < -0.5 and network.seen.max() > 1.5
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.5) < 0.005
    correlation = torch.corrcoef(noise.flatten(0, 1).T) - torch.eye(4)
    assert correlation.abs().max() < 0.03


def test_the_output_approaches_the_exact_smoothed_probability_of_a_linear_model():
    # a steep network is the hard one, of which P(class 1) = Φ(margin / (σ ‖w‖))
    network = Halves()
    steep = nn.Module()
    steep.forward = lambda x: 1e4 * network(x)
    module = GaussianSmoothing(copies=4000).wrap(steep)
    module.redraw(Rng(0))
    x = images(30)
    expected = norm.cdf((network.margin(x) / (0.25 * network.normal.norm())).numpy())
    np.testing.assert_allclose(module(x).exp()[:, 1].numpy(), expected, atol=4 / (2 * 4000**0.5))


def test_the_variance_of_the_average_falls_as_one_over_the_copies():
    x = torch.full((4000, *SHAPE), 0.45)
    variances = []
    for copies in (1, 4, 16):
        module = GaussianSmoothing(copies=copies).wrap(Halves())
        module.redraw(Rng(0))
        variances.append(module(x).exp()[:, 0].var())
    torch.testing.assert_close(variances[0] / variances[1], torch.tensor(4.0), rtol=0.12, atol=0)
    torch.testing.assert_close(variances[0] / variances[2], torch.tensor(16.0), rtol=0.12, atol=0)


@pytest.mark.parametrize(
    "params",
    [
        {"sigma": 0.0},
        {"copies": 0},
        {"certify_draws": -1},
        {"select_draws": 0},
        {"alpha": 0.0},
        {"alpha": 1.0},
    ],
)
def test_fields_out_of_range_are_refused(params):
    (field,) = params
    with pytest.raises(ConfigError, match=f"defense 'gaussian_smoothing': {field}: "):
        build("defense", "gaussian_smoothing", params)
