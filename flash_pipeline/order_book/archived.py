"""Days of an archive in the store: rebuilt once, and again when their file has changed."""

import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from flash_pipeline.errors import DataError
from flash_pipeline.order_book.archive import (
    ARCHIVE_URL,
    archive_folder,
    fetch_day,
    find_day,
    host_name,
    is_simulated,
    read_archive,
)
from flash_pipeline.order_book.store import DAY_MS, BookStore, day_start
from flash_pipeline.transport import HttpTransport


@dataclass(frozen=True)
class ArchivedDays:
    """How days of an archive are rebuilt into a store."""

    store: BookStore
    """Beside whose days the files are kept."""
    levels: int
    """Of each side."""
    cadence_ms: int
    """Between two snapshots."""
    url: str = ARCHIVE_URL
    """Where the files are fetched from."""
    strict: bool = False
    """Whether a damaged day is an error; otherwise what is damaged is a gap."""

    def add(self, transport: HttpTransport, symbol: str, day: date) -> bool:
        """Rebuild a day unless it is stored already, and say whether it was rebuilt.

        It is stored already if it was rebuilt as fine and as deep from this host's file, and that
        is as it was then. A file that is no longer there is missed only by a day with gaps, which
        another one may fill. Such a day is read again in any case where damage is an error.

        Parameters
        ----------
        transport : HttpTransport
            To `url`, as `archive_transport` makes it.

        Raises
        ------
        SchemaMismatch
            If the store holds books of the other kind, simulated or real; nothing is written then.
        DataError
            If the archive has no such day, or its file cannot be read or shows no snapshot.
        ExchangeError
            As of the transport.
        """
        folder = archive_folder(self.store.folder, self.url)
        if self._is_stored(symbol, day, find_day(symbol, day, folder)):
            return False
        if folder == archive_folder(self.store.folder):
            self.store.require_kind(synthetic=False)  # Bybit's: known before much is fetched
        path = fetch_day(transport, symbol, day, folder)
        synthetic, source = is_simulated(path), self._source(path)
        self.store.require_kind(synthetic=synthetic)
        series = read_archive(
            path, levels=self.levels, cadence_ms=self.cadence_ms, strict=self.strict
        )
        start = day_start(day)
        series = series.between(start, start + DAY_MS)  # a last line may be of midnight
        if not len(series):
            found = "; ".join(map(str, series.gaps[:1])) or "no line of that day"
            raise DataError(f"{path} holds no snapshot of {symbol} on {day}: {found}")
        self.store.write(series, synthetic=synthetic, source=source)
        return True

    def _is_stored(self, symbol: str, day: date, path: Path | None) -> bool:
        source = self.store.source(symbol, day)
        if self.store.levels(symbol, day) != self.levels or not source.startswith(self._origin):
            return False
        if path is None:
            return not self.store.gaps(symbol, day)
        unchanged = source == self._source(path)
        return unchanged and not (self.strict and self.store.gaps(symbol, day))

    @property
    def _origin(self) -> str:
        return f"archive {host_name(self.url)} every {self.cadence_ms} ms, "

    def _source(self, path: Path) -> str:
        """Return what a day that is made from a file is marked with."""
        return self._origin + _fingerprint(path)


def _fingerprint(path: Path) -> str:
    """Return what tells a file from another one of its name, without reading it whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            sums = " ".join(f"{member.CRC:08x}" for member in archive.infolist()[:1])
        return f"{path.stat().st_size} bytes, CRC {sums}"
    except (OSError, zipfile.BadZipFile):
        return "unreadable"
