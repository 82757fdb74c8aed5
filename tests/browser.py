"""A real Chromium without a screen, that notes everything a page must not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium was found: apt install chromium")


@dataclass
class Opened:
    """A page, what its console said, and where it wanted to connect to."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What axe-core finds wrong for people who see, hear or move otherwise."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@contextmanager
def opened(path: Path, **settings: Any) -> Iterator[Opened]:
    """Open a file in a browser of its own; settings are those of Playwright's `new_context`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_context(**settings).new_page()
        one = Opened(page)
        page.on("console", lambda message: one.console.append(message.text))
        page.on("pageerror", lambda error: one.console.append(str(error)))
        page.on("dialog", lambda dialog: (one.console.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: one.requests.append(request.url) if not request.url.startswith(("data:", "blob:")) else None
        )
        page.goto(path.as_uri())
        yield one
        browser.close()
