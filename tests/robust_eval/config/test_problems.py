"""What is wrong with an experiment is collected, each line behind its place."""

import pytest

from robust_eval.config.problems import Problems
from robust_eval.errors import CheckpointError, ConfigError, DataError


def test_problems_of_all_places_are_raised_at_once_and_in_order():
    problems = Problems("file")
    attack = problems.at("attack 'pgd'")
    attack.add("eps: too large")
    problems.add("no model")
    attack.at("access").add("unknown")
    with pytest.raises(ConfigError) as caught:
        problems.require_none()
    assert caught.value.problems == [
        "file: attack 'pgd': eps: too large",
        "file: no model",
        "file: attack 'pgd': access: unknown",
    ]


def test_no_problem_raises_nothing():
    problems = Problems("file")
    with problems:
        pass
    problems.require_none()


@pytest.mark.parametrize("error", [ConfigError(["one", "two"]), DataError("one"), ValueError("one")])
def test_an_error_of_the_users_is_collected_and_what_follows_is_looked_at_too(error):
    problems = Problems("file")
    for _ in range(2):
        with problems:
            raise error
    assert problems.lines == [f"file: {line}" for line in getattr(error, "problems", ["one"])] * 2


@pytest.mark.parametrize("error", [CheckpointError("damaged"), KeyError("ours"), KeyboardInterrupt()])
def test_any_other_error_goes_on(error):
    problems = Problems("file")
    with pytest.raises(type(error)), problems:
        raise error
    assert not problems.lines
