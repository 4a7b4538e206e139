"""Candles, funding and mark prices of the embedded exchange, over HTTP."""

from collections import Counter

import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import EmptyMonth, UnknownSymbol
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.ingest import (
    Ledger,
    MarkPrices,
    audit_completeness,
    audit_funding,
    audit_klines,
    refresh_funding,
    refresh_klines,
)
from flash_pipeline.market import MARK_CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore

NOW = parse_instant("2024-06-03T10:20Z")
BOTH = ("BTCUSDT", "ETHUSDT")
MAY, JUNE = Month(2024, 5), Month(2024, 6)
CANDLES = 31 * 24 + 58


@pytest.fixture(scope="module")
def client():
    with embedded_exchange(clock=Clock(NOW, speed=0)) as url, BybitClient(url) as client:
        yield client


@pytest.fixture
def requests(client, monkeypatch):
    """Count the requests by route."""
    counts = Counter()
    get = client._transport.get

    def counted(path, *arguments, **options):
        counts[path] += 1
        return get(path, *arguments, **options)

    monkeypatch.setattr(client._transport, "get", counted)
    return counts


def test_the_simulated_market_is_stored_without_a_hole(client, store, tmp_path, requests):
    ledger = Ledger(tmp_path / "warehouse.duckdb", client.name, Interval.HOUR_1)
    done = refresh_klines(client, store, BOTH, MAY, JUNE, ledger=ledger)
    assert (done.rows, done.missing, done.synthetic) == (2 * CANDLES, 0, True)
    closed_end = parse_instant("2024-06-03T10:00Z")
    assert audit_klines(store, BOTH, closed_end=closed_end) == []
    assert audit_completeness(store, BOTH, {}, closed_end=closed_end) == []
    assert not ledger.warehouse.exists()
    assert requests == {"/v5/market/time": 1, "/v5/market/kline": 2}


def test_a_tick_costs_one_request_a_symbol_and_the_clock(client, store, requests):
    refresh_klines(client, store, BOTH, JUNE, JUNE)
    requests.clear()
    done = refresh_klines(client, store, BOTH, JUNE, JUNE)
    assert requests == {"/v5/market/time": 1, "/v5/market/kline": 2}
    assert (done.requests, done.files_written) == (2, 0)


def test_a_month_before_the_listing_names_the_first_candle(client, store):
    with pytest.raises(EmptyMonth, match=r"2020-03 is empty: .*ETHUSDT.*first candles: ETHUSDT 20"):
        refresh_klines(client, store, ["ETHUSDT"], Month(2020, 3), Month(2020, 3))
    assert not store.folder.exists()


def test_an_unknown_symbol_is_named(client, store):
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT'"):
        refresh_klines(client, store, ["BTCUSDT", "NOPEUSDT"], JUNE, JUNE)


def test_the_mark_price_of_every_candle_is_stored(client, tmp_path):
    store = KlineStore(tmp_path / "mark_klines", Interval.HOUR_1, MARK_CANDLE_SCHEMA)
    done = refresh_klines(MarkPrices(client), store, BOTH, MAY, JUNE, require_candles=False)
    assert (done.rows, done.missing) == (2 * CANDLES, 0)
    assert audit_klines(store, BOTH, closed_end=NOW) == []


def test_funding_is_stored_to_the_newest_settlement(client, tmp_path):
    store = FundingStore(tmp_path / "funding")
    done = refresh_funding(client, store, BOTH, MAY, JUNE)
    assert done.rows == dict.fromkeys(BOTH, 31 * 3 + 8)
    assert store.read_all("BTCUSDT")["funding_time"][-1].as_py() == parse_instant(
        "2024-06-03T08:00Z"
    )
    assert audit_funding(store, BOTH) == []
