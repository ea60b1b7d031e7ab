"""Debian's chromium, for what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

_CHROMIUM = shutil.which("chromium")
_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PATIENCE = 60_000
"""Milliseconds: the page's scripts are megabytes, and the machine may be busy."""

needs_chromium = pytest.mark.skipif(
    _CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)


@contextmanager
def browsing() -> Iterator[Page]:
    """A page of the size of a laptop's window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()
