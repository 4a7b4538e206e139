"""From a model and stored windows to what a backtest trades: predictions, positions, prices.

Shape letters: N anchors, T bars, S symbols.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.backtest import (
    Prices,
    allocation_weights,
    direction_weights,
    hold_cohorts,
    quantile_weights,
    regression_weights,
    turnover_from_volume,
)
from flash_pipeline.market import Month
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.passes import pass_size
from flash_pipeline.training.predictor import Predictions, Predictor
from flash_pipeline.training.runtime import fitting_threads
from flash_pipeline.windows.blocks import WindowFrame

Floats = npt.NDArray[np.float64]


def predict_windows(
    frame: WindowFrame, bundle: ModelBundle, index_N: npt.NDArray[np.int64]
) -> Predictions:
    """Return a model's predictions for windows of the frame, newest `lookback` bars each.

    A model that can stream predicts windows that follow one another in a single pass.

    Parameters
    ----------
    index_N : array
        Positions of windows in the frame, at least one.

    Raises
    ------
    OutOfMemory
        If a pass does not fit the GPU.
    """
    with fitting_threads(bundle.config.d_model):
        return _predicted(frame, bundle, index_N)


def _predicted(
    frame: WindowFrame, bundle: ModelBundle, index_N: npt.NDArray[np.int64]
) -> Predictions:
    predictor = Predictor(bundle)
    if bundle.config.streams and len(index_N) > 1 and (np.diff(index_N) == 1).all():
        first = int(index_N[0]) + frame.lookback - bundle.lookback
        bars = len(index_N) + bundle.lookback - 1
        x_TSF = frame.along_time(frame.x_BKSF)[first : first + bars]
        told = predictor.predict_series(x_TSF.reshape(bars, -1))
        return told.rows(slice(bundle.lookback - 1, None))
    size = pass_size(bundle.lookback)
    return Predictions.joined(
        [
            predictor.predict_windows(frame.batch(index_N[start : start + size], bundle.lookback))
            for start in range(0, len(index_N), size)
        ]
    )


def as_live(frame: WindowFrame, told: Predictions, index_N: npt.NDArray[np.int64]) -> Predictions:
    """Return predictions without those of symbols whose own newest bar is not known.

    Live, such a symbol gets no forecast: its last price is not known.

    Parameters
    ----------
    index_N : array
        Positions of the windows that were predicted.
    """
    last_N = frame.offset_N[index_N] + frame.lookback - 1
    known_NS = frame.valid_BKS[frame.block_N[index_N], last_N]
    return replace(told, value_NS=np.where(known_NS, told.value_NS, np.float32(np.nan)))


def size_positions(bundle: ModelBundle, predictions: Predictions) -> Floats:
    """Return held target weights [N, S] for predictions, by the rule of the model's head.

    Each rule is one of `backtest.signals`: a forecast is sized by the usual size of forecasts, a
    probability by its distance from one half, a median by the spread of its own quantiles; an
    allocation is taken as it is.
    """
    wide_NS = predictions.value_NS.astype(np.float64)
    if bundle.config.head == "direction":
        weights_NS = direction_weights(wide_NS)
    elif bundle.config.head == "allocation":
        weights_NS = allocation_weights(wide_NS, gross_cap(bundle))
    elif predictions.spread_NS is not None:
        weights_NS = quantile_weights(wide_NS, predictions.spread_NS)
    elif bundle.prediction_scale > 0:
        weights_NS = regression_weights(wide_NS, bundle.prediction_scale)
    else:  # a constant forecast says nothing about when to hold what
        weights_NS = np.zeros_like(wide_NS)
    return hold_cohorts(weights_NS, bundle.horizon)


def gross_cap(bundle: ModelBundle) -> float:
    """Return the largest sum of the sizes of a model's weights: above 1 is leverage."""
    return bundle.config.head_options.gross_cap if bundle.config.head == "allocation" else 1.0


def load_prices(frame: WindowFrame, store: KlineStore, index_N: npt.NDArray[np.int64]) -> Prices:
    """Return the bars from the first anchor to the last, by time, holes carried forward.

    The turnover of a candle that comes without one is estimated from its volume.
    """
    start_T = np.arange(
        frame.anchor_N[index_N[0]],
        frame.anchor_N[index_N[-1]] + 1,
        frame.interval.milliseconds,
    )
    first, last = Month.containing(int(start_T[0])), Month.containing(int(start_T[-1]))
    shape = (len(start_T), len(frame.symbols))
    bars = {name: np.full(shape, np.nan) for name in ("open", "close", "low", "high", "turnover")}
    for s, symbol in enumerate(frame.symbols):
        candles = store.read(symbol, first, last)
        row_M = (candles["start_time"].to_numpy() - start_T[0]) // frame.interval.milliseconds
        inside_M = (row_M >= 0) & (row_M < len(start_T))
        for name, laid_TS in bars.items():
            value_M = _turnover(candles) if name == "turnover" else candles[name].to_numpy()
            laid_TS[row_M[inside_M], s] = value_M[inside_M]
    laid = {f"{name}_TS": laid_TS for name, laid_TS in bars.items()}
    return Prices(start_T, symbols=frame.symbols, **laid).carried_forward()


def _turnover(candles: pa.Table) -> Floats:
    """Return the quote coin traded in each candle."""
    stored = candles["turnover"]
    known: Floats = stored.to_numpy(zero_copy_only=False).astype(np.float64)
    if stored.null_count == 0:
        return known
    parts = (candles[name].to_numpy() for name in ("volume", "low", "high", "close"))
    return np.where(np.isfinite(known), known, turnover_from_volume(*parts))


def load_funding(store: FundingStore, symbols: Sequence[str]) -> pa.Table:
    """Return the stored settlements as `known_funding` takes them, those of each symbol in turn."""
    parts = []
    for symbol in symbols:
        own = store.read_all(symbol)
        parts.append(own.add_column(0, "symbol", pa.array([symbol] * own.num_rows, pa.string())))
    return pa.concat_tables(parts).replace_schema_metadata()


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
