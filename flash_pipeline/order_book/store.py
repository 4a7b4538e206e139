"""The order book files: one Parquet file per symbol and day.

order_book/symbol=BTCUSDT/day=2026-03-10.parquet
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import FileDamaged, NotEnoughHistory, SchemaMismatch
from flash_pipeline.market import Interval, parse_symbol
from flash_pipeline.order_book.snapshots import (
    BOOK_SCHEMA,
    SIDES,
    BookGap,
    BookSeries,
    join_series,
)
from flash_pipeline.storage.files import write_parquet

DAY_MS = Interval.DAY_1.milliseconds
"""Milliseconds of a day."""

_LEVELS, _GAPS, _SYNTHETIC, _SOURCE = b"levels", b"gaps", b"synthetic", b"source"
_ROW_GROUP = 8_192  # snapshots


@dataclass(frozen=True)
class BookStore:
    """The order book files of one folder."""

    folder: Path
    """Folder that holds `symbol=…/day=….parquet`; need not exist."""

    def path(self, symbol: str, day: date) -> Path:
        """Return the file of a symbol's day; it need not exist."""
        return self.folder / f"symbol={parse_symbol(symbol)}" / f"day={day}.parquet"

    def days(self, symbol: str) -> list[date]:
        """Return the days that have a file, oldest first."""
        paths = (self.folder / f"symbol={parse_symbol(symbol)}").glob("day=*.parquet")
        return sorted(date.fromisoformat(path.stem.removeprefix("day=")) for path in paths)

    def read_day(self, symbol: str, day: date) -> BookSeries:
        """Return a day's snapshots.

        Raises
        ------
        NotEnoughHistory
            If there is no file.
        SchemaMismatch
            If the file has other columns than the contract; as FileDamaged if it cannot be read.
        """
        path = self.path(symbol, day)
        if not path.is_file():
            raise NotEnoughHistory(f"{path} is not there: no book of {symbol} on {day} is stored")
        try:
            with pq.ParquetFile(path) as file:
                table = file.read(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise FileDamaged(f"{path} cannot be read: {reason}: collect it again") from error
        if not table.schema.equals(BOOK_SCHEMA):
            raise SchemaMismatch(
                f"{path} has the columns {table.schema.names}, expected {BOOK_SCHEMA.names}"
            )
        marks = table.schema.metadata or {}
        levels = int(marks.get(_LEVELS, b"0"))
        cells = table["book"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if cells.size != table.num_rows * levels * len(SIDES) * 2:
            raise SchemaMismatch(
                f"{path} has {cells.size} cells, expected those of {levels} levels"
            )
        return BookSeries(
            symbol,
            table["time"].to_numpy(),
            table["update_id"].to_numpy(),
            table["mid_price"].to_numpy(),
            table["tick_size"].to_numpy(),
            cells.reshape(-1, levels, len(SIDES), 2),
            _gaps_of(marks),
        )

    def read(self, symbol: str, first: date, last: date) -> BookSeries:
        """Return the snapshots of the stored days from `first` to `last`, both included.

        Raises
        ------
        NotEnoughHistory
            If none of them is stored.
        """
        days = [day for day in self.days(symbol) if first <= day <= last]
        if not days:
            raise NotEnoughHistory(
                f"{self.folder} holds no book of {symbol} from {first} to {last}"
            )
        return join_series([self.read_day(symbol, day) for day in days])

    def write(self, series: BookSeries, *, synthetic: bool, source: str = "") -> list[date]:
        """Replace the files of the days that a series has snapshots in, each whole or not at all.

        Parameters
        ----------
        synthetic : bool
            Whether a simulator made the book.
        source : str
            What the days were made from, for `source`; empty where that is not to be known.

        Returns
        -------
        list of date
            The days written.
        """
        days = _days_of(series)
        for day in days:
            start = day_start(day)
            part = series.between(start, start + DAY_MS)
            self._write_day(day, part, {_SYNTHETIC: str(synthetic), _SOURCE: source})
        return days

    def with_stored(self, series: BookSeries) -> BookSeries:
        """Return a series and what is stored of its days; of one time the series' own stays.

        Raises
        ------
        DataError
            If a stored day has another number of levels.
        """
        stored = [
            self.read_day(series.symbol, day)
            for day in _days_of(series)
            if self.path(series.symbol, day).is_file()
        ]
        return join_series([*stored, series])

    def levels(self, symbol: str, day: date) -> int | None:
        """Return the levels of a stored day; None where there is none."""
        marks = self._marks(symbol, day)
        return None if marks is None else int(marks.get(_LEVELS, b"0"))

    def source(self, symbol: str, day: date) -> str:
        """Return what a stored day was made from, as `write` was told; empty where it was not."""
        return (self._marks(symbol, day) or {}).get(_SOURCE, b"").decode()

    def gaps(self, symbol: str, day: date) -> tuple[BookGap, ...]:
        """Return the gaps of a stored day, without its snapshots; empty where there is none."""
        return _gaps_of(self._marks(symbol, day) or {})

    def synthetic(self) -> bool | None:
        """Say whether a simulator made the stored books; None where there are none."""
        path = next(self.folder.glob("symbol=*/day=*.parquet"), None)
        if path is None:
            return None
        return (pq.read_schema(path).metadata or {}).get(_SYNTHETIC) == b"True"

    def require_kind(self, *, synthetic: bool) -> None:
        """Refuse to mix simulated and real books.

        Raises
        ------
        SchemaMismatch
            If the folder holds books of the other kind.
        """
        stored = self.synthetic()
        if stored is not None and stored != synthetic:
            kinds = {True: "simulated", False: "real"}
            raise SchemaMismatch(
                f"{self.folder} holds {kinds[stored]} order books and the exchange serves "
                f"{kinds[synthetic]} ones: use another FLASH_PIPELINE_HOME for these"
            )

    def _marks(self, symbol: str, day: date) -> dict[bytes, bytes] | None:
        path = self.path(symbol, day)
        return dict(pq.read_schema(path).metadata or {}) if path.is_file() else None

    def _write_day(self, day: date, series: BookSeries, marks: Mapping[bytes, str]) -> None:
        width = series.levels * len(SIDES) * 2
        offsets = np.arange(len(series) + 1, dtype=np.int32) * width
        cells = pa.array(np.ascontiguousarray(series.book_TLS2).reshape(-1))
        table = pa.Table.from_arrays(
            [
                pa.array(series.time_T),
                pa.array(series.update_T),
                pa.array(series.mid_T),
                pa.array(series.tick_T),
                pa.ListArray.from_arrays(offsets, cells),
            ],
            schema=BOOK_SCHEMA.with_metadata(
                {
                    **BOOK_SCHEMA.metadata,
                    _LEVELS: str(series.levels).encode(),
                    **{name: text.encode() for name, text in marks.items()},
                    _GAPS: json.dumps([asdict(gap) for gap in series.gaps]).encode(),
                }
            ),
        )
        write_parquet(table, self.path(series.symbol, day), row_group_size=_ROW_GROUP)


def day_of(time_ms: int) -> date:
    """Return the UTC day of an instant, ms since the epoch."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()


def day_start(day: date) -> int:
    """Return the first instant of a UTC day, ms since the epoch."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _gaps_of(marks: Mapping[bytes, bytes]) -> tuple[BookGap, ...]:
    return tuple(BookGap(**gap) for gap in json.loads(marks.get(_GAPS, b"[]")))


def _days_of(series: BookSeries) -> list[date]:
    return [day_of(int(number) * DAY_MS) for number in np.unique(series.time_T // DAY_MS)]
