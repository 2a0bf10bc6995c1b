"""The run folder: a file is whole or absent, and the presence of a record's JSON means that its cell is done."""

import json
import os
import random
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from robust_eval.errors import DataError
from robust_eval.files import atomic_path, write_text
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.results import store as store_module
from robust_eval.results.record import Record
from robust_eval.results.store import Store


def record(seed=0, value=0.5):
    rows = pd.DataFrame(
        {
            "index": np.arange(3),
            "score": [0.0, 1.0, 0.3],
            "attacked": [True, False, True],
            "confidence": [0.1, np.nan, 1],
        }
    )
    return Record(
        key=content_key({"seed": seed}),
        spec={"seed": seed},
        labels={"model": "net", "eps": 8 / 255, "params": {"steps": 3}},
        summary=(
            Measurement("accuracy", value, 0.1, 0.9, 3, 8 / 255),
            Measurement("median_distance", None, None, None, 0),
        ),
        checks=(Check("finite", "ok", 0.0, "look"),),
        provenance={"seconds": 1.5},
        rows=rows,
    )  # fmt: skip


def test_a_record_comes_back_as_it_was_written(tmp_path):
    store, given = Store(tmp_path), record()
    assert not store.has(given.key)
    store.write(given)
    assert store.has(given.key)
    found = store.read(given.key)
    assert found.to_json() == given.to_json()
    assert_frame_equal(found.rows, given.rows)


def test_the_rows_are_there_before_the_json_that_declares_the_cell_done(tmp_path, monkeypatch):
    store, given = Store(tmp_path), record()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "write_text", fail)
    with pytest.raises(KeyboardInterrupt):
        store.write(given)
    assert [path.suffix for path in (tmp_path / "records" / given.key[:2]).iterdir()] == [".parquet"]
    assert not store.has(given.key) and not list(store.records())


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "deep" / "file"
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not list(path.parent.iterdir())
    write_text(path, "whole")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "whole"


def test_a_torn_temporary_file_is_ignored(tmp_path):
    store = Store(tmp_path)
    store.write(record())
    key = record().key
    folder = tmp_path / "records" / key[:2]
    (folder / f".{key[:24]}.x1.tmp").write_text('{"schema"')
    (folder / f".{key[:24]}.x2.json.tmp").write_text("")
    assert [found.key for found in store.records()] == [record().key]


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_fifo_among_the_records_is_told_and_not_waited_on(tmp_path, suffix):
    store, given = Store(tmp_path), record()
    for one in (given, record(seed=1)):
        store.write(one)
    path = tmp_path / "records" / given.key[:2] / f"{given.key}{suffix}"
    path.unlink()
    os.mkfifo(path)
    told = []
    assert [one.key for one in store.records(damaged=told.append)] == [record(seed=1).key]
    assert "expected a file, got a FIFO" in str(told[0])
    with pytest.raises(DataError, match="got a FIFO"):
        store.read(given.key)
    store.discard(given.key)
    assert not store.has(given.key)
    store.write(given)
    assert store.read(given.key).key == given.key


def test_a_folder_in_place_of_a_record_is_told(tmp_path):
    store, given = Store(tmp_path), record()
    path = tmp_path / "records" / given.key[:2] / f"{given.key}.json"
    path.mkdir(parents=True)
    with pytest.raises(DataError, match="expected a file, got a folder"):
        store.read(given.key)
    with pytest.raises(DataError, match="got a folder; remove it"):
        store.discard(given.key)


def test_a_fifo_among_the_notes_of_failures_is_left_out(tmp_path):
    labels = dict.fromkeys(("model", "defense", "data", "family"), "x")
    store = Store(tmp_path)
    store.fail("a", labels, "error")
    os.mkfifo(tmp_path / "failed" / "b.json")
    assert [found["key"] for found in store.failures()] == ["a"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("{}"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text(path.read_text().replace('"summary"', '"sumary"')),
        lambda path: path.write_text(path.read_text().replace('"metric"', '"metrics"')),
        lambda path: path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.75')),
        lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 1')),
        lambda path: path.write_text(path.read_text().replace("sha256", "sha512")),
        lambda path: path.write_text("[" * 5000),
        lambda path: path.with_suffix(".parquet").unlink(),
        lambda path: path.with_suffix(".parquet").write_bytes(b""),
        lambda path: path.with_suffix(".parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1"),
    ],
)
def test_a_damaged_record_is_one_clear_error(tmp_path, spoil):
    store = Store(tmp_path)
    store.write(record())
    (path,) = tmp_path.rglob("*.json")
    spoil(path)
    for read in (lambda: store.read(record().key), lambda: list(store.records())):
        with pytest.raises(DataError) as caught:
            read()
        message = str(caught.value)
        assert str(path) in message and "delete it and run again" in message and "\n" not in message


