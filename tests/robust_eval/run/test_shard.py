"""Shards are parts: together all cells, and none twice."""

from hashlib import sha256
from unittest.mock import Mock

import pytest

from robust_eval.errors import ConfigError
from robust_eval.results.cell import Cell
from robust_eval.run.shard import Shard, as_shard

CELLS = [Mock(spec=Cell, key=sha256(str(i).encode()).hexdigest()) for i in range(300)]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_every_cell_is_of_one_part_and_parts_are_about_equal(count):
    parts = [Shard(i + 1, count).of(CELLS) for i in range(count)]
    assert sorted(cell.key for part in parts for cell in part) == sorted(cell.key for cell in CELLS)
    # four standard deviations of a binomial
    assert all(abs(len(part) - 300 / count) <= 4 * (300 / count) ** 0.5 for part in parts)


def test_a_cell_is_of_the_same_part_whatever_else_is_planned():
    assert Shard(2, 3).of(CELLS[::2]) == [cell for cell in Shard(2, 3).of(CELLS) if cell in CELLS[::2]]


def test_the_text_names_a_part():
    assert as_shard("3/8") == Shard(3, 8) and as_shard(" 1/1 ") == Shard(1, 1)


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/0", "-1/8", "a/b", "", "1/2/3", "1.5/2", "²/3"])
def test_another_text_is_refused_in_a_line(text):
    with pytest.raises(ConfigError, match=r"expected I/N with I from 1 to N, got .*1/8 to 8/8"):
        as_shard(text)
