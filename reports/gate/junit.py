"""A gate as JUnit XML, one test case for each rule, so that a build server shows it among its tests.

A rule that cannot be judged is an ``error``. Ours: as ``skipped`` a server would show a build that is red as green. One
that warns passes, with its warnings in ``system-out``.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from reports.gate.lines import lines, reasons
from reports.gate.verdict import SPOKEN, Gate, Ruled

__all__ = ["junit"]

# what XML 1.0 cannot hold, escaped or not
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(gate: Gate) -> str:
    """Return the document."""
    counts = {
        "tests": str(len(gate.ruled)),
        "failures": str(gate.count("fail")),
        "errors": str(gate.count("unknown")),
    }
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": "robust-eval gate", **counts, "skipped": "0", "time": "0"}
    )
    for ruled in gate.ruled:
        _case(suite, gate, ruled)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, gate: Gate, ruled: Ruled) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": _plain(gate.run), "name": _plain(ruled.rule.name), "time": "0"}
    )
    alone = Gate(gate.run, gate.baseline, (ruled,), gate.confidence, gate.by_bound, gate.drops)
    told = [": ".join(part for part in (r.where, "; ".join(r.told)) if part) for r in reasons(alone)]
    table = ["  ".join(word for word in line.words if word) for line in lines(alone)]
    about = [
        text for text in (ruled.rule.reason, f"owner: {ruled.rule.owner}" * bool(ruled.rule.owner)) if text
    ]
    text = _plain("\n".join([*table, *told, *about]))
    if ruled.outcome in ("fail", "unknown"):
        element = ElementTree.SubElement(
            case,
            "failure" if ruled.outcome == "fail" else "error",
            {"message": _plain(told[0] if told else SPOKEN[ruled.outcome]), "type": ruled.outcome},
        )
        element.text = text
    else:
        ElementTree.SubElement(case, "system-out").text = text


def _plain(text: str) -> str:
    return _NO_XML.sub("�", text)
