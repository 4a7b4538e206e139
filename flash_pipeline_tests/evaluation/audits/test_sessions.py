"""A coin that trades around the clock beside a share that does not."""

import dataclasses

import numpy as np
import pyarrow.compute as pc
import pytest

from flash_pipeline.evaluation.audits import Candles, audit_model
from flash_pipeline.market import Interval, Month, month_range
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import chronological_split
from flash_pipeline_tests.evaluation.audits.conftest import (
    HORIZON,
    LOOKBACK,
    SYMBOLS,
    candle_table,
    hour,
)

HOURS = 1700


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Candles of which the second symbol's market closes at night, stored by month."""
    tables = {symbol: candle_table(seed, HOURS) for seed, symbol in enumerate(SYMBOLS)}
    share = tables[SYMBOLS[1]]
    hours = (share["start_time"].to_numpy() - hour(0)) // 3_600_000 % 24
    tables[SYMBOLS[1]] = share.filter((hours >= 14) & (hours <= 20))
    store = KlineStore(tmp_path_factory.mktemp("sessions") / "klines", Interval.HOUR_1)
    for symbol, table in tables.items():
        for month in month_range(Month(2024, 1), Month(2024, 3)):
            start, span = table["start_time"], month.time_range
            own = pc.and_(pc.greater_equal(start, span.start), pc.less(start, span.end))
            store.write_month(symbol, month, table.filter(own), synthetic=True)
    return store, Candles(tables, Interval.HOUR_1, sessional=SYMBOLS[1:])


def test_a_market_that_closes_passes_every_audit_that_knows_of_it(market, make_recipe):
    store, candles = market
    frame = candles.frame(LOOKBACK, HORIZON, synthetic=True)
    recipe = make_recipe()
    bundle = train(frame, chronological_split(frame, recipe.split), recipe).bundle
    results = audit_model("3", bundle, frame, store, None, sessional=SYMBOLS[1:])
    assert [each.audit for each in results] == [
        "future",
        "warm-up",
        "scaling",
        "labels",
        "shift",
        "live",
    ]
    assert all(each.passed and each.checked for each in results), results
    ignorant = audit_model("3", bundle, frame, store, None)
    assert not all(each.passed for each in ignorant)


def test_what_needs_candles_that_are_not_stored_is_not_checked(market, make_recipe):
    store, candles = market
    gone = {**candles.tables, SYMBOLS[1]: candles.tables[SYMBOLS[1]].slice(0, 350)}
    frame = dataclasses.replace(candles, tables=gone).frame(LOOKBACK, HORIZON, synthetic=True)
    recipe = make_recipe()
    bundle = train(frame, chronological_split(frame, recipe.split), recipe).bundle
    traded = KlineStore(store.folder.with_name("delisted"), Interval.HOUR_1)
    for symbol, table in gone.items():
        for month in (Month(2024, 1), Month(2024, 2), Month(2024, 3)):
            start, span = table["start_time"].to_numpy(), month.time_range
            own = np.logical_and(start >= span.start, start < span.end)
            traded.write_month(symbol, month, table.filter(own), synthetic=True)
    results = {each.audit: each for each in audit_model("3", bundle, frame, traded, None)}
    assert not results["live"].checked
    assert results["live"].words == (
        f"not checked: no candles of {SYMBOLS[1]} are stored for an audit"
    )
    assert not any(each.failed for each in results.values())
