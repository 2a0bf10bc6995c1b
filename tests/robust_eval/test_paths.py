import os
import socket

import pytest

from robust_eval.errors import ConfigError
from robust_eval.paths import exists, expanded, is_file, is_folder, misnamed, require_file, shown, what_is


def test_what_lies_at_a_path_is_said_in_words(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    words = {
        name: what_is(tmp_path / name) for name in ("file", "pipe", "broken", "socket", "gone", "file/below")
    }
    assert words == {
        "file": "a file",
        "pipe": "a FIFO",
        "broken": "a link to nothing",
        "socket": "a socket",
        "gone": "none",
        "file/below": "none",
    }
    assert what_is(tmp_path) == "a folder"
    assert what_is("/dev/null") == "a device"
    assert "cannot be reached" in what_is(tmp_path / "circle") or "can be reached" in what_is(
        tmp_path / "circle"
    )


@pytest.mark.parametrize("name", ["a\0b", "z" * 300, "a/" * 3000, "\ud800"])
def test_a_name_that_no_file_can_have_is_answered_and_not_raised(name):
    assert not is_file(name) and not is_folder(name) and not exists(name)
    assert misnamed(name)
    assert "\0" not in shown(name) and len(shown(name)) <= 160


def test_a_name_that_a_file_can_have_is_not_complained_about():
    assert [misnamed(name) for name in (".", "/", "a/b.npz", "caf\u00e9", "z" * 255)] == [None] * 5


def test_a_name_in_another_encoding_is_spelt_out():
    assert shown(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert "UTF-8" in (misnamed(os.fsdecode(b"caf\xe9")) or "")


def test_the_home_of_nobody_stays_as_it_is():
    assert str(expanded("~nobody-of-that-name/x")) == "~nobody-of-that-name/x"


def test_what_is_no_file_is_refused_with_its_place_and_fix(tmp_path):
    with pytest.raises(ConfigError, match="here: expected a map, got a folder; draw one"):
        require_file(tmp_path, where="here", wanted="a map", fix="draw one", error=ConfigError)
