"""Predictions from raw features, as a program that looked the model up would make them.

Shape letters: N windows, L bars of a window, T bars of a series, I = S * F inputs, S symbols,
F features, Q quantile levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.model.heads import Head, QuantileHead
from flash_pipeline.model.streaming import stream_windows
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import ModelBundle, autocast, default_device
from flash_pipeline.training.memory import pass_explained
from flash_pipeline.training.passes import windows_in_a_pass
from flash_pipeline.training.scaler import Floats
from flash_pipeline.training.targets import volatility_of


@dataclass(frozen=True)
class Predictions:
    """What a model says, in the unit of its head."""

    value_NS: Floats
    """The prediction; of a quantile head the median. See `ModelBundle.to_units`."""
    quantiles_NSQ: Floats | None = None
    """Quantiles of the log return over the horizon, in the order of the head's levels; None for
    the other heads."""

    @property
    def spread_NS(self) -> Floats | None:
        """Distance from the lowest to the highest quantile, 0 or more; None without quantiles."""
        q_NSQ = self.quantiles_NSQ
        return None if q_NSQ is None else q_NSQ[..., -1] - q_NSQ[..., 0]

    def rows(self, chosen: slice) -> "Predictions":
        """Return some of the rows."""
        q_NSQ = self.quantiles_NSQ
        return Predictions(self.value_NS[chosen], None if q_NSQ is None else q_NSQ[chosen])

    @classmethod
    def mean(cls, members: Sequence["Predictions"]) -> "Predictions":
        """Return the mean of an ensemble's predictions, of quantiles level by level.

        (Mean quantiles: Lichtendahl, Grushka-Cockayne and Winkler 2013, Is It Better to Average
        Probabilities or Quantiles?)
        """
        if len(members) == 1:
            return members[0]
        quantiles = [each.quantiles_NSQ for each in members if each.quantiles_NSQ is not None]
        return cls(
            np.mean([each.value_NS for each in members], axis=0),
            np.mean(quantiles, axis=0) if quantiles else None,
        )

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Return the predictions of one model, at least one part, end to end."""
        quantiles = [part.quantiles_NSQ for part in parts if part.quantiles_NSQ is not None]
        return cls(
            np.concatenate([part.value_NS for part in parts]),
            np.concatenate(quantiles) if quantiles else None,
        )


