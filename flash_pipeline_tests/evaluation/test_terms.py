"""Shape letters: T bars, S symbols."""

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.backtest import Account, Costs, Prices
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.evaluation import Terms
from flash_pipeline.evaluation.terms import open_venue

HOUR_MS = 3_600_000
BARS = 40
FREE = Costs(fee_rate=0.0, slippage_rate=0.0)


@pytest.fixture
def prices():
    """Two symbols at about 100, each turning over a million."""
    walk_TS = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, (BARS + 1, 2)), axis=0))
    open_TS, close_TS = 100 * walk_TS[:-1], 100 * walk_TS[1:]
    return Prices(
        HOUR_MS * np.arange(BARS),
        open_TS,
        close_TS,
        ("BTCUSDT", "AAPL"),
        low_TS=np.minimum(open_TS, close_TS),
        high_TS=np.maximum(open_TS, close_TS),
        turnover_TS=np.full((BARS, 2), 1e6),
    )


def weights(value):
    return np.full((BARS, 2), value)


def instruments(**changes):
    row = {"symbol": "BTCUSDT", "qty_step": 0.0, "min_order_qty": 0.0, "min_notional_value": None}
    return pa.Table.from_pylist([{**row, **changes}])


def settled(rate):
    hours = [0, 8, 16, 24, 32]
    return pa.table(
        {
            "symbol": ["BTCUSDT"] * 5,
            "funding_time": pa.array([hour * HOUR_MS for hour in hours], pa.int64()),
            "rate": [rate] * 5,
        }
    )


def test_the_funding_is_charged_and_what_has_none_is_named(prices):
    venue = open_venue(Terms(FREE, funding=settled(0.001)), prices)
    paid_S = venue.trade(weights(0.5)).funding_paid_TS.sum(axis=0)
    assert paid_S[0] > 4 * 0.0004
    assert paid_S[1] == 0
    assert venue.funding.told == "charged at settlement; not charged to AAPL: none is stored"


def test_without_settlements_the_report_can_say_that_none_are_charged(prices):
    venue = open_venue(Terms(FREE, funding=settled(0.001).slice(0, 0)), prices)
    assert venue.trade(weights(0.5)).funding_TS is None
    assert venue.funding.told == "not charged: no settlement is stored"


def test_orders_come_in_the_lots_of_the_instruments(prices):
    # Half of 1,000 is 5 whole units of about 100.
    terms = Terms(FREE, Account(capital=1_000), instruments=instruments(qty_step=1.0))
    venue = open_venue(terms, prices)
    order_S = venue.trade(weights(0.5)).orders_TS[1] * 1_000 / prices.open_TS[1]
    assert order_S[0] == pytest.approx(round(order_S[0]))
    assert order_S[1] * prices.open_TS[1, 1] == pytest.approx(500)
    assert dict(venue.remarks)["Lots"].endswith("any fraction of AAPL")


def test_orders_below_the_minimum_notional_are_not_made(prices):
    terms = Terms(FREE, Account(capital=1_000), instruments=instruments(min_notional_value=600.0))
    assert not open_venue(terms, prices).trade(weights(0.5)).orders_TS[:, 0].any()


def test_weights_are_cut_to_the_caps_that_are_asked_for(prices):
    venue = open_venue(Terms(FREE, gross_cap=0.6, symbol_cap=0.4), prices)
    result = venue.trade(weights(0.5))
    np.testing.assert_allclose(result.orders_TS[1], [0.3, 0.3])
    assert dict(venue.remarks)["Gross cap"].startswith("0.6 times the equity")


def test_a_cap_raises_no_models_own(prices):
    venue = open_venue(Terms(FREE, gross_cap=3.0), prices)
    with pytest.raises(InvalidInput, match=r"gross weight at bar 1 .* is 1.6: above the cap of 1"):
        venue.trade(np.concatenate([weights(0.5)[:1], weights(0.8)[1:]]))


def test_weights_that_are_no_numbers_are_refused_with_bar_and_symbol(prices):
    holed = weights(0.5)
    holed[7, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"target weight of AAPL at bar 7 .* is nan"):
        open_venue(Terms(FREE), prices).trade(holed)


def test_a_price_of_zero_where_a_position_is_held_is_refused(prices):
    for name in ("open_TS", "close_TS", "low_TS", "high_TS"):
        getattr(prices, name)[9, 0] = 0.0
    with pytest.raises(InvalidInput, match=r"open of BTCUSDT at bar 9 .* is 0.0"):
        open_venue(Terms(FREE), prices).trade(weights(0.5))


def test_nothing_is_held_before_a_first_close(prices):
    for name in ("open_TS", "close_TS", "low_TS", "high_TS"):
        getattr(prices, name)[:10, 1] = np.nan
    held_TS = open_venue(Terms(FREE), prices).trade(weights(0.5)).weights_TS
    assert not held_TS[:11, 1].any()
    assert held_TS[11:, 1].all()


def test_what_is_held_over_a_hole_is_kept_on_the_same_terms_by_all(prices):
    holed = (slice(12, 27), 1)
    for name in ("open_TS", "close_TS", "low_TS", "high_TS", "turnover_TS"):
        getattr(prices, name)[holed] = np.nan
        getattr(prices, name)[27:, 1] *= 0.4
    venue = open_venue(Terms(Costs(impact=1.0), funding=settled(0.0)), prices.carried_forward())
    wanted_TS = weights(0.5)
    wanted_TS[12:27, 1] = 0.0  # no forecast of what has no bar
    result = venue.trade(wanted_TS)
    assert not result.orders_TS[holed].any()
    assert result.returns_T[27] < -0.25
    assert venue.buy_and_hold().returns_T[27] < -0.25


@pytest.mark.parametrize("unknown", [np.nan, 0.0])
def test_a_symbol_without_turnover_has_no_impact_and_is_named(prices, unknown):
    prices.turnover_TS[:, 1] = unknown
    venue = open_venue(Terms(Costs(fee_rate=0.0, slippage_rate=0.0, impact=1.0)), prices)
    paid_S = venue.trade(weights(0.5)).costs_paid_TS.sum(axis=0)
    assert paid_S[0] > 0 == paid_S[1]
    assert dict(venue.remarks)["No market impact"] == "of AAPL: no turnover is known"


def test_before_the_first_known_turnover_that_one_stands_in(prices):
    whole = open_venue(Terms(Costs(impact=1.0)), prices).trade(weights(0.5))
    prices.turnover_TS[:5] = np.nan
    holed = open_venue(Terms(Costs(impact=1.0)), prices).trade(weights(0.5))
    np.testing.assert_array_equal(holed.costs_T, whole.costs_T)


def test_buying_and_holding_pays_the_same_funding(prices):
    held = open_venue(Terms(FREE, funding=settled(0.001)), prices).buy_and_hold()
    assert held.funding_paid_TS[:, 0].sum() > 4 * 0.0004


@pytest.mark.parametrize("cap", [0.0, -1.0, np.nan])
def test_a_cap_that_is_no_positive_number_is_refused(cap):
    with pytest.raises(InvalidConfig, match=r"symbol_cap is .* expected a number above 0"):
        Terms(symbol_cap=cap)


def test_what_cannot_be_read_is_told_and_not_charged(prices):
    terms = Terms(FREE, unread={"Lots": "a.parquet is cut", "Funding": "b.parquet is cut"})
    venue = open_venue(terms, prices)
    assert (venue.funding.rate_TS, venue.account.lots) == (None, None)
    assert venue.funding.told == "not charged: b.parquet is cut"
    assert ("Lots", "any fraction: a.parquet is cut") in venue.remarks
