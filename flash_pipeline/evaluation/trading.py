"""From a model and stored windows to what a backtest trades: predictions, positions, prices.

Shape letters: N anchors, T bars, S symbols.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.backtest import (
    Prices,
    allocation_weights,
    direction_weights,
    hold_cohorts,
    regression_weights,
)
from flash_pipeline.market import Month
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle, Predictor
from flash_pipeline.windows.blocks import WindowFrame

Floats = npt.NDArray[np.float64]

_BATCH = 256


def predict_windows(
    frame: WindowFrame, bundle: ModelBundle, index_N: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return a model's predictions [N, S] for windows of the frame, newest `lookback` bars each."""
    predictor = Predictor(bundle)
    parts = [
        predictor.predict(frame.batch(index_N[start : start + _BATCH], bundle.lookback))
        for start in range(0, len(index_N), _BATCH)
    ]
    return np.concatenate(parts)


def size_positions(bundle: ModelBundle, predictions_NS: npt.NDArray[np.float32]) -> Floats:
    """Return held target weights [N, S] for predictions, by the rule of the model's head."""
    wide_NS = predictions_NS.astype(np.float64)
    if bundle.config.head == "direction":
        weights_NS = direction_weights(wide_NS)
    elif bundle.config.head == "allocation":
        weights_NS = allocation_weights(np.clip(wide_NS, -1, 1))
    elif bundle.prediction_scale > 0:
        weights_NS = regression_weights(wide_NS, bundle.prediction_scale)
    else:  # a constant forecast says nothing about when to hold what
        weights_NS = np.zeros_like(wide_NS)
    return hold_cohorts(weights_NS, bundle.horizon)


def load_prices(frame: WindowFrame, store: KlineStore, index_N: npt.NDArray[np.int64]) -> Prices:
    """Return opens and closes of the bars from the first anchor to the last, by time."""
    start_T = np.arange(
        frame.anchor_N[index_N[0]],
        frame.anchor_N[index_N[-1]] + 1,
        frame.interval.milliseconds,
    )
    first, last = Month.containing(int(start_T[0])), Month.containing(int(start_T[-1]))
    open_TS = np.full((len(start_T), len(frame.symbols)), np.nan)
    close_TS = np.full_like(open_TS, np.nan)
    for s, symbol in enumerate(frame.symbols):
        candles = store.read(symbol, first, last)
        row = (candles["start_time"].to_numpy() - start_T[0]) // frame.interval.milliseconds
        inside = (row >= 0) & (row < len(start_T))
        open_TS[row[inside], s] = candles["open"].to_numpy()[inside]
        close_TS[row[inside], s] = candles["close"].to_numpy()[inside]
    return Prices(start_T, open_TS, close_TS, frame.symbols).carried_forward()


def predictions_table(
    frame: WindowFrame,
    index_N: npt.NDArray[np.int64],
    predictions_NS: npt.NDArray[np.float32],
    version: str,
) -> pa.Table:
    """Return one row per date and symbol: `made_at, symbol, prediction, label, model_version`."""
    symbols = len(frame.symbols)
    rows = predictions_NS.size
    return pa.table(
        {
            "made_at": np.repeat(frame.made_at_N[index_N], symbols),
            "symbol": pa.array(list(frame.symbols) * len(index_N), pa.string()),
            "prediction": pa.array(predictions_NS.reshape(-1), from_pandas=True),
            "label": pa.array(frame.label_NS[index_N].reshape(-1), from_pandas=True),
            "model_version": pa.array([version] * rows, pa.string()),
        }
    )
