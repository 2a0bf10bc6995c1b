"""The page in a browser: it works without a network, by pointer and by keyboard, in light and dark, for everybody."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reports
from robust_eval.findings import Check, Measurement
from robust_eval.identity import content_key
from robust_eval.metrics.intervals import wilson
from robust_eval.results.record import Record
from robust_eval.results.store import Store

pytestmark = pytest.mark.browser

N = 40
EVIL = '<img src=x onerror="window.broken = 1"></script><script>window.broken = 1</script>'
MODELS = ("plain", "mixup", EVIL, *(f"net {i:02d}" for i in range(16)))
"""More than a first screen has room for."""
DEFENDED = ("plain", "mixup")
WARNS = Check("finite", "warn", 0.07, f"look at {EVIL}")


def record(model: str, right: int, checks: tuple[Check, ...] = (), **labels: Any) -> Record:
    """A record of a model that is right on the first so many images."""
    known = {
        "model": model,
        "arch": "resnet",
        "regularizer": "erm",
        "train_seed": 0,
        "data": "shapes",
        "family": "clean",
        "perturbation": "none",
        "norm": "none",
        "eps": None,
        "severity": None,
        "defense": "none",
        "access": "none",
        "params": {},
        "seed": 0,
        "model_key": model,
        **labels,
    }
    places = ("family", "perturbation", "norm", "eps", "severity")
    what = {"kind": known["family"], "name": known["perturbation"], "params": {}, "version": 1}
    spec = {
        "model": model,
        "data": {"fingerprint": "f0", "n": N},
        "perturbation": None if known["family"] == "clean" else {**what, "at": [known[p] for p in places]},
        "defense": known["defense"],
        "access": known["access"],
        "seed": 0,
    }
    rows = pd.DataFrame(
        {"index": range(N), "clean_score": 1.0, "score": (np.arange(N) < right).astype(float)}
    )
    rows["attacked"] = known["family"] == "attack"
    rows["distance"], rows["step"], rows["forwards"], rows["backwards"] = np.nan, 0, 5, 5
    number = Measurement("accuracy", right / N, *wilson(float(right), N), N)
    return Record(content_key(spec), spec, known, (number,), checks, {"seconds": 1.0, "device": "cpu"}, rows)


def made() -> Iterator[Record]:
    for i, model in enumerate(MODELS):
        for defense in ("none", "mixing") if model in DEFENDED else ("none",):
            own = {"defense": defense}
            met = {**own, "access": "none" if defense == "none" else "adaptive", "family": "attack"}
            yield record(model, 38 - i, **own)
            yield record(
                model, 30 - i, (WARNS,) if i == 2 else (), **met, perturbation="pgd", norm="linf", eps=0.03
            )
            yield record(model, 9 + i, **met, perturbation="pgd", norm="l2", eps=0.5)
            for severity in (1, 3):
                yield record(
                    model,
                    35 - i - severity,
                    **own,
                    family="corruption",
                    perturbation="fog",
                    severity=severity,
                )


@pytest.fixture(scope="session")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("browser") / "run"
    for each in made():
        Store(run).write(each)
    (run / "experiment.toml").write_text('name = "run"\n')
    return (reports.write([run], run / "report").out / "index.html").as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, opened anew on a wide and light screen; nothing went wrong when it closes."""
    seen(browser)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(address)
    yield browser
    assert not browser.get_log("browser")
    assert browser.execute_script("return window.broken") is None


def seen(browser: Any, width: int = 1400, colours: str = "light") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)


def run(page: Any, script: str, *given: Any) -> Any:
    return page.execute_script(script, *given)


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def wait(page: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 10, poll_frequency=0.05).until(lambda _: run(page, script))


def lines(page: Any) -> list[str]:
    """The models of the answer's lines that are shown, from the top."""
    return run(
        page,
        "return [...document.querySelectorAll('#answer tbody tr')]"
        ".filter((row) => row.checkVisibility()).map((row) => row.dataset.model)",
    )


