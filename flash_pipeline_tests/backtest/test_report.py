import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.backtest import (
    Costs,
    ReportContext,
    buy_and_hold,
    four_panel,
    simulate,
    summarise,
    write_report,
)
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.market import Interval

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
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(?!data:)[\w/.]""", page)
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert 'src="data:image/png;base64,' in page


def test_the_page_leads_with_a_verdict_and_states_its_assumptions(tmp_path, arguments):
    report = write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert page.index(report.verdict.headline) < page.index("<img") < page.index("Sharpe ratio")
    for text in (
        "0.0550% of the traded notional",
        "0.0200% of the traded notional",
        "next bar&#39;s open",
        "each with 1/24 of the capital",
        "8,760 bars per year",
        "60 of 60 minutes",
        "not included",
        "model version 7",
        "0.0123",
        "n/a",
    ):
        assert text in page, text


def test_names_are_escaped(tmp_path, arguments):
    write_report(tmp_path / "r", **arguments)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "Best &lt;symbol&gt;" in page
    assert "BTC &amp; co" in page


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
    assert numbers["buy_and_hold"]["total_return"] == report.buy_and_hold.total_return
    assert numbers["prediction_quality"]["MSE over zero forecast"] is None
    assert sum(numbers["net_pnl_by_symbol"].values()) == pytest.approx(report.strategy.total_return)
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