def test_a_record_of_another_schema_says_so_whatever_else_it_holds(tmp_path):
    store = Store(tmp_path)
    store.write(record())
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({"schema": 99}))
    path.with_suffix(".parquet").unlink()
    with pytest.raises(DataError, match="expected schema 1, got 99; use the version that wrote it"):
        store.read(record().key)


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).write(record(value=float("nan")))
    assert not Store(tmp_path).has(record().key)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_are_as_readable_as_any_other(tmp_path, umask):
    before = os.umask(umask)
    try:
        Store(tmp_path).write(record())
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_two_writers_of_one_record_do_no_harm(tmp_path):
    store = Store(tmp_path)
    store.write(record())
    failures = []

    def write():
        for _ in range(15):
            store.write(record())

    def read():
        for _ in range(30):
            try:
                assert store.read(record().key).to_json() == record().to_json()
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=target) for target in (write, write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_records_are_read_in_the_order_of_their_keys(tmp_path):
    keys = [record(seed).key for seed in range(4)]
    assert keys != sorted(keys)
    for seed in range(4):
        Store(tmp_path).write(record(seed))
    assert [found.key for found in Store(tmp_path).records()] == sorted(keys)


def test_a_failure_is_noted_until_the_record_is_there(tmp_path):
    store = Store(tmp_path)
    store.fail(record().key, {"model": "net"}, "Traceback: ...")
    (note,) = (tmp_path / "failed").iterdir()
    assert json.loads(note.read_text()) == {
        "key": record().key,
        "labels": {"model": "net"},
        "error": "Traceback: ...",
    }
    assert not store.has(record().key) and not list(store.records())
    store.write(record())
    assert not note.exists()


def unhashed(path, **changes):
    """Make a record's JSON one of a version that kept no hashes."""
    data = json.loads(path.read_text())
    del data["sha256"], data["rows_sha256"]
    path.write_text(json.dumps({**data, **changes}))


def test_a_record_without_hashes_of_an_older_version_is_read(tmp_path):
    Store(tmp_path).write(record())
    (path,) = tmp_path.rglob("*.json")
    unhashed(path)
    assert Store(tmp_path).read(record().key).to_json() == record().to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": []},
        {"key": 3},
        {"labels": {"eps": "8/255"}},
        {"labels": {"seed": 2**63}},
        {"labels": {"severity": True}},
        {"labels": {"params": [1]}},
        {"summary": [{"metric": "accuracy", "value": "0.5", "ci_low": None, "ci_high": None, "n": 3}]},
        {"summary": [{"metric": "accuracy", "value": 0.5, "ci_low": None, "ci_high": None, "n": True}]},
        {"summary": {}},
        {"checks": [{"name": "finite", "verdict": "fine", "figure": 0.0, "advice": ""}]},
        {"provenance": None},
        {"more": 1},
    ],
)
def test_values_of_another_type_are_refused_at_reading(tmp_path, changes):
    Store(tmp_path).write(record())
    (path,) = tmp_path.rglob("*.json")
    unhashed(path, **changes)
    with pytest.raises(DataError, match="cannot be read"):
        Store(tmp_path).read(record().key)


def test_a_record_under_another_key_is_refused(tmp_path):
    store = Store(tmp_path)
    store.write(record())
    (path,) = tmp_path.rglob("*.json")
    other = record(1).key
    there = path.parent.parent / other[:2] / path.name.replace(record().key, other)
    there.parent.mkdir(exist_ok=True)
    for suffix in (".json", ".parquet"):
        there.with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    with pytest.raises(DataError, match="has been copied or renamed"):
        store.read(other)


def test_rows_of_another_record_are_refused(tmp_path):
    store, other = Store(tmp_path), replace(record(1), rows=record().rows.assign(score=1.0))
    store.write(record())
    store.write(other)
    one, two = (next(tmp_path.rglob(f"{given.key}.parquet")) for given in (record(), other))
    two.write_bytes(one.read_bytes())
    with pytest.raises(DataError, match="or is another record's"):
        store.read(other.key)


def test_what_is_damaged_is_told_and_the_rest_is_read(tmp_path):
    store, told = Store(tmp_path), []
    for seed in range(3):
        store.write(record(seed))
    next(tmp_path.rglob(f"{record(1).key}.json")).write_text("{")
    assert {found.key for found in store.records(damaged=told.append)} == {record(0).key, record(2).key}
    assert [record(1).key in str(error) for error in told] == [True]


def test_three_hundred_flipped_bits_are_noticed_or_change_nothing(tmp_path):
    store, draw, noticed = Store(tmp_path), random.Random(0), 0
    store.write(record())
    (path,) = tmp_path.rglob("*.json")
    for _ in range(300):
        file = path.with_suffix(draw.choice([".json", ".parquet"]))
        whole = file.read_bytes()
        spoilt = bytearray(whole)
        spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
        file.write_bytes(spoilt)
        try:
            found = store.read(record().key)
            assert found.to_json() == record().to_json()
            assert_frame_equal(found.rows, record().rows)
        except DataError:
            noticed += 1
        file.write_bytes(whole)
    assert noticed > 250


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(record())
    scan = os.scandir

    def refused(path):
        if len(os.path.basename(path)) == 2:  # noqa: PTH119
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"expected a folder that may be read, got .*Permission denied"):
        list(store.records())
