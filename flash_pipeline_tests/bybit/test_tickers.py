import pytest

from flash_pipeline.bybit import TICKER_SCHEMA
from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer

FIELDS = {
    "lastPrice": "68641.30",
    "markPrice": "68649.90",
    "indexPrice": "68650.75",
    "bid1Price": "68641.20",
    "ask1Price": "68641.30",
    "price24hPcnt": "0.008797",
    "volume24h": "115859.1120",
    "turnover24h": "7940401914.5025",
    "openInterest": "69655.813",
    "fundingRate": "-0.0001",
    "nextFundingTime": "1730736000000",
}


def _row(symbol: str = "BTCUSDT", **changed: object) -> dict[str, object]:
    return {"symbol": symbol, **FIELDS, "predictedDeliveryPrice": "", **changed}


def test_one_request_serves_all_symbols_in_the_order_asked(scripted, envelope):
    rows = [_row(symbol) for symbol in ("AUSDT", "BUSDT", "CUSDT", "DUSDT")]
    client, script = scripted(envelope({"category": "linear", "list": rows}))
    table = client.tickers(["DUSDT", "BUSDT"])
    assert table["symbol"].to_pylist() == ["DUSDT", "BUSDT"]
    assert [call.query for call in script.asked] == [{"category": "linear"}]
    assert script.asked[0].path == "/v5/market/tickers"


def test_one_symbol_is_asked_for_by_its_name(scripted, envelope):
    client, script = scripted(envelope({"list": [_row()]}))
    client.tickers(["BTCUSDT"])
    assert script.asked[0].query == {"category": "linear", "symbol": "BTCUSDT"}


def test_fields_become_typed_columns(scripted, envelope):
    client, _ = scripted(envelope({"list": [_row()]}))
    table = client.tickers(["BTCUSDT"])
    assert table.schema.equals(TICKER_SCHEMA, check_metadata=True)
    assert table.to_pylist() == [
        {
            "symbol": "BTCUSDT",
            "time": 1746288000500,
            "last_price": 68641.3,
            "mark_price": 68649.9,
            "index_price": 68650.75,
            "bid_price": 68641.2,
            "ask_price": 68641.3,
            "price_change_24h": 0.008797,
            "volume_24h": 115859.112,
            "turnover_24h": 7940401914.5025,
            "open_interest": 69655.813,
            "funding_rate": -0.0001,
            "next_funding_time": 1730736000000,
        }
    ]


def test_empty_strings_are_null(scripted, envelope):
    client, _ = scripted(envelope({"list": [_row(**dict.fromkeys(FIELDS, ""))]}))
    (row,) = client.tickers(["BTCUSDT"]).to_pylist()
    assert {name for name, value in row.items() if value is not None} == {"symbol", "time"}


def test_a_symbol_without_a_ticker_has_no_row(scripted, envelope):
    client, _ = scripted(envelope({"list": [_row()]}))
    assert client.tickers(["OLDUSDT", "BTCUSDT"])["symbol"].to_pylist() == ["BTCUSDT"]


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("value", [None, 1.5, "x", "nan", "1e999", []])
def test_a_garbled_field_is_malformed_and_named(scripted, envelope, field, value):
    client, _ = scripted(envelope({"list": [_row(**{field: value})]}))
    with pytest.raises(MalformedAnswer, match=f"BTCUSDT: {field} is ") as caught:
        client.tickers(["BTCUSDT"])
    assert caught.value.symbol == "BTCUSDT"


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_an_absent_field_is_malformed_and_named(scripted, envelope, field):
    row = {name: value for name, value in _row().items() if name != field}
    client, _ = scripted(envelope({"list": [row]}))
    with pytest.raises(MalformedAnswer, match=f"BTCUSDT: {field} is "):
        client.tickers(["BTCUSDT"])


def test_a_garbled_row_of_another_symbol_is_not_looked_at(scripted, envelope):
    client, _ = scripted(envelope({"list": ["noise", _row("OTHERUSDT", lastPrice=None), _row()]}))
    assert client.tickers(["BTCUSDT", "ETHUSDT"]).num_rows == 1


def test_two_tickers_of_one_symbol_that_differ_are_inconsistent(scripted, envelope):
    client, _ = scripted(envelope({"list": [_row(), _row(lastPrice="1")]}))
    with pytest.raises(InconsistentAnswer, match="BTCUSDT is described twice"):
        client.tickers(["BTCUSDT"])
