import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange import SimulatedMarket
from flash_pipeline.exchange.simulation.generated import listings
from flash_pipeline.exchange.simulation.listings import LISTINGS
from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.market import Interval, parse_instant


def test_the_fixed_listings_come_first():
    assert listings(7, 16) == LISTINGS
    assert listings(7, 30)[:16] == LISTINGS


def test_a_wider_market_lists_the_same_instruments_and_more():
    assert listings(7, 500)[:40] == listings(7, 40)
    assert len({spec.instrument.symbol for spec in listings(7, 500)}) == 500


def test_another_seed_lists_others():
    assert listings(7, 20)[16:] != listings(8, 20)[16:]


def test_some_are_listed_late_and_some_are_delisted():
    generated = [spec.instrument for spec in listings(7, 500)[16:]]
    year = parse_instant("2023-07-01")
    assert 0.05 < sum(i.launch_ms > year for i in generated) / len(generated) < 0.15
    assert 10 < sum(i.delist_ms is not None for i in generated) < 30
    assert all(i.delist_ms is None or i.delist_ms > i.launch_ms for i in generated)


def test_candles_do_not_depend_on_how_many_are_listed():
    now = parse_instant("2024-01-01")
    request = CandleRequest("SYN003USDT", Interval.HOUR_1, 0, now, 100)
    narrow, wide = (SimulatedMarket(7, listings(7, count)) for count in (20, 500))
    assert (narrow.candles(request, now).close == wide.candles(request, now).close).all()


@pytest.mark.parametrize("count", [15, 601, -1])
def test_another_number_is_refused(count):
    with pytest.raises(InvalidConfig, match=f"{count} instruments"):
        listings(7, count)


def test_prices_keep_enough_ticks():
    market = SimulatedMarket(7, listings(7, 60))
    now = parse_instant("2024-01-01")
    for symbol, instrument in market.instruments.items():
        price = market.last_price(symbol, now)
        assert price is None or price > 100 * float(instrument.tick_size)
