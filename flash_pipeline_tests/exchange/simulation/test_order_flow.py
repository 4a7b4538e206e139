import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.simulation.flow_model import BANDS, LIMIT_RATE, NO_LEAN, Lean
from flash_pipeline.exchange.simulation.order_flow import OrderFlow
from flash_pipeline.exchange.simulation.orders import BLOCK_STEPS
from flash_pipeline.market import parse_instant

DAY = parse_instant("2026-03-10") // 100
HOURS = 3


def nearest(depth, levels: int, sign: int):
    outwards = depth.orders[:, ::sign]
    price = depth.first + np.arange(depth.orders.shape[1])[::sign]
    rank = np.cumsum(outwards > 0, axis=1)
    row, column = np.nonzero((outwards > 0) & (rank <= levels))
    prices = np.full((len(outwards), levels), np.nan)
    counts = np.zeros((len(outwards), levels))
    prices[row, rank[row, column] - 1] = price[column]
    counts[row, rank[row, column] - 1] = outwards[row, column]
    return prices, counts


def sample(flow: OrderFlow, steps: range, levels: int = 30):
    """Prices and counts, [times, levels, sides]."""
    parts = [
        [nearest(depth, levels, sign) for depth, sign in ((bids, -1), (asks, 1))]
        for _, bids, asks in flow.depth(steps, levels)
    ]
    return tuple(
        np.stack([np.concatenate([part[side][i] for part in parts]) for side in (0, 1)], axis=2)
        for i in (0, 1)
    )


@pytest.fixture(scope="module")
def asset(market):
    return market._asset("BTCUSDT")


@pytest.fixture(scope="module")
def hours(market):
    return sample(market.order_flow("BTCUSDT"), range(DAY, DAY + HOURS * 36_000, 10))


def test_is_never_crossed_nor_empty(hours):
    price, _ = hours
    assert not np.isnan(price).any()
    assert (price[:, 0, 0] < price[:, 0, 1]).all()


def test_is_the_same_however_it_is_asked(market, asset):
    steps = range(DAY + BLOCK_STEPS - 300, DAY + BLOCK_STEPS + 300, 10)
    whole = sample(market.order_flow("BTCUSDT"), steps)
    fresh = OrderFlow(asset, 7)
    for i in (59, 0, 31):
        price, count = sample(fresh, steps[i : i + 1])
        assert np.array_equal(price[0], whole[0][i])
        assert np.array_equal(count[0], whole[1][i])


def test_fewer_levels_are_the_first_ones_of_more(market):
    flow, steps = market.order_flow("ETHUSDT"), range(DAY, DAY + 200, 10)
    few, many = sample(flow, steps, 20), sample(flow, steps, 900)
    assert np.array_equal(few[0], many[0][:, :20])
    assert np.array_equal(few[1], many[1][:, :20])


def test_follows_the_candles_price(market, hours):
    price, _ = hours
    flow = market.order_flow("BTCUSDT")
    step = flow.ticks_per_step * 0.1
    for minute in range(0, HOURS * 60, 7):
        last = market.last_price("BTCUSDT", (DAY + minute * 600) * 100)
        mid = price[minute * 60, 0].mean() * step
        assert abs(mid - last) < 12 * step


def test_another_seed_gives_another_book(asset):
    steps = range(DAY, DAY + 10, 10)
    one, other = sample(OrderFlow(asset, 7), steps), sample(OrderFlow(asset, 8), steps)
    assert not np.array_equal(one[1], other[1])


def test_orders_arrive_at_the_published_rates():
    assert LIMIT_RATE[:5].tolist() == [1.85, 1.51, 1.09, 0.88, 0.77]
    assert LIMIT_RATE[5:20] == pytest.approx(1.92 * np.arange(6.0, 21.0) ** -0.52)
    assert len(LIMIT_RATE) == BANDS[-1][1]


def correlations(price, count, lead: int = 10, lag: int = 5) -> dict[str, float]:
    mid = price[:, 0].mean(axis=1)
    move = mid[lag + lead :] - mid[lag:-lead]

    def imbalance(first, last):
        size = count[:, first:last].sum(axis=1)
        return (size[:, 0] - size[:, 1]) / size.sum(axis=1)

    near, deep = imbalance(1, 9)[lag:-lead], imbalance(10, 25)[: -lag - lead]
    agree = near * deep > 0
    return {
        "near": np.corrcoef(near, move)[0, 1],
        "agree": np.corrcoef(near[agree], move[agree])[0, 1],
        "disagree": np.corrcoef(near[~agree], move[~agree])[0, 1],
    }


def test_the_imbalance_foretells_the_price_where_the_deep_one_agrees(hours):
    found = correlations(*hours)
    assert 0.18 < found["near"] < 0.35
    assert 0.35 < found["agree"] < 0.6
    assert abs(found["disagree"]) < 0.12


def test_without_a_lean_there_is_nothing_to_foretell(asset):
    found = correlations(*sample(OrderFlow(asset, 7, NO_LEAN), range(DAY, DAY + 72_000, 10)))
    assert all(abs(value) < 0.08 for value in found.values())


def test_impossible_leans_are_refused():
    for wrong in ({"strength": 1.5}, {"information": -0.1}, {"lead_s": 0}, {"gate_s": 0}):
        with pytest.raises(InvalidConfig):
            Lean(**wrong)
