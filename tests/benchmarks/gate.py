"""How often a gate's ``--max-drop`` fails a build without a drop, and how often with the drop that ``power`` names.

Run from the repository:

    python tests/benchmarks/gate.py

A pair of runs is n images drawn from a population in which two models disagree on a share of the images. *False alarm*
is the share of pairs without a true drop that the rule fails, *power* that of pairs with the drop that
``robust-eval power`` names for n and the disagreement of such pairs, the drop included, *three rules* the share of
pairs of which one of three rules fails (three numbers of one pair that go up and down together by half, Holm's rule
over them). *Draws* are scores of a randomised model, means over 5 draws. The verdict is that of :mod:`reports.drops`,
made for all pairs at once.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from machine import processor
from numpy.typing import NDArray
from scipy.stats import norm

from reports.drops import smallest_drop
from reports.paired import adjusted, holm

LEVEL = 0.05


class Population(NamedTuple):
    """Pairs of images' scores."""

    name: str
    disagreement: float
    draws: int = 1


POPULATIONS = (
    Population("5 % disagree", 0.05),
    Population("10 % disagree", 0.1),
    Population("20 % disagree", 0.2),
    Population("50 % disagree", 0.5),
    Population("5 draws", 0.2, 5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    rng = np.random.default_rng(asked.seed)
    print(f"{asked.pairs} pairs each, {processor()}\n")
    print("| population | n | false alarm | three rules | drop that power names | power |")
    print("|---|---:|---:|---:|---:|---:|")
    for population in POPULATIONS:
        for n in (200, 500, 2000):
            none = fails(differences(population, n, 0.0, asked.pairs, rng)).mean()
            three = together(population, n, asked.pairs, rng).mean()
            least = named(population, n, rng)
            seen = fails(differences(population, n, least, asked.pairs, rng)).mean()
            words = (
                f"{100 * none:.1f} %",
                f"{100 * three:.1f} %",
                f"{100 * least:.1f} points",
                f"{100 * seen:.0f} %",
            )
            print(f"| {population.name} | {n:,} | {' | '.join(words)} |")
    print(f"\n{time.perf_counter() - began:.1f} s")


def differences(
    population: Population, n: int, size: float, pairs: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return before minus after [pairs, n] of a drop of this size."""
    if population.draws == 1:
        apart = max(population.disagreement, size)
        kinds = rng.random((pairs, n), dtype=np.float32)
        lost = (apart + size) / 2
        return (kinds < lost).astype(float) - ((kinds >= lost) & (kinds < apart))
    # each image has a probability of its own of being right, which moves down, up or not at all
    right = rng.beta(0.5, 0.5, (pairs, n))
    moved = rng.choice([-0.5, 0.0, 0.5], (pairs, n), p=[0.1, 0.8, 0.1])
    after = np.clip(right + moved, 0, 1)
    # as many of all images as the drop says are right never more; before, with their own probability
    kept = 1 - size / float(after.mean())
    after = after * (rng.random((pairs, n)) < kept)
    draws = population.draws
    return (rng.binomial(draws, right) - rng.binomial(draws, after)) / draws


def named(population: Population, n: int, rng: np.random.Generator) -> float:
    """Return the drop that is named for the disagreement of pairs that have it, as the run of such a pair tells it."""
    if population.draws == 1:
        least = smallest_drop(n, population.disagreement)
        assert least is not None
        return least
    least = 0.0
    for _ in range(6):
        apart = float((differences(population, 2000, least, 200, rng) ** 2).mean())
        found = smallest_drop(n, apart)
        assert found is not None
        least = found
    return least


def ps_of(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p of a drop beyond nothing, for each pair."""
    mean, error = adjusted(d)
    return np.minimum(1.0, 2 * norm.sf(mean / error))


def fails(d: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ps_of(d) < LEVEL


def together(population: Population, n: int, pairs: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which pairs one of three rules fails, whose numbers share half of the images' differences."""
    common = differences(population, n, 0.0, pairs, rng)
    ps = []
    for _ in range(3):
        own = differences(population, n, 0.0, pairs, rng)
        ps.append(ps_of(np.where(rng.random((pairs, n)) < 0.5, common, own)))
    return np.array([min(holm(each)) < LEVEL for each in np.stack(ps, 1).tolist()])


if __name__ == "__main__":
    main()
