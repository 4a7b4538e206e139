"""DLinear: one linear layer on the trend of the past, one on what is left.

Shape letters: N windows, S symbols, L bars of a window, T bars.

Zeng, Chen, Zhang and Xu 2023, Are Transformers Effective for Time Series Forecasting?, section 4:
the series is split by a moving average of 25 bars, and each part is mapped by a linear layer of its
own to the future bars. The weights are shared by the symbols. A label is the sum of the log returns
of the future bars, and so is a sum of linear maps: one output replaces one for each bar.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.training.baselines.base import Baseline, Inputs, known_log_returns
from flash_pipeline.training.baselines.tabular import TabularScaling
from flash_pipeline.training.bundle import default_device
from flash_pipeline.training.runtime import fitting_threads, seeded
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

WEIGHTS_FILE = "dlinear.safetensors"
"""Weights of the two layers."""

KERNEL = 25
"""Bars of the moving average, as in the paper."""

EPOCHS = 10
"""Passes; the weights after the one with the lowest validation error are kept."""

_WIDTH = 1  # of the output: the products are of a matrix and a vector
_BATCH = 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 1e-2
_SEED = 58


class DLinearModel(nn.Module):
    """The two layers, applied as the one that they amount to.

    The moving average is linear too: with its matrix P, in which P[i, t] is the weight of bar i in
    the trend of bar t, the forecast is (rest + P (trend - rest)) . x + bias. So the window is read
    once and its trend is never laid out; what is learnt, and how, is the same.

    Parameters
    ----------
    lookback : int
        Bars of a window, at least 1.
    """

    average_LL: Tensor

    def __init__(self, lookback: int) -> None:
        super().__init__()
        self.trend, self.rest = (nn.Parameter(torch.zeros(lookback)) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("average_LL", trend_of(torch.eye(lookback)), persistent=False)

    def forward(self, x_NLS: Tensor) -> Tensor:
        """Return the forecasts [N, S] for scaled log returns [N, L, S]."""
        weight_L = self.rest + self.average_LL @ (self.trend - self.rest)
        return torch.einsum("nls,l->ns", x_NLS, weight_L) + self.bias


def trend_of(x_NL: Tensor) -> Tensor:
    """Return the centred moving average of series, with their ends repeated as in the paper."""
    half = (KERNEL - 1) // 2
    padded = nn.functional.pad(x_NL.unsqueeze(1), (half, KERNEL - 1 - half), mode="replicate")
    return nn.functional.avg_pool1d(padded, KERNEL, stride=1).squeeze(1)


@dataclass(frozen=True)
class DLinear(Baseline):
    """The paper's linear model of the log returns of a window."""

    kind: ClassVar[str] = "dlinear"

    scaling: TabularScaling
    """Of the labels."""
    unit_S: npt.NDArray[np.float32]
    """Root mean square of each symbol's log returns over the training range, above 0."""
    weights: dict[str, Tensor]
    """State of `DLinearModel`, float32, on the CPU."""

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:
        """Fit by AdamW on squared errors of the scaled labels; keep the best pass."""
        inputs = Inputs.of(frame)
        scaling = TabularScaling.fit(frame, split, inputs)
        seen_TS = known_log_returns(frame)[split.fitting_bars(frame)]
        unit_S = np.sqrt((seen_TS**2).mean(axis=0)).astype(np.float32)
        unit_S[unit_S == 0] = 1.0
        with seeded(_SEED), fitting_threads(_WIDTH):
            weights = _fitted(frame, split, scaling, unit_S)
        return cls(inputs, scaling, unit_S, weights)

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        model = DLinearModel(self.inputs.lookback).to(default_device())
        model.load_state_dict(self.weights)
        series = _Series(frame, self.unit_S, self.inputs.lookback)
        scaled_NS = _forecast(model, series, index_N)
        return self.scaling.log_returns(frame, index_N, scaled_NS.reshape(-1).astype(np.float64))

    def _save(self, folder: Path) -> dict[str, Any]:
        save_file(self.weights, folder / WEIGHTS_FILE)
        return {"scaling": self.scaling.to_dict(), "unit": self.unit_S.tolist()}

    @classmethod
    def _load(cls, inputs: Inputs, state: dict[str, Any], folder: Path) -> Self:
        try:
            weights = load_file(folder / WEIGHTS_FILE)
        except SafetensorError as error:
            raise BundleMismatch(f"{folder} holds an incomplete baseline: {error}") from error
        unit_S = np.asarray(state["unit"], np.float32)
        return cls(inputs, TabularScaling.from_dict(state["scaling"]), unit_S, weights)


class _Series:
    """The scaled log returns of the panel, cut into windows by position."""

    def __init__(self, frame: WindowFrame, unit_S: npt.NDArray[np.float32], lookback: int) -> None:
        scaled_TS = (known_log_returns(frame) / unit_S).astype(np.float32)
        series_TS = torch.from_numpy(scaled_TS).to(default_device())
        bars, symbols = series_TS.shape
        # Rows that follow one another bar by bar: a batch is copied window by window in one piece.
        shape = (bars - lookback + 1, lookback, symbols)
        self._windows_NLS = series_TS.as_strided(shape, (symbols, symbols, 1))
        self._first = frame.lookback - lookback

    def windows(self, index_N: Positions) -> Tensor:
        """Return windows [N, L, S]."""
        index = torch.from_numpy(index_N + self._first).to(self._windows_NLS.device)
        return self._windows_NLS.index_select(0, index)


def _fitted(
    frame: WindowFrame, split: Split, scaling: TabularScaling, unit_S: npt.NDArray[np.float32]
) -> dict[str, Tensor]:
    """Return the weights of the pass with the lowest validation error."""
    device = default_device()
    series = _Series(frame, unit_S, frame.lookback)
    y_NS = torch.from_numpy(scaling.scaled_labels(frame)).to(device)
    model = DLinearModel(frame.lookback).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    best, lowest = _state(model), math.inf
    rng = np.random.default_rng(_SEED)
    for _ in range(EPOCHS):
        order_N = rng.permutation(split.train_N)
        for start in range(0, len(order_N), _BATCH):
            part_N = order_N[start : start + _BATCH]
            loss = _squared_error(model(series.windows(part_N)), _rows(y_NS, part_N))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        error = _error(model, series, y_NS, split.validation_N)
        if error < lowest:
            best, lowest = _state(model), error
    return best


def _state(model: DLinearModel) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _rows(y_NS: Tensor, index_N: Positions) -> Tensor:
    return y_NS[torch.from_numpy(index_N).to(y_NS.device)]


def _squared_error(predicted_NS: Tensor, y_NS: Tensor) -> Tensor:
    """Return the mean squared error of the known labels; 0 where none is."""
    known_NS = torch.isfinite(y_NS)
    difference_NS = torch.where(known_NS, predicted_NS - torch.nan_to_num(y_NS), 0.0)
    return difference_NS.square().sum() / known_NS.sum().clamp(min=1)


def _error(model: DLinearModel, series: _Series, y_NS: Tensor, index_N: Positions) -> float:
    predicted_NS = torch.from_numpy(_forecast(model, series, index_N))
    return float(_squared_error(predicted_NS, _rows(y_NS, index_N).cpu()))


def _forecast(model: DLinearModel, series: _Series, index_N: Positions) -> npt.NDArray[np.float32]:
    parts = range(0, len(index_N), _BATCH)
    with torch.inference_mode():
        told = [model(series.windows(index_N[start : start + _BATCH])) for start in parts]
        forecasts_NS: npt.NDArray[np.float32] = torch.cat(told).cpu().numpy()
    return forecasts_NS
