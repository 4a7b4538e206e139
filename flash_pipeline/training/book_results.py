"""What a session on order books leaves for its report: forecasts of held-out windows.

    <folder>/forecasts.npz   time, symbol, label and move of each window, and all probabilities
    <folder>/attention.npz   where the joint model's last snapshot looked
    <folder>/session.json    everything else

Shape letters: N windows, H horizons, L layers, G cells (2 x level + side), T lags.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import FileDamaged, NotEnoughHistory
from flash_pipeline.settings import Settings
from flash_pipeline.storage.files import replacing_folder

SESSION_FILE = "session.json"
"""File that names the registered version, among other facts."""

_FORECASTS, _ATTENTION = "forecasts.npz", "attention.npz"
_NAMED = "model: "


def results_folder(settings: Settings) -> Path:
    """Return where the newest session's results lie."""
    return settings.home / "order_book_model"


@dataclass(frozen=True)
class BookAttention:
    """How the last snapshot's tokens weighed the window, mean over windows and heads."""

    by_cell_LGG: npt.NDArray[np.float32]
    """Weight that each cell gives to each, over all lags."""
    by_lag_LT: npt.NDArray[np.float32]
    """Weight by lag, the newest snapshot first."""
    windows: int
    """Windows that it is the mean of."""


@dataclass(frozen=True)
class BookResults:
    """Held-out windows and what was forecast of them."""

    time_N: npt.NDArray[np.int64]
    """When each window ends, ms since the epoch."""
    symbol_N: npt.NDArray[np.int64]
    """Position of its symbol."""
    label_NH: npt.NDArray[np.int64]
    """0 down, 1 flat, 2 up, -1 unknown."""
    move_NH: npt.NDArray[np.float64]
    """Move of the mid price, basis points."""
    forecasts: Mapping[str, npt.NDArray[np.float32]]
    """Probabilities [N, H, 3] by the name of the model."""
    attention: BookAttention
    """Of the registered model."""
    facts: Mapping[str, Any]
    """Fit for JSON: recipe, version, dates, thresholds, trainings."""

    def save(self, folder: Path) -> None:
        """Write the files, all or none."""
        held: dict[str, Any] = {
            "time": self.time_N,
            "symbol": self.symbol_N,
            "label": self.label_NH,
            "move": self.move_NH,
        }
        told: dict[str, Any] = {_NAMED + name: p_NHK for name, p_NHK in self.forecasts.items()}
        attention = self.attention
        with replacing_folder(folder) as temporary:
            np.savez_compressed(temporary / _FORECASTS, **held, **told)
            np.savez_compressed(
                temporary / _ATTENTION,
                by_cell=attention.by_cell_LGG,
                by_lag=attention.by_lag_LT,
                windows=attention.windows,
            )
            text = json.dumps(dict(self.facts), indent=2, allow_nan=False)
            (temporary / SESSION_FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        NotEnoughHistory
            If there is nothing.
        FileDamaged
            If a file cannot be read.
        """
        if not (folder / SESSION_FILE).is_file():
            raise NotEnoughHistory(
                f"{folder} is not there: expected the results of order_book_model, materialize it"
            )
        try:
            facts = json.loads((folder / SESSION_FILE).read_text())
            with (
                np.load(folder / _FORECASTS, allow_pickle=False) as held,
                np.load(folder / _ATTENTION, allow_pickle=False) as seen,
            ):
                return cls(
                    held["time"],
                    held["symbol"],
                    held["label"],
                    held["move"],
                    {n.removeprefix(_NAMED): held[n] for n in held.files if n.startswith(_NAMED)},
                    BookAttention(seen["by_cell"], seen["by_lag"], int(seen["windows"])),
                    facts,
                )
        except (OSError, ValueError, KeyError) as error:
            raise FileDamaged(f"{folder} cannot be read: {error}") from error
