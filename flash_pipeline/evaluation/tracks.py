"""What each contestant earned and lost, date by date: the raw material of a comparison.

Shape letters: T dates.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.storage.files import write_parquet

Floats = npt.NDArray[np.float64]

_META = b"flash_pipeline"

_LEAST_LEFT = 1e-3

TRACKS_SCHEMA = pa.schema(
    [
        pa.field("contestant", pa.int32(), nullable=False),
        pa.field("made_at", pa.int64(), nullable=False),
        pa.field("net_return", pa.float64(), nullable=False),
        pa.field("loss", pa.float64()),
    ],
    metadata={
        "contestant": "0 the challenger, then the champion where there is one, then baselines",
        "made_at": "close of the bar, ms since the epoch, UTC",
        "net_return": "simple return of the account over the bar, after costs, a fraction",
        "loss": "of the forecast made at the close, in the unit `measured_as`; null if not known",
    },
)
"""Columns of stored tracks, one row per contestant and date."""


@dataclass(frozen=True, eq=False)
class Track:
    """The account and the forecasts of one contestant over the dates of a contest."""

    name: str
    """Version of a registered model, or the name of a baseline."""
    symbols: tuple[str, ...]
    """What it forecasts and trades."""
    horizon: int
    """Bars ahead that it forecasts."""
    made_at_T: npt.NDArray[np.int64]
    """Close of each bar, ms since the epoch, ascending."""
    net_return_T: Floats
    """Simple return over each bar, after costs, a fraction of the equity."""
    loss_T: Floats
    """Loss of the forecast made at each close; NaN where its label is not known."""
    measured_as: str = ""
    """Unit of the losses: two tracks compare theirs where it is the same and not empty."""

    liquidated: bool = False
    """Whether the exchange closed the account."""

    @property
    def growth_T(self) -> Floats:
        """Log growth of the account over each bar; a bar that takes all counts as -6.9, 0.1 %."""
        return np.asarray(np.log(np.maximum(1 + self.net_return_T, _LEAST_LEFT)))


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks of a contest, all on the same dates."""

    challenger: Track
    """The model that wants to be champion."""
    champion: Track | None = None
    """None where there is none that can be compared."""
    baselines: tuple[Track, ...] = ()
    """Naive forecasters on the same dates and costs."""

    @property
    def best_baseline(self) -> Track | None:
        """The baseline whose account grew most; None without baselines."""
        return max(self.baselines, key=lambda track: float(track.growth_T.sum()), default=None)

    def save(self, path: Path, mark: Mapping[str, Any]) -> None:
        """Write the tracks as Parquet, whole or not at all.

        Parameters
        ----------
        mark : mapping
            Plain values that say which contest they belong to, given back by `load`.
        """
        everyone = _in_order(self)
        about = [
            {
                "name": track.name,
                "symbols": track.symbols,
                "horizon": track.horizon,
                "measured_as": track.measured_as,
                "liquidated": track.liquidated,
            }
            for track in everyone
        ]
        meta = {"tracks": about, "champion": self.champion is not None, "mark": mark}
        parts = [_table(number, track) for number, track in enumerate(everyone)]
        schema = TRACKS_SCHEMA.with_metadata(
            {**(TRACKS_SCHEMA.metadata or {}), _META: json.dumps(meta).encode()}
        )
        write_parquet(pa.concat_tables(parts).replace_schema_metadata(schema.metadata), path)

    @classmethod
    def load(cls, path: Path) -> "tuple[Tracks, dict[str, Any]]":
        """Return what `save` wrote: the tracks and the mark.

        Raises
        ------
        SchemaMismatch
            If there is no such file, or it holds something else.
        """
        try:
            table = pq.read_table(path, partitioning=None)
            meta = json.loads((table.schema.metadata or {})[_META])
            number = table["contestant"].to_numpy()
            everyone = [
                _track(table.filter(pa.array(number == n)), about)
                for n, about in enumerate(meta["tracks"])
            ]
            champion = everyone[1] if meta["champion"] else None
            return cls(everyone[0], champion, tuple(everyone[1 + meta["champion"] :])), meta["mark"]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise SchemaMismatch(f"{path} holds no tracks of a contest: {error}") from error


def _in_order(tracks: Tracks) -> list[Track]:
    champion = [] if tracks.champion is None else [tracks.champion]
    return [tracks.challenger, *champion, *tracks.baselines]


def _table(number: int, track: Track) -> pa.Table:
    return pa.table(
        {
            "contestant": np.full(len(track.made_at_T), number, np.int32),
            "made_at": track.made_at_T,
            "net_return": track.net_return_T,
            "loss": pa.array(track.loss_T, from_pandas=True),
        }
    ).cast(TRACKS_SCHEMA)


def _track(rows: pa.Table, about: Mapping[str, Any]) -> Track:
    return Track(
        name=about["name"],
        symbols=tuple(about["symbols"]),
        horizon=about["horizon"],
        made_at_T=rows["made_at"].to_numpy(),
        net_return_T=rows["net_return"].to_numpy(),
        loss_T=rows["loss"].to_numpy(zero_copy_only=False),
        measured_as=about["measured_as"],
        liquidated=about.get("liquidated", False),
    )
