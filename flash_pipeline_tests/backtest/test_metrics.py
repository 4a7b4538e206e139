import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from flash_pipeline.backtest import Costs, Metrics, buy_and_hold, drawdown, simulate, summarise
from flash_pipeline.errors import InvalidConfig


@pytest.fixture
def with_returns(make_prices, free):
    """Return a fully invested result whose bars, after the first in cash, return as given."""

    def make(*returns):
        level_T = np.cumprod([100.0, 1.0, *(1 + np.array(returns))])
        prices = make_prices(np.append(100.0, level_T[1:-1]), np.append(100.0, level_T[2:]))
        return simulate(np.ones((len(returns) + 1, 1)), prices, free)

    return make


def test_golden_measures_of_a_vector_worked_out_by_hand(with_returns):
    # Returns 0, +10 %, -10 %, +10 %, with 4 bars in a year.
    metrics = summarise(with_returns(0.10, -0.10, 0.10), 4)
    mean, deviation = 0.025, math.sqrt((0.025**2 + 2 * 0.075**2 + 0.125**2) / 3)
    assert metrics.total_return_fraction == pytest.approx(0.089)
    assert metrics.annual_return_fraction == pytest.approx(0.089)
    assert metrics.annual_volatility_fraction == pytest.approx(2 * deviation)
    assert metrics.sharpe_annual == pytest.approx(2 * mean / deviation)
    assert metrics.sortino_annual == pytest.approx(2 * mean / math.sqrt(0.01 / 4))
    assert metrics.max_drawdown_fraction == pytest.approx(-0.1)
    assert metrics.calmar_ratio == pytest.approx(0.89)
    assert metrics.hit_rate_fraction == pytest.approx(2 / 3)
    assert metrics.time_in_market_fraction == pytest.approx(3 / 4)
    assert metrics.mean_gross_exposure_multiple == pytest.approx(3 / 4)
    assert metrics.turnover_per_year_multiple == pytest.approx(1)
    assert metrics.mean_return_t == pytest.approx(2 * mean / deviation)
    assert (metrics.trades_count, metrics.bars_count, metrics.total_costs_fraction) == (1, 4, 0)
    assert metrics.cost_share_fraction == 0


def test_hourly_bars_are_annualised_with_8760_and_not_with_252(with_returns):
    result = with_returns(0.01, -0.005, 0.01, 0.003)
    hourly, chapter = summarise(result, 8_760), summarise(result, 252)
    assert hourly.sharpe_annual == pytest.approx(
        result.returns_T.mean() / result.returns_T.std(ddof=1) * math.sqrt(8_760)
    )
    assert hourly.sharpe_annual / chapter.sharpe_annual == pytest.approx(math.sqrt(8_760 / 252))


def test_drawdown_counts_the_starting_equity_as_a_peak(with_returns):
    # A strategy that only loses: without the start, its first loss would not count.
    result = with_returns(-0.10, -0.10)
    assert summarise(result, 8_760).max_drawdown_fraction == pytest.approx(0.9**2 - 1)
    np.testing.assert_allclose(drawdown(result), [0, 0, -0.1, -0.19], atol=1e-12)


def test_the_longest_drawdown_is_counted_in_bars_even_if_it_lasts(with_returns):
    assert summarise(with_returns(0.1, -0.1, 0.05, 0.1, -0.1), 1).longest_drawdown_bars == 2
    assert summarise(with_returns(0.1, -0.1, 0.05, 0.01, 0.01), 1).longest_drawdown_bars == 4
    assert summarise(with_returns(0.1, 0.1), 1).longest_drawdown_bars == 0


def test_the_name_of_every_measure_ends_with_its_unit():
    units = ("fraction", "annual", "ratio", "probability", "bars", "multiple", "_t", "count")
    assert [f.name for f in fields(Metrics) if not f.name.endswith(units)] == []


