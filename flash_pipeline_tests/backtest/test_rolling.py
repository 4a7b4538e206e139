import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.backtest import Costs, buy_and_hold, simulate
from flash_pipeline.backtest.rolling import (
    by_symbol,
    monthly_returns,
    rolling_mean,
    rolling_rank_ic,
    rolling_sharpe,
    window_ends,
)
from flash_pipeline_tests.backtest.conftest import FIRST_MS, HOUR_MS

DAY_MS = 24 * HOUR_MS


def told(prediction_NS, label_NS):
    n_dates, n_symbols = np.shape(prediction_NS)
    return pa.table(
        {
            "made_at": np.repeat(FIRST_MS + HOUR_MS * np.arange(n_dates), n_symbols),
            "symbol": ["AA", "BB", "CC"][:n_symbols] * n_dates,
            "prediction": pa.array(np.ravel(prediction_NS), from_pandas=True),
            "label": pa.array(np.ravel(label_NS), from_pandas=True),
        }
    )


def test_the_months_compound_to_the_total_return(random_walk):
    hourly = random_walk(80)
    days = replace(hourly, start_time_T=FIRST_MS + DAY_MS * np.arange(80))
    result = buy_and_hold(days, Costs())
    months = monthly_returns(result)
    assert list(months) == [(2024, 1), (2024, 2), (2024, 3)]
    assert math.prod(1 + r for r in months.values()) == pytest.approx(result.equity_T[-1])
    assert months[2024, 1] == pytest.approx(result.equity_T[30] - 1)


def test_windows_end_at_the_first_whole_one_and_at_the_last_bar():
    assert window_ends(10, 4).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert window_ends(3, 4).tolist() == []
    assert len(window_ends(50_000, 720)) == 120


def test_a_rolling_measure_is_that_of_its_window():
    series_T = np.random.default_rng(0).normal(0.001, 0.01, 60)
    ends_W = window_ends(60, 20)
    for w in (0, 7, -1):
        part = series_T[ends_W[w] - 19 : ends_W[w] + 1]
        expected = part.mean() / part.std(ddof=1) * math.sqrt(8_760)
        assert rolling_sharpe(series_T, 20, 8_760)[w] == pytest.approx(expected)
        assert rolling_mean(series_T, 20)[w] == pytest.approx(part.mean())


def test_a_flat_window_has_no_sharpe_ratio():
    assert np.isnan(rolling_sharpe(np.zeros(30), 10, 8_760)).all()


def test_the_rank_ic_is_that_of_the_ranks_and_the_mean_of_the_symbols():
    x_N = np.random.default_rng(0).normal(size=200)
    prediction_NS = np.stack([x_N, x_N], axis=1)
    label_NS = np.stack([np.exp(3 * x_N), -x_N], axis=1)  # one agrees in ranks, one is opposite
    _, ic_W = rolling_rank_ic(told(prediction_NS[:, :1], label_NS[:, :1]), 50 * HOUR_MS)
    np.testing.assert_allclose(ic_W, 1)
    _, ic_W = rolling_rank_ic(told(prediction_NS, label_NS), 50 * HOUR_MS)
    np.testing.assert_allclose(ic_W, 0, atol=1e-12)


def test_missing_labels_and_constant_predictions_have_no_rank_ic():
    constant_NS, label_NS = np.ones((100, 1)), np.random.default_rng(0).normal(size=(100, 1))
    _, ic_W = rolling_rank_ic(told(constant_NS, label_NS), 50 * HOUR_MS)
    assert np.isnan(ic_W).all()
    label_NS[30:] = np.nan
    assert rolling_rank_ic(told(constant_NS, label_NS), 50 * HOUR_MS) is None
    assert rolling_rank_ic(pa.table({"symbol": ["AA"]}), HOUR_MS) is None


def test_the_symbols_add_up_to_the_total(random_walk, random_weights):
    result = simulate(random_weights(50), random_walk(50), Costs())
    rows = by_symbol(result)
    assert [row.symbol for row in rows] == list(result.symbols)
    assert sum(row.net_pnl_fraction for row in rows) == pytest.approx(result.equity_T[-1] - 1)
    assert sum(row.trades_count for row in rows) == result.n_trades
