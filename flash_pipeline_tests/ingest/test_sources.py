from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from flash_pipeline.errors import InvalidSymbol, SchemaMismatch
from flash_pipeline.exchange import embedded_exchange
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.ingest.sources import SourceRouter, open_sources
from flash_pipeline.market import Interval, Month, iso_utc
from flash_pipeline.settings import YAHOO_URLS, Settings
from flash_pipeline.storage.klines import KlineStore

TICKERS = (("AAPL", "AAPL"), ("SPX", "^GSPC"))
SYMBOLS = ("SPX", "BTCUSDT", "AAPL", "ETHUSDT")


@dataclass(frozen=True)
class Named:
    """A source that says no more than its name and what makes its candles."""

    name: str
    synthetic: bool = False

    def is_synthetic(self):
        return self.synthetic

    def now(self):
        return 7


@pytest.fixture(scope="module")
def embedded():
    with embedded_exchange() as url:
        yield url


@contextmanager
def router_of(tmp_path, embedded_url=None, **settings):
    with open_sources(Settings(home=tmp_path, **settings), embedded_url) as router:
        yield router


def test_symbols_with_a_ticker_are_yahoos_and_all_others_the_exchanges():
    router = SourceRouter(Named("bybit"), Named("yahoo"), dict(TICKERS))
    assert [router.source(symbol).name for symbol in SYMBOLS] == [
        *("yahoo", "bybit", "yahoo", "bybit")
    ]
    assert router.groups(SYMBOLS) == (
        (router.yahoo, ("SPX", "AAPL")),
        (router.bybit, ("BTCUSDT", "ETHUSDT")),
    )


def test_only_the_exchanges_symbols_have_instruments_and_funding():
    router = SourceRouter(Named("bybit"), Named("yahoo"), dict(TICKERS))
    assert router.bybit_symbols(SYMBOLS) == ("BTCUSDT", "ETHUSDT")
    assert router.bybit_symbols(["AAPL"]) == ()


def test_without_tickers_everything_is_the_exchanges(tmp_path, embedded):
    with router_of(tmp_path, embedded) as router:
        assert router.yahoo is None
        assert router.groups(SYMBOLS) == ((router.bybit, SYMBOLS),)


@pytest.mark.parametrize("symbols", [[], ["BTCUSDT", "BTCUSDT"], ["btc"]])
def test_a_list_of_symbols_that_is_none_is_refused(symbols):
    with pytest.raises(InvalidSymbol):
        SourceRouter(Named("bybit")).groups(symbols)


@pytest.mark.parametrize("synthetic", [True, False])
def test_sources_of_one_kind_go_together(synthetic):
    router = SourceRouter(Named("bybit", synthetic), Named("yahoo", synthetic), dict(TICKERS))
    assert router.is_synthetic(SYMBOLS) is synthetic


@pytest.mark.parametrize("simulated", ["bybit", "yahoo"])
def test_simulated_and_real_candles_do_not_mix(simulated):
    sources = [Named(name, name == simulated) for name in ("bybit", "yahoo")]
    router = SourceRouter(*sources, dict(TICKERS))
    with pytest.raises(SchemaMismatch, match=f"{simulated} serves simulated candles"):
        router.groups(SYMBOLS)
    assert router.is_synthetic(["AAPL"]) is (simulated == "yahoo")


def test_months_go_by_the_exchanges_clock():
    assert SourceRouter(Named("bybit"), Named("yahoo"), dict(TICKERS)).now() == 7


def test_a_real_exchange_is_joined_by_the_real_yahoo(tmp_path):
    bybit = ("https://api.bybit.com",)
    assert Settings(home=tmp_path, bybit_urls=bybit).yahoo_urls == YAHOO_URLS
    assert Settings(home=tmp_path).yahoo_urls == ()


def test_without_any_host_there_is_no_source(tmp_path):
    with pytest.raises(ValueError, match="no host"), router_of(tmp_path):
        pass


def test_the_embedded_exchange_serves_both(tmp_path, embedded):
    """What a run does: one refresh for each source, into one folder."""
    interval = Interval.HOUR_1
    store = KlineStore(tmp_path / "klines", interval)
    with router_of(tmp_path, embedded, yahoo_tickers=TICKERS) as router:
        month = Month.containing(router.now()).shift(-1)
        for source, symbols in router.groups(["BTCUSDT", "AAPL"]):
            refresh_klines(source, store, symbols, month, month)
        assert router.is_synthetic(SYMBOLS)
    hours = len(month.time_range.candle_starts(interval))
    coin, share = (store.read_month(symbol, month) for symbol in ("BTCUSDT", "AAPL"))
    assert coin.num_rows == hours
    assert 100 < share.num_rows < 7 * 23
    assert share["turnover"].null_count == share.num_rows
    opened = {iso_utc(start)[11:13] for start in share["start_time"].to_pylist()}
    assert opened <= {f"{hour:02d}" for hour in range(14, 22)}
