"""What a gate is written as: JUnit, SARIF, Markdown and a table; names are hostile, and come out escaped.

No maintained package carries the schemas of JUnit and SARIF. The parts of SARIF 2.1.0 that its readers need are written
down here as a small JSON schema; those of JUnit are asserted one by one, after Jenkins' junit-10.xsd.
"""

import json
from io import StringIO
from xml.etree import ElementTree

import jsonschema
import pytest
from rich.console import Console

from reports.gate import Run, judge, parse_rules
from reports.gate.document import gate_json
from reports.gate.junit import junit
from reports.gate.sarif import sarif
from reports.gate.summary import summary
from reports.gate.table import gate_table, gate_text
from robust_eval.findings import Check

HOSTILE = "<script>alert(1)</script>|=cmd() \\input{x} \x1b[31m\n]]>&\ufffe " + "n" * 300

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
WORD = {"type": "string", "minLength": 1}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/run"}},
    },
    "$defs": {
        "run": {
            "type": "object",
            "required": ["tool", "results"],
            "additionalProperties": False,
            "properties": {
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name", "rules"],
                            "properties": {"rules": {"items": {"$ref": "#/$defs/rule"}, "uniqueItems": True}},
                        }
                    },
                },
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
        },
        "rule": {
            "type": "object",
            "required": ["id", "shortDescription", "help"],
            "additionalProperties": False,
            "properties": {
                "id": {"type": "string"},
                "name": {"type": "string"},
                "shortDescription": TEXT,
                "help": TEXT,
            },
        },
        "result": {
            "type": "object",
            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": TEXT,
                "locations": {
                    "minItems": 1,
                    "items": {
                        "required": ["physicalLocation"],
                        "properties": {
                            "physicalLocation": {
                                "required": ["artifactLocation"],
                                "properties": {
                                    "artifactLocation": {
                                        "required": ["uri"],
                                        "properties": {"uri": {"type": "string", "pattern": r"^[!-~]+$"}},
                                    }
                                },
                            }
                        },
                    },
                },
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory, made):
    """A gate in which one rule passes, one warns, one fails and two cannot be judged, of a model with a bad name."""
    folder = tmp_path_factory.mktemp("gate")
    lost = Check("vanishing_gradient", "fail", 0.5, f"attack the logits {HOSTILE}")
    run = [made.clean(model=HOSTILE, identity="b"), made.record(HOSTILE, checks=[lost], identity="b")]
    last = [made.clean(model=HOSTILE, right=182)]
    rules = [
        {"name": "passes", "min": "clean >= 0.5"},
        {"name": "warns", "max_drop": "clean 1%"},
        {"name": HOSTILE, "min": "clean >= 99%", "reason": HOSTILE, "owner": HOSTILE},
        {"name": "doubted", "min": "pgd@8/255 >= 10%"},
        {"name": "missing", "min": "fog@3 >= 10%"},
    ]
    runs = [Run(made.save(folder / name, *records)) for name, records in (("run", run), ("last", last))]
    return judge(runs[0], parse_rules(rules), baseline=runs[1])


def test_the_outcomes_are_these(gate):
    assert [ruled.outcome for ruled in gate.ruled] == ["pass", "warn", "fail", "unknown", "unknown"]
    assert (
        gate.sentence == "FAIL: 1 of 5 pass, 1 with a warning, 1 failed, 2 cannot be judged"
        and gate.code == 1
    )


def test_junit_has_a_test_case_for_each_rule(gate):
    root = ElementTree.fromstring(junit(gate).encode())
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite" and suite.get("name") and float(suite.get("time")) == 0
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 5, "failures": 1, "errors": 2, "skipped": 0}
    cases = list(suite)
    assert {case.tag for case in cases} == {"testcase"} and len(cases) == 5
    assert all(case.get("name") and case.get("classname") for case in cases)
    kinds = [child.tag for case in cases for child in case]
    assert kinds == ["system-out", "system-out", "failure", "error", "error"]
    assert "attack the logits" in cases[3][0].text and "attack the logits" in cases[3][0].get("message")
    assert "noise could hide a drop" in cases[1][0].text and "owner: <script>" in cases[2][0].text


