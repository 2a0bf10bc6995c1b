import gzip
import io
import json
import tarfile

import pytest

from robust_eval.data import open_source
from robust_eval.errors import DataError


def packed(path, members):
    """Write a tar of names and contents; a content that is a ``TarInfo`` is written as such."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shard(path, png, numbers):
    return packed(
        path,
        [
            part
            for i in numbers
            for part in ((f"d/{i:04}.png", png(10 * i)), (f"d/{i:04}.cls", str(i % 2).encode()))
        ],
    )


def test_shards_of_a_pattern_are_read_one_after_the_other(tmp_path, png, pairs):
    for number, numbers in enumerate((range(3), range(3, 5))):
        shard(tmp_path / f"w-{number + 9:03}.tar", png, numbers)
    source = open_source(str(tmp_path / "w-{009..010}.tar"))
    assert pairs(source.test(None)) == [(10 * i, i % 2) for i in range(5)]
    assert len(source.test(2)) == 2 and source.train() is None


def test_a_folder_of_tars_has_the_splits_that_their_names_say(tmp_path, png, pairs):
    shard(tmp_path / "train-0.tar", png, range(4))
    shard(tmp_path / "val-0.tar", png, range(2))
    source = open_source(str(tmp_path))
    assert pairs(source.test(None)) == [(0, 0), (10, 1)] and len(source.train()) == 4


def test_labels_may_be_names_or_lie_in_json(tmp_path, png):
    packed(tmp_path / "a.tar", [("1.png", png(1)), ("1.cls", b"dog\n"), ("2.png", png(2)), ("2.cls", b"cat")])
    assert open_source(str(tmp_path / "a.tar")).test(None).class_names == ("cat", "dog")
    packed(tmp_path / "b.tar", [("1.json", json.dumps({"label": 4}).encode()), ("1.png", png(1))])
    assert open_source(str(tmp_path / "b.tar")).test(None).labels.tolist() == [4]


def link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([], "expected images .* got none"),
        ([("1.png", b"x")], r"expected a label \(1\.cls, .* got 1 of 1 images without"),
        ([("../1.png", b"x")], r"the unsafe path '\.\./1\.png'"),
        ([("/1.png", b"x")], "the unsafe path '/1.png'"),
        ([("1.png", link("1.png"))], "a link or device"),
        ([("1.png", b"x"), ("1.json", b"{")], "what is no text or JSON"),
        ([("1.png", b"x"), ("1.cls", b"1")], "1.png is no image that can be read"),
    ],
)
def test_a_shard_that_nearly_fits_is_refused_in_one_line(tmp_path, members, told):
    packed(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=told) as error:
        open_source(str(tmp_path / "a.tar")).test(None)
    assert "\n" not in str(error.value)


def test_what_is_no_tar_is_refused_and_a_packed_one_has_to_be_unpacked(tmp_path, png):
    (tmp_path / "a.tar").write_text("<html>" * 200)
    with pytest.raises(DataError, match=r"is no tar file that can be read .*save it again"):
        open_source(str(tmp_path / "a.tar")).test(None)
    shard(tmp_path / "b.tar", png, range(2))
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "b.tar").read_bytes()))
    with pytest.raises(DataError, match=r"unpack it to a plain \.tar first"):
        open_source(str(tmp_path / "b.tar.gz")).test(None)


def test_a_shard_of_the_pattern_that_is_missing_is_named(tmp_path, png):
    shard(tmp_path / "w-0.tar", png, range(2))
    with pytest.raises(DataError, match=r"expected 3 shards, got 1: no file .*w-1\.tar"):
        open_source(str(tmp_path / "w-{0..2}.tar")).test(None)
