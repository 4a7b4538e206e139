"""The models of a grid of tokens as MLflow serves them: windows in, predictions out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.fallback import anywhere
from flash_pipeline.training.grid_bundle import GridBundle

GRID_ARTIFACT = "grid"
"""Name of the bundle's folder among the model's artifacts."""

_TOKENS = 2_000_000
"""Tokens that go through the model at a time."""


class GridForecaster:
    """Predicts from windows of tokens, one that holds a NaN being absent.

    MLflow stores the bundle, weights in safetensors and a JSON, no pickle. The code is this
    installed package. On a GPU where there is one.
    """

    def __init__(self, bundle: GridBundle) -> None:
        self._bundle = bundle
        self._models: dict[torch.device, OrderBookModel | PortfolioModel] = {}
        anywhere(self._on)  # whoever loads the model learns of a full GPU, not who asks it first

    def _on(self, device: torch.device) -> OrderBookModel | PortfolioModel:
        """Return the model on a device, made once."""
        if device not in self._models:
            self._models[device] = self._bundle.model(device)
        return self._models[device]

    def predict(
        self,
        model_input: Any,  # noqa: ANN401  (MLflow's own, untyped)
        params: dict[str, Any] | None = None,  # noqa: ARG002  (the signature has none)
    ) -> npt.NDArray[np.float32]:
        """Return predictions of the last moment for windows [n, moments, *cells, inputs].

        Of an order book [n, horizons, 3] (down, flat, up), of a portfolio weights [n, assets].

        Raises
        ------
        OutOfMemory
            As for `Forecaster.predict`.
        """
        x = torch.from_numpy(np.array(model_input, dtype=np.float32))
        rows = max(1, _TOKENS // max(1, x[0, ..., 0].numel())) if len(x) else 1
        parts = anywhere(lambda device: [self._part(part, device) for part in torch.split(x, rows)])
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    def _part(self, x: torch.Tensor, device: torch.device) -> torch.Tensor:
        model, valid = self._on(device), ~x.isnan().any(-1)
        mask = None if bool(valid.all()) else valid.to(device)
        with autocast(device):
            return model.predict(x.to(device), mask).float().cpu()


def grid_signature(bundle: GridBundle, example: npt.NDArray[np.float32]) -> ModelSignature:
    """Return the tensor signature: float32 windows of the example's shape to what is predicted.

    Parameters
    ----------
    bundle : GridBundle
        The model.
    example : array [n, moments, *cells, inputs]
        Windows.
    """
    # One moment tells the shape of the outputs; on this CPU a window of 200,000 tokens is minutes.
    newest = torch.from_numpy(np.asarray(example[:1, -1:], np.float32))
    outputs = bundle.model().predict(newest)
    dtype = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(dtype, (-1, *outputs.shape[1:]))]),
    )
