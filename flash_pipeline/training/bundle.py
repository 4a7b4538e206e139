"""The model bundle: all that a prediction needs, in files without a pickle.

model.safetensors   the weights; of an ensemble's further members model-2.safetensors and so on
bundle.json         architecture, scalers, order of symbols and features, what it was fitted on
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.features import CATALOG
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.scaler import FeatureScaler, Floats
from flash_pipeline.training.targets import TargetScaler, in_units

WEIGHTS_FILE = "model.safetensors"
"""Weights, float32."""

DESCRIPTION_FILE = "bundle.json"
"""Everything else."""

_FORMAT = 2


@dataclass(frozen=True)
class Provenance:
    """What a model was fitted on, in absolute times (ms since the epoch)."""

    recipe: str
    """Name of the recipe."""
    fingerprint: str
    """Hash of the recipe and the data: equal fingerprints are equal trainings."""
    snapshot: str
    """Hash of the window tensors."""
    synthetic: bool
    """Whether a simulator made the candles."""
    train_from: int
    """Open of the first training anchor."""
    train_until: int
    """End of the last training label: no price after it has touched the weights."""
    seen_until: int
    """End of the last validation label: no price after it has touched the choice either."""
    parent: str | None = None
    """Version of the model whose weights were the start; None for random weights."""
    trained_to: int | None = None
    """Instant of the last training prediction; it and the next three are of this training alone,
    whatever its parent saw, and None in bundles of an older version."""
    validated_from: int | None = None
    """Instant of the first validation prediction."""
    validated_to: int | None = None
    """Instant of the last validation prediction."""
    tested_from: int | None = None
    """Instant of the first test prediction."""


@dataclass(frozen=True)
class ModelBundle:
    """A trained model with its scalers and the order of its inputs and outputs."""

    config: ModelConfig
    """Architecture."""
    weights: dict[str, torch.Tensor]
    """State of `FlashAttentionTrader`, float32, on the CPU."""
    features: FeatureScaler
    """Scaler of the inputs."""
    targets: TargetScaler
    """Scaler of the labels."""
    symbols: tuple[str, ...]
    """Order of the symbol axis."""
    feature_names: tuple[str, ...]
    """Order of the feature axis."""
    interval: str
    """Candle interval by the exchange's code."""
    lookback: int
    """Bars of a window."""
    horizon: int
    """Bars ahead that is predicted."""
    prediction_scale: float
    """Root mean square of the predictions over the validation range, for sizing positions that the
    head itself does not size."""
    provenance: Provenance
    """What it was fitted on."""
    siblings: tuple[dict[str, torch.Tensor], ...] = ()
    """Weights of an ensemble's further members, which differ in their seed alone."""
    half_width_S: tuple[float, ...] | None = None
    """Half width of each symbol's interval around a prediction, in the unit of the scaled targets:
    see `training.intervals`. None for other heads, and in bundles of an older version."""
    sessional: tuple[str, ...] = ()
    """Those of its symbols whose market may close: candles at hand have gaps then and do not give
    its inputs. Empty in bundles of an older version."""

    @property
    def member_weights(self) -> tuple[dict[str, torch.Tensor], ...]:
        """Weights of every member, one but for an ensemble; a prediction is their mean."""
        return (self.weights, *self.siblings)

    def save(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        for number, weights in enumerate(self.member_weights, 1):
            save_file(weights, folder / _weights_file(number))
        catalog = {feature.name: feature for feature in CATALOG}
        description = {
            "format": _FORMAT,
            "model": self.config.to_dict(),
            "feature_scaler": self.features.to_dict(),
            "target_scaler": self.targets.to_dict(),
            "symbols": list(self.symbols),
            "features": [dataclasses.asdict(catalog[name]) for name in self.feature_names],
            "interval": self.interval,
            "lookback": self.lookback,
            "horizon": self.horizon,
            "prediction_scale": self.prediction_scale,
            "members": len(self.member_weights),
            "half_width": None if self.half_width_S is None else list(self.half_width_S),
            "sessional": list(self.sessional),
            "provenance": dataclasses.asdict(self.provenance),
        }
        text = json.dumps(description, indent=2, sort_keys=True)
        (folder / DESCRIPTION_FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> "ModelBundle":
        """Read a bundle.

        Raises
        ------
        BundleMismatch
            If the files are missing, of another format, or do not fit each other.
        """
        try:
            description = json.loads((folder / DESCRIPTION_FILE).read_text())
        except (OSError, ValueError) as error:
            raise BundleMismatch(f"{folder} holds no model bundle: {error}") from error
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            found = description.get("format") if isinstance(description, dict) else None
            raise BundleMismatch(f"{folder} holds a bundle of format {found!r}: expected {_FORMAT}")
        try:
            numbers = range(1, 1 + description.get("members", 1))
            weights, *siblings = (load_file(folder / _weights_file(number)) for number in numbers)
            return cls._described(description, weights, tuple(siblings))
        except (OSError, SafetensorError) as error:
            raise BundleMismatch(f"{folder} holds no model bundle: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BundleMismatch(f"{folder} holds an incomplete bundle: {error}") from error

    @classmethod
    def _described(
        cls,
        description: dict[str, Any],
        weights: dict[str, torch.Tensor],
        siblings: tuple[dict[str, torch.Tensor], ...],
    ) -> "ModelBundle":
        return cls(
            config=ModelConfig.from_dict(description["model"]),
            weights=weights,
            siblings=siblings,
            features=FeatureScaler.from_dict(description["feature_scaler"]),
            targets=TargetScaler.from_dict(description["target_scaler"]),
            symbols=tuple(description["symbols"]),
            feature_names=tuple(f["name"] for f in description["features"]),
            interval=description["interval"],
            lookback=description["lookback"],
            horizon=description["horizon"],
            prediction_scale=description["prediction_scale"],
            half_width_S=_numbers(description.get("half_width")),
            sessional=tuple(description.get("sessional", ())),
            provenance=Provenance(**description["provenance"]),
        )

    def serves(
        self,
        symbols: Sequence[str],
        features: Sequence[str],
        interval: str,
        lookback: int,
        horizon: int,
    ) -> bool:
        """Say whether the model takes exactly these inputs and predicts at this horizon."""
        mine = (self.symbols, self.feature_names, self.interval, self.lookback, self.horizon)
        return mine == (tuple(symbols), tuple(features), interval, lookback, horizon)

    def build(self, device: torch.device | None = None) -> FlashAttentionTrader:
        """Return the model, of an ensemble its first member: see `build_all`."""
        return self._built(self.weights, device)

    def build_all(self, device: torch.device | None = None) -> tuple[FlashAttentionTrader, ...]:
        """Return every member in evaluation mode, on a device (by default the CPU).

        Raises
        ------
        BundleMismatch
            If the weights do not fit the architecture.
        """
        return tuple(self._built(weights, device) for weights in self.member_weights)

    def _built(
        self, weights: dict[str, torch.Tensor], device: torch.device | None
    ) -> FlashAttentionTrader:
        model = FlashAttentionTrader(self.config)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise BundleMismatch(f"the weights do not fit the architecture: {error}") from error
        return model.to(device or torch.device("cpu")).eval()

    def to_units(self, predictions_NS: Floats, sigma_NS: Floats) -> Floats:
        """Return the head's predictions in their unit: see `training.targets.in_units`.

        Parameters
        ----------
        predictions_NS : array [..., S]
            In the unit of the scaled targets.
        sigma_NS : array [..., S]
            Volatility of each symbol at the bar of the prediction, unscaled.
        """
        return in_units(self.config, self.targets, predictions_NS, sigma_NS)

    def half_widths(self, sigma_NS: Floats) -> Floats | None:
        """Return half the width of the interval around each prediction, in the prediction's unit.

        Parameters
        ----------
        sigma_NS : array [..., S]
            Volatility of each symbol at the bar of the prediction, unscaled.

        Returns
        -------
        array [..., S] or None
            NaN where it is not known; None where `half_width_S` is.
        """
        if self.half_width_S is None:
            return None
        wide_NS = np.broadcast_to(np.asarray(self.half_width_S, np.float32), sigma_NS.shape)
        return self.to_units(wide_NS, sigma_NS)  # linear: a width scales as a value does


@dataclass(frozen=True)
class UnreadableBundle:
    """A stored model that this version of the package cannot use: of an older format, say."""

    reason: str
    """What is wrong, in words."""


def _numbers(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


def _weights_file(number: int) -> str:
    """Return the file of a member's weights, the first of which is number 1."""
    path = Path(WEIGHTS_FILE)
    return WEIGHTS_FILE if number == 1 else f"{path.stem}-{number}{path.suffix}"


def default_device() -> torch.device:
    """Return the CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """Return the bf16 autocast that every pass on a GPU runs under; off on a CPU.

    The weights stay float32. flash-attn takes fp16 and bf16 only, and bf16 needs no loss scaling.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
