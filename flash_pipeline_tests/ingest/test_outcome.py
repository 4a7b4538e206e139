from dataclasses import replace

import pytest

from flash_pipeline.errors import EmptyMonth, UnknownSymbol
from flash_pipeline.ingest import KlineRefresh, MonthSummary, combine, refuse_empty
from flash_pipeline.market import Month, parse_instant

MAY, JUNE = Month(2024, 5), Month(2024, 6)


def outcome(source: str, symbol: str, now: str, **causes: int) -> KlineRefresh:
    months = tuple(MonthSummary(symbol, month, 700, 720) for month in (MAY, JUNE))
    clock = parse_instant(now)
    return KlineRefresh(source, clock, False, 3, 2, 1, months, causes, {source: clock})


def test_rows_and_missing_candles_are_summed_over_symbols_and_months():
    done = outcome("bybit", "BTCUSDT", "2024-06-20", exchange_gap=40)
    assert (done.rows, done.missing) == (1400, 40)


def test_the_span_ends_at_the_clock():
    done = outcome("bybit", "BTCUSDT", "2024-06-20")
    assert done.span == (MAY.time_range.start, parse_instant("2024-06-20"))
    assert KlineRefresh("bybit", 0, False, 0, 0, 0, (), {}).span is None


def test_sources_add_up_and_each_keeps_its_clock():
    together = combine(
        [
            outcome("bybit", "BTCUSDT", "2024-06-20T10:00Z", exchange_gap=1, delisted=2),
            outcome("yahoo", "SPX", "2024-06-20T09:00Z", exchange_gap=4, market_closed=8),
        ]
    )
    assert together.source == "bybit, yahoo"
    assert together.now == parse_instant("2024-06-20T10:00Z")
    assert together.clocks == {
        "bybit": parse_instant("2024-06-20T10:00Z"),
        "yahoo": parse_instant("2024-06-20T09:00Z"),
    }
    assert (together.requests, together.files_written, together.revisions) == (6, 4, 2)
    assert together.missing_by_cause == {"exchange_gap": 5, "delisted": 2, "market_closed": 8}
    assert [(s.month, s.symbol) for s in together.months] == [
        (MAY, "BTCUSDT"),
        (MAY, "SPX"),
        (JUNE, "BTCUSDT"),
        (JUNE, "SPX"),
    ]
    assert together.rows == 2800


def bare(symbol: str, may: int, june: int, continuous: bool = True) -> KlineRefresh:
    months = (MonthSummary(symbol, MAY, may, 720), MonthSummary(symbol, JUNE, june, 720))
    now = parse_instant("2024-06-20")
    return KlineRefresh("bybit", now, False, 1, 0, 0, months, {}, continuous=continuous)


def test_a_month_is_empty_only_where_no_source_has_a_candle():
    share = bare("SPX", 0, 5, continuous=False)
    refuse_empty(combine([bare("BTCUSDT", 7, 7), share]))
    with pytest.raises(EmptyMonth, match=r"2024-05 is empty: .*BTCUSDT, SPX"):
        refuse_empty(combine([bare("BTCUSDT", 0, 7), share]))


def test_a_month_of_closed_markets_alone_may_not_have_begun_to_trade():
    refuse_empty(bare("SPX", 7, 0, continuous=False))
    with pytest.raises(EmptyMonth, match="2024-06"):
        refuse_empty(bare("BTCUSDT", 7, 0))


def test_symbols_that_no_source_knows_are_named_together():
    lost = replace(bare("BTCUSDT", 7, 7), unknown=("AUSDT", "BUSDT"))
    with pytest.raises(UnknownSymbol, match="'AUSDT', 'BUSDT'"):
        refuse_empty(combine([lost, bare("SPX", 1, 1)]))
