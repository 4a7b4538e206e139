"""The bundle of a model of many tokens a moment, an order book's or a market's, without a pickle.

model.safetensors   the weights
bundle.json         architecture, and what a prediction or a reader of it needs to know
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.model.grid_config import OrderBookConfig, PortfolioConfig
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.bundle import DESCRIPTION_FILE, WEIGHTS_FILE

_FORMAT = "grid-1"
_CONFIGS: Mapping[str, type[OrderBookConfig | PortfolioConfig]] = {
    "order_book": OrderBookConfig,
    "portfolio": PortfolioConfig,
}


@dataclass(frozen=True)
class GridBundle:
    """A trained model and all that its inputs and outputs mean.

    Raises
    ------
    BundleMismatch
        If the kind is unknown, or is not that of the configuration.
    """

    kind: str
    """`order_book` or `portfolio`."""
    config: OrderBookConfig | PortfolioConfig
    """Architecture."""
    weights: dict[str, torch.Tensor]
    """State of the model, float32, on the CPU."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Fit for JSON: symbols, order of the inputs, horizons, scales, thresholds, instants of the
    split, whether a simulator made the data."""

    def __post_init__(self) -> None:
        expected = _CONFIGS.get(self.kind)
        if expected is None or not isinstance(self.config, expected):
            raise BundleMismatch(
                f"a bundle of kind {self.kind!r} has a {type(self.config).__name__}: expected "
                "'order_book' with an OrderBookConfig or 'portfolio' with a PortfolioConfig"
            )

    @classmethod
    def of(cls, model: OrderBookModel | PortfolioModel, details: Mapping[str, Any]) -> Self:
        """Return the bundle of a model, its weights copied to the CPU."""
        kind = "order_book" if isinstance(model, OrderBookModel) else "portfolio"
        weights = {name: w.detach().float().cpu().clone() for name, w in model.state_dict().items()}
        return cls(kind, model.config, weights, dict(details))

    def save(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        save_file(self.weights, folder / WEIGHTS_FILE)
        description = {
            "format": _FORMAT,
            "kind": self.kind,
            "model": self.config.to_dict(),
            "details": dict(self.details),
        }
        text = json.dumps(description, indent=2, sort_keys=True, allow_nan=False)
        (folder / DESCRIPTION_FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a bundle.

        Raises
        ------
        BundleMismatch
            If the files are missing, of another format, or do not fit each other.
        """
        try:
            description = json.loads((folder / DESCRIPTION_FILE).read_text())
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise BundleMismatch(f"{folder} holds no bundle of a grid model: {error}") from error
        found = description.get("format") if isinstance(description, dict) else None
        if found != _FORMAT:
            raise BundleMismatch(f"{folder} holds a bundle of format {found!r}: expected {_FORMAT}")
        kind = description.get("kind")
        if kind not in _CONFIGS:
            raise BundleMismatch(
                f"{folder} holds a bundle of kind {kind!r}: expected {' or '.join(_CONFIGS)}"
            )
        try:
            config = _CONFIGS[kind].from_dict(description["model"])
            bundle = cls(kind, config, weights, description["details"])
        except (KeyError, TypeError, InvalidConfig) as error:
            raise BundleMismatch(f"{folder} holds an incomplete bundle: {error}") from error
        bundle.model()
        return bundle

    def model(self, device: torch.device | None = None) -> OrderBookModel | PortfolioModel:
        """Return the model in evaluation mode, on a device (by default the CPU).

        Raises
        ------
        BundleMismatch
            If the weights do not fit the architecture.
        """
        model: OrderBookModel | PortfolioModel
        if isinstance(self.config, OrderBookConfig):
            model = OrderBookModel.of(self.config)
        else:
            model = PortfolioModel.of(self.config)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise BundleMismatch(f"the weights do not fit the architecture: {error}") from error
        return model.to(device or torch.device("cpu")).eval()
