"""From labels, forward log returns, to the unit that a head is taught in, and back.

Shape letters: N anchors, S symbols, F features, ... any leading axes.

Fitted on the training range alone; it lives with the model. Every scaler is given `sigma`, the
catalog's feature `volatility` of each symbol at the bar where the prediction is made: it is known
there, so scaling by it is no look-ahead, in training and live alike.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.training.scaler import Floats
from flash_pipeline.windows.blocks import WindowFrame

TargetScaling = Literal["rms", "volatility"]
"""`rms`: divided by the root mean square over the training range; `volatility`: by what a random
walk of the moment's volatility would move over the horizon, so that calm and wild times count
alike."""

VOLATILITY = "volatility"
"""Name of the catalog's feature that labels are scaled by."""

_SMALLEST_SCALE = 1e-8
_FLOOR_QUANTILE = 0.01


class TargetScaler(abc.ABC):
    """Turns labels into targets and predictions back; the two are inverse to each other."""

    kind: ClassVar[str]
    """Name in a stored bundle."""

    @abc.abstractmethod
    def transform(self, y_S: Floats, sigma_S: Floats) -> Floats:
        """Return targets for labels.

        Parameters
        ----------
        y_S : array [..., S]
            Forward log return over the horizon, NaN where not known, which it stays.
        sigma_S : array [..., S]
            Volatility at the bar of the prediction, unscaled, a standard deviation of log returns
            per bar; not finite where unknown.
        """

    @abc.abstractmethod
    def inverse(self, scaled_S: Floats, sigma_S: Floats) -> Floats:
        """Return log returns over the horizon for predictions [..., S] in the unit of targets.

        Parameters
        ----------
        scaled_S : array [..., S]
            Predictions.
        sigma_S : array [..., S]
            As for `transform`.
        """

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the `kind`, fit for JSON."""

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "TargetScaler":
        """Return the scaler that `to_dict` wrote."""
        if values["kind"] == SimpleReturns.kind:
            return SimpleReturns(values["bars"])
        std_S = np.asarray(values["std"], np.float32)
        if values["kind"] == RmsScaler.kind:
            return RmsScaler(std_S)
        floor_S, typical_S = (np.asarray(values[name], np.float32) for name in ("floor", "typical"))
        return VolatilityScaler(std_S, floor_S, typical_S, values["horizon"])


@dataclass(frozen=True)
class RmsScaler(TargetScaler):
    """Divides each symbol's label by its root mean square over the training range."""

    kind: ClassVar[str] = "rms"

    std_S: Floats
    """Root mean square of the training labels, above 0."""

    @classmethod
    def fit(cls, y_NS: Floats) -> "RmsScaler":
        """Fit on the training labels [N, S]; NaN is left out."""
        return cls(_root_mean_square(y_NS))

    def transform(self, y_S: Floats, sigma_S: Floats) -> Floats:  # noqa: ARG002  (the protocol's)
        """Return labels in units of their root mean square."""
        return y_S / self.std_S

    def inverse(self, scaled_S: Floats, sigma_S: Floats) -> Floats:  # noqa: ARG002  (as above)
        """Return log returns over the horizon."""
        return scaled_S * self.std_S

    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the `kind`, fit for JSON."""
        return {"kind": self.kind, "std": self.std_S.tolist()}


@dataclass(frozen=True)
class VolatilityScaler(TargetScaler):
    """Divides a label by sigma * sqrt(horizon) * a constant of the symbol.

    sigma * sqrt(horizon) is the standard deviation of a random walk over the horizon. Volatility
    comes in clusters, so labels divided by it have nearly one scale in all times, and the wild
    ones do not drown the rest of a squared loss.
    """

    kind: ClassVar[str] = "volatility"

    std_S: Floats
    """Root mean square of label / (sigma * sqrt(horizon)) over the training range, above 0."""
    floor_S: Floats
    """Smallest sigma taken: the 1 % quantile over the training range. In a dead market a small
    move would be an enormous target otherwise."""
    typical_S: Floats
    """Sigma taken where it is unknown: the median over the training range."""
    horizon: int
    """Bars of the label."""

    @classmethod
    def fit(cls, y_NS: Floats, sigma_NS: Floats, horizon: int) -> "VolatilityScaler":
        """Fit on the training labels and the volatilities at their anchors.

        Parameters
        ----------
        y_NS : array
            Labels; NaN is left out.
        sigma_NS : array
            Volatilities; those that are not above 0 and finite are left out. A symbol without any
            takes the median of the others.
        horizon : int
            Bars of the label, at least 1.

        Raises
        ------
        InvalidConfig
            If no volatility is known at all.
        """
        wide_NS = np.where(np.isfinite(sigma_NS) & (sigma_NS > 0), sigma_NS, np.nan)
        if np.isnan(wide_NS).all():
            raise InvalidConfig(
                "target_scaling is 'volatility' and no volatility is known over the training "
                f"range: expected the feature {VOLATILITY!r} among those of the windows"
            )
        columns = [column_N[~np.isnan(column_N)] for column_N in wide_NS.T.astype(np.float64)]
        everything = np.concatenate(columns)
        floor_S, typical_S = np.transpose(
            [np.quantile(c if len(c) else everything, [_FLOOR_QUANTILE, 0.5]) for c in columns]
        ).astype(np.float32)
        unit = cls(np.ones_like(floor_S), floor_S, typical_S, horizon)
        return cls(_root_mean_square(unit.transform(y_NS, sigma_NS)), floor_S, typical_S, horizon)

    def transform(self, y_S: Floats, sigma_S: Floats) -> Floats:
        """Return labels in units of sigma * sqrt(horizon) * the symbol's constant."""
        return y_S / self._scale(sigma_S)

    def inverse(self, scaled_S: Floats, sigma_S: Floats) -> Floats:
        """Return log returns over the horizon."""
        return scaled_S * self._scale(sigma_S)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the `kind`, fit for JSON."""
        return {
            "kind": self.kind,
            "std": self.std_S.tolist(),
            "floor": self.floor_S.tolist(),
            "typical": self.typical_S.tolist(),
            "horizon": self.horizon,
        }

    def _scale(self, sigma_S: Floats) -> Floats:
        known_S = np.where(np.isfinite(sigma_S), sigma_S, self.typical_S)
        scale_S = np.maximum(known_S, self.floor_S) * self.std_S * np.sqrt(self.horizon)
        return np.asarray(scale_S, dtype=np.float32)


@dataclass(frozen=True)
class SimpleReturns(TargetScaler):
    """Turns log returns into simple ones, which add up over the symbols of a portfolio.

    For the allocation head: see `model.heads.AllocationHead`.
    """

    kind: ClassVar[str] = "simple"

    bars: int
    """What they are divided by: the horizon for a return per bar, 1 for the whole, at least 1."""

    def transform(self, y_S: Floats, sigma_S: Floats) -> Floats:  # noqa: ARG002  (the protocol's)
        """Return (exp(y) - 1) / bars."""
        return np.asarray(np.expm1(y_S) / np.float32(self.bars), dtype=np.float32)

    def inverse(self, scaled_S: Floats, sigma_S: Floats) -> Floats:  # noqa: ARG002  (as above)
        """Return log returns over the horizon."""
        return np.asarray(np.log1p(scaled_S * np.float32(self.bars)), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the `kind`, fit for JSON."""
        return {"kind": self.kind, "bars": self.bars}


