"""``evidence.html`` and ``evidence.md``: evidence for whoever has to judge a system, and no judgement of it.

The page says what was measured, against which threat, with which verdict of the checks, by which version, on which
data; which terms of laws and standards that bears on (:mod:`reports.evidence.terms`); and what was not measured, as
plainly. Whether a norm is met is not said: it depends on the system, its use and thresholds that this package does not
know.
"""

from __future__ import annotations

from collections.abc import Iterator

from reports.bodies import Grid, Paragraphs
from reports.evidence.facts import Facts, facts_of, knowledge, radii_text
from reports.evidence.terms import TERMS
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.section import Section, Source
from reports.sections.answer import answer
from reports.sections.trust import trust
from reports.tables import MISSING
from robust_eval.config.card import Card
from robust_eval.results.names import params_text

__all__ = ["EVIDENCE", "evidence"]

EVIDENCE = ("evidence.html", "evidence.md")
TITLE = "Robustness evidence"
_SAID = (
    "This page is evidence: what was measured on these models, how, and with which outcome. It does not judge whether "
    "a law or a standard is met. That takes the whole system, its intended use, and thresholds that are set by whoever "
    "answers for it.",
    "Numbers are of these weights on these images, and of the attacks that are listed: another attack may reach more.",
)
_NEVER = (
    "Poisoning of training data or of pre-trained parts, and backdoors.",
    "Privacy: reconstruction of data, membership inference, extraction of the model.",
    "Attacks in the physical world, and on what surrounds the model: its sensors, its software, its users.",
    "Technical redundancy, fail-safe plans, monitoring and feedback loops of the system.",
    "Formal methods (ISO/IEC 24029-2): nothing here is proven for all inputs of a domain.",
    "Images of other sources than those below, and how the world drifts away from them.",
)
_NORMS = ("linf", "l2", "l1", "spatial")


def evidence(source: Source, card: Card) -> dict[str, str]:
    """Return the page and the same in Markdown, by the names of their files."""
    parts = tuple(_sections(source, card))
    texts = (page(parts, source.entries, {}, title=TITLE, unfolded=True), markdown(parts, TITLE))
    return dict(zip(EVIDENCE, texts, strict=True))


def _sections(source: Source, card: Card) -> Iterator[Section]:
    facts = facts_of(source)
    yield Section("", Paragraphs(_SAID))
    yield Section("What was measured", answer(source))
    threats = tuple(_threats(source))
    if threats:
        heads = ("attack", "attacker's knowledge", "norm and radius", "aimed", "parameters", "version")
        note = "Radii are in units of the [0, 1] pixel range; white-box attackers know weights and the true label."
        yield Section("Against which threat", Grid(heads, threats, len(heads)), note)
    verdicts = tuple(
        (line.model, line.defense, line.data, line.words, line.examined) for line in trust(source.loaded)
    )
    if verdicts:
        columns = ("model", "defense", "data", "verdict", "examined")
        note = "Whether the checks object to the numbers, such as to gradients that mislead attacks."
        yield Section("With which verdict of the checks", Grid(columns, verdicts, len(columns)), note)
    terms = tuple(
        (term.where, term.name, term.about, term.finding(facts) or "not measured") for term in TERMS
    )
    note = "What of this run bears on terms of laws and standards, by their names; the mapping is ours."
    yield Section(
        "In the terms of", Grid(("where", "term", "what it is about", "measured here"), terms, 4), note
    )
    yield Section("What was not measured", Grid(("not measured",), tuple((t,) for t in _missing(facts)), 1))
    made = tuple(_made(card))
    yield Section("By which version, on which data", Grid(("what", "of", "value"), made, 3))


def _threats(source: Source) -> Iterator[tuple[str, ...]]:
    """Yield each attack once, with all that it was aimed at."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for entry in source.entries:
        if entry.labels["family"] != "attack":
            continue
        described = entry.record.spec.get("perturbation")
        version = str(described.get("version", MISSING)) if isinstance(described, dict) else MISSING
        set_to = params_text({k: v for k, v in entry.params.items() if k not in ("eps", "norm")})
        access = str(entry.labels["access"])
        aimed = "at the model" if access == "none" else f"at a defended model, {access}"
        name = str(entry.record.labels.get("perturbation"))
        line = (name, knowledge(entry), aimed, set_to, version)
        found.setdefault(line, {})[radii_text(entry)] = None
    for (name, known, aimed, set_to, version), radii in found.items():
        yield name, known, ", ".join(radii), aimed, set_to, version


def _missing(facts: Facts) -> Iterator[str]:
    """Yield what was not measured: of this run first, then what this package never measures."""
    if not facts.clean:
        yield "Accuracy on unchanged images."
    if not facts.evasion:
        yield "Evasion: no attack was run, so that nothing is known of an adversary."
    else:
        for there, text in (
            (facts.white, "White-box evasion: no attack with knowledge of the model was run."),
            (facts.query, "Black-box evasion by queries: no such attack was run."),
            (facts.targeted, "Targeted evasion: no attack looked for one class."),
        ):
            if not there:
                yield text
        if left := [norm for norm in _NORMS if norm not in facts.norms]:
            yield f"Attacks in {', '.join(left)}."
    if facts.unadapted:
        yield f"Attacks aimed through the defenses {', '.join(facts.unadapted)}."
    if facts.unexamined:
        yield f"Checks of how attacks see the models {', '.join(facts.unexamined)}."
    if not facts.corruptions:
        yield "Corruptions: noise, blur, weather and the like."
    yield from (f"{text[0].upper()}{text[1:]}." for text in facts.unfinished)
    yield from _NEVER


def _made(card: Card) -> Iterator[tuple[str, str, str]]:
    for images in card.data:
        n = "unknown number" if images.n is None else f"{images.n:,} images"
        yield "data", images.name, f"{n}, sha256 {images.sha256 or 'unknown'}"
    for model in card.models:
        seed = "" if model.train_seed is None else f", training {model.train_seed}"
        yield "weights", f"{model.name}{seed}", f"sha256 {', '.join(model.weights_sha256) or 'unknown'}"
    for name, versions in card.versions.items():
        yield "version", name, ", ".join(versions)
    for name, facts in card.machine.items():
        yield "machine", name, ", ".join(facts)
    yield "seeds", "of attacks and corruptions", ", ".join(map(str, card.seeds)) or "unknown"
    for run in card.runs:
        told = run.command or f"cannot be repeated from the card: {run.not_repeatable}"
        yield "run", run.name, f"{len(run.cells)} records; {told}"
    yield "card", "card.json", "all of it for programs, and what repeats it"
