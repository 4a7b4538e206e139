import base64
import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.backtest import (
    Costs,
    FoldRow,
    ReportContext,
    Trials,
    buy_and_hold,
    four_panel,
    simulate,
    summarise,
    write_report,
)
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.market import Interval
from flash_pipeline_tests.backtest.conftest import HOUR_MS

PREDICTIONS = pa.table({"symbol": ["BTCUSDT"], "prediction": [0.001]})
QUALITY = {"Rank IC": 0.0123, "MSE over zero forecast": None, "Best <symbol>": "BTC & co"}


@pytest.fixture
def context():
    return ReportContext(
        interval=Interval.HOUR_1,
        costs=Costs(),
        horizon=24,
        model_version="7",
        synthetic=True,
    )


@pytest.fixture
def arguments(random_walk, random_weights, context):
    prices = random_walk(60)
    return {
        "result": simulate(random_weights(60), prices, Costs()),
        "benchmark": buy_and_hold(prices, Costs()),
        "context": context,
        "predictions": PREDICTIONS,
        "prediction_quality": QUALITY,
    }


def test_the_folder_holds_the_four_files(tmp_path, arguments):
    report = write_report(tmp_path / "r", **arguments)
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names == {"report.html", "report.png", "metrics.json", "predictions.parquet"}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "report.png").read_bytes() == report.png
    assert pq.read_table(tmp_path / "r" / "predictions.parquet").equals(PREDICTIONS)


def test_the_page_needs_nothing_from_elsewhere(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"<(script|img|link|iframe)[^>]*\b(src|href)\b", page)
    assert "@import" not in page
    assert "url(" not in page


