import pytest
import torch
from torch import nn

from robust_eval.config.numbering import counted_alike, counted_from_0
from robust_eval.data import Examples
from robust_eval.data.given import GivenImages
from robust_eval.errors import CheckpointError
from robust_eval.models.source import OwnModel


def examples(labels, names=None, classes=None):
    labels = torch.tensor(labels)
    return Examples(
        torch.zeros(len(labels), 1, 2, 2),
        labels,
        classes or int(labels.max()) + 1,
        "data x",
        class_names=names,
    )


def model(classes):
    return OwnModel("m", nn.Linear(2, classes), "linear", {}, "0", classes=classes)


def counted(given, outputs, n=None):
    source = GivenImages("x", given)
    models = [] if outputs is None else [model(k) for k in outputs]
    return counted_from_0(source.test(n), source, lambda _: models)


def test_labels_from_1_to_n_of_a_model_with_n_outputs_are_shifted_and_that_is_said(caplog):
    found, models = counted(examples([1, 3, 2]), [3])
    assert (found.labels.tolist(), found.classes, len(models)) == ([0, 2, 1], 3, 1)
    assert "labels are taken to count from 1" in caplog.text


@pytest.mark.parametrize(
    ("given", "outputs"),
    [
        (examples([0, 1, 2]), [3]),
        (examples([1, 3, 2]), [4]),
        (examples([1, 2, 3]), [3, 4]),
        (examples([2, 3]), [3]),
        (examples([1, 2, 3], names=("a", "b", "c", "d")), [3]),
        (examples([1, 2, 3]), None),
    ],
    ids=["a label is 0", "more outputs", "models that differ", "none is 1", "names", "no model"],
)
def test_all_other_labels_stay_as_they_are_in_silence(given, outputs, caplog):
    found, models = counted(given, outputs)
    assert found is given and models is None and not caplog.text


def test_of_a_few_images_the_whole_set_is_asked():
    whole = examples([2, 3, 1, 3])
    assert counted(whole, [3], n=2)[0].labels.tolist() == [1, 2]
    assert counted(examples([2, 3, 0, 3]), [3], n=2)[0].labels.tolist() == [2, 3]


def test_a_model_that_does_not_load_is_told_later():
    def raising(_):
        raise CheckpointError("no")

    given = examples([1, 2])
    assert counted_from_0(given, GivenImages("x", given), raising) == (given, None)


def test_the_pool_is_counted_like_the_images():
    assert counted_alike(examples([1, 2]), [model(2)]).labels.tolist() == [0, 1]
    assert counted_alike(examples([1, 2]), None).labels.tolist() == [1, 2]
    assert counted_alike(examples([0, 1]), [model(2)]).labels.tolist() == [0, 1]
