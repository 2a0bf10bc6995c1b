"""What a run costs is bounded by what is said before it starts."""

import dataclasses
import time

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust_eval import Classifier, Rng, attack
from robust_eval.checks.examination import Examination
from robust_eval.evaluation.workbench import Workbench
from robust_eval.methods import FEW, Passes
from robust_eval.registry import find, names
from robust_eval.run import cost
from robust_eval.run.cost import Speed, estimate

SMALL = {
    "steps": 6,
    "restarts": 2,
    "binary_search_steps": 3,
    "queries": 20,
    "targets": 2,
    "draws": 5,
    "angles": 5,
    "shifts": 3,
    "std": (1.0,),
    "candidates": 3,
}
CLASSES = 5


def bench(**options):
    return Workbench(lambda source: source.untrained(), **options)


class Sure(nn.Module):
    """Has gradients everywhere and is never fooled: every attack goes on to its end."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(CLASSES, x[0].numel(), generator=generator) / 100
        return functional.linear(x.flatten(1) - 0.5, weight) + 50 * functional.one_hot(
            torch.tensor(0), CLASSES
        )


class Weak(nn.Module):
    """Is fooled by almost nothing."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(CLASSES, x[0].numel(), generator=generator)
        return functional.linear(x.flatten(1) - 0.5, weight)


def spent(network, method, n=6):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    classifier = Classifier(network)
    y = classifier(x).argmax(1)
    method.run(classifier, x, y, rng=Rng(0).for_batch(n))
    return [int(classifier.ledger.padded(name, n).max()) for name in ("forwards", "backwards")]


ALL = [(name, norm) for name in names("attack") for norm in find("attack", name).norms]


@pytest.mark.parametrize(("name", "norm"), ALL)
@pytest.mark.parametrize("network", [Sure(), Weak()], ids=["never fooled", "soon fooled"])
def test_no_attack_spends_more_than_its_bound(name, norm, network):
    fields = {field.name for field in dataclasses.fields(find("attack", name))}
    method = attack(name, **{key: value for key, value in {**SMALL, "norm": norm}.items() if key in fields})
    bound, (forwards, backwards) = method.cost(CLASSES), spent(network, method)
    assert bound is not None, f"say what {name} costs by its method cost(classes)"
    assert forwards <= bound.forwards and backwards <= bound.backwards
    if isinstance(network, Sure):
        # a bound ten times too high helps nobody; CW gives up where its objective stands still
        assert backwards >= bound.backwards / (4 if name == "cw" else 2)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("foolbox:LinfPGD", {"steps": 6, "restarts": 2}),
        ("foolbox:L2CarliniWagnerAttack", {"steps": 6, "binary_search_steps": 3}),
        ("foolbox:L2DeepFoolAttack", {"steps": 4}),
        ("foolbox:DDNAttack", {"steps": 6}),
        ("torchattacks:PGD", {"steps": 6}),
        ("torchattacks:VMIFGSM", {"steps": 4, "N": 3}),
        ("torchattacks:Square", {"n_queries": 20}),
        ("pyautoattack:standard", {"steps": 6, "queries": 20}),
        ("pyautoattack:standard", {"steps": 6, "queries": 20, "restarts": 2}),
        ("pyautoattack:apgd-t", {"steps": 6, "targets": 3}),
    ],
)
def test_nor_does_an_attack_of_a_library_that_follows_a_gradient(name, params):
    pytest.importorskip(name.partition(":")[0])
    method = attack(name, **params)
    bound, (forwards, backwards) = method.cost(CLASSES), spent(Sure(), method)
    assert forwards <= bound.forwards and backwards <= bound.backwards


@pytest.mark.parametrize(
    "name", ["foolbox:HopSkipJumpAttack", "torchattacks:Pixle", "torchattacks:AutoAttack"]
)
def test_of_other_attacks_nothing_is_said(name):
    pytest.importorskip(name.partition(":")[0])
    assert attack(name).cost(CLASSES) is None


