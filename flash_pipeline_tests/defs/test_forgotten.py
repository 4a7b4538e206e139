"""A symbol that the exchange has forgotten, in a home that holds candles of it."""

import dagster as dg
import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.assets.market_data import instruments, klines
from flash_pipeline.defs.assets.reference import funding, mark_klines, tickers
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.errors import UnknownSymbol
from flash_pipeline.market import Interval, Month
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline_tests.defs.conftest import small_chain

MARCH = Month(2024, 3)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with small_chain(tmp_path_factory.mktemp("forgotten")) as chain:
        yield chain


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


@pytest.fixture
def forgotten(monkeypatch):
    """Let the exchange forget symbols."""

    def forgotten(*symbols):
        def refuse(asked):
            for symbol in [asked] if isinstance(asked, str) else asked:
                if symbol in symbols:
                    raise UnknownSymbol(f"symbol {symbol!r} is unknown", symbol=symbol)

        for name in ("candles", "mark_klines", "funding", "tickers", "instruments", "delisted"):
            call = getattr(BybitClient, name)

            def ask(self, asked, *rest, call=call):
                refuse(asked)
                return call(self, asked, *rest)

            monkeypatch.setattr(BybitClient, name, ask)

    return forgotten


def ingest(chain, *symbols):
    return dg.materialize(
        [instruments, klines, funding, mark_klines, tickers],
        instance=chain.instance,
        tags=range_tags(MARCH, MARCH),
        raise_on_error=False,
        resources={
            "pipeline": PipelineResource(recipe="demo", symbols=list(symbols)),
            "exchange": ExchangeResource(step_retries=0),
        },
    )


def test_the_others_are_refreshed_and_its_candles_stay(chain, forgotten):
    result = ingest(chain, "BTCUSDT", "ETHUSDT")
    assert result.success, failure_reason(result)
    store = KlineStore(chain.settings.klines, Interval.HOUR_1)
    before = store.read_all("ETHUSDT")
    store.path("BTCUSDT", MARCH).unlink()
    forgotten("ETHUSDT")
    result = ingest(chain, "BTCUSDT", "ETHUSDT")
    assert result.success, failure_reason(result)
    assert store.read_all("BTCUSDT").num_rows == before.num_rows
    assert store.read_all("ETHUSDT").equals(before)
    (made,) = result.asset_materializations_for_node("klines")
    assert made.metadata["forgotten_symbols"].value == ["ETHUSDT"]


def test_all_symbols_that_never_were_are_named(chain, forgotten):
    forgotten("AUSDT", "BUSDT")
    reason = failure_reason(ingest(chain, "BTCUSDT", "AUSDT", "BUSDT"))
    assert "'AUSDT', 'BUSDT'" in reason
    assert "not listed" in reason
