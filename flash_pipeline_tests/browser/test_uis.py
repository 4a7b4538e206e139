"""What a person does in a browser: materialize, look, backfill, schedule, read, look up.

The tests go on from one another, on one home, whose market is the embedded exchange's.
"""

import re
import time

import pytest

from flash_pipeline.market import Month
from flash_pipeline_tests.browser.driver import JOB, MODEL, SCHEDULE, Dagster, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def dagster(tab, uis):
    """The Dagster UI, its hourly schedule off, so that no tick comes between."""
    opened = Dagster(tab, uis.dagster_url)
    opened.turn_schedule(on=False)
    return opened


@pytest.fixture(scope="module")
def materialized(dagster):
    """The whole graph for this month and the last one, by the button of the job's page."""
    now = Month.containing(int(time.time() * 1000))
    dagster.materialize(JOB, f"[{now.shift(-1)}...{now}]", "Materialize all")
    return dagster


# What a page can send to another site without asking for leave.
_SEND = """async url => {
  const graphql = url + "/graphql?query=" + encodeURIComponent("mutation { setNuxSeen }");
  await fetch(graphql, {mode: "no-cors"});
  await fetch(graphql, {mode: "no-cors", method: "POST"});
  const socket = new WebSocket(graphql.replace("http", "ws"), "graphql-ws");
  return await new Promise(done => {
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
}"""


def test_pages_of_other_sites_reach_nothing(browser, uis):
    page = browser.new_context().new_page()
    for url, status in ((uis.dagster_url, 400), (uis.mlflow_url, 403)):
        rebound = page.goto(url.replace("127.0.0.1", "attacker.example"))
        assert rebound.status == status
    page.goto(uis.mlflow_url)
    answers = []
    page.on("response", lambda each: answers.append(each) if "/graphql?" in each.url else None)
    assert page.evaluate(_SEND, uis.dagster_url) == "refused"
    assert [answer.status for answer in answers] == [403, 403]
    page.goto(uis.dagster_url)
    answers.clear()
    assert page.evaluate(_SEND, uis.dagster_url) == "open"
    page.context.close()


def test_the_page_of_a_table_tells_its_rows_and_columns(materialized):
    page = materialized.open("assets/features")
    expect(page.get_by_text("Row count", exact=True)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="log_return").first).to_be_visible()


def test_the_page_of_the_report_tells_the_verdict(materialized):
    row = materialized.metadata("backtest_report", "verdict")
    expect(row).to_contain_text("The market was synthetic")


@pytest.mark.parametrize(
    ("asset", "label"),
    [("trained_model", "loss"), ("backtest_report", "equity"), ("forecasts", "chart")],
)
def test_the_picture_of_an_asset_is_drawn(materialized, asset, label):
    assert materialized.picture(asset, label) > 300


def test_checks_are_shown_as_passed(materialized):
    page = materialized.open("assets/klines?view=checks")
    expect(page.get_by_text("klines_keep_the_contract").first).to_be_visible()
    expect(page.get_by_text("Passed").first).to_be_visible()


def test_two_months_are_backfilled_in_one_run(materialized):
    page = materialized.page
    materialized.materialize("assets/klines", "[2024-02...2024-03]", "Materialize")
    materialized.open("assets/klines?view=partitions")
    expect(page.get_by_text("Materialized (4)")).to_be_visible()


def test_a_tick_of_the_schedule_launches_a_run_that_succeeds(materialized):
    materialized.launch_tick()


def test_the_schedule_is_turned_on_again(materialized):
    materialized.turn_schedule(on=True)
    page = materialized.open(SCHEDULE)
    expect(page.get_by_text("Next tick")).to_be_visible()
    materialized.turn_schedule(on=False)


def test_dagster_asks_nothing_of_other_machines(materialized, tab):
    assert tab.foreign == []


def test_the_report_shows_verdict_and_charts_and_asks_for_nothing(materialized, uis, tab):
    newest = max((uis.home / "reports").glob("*/report.html"))
    tab.complaints.clear()
    page = tab.page
    page.goto(newest.as_uri())
    expect(page.locator("#chart-equity canvas")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("synthetic")
    expect(page.get_by_role("note")).to_contain_text("SYNTHETIC MARKET")
    assert page.locator(".chart canvas").count() == page.locator(".chart").count() > 0
    page.goto(newest.with_suffix(".png").as_uri())
    assert page.locator("img").evaluate("image => image.naturalWidth") > 600
    assert (tab.complaints, tab.foreign) == ([], [])


def test_mlflow_shows_the_model_its_versions_and_aliases(materialized, uis, tab):
    page = tab.page
    page.goto(f"{uis.mlflow_url}/{MODEL}")
    for text in ("Version 1", "champion", "challenger"):
        expect(page.get_by_text(text).first).to_be_visible()
    tab.shot("model")
    page.get_by_role("link", name="Version 1").click()
    page.wait_for_url(re.compile("/versions/1$"))
    expect(page.get_by_role("heading", name="How to load it")).to_be_visible()
    expect(page.get_by_text("dagster_run_id").first).to_be_visible()


def test_ctrl_c_leaves_no_process(materialized, uis):
    assert len(uis.alive) > 2
    assert uis.stop() == 0
    assert uis.alive == {}
