"""Shape letters: T hours, A assets, N decisions."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import InvalidConfig, SchemaMismatch
from flash_pipeline.evaluation import portfolio
from flash_pipeline.evaluation.portfolio import (
    EQUAL,
    MODEL,
    RivalConfig,
    judge_portfolio,
    minimum_variance,
    rival_weights,
    sharpe_difference,
    study_portfolio,
    trade_decisions,
)
from flash_pipeline.evaluation.portfolio_report import write_portfolio_report
from flash_pipeline.evaluation.portfolio_session import edge_over
from flash_pipeline.evaluation.portfolio_venue import portfolio_prices
from flash_pipeline.evaluation.statistics import Interval
from flash_pipeline.training.portfolio_session import train_portfolio
from flash_pipeline_tests.portfolio.conftest import panel_of
from flash_pipeline_tests.training.test_portfolio_fit import recipe

FREE = Costs(fee_rate=0, slippage_rate=0)
RIVALS = RivalConfig(estimation_hours=96, asset_cap=0.4)


@pytest.fixture(autouse=True)
def few_days(monkeypatch):
    monkeypatch.setattr(portfolio, "LEAST_DAYS", 5)


@pytest.fixture(scope="module")
def panel():
    return panel_of(hours=900, listed={"BBUSDT": 150}, gone={"CCUSDT": 650})


@pytest.fixture(scope="module")
def session(panel):
    return train_portfolio(panel, dataclasses.replace(recipe(), horizon=12))


@pytest.fixture(scope="module")
def study(panel, session):
    return study_portfolio(panel, session.decisions, Costs(), RIVALS)


def test_rivals_know_the_past_alone(panel):
    rows = [300, 400]
    before = rival_weights(panel, rows, RIVALS)
    other = dataclasses.replace(panel, close_TA=panel.close_TA.copy())
    other.close_TA[401:] *= np.random.default_rng(0).uniform(0.5, 2, other.close_TA[401:].shape)
    after = rival_weights(other, rows, RIVALS)
    for name, weights in before.items():
        np.testing.assert_array_equal(weights, after[name])


def test_rivals_are_long_whole_and_hold_who_is_there(panel):
    gone = panel.symbols.index("CCUSDT")
    for name, weights in rival_weights(panel, [300, 700], RIVALS).items():
        if name == "Cash":
            assert not weights.any()
            continue
        np.testing.assert_allclose(weights.sum(1), 1)
        assert (weights >= 0).all()
        assert weights[1, gone] == 0
        assert weights[0, gone] > 0


def test_inverse_volatility_prefers_the_calm(panel):
    calm = dataclasses.replace(panel, close_TA=panel.close_TA.copy())
    calm.close_TA[:, 0] = 100 + 0.01 * panel.close_TA[:, 0]
    weights = rival_weights(calm, [400], RIVALS)
    assert weights["Inverse volatility"][0, 0] == weights["Inverse volatility"].max()
    assert weights["Minimum variance"][0, 0] == pytest.approx(0.4, abs=1e-4)


def test_without_enough_history_rivals_hold_equal_weights(panel):
    weights = rival_weights(panel, [80], RIVALS)
    np.testing.assert_array_equal(weights["Minimum variance"], weights[EQUAL])


def test_minimum_variance_has_less_of_it_than_equal_weights():
    random = np.random.default_rng(0)
    returns = random.standard_normal((500, 6)) * [0.01, 0.02, 0.03, 0.01, 0.02, 0.03]
    weights = minimum_variance(returns, 0.5)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() <= 0.5 + 1e-9
    assert (returns @ weights).var() < (returns.mean(1)).var()
    np.testing.assert_allclose(minimum_variance(returns, 0.01), 1 / 6, atol=1e-3)


def test_a_delisted_asset_is_settled_at_its_last_close(panel):
    gone = panel.symbols.index("CCUSDT")
    rows = list(range(600, 700, 12))
    weights = np.zeros((len(rows), len(panel.symbols)))
    weights[panel.start_time_T[rows] < panel.start_time_T[650], gone] = 0.5
    result = trade_decisions(panel, rows, weights, horizon=12, costs=FREE, gross_cap=1.0)
    held = result.weights_TS[:, gone]
    first = 601
    assert held[648 - first] > 0.3
    assert held[-1] == 0
    flat = result.returns_T[651 - 600 :]
    np.testing.assert_allclose(flat, 0, atol=1e-12)
    prices = portfolio_prices(panel, 600, 700)
    assert (prices.close_TS[51:, gone] == panel.close_TA[649, gone]).all()


def test_after_a_delisting_no_funding_is_due_and_none_is_missed(panel, session):
    end_A = [int(panel.start_time_T[649 if s == "CCUSDT" else -1]) for s in panel.symbols]
    rows = [
        {"symbol": symbol, "funding_time": time, "rate": 0.0001}
        for symbol, end in zip(panel.symbols, end_A, strict=True)
        for time in range(int(panel.start_time_T[0]), end + 1, 8 * 3_600_000)
    ]
    study = study_portfolio(panel, session.decisions, Costs(), RIVALS, pa.Table.from_pylist(rows))
    assert study.funding == "charged at settlement"


def test_decisions_are_filled_at_the_next_open_and_drift_to_the_next_one(panel):
    rows = [300, 312]
    weights = np.zeros((2, len(panel.symbols)))
    weights[0, 0] = 1.0
    result = trade_decisions(panel, rows, weights, horizon=12, costs=FREE, gross_cap=1.0)
    expected = panel.open_TA[313, 0] / panel.open_TA[301, 0]
    assert result.equity_T[-1] == pytest.approx(expected, rel=1e-4)
    assert np.count_nonzero(result.orders_TS[:, 0]) == 2


def test_everyone_trades_the_same_bars_at_the_same_costs(study):
    assert list(study.results)[:3] == [MODEL, "Joint attention", "Axial attention"]
    assert list(study.results)[3:] == [EQUAL, "Inverse volatility", "Minimum variance", "Cash"]
    times = [result.start_time_T.tolist() for result in study.results.values()]
    assert all(each == times[0] for each in times)
    assert {float(result.cost_rate) for result in study.results.values()} == {Costs().rate}
    assert study.metrics["Cash"].total_return_fraction == 0
    assert study.results[MODEL].gross_T.max() < 1.1


def test_contributions_add_up_to_the_return(study):
    result = study.results[MODEL]
    assert result.net_pnl_S.sum() == pytest.approx(result.equity_T[-1] - 1)


def test_sharpe_beside_itself_is_nothing_and_the_interval_holds_the_value(study):
    nothing = sharpe_difference(study.results[EQUAL], study.results[EQUAL])
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    ahead = study.ahead[MODEL]
    assert np.isnan(ahead.low) or ahead.low <= ahead.value <= ahead.high


def test_decisions_of_another_panel_are_refused(panel, session):
    other = panel_of(hours=900, seed=5)
    with pytest.raises(SchemaMismatch, match="materialize portfolio_model again"):
        study_portfolio(other, session.decisions, Costs(), RIVALS)


@pytest.mark.parametrize(
    ("span", "total", "held", "outcome"),
    [
        (Interval(1, -1, 3), 0.1, 1.0, "no_edge"),
        (Interval(1, np.nan, np.nan), 0.1, 1.0, "no_edge"),
        (Interval(2, 1, 3), 0.1, 1.0, "some_evidence"),
        (Interval(2, 1, 3), -0.1, 1.0, "loss"),
        (Interval(-2, -3, -1), 0.1, 1.0, "worse"),
        (Interval(2, 1, 3), 0.0, 0.0, "no_position"),
    ],
)
def test_an_edge_needs_an_interval_that_excludes_zero(study, span, total, held, outcome):
    model = dataclasses.replace(
        study.metrics[MODEL], total_return_fraction=total, time_in_market_fraction=held
    )
    told = judge_portfolio(model, study.metrics[EQUAL], span, synthetic=True)
    assert told.outcome == outcome
    assert "no predictable return" in told.detail


def test_the_report_says_everything_and_that_the_market_is_synthetic(study, session, tmp_path):
    report = write_portfolio_report(
        tmp_path / "report", study, session.decisions, Costs(), RIVALS, synthetic=True
    )
    names = {path.name for path in report.folder.iterdir()}
    assert names == {"report.html", "report.png", "weights.png", "attention.png", "metrics.json"}
    page = (report.folder / "report.html").read_text()
    assert "SYNTHETIC MARKET" in page
    assert study.verdict.headline in page
    assert 'id="chart-equity"' in page
    assert "http" not in page.split("<script type")[0].replace("http-equiv", "")
    numbers = json.loads((report.folder / "metrics.json").read_text())
    assert numbers["verdict"]["outcome"] == study.verdict.outcome
    assert set(numbers["metrics"]) == set(study.metrics)
    assert report.pictures["report.png"].startswith(b"\x89PNG")


@pytest.mark.browser
def test_every_chart_of_the_page_is_drawn_and_nothing_is_asked_for(study, session, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on the path")
    report = write_portfolio_report(
        tmp_path / "report", study, session.decisions, Costs(), RIVALS, synthetic=True
    )
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 400, "height": 900})
        complaints = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto((report.folder / "report.html").as_uri())
        tab.wait_for_selector("#chart-members canvas")
        assert tab.locator(".chart canvas").count() == tab.locator(".chart").count() == 4
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert complaints == []
        browser.close()


def test_a_champion_that_has_seen_the_dates_is_not_compared(panel, session):
    assert edge_over(session.bundle, panel, session.decisions, Costs()) is not None
    seen = {**session.bundle.details, "seen_until": int(panel.start_time_T[-1])}
    knowing = dataclasses.replace(session.bundle, details=seen)
    assert edge_over(knowing, panel, session.decisions, Costs()) is None


def test_a_champion_beside_itself_has_no_edge(panel, session):
    low, high = edge_over(session.bundle, panel, session.decisions, Costs())
    assert low <= 0 <= high


@pytest.mark.parametrize("options", [{"estimation_hours": 47}, {"asset_cap": 0}])
def test_rivals_out_of_bounds_are_refused(options):
    with pytest.raises(InvalidConfig, match=next(iter(options))):
        RivalConfig(**options)
