"""The guide is true: its examples run, its commands parse, its names exist, and every page is found."""

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import typer

import defenses  # noqa: F401 - registers the methods
import robust_eval.cli as command_line
import trainers  # noqa: F401
from reports.gate import read_rules
from robust_eval import Classifier, Rng, attack, corruption, methods, registry
from robust_eval.checks.examination import IMAGES
from robust_eval.cli.guide import pages
from robust_eval.config.experiment import named_experiments, parse
from robust_eval.config.frame import DataTable
from robust_eval.config.scale import scaled, sizes
from robust_eval.corruptions._severity import Published
from robust_eval.models.recipe import Recipe
from robust_eval.results.entry import COLUMNS

ROOT = Path(__file__).parent.parent
PAGES = pages()
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
DOCUMENTS = {"README": ROOT / "README.md", "CONTRIBUTING": ROOT / ".github/CONTRIBUTING.md", **PAGES}
COMMANDS = typer.main.get_command(command_line.app)
NAMED_IN = {
    "attack": "evaluate",
    "defense": "evaluate",
    "architecture": "evaluate",
    "data": "evaluate",
    "corruption": "corruptions",
    "analysis": "corruptions",
    "regularizer": "train",
    "curriculum": "curricula",
}
"""The page whose table names every method of a kind."""
PROGRAMS = {"python", "pip", "pytest"}
OTHERS = {"--nproc_per_node", "--no-python", "--n-large", "--cpu", "--threads", "--rounds", "--sections"}
"""Options of torchrun and of benchmarks, which stand beside ours."""


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def inline(text):
    """The code within a line, and what is in a line of prose without a block."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def words_of_commands(text):
    """Each ``robust-eval ...`` of the shell blocks as its words."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", re.sub(r"(^|\s)#.*", "", line)):
                words = shlex.split(part)
                if "robust-eval" in words:
                    yield words[words.index("robust-eval") + 1 :]


def parsed(words):
    """Read the words as the command line does, and run nothing; raises what it says to a mistake."""
    context = COMMANDS.make_context("robust-eval", list(words))
    name, command, rest = COMMANDS.resolve_command(context, list(words))
    command.make_context(name, rest, parent=context)


def options():
    found = {"--help"}
    for command in COMMANDS.commands.values():
        for parameter in command.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def settings(text):
    """The methods and fields of ``--set NAME.FIELD=``; a word in capitals stands for any."""
    return re.findall(r"--set (\w+)\.([a-z]\w*)=", text)


