"""Shape letters: N anchors, S symbols, Q quantile levels."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flash_pipeline.evaluation.trading import (
    load_funding,
    load_prices,
    predict_windows,
    size_positions,
)
from flash_pipeline.market import FUNDING_SCHEMA, Month
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.training.predictor import Predictions

JANUARY = Month(2024, 1)
HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000


def hour(n):
    return FIRST_MS + n * HOUR_MS


def test_a_shorter_lookback_reads_the_newest_bars(frame, make_bundle):
    short = make_bundle(lookback=8)
    index_N = np.array([0, 50])
    told_NS = predict_windows(frame, short, index_N).value_NS
    assert told_NS.shape == (2, 3)
    changed = dataclasses.replace(frame, x_BKSF=frame.x_BKSF.copy())
    for n in index_N:
        changed.window(n)[:8] = 0
    np.testing.assert_array_equal(predict_windows(changed, short, index_N).value_NS, told_NS)


STREAMING = {"span": "sliding", "window": 5, "positions": "rotary"}


@pytest.mark.parametrize("head", ["regression", "quantile"])
@pytest.mark.parametrize("lookback", [8, 16])
def test_a_model_that_streams_predicts_in_one_pass_what_it_predicts_window_by_window(
    make_store, make_frame, make_bundle, monkeypatch, head, lookback
):
    frame = make_frame(make_store(absent={"ETHUSDT": {130, 131}}))
    bundle = make_bundle(head=head, lookback=lookback, **STREAMING)
    index_N = np.arange(20, 180)
    at_once = predict_windows(frame, bundle, index_N)
    apart = Predictions.joined([predict_windows(frame, bundle, index_N[[n]]) for n in range(160)])
    for name in ("value_NS", "spread_NS"):
        one, other = getattr(at_once, name), getattr(apart, name)
        assert (one is None) is (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_windows_with_holes_between_them_are_predicted_one_by_one(frame, make_bundle):
    bundle, index_N = make_bundle(**STREAMING), np.array([30, 31, 40])
    told_NS = predict_windows(frame, bundle, index_N).value_NS
    alone_NS = predict_windows(frame, bundle, index_N[2:]).value_NS
    np.testing.assert_allclose(told_NS[2:], alone_NS, rtol=1e-4, atol=1e-6)


def test_a_position_is_held_for_the_horizon(make_bundle):
    predictions_NS = np.zeros((8, 3), np.float32)
    predictions_NS[2] = [0.04, -0.04, 0.02]
    weights_NS = size_positions(make_bundle(), Predictions(predictions_NS))
    np.testing.assert_allclose(weights_NS[2:6], [[1 / 12, -1 / 12, 1 / 24]] * 4, rtol=1e-6)
    assert not weights_NS[[0, 1, 6, 7]].any()


@pytest.mark.parametrize(
    ("head", "prediction", "weight"),
    [
        ("direction", 1.0, 1 / 12),
        ("direction", 0.25, -1 / 24),
        # A fraction of the capital, all of them together at most the cap of 1.
        ("allocation", -0.25, -1 / 16),
        ("allocation", 1.0000001, 1 / 12),
    ],
)
def test_each_head_has_its_own_rule_of_size(make_bundle, head, prediction, weight):
    told = Predictions(np.full((1, 3), prediction, np.float32))
    np.testing.assert_allclose(size_positions(make_bundle(head=head), told), weight, rtol=1e-6)


def test_a_median_is_sized_by_the_spread_of_its_quantiles(make_bundle):
    quantiles_NSQ = np.array([[[-0.03, 0.01, 0.05], [-0.3, 0.01, 0.5], [0.1, 0.2, 0.3]]])
    told = Predictions(quantiles_NSQ[:, :, 1], quantiles_NSQ)
    weights_NS = size_positions(make_bundle(head="quantile"), told)
    np.testing.assert_allclose(weights_NS, np.array([[0.25, 0.025, 1.0]]) / 12)


def test_prices_are_aligned_by_time_and_carried_over_a_gap(make_store, frame):
    store = make_store(absent={"ETHUSDT": {130, 131}})
    index_N = np.flatnonzero((frame.made_at_N >= hour(120)) & frame.known_N)
    prices = load_prices(frame, store, index_N)
    assert prices.start_time_T.tolist() == frame.anchor_N[index_N].tolist()
    assert prices.symbols == frame.symbols
    stored = store.read_all("ETHUSDT").to_pylist()
    close_at = {row["start_time"]: row["close"] for row in stored}
    for start, close in zip(prices.start_time_T, prices.close_TS[:, 1], strict=True):
        known = start if start in close_at else hour(129)
        assert close == close_at[known]
    closed = np.isin(prices.start_time_T, [hour(130), hour(131)])
    np.testing.assert_array_equal(~prices.real_TS, closed[:, None] & np.array([False, True, False]))


def test_prices_come_with_lows_highs_and_turnover(make_store, frame):
    store = make_store()
    index_N = np.arange(100, 140)
    prices = load_prices(frame, store, index_N)
    stored = store.read_all("SOLUSDT").to_pylist()
    rows = {row["start_time"]: row for row in stored}
    for name in ("low", "high", "turnover"):
        own_T = getattr(prices, f"{name}_TS")[:, 2]
        assert own_T.tolist() == [rows[start][name] for start in prices.start_time_T.tolist()]


def test_a_turnover_that_is_not_stored_is_estimated_from_the_volume(make_store, frame):
    store = make_store()
    candles = store.read_month("ETHUSDT", JANUARY)
    place = candles.column_names.index("turnover")
    none = pa.nulls(candles.num_rows, pa.float64())
    store.write_month(
        "ETHUSDT", JANUARY, candles.set_column(place, "turnover", none), synthetic=True
    )
    prices = load_prices(frame, store, np.arange(100, 140))
    first = pc.equal(candles["start_time"], int(prices.start_time_T[0]))
    (row,) = candles.filter(first).to_pylist()
    typical = (row["low"] + row["high"] + row["close"]) / 3
    assert prices.turnover_TS[0, 1] == pytest.approx(row["volume"] * typical)


def test_settlements_are_read_symbol_by_symbol(tmp_path):
    store = FundingStore(tmp_path)
    assert load_funding(store, ["BTCUSDT"]).num_rows == 0
    row = {"funding_time": JANUARY.time_range.start, "rate": 0.0001}
    funding = pa.Table.from_pylist([row], schema=FUNDING_SCHEMA)
    store.write_month("ETHUSDT", JANUARY, funding, synthetic=True)
    assert load_funding(store, ["BTCUSDT", "ETHUSDT"]).to_pylist() == [{"symbol": "ETHUSDT", **row}]
