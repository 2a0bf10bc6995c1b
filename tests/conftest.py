"""The suite runs in two processes, each with one thread: most networks here are too small for two.

Shapes and types are checked at the calls number 1, 2, 4, 8, ... of a function in a file of tests, with `--every-call`
at all of them: a check takes longer than most operations on tensors this small, and loops and tests of one file ask the
same again and again. Counted anew in each test, the checks took as long as all the rest.
"""

import functools
import inspect
import os
import sys

import jaxtyping
import pytest

from robust_eval.processors import be_considerate

# where containers forbid bytecode, each of some hundred processes that tests start would compile every file
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
be_considerate()  # before torch is loaded: the machine of a test is seldom idle

import torch  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start
    torch.set_num_threads(1)


class Sparing:
    """What jaxtyping's import hook decorates with, at some of the calls."""

    def __init__(self):
        self.checked, self.every_call, self.file = jaxtyping.jaxtyped, False, None

    def __call__(self, decorated=None, *, typechecker):
        if decorated is None:
            return functools.partial(self, typechecker=typechecker)
        if not inspect.isfunction(decorated):
            return self.checked(decorated, typechecker=typechecker)
        return self.function(decorated, typechecker)

    def function(self, function, typechecker):
        checked, file, calls = None, None, 0

        @functools.wraps(function)
        def call(*args, **kwargs):
            nonlocal checked, file, calls
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            if file != self.file:
                file, calls = self.file, 0
            calls += 1
            if calls & (calls - 1) and not self.every_call:
                return function(*args, **kwargs)
            if checked is None:  # only now: most functions are never called by the tests of one file
                checked = self.checked(function, typechecker=typechecker)
            return checked(*args, **kwargs)

        return call


sparing = jaxtyping.jaxtyped = Sparing()


def pytest_addoption(parser):
    parser.addoption("--every-call", action="store_true", help="check shapes and types at every call")


def pytest_configure(config):
    sparing.every_call = config.getoption("--every-call")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    sparing.file = item.path
