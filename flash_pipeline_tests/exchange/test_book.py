from decimal import Decimal

import pytest

from flash_pipeline.exchange.book import make_book
from flash_pipeline.exchange.instruments import Instrument

BTC = Instrument("BTCUSDT", 0, Decimal("0.1"), Decimal("0.001"))
PENNY = Instrument("PENNYUSDT", 0, Decimal("0.01"), Decimal("1"))


def _prices(levels) -> list[Decimal]:
    return [Decimal(price) for price, _ in levels]


@pytest.mark.parametrize("instant", range(20))
def test_is_never_crossed_and_lies_around_the_last_price(instant):
    book = make_book(BTC, 60000.5, instant, 50)
    bids, asks = _prices(book.bids), _prices(book.asks)
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert asks[0] - bids[0] == BTC.tick_size
    assert Decimal("60000.5") in (bids[0], asks[0])


def test_is_the_same_for_the_same_instant_and_another_for_another():
    assert make_book(BTC, 60000.5, 1, 50) == make_book(BTC, 60000.5, 1, 50)
    assert make_book(BTC, 60000.5, 1, 50) != make_book(BTC, 60000.5, 2, 50)


def test_a_smaller_depth_gives_the_first_levels_of_a_greater_one():
    assert make_book(BTC, 60000.5, 1, 50).asks[:5] == make_book(BTC, 60000.5, 1, 5).asks


def test_prices_and_sizes_are_multiples_of_their_steps():
    book = make_book(BTC, 60000.5, 3, 100)
    for price, size in book.bids + book.asks:
        assert Decimal(price) % BTC.tick_size == 0
        assert Decimal(size) % BTC.quantity_step == 0
        assert Decimal(size) > 0


def test_has_no_bid_below_one_tick():
    book = make_book(PENNY, 0.03, 1, 100)
    assert all(price > 0 for price in _prices(book.bids))
    assert len(book.asks) == 100
