import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.backtest import Prices, funding_on_bars, simulate
from flash_pipeline.errors import InvalidInput
from flash_pipeline_tests.backtest.conftest import FIRST_MS, HOUR_MS


@pytest.fixture
def bars(make_prices):
    return lambda n_bars, n_symbols=1: make_prices(*np.ones((2, n_bars, n_symbols)))


def settled(*rows, symbol="BTCUSDT"):
    """Return a table of settlements (hour, rate), the hour in hours after the first bar."""
    return pa.table(
        {
            "symbol": [symbol] * len(rows),
            "funding_time": pa.array([FIRST_MS + int(h * HOUR_MS) for h, _ in rows], pa.int64()),
            "rate": pa.array([rate for _, rate in rows], pa.float64()),
        }
    )


def test_a_settlement_falls_on_the_open_of_its_hour(bars):
    laid_TS = funding_on_bars(settled((0, 0.1), (8, 0.2)), bars(10))
    assert laid_TS[:, 0].tolist() == [0.1] + [0] * 7 + [0.2, 0]


@pytest.mark.parametrize("late_ms", [1, 31, 60_000])
def test_a_jitter_of_milliseconds_is_forgiven(bars, late_ms):
    laid_TS = funding_on_bars(settled((1 + late_ms / HOUR_MS, 0.1)), bars(3), beyond=0.0)
    assert laid_TS[:, 0].tolist() == [0, 0.1, 0]


def test_a_settlement_before_an_open_by_a_little_falls_on_that_open(bars):
    laid_TS = funding_on_bars(settled((0.99999, 0.1)), bars(3), beyond=0.0)
    assert laid_TS[:, 0].tolist() == [0, 0.1, 0]


def test_settlements_within_a_bar_add_up_at_the_next_open():
    days = Prices(FIRST_MS + 24 * HOUR_MS * np.arange(3), np.ones((3, 1)), np.ones((3, 1)), ("BB",))
    table = settled((0, 1.0), (8, 2.0), (16, 4.0), (24, 8.0), (32, 16.0), symbol="BB")
    assert funding_on_bars(table, days, beyond=0.0)[:2, 0].tolist() == [1, 14]


def test_the_order_of_rows_and_other_symbols_do_not_matter(bars):
    table = pa.concat_tables([settled((8, 0.2), (0, 0.1)), settled((0, 9.0), symbol="DOGEUSDT")])
    assert funding_on_bars(table, bars(9))[[0, 8], 0].tolist() == [0.1, 0.2]


def test_bars_of_which_the_table_says_nothing_are_unknown_and_no_position_is_allowed_there(
    bars, free
):
    prices = bars(20, 2)
    laid_TS = funding_on_bars(settled((2, 0.1)), prices)
    assert np.isnan(laid_TS[:2, 0]).all()
    assert laid_TS[2:10, 0].tolist() == [0.1] + [0] * 7
    assert np.isnan(laid_TS[10:, 0]).all()
    assert np.isnan(laid_TS[:, 1]).all()
    with pytest.raises(InvalidInput, match=r"funding rate of BTCUSDT at bar 2 .* is nan"):
        simulate(np.full((20, 2), 0.1), prices, free, funding_TS=np.roll(laid_TS, 1, axis=0))


def test_a_shorter_interval_is_no_hole(bars):
    table = settled(*((h, 0.1) for h in range(0, 12, 4)))
    assert np.isfinite(funding_on_bars(table, bars(16))).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (settled((0, np.nan)), "funding rate of BTCUSDT at 2024-01-01T00:00Z is not a number"),
        (settled((0, 0.1), (0, 0.1)), "BTCUSDT settles twice at 2024-01-01T00:00Z"),
        (settled((0, 0.1), (0.001, 0.1)), "settles twice"),
        (settled((0, 0.1)).drop_columns(["rate"]), "no column rate"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(bars, table, message):
    with pytest.raises(InvalidInput, match=message):
        funding_on_bars(table, bars(3))


@pytest.mark.parametrize("tolerance", [-1, HOUR_MS])
def test_the_tolerance_is_less_than_a_bar(bars, tolerance):
    with pytest.raises(InvalidInput, match=f"tolerance_ms is {tolerance}"):
        funding_on_bars(settled((0, 0.1)), bars(3), tolerance_ms=tolerance)


@pytest.mark.real_data
def test_every_recorded_settlement_is_laid_on_an_hour(real_data):
    recorded = pq.read_table(real_data / "binance_BTCUSDT_funding.parquet")
    names = {"funding_rate": "rate", "fundingRate": "rate", "fundingTime": "funding_time"}
    table = recorded.rename_columns([names.get(name, name) for name in recorded.column_names])
    if "symbol" not in table.column_names:
        table = table.append_column("symbol", pa.array(["BTCUSDT"] * table.num_rows))
    candles = pq.read_table(real_data / "BTCUSDT_60.parquet", columns=["start_time"])
    time_T = candles["start_time"].to_numpy()
    ones_TS = np.ones((len(time_T), 1))
    laid_TS = funding_on_bars(table, Prices(time_T, ones_TS, ones_TS, ("BTCUSDT",)), beyond=0.0)
    assert np.count_nonzero(laid_TS) == np.count_nonzero(table["rate"].to_numpy())
    assert laid_TS.sum() == pytest.approx(table["rate"].to_numpy().sum())
    assert set((time_T[laid_TS[:, 0] != 0] // HOUR_MS % 8).tolist()) == {0}