def test_on_a_surrogate_an_attack_costs_a_few_passes_more(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Flatten()\n")
    there, few = attack("pgd", steps=6), Passes(FEW, 0)
    here = attack("transfer:pgd", steps=6, architecture=f"{tmp_path / 'net.py'}:make")
    assert here.cost(CLASSES) == there.cost(CLASSES).and_(few)


def test_seconds_count_what_goes_back_apart():
    assert Speed(forward=1.0, gradient=3.0).seconds(Passes(forwards=10, backwards=4)) == 10 * 1 + 4 * 2


# Of a whole run


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Return the cells of an experiment with these tables: 12 images, one untrained architecture."""
    import numpy as np

    import defenses  # noqa: F401
    import trainers  # noqa: F401
    from robust_eval.config.experiment import parse
    from robust_eval.config.plan import plan

    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 3
    arrays = {"test_images": images[:12], "test_labels": labels[:12]}
    arrays |= {"train_images": images[12:], "train_labels": labels[12:]}
    np.savez(tmp_path / "data.npz", **arrays)

    def build(**tables):
        train = [{"regularizer": "erm", "architecture": {"name": "small_cnn", "width": 2}}]
        given = {"data": {"name": "data.npz"}, "train": train, "checks": "off", **tables}
        return plan(parse(given, where="test", folder=tmp_path))

    return build


@pytest.fixture
def speed(monkeypatch):
    """Have every model take a second for a forward pass and three for a gradient."""
    monkeypatch.setattr(cost, "_measured", lambda *_: cost._Measured(Speed(1.0, 3.0), 3))


def test_a_run_costs_its_attacks_on_all_images_and_their_scoring(cells, speed):
    found = estimate(cells(attack=["fgsm", {"name": "pgd", "steps": 5, "eps": [0.1, 0.2]}]), bench())
    lines = {line.name: line for line in found.lines}
    assert list(lines) == ["fgsm", "pgd", "scoring"]
    assert (lines["pgd"].cells, lines["scoring"].cells) == (2, 4)
    assert lines["pgd"].passes == attack("pgd", steps=5).cost(3).times(12 * 2)
    assert lines["scoring"].passes == Passes(12 * 4, 0) and lines["scoring"].seconds == 12 * 4
    assert lines["pgd"].seconds == lines["pgd"].passes.forwards + 2 * lines["pgd"].passes.backwards
    assert found.seconds == sum(line.seconds for line in found.lines)


def test_an_attack_says_itself_what_it_costs(cells, speed, monkeypatch):
    monkeypatch.setattr(find("attack", "pgd"), "cost", lambda self, classes: Passes(classes, 7))
    line, _ = estimate(cells(attack=["pgd"]), bench()).lines
    assert line.passes == Passes(3, 7).times(12)


def test_an_analysis_says_itself_what_it_costs(cells, speed):
    looks = [
        {"name": "in_between", "pairs": 5},
        "activation_magnitude",
        {"name": "detection", "other": "uniform"},
    ]
    lines = {line.name: line for line in estimate(cells(analysis=looks), bench()).lines}
    assert lines["in_between"].passes == Passes(2 * 5 * 11 + 1, 5 * 11)
    assert lines["activation_magnitude"].passes == Passes(12, 0)
    assert lines["detection"].passes == Passes(12 + 12, 0)
    assert all(lines[name].seconds > 0 for name in ("in_between", "detection"))


def test_checks_are_a_line_of_their_own(cells, speed):
    found = estimate(cells(attack=["fgsm"], checks="quick"), bench())
    lines = {line.name: line for line in found.lines}
    assert list(lines) == ["fgsm", "checks", "scoring"]
    assert lines["checks"].passes == Examination().cost.times(32)


def test_what_is_carried_over_to_several_defenses_is_made_once(cells, speed):
    defenses = [{"name": "sum_augmentation", "copies": 2}, {"name": "sum_augmentation", "copies": 3}]
    several = estimate(cells(attack=[{"name": "fgsm", "access": "transfer"}], defense=defenses), bench())
    alone = attack("fgsm").cost(3).times(12)
    fgsm, scoring = several.lines
    assert fgsm.cells == 3 and fgsm.passes == alone.times(2)  # on the plain model, and once to carry over
    assert scoring.passes.forwards == 12 * (2 + 4 * 10)


@pytest.mark.parametrize("given", [None, 3])
def test_an_attack_on_a_model_that_draws_costs_no_more_than_is_said(cells, speed, given):
    from robust_eval.evaluation.evaluate import evaluate

    made = cells(
        attack=[{"name": "pgd", "steps": 2, "access": "adaptive"}],
        defense=[{"name": "gaussian_smoothing", "copies": 1, "sigma": 0.5}],
        gradient_draws=given,
    )
    (cell,) = (cell for cell in made if cell.access == "adaptive")
    line = next(line for line in estimate([cell], bench()).lines if line.name == "pgd")
    assert line.passes == attack("pgd", steps=2).cost(3).times(12 * (given or 16))
    record = evaluate(cell, bench(precision="fp32"))
    assert record.provenance["gradient_draws"] >= 3, "as many as are needed"
    assert 0 < record.provenance["backwards"] <= line.passes.backwards
    assert record.provenance["forwards"] <= line.passes.forwards


def test_a_model_that_autograd_cannot_differentiate_is_timed_by_its_forward_passes(cells):
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3] * 1.0

    cell, *_ = cells(attack=["fgsm"])
    found = cost._measured(Classifier(Cut()), bench().prepare(cell))
    assert found.speed.gradient == cost.BOTH_WAYS * found.speed.forward and found.classes == 3


def test_an_attack_of_which_nothing_is_known_is_a_line_without_a_number(cells, speed):
    pytest.importorskip("torchattacks")
    found = estimate(cells(attack=["torchattacks:Pixle", "fgsm"]), bench())
    assert [line.passes is None for line in found.lines] == [True, False, False]


def test_measuring_takes_a_moment_and_changes_no_model(cells):
    made = cells(attack=["pgd"], defense=[{"name": "sum_augmentation", "copies": 2}])
    found = estimate(made, bench())
    assert 0 < found.spent < 5 and all(line.seconds > 0 for line in found.lines)


def test_an_architecture_is_measured_once_however_many_models_have_it(cells, monkeypatch):
    asked = []
    measured = cost._Measured(Speed(0.001, 0.003), 3)
    monkeypatch.setattr(cost, "_measured", lambda *given: asked.append(given) or measured)
    small = {"name": "small_cnn", "width": 2}
    train = [
        {"name": str(seed), "regularizer": "erm", "architecture": small, "seed": seed} for seed in range(4)
    ]
    estimate(cells(train=train, attack=["fgsm"]), bench())
    assert len(asked) == 2  # as it is attacked, and as it is scored


def test_no_cells_cost_nothing():
    assert estimate([], bench()).seconds == 0


# Of large networks, and of what is likely


class Slow(nn.Module):
    """Takes its time for each image."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.linear = nn.Linear(64, 3)

    def forward(self, x):
        time.sleep(self.seconds * len(x))
        return self.linear(x.flatten(1))


def test_a_slow_network_is_timed_by_one_image(cells, monkeypatch):
    monkeypatch.setattr(cost, "AT_MOST", 0.2)
    found = estimate(
        cells(attack=["pgd", "cw", "auto_attack"]),
        Workbench(lambda source: source.untrained()._replace(network=Slow(0.1))),
    )
    assert found.spent < 6  # 12 images and a twin took longer
    (pgd,) = [line for line in found.lines if line.name == "pgd"]
    assert 0.1 <= pgd.seconds / (pgd.passes.forwards + 2 * pgd.passes.backwards) < 0.5


def test_what_there_is_no_time_for_is_said_to_be_untimed(cells, monkeypatch):
    monkeypatch.setattr(cost, "AT_MOST", 0.0)
    found = estimate(cells(attack=["fgsm"]), bench())
    assert [(line.untimed, line.seconds) for line in found.lines] == [(1, 0.0), (2, 0.0)]
    assert found.likely is None


def known(network):
    """A workbench whose models have these weights."""
    return Workbench(
        lambda source: source.untrained()._replace(network=network, weights_sha256="known"), precision="fp32"
    )


class Answers(nn.Module):
    """Answers the labels of the cells; an image falls where its margin is below the radius."""

    def __init__(self, margins, labels, images):
        super().__init__()
        self.margins, self.labels, self.images = margins, labels, images

    def forward(self, x):
        own = self.images.flatten(1)
        which = torch.cdist(x.detach().flatten(1), own).argmin(1)
        # an ascent of the sum of the pixels lowers the label's logit, 64 pixels by the radius each
        moved = (x.flatten(1) - own[which]).mean(1)
        return functional.one_hot(self.labels[which], 3) * (self.margins[which] - moved)[:, None]


@pytest.mark.parametrize("standing", [0, 3, 8, 12])
@pytest.mark.parametrize("name", ["pgd", "apgd_ce"])
def test_likely_passes_are_within_a_factor_of_two(cells, name, standing):
    from robust_eval.evaluation.evaluate import evaluate
    from robust_eval.run.likely import Looks, likely

    made = cells(attack=[{"name": name, "eps": 0.05}])
    (cell,) = (cell for cell in made if cell.perturbation is not None)
    images, labels = bench().prepare(cell).images()
    margins = torch.where(torch.arange(12) < standing, 1.0, 0.005)
    at = known(Answers(margins, labels, images))
    prepared = at.prepare(cell)
    look = Looks(time.perf_counter() + 60).at(prepared, 0.001)
    assert (look.right, look.standing) == (12, standing)
    expected = likely(prepared, cell.perturbation.cost(3).times(12), look)
    spent = evaluate(cell, at).provenance
    real = Passes(spent["forwards"], spent["backwards"])
    speed = Speed(1.0, 3.0)
    assert speed.seconds(real) / 2 <= speed.seconds(expected) <= 2 * speed.seconds(real)


def test_an_attack_for_the_smallest_perturbation_may_say_what_part_of_its_bound_it_takes(cells):
    from robust_eval.run.likely import Look, likely

    made = cells(attack=["deepfool", "ddn"])
    look = Look("net", "", 12, 6, 6)
    for cell in made:
        if cell.perturbation is not None:
            prepared, bound = known(Weak()).prepare(cell), Passes(2200, 4400)
            share = cell.perturbation.usual_share
            assert share == (1 / 22 if "deepfool" in str(cell) else 1.0)
            assert likely(prepared, bound, look) == Passes(round(1100 * share), round(2200 * share))


def test_nothing_is_likely_of_a_model_without_weights(cells):
    found = estimate(cells(attack=["pgd"]), bench())
    assert found.likely is None and not found.looks
    assert estimate(cells(attack=["pgd"]), known(Weak())).likely is not None
