"""The registered models as MLflow serves them: candles or windows in, a table of forecasts out."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from flash_pipeline.errors import DataError, InvalidInput
from flash_pipeline.training.baselines import Baseline, Inputs
from flash_pipeline.training.baselines.raw import frame_of
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.fallback import anywhere
from flash_pipeline.training.given_candles import (
    MAX_AGE_BARS,
    checked_instant,
    expected_candles,
    newest_window,
)
from flash_pipeline.training.predictor import Predictions, Predictor
from flash_pipeline.training.scaler import Floats

ARTIFACTS = "artifacts"
"""Folder of a stored model that holds the folder of its own files."""

BUNDLE_ARTIFACT = "bundle"
"""Name of the bundle's folder among the model's artifacts."""

BASELINE_ARTIFACT = "baseline"
"""Name of the folder of a baseline's files."""

MADE_AT = "made_at"
"""Parameter: when each window was made."""

_NOW = -1

_PARAMS = (
    ParamSpec("as_of", DataType.long, _NOW),
    ParamSpec("max_age_bars", DataType.long, MAX_AGE_BARS),
    ParamSpec(MADE_AT, DataType.long, [], shape=(-1,)),
    ParamSpec("symbols", DataType.string, [], shape=(-1,)),
    ParamSpec("features", DataType.string, [], shape=(-1,)),
)

_OF_CANDLES = {spec.name: spec for spec in _PARAMS if spec.name in ("as_of", "max_age_bars")}
_OF_WINDOWS = {spec.name: spec for spec in _PARAMS if spec.name not in _OF_CANDLES}

_COLUMNS = (
    ColSpec(DataType.string, "symbol"),
    ColSpec(DataType.long, "made_at"),
    ColSpec(DataType.long, "horizon"),
    ColSpec(DataType.double, "prediction"),
    ColSpec(DataType.double, "lower"),
    ColSpec(DataType.double, "upper"),
)


