import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robust_eval.data import _class_folders, open_source
from robust_eval.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def unsaid():
    _class_folders._say_order.cache_clear()


def put(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 2), level, np.uint8)).save(path, "PNG")


def measured(folder, **options):
    examples = open_source(str(folder), **options).test(None)
    return sorted(zip(examples.labels.tolist(), examples.images[:, 0, 0, 0].tolist(), strict=True))


def test_folders_that_are_all_numbers_are_numbered_as_such_and_that_is_said_once(tmp_path, caplog):
    for number in range(12):
        put(tmp_path / str(number) / "a.png", number)
    assert measured(tmp_path) == [(number, number) for number in range(12)]
    assert open_source(str(tmp_path)).test(None).class_names == tuple(map(str, range(12)))
    assert caplog.text.count("in the order of their numbers") == 1


@pytest.mark.parametrize("split", ["", "test", "train"])
def test_the_order_of_folders_that_are_all_numbers_can_be_chosen_and_nothing_is_said_then(
    tmp_path, caplog, split
):
    for number in range(12):
        put(tmp_path / split / str(number) / "a.png", number)
        put(tmp_path / "test" / str(number) / "a.png", number) if split == "train" else None
    as_text = sorted(range(12), key=str)
    assert measured(tmp_path, class_order="text") == [(i, number) for i, number in enumerate(as_text)]
    assert measured(tmp_path, class_order="numbers") == [(number, number) for number in range(12)]
    assert not caplog.text
    if split == "train":
        trained = open_source(str(tmp_path), class_order="text").train()
        assert trained.class_names == tuple(map(str, as_text))


def test_the_order_of_classes_is_for_folders_alone():
    with pytest.raises(ConfigError, match="class_order is for image folders only"):
        open_source("digits", class_order="text")


@pytest.mark.parametrize(
    "names", [("c10", "c2"), ("10", "2", "two"), ("1", "01"), ("00", "01", "10")], ids=" ".join
)
def test_other_folders_are_numbered_by_the_alphabet_in_silence(tmp_path, caplog, names):
    for name in names:
        put(tmp_path / name / "a.png")
    assert open_source(str(tmp_path)).test(None).class_names == tuple(sorted(names))
    assert not caplog.text


def test_links_to_folders_are_followed_once_and_circles_end(tmp_path):
    put(tmp_path / "store" / "far.png", 9)
    put(tmp_path / "data" / "c0" / "near.png", 1)
    put(tmp_path / "data" / "c0" / "deep" / "er.png", 2)
    for name, target in (("more", tmp_path / "store"), ("same", "deep"), ("up", ".."), ("self", ".")):
        (tmp_path / "data" / "c0" / name).symlink_to(target)
    found = [
        path.relative_to(tmp_path) for path, _ in _class_folders.in_class_folders(tmp_path / "data", ["c0"])
    ]
    assert found == [Path("data/c0/deep/er.png"), Path("data/c0/more/far.png"), Path("data/c0/near.png")]


def test_a_class_may_itself_be_a_link(tmp_path):
    put(tmp_path / "store" / "a.png", 9)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c0").symlink_to(tmp_path / "store")
    assert measured(tmp_path / "data") == [(0, 9)]


def test_hidden_folders_inside_a_class_are_left_out(tmp_path):
    put(tmp_path / "c0" / "a.png", 1)
    put(tmp_path / "c0" / ".ipynb_checkpoints" / "a-checkpoint.png", 2)
    assert measured(tmp_path) == [(0, 1)]


def test_a_class_without_a_known_kind_of_image_is_named(tmp_path):
    put(tmp_path / "c0" / "a.png")
    (tmp_path / "c1").mkdir()
    for name in ("a.heic", "b.heic", "c.txt"):
        (tmp_path / "c1" / name).touch()
    with pytest.raises(DataError, match=r"class folder c1, got 2 .heic, 1 .txt; convert them"):
        measured(tmp_path)


def test_a_folder_of_much_else_is_not_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_class_folders, "ENOUGH", 3)
    (tmp_path / "c0").mkdir()
    for i in range(9):
        (tmp_path / "c0" / f"{i}.txt").touch()
    with pytest.raises(DataError, match=r"got 3 \.txt"):
        measured(tmp_path)


def test_a_pipe_among_images_is_named_and_not_waited_for(tmp_path):
    put(tmp_path / "c0" / "a.png")
    os.mkfifo(tmp_path / "c0" / "b.png")
    with pytest.raises(DataError, match="got a FIFO"):
        measured(tmp_path)


@pytest.mark.parametrize("train", [True, False])
def test_a_test_split_without_classes_says_what_is_missing(tmp_path, train):
    if train:
        put(tmp_path / "train" / "c0" / "a.png")
    for i in range(3):
        put(tmp_path / "test" / f"{i}.png")
    with pytest.raises(DataError, match="3 images without a class: nothing says which class they are of"):
        measured(tmp_path)


def test_names_that_are_not_text_are_read_and_spelt_out(tmp_path):
    put(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff.png"), 5)
    examples = open_source(str(tmp_path)).test(None)
    assert examples.class_names == ("caf\\xe9",)
    assert examples.images.max() == 5
