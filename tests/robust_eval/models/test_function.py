"""A function without gradients is asked as often as it may be, again where it fails, and never for a gradient."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import robust_eval
from reports.sections.trust import trust
from robust_eval import Classifier, Function, Rng, attack
from robust_eval.cli import app
from robust_eval.errors import ConfigError, MeasurementError, NoGradientError
from robust_eval.models.function import as_network, known_as_black_box
from robust_eval.results.load import load

SHAPE = (3, 4, 4)
WEIGHT = torch.randn(48, 3, generator=torch.Generator().manual_seed(0)).numpy()
X = 0.2 + 0.6 * torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(1))
QUICK = {"checks": "off", "progress": False}


def service(images):
    assert isinstance(images, np.ndarray)
    return (images.reshape(len(images), -1) - 0.5) @ WEIGHT


def labels(images):
    return service(images).argmax(1)


Y = torch.from_numpy(labels(X.numpy()))


def test_arrays_a_cut_graph_and_a_word_make_a_black_box_and_gradients_none():
    weight = torch.from_numpy(WEIGHT)

    def graph(x):
        return (x.flatten(1) - 0.5) @ weight

    def inside(x):
        return torch.from_numpy(service(x.numpy()))

    assert known_as_black_box(Function(service), X)
    assert known_as_black_box(Function(lambda x: graph(x).detach()), X)
    assert known_as_black_box(Function(inside), X)
    assert known_as_black_box(Function(graph, gradients=False), X)
    assert not known_as_black_box(Function(graph), X)
    assert not known_as_black_box(nn.Flatten(), X) and as_network(graph).function is graph


def test_a_gradient_is_refused_before_anything_is_asked():
    network = Function(service)
    network.find_out(X[:2])
    before = network.queries
    with pytest.raises(NoGradientError, match=r"black box.*hop_skip_jump"):
        Classifier(network, accelerate=False).input_gradient(X, Y, lambda z, y: z.sum(1), rng=Rng(0))
    assert network.queries == before


def test_without_attacks_named_it_gets_those_for_a_black_box_and_the_report_says_so(tmp_path):
    found = robust_eval.evaluate(
        service,
        X[:12],
        Y[:12],
        eps="8/255",
        out=tmp_path,
        fields={"square": {"queries": 60}, "hop_skip_jump": {"queries": 60}},
        progress=False,
    )
    assert set(found.table()["perturbation"]) == {"none", "square", "hop_skip_jump", "worst_case"}
    accuracy = found.table().set_index("perturbation")["accuracy"]
    assert accuracy["none"] == 1 and accuracy["square"] < 1
    assert not found.failed
    (line,) = trust(load([tmp_path]))
    assert line.words.startswith("black box, attacked by its answers alone: ") and not line.relied
    names = {*line.passed, *(item.name for item in line.raised)}
    assert "deterministic" in names and not names & {
        "vanishing_gradient",
        "zero_gradient",
        "gradients",
        "unbounded",
    }


def test_gradient_attacks_are_refused_in_one_line_that_says_what_works():
    with pytest.raises(
        ConfigError, match=r"'pgd', 'cw'.*black box; use square, noise, hop_skip_jump, boundary"
    ):
        robust_eval.evaluate(service, X, Y, attacks="pgd,square,cw", eps="8/255", **QUICK)


def test_classes_alone_are_enough_where_their_number_is_said():
    asked = {"attacks": "hop_skip_jump", "fields": {"hop_skip_jump": {"queries": 200}}, **QUICK}
    by_class, by_logits = (
        robust_eval.evaluate(one, X, Y, **asked).table() for one in (Function(labels, classes=3), service)
    )
    assert by_class["accuracy"].tolist() == by_logits["accuracy"].tolist()
    with pytest.raises(ConfigError, match=r"got classes \[n\]; give Function\(labels, classes=K\)"):
        robust_eval.evaluate(labels, X, Y, **asked)


@pytest.mark.parametrize(
    "name", ["square", "noise", "hop_skip_jump", "boundary"], ids=lambda name: f"by {name}"
)
def test_attacks_without_gradients_fool_it_and_count_what_they_ask(name):
    network = Function(service)
    network.find_out(X[:1])
    start = network.queries
    fields = {"queries": 80} if name != "noise" else {"draws": 80}
    model = Classifier(network)
    with model.frozen():
        result = attack(name, **fields).run(model, X, Y, rng=Rng(0).for_batch(len(X)))
    assert network.queries - start >= model.ledger["forwards"].sum() > 0
    if name != "noise":
        assert (torch.from_numpy(labels(result.x_adv.numpy())) != Y).any()


def test_a_limit_is_kept_and_told_in_one_line():
    asked = []

    def counted(images):
        asked.append(len(images))
        return service(images)

    limited = Function(counted, max_queries=300)
    found = robust_eval.evaluate(limited, X, Y, attacks="square", eps="8/255", **QUICK)
    assert sum(asked) <= 300 and limited.queries == sum(asked)
    assert len(found.failed) == 1
    assert "counted: its 300 queries are used up" in found.failed[0].error
    assert "raise max_queries" in found.failed[0].error
    with pytest.raises(MeasurementError, match="max_queries"):
        limited(X.repeat(20, 1, 1, 1))


def test_a_service_that_fails_is_asked_again_after_a_pause_that_doubles(monkeypatch, caplog):
    pauses, calls = [], []
    monkeypatch.setattr("robust_eval.models.function.time.sleep", pauses.append)

    def shaky(images):
        calls.append(1)
        if len(calls) % 4:
            raise ConnectionError("busy")
        return service(images)

    network = Function(shaky, retries=9, wait=0.5)
    network._arrays = True
    with caplog.at_level(logging.WARNING):
        answer = network(X)
    np.testing.assert_array_equal(answer.numpy(), service(X.numpy()))
    assert pauses == [0.5, 1.0, 2.0] and "busy" in caplog.text
    once = Function(shaky, retries=2, wait=100.0)
    once._arrays = True
    pauses.clear()
    with pytest.raises(ConnectionError, match="busy"):
        once(X)
    assert pauses == [60.0, 60.0]


def test_a_factory_may_return_a_function(tmp_path):
    np.savez(tmp_path / "images.npz", x=X.numpy(), y=Y.numpy())
    np.save(tmp_path / "weight.npy", WEIGHT)
    (tmp_path / "net.py").write_text(
        "import numpy as np\n"
        f"weight = np.load({str(tmp_path / 'weight.npy')!r})\n"
        "def build():\n"
        "    def answer(images):\n"
        "        return (np.asarray(images).reshape(len(images), -1) - 0.5) @ weight\n"
        "    return answer\n"
    )
    run = [
        "evaluate",
        "--arch",
        f"{tmp_path}/net.py:build",
        "--data",
        f"{tmp_path}/images.npz",
        "--checks",
        "off",
    ]
    result = CliRunner().invoke(
        app, [*run, "--attacks", "square", "--set", "square.queries=60", "--out", str(tmp_path / "run")]
    )
    assert result.exit_code == 0, result.output
    table = robust_eval.load(tmp_path / "run").table().set_index("perturbation")["accuracy"]
    assert table["none"] == 1 and table["square"] < 1
    refused = CliRunner().invoke(app, [*run, "--attacks", "pgd", "--out", str(tmp_path / "other")])
    assert isinstance(refused.exception, ConfigError) and "--budget black_box" in str(refused.exception)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_queries": 0}, "max_queries: expected a whole number >= 1"),
        ({"retries": -1}, "retries: expected a whole number >= 0"),
        ({"classes": 1}, "classes: expected a whole number >= 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Function(service, **fields)


def test_what_is_no_function_is_refused():
    with pytest.raises(ConfigError, match="expected a function from images"):
        Function(nn.Flatten())