def fit_targets(
    model: ModelConfig, scaling: TargetScaling, y_NS: Floats, sigma_NS: Floats, horizon: int
) -> TargetScaler:
    """Fit the scaler that a model's head is taught with.

    Parameters
    ----------
    model : ModelConfig
        An allocation head is taught in simple returns whatever the scaling: per bar under dense
        supervision, over the horizon otherwise.
    scaling : {"rms", "volatility"}
        For the other heads.
    y_NS, sigma_NS : array
        Training labels, and volatilities at their anchors.
    horizon : int
        Bars of the label, at least 1.

    Raises
    ------
    InvalidConfig
        As for `VolatilityScaler.fit`.
    """
    kind = targets_kind(model, scaling)
    if kind == SimpleReturns.kind:
        return SimpleReturns(horizon if model.supervision == "dense" else 1)
    if kind == VolatilityScaler.kind:
        return VolatilityScaler.fit(y_NS, sigma_NS, horizon)
    return RmsScaler.fit(y_NS)


def targets_kind(model: ModelConfig, scaling: TargetScaling) -> str:
    """Return the `kind` of the scaler that `fit_targets` gives."""
    return SimpleReturns.kind if model.head == "allocation" else scaling


def volatility_of(x_SF: Floats, feature_names: Sequence[str]) -> Floats:
    """Return sigma_S [..., S] of unscaled features [..., S, F]; NaN where there is no such one."""
    if VOLATILITY not in feature_names:
        return np.full(x_SF.shape[:-1], np.nan, np.float32)
    sigma_S: Floats = x_SF[..., list(feature_names).index(VOLATILITY)]
    return sigma_S


def anchor_volatility(frame: WindowFrame) -> Floats:
    """Return sigma_NS, the volatility at the last bar of every window."""
    last_N = frame.offset_N + frame.lookback - 1
    return volatility_of(frame.x_BKSF[frame.block_N, last_N], frame.features)


def in_units(
    model: ModelConfig, targets: TargetScaler, predictions_S: Floats, sigma_S: Floats
) -> Floats:
    """Return a head's predictions [..., S] in their unit, for the volatilities at their bars.

    Regression, and quantiles: log return over the horizon. Direction: probability of a rise.
    Allocation: weight in [-1, 1].
    """
    if model.head in ("regression", "quantile"):
        return targets.inverse(predictions_S, sigma_S)
    return predictions_S


def _root_mean_square(y_NS: npt.NDArray[np.floating]) -> Floats:
    """Return the root mean square of the known values; 1 where they are all zero or unknown."""
    known_NS = np.isfinite(y_NS)
    total_S = np.where(known_NS, y_NS.astype(np.float64) ** 2, 0).sum(axis=0)
    std_S = np.sqrt(total_S / np.maximum(known_NS.sum(axis=0), 1))
    std_S[std_S < _SMALLEST_SCALE] = 1.0
    return np.asarray(std_S, dtype=np.float32)
