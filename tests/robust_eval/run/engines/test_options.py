"""Options of an engine are read as they are written, and each wrong one is told in a line."""

import pytest

from robust_eval.errors import ConfigError
from robust_eval.run.engines.options import engine_options
from robust_eval.run.engines.ray import OPTIONS as RAY
from robust_eval.run.engines.submitit import OPTIONS as SUBMITIT


@pytest.mark.parametrize(
    ("kinds", "text", "value"),
    [
        (SUBMITIT, "time=90", 90),
        (SUBMITIT, "time=2:00:01", 121),
        (SUBMITIT, "time=1-02:30:00", 1590),
        (SUBMITIT, "memory=16", 16.0),
        (SUBMITIT, "memory=512MB", 0.5),
        (SUBMITIT, "memory=1tb", 1024.0),
        (SUBMITIT, "partition=gpu,gpu-long", "gpu,gpu-long"),
        (SUBMITIT, "gpus=0", 0),
        (RAY, "num_gpus=0.5", 0.5),
        (RAY, "num_gpus=4", 4.0),
        (RAY, "address=ray://head:10001", "ray://head:10001"),
    ],
)
def test_an_option_is_read(kinds, text, value):
    assert engine_options("an engine", [text], kinds) == {text.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("kinds", "text", "said"),
    [
        (SUBMITIT, "partion=gpu", "did you mean 'partition'"),
        (RAY, "gpus=1", "did you mean 'num_gpus'"),
        (SUBMITIT, "partition", "expected NAME=VALUE, got 'partition'"),
        (SUBMITIT, "time=0", "expected minutes"),
        (SUBMITIT, "time=2:61:00", "expected minutes"),
        (SUBMITIT, "time=²", "expected minutes"),
        (SUBMITIT, "cpus=0", "expected a whole number, 1 or more, got '0'"),
        (SUBMITIT, "memory=lots", "expected gigabytes"),
        (SUBMITIT, "cluster=lsf", "expected slurm or local"),
        (SUBMITIT, "partition=a\nrm -r x", "expected a word"),
        (SUBMITIT, "qos=$(id)", "expected a word"),
        (RAY, "num_gpus=1.5", "expected 0 to 1, or a whole number"),
        (RAY, "num_gpus=nan", "expected 0 to 1, or a whole number"),
        (RAY, "num_cpus=inf", "expected 0 to 1, or a whole number"),
    ],
)
def test_what_is_not_understood_is_told_in_one_line(kinds, text, said):
    with pytest.raises(ConfigError) as error:
        engine_options("it", [text], kinds)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_every_wrong_option_has_its_line_and_none_may_be_given_twice():
    with pytest.raises(ConfigError) as error:
        engine_options("it", ["time=1", "time=2", "gpu=1", "cpus=x"], SUBMITIT)
    assert len(error.value.problems) == 3 and "given twice" in error.value.problems[0]
