"""The suite runs in two processes, each with one thread: most networks here are too small for two."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start
    torch.set_num_threads(1)
