"""A row of numbers for each window and symbol, for models that see no sequence.

Shape letters: N windows, S symbols, K columns, T bars, M rows (windows x symbols, window by
window).

Every column is known at the window's last bar, and none looks further back than the lookback.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flash_pipeline.training.baselines.base import (
    LOG_RETURN,
    Inputs,
    anchor_bars,
    known_log_returns,
)
from flash_pipeline.training.scaler import FeatureScaler, Floats
from flash_pipeline.training.targets import (
    VOLATILITY,
    RmsScaler,
    TargetScaler,
    VolatilityScaler,
    anchor_volatility,
)
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

LAGS = (1, 2, 3, 6, 12, 24)
"""Bars back of single log returns."""

SPANS = (6, 24, 72, 168)
"""Bars over which log returns are added up."""

MEAN_SPAN = 24
"""Bars over which the other features are averaged."""

_HOUR_MS = 3_600_000
_CYCLES = (24, 168)  # hours

Doubles = npt.NDArray[np.float64]
Column = tuple[str, npt.NDArray[np.float32]]
"""Name and values [N, S]."""


@dataclass(frozen=True)
class TabularScaling:
    """Scales of columns and labels, fitted on the training windows alone.

    Columns are scaled symbol by symbol and labels by the volatility of the moment, where the
    windows know it: so the rows of all symbols and times can teach one model.
    """

    columns: FeatureScaler
    """Median and quartiles of each symbol's columns."""
    targets: TargetScaler
    """Scale of the labels."""

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split, inputs: Inputs) -> "TabularScaling":
        """Fit on the training windows."""
        x_NSK = columns_of(frame, split.train_N, inputs)
        label_NS = frame.label_NS[split.train_N]
        targets: TargetScaler = RmsScaler.fit(label_NS)
        if VOLATILITY in frame.features:
            sigma_NS = anchor_volatility(frame)[split.train_N]
            targets = VolatilityScaler.fit(label_NS, sigma_NS, frame.horizon)
        return cls(FeatureScaler.fit(x_NSK, "robust"), targets)

    def rows(self, frame: WindowFrame, index_N: Positions, inputs: Inputs) -> Doubles:
        """Return scaled columns [M, K], 0 where unknown."""
        x_NSK = self.columns.transform(columns_of(frame, index_N, inputs))
        return x_NSK.reshape(-1, x_NSK.shape[-1]).astype(np.float64)

    def scaled_labels(self, frame: WindowFrame) -> Floats:
        """Return the scaled label of every window and symbol [N, S]; NaN where unknown."""
        return self.targets.transform(frame.label_NS, anchor_volatility(frame))

    def known_rows(
        self, frame: WindowFrame, index_N: Positions, inputs: Inputs
    ) -> tuple[Doubles, Doubles]:
        """Return scaled columns [M, K] and labels [M] of the windows whose label is known."""
        y_M = self.scaled_labels(frame)[index_N].reshape(-1)
        known_M = np.isfinite(y_M)
        return self.rows(frame, index_N, inputs)[known_M], y_M[known_M].astype(np.float64)

    def log_returns(self, frame: WindowFrame, index_N: Positions, scaled_M: Doubles) -> Floats:
        """Return predictions [N, S] in log returns for scaled ones."""
        scaled_NS = scaled_M.reshape(len(index_N), -1).astype(np.float32)
        return self.targets.inverse(scaled_NS, anchor_volatility(frame)[index_N])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return {"columns": self.columns.to_dict(), "targets": self.targets.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TabularScaling":
        """Return the scaling that `to_dict` wrote."""
        columns = FeatureScaler.from_dict(values["columns"])
        return cls(columns, TargetScaler.from_dict(values["targets"]))


def columns_of(frame: WindowFrame, index_N: Positions, inputs: Inputs) -> Floats:
    """Return the columns [N, S, K] of windows, unscaled; NaN where one is unknown.

    The features at the last bar; single log returns `LAGS` bars back; log returns added up over
    `SPANS` bars, of the symbol and averaged over the symbols; the other features averaged over
    `MEAN_SPAN` bars; sine and cosine of the hour of the day and of the week. What would reach
    beyond the lookback is left out.
    """
    return np.stack([column_NS for _, column_NS in _columns(frame, index_N, inputs)], axis=-1)


def column_names(frame: WindowFrame, inputs: Inputs) -> list[str]:
    """Return the names of the columns, in order."""
    return [name for name, _ in _columns(frame, np.array([0]), inputs)]


def sum_of_last(values_TS: Doubles, end_N: Positions, bars: int) -> Doubles:
    """Return the sum [N, S] of the last `bars` values up to and with each end.

    Added one by one from the newest, so that the same bars give the same bits wherever the series
    begins.
    """
    total_NS = np.zeros((len(end_N), values_TS.shape[1]))
    for back in range(bars):
        total_NS += values_TS[end_N - back]
    return total_NS


def _columns(frame: WindowFrame, index_N: Positions, inputs: Inputs) -> Iterator[Column]:
    yield from _feature_columns(frame, index_N, inputs)
    yield from _return_columns(frame, index_N, inputs)
    hour_N1 = (frame.made_at_N[index_N] / _HOUR_MS)[:, None]
    shape = (len(index_N), len(frame.symbols))
    for cycle in _CYCLES:
        for wave in (np.sin, np.cos):
            turn_N1 = wave(2 * np.pi * (hour_N1 % cycle) / cycle).astype(np.float32)
            yield f"{wave.__name__} of {cycle} hours", np.broadcast_to(turn_N1, shape)


def _feature_columns(frame: WindowFrame, index_N: Positions, inputs: Inputs) -> Iterator[Column]:
    end_N = anchor_bars(frame, index_N)
    x_TSF = frame.along_time(frame.x_BKSF)
    for f, name in enumerate(frame.features):
        yield name, x_TSF[end_N, :, f]
        if name != LOG_RETURN and inputs.lookback >= MEAN_SPAN:
            sum_NS = sum_of_last(x_TSF[:, :, f].astype(np.float64), end_N, MEAN_SPAN)
            yield f"{name}, mean of {MEAN_SPAN}", (sum_NS / MEAN_SPAN).astype(np.float32)


def _return_columns(frame: WindowFrame, index_N: Positions, inputs: Inputs) -> Iterator[Column]:
    end_N, return_TS = anchor_bars(frame, index_N), known_log_returns(frame)
    for lag in LAGS:
        if lag < inputs.lookback:
            yield f"{LOG_RETURN}, {lag} back", return_TS[end_N - lag].astype(np.float32)
    for span in SPANS:
        if span <= inputs.lookback:
            sum_NS = sum_of_last(return_TS, end_N, span).astype(np.float32)
            yield f"{LOG_RETURN}, sum of {span}", sum_NS
            mean_N1 = sum_NS.mean(axis=1, keepdims=True)
            yield f"{LOG_RETURN}, sum of {span}, all", np.broadcast_to(mean_N1, sum_NS.shape)
