"""The registered models as MLflow serves them: windows in, predictions out."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.models import ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from flash_pipeline.training.baselines import Inputs, load_baseline
from flash_pipeline.training.baselines.raw import frame_of
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported
    from mlflow.pyfunc.model import PythonModel

BUNDLE_ARTIFACT = "bundle"
"""Name of the bundle's folder among the model's artifacts."""

BASELINE_ARTIFACT = "baseline"
"""Name of the folder of a baseline's files."""

MADE_AT = "made_at"
"""Parameter of a served baseline."""


class ServedModel(PythonModel):
    """Predicts from windows of unscaled features.

    MLflow stores the few lines of `served_model.py`, which make one of these, and the bundle:
    weights in safetensors and a JSON, no pickle. The code is this installed package.
    """

    def load_context(self, context: Any) -> None:  # noqa: ANN401  (MLflow's own, untyped)
        """Read the bundle and put the model on a GPU where there is one."""
        bundle = ModelBundle.load(Path(context.artifacts[BUNDLE_ARTIFACT]))
        self._predictor = Predictor(bundle)

    def predict(
        self,
        context: Any,  # noqa: ANN401, ARG002  (MLflow's own, untyped; the bundle is loaded already)
        model_input: np.ndarray,  # bare: MLflow warns of any hint that it derives no schema from
        params: dict[str, Any] | None = None,  # noqa: ARG002  (the signature has none)
    ) -> npt.NDArray[np.float32]:
        """Return predictions [n, symbols] for windows [n, lookback, symbols * features].

        Those of a quantile head are its medians.
        """
        return self._predictor.predict(np.asarray(model_input, dtype=np.float32))


class ServedBaseline(PythonModel):
    """Predicts from windows of unscaled features, as the model does that a baseline stands beside.

    MLflow stores the few lines of `served_baseline.py`, and the baseline's own files, no pickle.
    """

    def load_context(self, context: Any) -> None:  # noqa: ANN401  (MLflow's own, untyped)
        """Read the baseline."""
        self._baseline = load_baseline(Path(context.artifacts[BASELINE_ARTIFACT]))

    def predict(
        self,
        context: Any,  # noqa: ANN401, ARG002  (MLflow's own, untyped; the files are read already)
        model_input: np.ndarray,  # bare: MLflow warns of any hint that it derives no schema from
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


def signature(bundle: ModelBundle) -> ModelSignature:
    """Return the tensor signature: float32 (-1, lookback, symbols * features) to (-1, symbols)."""
    return _signature(bundle.lookback, len(bundle.symbols), len(bundle.feature_names))


def baseline_signature(inputs: Inputs) -> ModelSignature:
    """Return that of the model beside it, with `made_at` as a parameter."""
    made_at = ParamSpec(MADE_AT, DataType.long, [], shape=(-1,))
    tensors = _signature(inputs.lookback, len(inputs.symbols), len(inputs.features))
    return ModelSignature(tensors.inputs, tensors.outputs, ParamSchema([made_at]))


def _signature(lookback: int, symbols: int, features: int) -> ModelSignature:
    dtype = np.dtype(np.float32)
    windows = TensorSpec(dtype, (-1, lookback, symbols * features))
    predictions = TensorSpec(dtype, (-1, symbols))
    return ModelSignature(inputs=Schema([windows]), outputs=Schema([predictions]))
