"""A real Chromium without a screen, that notes everything a page must not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None, reason="apt install chromium; pip install 'audioldm_lit[test]'"
)


@dataclass
class Opened:
    """A page, and what it must not do: what its console and dialogs said, and every request beyond the page itself."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What axe-core finds wrong for people who see, hear or move otherwise."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, whose processes end with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Opened]:
    """A page in a context of its own; settings are those of Playwright's `new_context`."""
    context = browser.new_context(**settings)
    one, address = Opened(context.new_page()), path.resolve().as_uri()
    one.page.on("console", lambda message: one.complaints.append(f"console: {message.text}"))
    one.page.on("pageerror", lambda error: one.complaints.append(f"error: {error}"))
    one.page.on("dialog", lambda dialog: (one.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    one.page.on(
        "request", lambda sent: sent.url.startswith(("data:", "blob:", address)) or one.complaints.append(f"asks {sent.url}")
    )
    one.page.goto(address)
    yield one
    context.close()
