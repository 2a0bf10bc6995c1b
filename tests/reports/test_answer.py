"""What a report says first is judged on numbers whose truth is known: who is best, who is tied, what a defense adds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_ind

from reports.answer import decided, radius_of
from reports.bodies import Answer, AnswerCell, AnswerLine
from reports.paired import difference, holm
from reports.scores import Scored, Scores
from reports.section import Source
from reports.sections.answer import answer
from reports.sentences import sentences
from reports.standing import standings
from reports.tables import CLEAN, MEAN, Column, Comparison, Line, Number
from robust_eval.metrics.intervals import wilson
from robust_eval.results.load import Loaded

N = 200
WORST = Column("attack", "worst_case", "linf", 8 / 255)


class Known(Scored):
    """Scores that are given."""

    def __init__(self, scores: dict[tuple[Line, Column], Scores]) -> None:
        self.scores = scores

    def of(self, line: Line, column: Column) -> Scores | None:
        return self.scores.get((line, column))


def line(model: str, defense: str = "none", access: str = "none", data: str = "shapes") -> Line:
    return Line(model, defense, access, data, 0, None)


def table(
    right: dict[Line, dict[Column, int | float | list[float]]],
    *,
    checks: str = "ok",
    doubted: dict[tuple[Line, Column], str] | None = None,
    met: dict[Line, set[str]] | None = None,
) -> tuple[Comparison, Known]:
    """A comparison in which each line is right on the first so many of 200 images; with a list, trainings' means."""
    cells: dict[tuple[Line, Column], Number] = {}
    scores: dict[tuple[Line, Column], Scores] = {}
    for who, numbers in right.items():
        for column, count in numbers.items():
            told = (doubted or {}).get((who, column), checks)
            if isinstance(count, list):
                mean, spread = float(np.mean(count)), float(np.std(count, ddof=1))
                number = Number(
                    "accuracy", mean, None, None, N, told, "none", spread=spread, trainings=len(count)
                )
            else:
                number = Number("accuracy", count / N, *wilson(float(count), N), N, told, "k")
                own = (met or {}).get(who, {"pgd"})
                whole = pd.Series((np.arange(N) < count) * 1.0)
                scores[who, column] = Scores(frozenset(own if column != CLEAN else ()), whole)
            cells[who, column] = number
    columns = tuple(dict.fromkeys(column for _, column in cells))
    return Comparison("accuracy", tuple(right), columns, cells), Known(scores)


def told(right: dict[Line, dict[Column, Any]], **fields: Any) -> list[str]:
    comparison, scored = table(right, **fields)
    found = decided(comparison, scored)
    return list(sentences(found, scored, dict.fromkeys(right, ("relied", "no check objects"))))


def test_the_best_is_marked_where_a_paired_test_tells_it_from_every_other():
    a, b, c = map(line, "abc")
    comparison, scored = table({a: {WORST: 140}, b: {WORST: 100}, c: {WORST: 96}})
    assert standings(comparison, scored) == {(a, WORST): "best"}


def test_nobody_is_the_best_where_the_highest_two_cannot_be_told_apart():
    a, b, c = map(line, "abc")
    comparison, scored = table({a: {WORST: 100}, b: {WORST: 97}, c: {WORST: 20}})
    # three images more, all in one direction: p = 0.25
    assert standings(comparison, scored) == {(a, WORST): "tied", (b, WORST): "tied"}


def test_a_number_that_a_check_doubts_is_neither_the_best_nor_in_its_way():
    a, b, c = map(line, "abc")
    doubted = {(a, WORST): "strong_enough"}
    comparison, scored = table({a: {WORST: 190}, b: {WORST: 100}, c: {WORST: 20}}, doubted=doubted)
    assert standings(comparison, scored) == {(b, WORST): "best"}


def test_who_met_less_is_not_better_than_who_met_more():
    a, b = map(line, "ab")
    met = {a: {"pgd"}, b: {"pgd", "cw"}}
    comparison, scored = table({a: {WORST: 140}, b: {WORST: 20}}, met=met)
    assert standings(comparison, scored) == {(a, WORST): "tied", (b, WORST): "tied"}
    met = {a: {"pgd", "cw"}, b: {"pgd"}}
    comparison, scored = table({a: {WORST: 140}, b: {WORST: 20}}, met=met)
    assert standings(comparison, scored) == {(a, WORST): "best"}