def links(path):
    """The files and headings that a page links to, apart from the web's."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            file, _, heading = target.partition("#")
            yield (path.parent / file).resolve() if file else path, heading


def anchors(path):
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


every_page = pytest.mark.parametrize("page", TEXTS)
every_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)


def guide(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["robust-eval", "guide", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_without_a_topic_each_has_one_line_that_says_what_it_is_about(monkeypatch, capsys):
    code, out, err = guide(monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines()] == sorted(TEXTS)
    for line, (name, text) in zip(out.splitlines(), TEXTS.items(), strict=True):
        assert line == f"{name:{max(map(len, TEXTS))}}  {text.splitlines()[0].removeprefix('# ')}"


@every_page
def test_where_the_output_is_no_terminal_a_page_is_printed_as_it_is(monkeypatch, capsys, page):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert guide(monkeypatch, capsys, page) == (0, TEXTS[page], "")


@every_page
def test_on_a_terminal_a_page_is_set_with_its_tables_and_without_its_marks(monkeypatch, capsys, page):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = guide(monkeypatch, capsys, page)
    assert code == 0 and "\x1b[" in out
    assert not re.search(r"^#+ |^```|^\|", out, flags=re.M)


@pytest.mark.parametrize("topic", ["add a method", "add-a-method", "add_a_method", "Add a method"])
def test_a_topic_of_several_words_is_found_however_they_are_joined(monkeypatch, capsys, topic):
    assert guide(monkeypatch, capsys, topic) == guide(monkeypatch, capsys, "add a method")


def test_an_unknown_topic_is_one_line_with_the_near_name_and_exit_code_2(monkeypatch, capsys):
    code, out, err = guide(monkeypatch, capsys, "trsut")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: unknown topic 'trsut' (did you mean 'trust'?); known: add a method, ")


def test_neither_the_guide_nor_the_help_waits_for_torch():
    script = (
        "import sys; from robust_eval.cli import main; sys.argv = ['robust-eval', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    for words in (["--help"], ["guide"], ["guide", "train"], ["guide", "trsut"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert ended.stderr.splitlines()[-1] == "False", ended


@pytest.fixture
def registered(monkeypatch):
    """A registry that forgets what a test registers."""
    for kind in NAMED_IN:
        registry.names(kind)  # what the packages register must outlive the test
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


def run_examples(page):
    for source in blocks(TEXTS[page], "python"):
        exec(compile(source, page, "exec", dont_inherit=True), {"__name__": "guide"})


@every_page
def test_python_examples_run(registered, page):
    run_examples(page)


def test_the_methods_of_the_examples_are_found_by_name_and_do_what_they_say(registered):
    run_examples("add a method")
    x, y = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10))
    x_adv = attack("random_sign", eps="1/255")(Classifier(net), x, y, rng=Rng(0))
    assert (x_adv - x).abs().max() <= 1 / 255 + 1e-6
    assert torch.allclose(corruption("dim", light=0.25)(x, rng=Rng(0)), x / 4)


@every_page
def test_experiment_files_are_valid(page):
    for text in blocks(TEXTS[page], "toml"):
        if "[[rule]]" in text:
            continue  # of a gate
        tables = tomllib.loads(text)
        for size in sizes(tables) or (None,):
            assert parse(scaled(tables, size, where=page), where=page, folder=Path.cwd()).frame.name


def test_the_rules_of_the_gate_are_valid(tmp_path):
    (text,) = blocks(TEXTS["gate"], "toml")
    (tmp_path / "gate.toml").write_text(text)
    found = read_rules(tmp_path / "gate.toml")
    assert (len(found.rules), found.confidence, found.checks) == (2, 0.95, "must")


def test_the_builds_of_the_guide_are_short_and_their_commands_parse():
    examples = blocks(TEXTS["gate"], "yaml")
    assert len(examples) == 2
    for text in examples:
        assert len(text.splitlines()) < 10
        for command in re.findall(r"robust-eval (.*?)(?: \|\| true)?$", text, flags=re.M):
            if not command.startswith("install"):
                parsed(shlex.split(command))


def test_the_experiment_file_asks_for_two_radii_of_one_attack_and_scores_another_at_two():
    (text,) = blocks(TEXTS["experiments"], "toml")
    experiment = parse(tomllib.loads(text), where="experiments", folder=Path.cwd())
    assert len(experiment.attacks) == 3
    assert experiment.attacks[-1].score_at == (0.25, 0.5)


@every_document
def test_commands_in_shell_blocks_parse(document):
    for words in words_of_commands(document.read_text(encoding="utf-8")):
        parsed(words)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "model.pt", "--atacks", "pgd"],
        ["evaluate", "model.pt", "--n", "some"],
        ["evalute", "model.pt"],
        ["train", "--regularizer", "mixup"],
    ],
)
def test_a_command_that_does_not_exist_does_not_parse(words):
    with pytest.raises(Exception, match=r"(?i)no such|valid|missing"):
        parsed(words)


@every_document
def test_commands_and_options_within_a_line_exist(document):
    for code in inline(document.read_text(encoding="utf-8")):
        first, *rest = code.split()
        if first in PROGRAMS:
            continue
        if first == "robust-eval" and rest:
            assert rest[0] in COMMANDS.commands, code
        assert {
            word for word in [first, *rest] if re.fullmatch(r"--[a-z][\w-]*", word)
        } <= options() | OTHERS, code


@every_document
def test_fields_that_are_set_exist(document):
    kinds = [*NAMED_IN, "examination"]
    for name, field in settings(document.read_text(encoding="utf-8")):
        found = [registry.find(kind, name) for kind in kinds if name in registry.names(kind)]
        known = {
            each.name for cls in (found or [DataTable if name == "data" else Recipe]) for each in fields(cls)
        }
        known |= {"access"} & {field for kind in ("attack",) if name in registry.names(kind)}
        assert (found or name in ("recipe", "data")) and field in known, (name, field)


@pytest.mark.parametrize(
    "script", sorted({*re.findall(r"python\s+(tests/benchmarks/\w+\.py)", " ".join(TEXTS.values()))})
)
def test_benchmarks_that_numbers_are_from_start(monkeypatch, capsys, script):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    told = capsys.readouterr().out
    assert ended.value.code == 0 and "usage:" in told
    assert all(field in told for field in re.findall(rf"{script}`, `(--[\w-]+)", " ".join(TEXTS.values())))


@pytest.mark.parametrize(("kind", "page"), NAMED_IN.items())
def test_every_method_is_named_in_the_table_of_its_page_and_has_a_card(kind, page):
    table = TEXTS[page][TEXTS[page].index("## What there is") :]
    rows = [line for line in table.splitlines() if re.match(rf"\| {kind}\b", line)]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(registry.names(kind))
    assert all(registry.card(kind, name) for name in registry.names(kind))


def test_every_command_is_named_and_has_help():
    told = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS.values())
    for name, command in COMMANDS.commands.items():
        assert f"robust-eval {name}" in told
        assert command.help


def test_every_shipped_experiment_is_named():
    assert all(f"`{name}`" in TEXTS["experiments"] for name in named_experiments())


@every_document
def test_every_relative_link_leads_to_a_file_and_its_heading(document):
    for file, heading in links(document):
        assert file.exists(), file
        assert not heading or heading in anchors(file), (file, heading)


def test_every_page_is_reached_from_the_readme():
    reached, to_read = set(), [DOCUMENTS["README"].resolve()]
    while to_read:
        page = to_read.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            to_read += [file for file, _ in links(page) if file.exists()]
    assert {path.resolve() for path in PAGES.values()} <= reached


@every_page
def test_a_page_begins_with_its_only_title(page):
    outside = re.sub(r"```.*?```", "", TEXTS[page], flags=re.S)
    assert TEXTS[page].startswith("# ") and len(re.findall(r"^# ", outside, flags=re.M)) == 1


def test_numbers_that_the_code_knows_are_those_of_the_code():
    assert f"looks at {IMAGES['quick']} images, `full` at {IMAGES['full']} and longer" in TEXTS["trust"]
    published = [
        name
        for name in registry.names("corruption")
        if issubclass(registry.find("corruption", name), Published)
    ]
    assert f"{len(published)} types at five severities" in TEXTS["corruptions"]


def test_the_columns_of_the_long_table_are_told_in_their_order():
    paragraph = re.search(r"\*\*The long table\*\*.*?\n\n", TEXTS["reports"], flags=re.S)[0]
    named = re.findall(r"`([a-z_]+)`", paragraph)
    assert tuple(named[: len(COLUMNS)]) == COLUMNS


def test_what_a_method_has_to_bring_is_what_its_class_asks_for():
    rows = re.findall(
        r"^\| `(\w+)` \| `robust_eval\.methods\.(\w+)` \| (.*?) \| `(.*?)` \|$", TEXTS["add a method"], re.M
    )
    assert len(rows) == 7
    for kind, cls, written, folder in rows:
        asked = getattr(methods, cls).__abstractmethods__
        assert set(re.findall(r"`(\w+)`", written)) == set(asked)
        module = sys.modules[registry.find(kind, registry.names(kind)[0]).__module__]
        assert Path(module.__file__).parent == ROOT / folder


def test_modules_that_docstrings_refer_to_exist():
    for package in ("robust_eval", "defenses", "trainers", "reports"):
        for file in (ROOT / package).rglob("*.py"):
            inside = ".".join(file.relative_to(ROOT).parent.parts)
            for name in re.findall(r":mod:`([\w.]+)`", file.read_text(encoding="utf-8")):
                assert importlib.util.find_spec(inside + name if name.startswith(".") else name), (file, name)
