import pytest

from flash_pipeline.errors import (
    ExchangeError,
    InconsistentAnswer,
    InvalidSymbol,
    UnknownSymbol,
)

ALL = [f"C{n:03d}USDT" for n in range(650)]
STATUSES = {"NEWUSDT": "PreLaunch", "OLDUSDT": "Closed", "ENDUSDT": "Delivering"}
UNKNOWN = {"retCode": 10001, "retMsg": "params error: symbol invalid", "result": {}}


@pytest.fixture
def exchange(envelope):
    """Answer as the exchange does: pages of what trades; by symbol, whatever has the status."""

    def exchange(*, largest_page: int = 1000, symbols=ALL):
        def answer(call):
            query = call.query
            status = query.get("status", "Trading")
            if "symbol" in query:
                name = query["symbol"]
                if name not in symbols and name not in STATUSES:
                    return UNKNOWN
                right = STATUSES.get(name, "Trading") == status
                rows = [{"symbol": name, "status": status}] if right else []
                return envelope({"category": "linear", "list": rows, "nextPageCursor": ""})
            first = int(query.get("cursor", 0))
            last = first + min(int(query.get("limit", 500)), largest_page)
            rows = [{"symbol": s, "status": status} for s in symbols[first:last]]
            cursor = str(last) if last < len(symbols) else ""
            return envelope({"list": rows, "nextPageCursor": cursor})

        return answer

    return exchange


def _names(rows) -> list[str]:
    return [row["symbol"] for row in rows]


def test_five_symbols_are_one_request_in_the_order_asked(scripted, exchange):
    client, script = scripted(exchange())
    asked = [ALL[n] for n in (600, 3, 7, 2, 649)]
    assert _names(client.instruments(asked)) == asked
    assert len(script.asked) == 1
    assert script.asked[0].query == {"category": "linear", "limit": "1000"}


def test_one_symbol_is_asked_for_by_its_name(scripted, exchange):
    client, script = scripted(exchange())
    assert _names(client.instruments(["C007USDT"])) == ["C007USDT"]
    assert [call.query["symbol"] for call in script.asked] == ["C007USDT"]


def test_an_instrument_beyond_the_first_page_is_found(scripted, exchange):
    client, script = scripted(exchange(largest_page=100))
    assert _names(client.instruments(["C555USDT", "C001USDT"])) == ["C555USDT", "C001USDT"]
    cursors = [call.query.get("cursor") for call in script.asked]
    assert cursors == [None, "100", "200", "300", "400", "500"]


def test_all_that_trades_is_listed_page_by_page(scripted, exchange):
    client, script = scripted(exchange(largest_page=500))
    assert _names(client.instruments()) == ALL
    assert len(script.asked) == 2


def test_a_cursor_of_the_last_page_is_followed_to_its_empty_page(scripted, envelope):
    page = {"list": [{"symbol": "AUSDT"}], "nextPageCursor": "first%3DA%26last%3DA"}
    client, script = scripted(envelope(page), envelope({"list": [], "nextPageCursor": "more"}))
    assert _names(client.instruments()) == ["AUSDT"]
    assert script.asked[1].query["cursor"] == "first%3DA%26last%3DA"


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_cursor_that_comes_twice_ends_with_an_error(scripted, envelope, cursors):
    row = {"symbol": "AUSDT"}
    pages = [envelope({"list": [row], "nextPageCursor": cursor}) for cursor in cursors]
    client, _ = scripted(*pages)
    with pytest.raises(InconsistentAnswer, match="'a' of the instruments came twice"):
        client.instruments()


def test_cursors_without_an_end_end_with_an_error(scripted, envelope):
    def answer(call):
        after = int(call.query.get("cursor", 0))
        return envelope({"list": [{"symbol": "AUSDT"}], "nextPageCursor": str(after + 1)})

    client, script = scripted(answer)
    with pytest.raises(InconsistentAnswer, match="do not end after 100 pages"):
        client.instruments()
    assert len(script.asked) == 100