def test_models_on_other_images_are_never_set_against_each_other():
    a, b = line("a", data="shapes"), line("b", data="letters")
    comparison, scored = table({a: {WORST: 140}, b: {WORST: 20}})
    assert standings(comparison, scored) == {}


def test_trainings_are_compared_by_welchs_test():
    a, b = map(line, "ab")
    for low, expected in (([0.10, 0.12, 0.11], "best"), ([0.10, 0.80, 0.35], "tied")):
        high = [0.50, 0.52, 0.54]
        comparison, scored = table({a: {WORST: high}, b: {WORST: low}})
        assert standings(comparison, scored)[a, WORST] == expected
        assert (ttest_ind(high, low, equal_var=False).pvalue < 0.05) == (expected == "best")


def test_among_ten_equal_models_a_best_one_is_found_no_more_often_than_the_level():
    random = np.random.default_rng(0)
    lines = [line(str(i)) for i in range(10)]
    false = 0
    for _ in range(200):
        draws = {one: (random.random(N) < 0.5) * 1.0 for one in lines}
        cells = {
            (o, WORST): Number("accuracy", float(d.mean()), 0.0, 1.0, N, "ok", "k") for o, d in draws.items()
        }
        scored = Known({(o, WORST): Scores(frozenset({"pgd"}), pd.Series(d)) for o, d in draws.items()})
        found = standings(Comparison("accuracy", tuple(lines), (WORST,), cells), scored)
        false += "best" in found.values()
    assert false <= 17  # 5 % of 200, and 2.3 standard deviations


def test_the_p_of_means_is_that_of_their_interval():
    random = np.random.default_rng(1)
    one, other = (pd.Series(random.random(N)) for _ in range(2))
    found = difference(one + 0.1, other)
    assert found is not None
    # the interval ends at zero exactly where p is 0.05
    error = (found.high - found.low) / (2 * norm.ppf(0.975))
    middle = (found.high + found.low) / 2
    assert found.p == pytest.approx(2 * norm.sf(abs(middle) / error))


def test_holms_p_are_statsmodels():
    # statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2]


def test_the_radius_is_the_usual_one_or_the_largest_that_leaves_somebody_a_tenth():
    a = line("a")
    columns = [Column("attack", "worst_case", "linf", k / 255) for k in (2, 8, 16)]

    def chosen(norm_name: str, numbers: dict[Column, Any]) -> float:
        comparison, _ = table({a: numbers})
        return radius_of(norm_name, list(numbers), (a,), comparison)

    assert chosen("linf", {columns[0]: 100, columns[1]: 0, columns[2]: 0}) == 8 / 255
    assert chosen("linf", {columns[0]: 100, columns[2]: 0}) == 2 / 255
    assert chosen("linf", {columns[0]: 100, columns[2]: 30}) == 16 / 255
    assert chosen("linf", {columns[2]: 0}) == 16 / 255


def test_a_defended_model_is_told_against_the_strongest_attacker():
    seen = [line("a", "noise", access) for access in ("transfer", "adaptive", "any")]
    numbers = {one: {WORST: count} for one, count in zip(seen, (150, 90, 88), strict=True)}
    comparison, scored = table({line("a"): {WORST: 100}, **numbers})
    assert decided(comparison, scored).table.lines == (line("a"), seen[2])
    comparison, scored = table({line("a"): {WORST: 100}, seen[0]: {WORST: 150}})
    assert decided(comparison, scored).table.lines == (line("a"), seen[0])


def test_models_stand_by_their_main_number_and_defenses_below_their_model():
    low, high = line("low"), line("high")
    behind = line("low", "noise", "any")
    comparison, scored = table({low: {WORST: 10}, behind: {WORST: 150}, high: {WORST: 100}})
    assert decided(comparison, scored).table.lines == (high, low, behind)


def test_the_sentences_name_the_best_with_its_interval_and_who_is_next():
    a, b, c = map(line, "abc")
    text = told({a: {CLEAN: 198, WORST: 140}, b: {CLEAN: 199, WORST: 40}, c: {CLEAN: 199, WORST: 38}})
    assert text[0] == "a is the most robust: 70.0 % (63.3–75.9) at linf 8/255, with 99.0 % when clean."
    assert text[1] == "Next is b with 20.0 %, which is not distinguishable from c."
    assert text[-1] == "The checks object to none of these numbers."


