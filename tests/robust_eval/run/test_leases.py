"""A lease is held by one at a time, for as long as its holder is heard of, whatever the clocks do."""

import json
import os
import threading
from types import SimpleNamespace

import pytest

from robust_eval.errors import StorageError
from robust_eval.run.clocks import Clocks, folder_time
from robust_eval.run.leases import BEAT, EXPIRY, Ended, Leases

WHAT = {"model": "m", "name": "net", "cell": "net · clean"}


@pytest.fixture
def clock():
    """A folder's clock, as what it is ahead of the time of files that are written, and a local one."""
    return SimpleNamespace(ahead=0.0, local=1000.0)


@pytest.fixture
def leases(tmp_path, clock):
    """Makes workers on one folder."""

    def make(**options):
        clocks = Clocks(lambda folder: folder_time(folder) + clock.ahead, lambda: clock.local)
        return Leases(tmp_path, clocks=clocks, **options)

    return make


def change(leases, name, **fields):
    """Have a lease be somebody else's."""
    path = leases.folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def silence(clock, seconds):
    clock.local += seconds
    clock.ahead += seconds


def test_one_holds_it_until_it_is_given_back(leases):
    one, other = leases(), leases()
    assert one.claim("a", WHAT) is not None
    assert other.claim("a", WHAT) is None and one.claim("a", WHAT) is None
    assert other.claim("b", WHAT) is not None
    (found, _) = other.found()
    assert (found.name, found.what, found.pid, found.is_here, found.is_gone) == (
        "a",
        WHAT,
        os.getpid(),
        True,
        False,
    )
    one.release("a")
    assert other.claim("a", WHAT).ended == Ended()


def test_of_many_at_once_exactly_one_gets_it(leases):
    barrier, got = threading.Barrier(8), []

    def race(worker):
        for i in range(20):
            barrier.wait()
            if worker.claim(f"lease{i}", WHAT) is not None:
                got.append(i)

    threads = [threading.Thread(target=race, args=(leases(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))


def test_that_of_a_process_of_this_machine_that_has_ended_is_free_at_once(leases):
    gone, other = leases(), leases()
    gone.claim("a", WHAT)
    change(gone, "a", started=1)  # a process of the same number that began at another time
    claim = other.claim("a", WHAT)
    assert len(claim.ended.reasons) == 1 and "ended" in claim.ended.reasons[0]
    assert not claim.ended.less_memory


def test_while_its_parent_lives_only_the_parent_says_that_a_worker_has_ended(leases):
    gone, sibling = leases(), leases()
    gone.claim("a", WHAT)
    change(gone, "a", started=1, parent=os.getppid())
    assert sibling.claim("a", WHAT) is None
    sibling.note_end(sibling.read("a"), "exit code 7", less_memory=True)
    ended = sibling.claim("a", WHAT).ended
    assert (ended.reasons, ended.less_memory) == (("exit code 7",), True)


def test_one_of_another_machine_expires_when_it_was_not_touched_for_long_enough(leases, clock):
    far, other = leases(), leases()
    far.claim("a", WHAT)
    change(far, "a", machine="another", host="far")
    assert other.claim("a", WHAT) is None
    silence(clock, EXPIRY - 1)
    assert other.claim("a", WHAT) is None
    silence(clock, 2)
    claim = other.claim("a", WHAT)
    assert "far was not heard of" in claim.ended.reasons[0] and claim.ended.less_memory


def test_a_worker_that_comes_later_watches_an_old_lease_for_two_beats_before_it_takes_it(leases, clock):
    far, late = leases(), leases()
    far.claim("a", WHAT)
    change(far, "a", machine="another")
    silence(clock, 10 * EXPIRY)
    assert late.claim("a", WHAT) is None
    silence(clock, 2 * BEAT)
    assert late.claim("a", WHAT) is not None


def test_a_folder_clock_that_jumps_ahead_takes_nothing_from_who_is_heard_of(leases, clock):
    holder, other = leases(), leases()
    holder.claim("a", WHAT)
    clock.ahead += 3600
    for beat in range(30):
        os.utime(holder.folder / "a", (beat, beat))  # as a touch does
        clock.local += BEAT
        assert other.claim("a", WHAT) is None


def test_a_folder_clock_that_jumps_back_keeps_no_lease_for_ever(leases, clock):
    far, other = leases(), leases()
    far.claim("a", WHAT)
    change(far, "a", machine="another")
    clock.ahead -= 3600
    assert other.claim("a", WHAT) is None
    clock.local += EXPIRY
    assert other.claim("a", WHAT) is not None


def test_who_was_too_slow_does_not_give_back_what_is_anothers_by_now(leases, clock):
    slow, other = leases(), leases()
    slow.claim("a", WHAT)
    other.claim("a", WHAT)
    silence(clock, EXPIRY)
    assert other.claim("a", WHAT) is not None
    token = other.read("a").token
    slow.touch()
    slow.release("a")
    assert other.read("a").token == token


def test_what_is_held_is_touched_while_its_holder_lives_and_given_back_at_the_end(leases):
    worker = leases(beat=0.01)
    with worker.touching():
        worker.claim("a", WHAT)
        os.utime(worker.folder / "a", (0, 0))
        for _ in range(200):
            if worker.read("a").touched > 0:
                break
            threading.Event().wait(0.01)
        else:
            raise AssertionError("it was never touched")
    assert not worker.folder.exists()


def test_who_ended_is_remembered_until_the_work_is_done(leases):
    worker = leases()
    for count in (1, 2):
        assert len(worker.claim("a", WHAT).ended.reasons) == count - 1
        worker.note_end(worker.read("a"), f"exit code {count}", less_memory=False)
    assert worker.claim("a", WHAT).ended.reasons == ("exit code 1", "exit code 2")
    worker.release("a", done=False)
    assert len(worker.claim("a", WHAT).ended.reasons) == 2
    worker.release("a")
    assert worker.claim("a", WHAT).ended == Ended()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"what": 3}', "null", '{"pid": "x"}'])
def test_a_lease_that_is_not_written_yet_or_spoilt_is_somebodys_until_it_expires(leases, clock, text):
    worker = leases()
    worker.folder.mkdir()
    (worker.folder / "a").write_text(text)
    assert worker.claim("a", WHAT) is None and worker.found()[0].host == "unknown"
    silence(clock, EXPIRY)
    assert worker.claim("a", WHAT) is not None


def test_what_others_wrote_is_shown_without_what_a_terminal_would_act_on(leases):
    worker = leases()
    worker.claim("a", WHAT)
    change(worker, "a", host="evil\x1b[2J\n<script>")
    assert "\x1b" not in worker.read("a").host and "\n" not in worker.read("a").host


def test_a_run_folder_that_is_gone_stays_gone_and_is_told_in_a_line(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(StorageError, match="it is gone") as told:
        Leases(run).claim("a", WHAT)
    assert not run.exists() and "\n" not in str(told.value)
    run.mkdir()
    leases = Leases(run)
    leases.require_run()
    run.rename(tmp_path / "moved")
    run.mkdir()  # as a file that is written makes it anew
    with pytest.raises(StorageError, match="it is gone"):
        leases.require_run()


@pytest.mark.parametrize("number", ["EROFS", "ENOSPC", "EACCES"])
def test_a_folder_that_cannot_be_written_is_told_in_a_line(leases, monkeypatch, number):
    def refuse(*_, **__):
        code = getattr(__import__("errno"), number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("robust_eval.run.leases.os.open", refuse)
    with pytest.raises(StorageError, match="cannot be written") as told:
        leases().claim("a", WHAT)
    assert "\n" not in str(told.value) and told.value.exit_code == 1
