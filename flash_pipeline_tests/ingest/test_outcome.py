from flash_pipeline.ingest import KlineRefresh, MonthSummary, combine
from flash_pipeline.market import Month, parse_instant

MAY, JUNE = Month(2024, 5), Month(2024, 6)


def outcome(source: str, symbol: str, now: str, **causes: int) -> KlineRefresh:
    months = tuple(MonthSummary(symbol, month, 700, 720) for month in (MAY, JUNE))
    return KlineRefresh(source, parse_instant(now), False, 3, 2, 1, months, causes)


def test_rows_and_missing_candles_are_summed_over_symbols_and_months():
    done = outcome("bybit", "BTCUSDT", "2024-06-20", exchange_gap=40)
    assert (done.rows, done.missing) == (1400, 40)


def test_the_span_ends_at_the_clock():
    done = outcome("bybit", "BTCUSDT", "2024-06-20")
    assert done.span == (MAY.time_range.start, parse_instant("2024-06-20"))
    assert KlineRefresh("bybit", 0, False, 0, 0, 0, (), {}).span is None


def test_sources_add_up_and_the_clock_furthest_behind_counts():
    together = combine(
        [
            outcome("bybit", "BTCUSDT", "2024-06-20T10:00Z", exchange_gap=1, delisted=2),
            outcome("yahoo", "SPX", "2024-06-20T09:00Z", exchange_gap=4, market_closed=8),
        ]
    )
    assert together.source == "bybit, yahoo"
    assert together.now == parse_instant("2024-06-20T09:00Z")
    assert (together.requests, together.files_written, together.revisions) == (6, 4, 2)
    assert together.missing_by_cause == {"exchange_gap": 5, "delisted": 2, "market_closed": 8}
    assert [(s.month, s.symbol) for s in together.months] == [
        (MAY, "BTCUSDT"),
        (MAY, "SPX"),
        (JUNE, "BTCUSDT"),
        (JUNE, "SPX"),
    ]
    assert together.rows == 2800
