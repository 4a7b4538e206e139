"""Scaling of the inputs, fitted on the training range alone; it lives with the model.

Shape letters: T bars, S symbols, F features, ... any leading axes.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig

Floats = npt.NDArray[np.float32]

FeatureScaling = Literal["standard", "robust"]
"""`standard`: mean and standard deviation; `robust`: median and interquartile range, which a few
extreme bars hardly move."""

_CLIP = 10.0
_SMALLEST_SCALE = 1e-8
_NORMAL_IQR = 1.3489795  # of a standard normal: scales of both kinds agree on bell-shaped values


@dataclass(frozen=True)
class FeatureScaler:
    """Standardises every feature of every symbol, clipped at ten scales."""

    centre_SF: Floats
    """Mean, or median, over the training bars."""
    scale_SF: Floats
    """Standard deviation, or interquartile range / 1.349, over the training bars, above 0."""
    kind: FeatureScaling = "standard"
    """How it was fitted."""

    @classmethod
    def fit(cls, x_TSF: Floats, kind: FeatureScaling = "standard") -> "FeatureScaler":
        """Fit on the training bars.

        Parameters
        ----------
        x_TSF : array
            Unscaled features, NaN where unknown; what is not finite is left out. A feature that
            is constant or never known keeps its unit (scale 1); under `robust`, one of which half
            the values are equal takes its standard deviation.
        kind : {"standard", "robust"}
            What the scale is.

        Raises
        ------
        InvalidConfig
            If there is no such kind.
        """
        if kind not in ("standard", "robust"):
            raise InvalidConfig(f"feature scaling is {kind!r}: expected standard or robust")
        centre_SF, scale_SF = _moments(x_TSF)
        if kind == "robust":
            centre_SF, range_SF = _quartiles(x_TSF)
            scale_SF = np.where(range_SF < _SMALLEST_SCALE, scale_SF, range_SF / _NORMAL_IQR)
        scale_SF[scale_SF < _SMALLEST_SCALE] = 1.0
        return cls(centre_SF.astype(np.float32), scale_SF.astype(np.float32), kind)

    def transform(self, x_SF: Floats) -> Floats:
        """Return (x - centre) / scale clipped to [-10, 10]; 0, the centre, where x is not finite.

        Parameters
        ----------
        x_SF : array [..., S, F]
            Unscaled features.
        """
        z_SF = np.clip((x_SF - self.centre_SF) / self.scale_SF, -_CLIP, _CLIP)
        return np.where(np.isfinite(x_SF), z_SF, np.float32(0)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        centre, scale = self.centre_SF.tolist(), self.scale_SF.tolist()
        return {"kind": self.kind, "centre": centre, "scale": scale}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureScaler":
        """Return the scaler that `to_dict` wrote."""
        centre, scale = (np.asarray(values[name], np.float32) for name in ("centre", "scale"))
        return cls(centre, scale, values["kind"])


def _moments(x_TSF: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation of the known values; 0 where there is none."""
    known_TSF = np.isfinite(x_TSF)
    count_SF = np.maximum(known_TSF.sum(axis=0), 1)
    wide_TSF = np.where(known_TSF, x_TSF, 0).astype(np.float64)
    mean_SF = wide_TSF.sum(axis=0) / count_SF
    square_TSF = np.where(known_TSF, wide_TSF - mean_SF, 0) ** 2
    return mean_SF, np.sqrt(square_TSF.sum(axis=0) / count_SF)


def _quartiles(x_TSF: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return median and interquartile range of the known values; 0 where there is none."""
    median_SF, range_SF = np.zeros(x_TSF.shape[1:]), np.zeros(x_TSF.shape[1:])
    for place in np.ndindex(*x_TSF.shape[1:]):
        values_T = x_TSF[(slice(None), *place)].astype(np.float64)
        known_T = values_T[np.isfinite(values_T)]
        if len(known_T):
            low, median_SF[place], high = np.quantile(known_T, [0.25, 0.5, 0.75])
            range_SF[place] = high - low
    return median_SF, range_SF
