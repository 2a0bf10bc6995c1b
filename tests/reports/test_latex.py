"""What is written for papers: it fits by measure, means nothing to TeX, and compiles without a box that is too full."""

import re
import shutil
import subprocess
from itertools import product

import altair
import pandas as pd
import pytest

from reports import bodies
from reports.formats.tex import MADE, tex_files
from reports.formats.tex.cells import head_lines, plain, width
from reports.formats.tex.escape import escaped
from reports.formats.tex.fonts import width_of
from reports.formats.tex.layout import GAP, Number, Numbers, Table, Words, fitted, laid, total
from reports.formats.tex.spelling import table_lines
from reports.paper import Style, main_table
from reports.section import Section, Source
from reports.sections.contents import contents
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.corruption_errors import TEST_TYPES
from robust_eval.metrics.intervals import wilson
from robust_eval.results.load import load
from robust_eval.results.record import Record
from robust_eval.results.store import Store

N = 16
HOSTILE = (
    r"\input{/etc/passwd} $x^2$ 50% #1 _a_ {b} ~ & <i> \end{document}",
    "中文模型 🤖 \u202e naïve Łódź ß ﬁ ∑ σ",
    "*starred",
    "[10pt] bracketed",
    "n" * 300,
    "``quoted''--- ?` !` ,, << >>",
)
ATTACKS = (
    *(("linf", 8 / 255, name) for name in ("bim", "fgsm", "mim", "pgd")),
    *(("l2", 0.5, name) for name in ("cw", "deepfool")),
)


def _able():
    command = shutil.which("kpsewhich")
    return command and subprocess.run([command, "lmodern.sty"], capture_output=True, check=False).stdout


tex = [
    pytest.mark.tex,
    pytest.mark.skipif(
        not (shutil.which("pdflatex") and _able()),
        reason="needs pdflatex: apt-get install --no-install-recommends texlive-latex-recommended lmodern",
    ),
]


def with_tex(test):
    for mark in tex:
        test = mark(test)
    return test


def made(model, family, perturbation="none", *, right, norm="none", eps=None, severity=None, defense="none",
         access="none", seed=0, checks=(), regularizer="mixup"):  # fmt: skip
    """A record in which the first ``right`` images are."""
    spec = {
        "model": {"recipe": {"name": model, "seed": seed}},
        "data": {"fingerprint": "f", "n": N},
        "perturbation": [family, perturbation, norm, eps, severity],
        "defense": [defense, access],
    }
    rows = pd.DataFrame({"index": range(N), "score": [1.0] * right + [0.0] * (N - right), "label": 0})
    rows = rows.assign(clean_score=1.0, attacked=family == "attack", distance=float("nan"), step=0)
    labels = {
        "model": model, "arch": "resnet", "regularizer": regularizer, "train_seed": seed, "defense": defense,
        "defense_params": {}, "access": access, "data": "digits", "family": family, "perturbation": perturbation,
        "params": {"steps": 40} if family == "attack" else {}, "norm": norm, "eps": eps, "severity": severity,
        "seed": 0,
        "model_key": content_key({"model": [model, seed]}),
    }  # fmt: skip
    number = Measurement("accuracy", right / N, *wilson(float(right), N), N)
    return Record(content_key(spec), spec, labels, (number,), checks, {"seconds": 1.0, "device": "cpu"}, rows)


def line(model, right, *, seed=0, defense="none", attacks=ATTACKS, types=TEST_TYPES):
    """The records of one line."""
    more = {"seed": seed, "defense": defense}
    yield made(model, "clean", right=right + 2, **more)
    access = "none" if defense == "none" else "adaptive"
    for norm, eps, name in attacks:
        yield made(model, "attack", name, norm=norm, eps=eps, right=right, access=access, **more)
    for name in types:
        yield made(model, "corruption", name, severity=3, right=right, **more)


def source(folder, records):
    store = Store(folder)
    for record in records:
        store.write(record)
    return Source(load([folder]))


@pytest.fixture
def files(tmp_path):
    def make(records, style=None):
        found = source(tmp_path / "run", records)
        parts = contents(found)
        return tex_files(parts, main_table(found, parts, style or Style()))

    return make


