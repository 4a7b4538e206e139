"""A real browser, and what a person clicks in the two UIs."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

PATH_VARIABLE = "CHROMIUM_PATH"
"""Names another browser than Debian's."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)
SECONDS = 1000.0
CLICK = 60 * SECONDS
"""Patience with a page, in Playwright's milliseconds: machines are shared."""
RUN = 300 * SECONDS
"""Patience with a run of the graph."""

expect.set_options(timeout=CLICK)

JOB = "locations/flash_pipeline.definitions/jobs/refresh"
SCHEDULE = "locations/flash_pipeline.definitions/schedules/hourly"
MODEL = "#/models/flash-attention-trader"

# What MLflow greets a person with on the first visit lies over what is looked at.
_MLFLOW_SEEN = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""


@contextmanager
def chromium() -> Iterator:
    """Start the browser for the block; without one skip, but in CI, which installs it, fail."""
    program = os.environ.get(PATH_VARIABLE) or shutil.which("chromium", path="/usr/bin")
    if program is None:
        lacking = f"there is no /usr/bin/chromium, and {PATH_VARIABLE} names no other"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Tab:
    """A page of the browser that counts its screenshots and what it asks of other machines."""

    def __init__(self, browser, folder: Path, width: int = 1400, height: int = 900) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light",
            timezone_id="UTC",
            locale="en-US",
        )
        context.set_default_timeout(CLICK)
        context.add_init_script(_MLFLOW_SEEN)
        self.page = context.new_page()
        self.folder, self.shots = folder, 0
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)

    def _note(self, url: str) -> None:
        if not re.match(r"(data:|blob:|file:|http://127\.0\.0\.1:)", url):
            self.foreign.append(url)

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def close(self) -> None:
        self.page.context.close()

    def shot(self, name: str) -> Path:
        """Keep what is to be seen."""
        self.shots += 1
        path = self.folder / f"{self.shots:02d}_{name}.png"
        self.page.screenshot(path=path)
        return path


@dataclass
class Dagster:
    """The Dagster UI in a tab."""

    tab: Tab
    url: str

    @property
    def page(self):
        return self.tab.page

    @property
    def dialog(self):
        return self.page.get_by_role("dialog")

    def open(self, path: str):
        self.page.goto(f"{self.url}/{path}")
        return self.page

    def materialize(self, path: str, months: str, button: str) -> None:
        """Launch a page's assets for some months, by clicks, and wait until that has succeeded."""
        self.open(path)
        self.page.get_by_role("button", name=button).first.click()
        asked = self.dialog.get_by_placeholder("ex: ")
        asked.fill(months)
        asked.press("Tab")
        self.tab.shot("months")
        self.dialog.get_by_role("button", name="Launch backfill").click()
        toast = self.page.get_by_text("Created backfill")
        expect(toast).to_be_visible()
        identity = re.search(r"backfill\s+(\w+)", toast.inner_text() or "")
        assert identity is not None, toast.inner_text()
        page = self.open(f"runs/b/{identity[1]}")
        self.wait_for_end(page.get_by_text("Status", exact=True).locator("xpath=.."))

    def wait_for_end(self, place=None) -> None:
        """Wait until the page shows, at a place of it, that a run has ended and succeeded."""
        ended = re.compile(r"^(Success|Succeeded|Completed|Failed|Failure|Canceled)$")
        shown = (place or self.page.locator("body")).get_by_text(ended)
        expect(shown.first).to_be_visible(timeout=RUN)
        self.tab.shot("ended")
        assert shown.first.inner_text() in {"Success", "Succeeded"}

    def metadata(self, asset: str, label: str):
        """Open an asset's page and return the row of one of its metadata."""
        self.open(f"assets/{asset}")
        row = self.page.get_by_role("row").filter(has=self.page.get_by_text(label, exact=True))
        expect(row.first).to_be_visible()
        return row.first

    def picture(self, asset: str, label: str) -> int:
        """Open the picture of an asset's metadata; return its width in pixels, 0 if not drawn."""
        self.metadata(asset, label).get_by_text("Show Markdown").click()
        image = self.dialog.locator("img")
        expect(image).to_be_visible()
        self.page.wait_for_function("document.querySelector('[role=dialog] img').complete")
        self.tab.shot(f"picture_{asset}_{label}")
        return int(image.evaluate("image => image.naturalWidth"))

    def turn_schedule(self, *, on: bool) -> None:
        """Turn the hourly schedule on or off by its switch."""
        self.open(SCHEDULE)
        switch = self.page.get_by_role("row", name="Running").get_by_role("checkbox")
        expect(switch).to_be_attached()
        if switch.is_checked() != on:
            self.page.get_by_role("row", name="Running").locator("label").click()
        expect(switch).to_be_checked(checked=on)
        self.tab.shot(f"schedule_{'on' if on else 'off'}")

    def launch_tick(self) -> None:
        """Evaluate the schedule for the last full hour and launch what it asks for."""
        self.open(SCHEDULE)
        self.page.get_by_role("button", name="Preview tick result").click()
        self.dialog.get_by_role("button", name="Continue").click()
        expect(self.dialog.get_by_text("1 run requests")).to_be_visible()
        self.tab.shot("tick_evaluated")
        self.dialog.get_by_role("button", name="Launch all & commit tick result").click()
        self.page.wait_for_url(re.compile("/runs"))
        # Its row, and not the tab "Failed" of the list.
        self.wait_for_end(self.page.get_by_text("View all tags").locator("xpath=ancestor::*[5]"))
