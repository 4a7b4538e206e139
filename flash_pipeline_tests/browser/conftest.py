"""A browser, and both UIs served as a person would, on a home of their own."""

import os
import shutil
from pathlib import Path

import pytest

from flash_pipeline_tests.browser.serving import serving

if os.environ.get("CI") == "true":
    import playwright  # noqa: F401  # whose absence is no reason to skip there

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture(scope="module")
def browser():
    """Open one for a file: it keeps an event loop running, which later tests would meet."""
    from flash_pipeline_tests.browser.driver import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def uis(browser, tmp_path_factory):
    """`flash_pipeline dev`, up, on an empty home with the embedded exchange."""
    with serving(tmp_path_factory.mktemp("browser") / "home") as served:
        yield served


@pytest.fixture(scope="module")
def tab(browser, request):
    """A tab whose screenshots are kept in a folder of the test file's name."""
    from flash_pipeline_tests.browser.driver import Tab

    folder = SCREENSHOTS / request.path.stem.removeprefix("test_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Tab(browser, folder)


@pytest.fixture(autouse=True)
def last_screenshot(tab, request):
    """Keep what was to be seen when a test ended, be it passed or failed."""
    yield
    tab.shot(request.node.originalname.removeprefix("test_"))