def test_funding_paid_is_a_fraction_of_the_starting_equity(make_prices, free):
    prices = make_prices([1, 1, 1, 1], [1, 1, 1, 1])
    funding_TS = np.array([[0.0], [0.0], [0.01], [0.01]])
    result = simulate(np.full((4, 1), 0.5), prices, free, funding_TS=funding_TS)
    paid = summarise(result, 8_760).total_funding_fraction
    assert paid == pytest.approx(0.005 + 0.995 * 0.005)


def test_the_downside_deviation_is_divided_by_all_bars(with_returns):
    few, many = with_returns(-0.01, 0.02), with_returns(-0.01, 0.02, 0, 0, 0)
    ratio = summarise(many, 1).sortino_annual / summarise(few, 1).sortino_annual
    # Twice the bars at the same sum: half the mean, over a deviation smaller by sqrt(2).
    assert ratio == pytest.approx(math.sqrt(0.5))


def test_hit_rate_leaves_out_bars_in_cash_and_keeps_the_bar_that_closes(make_prices, free):
    prices = make_prices([1, 1, 2, 2, 2], [1, 1, 2, 2, 2])
    target_TS = np.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
    metrics = summarise(simulate(target_TS, prices, free), 8_760)  # the gap into bar 2 wins
    assert metrics.hit_rate_fraction == pytest.approx(1 / 2)
    assert metrics.time_in_market_fraction == pytest.approx(2 / 5)
    assert metrics.mean_gross_exposure_multiple == pytest.approx(1 / 5)


def test_measures_that_are_not_defined_are_nan_and_null_in_json(make_prices):
    result = simulate(np.zeros((5, 1)), make_prices(np.ones(5), np.ones(5)), Costs())
    metrics = summarise(result, 8_760)
    undefined = {
        *("sharpe_annual", "sortino_annual", "calmar_ratio", "sharpe_above_zero_probability"),
        *("skewness_ratio", "raw_kurtosis_ratio", "hit_rate_fraction", "cost_share_fraction"),
        *("mean_return_t", "total_funding_fraction"),
    }
    assert {name for name, value in metrics.items() if math.isnan(value)} == undefined
    written = json.loads(json.dumps(metrics.as_json(), allow_nan=False))
    assert {name for name, value in written.items() if value is None} == undefined
    assert written["total_return_fraction"] == 0


def test_rounding_is_not_taken_for_volatility(make_prices, free):
    level_T = 100 * 1.001 ** np.arange(101)
    result = simulate(np.ones((100, 1)), make_prices(level_T[:-1], level_T[1:]), free)
    held = replace(result, returns_T=result.returns_T[1:], equity_T=result.equity_T[1:])
    held = replace(held, gross_T=result.gross_T[1:], turnover_T=result.turnover_T[1:])
    assert math.isnan(summarise(held, 8_760).sharpe_annual)


def test_ruin_is_a_total_loss(make_prices, free):
    prices = make_prices([1, 1, 3, 3], [1, 1, 3, 3])
    metrics = summarise(simulate(np.full((4, 1), -1.0), prices, free), 8_760)
    assert metrics.total_return_fraction == -1
    assert metrics.annual_return_fraction == -1
    assert metrics.max_drawdown_fraction == -1


def test_a_lucky_bar_compounded_to_infinity_is_null_in_json(with_returns):
    metrics = summarise(with_returns(9.0), 8_760)
    assert math.isinf(metrics.annual_return_fraction)
    assert metrics.as_json()["annual_return_fraction"] is None


def test_costs_add_up_in_units_of_the_starting_equity(random_walk):
    prices = random_walk(20)
    metrics = summarise(buy_and_hold(prices, Costs(0.001, 0.0)), 8_760)
    gross = metrics.total_return_fraction + metrics.total_costs_fraction
    assert metrics.total_costs_fraction == pytest.approx(0.001 / 1.001)
    assert math.isnan(metrics.cost_share_fraction) or metrics.cost_share_fraction == pytest.approx(
        metrics.total_costs_fraction / gross
    )


@pytest.mark.parametrize("bars", [0, -1, math.nan])
def test_bars_per_year_must_be_positive(with_returns, bars):
    with pytest.raises(InvalidConfig, match="bars_per_year is"):
        summarise(with_returns(0.1), bars)
