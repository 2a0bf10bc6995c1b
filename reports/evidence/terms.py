"""Terms of a law, a taxonomy and two standards, each with what of a run bears on it; in our words, by their names.

- Regulation (EU) 2024/1689 (AI Act), Article 15: accuracy (paragraph 3), robustness (4) and cybersecurity (5) of
  high-risk systems, with the attacks that it names. https://eur-lex.europa.eu/eli/reg/2024/1689/oj
- NIST AI 100-2 E2025 (doi 10.6028/NIST.AI.100-2e2025): a taxonomy of attacks on machine learning, by stage, goal,
  capability and knowledge of the attacker; of predictive AI here.
- ISO/IEC TR 24029-1:2021, an overview of methods that assess the robustness of neural networks (statistical, formal,
  empirical), and ISO/IEC 24029-2:2023, on formal methods.

What a run bears on is ours: none of these documents says that a number of this package meets a term of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from reports.evidence.facts import Facts

__all__ = ["TERMS", "Term"]


class Term(NamedTuple):
    """A term, and what of a run bears on it."""

    where: str
    name: str
    about: str
    finding: Callable[[Facts], str]
    """Empty where nothing was measured."""


_ACT = "EU AI Act, Article 15"
_NIST = "NIST AI 100-2 E2025"
_ISO1, _ISO2 = "ISO/IEC TR 24029-1:2021", "ISO/IEC 24029-2:2023"


def _nothing(_: Facts) -> str:
    return ""


def _accuracy(facts: Facts) -> str:
    return f"accuracy on {facts.clean}" if facts.clean else ""


def _statistics(facts: Facts) -> str:
    on = "; under ".join(part for part in (facts.clean, facts.perturbed) if part)
    told = f"accuracy with 95 % intervals and paired tests, on {on}" if on else ""
    return "; ".join(part for part in (told, facts.certified) if part)


TERMS = (
    Term(_ACT, "accuracy (15(3))", "levels of accuracy, with their metrics", _accuracy),
    Term(
        _ACT,
        "robustness: errors, faults or inconsistencies (15(4))",
        "what goes wrong within the system or around it, here in the images it is given",
        lambda f: f.corruptions,
    ),
    Term(
        _ACT,
        "robustness: technical redundancy (15(4))",
        "backups and fail-safe plans of the system",
        _nothing,
    ),
    Term(
        _ACT,
        "robustness: feedback loops (15(4))",
        "a system that learns from its own outputs in use",
        _nothing,
    ),
    Term(
        _ACT,
        "cybersecurity: adversarial examples or model evasion (15(5))",
        "inputs made so that the model errs",
        lambda f: f.evasion,
    ),
    Term(_ACT, "cybersecurity: data poisoning (15(5))", "a training set that was tampered with", _nothing),
    Term(
        _ACT, "cybersecurity: model poisoning (15(5))", "pre-trained parts that were tampered with", _nothing
    ),
    Term(_ACT, "cybersecurity: confidentiality attacks (15(5))", "drawing out data or the model", _nothing),
    Term(_NIST, "evasion attacks, white-box", "the attacker knows the model", lambda f: f.white),
    Term(
        _NIST,
        "evasion attacks, black-box",
        "the attacker asks the model and sees its answers",
        lambda f: f.query,
    ),
    Term(
        _NIST,
        "transferability of attacks",
        "made on another model, or on the model without its defense",
        lambda f: f.transfer,
    ),
    Term(_NIST, "targeted evasion", "the attacker wants one class", lambda f: f.targeted),
    Term(_NIST, "poisoning attacks", "availability, targeted, backdoor and model poisoning", _nothing),
    Term(
        _NIST,
        "privacy attacks",
        "data reconstruction, membership and property inference, model extraction",
        _nothing,
    ),
    Term(_ISO1, "statistical methods", "performance on test data, as it is and changed", _statistics),
    Term(_ISO1, "empirical methods", "trials of the system in its use", _nothing),
    Term(_ISO1, "formal methods", "proofs for a whole domain of inputs", _nothing),
    Term(
        _ISO2,
        "formal methods",
        "stability, sensitivity, relevance, reachability; proven, not sampled",
        _nothing,
    ),
)
