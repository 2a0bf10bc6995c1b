"""The page of evidence: what was measured and what was not, by the names of norms; hostile names come out escaped."""

import json
import re

import pytest

from reports.evidence import EVIDENCE, evidence
from reports.evidence.terms import TERMS
from reports.exports.card import card_of
from reports.exports.runs import Folders
from reports.section import Source
from reports.write import write
from robust_eval.findings import Check
from robust_eval.results.load import load
from robust_eval.results.planned import PLANNED

HOSTILE = "=cmd()<script>alert(1)</script>|\\input{x}\n&" + "n" * 300
NEVER = re.compile(r"complian|comply|conform|approved|meets the", re.IGNORECASE)
"""What a page that judges nothing does not say."""


def written(run):
    source = Source(load([run]), folders=(run,))
    texts = evidence(source, card_of(source, Folders([run])))
    return tuple(texts[name] for name in EVIDENCE)


@pytest.fixture
def told(made, tmp_path):
    """Write the evidence of records and return both of its files."""

    def texts(*records):
        return written(made.save(tmp_path / "run", *records))

    return texts


def cells(markdown, term):
    """What is said of a term."""
    (line,) = (line for line in markdown.splitlines() if line.startswith("|") and f"| {term} |" in line)
    return line.strip("| ").split(" | ")[-1]


def test_each_term_says_what_of_the_run_bears_on_it_or_that_nothing_does(made, told):
    _, text = told(made.clean(), made.record(), made.corrupted("fog"), made.corrupted("snow"))
    text = text.replace("\\", "")
    assert cells(text, "accuracy (15(3))") == "accuracy on 200 images of digits"
    assert (
        cells(text, "robustness: errors, faults or inconsistencies (15(4))")
        == "2 types of corruption at severity 3"
    )
    assert cells(text, "cybersecurity: adversarial examples or model evasion (15(5))") == "pgd (linf 8/255)"
    assert cells(text, "evasion attacks, white-box") == "pgd (linf 8/255)"
    for term in (
        "evasion attacks, black-box",
        "transferability of attacks",
        "poisoning attacks",
        "privacy attacks",
    ):
        assert cells(text, term) == "not measured"
    assert text.count("| not measured |") >= 10
    assert all(
        part in text for part in ("ISO/IEC TR 24029-1:2021", "ISO/IEC 24029-2:2023", "NIST AI 100-2 E2025")
    )


def test_what_an_attacker_knows_is_told_in_nists_words(made, told):
    _, text = told(
        made.clean(),
        made.record(perturbation="square", params={"queries": 5000}),
        made.record(defense="mixup_inference", access="transfer"),
        made.record(perturbation="fgsm", params={"target": 1}),
    )
    text = text.replace("\\", "")
    assert cells(text, "evasion attacks, black-box") == "square (linf 8/255)"
    assert cells(text, "transferability of attacks") == "pgd (linf 8/255)"
    assert cells(text, "targeted evasion") == "fgsm (linf 8/255)"
    assert "Attacks aimed through the defenses mixup_inference." in text


def test_without_an_attack_the_page_says_that_nothing_is_known_of_an_adversary(made, told):
    _, text = told(made.clean())
    assert "Evasion: no attack was run, so that nothing is known of an adversary." in text
    assert "Corruptions: noise, blur, weather and the like." in text and "Against which threat" not in text


def test_it_says_evidence_and_never_that_a_norm_is_met(made, told):
    for text in told(made.clean(), made.record(), made.corrupted("fog")):
        assert "This page is evidence" in text and "does not judge whether" in text
        bare = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
        assert not NEVER.search(bare)
    assert not any(NEVER.search(" ".join(term[:3])) for term in TERMS)


def test_a_partial_run_and_a_failed_check_are_told(made, tmp_path):
    lost = Check("vanishing_gradient", "fail", 0.5, "attack the logits")
    run = made.save(tmp_path / "run", made.clean(), made.record(checks=[lost], weights="a" * 64))
    (run / PLANNED).write_text(json.dumps({"cells": [{"key": "x", "labels": made.corrupted().labels}]}))
    _, text = written(run)
    assert "Run is partial: 1 planned cell not measured." in text and "a" * 64 in text
    verdicts = text[text.index("## With which verdict") : text.index("## In the terms of")]
    assert "fail" in verdicts or "not" in verdicts


def test_hostile_names_are_no_markup(made, told):
    from markdown_it import MarkdownIt

    records = [
        made.clean(model=HOSTILE, data=HOSTILE),
        made.record(HOSTILE, data=HOSTILE, params={HOSTILE: HOSTILE}),
    ]
    page, text = told(*records)
    shown = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>alert" not in page and "<script>" not in shown and shown.count("<table>") == 6


def test_a_report_without_it_leaves_no_older_evidence(made, tmp_path):
    run = made.save(tmp_path / "run", made.clean())
    write([run], tmp_path / "out", evidence=True)
    assert all((tmp_path / "out" / name).exists() for name in EVIDENCE)
    write([run], tmp_path / "out")
    assert not any((tmp_path / "out" / name).exists() for name in EVIDENCE)