def test_only_the_scripts_of_the_page_may_run(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert [f"'sha256-{h}'" for h in hashes] == policy.split("script-src ")[1].split()
    assert "The MIT License" in scripts[0]


def test_the_page_is_light_enough_for_every_hour(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    assert (tmp_path / "r" / "report.html").stat().st_size < 400_000


def test_the_page_leads_with_a_verdict_and_states_its_assumptions(tmp_path, arguments):
    report = write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert page.index(report.verdict.headline) < page.index("chart-equity")
    assert page.index("chart-equity") < page.index("annualised, risk-free rate 0")
    for text in (
        "0.0550% of the traded notional",
        "0.0200% of the traded notional",
        "next bar&#39;s open",
        "each with 1/24 of the capital",
        "8,760 bars per year",
        "60 of 60 minutes",
        "not charged",
        "at a margin of 0.50% of the notional",
        "model version 7",
        "0.0123",
        "n/a",
    ):
        assert text in page, text


def test_baselines_stand_beside_the_strategy(tmp_path, arguments, random_walk, random_weights):
    ridge = simulate(random_weights(60, seed=9), random_walk(60), Costs())
    report = write_report(tmp_path / "r", **arguments, baselines={"Ridge": ridge})
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col" class="number">Ridge</th>' in page
    labels = [line["label"] for line in charts_of(page)["equity"]["lines"]]
    assert labels == ["Strategy", "Buy and hold", "Ridge"]
    numbers = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["baselines"]["Ridge"] == report.baselines["Ridge"].as_json()


def test_what_was_charged_and_what_else_holds_is_told(tmp_path, arguments, context):
    told = replace(
        context, funding="charged at settlement; not charged to AAPL", remarks=(("Lots", "none"),)
    )
    report = write_report(tmp_path / "r", **{**arguments, "context": told})
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "charged at settlement; not charged to AAPL" in page
    assert ("Lots", "none") in report.assumptions
    numbers = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["assumptions"]["remarks"] == {"Lots": "none"}


def test_holes_in_the_prices_are_told(tmp_path, arguments, random_walk, random_weights):
    prices = random_walk(60)
    prices.open_TS[40:, 1] = prices.close_TS[40:, 1] = np.nan
    result = simulate(random_weights(60), prices.carried_forward(), Costs())
    report = write_report(tmp_path / "r", **{**arguments, "result": result})
    told = dict(report.assumptions)["Where a symbol has no bar"]
    assert "ETHUSDT has had no bar since 2024-01-02T16:00Z" in told
    numbers = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["assumptions"]["openings"]["still_closed"] == {"ETHUSDT": "2024-01-02T16:00Z"}


def test_the_figures_hold_the_deflated_sharpe_ratio(tmp_path, arguments, context):
    untold = write_report(tmp_path / "r", **arguments).figures()
    assert untold["deflated_sharpe_probability"] is None
    tried = replace(context, trials=Trials(40, 0.01))
    report = write_report(tmp_path / "r", **{**arguments, "context": tried})
    assert report.figures()["deflated_sharpe_probability"] == report.deflated_sharpe
    assert report.figures()["sharpe_annual"] == report.strategy.sharpe_annual


def test_folds_stand_in_a_table_with_their_intervals(tmp_path, arguments):
    fold = FoldRow("3", 0, HOUR_MS, 0.0123, -0.004, 0.031, -0.05, math.nan)
    write_report(tmp_path / "r", **arguments, folds=[fold])
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    cells = ["1970-01-01T00:00Z to 1970-01-01T01:00Z", "+0.0123", "-0.0040 to +0.0310"]
    for cell in (*cells, "-5.00%", "n/a"):
        assert f">{cell}</td>" in page
    numbers = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["folds"][0]["sharpe_annual"] is None


def test_the_number_of_trials_deflates_the_sharpe_ratio(tmp_path, arguments, context):
    tried = replace(context, trials=Trials(40, 0.01))
    report = write_report(tmp_path / "r", **{**arguments, "context": tried})
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "after 40 trials" in page
    assert report.deflated_sharpe < report.strategy.sharpe_above_zero_probability


def charts_of(page):
    text = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page)[1]
    return {chart["key"]: chart for chart in json.loads(text)}


def test_the_charts_end_where_the_backtest_ends(tmp_path, arguments):
    report = write_report(tmp_path / "r", **arguments)
    drawn = charts_of((tmp_path / "r" / "report.html").read_text(encoding="utf-8"))
    assert set(drawn) == {
        *("equity", "drawdown", "returns", "sharpe", "turnover", "costs", "exposure")
    }
    result = arguments["result"]
    assert drawn["equity"]["x"][-1] == result.end_time / 1_000
    assert drawn["equity"]["lines"][0]["y"][-1] == pytest.approx(result.equity_T[-1], rel=1e-4)
    deepest = min(drawn["drawdown"]["lines"][0]["y"])
    assert deepest == pytest.approx(report.strategy.max_drawdown_fraction, rel=1e-4)
    counted = [v for line in drawn["returns"]["lines"] for v in line["y"] if v is not None]
    assert sum(counted) == result.active_T.sum()
    for chart in drawn.values():
        assert {len(line["y"]) for line in chart["lines"]} == {len(chart["x"])}


def test_names_are_escaped(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "Best &lt;symbol&gt;" in page
    assert "BTC &amp; co" in page


def test_a_name_cannot_end_the_script_that_holds_the_charts(
    tmp_path, arguments, random_walk, random_weights
):
    evil = "</script><b>"
    other = simulate(random_weights(60), random_walk(60), Costs())
    write_report(tmp_path / "r", **arguments, baselines={evil: other})
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert evil not in page
    assert charts_of(page)["equity"]["lines"][2]["label"] == evil


def test_only_a_synthetic_market_is_called_one(tmp_path, arguments, context):
    write_report(tmp_path / "synthetic", **arguments)
    real = ReportContext(Interval.HOUR_1, Costs(), 24, "7", synthetic=False)
    write_report(tmp_path / "real", **{**arguments, "context": real})
    assert "SYNTHETIC" in (tmp_path / "synthetic" / "report.html").read_text(encoding="utf-8")
    assert "ynthetic" not in (tmp_path / "real" / "report.html").read_text(encoding="utf-8")


def test_the_numbers_are_json_without_nan(tmp_path, arguments):
    report = write_report(tmp_path / "r", **arguments)
    numbers = json.loads(
        (tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert numbers["strategy"] == report.strategy.as_json()
    assert numbers["buy_and_hold"] == report.buy_and_hold.as_json()
    assert numbers["prediction_quality"]["MSE over zero forecast"] is None
    total = pytest.approx(report.strategy.total_return_fraction)
    assert sum(numbers["net_pnl_by_symbol"].values()) == total
    assert numbers["assumptions"]["synthetic"] is True


def test_equal_inputs_make_equal_bytes(tmp_path, arguments):
    for name in ("first", "second", "second"):  # the third replaces the second
        write_report(tmp_path / name, **arguments)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_a_report_that_fails_leaves_the_old_one(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    with pytest.raises(AttributeError):
        write_report(tmp_path / "r", **{**arguments, "predictions": "no table"})
    assert len(list((tmp_path / "r").iterdir())) == 4


def test_the_picture_names_no_software_and_no_date(arguments):
    strategy = summarise(arguments["result"], 8_760)
    png = four_panel(arguments["result"], arguments["benchmark"], strategy)
    assert png.startswith(b"\x89PNG")
    assert png[16:24] == (2100).to_bytes(4) + (1500).to_bytes(4)
    for chunk in (b"tEXt", b"tIME", b"iTXt"):
        assert chunk not in png


def test_a_strategy_without_a_position_can_be_drawn(random_walk):
    prices = random_walk(20)
    result = simulate(np.zeros((20, 3)), prices, Costs())
    metrics = summarise(result, 8_760)
    assert four_panel(result, buy_and_hold(prices, Costs()), metrics, synthetic=True)


def test_a_benchmark_of_other_bars_is_refused(tmp_path, arguments, random_walk):
    other = buy_and_hold(random_walk(61), Costs())
    with pytest.raises(InvalidInput, match="other bars"):
        write_report(tmp_path / "r", **{**arguments, "benchmark": other})


def test_a_benchmark_of_other_symbols_is_refused(tmp_path, arguments, random_walk):
    other = buy_and_hold(random_walk(60, 2), Costs())
    with pytest.raises(InvalidInput, match="the benchmark holds"):
        write_report(tmp_path / "r", **{**arguments, "benchmark": other})


def test_an_interval_that_is_not_the_bars_is_refused(tmp_path, arguments):
    wrong = ReportContext(Interval.DAY_1, Costs(), 24, "7", synthetic=True)
    with pytest.raises(InvalidInput, match="3600000 ms long: expected 86400000 ms"):
        write_report(tmp_path / "r", **{**arguments, "context": wrong})


def test_a_horizon_below_one_bar_is_refused():
    with pytest.raises(InvalidConfig, match="horizon is 0"):
        ReportContext(Interval.HOUR_1, Costs(), 0, "7", synthetic=True)
