"""A file is whole or absent, and what killed processes left is swept away."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from robust_eval import files
from robust_eval.errors import StorageError
from robust_eval.files import alone, atomic_path, sweep, write_text, write_together


def test_a_full_disk_is_one_line_whatever_library_says_so(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="No space left on device") as caught, atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(StorageError, match="No space left"), atomic_path(tmp_path / "a"):
        raise RuntimeError("[enforce fail at inline_container.cc]")
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), atomic_path(tmp_path / "a"):
        raise RuntimeError("mine")


def test_files_are_written_together_or_not_at_all(tmp_path):
    write_together(tmp_path, {"a": "1", "deep/b": b"2"})
    assert ((tmp_path / "a").read_text(), (tmp_path / "deep/b").read_bytes()) == ("1", b"2")

    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path, {"a": "3", "b": "\ud800"})
    assert (tmp_path / "a").read_text() == "1" and not (tmp_path / "b").exists()
    assert not list(tmp_path.rglob(".*.tmp"))


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom robust_eval.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'deep' / 'left.npy'): os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert len(list(tmp_path.rglob(".*.tmp"))) == 1
    (tmp_path / ".theirs.tmp").write_text("")
    (tmp_path / ".old.ffffffff-1.x.tmp").write_text("")
    os.utime(tmp_path / ".old.ffffffff-1.x.tmp", (0, time.time() - 2 * files.DAY))
    with atomic_path(tmp_path / "mine") as temporary:
        sweep(tmp_path, "deep")
        assert temporary.exists()
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {".theirs.tmp", "mine"}


def test_a_lock_is_held_by_one_and_let_go_by_the_dead(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom robust_eval.files import alone\n"
        "with alone(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path / "lock"], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"1\n"
    held = []

    def hold():
        with alone(tmp_path / "lock"):
            held.append(1)

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.2)
    assert not held
    other.kill()
    other.wait()
    other.stdout.close()
    thread.join(10)
    assert held


def test_a_text_replaces_another(tmp_path):
    for text in ("one", "two"):
        write_text(tmp_path / "a", text)
    assert (tmp_path / "a").read_text() == "two"