class Forecaster:
    """Predicts from candles as the exchange sends them, or from windows of unscaled features.

    It is what `mlflow.pyfunc.load_model` wraps. MLflow stores the bundle, weights in safetensors
    and a JSON, no pickle. The code is this installed package.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self._bundle = bundle
        self._predictors: dict[torch.device, Predictor] = {}
        anywhere(self._on)  # whoever loads the model learns of a full GPU, not who asks it first

    def _on(self, device: torch.device) -> Predictor:
        """Return the predictor on a device, made once."""
        if device not in self._predictors:
            self._predictors[device] = Predictor(self._bundle, device)
        return self._predictors[device]

    def predict(
        self,
        model_input: Any,  # noqa: ANN401  (checked here: MLflow's schemas know one kind each)
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return a row for each symbol, of an array for each window and symbol.

        Parameters
        ----------
        model_input : DataFrame or array [n, lookback, symbols * features]
            Candles (see `newest_window`), or unscaled features, NaN or None where unknown.
        params : dict
            Of candles: `as_of`, the present instant, ms since the epoch (by default this
            machine's), and `max_age_bars`. Of an array: `made_at`, the close of each window's
            last bar, ms since the epoch; `symbols` and `features`, the order of its last axis,
            which is compared with the model's. None stands for the default.

        Returns
        -------
        pd.DataFrame
            `symbol, made_at, horizon, prediction, lower, upper`; of an array `window` before
            them, counted from 0, and `made_at` null where it is not given. The bounds are those
            of `Predictor.bounds`. Prediction and bounds are null for a symbol whose newest bar
            lacks a feature: its last price is not known, or its volume has been 0 throughout.

        Raises
        ------
        InvalidInput
            If the input cannot be used; the message says why and what is expected.
        OutOfMemory
            If the GPU has no room and FLASH_PIPELINE_ON_GPU_TROUBLE is `fail`, its default: with
            `cpu` and `skip` the CPU predicts, and the next call asks the GPU again.
        """
        options = {name: each for name, each in (params or {}).items() if each is not None}
        try:
            if isinstance(model_input, pd.DataFrame):
                _refuse_others(options, _OF_WINDOWS, "windows, and candles were given")
                return self._of_candles(model_input, options)
            _refuse_others(options, _OF_CANDLES, "candles, and an array was given")
            return self._of_windows(model_input, options)
        except (InvalidInput, DataError) as error:
            raise InvalidInput(f"{error}. Expected: {expected_inputs(self._bundle)}") from error

    def _of_candles(self, candles: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        given = params.get("as_of", _NOW)
        as_of = checked_instant(time.time() * 1000 if given == _NOW else given, "as_of")
        x_LI, made_at = newest_window(
            candles, self._bundle, as_of, int(params.get("max_age_bars", MAX_AGE_BARS))
        )
        return self._table(x_LI[None], [made_at]).drop(columns="window")

    def _of_windows(self, windows: Any, params: Mapping[str, Any]) -> pd.DataFrame:  # noqa: ANN401
        bundle = self._bundle
        x_NLI = _floats(windows)
        expected = (bundle.lookback, bundle.config.input_dim)
        if x_NLI.ndim != 3 or x_NLI.shape[1:] != expected:
            raise InvalidInput(f"an array of shape {x_NLI.shape}")
        for name, own in (("symbols", bundle.symbols), ("features", bundle.feature_names)):
            given = tuple(params.get(name, ()))
            if given and given != own:
                raise InvalidInput(f"{name} in the order {', '.join(given)}")
        made_at_N = list(params.get(MADE_AT, ())) or [None] * len(x_NLI)
        if len(made_at_N) != len(x_NLI):
            raise InvalidInput(f"{len(made_at_N)} values of made_at for {len(x_NLI)} windows")
        return self._table(x_NLI, made_at_N)

    def _table(self, x_NLI: Floats, made_at_N: list[Any]) -> pd.DataFrame:
        bundle, count = self._bundle, len(self._bundle.symbols)
        finite_NLI = np.isfinite(x_NLI)
        x_NLI = np.where(finite_NLI, x_NLI, np.float32(np.nan))
        newest_NSF = finite_NLI[:, -1].reshape(len(x_NLI), count, len(bundle.feature_names))
        known_NS = np.asarray(newest_NSF.all(axis=-1))
        told, (lower_NS, upper_NS) = anywhere(lambda device: _told(self._on(device), x_NLI))
        return pd.DataFrame(
            {
                "window": np.repeat(np.arange(len(x_NLI)), count),
                "symbol": list(bundle.symbols) * len(x_NLI),
                "made_at": pd.array(made_at_N, dtype="Int64").repeat(count),
                "horizon": bundle.horizon,
                "prediction": _nullable(told.value_NS, known_NS),
                "lower": _nullable(lower_NS, known_NS),
                "upper": _nullable(upper_NS, known_NS),
            }
        )


class BaselineForecaster:
    """Predicts from windows of unscaled features, as the model does that a baseline stands beside.

    MLflow stores the baseline's own files, no pickle. The code is this installed package.
    """

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    def predict(
        self,
        model_input: Any,  # noqa: ANN401  (MLflow's own, untyped)
        params: dict[str, Any] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return predictions [n, symbols] for windows [n, lookback, symbols * features].

        Parameters
        ----------
        params : dict
            `made_at`: the close of each window's last bar, ms since the epoch, for the baselines
            that know the hour of the day or the week.

        Raises
        ------
        BundleMismatch
            If such a baseline is asked without it.
        """
        x_NLI = np.asarray(model_input, dtype=np.float32)
        made_at_N = np.asarray((params or {}).get(MADE_AT, []), dtype=np.int64)
        if not self._baseline.timed and not len(made_at_N):
            made_at_N = np.zeros(len(x_NLI), np.int64)
        frame, index_N = frame_of(self._baseline.inputs, x_NLI, made_at_N)
        return self._baseline.predict(frame, index_N).value_NS


def expected_inputs(bundle: ModelBundle) -> str:
    """Return in words what a served model takes: the signature that its refusals state.

    Candles of a market that closes have gaps, which are refused: there they are not offered.
    """
    candles = "" if bundle.sessional else f"{expected_candles(bundle)}; or "
    return (
        f"{candles}an array of floats (n, {bundle.lookback}, "
        f"{bundle.config.input_dim}) of unscaled features, NaN where unknown, whose last axis is "
        f"{', '.join(bundle.symbols)}, each with {', '.join(bundle.feature_names)}"
    )


def signature() -> ModelSignature:
    """Return the signature of the model: the columns of its answer, and its parameters.

    Its input is checked by `Forecaster`: an MLflow schema is one of columns or one of a tensor,
    and the model takes both.
    """
    return ModelSignature(outputs=Schema(list(_COLUMNS)), params=ParamSchema(list(_PARAMS)))


def baseline_signature(inputs: Inputs) -> ModelSignature:
    """Return that of a baseline: float32 (-1, lookback, symbols * features) to (-1, symbols)."""
    dtype = np.dtype(np.float32)
    windows = TensorSpec(dtype, (-1, inputs.lookback, len(inputs.symbols) * len(inputs.features)))
    predictions = TensorSpec(dtype, (-1, len(inputs.symbols)))
    made_at = ParamSpec(MADE_AT, DataType.long, [], shape=(-1,))
    return ModelSignature(Schema([windows]), Schema([predictions]), ParamSchema([made_at]))


def _refuse_others(options: Mapping[str, Any], others: Mapping[str, ParamSpec], whose: str) -> None:
    """Refuse parameters of the other kind of input; MLflow fills in those that are not given."""
    for name, spec in others.items():
        given = options.get(name, spec.default)
        if (list(given) if spec.shape else given) != spec.default:
            raise InvalidInput(f"the parameter {name} is for {whose}")


def _told(predictor: Predictor, x_NLI: Floats) -> tuple[Predictions, tuple[Floats, Floats]]:
    """Return the predictions of windows, and their bounds."""
    told = predictor.predict_windows(x_NLI)
    return told, predictor.bounds(told, predictor.sigma(x_NLI[:, -1]))


def _nullable(value_NS: Floats, known_NS: npt.NDArray[np.bool_]) -> Any:  # noqa: ANN401  (pandas')
    """Return numbers in one row, null where not known: JSON has a null and no NaN."""
    return pd.array(np.where(known_NS, value_NS, np.nan).ravel().astype(float), dtype="Float64")


def _floats(windows: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401  (whatever a caller gives)
    try:
        found = np.asarray(windows)
        if found.dtype.kind not in "fiuO":
            raise InvalidInput(f"an array of {found.dtype}")
        with np.errstate(over="ignore"):
            return found.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"no array of numbers: {error}") from error
