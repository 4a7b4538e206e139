"""What the benchmarks of the ingester share: the machine, the recording, tables and results."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flash_pipeline.bybit import BybitClient
from flash_pipeline.ingest import KlineRefresh, Ledger, refresh_klines
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
INTERVAL = Interval.HOUR_1
HOUR_MS = INTERVAL.milliseconds
FIRST, LAST = Month(2023, 7), Month(2024, 6)
NOW = parse_instant("2024-06-30T23:30:00Z")
"""When the recording is replayed: half an hour before its end."""

RESULTS = Path(__file__).resolve().parents[1] / "results"
Result = dict[str, Any]


def recording() -> Path:
    """Return the folder of recorded candles: FLASH_PIPELINE_REAL_DATA, or beside the project."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "market"
    folder = Path(os.environ.get("FLASH_PIPELINE_REAL_DATA", beside))
    if not (folder / "BTCUSDT_60.parquet").is_file():
        sys.exit(f"no recorded candles in {folder}: set FLASH_PIPELINE_REAL_DATA")
    return folder


@dataclass(frozen=True)
class Home:
    """A folder with the stored candles and the ledger."""

    folder: Path

    @property
    def store(self) -> KlineStore:
        """The candle files."""
        return KlineStore(self.folder / "klines", INTERVAL)

    @property
    def ledger(self) -> Ledger:
        """Gaps and revisions."""
        return Ledger(self.folder / "warehouse.duckdb", "bybit", INTERVAL)

    def refresh(
        self,
        client: BybitClient,
        symbols: Sequence[str] = SYMBOLS,
        first: Month = FIRST,
        last: Month = LAST,
    ) -> KlineRefresh:
        """Bring the candles up to the exchange's clock."""
        return refresh_klines(client, self.store, symbols, first, last, ledger=self.ledger)

    def digests(self) -> dict[str, str]:
        """Return the digest of every file that a reader of the candles would find."""
        paths = sorted(self.store.folder.glob("symbol=*/month=*.parquet"))
        return {
            str(path.relative_to(self.folder)): sha256(path.read_bytes()).hexdigest()
            for path in paths
        }

    def leftovers(self) -> int:
        """Count temporary files, which a killed process leaves and no reader looks at."""
        return len(list(self.folder.glob("klines/symbol=*/.tmp-*")))


@dataclass(frozen=True)
class Tally:
    """Stored candles held against the recording."""

    stored: int
    lost: int
    duplicated: int
    invented: int
    forming: int

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.invented or self.forming)


def tally(home: Home, folder: Path, closed_end: int) -> Tally:
    """Compare what is stored with what was recorded and closed by `closed_end`.

    A candle counts as lost if the recording has it and the store does not; as invented if the
    store has one that the recording has not, or with another value; as forming if it had not
    closed.
    """
    start = FIRST.time_range.start
    totals = [0, 0, 0, 0, 0]
    for symbol in SYMBOLS:
        recorded = pq.read_table(folder / f"{symbol}_60.parquet").cast(CANDLE_SCHEMA)
        true = {row["start_time"]: _values(row) for row in recorded.to_pylist()}
        wanted = {t for t in true if start <= t < closed_end}
        rows = home.store.read_all(symbol).to_pylist()
        starts = [row["start_time"] for row in rows]
        totals[0] += len(rows)
        totals[1] += len(wanted - set(starts))
        totals[2] += len(starts) - len(set(starts))
        totals[3] += sum(_values(row) != true.get(row["start_time"]) for row in rows)
        totals[4] += sum(t + HOUR_MS > closed_end for t in starts)
    return Tally(*totals)


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    # NaN in the recording, null in the store: the source has no turnover.
    return tuple(None if x is None or x != x else x for x in row.values())


@contextmanager
def exchange_process(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve an exchange from a process of its own, and yield its URL and process."""
    command = [sys.executable, "-m", "flash_pipeline.exchange", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"(http://\S+) ", process.stdout.readline())
            if found is None:
                sys.exit(f"the exchange did not start: {' '.join(command)}")
            yield found[1], process
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> Result:
    """Return the hardware and the versions that figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("pyarrow", "duckdb", "numpy", "requests", "pydantic", "uvicorn", "starlette")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def write_results(results: Result) -> Path:
    """Write the figures beside those of other benchmarks, named by hardware and date."""
    about = results["machine"]
    words = re.sub(r"\(.*?\)|processor|cpu|@.*", "", about["processor"], flags=re.IGNORECASE)
    hardware = "_".join([*words.lower().split(), f"{about['cores']}cores"])
    path = RESULTS / f"ingest_{hardware}_{about['date']}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def print_table(title: str, rows: Iterable[tuple[str, object]]) -> None:
    """Print a title and rows of a name and a figure."""
    print(f"\n{title}")
    for name, value in rows:
        text = f"{value:,}" if type(value) is int else str(value)
        print(f"  {name:52} {text:>28}")
