"""The suite runs in two processes, each with one thread: most networks here are too small for two."""

import os

from robust_eval.processors import be_considerate

be_considerate()  # before torch is loaded: the machine of a test is seldom idle

import torch  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start
    torch.set_num_threads(1)
