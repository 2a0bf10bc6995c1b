"""Other libraries' attacks by name: found, described, run by our loop and measured here."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from robust_eval import Classifier, Rng, attack
from robust_eval.attacks.peers import resolve as peers
from robust_eval.attacks.peers.resolve import counterparts, installed
from robust_eval.classifier import frozen
from robust_eval.errors import ConfigError, RobustEvalError, UnknownNameError
from robust_eval.registry import build, card, describe, find, names
from robust_eval.types import StochasticModule

pytest.importorskip("foolbox")
pytest.importorskip("torchattacks")
pytest.importorskip("pyautoattack")

SOME = [
    ("foolbox:LinfPGD", {"steps": 5}),
    ("foolbox:L2PGD", {"steps": 5}),
    ("foolbox:L1FastGradientAttack", {}),
    ("foolbox:DDNAttack", {"steps": 8}),
    ("foolbox:L2CarliniWagnerAttack", {"steps": 5, "binary_search_steps": 2}),
    ("foolbox:GaussianBlurAttack", {"steps": 5, "norm": "linf"}),
    ("foolbox:SpatialAttack", {"num_translations": 2, "num_rotations": 2}),
    ("foolbox:L2AdditiveGaussianNoiseAttack", {}),
    ("torchattacks:PGD", {"steps": 5}),
    ("torchattacks:APGDT", {"steps": 5, "norm": "l2"}),
    ("torchattacks:Square", {"n_queries": 20}),
    ("torchattacks:Pixle", {"restarts": 2, "max_iterations": 3}),
    ("torchattacks:GN", {}),
    ("pyautoattack:standard", {"steps": 5, "queries": 20}),
    ("pyautoattack:apgd-ce", {"steps": 5, "norm": "l1"}),
]
some = pytest.mark.parametrize(("name", "params"), SOME, ids=[name for name, _ in SOME])


class Small(nn.Module):
    """A smooth network whose rows are computed alike in any batch."""

    def __init__(self, classes=4, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Parameter(torch.randn(12, 64, generator=generator).to(dtype) / 4)
        self.second = nn.Parameter(torch.randn(classes, 12, generator=generator).to(dtype))

    def forward(self, x):
        return torch.tanh((x.flatten(1) - 0.5) @ self.first.T) @ self.second.T


class Counting(Small):
    """Counts what passes through, and back."""

    def __init__(self):
        super().__init__()
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += len(x)
        x = x * 1
        if x.requires_grad:
            x.register_hook(self.count)
        return super().forward(x)

    def count(self, gradient):
        self.backwards += len(gradient)


def images(n=8, dtype=torch.float32):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).to(dtype)


def predicted(network, x):
    with torch.no_grad(), frozen(network):
        return network(x).argmax(1)


# Found by name


@pytest.mark.parametrize("library", list(peers.LIBRARIES))
def test_every_class_is_found_or_refused_in_one_line(library):
    module = {
        "foolbox": peers._foolbox,
        "torchattacks": peers._torchattacks,
        "pyautoattack": peers._pyautoattack,
    }
    known = module[library].known()
    assert len(known) >= 8
    for name in known:
        try:
            cls = find("attack", f"{library}:{name}")
        except ConfigError as error:
            assert "\n" not in str(error) and "cannot be used here: " in str(error)
            continue
        assert set(cls.norms) <= {"linf", "l2", "l1"} and cls.norms
        fields = {field.name for field in dataclasses.fields(cls)}
        assert ("eps" in fields) != cls.minimal_norm and "library" in fields
        assert not fields & {"model", "seed", "verbose", "n_classes", "distance", "tensorboard"}
        assert card("attack", f"{library}:{name}").startswith("``")


def test_they_are_no_part_of_the_registered_names():
    find("attack", "foolbox:LinfPGD")
    assert not [name for name in names("attack") if ":" in name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foolbox:LinfPDG", ["unknown foolbox attack 'LinfPDG'", "did you mean 'LinfPGD'?"]),
        ("torchattacks:Pixel", ["unknown torchattacks attack", "did you mean 'Pixle'?"]),
        ("pyautoattack:standrad", ["did you mean 'standard'?"]),
        ("folbox:PGD", ["unknown attack 'folbox:PGD'", "foolbox:NAME", "torchattacks:NAME"]),
        ("foolbox:DatasetAttack", ["cannot be used here", "other images"]),
        ("torchattacks:LGV", ["cannot be used here", "transfer:NAME"]),
        ("torchattacks:MultiAttack", ["cannot be used here", "worst case"]),
    ],
)
def test_an_unknown_or_unusable_class_is_one_line_with_its_fix(name, words):
    with pytest.raises(ConfigError) as error:
        find("attack", name)
    (line,) = error.value.problems
    assert not [word for word in words if word not in line], line


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("foolbox:PGD", {"stepz": 1}, ["unknown field 'stepz'", "did you mean 'steps'?"]),
        ("foolbox:PGD", {"steps": 0}, ["steps: expected >= 1, got 0"]),
        ("foolbox:PGD", {"eps": -1}, ["eps: expected >= 0"]),
        ("foolbox:PGD", {"library": "foolbox 2.0"}, ["expected 'foolbox ", "got 'foolbox 2.0'"]),
        ("foolbox:GaussianBlurAttack", {"norm": "l7"}, ["norm: expected 'l2', 'linf' or 'l1'"]),
        ("foolbox:VirtualAdversarialAttack", {}, ["field 'steps' is missing"]),
        ("foolbox:HopSkipJumpAttack", {"init_attack": "Nothing"}, ["unknown foolbox attack 'Nothing'"]),
        ("torchattacks:Pixle", {"pixel_mapping": "zigzag"}, ["torchattacks 3", "refuses these fields", "zigzag"]),
        ("torchattacks:FGSM", {"seed": 1}, ["unknown field 'seed'"]),
    ],
)  # fmt: skip
def test_a_bad_field_is_one_line_with_its_fix(name, params, words):
    with pytest.raises(ConfigError) as error:
        attack(name, **params)
    (line,) = error.value.problems
    assert not [word for word in words if word not in line], line


def test_a_library_that_is_not_installed_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr(peers, "installed", dict)
    peers._resolve.cache_clear()
    with pytest.raises(ConfigError, match=r"foolbox is not installed; pip install 'robust-eval\[peers\]'"):
        peers._resolve("foolbox", "LinfPGD")


def test_a_package_of_a_library_that_is_missing_is_one_line(monkeypatch):
    theirs = dataclasses.replace(find("attack", "foolbox:FGSM").theirs, check=lambda *_: __import__("numbaa"))
    cls = find("attack", "foolbox:FGSM")
    monkeypatch.setattr(cls, "theirs", theirs)
    with pytest.raises(ConfigError, match="needs numbaa, which is not installed; pip install numbaa"):
        cls()


# As plain data


@some
def test_an_attack_is_rebuilt_from_its_description_which_names_class_and_version(name, params):
    method = attack(name, **params)
    described = describe(method)
    assert build("attack", described.name, described.params) == method
    assert described.params.items() >= params.items()
    library = name.partition(":")[0]
    assert described.params["library"] == f"{library} {installed()[library]}"


def test_the_aliases_of_a_class_are_one_attack():
    aliases = ("PGD", "LinfPGD", "LinfProjectedGradientDescentAttack")
    assert {describe(attack(f"foolbox:{alias}")).name for alias in aliases} == {"foolbox:PGD"}
    assert len({find("attack", f"foolbox:{alias}") for alias in aliases}) == 1


def test_numbers_may_be_fractions_and_defaults_are_the_librarys():
    assert attack("torchattacks:PGD", alpha="1/255").alpha == pytest.approx(1 / 255)
    pgd = describe(attack("foolbox:LinfPGD")).params
    assert (pgd["steps"], pgd["random_start"]) == (40, True) and pgd["rel_stepsize"] == pytest.approx(1 / 30)


@pytest.mark.parametrize(
    ("name", "minimal", "norms"),
    [
        ("foolbox:LinfPGD", False, ("linf",)),
        ("foolbox:EADAttack", True, ("l1",)),
        ("foolbox:HopSkipJumpAttack", True, ("l2", "linf")),
        ("foolbox:PointwiseAttack", True, ("l2", "linf", "l1")),
        ("torchattacks:PGDL2", False, ("l2",)),
        ("torchattacks:PIFGSM", False, ("linf",)),
        ("torchattacks:CW", True, ("l2",)),
        ("torchattacks:FAB", False, ("linf", "l2", "l1")),
        ("torchattacks:Square", False, ("linf", "l2")),
    ],
)
def test_radius_and_norm_follow_from_the_class(name, minimal, norms):
    cls = find("attack", name)
    assert (cls.minimal_norm, cls.norms, cls.unbounded) == (minimal, norms, False)


@pytest.mark.parametrize(
    "name", ["torchattacks:Pixle", "torchattacks:JSMA", "foolbox:L0FMNAttack", "foolbox:SpatialAttack"]
)
def test_what_has_no_radius_in_our_norms_may_make_any_image(name):
    cls = find("attack", name)
    assert cls.unbounded and cls.minimal_norm and cls.norms == ("linf",)


# Run by our loop


@some
def test_a_result_is_in_the_box_and_the_ball_and_the_input_is_not_written(name, params):
    network, x = Small(), images()
    y, before, method = predicted(network, x), x.clone(), attack(name, **params)
    x_adv = method(Classifier(network), x, y, rng=Rng(0))
    assert torch.equal(x, before) and x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    if method.threat.eps is not None:
        assert method.threat.distance(x, x_adv).max() <= method.threat.eps * (1 + 1e-5)


@some
def test_the_same_seed_gives_the_same_result_and_global_generators_are_left_alone(name, params):
    network, x = Small(), images()
    y, method = predicted(network, x), attack(name, **params)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = method(Classifier(network), x, y, rng=Rng(3))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(method(Classifier(network), x, y, rng=Rng(3)), first)


@some
def test_the_ledger_counts_all_that_passed_through_the_network(name, params):
    network, x = Counting(), images()
    y, classifier = predicted(network, x), Classifier(network, batch_size=5, accelerate=False)
    network.forwards = network.backwards = 0
    attack(name, **params).run(classifier, x, y, rng=Rng(0).for_batch(len(x)))
    assert classifier.ledger["forwards"].sum() == network.forwards
    assert classifier.ledger.padded("backwards", 8).sum() == network.backwards
    assert (classifier.ledger["forwards"] > 0).all()


@some
def test_modes_and_weights_are_as_before(name, params):
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 4)
    )
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = [m.training for m in network.modules()], [w.requires_grad for w in network.parameters()]
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    x = images()
    attack(name, **params)(Classifier(network), x, predicted(network, x), rng=Rng(0))
    assert before == (
        [m.training for m in network.modules()],
        [w.requires_grad for w in network.parameters()],
    )
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_foolboxs_point_is_foolboxs_point():
    import foolbox

    network, x = Small(), images()
    y = predicted(network, x)
    ours = attack("foolbox:LinfPGD", eps=0.1, steps=7, random_start=False)(
        Classifier(network), x, y, rng=Rng(0)
    )
    with frozen(network):
        model = foolbox.PyTorchModel(network, bounds=(0, 1))
        theirs = foolbox.attacks.LinfPGD(steps=7, random_start=False)(model, x, y, epsilons=0.1)[1]
    assert torch.equal(ours, theirs)


def test_torchattacks_point_is_torchattacks_point():
    import torchattacks

    network, x = Small(), images()
    y = predicted(network, x)
    ours = attack("torchattacks:MIFGSM", eps=0.1, alpha=0.02, steps=7)(Classifier(network), x, y, rng=Rng(0))
    with frozen(network):
        theirs = torchattacks.MIFGSM(network, eps=0.1, alpha=0.02, steps=7)(x, y)
    assert torch.equal(ours, theirs)


def test_pyautoattacks_ensemble_breaks_what_its_own_loop_breaks():
    import pyautoattack

    network, x, eps = Small(), images(16), 0.01
    y = predicted(network, x)
    ours = attack("pyautoattack:standard", eps=eps, queries=20)(Classifier(network), x, y, rng=Rng(0))
    with frozen(network):
        theirs = pyautoattack.AutoAttack(network, norm="Linf", eps=eps, seed=0)
        theirs.square.n_queries, theirs.apgd_targeted.n_target_classes, theirs.fab.n_target_classes = 20, 3, 3
        x_adv, _ = theirs.run_standard_evaluation(x, y, batch_size=16)
    assert torch.equal(predicted(network, ours) != y, predicted(network, x_adv) != y)
    assert 0 < (predicted(network, ours) != y).sum() < 16


def test_the_classes_are_those_of_the_model():
    network, x = Small(classes=5), images()
    x_adv = attack("torchattacks:APGDT", eps=0.3, steps=10)(
        Classifier(network), x, y := predicted(network, x), rng=Rng(0)
    )
    assert (predicted(network, x_adv) != y).any()


def test_float64_stays_float64():
    network, x = Small(dtype=torch.float64), images(dtype=torch.float64)
    x_adv = attack("foolbox:LinfPGD", steps=3)(Classifier(network), x, predicted(network, x), rng=Rng(0))
    assert x_adv.dtype == torch.float64


def test_a_restart_is_spent_on_those_that_resist_and_the_nearest_point_is_kept():
    network, x = Small(), images(24)
    y = predicted(network, x)
    robust, distance = [], []
    for restarts in (1, 6):
        pgd = attack("foolbox:LinfPGD", eps=0.02, steps=1, rel_stepsize=0.5, restarts=restarts)
        result = pgd.run(Classifier(network), x, y, rng=Rng(0).for_batch(24))
        robust.append(predicted(network, result.x_adv) == y)
        assert torch.equal(result.step < 0, robust[-1])
        bb = attack("foolbox:LinearSearchBlendedUniformNoiseAttack", steps=5, directions=5, restarts=restarts)
        distance.append(bb.threat.distance(x, bb(Classifier(network), x, y, rng=Rng(0))))
    assert (robust[1] <= robust[0]).all()
    assert (distance[1] <= distance[0]).all() and (distance[1] < distance[0]).any()


def test_a_radius_of_zero_and_no_images_give_the_images_back():
    network, x = Small(), images()
    for n in (0, 8):
        x_adv = attack("foolbox:LinfPGD", eps=0.0)(
            Classifier(network), x[:n], predicted(network, x)[:n], rng=Rng(0)
        )
        assert torch.equal(x_adv, x[:n])


def test_where_nothing_is_found_a_smallest_perturbation_is_none():
    class Sure(nn.Module):
        def forward(self, x):
            return torch.stack([100 + x.flatten(1).mean(1), x.flatten(1).amax(1)], 1)

    x, y = images(), torch.zeros(8, dtype=torch.int64)
    with frozen(network := Sure()):
        cw = attack("foolbox:L2CarliniWagnerAttack", steps=3, binary_search_steps=1)
        result = cw.run(Classifier(network), x, y, rng=Rng(0).for_batch(8))
    # Foolbox hands back black images here
    assert torch.equal(result.x_adv, x) and (result.step == -1).all()


def test_a_model_without_parameters_on_its_own_says_nothing(capsys):
    class Bare(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).mean(1), 1 - x.flatten(1).mean(1)], 1)

    x = images()
    attack("torchattacks:PGD", steps=2)(Classifier(Bare()), x, predicted(Bare(), x), rng=Rng(0))
    assert not any(capsys.readouterr())


def test_a_normalisation_on_the_model_is_not_applied_a_second_time():
    class RobModel(Small):
        """torchattacks reads mean and std off a class of this name."""

        mean, std = torch.tensor([0.5]), torch.tensor([0.1])

    network, x = RobModel(), images()
    y = predicted(network, x)
    x_adv = attack("torchattacks:FGSM", eps=0.1)(Classifier(network), x, y, rng=Rng(0))
    assert torch.equal(x_adv, attack("torchattacks:FGSM", eps=0.1)(Classifier(Small()), x, y, rng=Rng(0)))


def test_a_stochastic_model_draws_at_each_call_from_the_streams_of_its_rows():
    class Noisy(StochasticModule):
        def __init__(self):
            super().__init__()
            self.network, self.paths = Small(), []

        def redraw(self, rng):
            self.noise = rng.normal(1, 8, 8) * 0.02
            self.paths.append(rng.path)

        def forward(self, x):
            return self.network(x + self.noise)

    x, noisy = images(), Noisy()
    y, classifier = predicted(Small(), x), Classifier(noisy)
    pgd = attack("foolbox:LinfPGD", steps=4, eps=0.1)
    first = pgd(classifier, x, y, rng=Rng(0))
    assert len(set(noisy.paths)) == len(noisy.paths) >= 4
    assert torch.equal(pgd(Classifier(Noisy()), x, y, rng=Rng(0)), first)
    assert not torch.equal(pgd(Classifier(Noisy()), x, y, rng=Rng(1)), first)
    attack("torchattacks:Pixle", restarts=1, max_iterations=2)(Classifier(Noisy()), x, y, rng=Rng(0))


# What goes wrong inside


def failing(monkeypatch, attack_function):
    cls = find("attack", "foolbox:FGSM")
    monkeypatch.setattr(cls, "theirs", dataclasses.replace(cls.theirs, attack=attack_function))
    return cls()


def test_an_exception_inside_names_the_attack_and_the_library(monkeypatch):
    def broken(params, call):
        raise IndexError("list index out of range\nsomewhere")

    method, x = failing(monkeypatch, broken), images()
    with pytest.raises(
        RobustEvalError,
        match=r"^foolbox:FGSM: failed inside foolbox 3.*: IndexError: list index out of range$",
    ):
        method(Classifier(Small()), x, predicted(Small(), x), rng=Rng(0))


def test_points_that_are_not_finite_or_of_another_shape_do_not_pass(monkeypatch):
    x = images()
    y = predicted(Small(), x)
    nan = failing(monkeypatch, lambda params, call: torch.full_like(call.x, torch.nan))
    assert torch.equal(nan(Classifier(Small()), x, y, rng=Rng(0)), x)
    bright = failing(monkeypatch, lambda params, call: call.x + 5)
    assert bright(Classifier(Small()), x, y, rng=Rng(0)).max() <= 1
    cropped = failing(monkeypatch, lambda params, call: call.x[..., :4])
    with pytest.raises(RobustEvalError, match="foolbox:FGSM: expected images of shape"):
        cropped(Classifier(Small()), x, y, rng=Rng(0))


def test_images_without_a_starting_point_do_not_end_the_attack_on_the_others(monkeypatch, caplog):
    dark = images()[3]

    def picky(params, call):
        if (call.x == dark).flatten(1).all(1).any():
            raise ValueError("init_attack failed for 1.0 of 8 inputs")
        return 1 - call.x

    method, x = failing(monkeypatch, picky), images()
    x_adv = method(Classifier(Small()), x, predicted(Small(), x), rng=Rng(0))
    assert torch.equal(x_adv[3], x[3])
    assert not (x_adv == x).flatten(1).all(1)[torch.arange(8) != 3].any()
    assert "1 of 8 images gave it no point to start from" in caplog.text
    never = failing(monkeypatch, lambda params, call: _raise())
    with pytest.raises(RobustEvalError, match="failed inside foolbox"):
        never(Classifier(Small()), x, predicted(Small(), x), rng=Rng(0))


def _raise():
    raise AssertionError


# Counterparts


OURS = [
    *((name, norm, {}) for name in ("fgsm", "bim", "mim", "pgd", "fmn") for norm in ("linf", "l2")),
    *((name, "l1", {}) for name in ("fmn", "apgd_ce", "fab", "square")),
    ("pgd", "linf", {"restarts": 3, "steps": 7}),
    ("cw", "l2", {"steps": 30}),
    ("deepfool", "l2", {"candidates": 4}),
    ("ddn", "l2", {}),
    ("apgd_dlr", "linf", {}),
    ("apgd_t", "l2", {"targets": 4}),
    ("fab_t", "linf", {}),
    ("square", "linf", {"queries": 77}),
    ("auto_attack", "linf", {}),
    ("auto_attack", "l1", {"steps": 30}),
]


@pytest.mark.parametrize(("name", "norm", "params"), OURS, ids=lambda value: str(value))
def test_a_counterpart_is_an_attack_of_theirs_under_its_own_name_in_the_same_norm(name, norm, params):
    if name not in names("attack"):
        pytest.skip("not written yet")
    fields = {field.name for field in dataclasses.fields(find("attack", name))}
    ours = attack(name, **{key: value for key, value in {"norm": norm, **params}.items() if key in fields})
    found = counterparts(name, describe(ours).params)
    assert found
    for there, fields in found:
        theirs = attack(there, **fields)
        assert describe(theirs).name == there
        assert theirs.threat == ours.threat


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("noise", {}),
        ("pgd", {"target": 1}),
        ("pgd", {"loss": "margin"}),
        ("auto_attack", {"version": "rand"}),
    ],
)
def test_what_a_library_does_not_have_has_no_counterpart(name, params):
    fields = {field.name for field in dataclasses.fields(find("attack", name))}
    if not params.keys() <= fields:
        pytest.skip("not written yet")
    try:
        method = attack(name, **params)
    except ConfigError:
        pytest.skip("not written like this")
    assert counterparts(name, describe(method).params) == []


def test_unknown_names_have_their_own_error():
    with pytest.raises(UnknownNameError):
        find("attack", "foolbox:Nothing")