def heads(page: Any, table: str = "#answer") -> list[str]:
    return run(
        page,
        "return [...document.querySelectorAll(arguments[0] + ' thead th')]"
        ".filter((head) => !head.hidden).map((head) => head.dataset.column).filter(Boolean)",
        table,
    )


def follow(page: Any, fragment: str) -> None:
    run(page, "location.hash = arguments[0]", fragment)
    wait(page, "return new Promise((done) => setTimeout(() => done(true), 30))")


def test_the_first_screen_holds_the_answer_and_nothing_is_asked_of_a_network(page):
    box = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    assert run(page, box, "#answer") < 900 and len(lines(page)) == 16
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert asked and not [url for url in asked if url.startswith(("http", "ws", "ftp", "//"))]


def test_a_click_on_a_head_sorts_down_then_up_then_as_it_was(page):
    before = lines(page)
    heads_of = "return document.querySelectorAll('#answer thead th button')"
    at = next(i for i, b in enumerate(run(page, heads_of)) if "worst case\nl2" in b.text)
    values = (
        "return [...document.querySelectorAll('#answer tbody tr')]"
        ".map((row) => Number(row.cells[arguments[0]].dataset.value))"
    )
    sort = "return document.querySelectorAll('#answer thead th')[arguments[0]].getAttribute('aria-sort')"
    told = []
    for turn in range(3):
        run(page, heads_of)[at].click()
        told.append(run(page, sort, at))
        if turn < 2:
            found = run(page, values, at)
            assert found == sorted(found, reverse=turn == 0) and len(set(found)) > 5
    assert told == ["descending", "ascending", None] and lines(page) == before


def test_a_head_sorts_by_keyboard(page):
    run(page, "document.querySelector('#answer thead th button').focus()")
    press(page, "\ue007")
    assert lines(page)[1:4] == ["mixup", "mixup", "net 00"]  # words go up; the first begins with a sign


def test_lines_beyond_the_first_screen_unfold(page):
    run(page, "document.querySelector('details.rest summary').focus()")
    press(page, " ")
    assert len(lines(page)) == len(MODELS) + len(DEFENDED)


def test_filters_hold_for_the_whole_page_and_an_address_brings_them_back(page, address):
    boxes = "return document.querySelectorAll('.filters fieldset[aria-label=\"Models\"] input')"
    page.find_element("css selector", ".filters details summary").click()
    for box in run(page, boxes)[:2]:
        box.click()
    assert set(lines(page)) == set(DEFENDED) and "model=mixup" in page.current_url
    everywhere = (
        "return [...document.querySelectorAll('main [data-model]')].filter((line) => !line.hidden)"
        ".map((line) => line.dataset.model)"
    )
    assert set(run(page, everywhere)) == set(DEFENDED)
    link = page.current_url + "&norm=l2&defense=mixing&hide=clean"
    page.get("about:blank")
    page.get(link)
    assert lines(page) == ["plain", "mixup"]
    whole = "#every-number-in-one-table table"
    for table in ("#answer", whole):
        shown = heads(page, table)
        assert "clean" not in shown and not [head for head in shown if "linf" in head]
        assert [head for head in shown if "l2" in head]
    page.find_element("css selector", ".filters > button").click()
    assert "#" not in page.current_url and len(lines(page)) == 16


def test_families_choose_columns(page):
    follow(page, "family=corruption")
    assert heads(page) == ["mean of corruptions"]
    assert set(heads(page, "#every-number-in-one-table table")) == {"fog s1", "fog s3", "mean of corruptions"}


def test_a_list_of_filters_closes_by_escape_and_gives_the_focus_back(page):
    summary = page.find_element("css selector", ".filters details summary")
    summary.click()
    press(page, "\ue004", "\ue00c")
    assert run(page, "return document.querySelector('.filters details[open]')") is None
    assert run(page, "return document.activeElement === arguments[0]", summary)


