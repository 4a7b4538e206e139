"""Ridge regression in closed form.

Shape letters: M rows, K columns, A penalties.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.training.baselines.base import Baseline, Inputs
from flash_pipeline.training.baselines.tabular import Doubles, TabularScaling
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

PENALTIES = tuple(float(10.0**power) for power in np.arange(-4, 4.5, 0.5))
"""Penalties tried, per row of the training range, weakest first."""


@dataclass(frozen=True)
class Ridge(Baseline):
    """Linear in the tabular columns, one set of weights for all symbols.

    The weights are (X'X / M + penalty I)^-1 X'y / M on centred columns and labels. (Hoerl and
    Kennard 1970, Ridge Regression, equation 2.3.)
    """

    kind: ClassVar[str] = "ridge"
    timed: ClassVar[bool] = True

    scaling: TabularScaling
    """Of columns and labels."""
    penalty: float
    """The one of `PENALTIES` with the lowest squared error on the validation range."""
    weight_K: Doubles
    """Of the scaled columns."""
    intercept: float
    """Prediction where all columns are 0."""

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:
        """Solve for every penalty on the training range; keep the best one on the validation."""
        inputs = Inputs.of(frame)
        scaling = TabularScaling.fit(frame, split, inputs)
        x_MK, y_M = scaling.known_rows(frame, split.train_N, inputs)
        weight_AK, intercept_A = _solutions(x_MK, y_M)
        x_MK, y_M = scaling.known_rows(frame, split.validation_N, inputs)
        error_A = ((x_MK @ weight_AK.T + intercept_A - y_M[:, None]) ** 2).mean(axis=0)
        best = len(error_A) - 1 - int(np.argmin(error_A[::-1]))  # of equals the strongest
        return cls(inputs, scaling, PENALTIES[best], weight_AK[best], float(intercept_A[best]))

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        x_MK = self.scaling.rows(frame, index_N, self.inputs)
        # Row by row, not by a product of matrices: its order of additions, and so the last bit,
        # would depend on how many windows are asked for.
        scaled_M = (x_MK * self.weight_K).sum(axis=1) + self.intercept
        return self.scaling.log_returns(frame, index_N, scaled_M)

    def _save(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002  (JSON holds it all)
        return {
            "scaling": self.scaling.to_dict(),
            "penalty": self.penalty,
            "weights": self.weight_K.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def _load(cls, inputs: Inputs, state: dict[str, Any], folder: Path) -> Self:  # noqa: ARG003
        scaling = TabularScaling.from_dict(state["scaling"])
        return cls(
            inputs, scaling, state["penalty"], np.asarray(state["weights"]), state["intercept"]
        )


def _solutions(x_MK: Doubles, y_M: Doubles) -> tuple[Doubles, Doubles]:
    """Return the weights [A, K] and intercepts [A] for every penalty, by one decomposition."""
    centre_K, centre = x_MK.mean(axis=0), y_M.mean()
    x_MK = x_MK - centre_K
    values_K, vectors_KK = np.linalg.eigh(x_MK.T @ x_MK / len(x_MK))
    moment_K = vectors_KK.T @ (x_MK.T @ (y_M - centre) / len(x_MK))
    shrunk_AK = moment_K / (np.maximum(values_K, 0.0) + np.array(PENALTIES)[:, None])
    weight_AK = shrunk_AK @ vectors_KK.T
    return weight_AK, centre - weight_AK @ centre_K
