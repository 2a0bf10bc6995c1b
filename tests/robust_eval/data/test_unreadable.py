import pytest

from robust_eval.data import open_source
from robust_eval.errors import DataError


@pytest.fixture
def folder(tmp_path, png):
    """A folder of ten images of which four cannot be read."""
    (tmp_path / "a").mkdir()
    for i in range(10):
        content = png(10 * i)
        (tmp_path / f"a/{i}.png").write_bytes(content if i % 3 else content[:40])
    return tmp_path


def test_images_that_cannot_be_read_are_counted_and_the_first_are_named(folder):
    with pytest.raises(
        DataError, match=r"4 of 10 images cannot be read: .*\.png, .*\.png, .*\.png \.\.\.; "
    ) as told:
        open_source(str(folder)).test(None)
    assert "--skip-unreadable" in str(told.value) and "\n" not in str(told.value)


def test_they_are_left_out_where_that_is_asked_for_and_that_is_said(folder, caplog):
    examples = open_source(str(folder), skip_unreadable=True).test(None)
    assert sorted(examples.images[:, 0, 0, 0].tolist()) == [10, 20, 40, 50, 70, 80]
    assert "4 of 10 images that cannot be read are left out" in caplog.text


def test_others_take_their_place_among_the_first_n(folder):
    source = open_source(str(folder), skip_unreadable=True)
    assert [len(source.test(n)) for n in (1, 4, 6)] == [1, 4, 6]
    assert source.test(4).fingerprint == source.test(None)[slice(4)].fingerprint
    with pytest.raises(DataError, match="expected at least 7 images that can be read, got 6"):
        source.test(7)


def test_a_set_without_a_readable_image_is_refused_all_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="expected at least 1 images that can be read, got 0"):
        open_source(str(tmp_path), skip_unreadable=True).test(None)