def test_a_lead_that_is_shared_is_told_as_shared():
    text = told({line("a"): {WORST: 100}, line("b"): {WORST: 98}})
    assert text[0] == "a and b lead at linf 8/255 with 49.0 to 50.0 %, and no test tells them apart."


def test_images_that_nobody_attacked_at_the_first_radius_are_told_so():
    a, b = line("a"), line("b", data="letters")
    text = told({a: {CLEAN: 190, WORST: 100}, b: {CLEAN: 180}})
    assert "On letters: There is no number at linf 8/255; other radii and norms are in the report." in text


def test_of_more_than_two_each_was_tested_against_the_highest_alone_and_no_more_is_claimed():
    a, b, c, d = map(line, "abcd")
    close = {a: {WORST: 100}, b: {WORST: 98}, c: {WORST: 97}}
    assert told(close)[0] == (
        "There is no winner at linf 8/255: a, b and c have 48.5 to 50.0 %, and no test tells them from the highest (a)."
    )
    assert told({**close, d: {WORST: 10}})[0] == (
        "a, b and c lead at linf 8/255 with 48.5 to 50.0 %, and no test tells them from the highest (a)."
    )


def test_what_the_numbers_are_is_said_beside_them():
    def shown(*columns: dict[Column, int | float | list[float]]) -> str:
        right = {line(name): numbers for name, numbers in zip("ab", columns, strict=False)}
        comparison, _ = table(right)
        lines = tuple(
            AnswerLine(
                one,
                "",
                tuple(
                    AnswerCell(comparison.cells[one, column], "")
                    if (one, column) in comparison.cells
                    else None
                    for column in comparison.columns
                ),
                "relied",
                "no check objects",
            )
            for one in comparison.lines
        )
        return Answer((), (), comparison.columns, lines, (), 16).caption()

    assert (
        shown({WORST: 100}) == "accuracy in %, n = 200, 95 % intervals over the images. ✓: no check objects."
    )
    assert "mean ± standard deviation over 2 to 3 trainings" in shown(
        {WORST: [0.1, 0.2]}, {WORST: [0.1, 0.2, 0.3]}
    )
    assert shown({CLEAN: 100, WORST: 1}, {CLEAN: 100}).endswith("; – for a number: not measured.")


def test_what_a_defense_adds_is_told_once_the_attack_sees_it():
    a, behind = line("a"), line("a", "noise", "any")
    assert "noise adds nothing once the attack sees it; it costs 10 points of clean accuracy." in told(
        {a: {CLEAN: 200, WORST: 100}, behind: {CLEAN: 180, WORST: 101}}
    )
    assert "noise adds nothing once the attack sees it, and takes away from a." in told(
        {a: {CLEAN: 200, WORST: 100}, behind: {CLEAN: 200, WORST: 50}}
    )
    gains = [s for s in told({a: {WORST: 20}, behind: {WORST: 100}}) if s.startswith("noise adds")]
    assert len(gains) == 1 and "40.0 points" in gains[0] and "on a even where the attack sees it" in gains[0]


def test_what_a_defense_adds_is_not_known_by_transfer_alone():
    text = told({line("a"): {WORST: 20}, line("a", "noise", "transfer"): {WORST: 180}})
    assert "What noise adds is not known: no attack was run through it." in text


def test_corruptions_have_a_sentence_of_their_own():
    text = told({line("a"): {WORST: 100, MEAN: 50}, line("b"): {WORST: 20, MEAN: 120}})
    assert "Under corruptions b keeps most: 60.0 % on average." in text


def test_where_nobody_withstands_nobody_leads():
    text = told({line("a"): {WORST: 0}, line("b"): {WORST: 0}})
    assert text[0] == "Nothing here withstands the attacks at linf 8/255: every line has 0 %."


def test_where_all_is_doubted_the_highest_number_is_told_as_doubted():
    text = told({line("a"): {WORST: 180}, line("b"): {WORST: 20}}, checks="strong_enough")
    assert text[0] == "The highest number at linf 8/255 is that of a, 90.0 % (85.1–93.4); a check doubts it."


def test_a_report_of_nothing_has_an_answer_without_lines():
    empty = pd.DataFrame(columns=["model", "data", "family", "norm", "eps", "metric"])
    found = answer(Source(Loaded(empty, ())))
    assert isinstance(found, Answer) and found.lines == () and found.sentences == ()
    assert found.asked == ("Nothing was measured.",)
