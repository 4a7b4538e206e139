"""Gradient-boosted trees by LightGBM, stored as its text format.

Shape letters: M rows, K columns.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import ModelError
from flash_pipeline.training.baselines.base import Baseline, Inputs
from flash_pipeline.training.baselines.tabular import TabularScaling, column_names
from flash_pipeline.training.runtime import usable_cores
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

TREES_FILE = "trees.txt"
"""LightGBM's own text format."""

ROUNDS = 500
"""Most trees."""

PATIENCE = 50
"""Trees without a lower validation error after which no more are grown."""

PARAMETERS: dict[str, Any] = {
    "objective": "l2",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.8,
    "lambda_l2": 1.0,
    "seed": 58,
    "deterministic": True,
    "force_row_wise": True,  # the two ways of counting add in different orders
    "verbosity": -1,
}
"""Common values, tuned on nothing: a baseline is no contender of its own."""

_ROWS_PER_THREAD = 200_000


@dataclass(frozen=True)
class Boosting(Baseline):
    """Trees on the tabular columns of all symbols, as many as the validation range asks for.

    (Friedman 2001, Greedy Function Approximation; Ke and others 2017, LightGBM.)
    """

    kind: ClassVar[str] = "boosting"
    timed: ClassVar[bool] = True

    scaling: TabularScaling
    """Of columns and labels."""
    trees: str
    """The trees, in LightGBM's text format."""

    @classmethod
    def obstacle(cls) -> str:
        """Return why LightGBM cannot be loaded; empty where it can."""
        try:
            _lightgbm()
        except ModelError as error:
            return str(error)
        return ""

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:
        """Grow trees on the training range until the validation error stops falling.

        Raises
        ------
        ModelError
            If LightGBM cannot be loaded.
        """
        lightgbm = _lightgbm()
        inputs = Inputs.of(frame)
        scaling = TabularScaling.fit(frame, split, inputs)
        names = [_plain(name) for name in column_names(frame, inputs)]
        x_MK, y_M = scaling.known_rows(frame, split.train_N, inputs)
        train = lightgbm.Dataset(x_MK, y_M, feature_name=names)
        validation = train.create_valid(*scaling.known_rows(frame, split.validation_N, inputs))
        booster = lightgbm.train(
            {**PARAMETERS, "num_threads": _threads(len(y_M))},
            train,
            num_boost_round=ROUNDS,
            valid_sets=[validation],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        return cls(inputs, scaling, booster.model_to_string(num_iteration=booster.best_iteration))

    @property
    def rounds(self) -> int:
        """Trees that were kept."""
        return int(_lightgbm().Booster(model_str=self.trees).num_trees())

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        booster = _lightgbm().Booster(model_str=self.trees)
        x_MK = self.scaling.rows(frame, index_N, self.inputs)
        scaled_M = np.asarray(booster.predict(x_MK, num_threads=_threads(len(x_MK))))
        return self.scaling.log_returns(frame, index_N, scaled_M)

    def _save(self, folder: Path) -> dict[str, Any]:
        (folder / TREES_FILE).write_text(self.trees, encoding="utf-8")
        return {"scaling": self.scaling.to_dict()}

    @classmethod
    def _load(cls, inputs: Inputs, state: dict[str, Any], folder: Path) -> Self:
        trees = (folder / TREES_FILE).read_text(encoding="utf-8")
        return cls(inputs, TabularScaling.from_dict(state["scaling"]), trees)


def _threads(rows: int) -> int:
    """Return as many threads as the rows keep busy, at most one for each core.

    Threads meet at every level of a tree and wait by spinning: on cores shared with other
    processes a second one took ten times as long as none. The trees are the same whatever the
    number, since `deterministic` is set.
    """
    return min(usable_cores(), 1 + rows // _ROWS_PER_THREAD)


def _plain(name: str) -> str:
    """Return a name of a column that LightGBM's text format can hold."""
    return name.replace(",", "_").replace(" ", "_")


def _lightgbm() -> ModuleType:
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its library needs OpenMP's runtime
        raise ModelError(
            f"LightGBM cannot be loaded: {error}; install lightgbm, and the OpenMP runtime "
            "(Debian: libgomp1, macOS: libomp)"
        ) from error
    return lightgbm
