"""Headless Chromium, for tests and benchmarks of the page: without a network, its console kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

__all__ = ["browser", "missing", "started"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One browser for all tests of a process; they are skipped where there is none."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with started() as driver:
        yield driver


def missing() -> str | None:
    """Return what has to be installed before a page can be opened; ``None`` where everything is there."""
    if find_spec("selenium") is None:
        return "needs selenium: pip install 'robust-eval[test]'"
    if _browser() is None or shutil.which("chromedriver") is None:
        return "needs Chromium and its driver: apt-get install chromium chromium-driver"
    return None


@contextmanager
def started() -> Iterator[Any]:
    """Start a browser of 1400 by 900 pixels that reaches nothing but files, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with tempfile.TemporaryDirectory(prefix="chromium") as profile:
        options = ChromeOptions()
        options.binary_location = _browser() or ""
        for flag in (
            *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"),
            *("window-size=1400,900", "host-resolver-rules=MAP * ~NOTFOUND", f"user-data-dir={profile}"),
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def _browser() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)
