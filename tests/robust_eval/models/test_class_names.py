from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robust_eval.data import Examples
from robust_eval.errors import DataError
from robust_eval.models.class_names import class_names, compare_classes


def folder(*names):
    return Examples(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.long), len(names), class_names=names)


@pytest.mark.parametrize("names", [("Cat", "sea lion"), ("00_cat", "01_sea_lion"), ("cat", "sea-lion")])
def test_the_same_names_in_the_same_order_are_silent(names, caplog):
    compare_classes("net", 2, ("cat", "sea lion"), folder(*names))
    assert not caplog.records


def test_the_same_names_in_another_order_are_refused():
    with pytest.raises(DataError, match="got class 0 'cat', which is 'dog' there"):
        compare_classes("net", 2, ("dog", "cat"), folder("cat", "dog"))


def test_other_names_and_another_number_of_them_are_said(caplog):
    compare_classes("net", 3, ("dog", "cat", "cow"), folder("n01", "n02"))
    assert "has names for 2 classes, and net has 3 outputs" in caplog.text
    assert "class 0 is 'n01', and 'dog' in net; 0 of 2 names agree" in caplog.text


def test_a_model_or_data_without_names_has_none_to_compare(caplog):
    compare_classes("net", 2, None, folder("a", "b"))
    compare_classes("net", 9, ("a", "b"), Examples(torch.zeros(1, 1, 2, 2), torch.tensor([0]), 2))
    assert not caplog.records


@pytest.mark.parametrize(
    "beside",
    [
        {"class_names": ["cat", "dog"]},
        {"classes": ("cat", "dog")},
        {"class_to_idx": {"dog": 1, "cat": 0}},
        {"idx_to_class": {0: "cat", 1: "dog"}},
    ],
    ids=str,
)
def test_names_are_found_beside_the_weights(tmp_path, beside):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), **beside}, tmp_path / "a.pt")
    assert class_names(tmp_path / "a.pt", nn.Linear(2, 2)) == ("cat", "dog")


def test_names_are_found_on_the_card_and_on_a_network_but_numbers_are_none(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    assert class_names(tmp_path / "a.pt", nn.Linear(2, 2)) is None
    (tmp_path / "a.json").write_text('{"class_names": ["cat", "dog"]}')
    assert class_names(tmp_path / "a.pt", nn.Linear(2, 2)) == ("cat", "dog")
    network = nn.Linear(2, 2)
    network.config = SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"})
    assert class_names(None, network) is None
    network.config = SimpleNamespace(id2label={0: "cat", 1: "dog"})
    assert class_names(None, network) == ("cat", "dog")
