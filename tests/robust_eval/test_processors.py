import logging
import os
import subprocess
import sys

import pytest
import torch

import robust_eval
from robust_eval import processors
from robust_eval.processors import SPINS, be_considerate, crowded, load, share, warn_once


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a machine of eight processors with this quota and load."""

    def build(files=(), cgroup="0::/\n", minute=0.0, running=1):
        for name, text in dict(files).items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "own").write_text(cgroup)
        (tmp_path / "loadavg").write_text(f"{minute} 0 0 {running}/100 1\n")
        monkeypatch.setattr(processors, "CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(processors, "OWN_CGROUP", tmp_path / "own")
        monkeypatch.setattr(processors, "RUNNING", tmp_path / "loadavg")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "getloadavg", lambda: (minute, 0.0, 0.0))

    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    warn_once.cache_clear()
    yield build
    warn_once.cache_clear()


@pytest.mark.parametrize(
    ("files", "cgroup", "expected"),
    [
        ({}, "", 8),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "1000 100000\n"}, "0::/\n", 1),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, "0::/a/b\n", 3),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 8),
        (
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "10000\n"},
            "4:cpu,cpuacct:/a\n",
            5,
        ),
        ({"cpu.max": "nonsense"}, "0::/\n", 8),
    ],
)
def test_a_process_uses_no_more_than_the_share_of_its_cgroup(machine, files, cgroup, expected):
    machine(files, cgroup)
    assert share() == expected
    be_considerate()
    assert os.environ.get("OMP_NUM_THREADS") == (None if expected == 8 else str(expected))
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("PASSIVE", str(SPINS))


def test_what_the_user_has_set_stays(machine, monkeypatch):
    machine({"cpu.max": "100000 100000"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    be_considerate()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]) == ("active", "6")
    assert "GOMP_SPINCOUNT" not in os.environ


def test_a_machine_is_busy_when_it_was_and_still_is(machine):
    machine(minute=7.0, running=5)
    assert load() == 4
    machine(minute=1.0, running=5)
    assert load() == 1


def test_more_threads_than_there_is_room_for_are_told_with_what_helps(machine, monkeypatch):
    machine(minute=1.0, running=2)
    assert crowded(7) is None and crowded(8) is not None
    machine(minute=6.0, running=9)
    assert crowded(2) is None
    line = crowded(4)
    assert line is not None and "6.0 of 8 processors" in line and "OMP_WAIT_POLICY=PASSIVE" in line
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    line = crowded(4)
    assert line is not None and "OMP_WAIT_POLICY" not in line and "longer" in line


def test_threads_beyond_the_share_are_told(machine):
    machine({"cpu.max": "200000 100000"})
    assert crowded(2) is None
    line = crowded(8)
    assert line is not None and "8 threads on a share of 2 processors" in line and "OMP_NUM_THREADS=2" in line


def test_python_says_it_once(machine, monkeypatch, caplog):
    machine(minute=8.0, running=9)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    with caplog.at_level(logging.WARNING, "robust_eval"):
        robust_eval.attack("fgsm")
        robust_eval.corruption("fog")
    (record,) = caplog.records
    assert "OMP_WAIT_POLICY=PASSIVE" in record.getMessage()


def test_the_command_sets_the_policy_before_torch_is_loaded():
    code = """
import os, sys
from robust_eval import cli
def app(**_):
    print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
cli.app = app
cli.main()
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["PASSIVE", "False"], done


def test_the_suite_itself_does_not_spin():
    assert os.environ["OMP_WAIT_POLICY"]
