"""What every forecaster is, and what the baselines share: their inputs, and their files.

Shape letters: N windows, S symbols.

A forecaster is fitted on the training and validation ranges of a split, predicts the log return
over the horizon from windows, and lives in files without a pickle: `baseline.json`, beside which a
kind may put others.
"""

import abc
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

DESCRIPTION_FILE = "baseline.json"
"""Kind, inputs and state of a baseline."""

LOG_RETURN = "log_return"
"""Name of the catalog's feature that the baselines are made of."""

_FORMAT = 1


class Forecaster(Protocol):
    """A fitted model, whatever its kind."""

    @property
    def head(self) -> str:
        """What it predicts: regression, quantile, direction or allocation."""

    def predict(self, frame: WindowFrame, index_N: Positions) -> Predictions:
        """Return predictions for windows of a frame, in the unit of the head.

        Raises
        ------
        BundleMismatch
            If the frame has other symbols, features or another horizon than it was fitted on.
        """

    def save(self, folder: Path) -> None:
        """Write it into an existing folder."""


@dataclass(frozen=True)
class Inputs:
    """What a baseline was fitted on and takes."""

    symbols: tuple[str, ...]
    """Order of the symbol axis."""
    features: tuple[str, ...]
    """Order of the feature axis."""
    interval: str
    """Candle interval by the exchange's code."""
    lookback: int
    """Bars of a window: no prediction looks further back."""
    horizon: int
    """Bars ahead that is predicted."""

    @classmethod
    def of(cls, frame: WindowFrame) -> "Inputs":
        """Return those of a frame.

        Raises
        ------
        InvalidConfig
            If it lacks the feature `log_return`.
        """
        if LOG_RETURN not in frame.features:
            raise InvalidConfig(
                f"the windows have the features {', '.join(frame.features)}: baselines expect "
                f"{LOG_RETURN} among them"
            )
        interval = frame.interval.value
        return cls(frame.symbols, frame.features, interval, frame.lookback, frame.horizon)

    def require(self, frame: WindowFrame) -> None:
        """Refuse windows of another kind."""
        mine = (self.symbols, self.features, self.interval, self.horizon)
        theirs = (frame.symbols, frame.features, frame.interval.value, frame.horizon)
        if mine != theirs or frame.lookback < self.lookback:
            raise BundleMismatch(
                f"fitted on {', '.join(self.symbols)} {self.horizon} bars ahead from "
                f"{self.lookback} bars; the windows have {', '.join(frame.symbols)}, "
                f"{frame.horizon} and {frame.lookback}"
            )


@dataclass(frozen=True)
class Baseline(abc.ABC):
    """A forecaster that any serious model has to beat."""

    kind: ClassVar[str]
    """Name in reports and files."""

    timed: ClassVar[bool] = False
    """Whether its predictions depend on the hour of the day or of the week."""

    inputs: Inputs
    """What it takes."""

    @property
    def head(self) -> str:
        """What it predicts: the log return over the horizon."""
        return "regression"

    @classmethod
    def obstacle(cls) -> str:
        """Return why it cannot be fitted on this machine; empty where it can."""
        return ""

    @classmethod
    @abc.abstractmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:
        """Fit on the training range; choose on the validation range where there is a choice."""

    def predict(self, frame: WindowFrame, index_N: Positions) -> Predictions:
        """Return the predicted log return over the horizon for windows of a frame.

        Parameters
        ----------
        index_N : array
            Positions of windows, at least one.

        Raises
        ------
        BundleMismatch
            If the frame has other symbols, features or another horizon than it was fitted on.
        """
        self.inputs.require(frame)
        return Predictions(np.asarray(self._values(frame, index_N), dtype=np.float32))

    def save(self, folder: Path) -> None:
        """Write it into an existing folder."""
        values = {
            "format": _FORMAT,
            "kind": self.kind,
            "inputs": asdict(self.inputs),
            "state": self._save(folder),
        }
        text = json.dumps(values, indent=2, sort_keys=True)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        BundleMismatch
            If the folder holds no such baseline.
        """
        values = describe(folder)
        if values["kind"] != cls.kind:
            raise BundleMismatch(f"{folder} holds a {values['kind']} baseline: expected {cls.kind}")
        try:
            kept = values["inputs"]
            named = {name: tuple(kept[name]) for name in ("symbols", "features")}
            return cls._load(Inputs(**{**kept, **named}), values["state"], folder)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BundleMismatch(f"{folder} holds an incomplete baseline: {error}") from error

    @abc.abstractmethod
    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        """Return predictions [N, S]."""

    def _save(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002  (of kinds with more files)
        """Return what was learnt, fit for JSON; write what is not into the folder."""
        return {}

    @classmethod
    def _load(cls, inputs: Inputs, state: dict[str, Any], folder: Path) -> Self:  # noqa: ARG003
        """Return the baseline that `_save` described."""
        return cls(inputs)


def describe(folder: Path) -> dict[str, Any]:
    """Return what the description of a stored baseline says.

    Raises
    ------
    BundleMismatch
        If there is none, or one of another format.
    """
    try:
        values = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleMismatch(f"{folder} holds no baseline: {error}") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise BundleMismatch(f"{folder} holds a baseline of format {found!r}: expected {_FORMAT}")
    return values


def anchor_bars(frame: WindowFrame, index_N: Positions) -> Positions:
    """Return the bar of the panel at which each window ends."""
    return index_N + frame.lookback - 1


def known_log_returns(frame: WindowFrame) -> npt.NDArray[np.float64]:
    """Return the log return of every bar of the panel [T, S], 0 where it is unknown."""
    place = frame.features.index(LOG_RETURN)
    return np.nan_to_num(frame.along_time(frame.x_BKSF[..., place]).astype(np.float64))
