import json

import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import InconsistentAnswer, InvalidInput, MalformedAnswer
from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import parse_instant

BOOK = {"s": "BTCUSDT", "ts": 5, "u": 7, "b": [["99", "1"], ["98", "2"]], "a": [["101", "1"]]}


def test_reads_a_book(scripted, envelope):
    book = scripted(envelope(BOOK))[0].order_book("BTCUSDT", 2)
    assert (book.time, book.update_id) == (5, 7)
    assert book.bids == (("99", "1"), ("98", "2"))
    assert book.asks == (("101", "1"),)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"s": "ETHUSDT"}, "answered 'ETHUSDT'"),
        ({"a": [["99", "1"]]}, "crossed: bid 99.0, ask 99.0"),
        ({"b": [["98", "1"], ["99", "1"]]}, "bid 2 of BTCUSDT"),
        ({"b": [["99", "1"], ["99", "2"]]}, "bid 2 of BTCUSDT"),
        ({"a": [["101", "0"]]}, "ask 1 of BTCUSDT"),
        ({"a": [["101", "1"], ["102", "1"], ["103", "1"]]}, "asked for 2 levels"),
    ],
)
def test_a_book_that_contradicts_itself_is_refused(scripted, envelope, wrong, message):
    with pytest.raises(InconsistentAnswer, match=message):
        scripted(envelope({**BOOK, **wrong}), attempts=1)[0].order_book("BTCUSDT", 2)


@pytest.mark.parametrize("wrong", [{"b": [["99"]]}, {"a": [["x", "1"]]}, {"u": "7"}, {"a": None}])
def test_a_book_of_another_shape_is_refused(scripted, envelope, wrong):
    with pytest.raises(MalformedAnswer):
        scripted(envelope({**BOOK, **wrong}))[0].order_book("BTCUSDT", 2)


@pytest.mark.parametrize("levels", [0, 1001])
def test_a_number_of_levels_out_of_range_is_refused(scripted, envelope, levels):
    with pytest.raises(InvalidInput, match=f"levels={levels}"):
        scripted(envelope(BOOK))[0].order_book("BTCUSDT", levels)


def test_the_embedded_exchange_serves_up_to_1000_levels():
    clock = Clock(parse_instant("2026-03-10T12:00Z"), speed=0)
    with (
        embedded_exchange(market=SimulatedMarket(7), clock=clock) as url,
        BybitClient(url) as exchange,
    ):
        book = exchange.order_book("BTCUSDT", 1000)
        assert (len(book.bids), len(book.asks)) == (1000, 1000)
        assert exchange.order_book("BTCUSDT", 20).asks == book.asks[:20]


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("docs_orderbook_spot_BTCUSDT.json", ("65485.47", "65557.7")),
        ("jkorf_orderbook.json", ("62710.2", "62710.3")),
    ],
)
def test_recorded_books_are_read(scripted, recorded, name, best):
    body = json.loads((recorded / name).read_text())
    book = scripted(body)[0].order_book("BTCUSDT", 1)
    assert (book.bids[0][0], book.asks[0][0]) == best
