import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.backtest import Costs, Prices, funding_on_bars, known_funding, simulate
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


def both(first, second):
    return pa.concat_tables([settled(*first), settled(*second, symbol="ETHUSDT")])


def test_known_funding_is_charged_without_a_word_of_doubt(bars):
    table = settled((0, 0.1), (8, 0.2))
    known = known_funding(table, bars(10))
    assert known.told == "charged at settlement"
    np.testing.assert_array_equal(known.rate_TS, funding_on_bars(table, bars(10)))


@pytest.mark.parametrize("table", [settled(), settled((0, 0.1), symbol="XRPUSDT")])
def test_funding_of_which_nothing_is_stored_is_not_charged_and_told(bars, table):
    known = known_funding(table, bars(10))
    assert known.rate_TS is None
    assert known.told == "not charged: no settlement is stored"


def test_past_the_last_settlement_the_last_rate_stands_in_at_the_last_interval(bars):
    # Every 4 hours, the newest at 4 h; bars to 13 h.
    known = known_funding(settled((0, 0.1), (4, 0.2)), bars(14))
    assert np.flatnonzero(known.rate_TS[:, 0]).tolist() == [0, 4, 8, 12]
    assert known.rate_TS[[8, 12], 0].tolist() == [0.2, 0.2]
    told = "2 settlements of 1 symbol from 2024-01-01T08:00Z on at the symbol's last settled rate"
    assert told in known.told


def test_newest_bars_before_the_next_settlement_need_no_stand_in(bars):
    assert known_funding(settled((0, 0.1), (8, 0.2)), bars(16)).told == "charged at settlement"


def test_a_lone_settlement_counts_as_of_every_eight_hours(bars):
    known = known_funding(settled((0, 0.1)), bars(20))
    assert np.flatnonzero(known.rate_TS[:, 0]).tolist() == [0, 8, 16]


def test_bars_before_the_first_settlement_are_free_and_told(bars):
    known = known_funding(settled((16, 0.1), (24, 0.1)), bars(30))
    assert not known.rate_TS[:16].any()
    assert "not charged to BTCUSDT at 16 bars from 2024-01-01T00:00Z" in known.told


def test_of_a_delisted_symbol_nothing_is_due_any_more(bars):
    # The second symbol's last bar is the tenth; its last close is carried on to mark what is held.
    prices = bars(60, 2)
    ended_S = prices.start_time_T[[-1, 9]]
    table = both([(h, 0.1) for h in range(0, 60, 8)], [(0, 0.3), (8, 0.4)])
    known = known_funding(table, prices, ended_S)
    assert known.told == "charged at settlement"
    assert np.flatnonzero(known.rate_TS[:, 1]).tolist() == [0, 8]
    listed = known_funding(table, prices)
    assert "6 settlements of 1 symbol from 2024-01-01T16:00Z on" in listed.told


def test_what_stands_in_before_the_first_bar_is_not_told(bars):
    # Due at -4 h, 0 h, 4 h, 8 h; the first lies before the bars.
    known = known_funding(settled((-12, 0.1), (-8, 0.2)), bars(10))
    assert "3 settlements of 1 symbol from 2024-01-01T00:00Z on" in known.told
    assert np.flatnonzero(known.rate_TS[:, 0]).tolist() == [0, 4, 8]


def test_a_hole_between_settlements_is_free_and_told(bars):
    known = known_funding(settled((0, 0.1), (8, 0.1), (32, 0.1), (40, 0.1)), bars(45))
    assert np.flatnonzero(known.rate_TS[:, 0]).tolist() == [0, 8, 32, 40]
    assert "at 16 bars from 2024-01-01T16:00Z to 2024-01-02T07:00Z: none is stored" in known.told


def test_a_symbol_without_funding_is_named_and_the_others_pay(bars):
    known = known_funding(settled((0, 0.1), (8, 0.1)), bars(10, 2))
    assert known.told.endswith("not charged to ETHUSDT: none is stored")
    assert known.rate_TS.sum(axis=0).tolist() == [0.2, 0]


def test_each_symbol_has_its_own_last_settlement_and_interval(bars):
    table = both([(0, 0.1), (8, 0.1)], [(0, 0.3), (1, 0.4)])
    known = known_funding(table, bars(9, 2))
    assert np.flatnonzero(known.rate_TS[:, 0]).tolist() == [0, 8]
    assert np.flatnonzero(known.rate_TS[:, 1]).tolist() == list(range(9))


def test_simulating_with_known_funding_never_refuses(bars):
    known = known_funding(settled((16, 0.1)), bars(40))
    simulate(np.ones((40, 1)), bars(40), Costs(), funding_TS=known.rate_TS)


def test_funding_that_is_left_out_on_purpose_is_told_as_that(bars):
    known = known_funding(None, bars(10))
    assert (known.rate_TS, known.told) == (None, "not charged, as asked for")
