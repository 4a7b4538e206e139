"""The registered model as MLflow serves it: windows in, predictions out."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported
    from mlflow.pyfunc.model import PythonModel

BUNDLE_ARTIFACT = "bundle"
"""Name of the bundle's folder among the model's artifacts."""


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


def signature(bundle: ModelBundle) -> ModelSignature:
    """Return the tensor signature: float32 (-1, lookback, symbols * features) to (-1, symbols)."""
    dtype = np.dtype(np.float32)
    windows = TensorSpec(dtype, (-1, bundle.lookback, bundle.config.input_dim))
    predictions = TensorSpec(dtype, (-1, len(bundle.symbols)))
    return ModelSignature(inputs=Schema([windows]), outputs=Schema([predictions]))
