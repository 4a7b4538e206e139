"""The page in a real browser: charts are drawn, nothing is loaded, nothing fails."""

import shutil

import pyarrow as pa
import pytest

from flash_pipeline.backtest import Costs, ReportContext, buy_and_hold, simulate, write_report
from flash_pipeline.market import Interval


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(tmp_path, random_walk, random_weights):
    prices = random_walk(400)
    write_report(
        tmp_path / "r",
        result=simulate(random_weights(400), prices, Costs()),
        benchmark=buy_and_hold(prices, Costs()),
        context=ReportContext(Interval.HOUR_1, Costs(), 24, "7", synthetic=True),
        predictions=pa.table({"symbol": ["BTCUSDT"]}),
        prediction_quality={},
    )
    return tmp_path / "r" / "report.html"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1_400, 400])
def test_every_chart_is_drawn_and_nothing_is_asked_for(page, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    complaints, asked = [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("#chart-exposure canvas")
    assert tab.locator(".chart canvas").count() == tab.locator(".chart").count() == 7
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("#log-equity").check()
    assert tab.locator("#chart-equity canvas").count() == 1
    assert complaints == []
    assert asked == [page.as_uri()]
