"""Shape letters: N windows, L bars of a window, T bars of a series, I inputs, S symbols."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flash_pipeline.errors import BundleMismatch, InvalidConfig, OutOfMemory
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.model import footprint
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.predictor import Predictions, Predictor
from flash_pipeline.training.targets import RmsScaler, VolatilityScaler

CPU = torch.device("cpu")
VOLATILITY = FEATURE_NAMES.index("volatility")


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(20))


@pytest.fixture(scope="module")
def with_model(bundle):
    """Return a maker of bundles like the trained one, of another architecture and random weights.

    The weights are large enough for predictions to differ.
    """

    def make(**changes):
        config = dataclasses.replace(bundle.config, **changes)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = FlashAttentionTrader(config)
            torch.nn.init.xavier_uniform_(model.head.linear.weight)
        return dataclasses.replace(bundle, config=config, weights=model.state_dict())

    return make


STREAMING = {"n_layers": 2, "span": "sliding", "window": 4, "positions": "rotary"}


@pytest.mark.parametrize("shape", [(2, 7, 10), (2, 9, 10), (2, 8, 5), (8, 10), (2, 8, 2, 5)])
def test_windows_of_another_shape_are_refused_with_the_shape_expected(bundle, shape):
    with pytest.raises(BundleMismatch, match=r"expected \(n, 8, 10\), 2 symbols x 5 features"):
        Predictor(bundle, CPU).predict(np.zeros(shape, np.float32))


def test_no_window_gives_no_prediction(bundle, windows):
    assert Predictor(bundle, CPU).predict(windows[:0]).shape == (0, 2)


def test_predictions_are_float32_one_per_symbol(bundle, windows):
    predictions_NS = Predictor(bundle, CPU).predict(windows)
    assert predictions_NS.shape == (20, 2)
    assert predictions_NS.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_no_more_than_rounding(bundle, windows, batch_size):
    predictor = Predictor(bundle, CPU)
    np.testing.assert_allclose(
        predictor.predict(windows, batch_size), predictor.predict(windows), rtol=1e-4, atol=1e-7
    )


def test_an_unknown_value_counts_as_the_mean(bundle, windows):
    unknown, mean = windows.copy(), windows.copy()
    unknown[:, -1, 0] = math.nan
    mean[:, -1, 0] = bundle.features.centre_SF[0, 0]
    predictor = Predictor(bundle, CPU)
    np.testing.assert_array_equal(predictor.predict(unknown), predictor.predict(mean))


def test_a_bar_that_every_symbol_lacks_is_masked(bundle, windows):
    absent, shorter = windows.copy(), windows.copy()
    absent[:, :3] = math.nan
    shorter[:, :3, ::5] = math.nan  # one feature of each symbol: no symbol is whole
    predictor = Predictor(bundle, CPU)
    np.testing.assert_array_equal(predictor.predict(absent), predictor.predict(shorter))
    assert not np.allclose(predictor.predict(absent), predictor.predict(windows))


@pytest.mark.parametrize(
    ("head", "neutral"),
    [("regression", 0.0), ("direction", 0.5), ("allocation", 0.0), ("quantile", 0.0)],
)
def test_a_window_of_nothing_known_gets_the_neutral_answer(with_model, windows, head, neutral):
    predictor = Predictor(with_model(head=head), CPU)
    assert predictor.predict(np.full_like(windows[:2], math.nan)).tolist() == [[neutral] * 2] * 2


def test_predictions_are_told_in_the_unit_of_the_labels(bundle, windows):
    double = RmsScaler(2 * bundle.targets.std_S)
    once_NS, twice_NS = (
        Predictor(b, CPU).predict(windows)
        for b in (bundle, dataclasses.replace(bundle, targets=double))
    )
    np.testing.assert_allclose(twice_NS, 2 * once_NS, rtol=1e-6)


def test_a_volatility_target_is_inverted_by_the_volatility_of_the_windows_last_bar(bundle, windows):
    ones_S = np.ones(2, np.float32)
    scaler = VolatilityScaler(ones_S, 0.01 * ones_S, 0.5 * ones_S, horizon=4)
    scaled = dataclasses.replace(bundle, targets=scaler)
    plain = dataclasses.replace(bundle, targets=RmsScaler(ones_S))
    windows = windows.copy()
    windows.reshape(20, 8, 2, 5)[0, -1, :, VOLATILITY] = [math.nan, 0.0]
    told_NS, unit_NS = (Predictor(b, CPU).predict(windows) for b in (scaled, plain))
    sigma_NS = np.maximum(windows.reshape(20, 8, 2, 5)[:, -1, :, VOLATILITY], 0.01)
    sigma_NS[0] = [0.5, 0.01]
    np.testing.assert_allclose(told_NS, unit_NS * 2 * sigma_NS, rtol=1e-6)


def test_only_a_quantile_head_tells_quantiles(bundle, windows):
    told = Predictor(bundle, CPU).predict_windows(windows)
    assert told.quantiles_NSQ is told.spread_NS is None


@pytest.mark.parametrize("scaling", ["rms", "volatility"])
def test_quantiles_come_in_order_around_the_prediction_in_the_unit_of_the_labels(
    with_model, windows, scaling
):
    ones_S = np.ones(2, np.float32)
    scaler = VolatilityScaler(ones_S, 0.01 * ones_S, ones_S, horizon=4)
    bundle = with_model(head="quantile")
    if scaling == "volatility":
        bundle = dataclasses.replace(bundle, targets=scaler)
    told = Predictor(bundle, CPU).predict_windows(windows)
    assert told.quantiles_NSQ.shape == (20, 2, 5)
    assert (np.diff(told.quantiles_NSQ) >= 0).all()
    np.testing.assert_array_equal(told.quantiles_NSQ[:, :, 2], told.value_NS)
    np.testing.assert_array_equal(
        told.spread_NS, told.quantiles_NSQ[:, :, 4] - told.quantiles_NSQ[:, :, 0]
    )


def test_no_window_gives_no_quantiles(with_model, windows):
    told = Predictor(with_model(head="quantile"), CPU).predict_windows(windows[:0])
    assert told.quantiles_NSQ.shape == (0, 2, 5)


def test_predictions_are_joined_in_order(with_model, windows):
    predictor = Predictor(with_model(head="quantile"), CPU)
    whole = predictor.predict_windows(windows)
    joined = Predictions.joined([whole.rows(slice(0, 7)), whole.rows(slice(7, None))])
    np.testing.assert_array_equal(joined.value_NS, whole.value_NS)
    np.testing.assert_array_equal(joined.quantiles_NSQ, whole.quantiles_NSQ)


@pytest.mark.parametrize("head", ["regression", "quantile", "direction", "allocation"])
@pytest.mark.parametrize("gap", [slice(0), slice(13, 14), slice(10, 21)])
def test_a_series_is_predicted_as_window_by_window(with_model, frame, head, gap):
    predictor = Predictor(with_model(head=head, **STREAMING), CPU)
    x_TI = frame.along_time(frame.x_BKSF)[:40].reshape(40, -1).copy()
    x_TI[gap] = math.nan  # bars that no symbol knows: none, a few, more than a window
    x_TI[20, VOLATILITY] = math.nan
    series = predictor.predict_series(x_TI)
    windows = predictor.predict_windows(np.stack([x_TI[n : n + 8] for n in range(33)]))
    # The last bar before a long gap has more past in the series than in a window that ends late.
    same_N = ~np.isin(np.arange(7, 40), range(11, 18) if gap.stop == 21 else [])
    tolerance = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(series.value_NS[7:][same_N], windows.value_NS[same_N], **tolerance)
    if head == "quantile":
        np.testing.assert_allclose(
            series.quantiles_NSQ[7:][same_N], windows.quantiles_NSQ[same_N], **tolerance
        )


def test_the_first_bars_of_a_series_are_predicted_from_what_there_is(with_model, frame):
    predictor = Predictor(with_model(**STREAMING), CPU)
    x_TI = frame.along_time(frame.x_BKSF)[:10].reshape(10, -1)
    padded_TI = np.concatenate([np.full((7, 10), math.nan, np.float32), x_TI])
    windows_NS = predictor.predict(np.stack([padded_TI[n : n + 8] for n in range(10)]))
    np.testing.assert_allclose(
        predictor.predict_series(x_TI).value_NS, windows_NS, rtol=1e-4, atol=1e-7
    )


def test_a_series_without_gaps_passes_without_a_mask(with_model, frame, monkeypatch):
    asked, choose = [], FlashAttentionTrader.choose_attention

    def recorded(self, length, has_mask):
        asked.append(has_mask)
        return choose(self, length, has_mask)

    monkeypatch.setattr(FlashAttentionTrader, "choose_attention", recorded)
    x_TI = frame.along_time(frame.x_BKSF)[:40].reshape(40, -1).copy()
    predictor = Predictor(with_model(**STREAMING), CPU)
    predictor.predict_series(x_TI)
    assert set(asked) == {False}
    x_TI[13] = math.nan
    predictor.predict_series(x_TI)
    assert asked[-1]


def test_windows_pass_in_batches_that_the_attention_has_room_for(with_model, windows, monkeypatch):
    rows, run = [], FlashAttentionTrader.run

    def recorded(self, x_BTI, *arguments, **options):
        rows.append(len(x_BTI))
        return run(self, x_BTI, *arguments, **options)

    monkeypatch.setattr(FlashAttentionTrader, "run", recorded)
    monkeypatch.setattr(footprint, "SCORE_BYTES", 9 * 16 * 2 * 8**2)
    Predictor(with_model(attention="reference"), CPU).predict(windows)
    assert rows == [9, 9, 2]


def test_a_lack_of_memory_is_told_with_the_pass(with_model, windows, frame, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(FlashAttentionTrader, "run", full)
    predictor = Predictor(with_model(**STREAMING), CPU)
    with pytest.raises(OutOfMemory, match="a pass without gradients over 256 windows x 8 bars"):
        predictor.predict(windows)
    with pytest.raises(OutOfMemory, match="a pass without gradients over 40 windows x 8 bars"):
        predictor.predict_series(frame.along_time(frame.x_BKSF)[:40].reshape(40, -1))


def test_a_model_that_cannot_stream_predicts_no_series(bundle, frame):
    x_TI = frame.along_time(frame.x_BKSF)[:10].reshape(10, -1)
    with pytest.raises(InvalidConfig, match="cannot stream"):
        Predictor(bundle, CPU).predict_series(x_TI)


@pytest.mark.parametrize("shape", [(10, 9), (10,), (1, 10, 10)])
def test_a_series_of_another_shape_is_refused(with_model, shape):
    with pytest.raises(BundleMismatch, match=r"expected \(bars, 10\)"):
        Predictor(with_model(**STREAMING), CPU).predict_series(np.zeros(shape, np.float32))
