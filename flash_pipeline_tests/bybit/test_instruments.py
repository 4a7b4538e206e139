import pytest

from flash_pipeline.bybit import (
    INSTRUMENT_SCHEMA,
    BybitClient,
    fetch_instruments,
    store_instruments,
)
from flash_pipeline.errors import MalformedAnswer, UnknownSymbol
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import parse_instant

# What the documentation shows for 2025-01-02, less the fields that are not read.
BITCOIN = {
    "symbol": "BTCUSDT",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "launchTime": "1585526400000",
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
    "fundingInterval": 480,
}


@pytest.fixture
def fetch(scripted, envelope):
    """Fetch the one instrument that the exchange describes."""

    def fetch(spec):
        client, _ = scripted(envelope({"category": "linear", "list": [spec]}))
        return fetch_instruments(client, ["BTCUSDT"])

    return fetch


def test_a_specification_becomes_a_typed_row(fetch):
    table = fetch(BITCOIN)
    assert table.schema.equals(INSTRUMENT_SCHEMA)
    assert table.to_pylist() == [
        {
            "symbol": "BTCUSDT",
            "base_coin": "BTC",
            "quote_coin": "USDT",
            "status": "Trading",
            "launch_time": 1585526400000,
            "tick_size": 0.1,
            "qty_step": 0.001,
            "min_order_qty": 0.001,
            "min_notional_value": 5.0,
            "funding_interval": 480,
        }
    ]


@pytest.mark.parametrize("minimum", [{}, {"minNotionalValue": ""}])
def test_an_older_specification_without_a_minimal_value_is_read(fetch, minimum):
    lot = {"minOrderQty": "0.001", "qtyStep": "0.001", **minimum}
    (row,) = fetch({**BITCOIN, "lotSizeFilter": lot}).to_pylist()
    assert row["min_notional_value"] is None


@pytest.mark.parametrize("field", sorted(set(BITCOIN) - {"symbol"}))
@pytest.mark.parametrize("value", [None, [], {}, float("inf"), float("nan")])
def test_a_garbled_field_is_malformed(fetch, field, value):
    with pytest.raises(MalformedAnswer, match="BTCUSDT"):
        fetch({**BITCOIN, field: value})


@pytest.mark.parametrize(
    "garbled",
    [
        {"launchTime": "soon"},
        {"launchTime": 1585526400000},
        {"fundingInterval": "eight hours"},
        {"fundingInterval": 10**30},
        {"baseCoin": 7},
        {"priceFilter": "0.10"},
        {"priceFilter": {"tickSize": 0.1}},
        {"priceFilter": {"tickSize": ""}},
        {"lotSizeFilter": {**BITCOIN["lotSizeFilter"], "qtyStep": "nan"}},
        {"lotSizeFilter": {**BITCOIN["lotSizeFilter"], "minNotionalValue": 5}},
    ],
)
def test_a_value_of_another_form_is_malformed(fetch, garbled):
    with pytest.raises(MalformedAnswer, match="BTCUSDT"):
        fetch({**BITCOIN, **garbled})


@pytest.mark.parametrize("field", sorted(set(BITCOIN) - {"symbol"}))
def test_an_absent_field_is_malformed_and_named(fetch, field):
    spec = {name: value for name, value in BITCOIN.items() if name != field}
    with pytest.raises(MalformedAnswer, match=f"BTCUSDT: .*{field}"):
        fetch(spec)


def test_the_embedded_exchange_describes_its_instruments_in_the_order_asked():
    clock = Clock(parse_instant("2025-05-03"), speed=0)
    with embedded_exchange(clock=clock) as url, BybitClient(url) as client:
        table = fetch_instruments(client, ["SUIUSDT", "BTCUSDT"])
        with pytest.raises(UnknownSymbol, match="'NOPEUSDT'"):
            fetch_instruments(client, ["BTCUSDT", "NOPEUSDT"])
    assert table["symbol"].to_pylist() == ["SUIUSDT", "BTCUSDT"]
    assert table["funding_interval"].to_pylist() == [240, 480]


def test_a_stored_file_that_was_cut_off_is_replaced(tmp_path):
    path = tmp_path / "instruments.parquet"
    path.write_bytes(b"PAR1")
    none = INSTRUMENT_SCHEMA.empty_table()
    assert store_instruments(none, path).equals(none)
    assert store_instruments(none, path).equals(none)