@pytest.mark.parametrize("symbol", sorted(STATUSES))
def test_a_symbol_that_is_not_in_the_list_is_found_by_its_status(scripted, exchange, symbol):
    client, _ = scripted(exchange())
    rows = client.instruments(["C001USDT", symbol])
    assert rows[1] == {"symbol": symbol, "status": STATUSES[symbol]}
    assert client.instrument(symbol)["status"] == STATUSES[symbol]


def test_a_list_that_was_empty_by_mistake_makes_no_symbol_unknown(scripted, exchange, envelope):
    client, _ = scripted(envelope({"list": [], "nextPageCursor": ""}), exchange())
    assert _names(client.instruments(["C001USDT", "C002USDT"])) == ["C001USDT", "C002USDT"]


def test_an_unknown_symbol_is_named(scripted, exchange):
    client, script = scripted(exchange())
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT' is not listed") as caught:
        client.instruments(["C001USDT", "NOPEUSDT"])
    assert caught.value.symbol == "NOPEUSDT"
    assert len(script.asked) == 2


def test_a_symbol_of_no_status_is_unknown(scripted, envelope):
    client, script = scripted(envelope({"list": []}))
    with pytest.raises(UnknownSymbol, match="'BTCUSDT' is not listed"):
        client.instrument("BTCUSDT")
    statuses = [call.query.get("status") for call in script.asked]
    assert statuses == [None, "PreLaunch", "Delivering", "Closed"]


def test_those_that_trade_no_more_are_told_from_those_about_to(scripted, exchange):
    client, _ = scripted(exchange())
    symbols = ["C001USDT", "OLDUSDT", "NEWUSDT", "ENDUSDT"]
    assert client.delisted(symbols) == {"OLDUSDT", "ENDUSDT"}


def test_five_symbols_that_trade_are_one_request_to_know_so(scripted, exchange):
    client, script = scripted(exchange())
    assert client.delisted(ALL[:5]) == frozenset()
    assert len(script.asked) == 1


def test_an_instrument_is_found_by_its_very_name(scripted, envelope):
    others = [{"symbol": "BTCUSDT-27JUN25"}, "noise", {"symbol": "BTCUSDT", "launchTime": "7"}]
    client, _ = scripted(envelope({"list": others}))
    assert client.instrument("BTCUSDT") == {"symbol": "BTCUSDT", "launchTime": "7"}


def test_two_descriptions_of_one_symbol_that_differ_are_inconsistent(scripted, envelope):
    rows = [{"symbol": "BTCUSDT", "status": status} for status in ("Trading", "Closed")]
    client, _ = scripted(envelope({"list": rows}))
    with pytest.raises(InconsistentAnswer, match="BTCUSDT is described twice"):
        client.instrument("BTCUSDT")


@pytest.mark.parametrize("symbols", [[], ["BTCUSDT", "BTCUSDT"]])
def test_a_list_without_symbols_or_with_one_twice_is_refused(scripted, envelope, symbols):
    client, script = scripted(envelope())
    with pytest.raises(InvalidSymbol):
        client.instruments(symbols)
    assert script.asked == []


@pytest.mark.parametrize("page", [{"list": None}, {"list": {}}, {"nextPageCursor": 7}])
def test_a_page_of_another_shape_is_an_error_of_the_tree(scripted, envelope, page):
    client, _ = scripted(envelope(page))
    with pytest.raises(ExchangeError, match="result"):
        client.instruments()


def test_all_that_ever_traded_is_listed_by_status(scripted, envelope):
    by_status = {
        None: ["BTCUSDT", "ETHUSDT"],
        "Delivering": ["ENDUSDT"],
        "Closed": ["OLDUSDT", "ETHUSDT"],
    }

    def answer(call):
        rows = [{"symbol": name} for name in by_status[call.query.get("status")]]
        return envelope({"list": rows, "nextPageCursor": ""})

    client, _ = scripted(answer)
    assert _names(client.ever_listed()) == ["BTCUSDT", "ETHUSDT", "ENDUSDT", "OLDUSDT"]
