"""A market that closes: windows are of rows, since it never has 24 hours in a row."""

import numpy as np
import pytest

from flash_pipeline.features import CATALOG, FEATURE_NAMES, read_features, refresh_features
from flash_pipeline.market import Interval, Month, parse_instant
from flash_pipeline.windows import panel_from_features

HOUR = 3_600_000
JUNE, JULY = Month(2024, 6), Month(2024, 7)
DAYS = 30
NIGHTS = [n for n in range(24 * DAYS) if not 14 <= n % 24 <= 20 or n // 24 % 7 in (0, 1)]
"""Hours of June 2024, which begins with a weekend, in which New York is closed."""


@pytest.fixture
def share(write, walk):
    """Store a coin that trades around the clock and a share that does not."""
    write(walk(24 * DAYS), "BTCUSDT")
    candles = walk(24 * DAYS, seed=2, absent=NIGHTS)
    write(candles, "AAPL")
    return candles


@pytest.fixture
def refreshed(connection, store):
    """Compute the features of months, the share's by its sessions."""

    def refreshed(first=JUNE, last=JUNE, symbols=("BTCUSDT", "AAPL")):
        return refresh_features(connection, store, symbols, first, last, sessional=["AAPL"])

    return refreshed


def test_each_candle_has_a_row_and_no_night_has_one(share, refreshed, values):
    refreshed()
    assert values("AAPL")["start_time"].tolist() == share["start_time"].to_pylist()


def test_a_value_is_known_once_there_are_rows_enough(share, refreshed, values):
    refreshed()
    found = values("AAPL")
    for feature in CATALOG:
        known = ~np.isnan(found[feature.name])
        assert known.tolist() == [n >= feature.warmup - 1 for n in range(len(known))]


def test_values_are_those_of_the_same_candles_in_a_row(share, refreshed, values, write, recomputed):
    refreshed()
    found = values("AAPL")
    start = parse_instant("2024-06-01")
    in_a_row = [{**row, "start_time": start + n * HOUR} for n, row in enumerate(share.to_pylist())]
    write(share.from_pylist(in_a_row, schema=share.schema), "DENSE")
    dense = recomputed(symbol="DENSE")
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(found[name], dense[name], rtol=1e-12)


def test_a_change_over_a_night_is_that_from_the_last_close(share, refreshed, values):
    refreshed()
    found = values("AAPL")
    returns = np.log(found["close"][1:] / found["close"][:-1])
    np.testing.assert_allclose(found["log_return"][1:], returns, rtol=1e-12)


def test_a_coin_beside_it_has_windows_of_time_as_ever(write, walk, share, refreshed, values):
    write(walk(24 * DAYS, absent=[100]), "BTCUSDT")
    refreshed()
    assert np.isnan(values("BTCUSDT")["volatility"][100:124]).all()


def test_without_the_word_that_it_closes_a_share_has_no_windows(share, connection, store, values):
    refresh_features(connection, store, ["AAPL"], JUNE, JUNE)
    assert np.isnan(values("AAPL")["volatility"]).all()


def test_the_panel_is_valid_where_the_market_was_open(share, refreshed, connection):
    refreshed()
    table = read_features(connection, ["BTCUSDT", "AAPL"], 0)
    panel = panel_from_features(table, ("BTCUSDT", "AAPL"), FEATURE_NAMES, Interval.HOUR_1)
    opened = np.isin(panel.start_time_T, share["start_time"].to_numpy())
    warm = panel.start_time_T >= share["start_time"][24].as_py()
    assert panel.valid_TS[:, 0].all()
    np.testing.assert_array_equal(panel.valid_TS[:, 1], opened & warm)
    np.testing.assert_array_equal(np.isnan(panel.close_TS[:, 1]), ~opened)
    assert np.isnan(panel.x_TSF[~opened, 1]).all()
    assert np.isfinite(panel.forward_log_return(24)[opened, 1]).any()


def test_a_new_month_is_warmed_up_by_the_last_rows_of_the_one_before(
    share, write, walk, refreshed, values, connection, store
):
    refreshed()
    later = walk(24 * DAYS, "2024-07-01", seed=3, absent=NIGHTS)
    write(later, "AAPL")
    refreshed(JULY, JULY, ["AAPL"])
    appended = values("AAPL")
    assert np.isfinite(appended["volatility"][-later.num_rows :]).all()
    connection.execute("DELETE FROM features")
    refreshed(JUNE, JULY, ["AAPL"])
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(values("AAPL")[name], appended[name], rtol=1e-9)


def test_a_refresh_again_computes_nothing(share, refreshed):
    refreshed()
    assert refreshed().rewritten == 0