class Predictor:
    """Predicts from unscaled features.

    Parameters
    ----------
    bundle : ModelBundle
        The model; an ensemble's members predict one after another, and the mean is given.
    device : torch.device or None
        By default a CUDA device where there is one.
    """

    def __init__(self, bundle: ModelBundle, device: torch.device | None = None) -> None:
        self.bundle = bundle
        self.device = device or default_device()
        self._models = bundle.build_all(self.device)

    def predict(self, x_NLI: Floats, batch_size: int | None = None) -> Floats:
        """Return the predictions [N, S] for windows: `value_NS` of `predict_windows`."""
        return self.predict_windows(x_NLI, batch_size).value_NS

    def predict_windows(self, x_NLI: Floats, batch_size: int | None = None) -> Predictions:
        """Return the predictions for windows of unscaled features.

        Parameters
        ----------
        x_NLI : array [N, lookback, symbols * features], float32
            Features as the warehouse has them, symbol by symbol; NaN where unknown.
        batch_size : int or None
            Windows in a pass, at least 1; None for as many as `windows_in_a_pass` says.

        Raises
        ------
        BundleMismatch
            If the array has another shape; the message states the one expected.
        OutOfMemory
            If a pass does not fit the GPU.
        """
        bundle = self.bundle
        expected = (bundle.lookback, bundle.config.input_dim)
        if x_NLI.ndim != 3 or x_NLI.shape[1:] != expected:
            raise BundleMismatch(
                f"windows of shape {x_NLI.shape}: expected (n, {expected[0]}, {expected[1]}), "
                f"{len(bundle.symbols)} symbols x {len(bundle.feature_names)} features on the last "
                f"axis"
            )
        if len(x_NLI) == 0:  # not every attention kernel takes no row at all
            nothing_NC = torch.empty(0, bundle.config.d_model, device=self.device)
            sigma_NS = x_NLI[:, 0, : len(bundle.symbols)]
            with torch.inference_mode():
                return self._mean(lambda model: model.head(nothing_NC), sigma_NS)
        if batch_size is None:
            masked = not bool(self._known(x_NLI).all())
            batch_size = windows_in_a_pass(self._models[0], bundle.lookback, masked=masked)
        with pass_explained(bundle.config, batch_size, bundle.lookback):
            starts = range(0, len(x_NLI), batch_size)
            return Predictions.joined(
                [self._predict_batch(x_NLI[start : start + batch_size]) for start in starts]
            )

    def predict_series(self, x_TI: Floats) -> Predictions:
        """Return the predictions of the windows that end at each bar of a series, in one pass.

        Parameters
        ----------
        x_TI : array [bars, symbols * features], float32
            As for `predict_windows`, oldest bar first. The windows of the first `lookback - 1`
            bars are shorter: they hold what the series has.

        Returns
        -------
        Predictions
            One row per bar, equal to those of `predict_windows` but for rounding. At a bar that
            no symbol knows, so that an earlier one is read, a window may reach less far back.

        Raises
        ------
        BundleMismatch
            If the array has another width.
        OutOfMemory
            If a pass does not fit the GPU.
        InvalidConfig
            If the model cannot stream: see `ModelConfig.streams`.
        """
        if x_TI.ndim != 2 or x_TI.shape[1] != self.bundle.config.input_dim:
            raise BundleMismatch(
                f"a series of shape {x_TI.shape}: expected (bars, {self.bundle.config.input_dim})"
            )
        lookback = self.bundle.lookback
        with (
            pass_explained(self.bundle.config, len(x_TI), lookback),
            torch.inference_mode(),
            autocast(self.device),
        ):
            inputs_TI, known_T, sigma_TS = self._scaled(x_TI)
            return self._mean(
                lambda model: stream_windows(model, inputs_TI, known_T, lookback), sigma_TS
            )

    def _predict_batch(self, x_NLI: Floats) -> Predictions:
        inputs_NLI, known_NL, sigma_NLS = self._scaled(x_NLI)
        with torch.inference_mode(), autocast(self.device):
            return self._mean(
                lambda model: model.last_outputs(inputs_NLI, known_NL), sigma_NLS[:, -1]
            )

    def _scaled(self, x_LI: Floats) -> tuple[Tensor, Tensor, Floats]:
        """Return inputs [..., L, I], which bars are known to any symbol, and the volatilities."""
        x_LSF = self._by_symbol(x_LI)
        scaled_LI = self.bundle.features.transform(x_LSF).reshape(x_LI.shape)
        return (
            torch.from_numpy(scaled_LI).to(self.device),
            torch.from_numpy(self._known(x_LI)).to(self.device),
            volatility_of(x_LSF, self.bundle.feature_names),
        )

    def _known(self, x_LI: Floats) -> npt.NDArray[np.bool_]:
        """Return at which bars some symbol has all its features."""
        return np.asarray(np.isfinite(self._by_symbol(x_LI)).all(axis=-1).any(axis=-1))

    def _by_symbol(self, x_LI: Floats) -> Floats:
        shape = (len(self.bundle.symbols), len(self.bundle.feature_names))
        return x_LI.reshape(*x_LI.shape[:-1], *shape)

    def _mean(
        self, outputs: Callable[[FlashAttentionTrader], Tensor], sigma_NS: Floats
    ) -> Predictions:
        """Return the mean of what the members' outputs say, for the volatilities at their bars."""
        told = [self._told(model.head, outputs(model), sigma_NS) for model in self._models]
        return Predictions.mean(told)

    def _told(self, head: Head, outputs_NS: Tensor, sigma_NS: Floats) -> Predictions:
        value_NS = self.bundle.to_units(_numbers(head.predict(outputs_NS)), sigma_NS)
        if not isinstance(head, QuantileHead):
            return Predictions(value_NS)
        q_QNS = _numbers(head.quantiles(outputs_NS).movedim(-1, 0))
        return Predictions(value_NS, np.moveaxis(self.bundle.to_units(q_QNS, sigma_NS), 0, -1))


def _numbers(outputs: Tensor) -> Floats:
    return cast(npt.NDArray[np.float32], outputs.float().cpu().numpy())
