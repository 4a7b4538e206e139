"""Scaling fitted on the training range alone; it lives with the model.

Shape letters: T bars, S symbols, F features, ... any leading axes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_CLIP = 10.0
_SMALLEST_SCALE = 1e-8


@dataclass(frozen=True)
class FeatureScaler:
    """Standardises every feature of every symbol, clipped at ten standard deviations."""

    mean_SF: Floats
    """Mean over the training bars."""
    std_SF: Floats
    """Standard deviation over the training bars, above 0."""

    @classmethod
    def fit(cls, x_TSF: Floats) -> "FeatureScaler":
        """Fit on the training bars.

        Parameters
        ----------
        x_TSF : array
            Unscaled features, NaN where unknown; NaN is left out. A feature that is constant or
            never known keeps its unit (scale 1).
        """
        known_TSF = np.isfinite(x_TSF)
        count_SF = np.maximum(known_TSF.sum(axis=0), 1)
        wide_TSF = np.where(known_TSF, x_TSF, 0).astype(np.float64)
        mean_SF = wide_TSF.sum(axis=0) / count_SF
        square_TSF = np.where(known_TSF, wide_TSF - mean_SF, 0) ** 2
        std_SF = np.sqrt(square_TSF.sum(axis=0) / count_SF)
        std_SF[std_SF < _SMALLEST_SCALE] = 1.0
        return cls(mean_SF.astype(np.float32), std_SF.astype(np.float32))

    def transform(self, x_SF: Floats) -> Floats:
        """Return (x - mean) / std clipped to [-10, 10]; 0, the mean, where x is not finite.

        Parameters
        ----------
        x_SF : array [..., S, F]
            Unscaled features.
        """
        z_SF = np.clip((x_SF - self.mean_SF) / self.std_SF, -_CLIP, _CLIP)
        return np.where(np.isfinite(z_SF), z_SF, np.float32(0)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, fit for JSON."""
        return {"mean": self.mean_SF.tolist(), "std": self.std_SF.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureScaler":
        """Return the scaler that `to_dict` wrote."""
        return cls(np.asarray(values["mean"], np.float32), np.asarray(values["std"], np.float32))


@dataclass(frozen=True)
class TargetScaler:
    """Divides each symbol's label by its root mean square over the training range."""

    std_S: Floats
    """Root mean square of the training labels, above 0."""

    @classmethod
    def fit(cls, y_NS: Floats) -> "TargetScaler":
        """Fit on the training labels [N, S]; NaN is left out."""
        known_NS = np.isfinite(y_NS)
        total_S = np.where(known_NS, y_NS.astype(np.float64) ** 2, 0).sum(axis=0)
        std_S = np.sqrt(total_S / np.maximum(known_NS.sum(axis=0), 1))
        std_S[std_S < _SMALLEST_SCALE] = 1.0
        return cls(std_S.astype(np.float32))

    def transform(self, y_S: Floats) -> Floats:
        """Return labels [..., S] in units of their root mean square."""
        return y_S / self.std_S

    def inverse(self, scaled_S: Floats) -> Floats:
        """Return [..., S] in the unit of the labels, log return over the horizon."""
        return scaled_S * self.std_S

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, fit for JSON."""
        return {"std": self.std_S.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TargetScaler":
        """Return the scaler that `to_dict` wrote."""
        return cls(np.asarray(values["std"], np.float32))