def compiled(folder, files):
    """What TeX says of the report after two runs."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
        subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    log = (folder / "report.log").read_text(errors="replace")
    assert "Output written on report.pdf" in log, log[-1500:]
    return log


def is_clean(log):
    full = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(full, default=0) <= 5, full
    assert "multiply defined" not in log and "undefined" not in log and "\n! " not in log
    return True


@with_tex
def test_fifteen_lines_six_attacks_and_fifteen_corruptions_compile(tmp_path, files):
    models = ("adversarial", "cascading_sum", "cutmix", "erm", "mixup")
    records = []
    for i, model in enumerate(models):
        records += line(model, 12 - 2 * i)
        for defense in ("mixup_inference", "sum_augmentation"):
            records += line(model, 10 - 2 * i, defense=defense, attacks=ATTACKS[3:5], types=TEST_TYPES[:2])
    written = files(records)
    assert is_clean(compiled(tmp_path, written))


@with_tex
def test_twelve_models_some_of_hostile_names_compile(tmp_path, files):
    names = [*HOSTILE, *(f"model_{i}" for i in range(12 - len(HOSTILE)))]
    records = [
        r for i, name in enumerate(names) for r in line(name, i, attacks=ATTACKS[2:5], types=TEST_TYPES[:2])
    ]
    log = compiled(tmp_path, files(records, Style.of(width="column", intervals=True)))
    assert is_clean(log) and "passwd" not in log


@with_tex
def test_a_run_with_seeds_compiles(tmp_path, files):
    seeds = product(("erm", "mixup", "a name of several words"), range(3))
    records = [
        r
        for model, seed in seeds
        for r in line(model, 6 + seed, seed=seed, attacks=ATTACKS[3:5], types=TEST_TYPES[:2])
    ]
    written = files(records, Style.of("robustness", width="text"))
    assert r"43.8 $\pm$ 6.2" in written["table.tex"] and "seeds 0, 1, 2" in written["table.tex"]
    assert is_clean(compiled(tmp_path, written))


@with_tex
def test_text_is_as_wide_as_it_is_measured_and_every_character_compiles(tmp_path):
    letters = "".join(map(chr, (*range(0xA1, 0x180), *range(0x3B1, 0x3CA), 0x4E2D, 0x1F916)))
    texts = ["cascading_sum 71.0 (64.4-76.8)", "The quick brown fox", r"a\b{c}$%&#^~", letters]
    body = "".join(
        rf"\setbox0\hbox{{\footnotesize {escaped(text)}}}\typeout{{WIDTH \the\wd0}}" + "\n" for text in texts
    )
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{lmodern,amssymb}\begin{document}"
    log = compiled(tmp_path, {"report.tex": f"{head}\n{body}x\\end{{document}}\n"})
    widths = [float(points) for points in re.findall(r"WIDTH ([\d.]+)pt", log)]
    for text, points in zip(texts[:2], widths, strict=False):
        assert points == pytest.approx(width_of(text, 8), rel=0.03)  # kerning and ligatures
    assert all(points <= 1.03 * width_of(text, 8) for text, points in zip(texts, widths, strict=True))
    assert "\n! " not in log


def test_nothing_in_a_text_is_a_command():
    text = escaped("".join(HOSTILE))
    assert not re.search(r"(?<!\\)[$%#&_^~]", re.sub(r"\$\\[a-z]+\$", "", text))
    assert set(re.findall(r"\\[a-zA-Z]+", text)) <= {
        *(r"\textbackslash", r"\allowbreak", r"\textless", r"\textgreater", r"\textasciitilde", r"\sigma"),
        *(r"\textasciicircum", r"\textasciigrave"),
    }
    unbroken = text.replace(r"\allowbreak{}", "").replace("{[}", "[").replace("{]}", "]")
    assert "[U+4E2D]" in unbroken and "Łódź" in unbroken


def test_signs_make_no_other_sign():
    assert escaped("a--b") == "a-{}-b"
    assert escaped("a-b, c") == "a-b, c"
    assert escaped("?`") == r"?{}\textasciigrave{}"
    assert escaped("[x] *") == "{[}x{]} {*}"


def numbers(count, **fields):
    return tuple(Numbers(((plain(f"c{i}")),), (Number(plain("71.0")),) * 2, **fields) for i in range(count))


def words(*texts):
    return Words((plain("model"),), tuple(map(plain, texts)))


def test_a_wide_table_is_divided_between_groups_and_each_part_fits_and_repeats_the_clean_column():
    columns = tuple(
        Numbers((plain(f"{norm}{i}"),), (Number(plain("71.0"), "", "60.0–80.0"),), norm)
        for norm in ("linf", "l2")
        for i in range(4)
    )
    clean = Numbers((plain("clean"),), (Number(plain("99.0")),), repeated=True)
    parts = fitted(Table("x", "c", (words("net"),), (clean, *columns)), 420.0)
    assert [[column.group for column in part.table.columns] for part in parts] == [
        ["", *["linf"] * 4],
        ["", *["l2"] * 4],
    ]
    assert all(total(part.table, part.size) <= 420 for part in parts)
    assert [part.table.label for part in parts] == ["x", "x-2"]


def test_a_table_is_set_smaller_before_it_is_divided():
    table = Table("x", "c", (words("net", "other"),), numbers(8))
    between = (total(table, 8) + total(table, 7)) / 2
    found = laid(table, between)
    assert found.size == 7 and found.table == table
    assert laid(table, total(table, 7) - 1) is None


def test_words_that_are_too_wide_are_wrapped_and_the_short_ones_stay():
    table = Table("x", "c", (words("net"), words("many words " * 20)))
    (part,) = fitted(table, 200.0)
    assert part.table.names[0].wrapped is None and total(part.table, part.size) <= 200
    assert rf"p{{{part.table.names[1].wrapped:g}pt}}" in "\n".join(table_lines(part))


def test_a_heading_is_broken_where_it_is_too_wide():
    lines = head_lines(plain("expected calibration error of a very_long_name_that_nobody_reads" + "x" * 40))
    assert len(lines) > 3 and all(width(line) <= 75 for line in lines)


def test_rows_of_one_model_name_it_once_and_a_long_table_goes_over_pages():
    names = (
        words(*["a"] * 3, *["b"] * 60),
        Words((plain("access"),), tuple(plain(str(i)) for i in range(63))),
    )
    column = Numbers((plain("clean"),), (Number(plain("1.0")),) * 63)
    (part,) = fitted(Table("x", "c", names, (column,)), 300.0)
    text = "\n".join(table_lines(part))
    assert r"\begin{longtable}" in text and r"\endhead" in text
    assert re.findall(r"^a & ", text, re.M) == ["a & "]
    assert len(re.findall(r"^b & ", text, re.M)) == 5  # again after every twelve, where a page may end


def test_labels_are_those_of_sections_and_none_is_there_twice(files):
    entropy = Measurement("nll", 0.5, 0.4, 0.6, N)
    records = list(line("net", 8, types=TEST_TYPES[:2]))
    records = [
        Record(r.key, r.spec, r.labels, (*r.summary, entropy), (), r.provenance, r.rows) for r in records
    ]
    written = files(records)
    labels = re.findall(r"\\label\{(.*?)\}", "".join(written.values()))
    assert len(labels) == len(set(labels)) > 6
    assert {
        "tab:main",
        "tab:attacks",
        "tab:corruptions",
        "tab:trust",
        "tab:nll",
        "tab:nll-corruptions",
    } <= set(labels)
    assert set(re.findall(r"\\input\{(.*?)\}", written["report.tex"])) == set(written) - {"report.tex"}
    assert all(text.startswith(MADE) for text in written.values())


def test_what_was_not_measured_is_a_dash_and_no_nought(files):
    records = [*line("whole", 8, types=TEST_TYPES[:1]), made("half", "clean", right=9)]
    rows = [r for r in files(records)["table.tex"].splitlines() if r.startswith("half")]
    assert rows[0].startswith("half & 56.2") and rows[0].count("--") >= 2 and " 0.0" not in rows[0]


def test_tables_are_balanced(files):
    records = line("net", 8, types=TEST_TYPES[:3])
    for name, text in files(list(records), Style.of(intervals=True)).items():
        for spec, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", text, re.S):
            bare = re.sub(r"@\{[^{}]*(\{[^{}]*\})?\}|>\{[^{}]*\}|\{[\d.]+pt\}", "", spec)
            columns = len(bare)
            assert set(bare) <= set("lrp")
            for row in body.split("\\midrule\n")[1].splitlines():
                if row.rstrip("*").endswith(r"\\"):
                    assert len(re.findall(r"(?<!\\)&", row)) + 1 == columns, (name, spec, row)


def test_marks_of_checks_stand_raised_beside_numbers(files):
    warn = Check("convergence", "warn", 0.1, "run with twice the steps")
    doubted = made("net", "attack", "pgd", norm="linf", eps=8 / 255, right=8, checks=(warn,))
    written = files([made("net", "clean", right=9), doubted])
    assert r"50.0\rlap{\textsuperscript{?}}" in written["table.tex"]
    assert "run with twice the steps" in written["tables/trust.tex"]


def test_the_gap_is_that_of_the_tables():
    (part,) = fitted(Table("x", "c", (words("net", "b"),), numbers(2)), 300.0)
    assert rf"\setlength{{\tabcolsep}}{{{GAP:g}pt}}" in "\n".join(table_lines(part))


def test_a_chart_of_one_column_is_not_stretched_over_the_text():
    def included(*, wide):
        chart = bodies.Chart("radius", "words", altair.Chart(), wide=wide)
        text = tex_files([Section("", chart)], None)["report.tex"]
        return float(re.search(r"includegraphics\[width=([\d.]+)in", text)[1])

    assert included(wide=False) == 3.25 < included(wide=True)
