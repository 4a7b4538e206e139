import hashlib
import itertools

import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange import SimulatedMarket
from flash_pipeline.exchange.simulation.generated import SECTORS, listings
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
    assert 0.15 < sum(i.launch_ms > year for i in generated) / len(generated) < 0.25
    assert 60 < sum(i.delist_ms is not None for i in generated) < 90
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


def test_a_newcomer_and_a_leaver_come_twice_a_year_among_the_most_traded():
    market = {spec.instrument.symbol: spec for spec in listings(7, 100)}
    newcomers = [market[f"SYN{n:03d}USDT"] for n in range(6, 84, 10)]
    leavers = [market[f"SYN{n:03d}USDT"] for n in range(3, 84, 10)]
    gaps = np.diff([spec.instrument.launch_ms for spec in newcomers])
    assert (gaps == 182 * 86_400_000).all()
    assert (np.diff([spec.instrument.delist_ms for spec in leavers]) == 182 * 86_400_000).all()
    rest = [spec.daily_turnover for spec in market.values() if spec.daily_turnover < 3e8]
    assert min(spec.daily_turnover for spec in newcomers + leavers) > np.quantile(rest, 0.9)


def test_the_fixed_listings_belong_to_no_sector_and_every_other_to_one():
    assert {spec.sector for spec in LISTINGS} == {""}
    assert {spec.sector for spec in listings(7, 100)[16:]} == set(SECTORS)


def test_assets_of_a_sector_move_together_beyond_the_market():
    specs = [
        s for s in listings(7, 100)[16:] if s.instrument.launch_ms < parse_instant("2023-06-01")
    ]
    market = SimulatedMarket(7, listings(7, 100))
    first, now = parse_instant("2023-07-01"), parse_instant("2023-09-29")
    market_hours = _returns(market, "BTCUSDT", first, now)
    left = {}
    for spec in specs[:20]:
        hours = _returns(market, spec.instrument.symbol, first, now)
        left[spec] = hours - market_hours * np.cov(hours, market_hours)[0, 1] / market_hours.var()
    same, other = [], []
    for a, b in itertools.combinations(left, 2):
        (same if a.sector == b.sector else other).append(np.corrcoef(left[a], left[b])[0, 1])
    assert np.mean(same) > 0.08 + np.mean(other)


def test_the_fixed_listings_move_as_they_always_have():
    now = parse_instant("2024-03-20T10:30:00Z")
    digest = hashlib.sha256()
    market = SimulatedMarket(7)
    for symbol in market.instruments:
        request = CandleRequest(symbol, Interval.HOUR_1, now - 40 * 86_400_000, now - 1, 10**6)
        for column in market.candles(request, now).columns():
            digest.update(column.tobytes())
    assert digest.hexdigest()[:16] == "ca483d4046dbed4c"


def _returns(market, symbol, first, now):
    request = CandleRequest(symbol, Interval.HOUR_1, first, now - 1, 10**6)
    return np.diff(np.log(market.candles(request, now).close))