def test_sarif_fits_its_schema_and_holds_what_does_not_pass(gate):
    document = json.loads(sarif(gate, place="runs/my run/ü"))
    jsonschema.Draft202012Validator.check_schema(SARIF)
    jsonschema.validate(document, SARIF)
    (run,) = document["runs"]
    rules, results = run["tool"]["driver"]["rules"], run["results"]
    assert [result["ruleId"] for result in results] == [
        rules[result["ruleIndex"]]["id"] for result in results
    ]
    assert [result["level"] for result in results] == ["warning", "error", "error", "error", "error"]
    (check,) = (rule for rule in rules if rule["id"] == "check/vanishing_gradient")
    assert "What to do: attack the logits" in check["help"]["text"]
    place = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "runs/my%20run/%C3%BC"
    prints = [result["partialFingerprints"]["number/v1"] for result in results]
    assert len(set(prints)) == len(prints) and document == json.loads(sarif(gate, place="runs/my run/ü"))


def test_the_schema_of_these_tests_refuses_what_is_no_sarif(gate):
    document = json.loads(sarif(gate, place="runs/x"))
    document["runs"][0]["results"][0]["level"] = "fail"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SARIF)


def test_the_summary_is_one_table_whose_names_are_no_markup(gate):
    from markdown_it import MarkdownIt

    text = summary(gate)
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in page and page.count("<table>") == 1
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert "| FAIL |" in rows[2] and "**cannot judge**" in text


def test_the_table_says_what_passed_by_how_much_and_why_not(gate):
    text = gate_text(gate, width=300)
    assert "\x1b" not in text and "+40.0" in text and "-9.0" in text
    assert text.splitlines()[-1] == gate.sentence
    out = StringIO()
    Console(file=out, width=80, force_terminal=True).print(gate_table(gate))
    assert "[31m\n" not in out.getvalue()


def test_a_terminal_of_80_columns_holds_a_line_a_number_and_says_whose_they_are(made, tmp_path):
    last = made.save(tmp_path / "last", made.record(right=150), made.clean())
    run = made.save(tmp_path / "new", made.record(right=50, identity="b"), made.clean(identity="b"))
    rules = parse_rules(["max-drop pgd@8/255 1%", "clean >= 80%"])
    text = gate_text(judge(Run(run), rules, baseline=Run(last)), width=80)
    assert max(map(len, text.splitlines())) <= 80 and "All numbers are of net." in text
    failed, passed = (line.split() for line in text.splitlines() if line.startswith((" FAIL", " pass")))
    assert failed == ["FAIL", "pgd@linf:8/255", "75.0", "→", "25.0", "drop", "≤", "1", "-49.0"]
    assert passed[:2] == ["pass", "clean"] and passed[-3:] == ["≥", "80", "+10.0"]


def test_json_has_every_number_under_every_rule(gate):
    told = json.loads(gate_json(gate))
    assert (told["schema"], told["outcome"], told["code"], told["sentence"]) == (1, "fail", 1, gate.sentence)
    assert [rule["outcome"] for rule in told["rules"]] == ["pass", "warn", "fail", "unknown", "unknown"]
    passed, warned, failed, doubted, missing = (rule["numbers"][0] for rule in told["rules"])
    assert (passed["value"], passed["n"], passed["margin"]) == (0.9, 200, pytest.approx(0.4))
    assert warned["drop"]["value"] == pytest.approx(0.01) and warned["before"] == 0.91
    assert doubted["checks"][0]["name"] == "vanishing_gradient" and missing["value"] is None
    assert failed["outcome"] == "fail" and told["rules"][2]["owner"].startswith("<script>")


def test_of_many_numbers_that_pass_some_are_counted(tmp_path, made):
    run = made.save(tmp_path, *(made.corrupted(f"type{i}") for i in range(20)))
    text = gate_text(judge(Run(run), parse_rules(["*@3 >= 0.1"])))
    assert "8 more" in text and text.count("+40.0") == 12