def test_a_link_opens_what_it_leads_to_and_what_is_chosen_stays(page):
    follow(page, "model=plain")
    page.find_element("css selector", '.toc a[href="#provenance"]').click()
    wait(page, "return document.querySelector('#provenance').closest('details').open")
    assert "at=provenance" in page.current_url and set(lines(page)) == {"plain"}
    inner = run(page, "return document.querySelector('.profile[data-model=plain] > .inside').id")
    follow(page, inner)
    wait(page, f"return document.getElementById('{inner}').checkVisibility()")
    top = run(
        page, f"return document.getElementById('{inner}').closest('details').getBoundingClientRect().top"
    )
    assert -5 < top < 500


def test_the_keyboard_reaches_the_answer_first_and_folds(page):
    press(page, "\ue004")
    assert run(page, "return document.activeElement.className") == "skip"
    press(page, "\ue007")
    assert run(page, "return document.activeElement.id") == "main"
    run(page, "document.querySelector('.part summary').focus()")
    press(page, " ")
    assert run(page, "return document.querySelector('.part details').open")


def test_every_chart_is_drawn_when_it_comes_into_view_and_not_before(page):
    assert not run(page, "return 'vegaEmbed' in window")
    charts = run(
        page, "return [...document.querySelectorAll('[data-chart]')].map((chart) => chart.dataset.chart)"
    )
    assert len(charts) >= 2
    for chart in charts:
        run(
            page,
            "const chart = document.querySelector(`[data-chart='${arguments[0]}']`);"
            "chart.closest('details').open = true; chart.scrollIntoView();",
            chart,
        )
        wait(
            page,
            f"return document.querySelector(\"[data-chart='{chart}'] .alive:not([hidden]) svg path\") !== null",
        )
        assert not run(page, f"return document.querySelector(\"[data-chart='{chart}'] .drawn\")")


def test_the_command_is_copied(page):
    follow(page, "provenance")
    button = page.find_element("css selector", "#provenance .copy")
    assert (
        "robust-eval run ./run/experiment.toml" in page.find_element("css selector", "#provenance pre").text
    )
    button.click()
    wait(page, "return document.querySelector('#provenance .copy').textContent === 'Copied'")


def test_colours_follow_the_system_and_the_reader(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = run(page, ground)
    seen(page, colours="dark")
    dark = run(page, ground)
    assert light == "rgb(255, 255, 255)" and dark == "rgb(22, 24, 28)"
    page.find_element("css selector", ".theme").click()
    assert run(page, ground) == light
    run(page, "localStorage.clear()")


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_never_scrolls_sideways(page, width):
    seen(page, width)
    run(page, "for (const fold of document.querySelectorAll('main details')) fold.open = true")
    assert run(page, "return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_without_scripts_it_is_whole_and_has_no_controls(page, address):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get("about:blank")
        page.get(address)
        assert not page.find_elements("css selector", ".filters, main button")
        summary = page.find_element("css selector", "details.rest summary")
        last = page.find_elements("css selector", "#answer tbody tr")[-1]
        assert not last.is_displayed()
        summary.click()
        assert last.is_displayed()
        page.find_element("css selector", '.toc a[href="#trust"]').click()
        assert page.current_url.endswith("#trust")
        assert page.find_element("css selector", "#trust table").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_print_unfolds_all_but_details_and_has_no_controls(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = "return document.querySelector(arguments[0]).checkVisibility({contentVisibilityAuto: false})"
        assert run(page, shown, "#attacks table") and run(page, shown, "#answer tbody.more tr")
        assert not run(page, shown, "#every-record table") and not run(page, shown, ".filters")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.skipif(
    "AXE_CORE" not in os.environ, reason="needs AXE_CORE, the folder of the npm package axe-core"
)
@pytest.mark.parametrize(("width", "colours"), [(420, "dark"), (1400, "light")])
def test_axe_finds_nothing_serious(page, width, colours):
    seen(page, width, colours)
    # one of the models stands for all
    run(
        page,
        "for (const one of document.querySelectorAll('main details:not(.profile ~ .profile)')) one.open = true",
    )
    page.execute_script((Path(os.environ["AXE_CORE"]) / "axe.min.js").read_text())
    found = page.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert len(found["passes"]) > 20 and not [
        (rule["id"], rule["nodes"][0]["html"][:200], rule["nodes"][0]["failureSummary"]) for rule in serious
    ]
