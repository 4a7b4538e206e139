"""What must hold of a home after a soak: every candle, no forecast twice, nothing held."""

import contextlib
import math
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.soak_definitions import MONTHS, SYMBOLS
from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.evaluation.forecasts import audit_forecasts
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.features import FEATURE_NAMES, read_features, refresh_features
from flash_pipeline.ingest import Ledger, refresh_klines
from flash_pipeline.market import Interval, Month, iso_utc
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.lock import claim_home
from flash_pipeline.storage.warehouse import open_warehouse

HOUR = Interval.HOUR_1
_CLOSE = 1e-9  # a row appended differs from one computed with the rest in its last bits

_AT_WORK = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What must hold."""
    ok: bool
    """Whether it does."""
    detail: str
    """The figures, or what is wrong."""


def audit_home(settings: Settings, start_ms: int, last_tick_ms: int) -> list[Finding]:
    """Return what is found in the files of a home that no process uses any more.

    Parameters
    ----------
    start_ms, last_tick_ms : int
        When the soak began, and the tick of its last run, ms since the epoch by the exchange.
    """
    checks: list[Callable[[], Finding]] = [
        lambda: _lock(settings),
        lambda: _candles(settings, start_ms, last_tick_ms),
        lambda: _features(settings, start_ms, last_tick_ms),
        lambda: _gaps(settings),
        lambda: _forecasts(settings, start_ms),
    ]
    return [check() for check in checks]


def audit_instance(instance: dg.DagsterInstance) -> list[Finding]:
    """Return what is found in Dagster's own storage."""
    active = [run.run_id[:8] for run in instance.get_runs(dg.RunsFilter(statuses=list(_AT_WORK)))]
    slots = sorted(instance.event_log_storage.get_concurrency_run_ids())
    return [
        Finding("no run is left at work", not active, f"{len(active)} left {active[:5]}"),
        Finding("no place in a pool is held", not slots, f"{len(slots)} held {slots[:5]}"),
    ]


def _lock(settings: Settings) -> Finding:
    try:
        with claim_home(settings.home), open_warehouse(settings.warehouse, wait_s=0.0):
            return Finding("no lock is held", True, "home and warehouse open at once")
    except FlashPipelineError as error:
        return Finding("no lock is held", False, str(error))


def _candles(settings: Settings, start_ms: int, last_tick_ms: int) -> Finding:
    stored = KlineStore(settings.klines, HOUR)
    wrong, rows = [], 0
    with _reference(start_ms, last_tick_ms) as (store, first, last):
        for symbol in SYMBOLS:
            want = _by_start(store.read(symbol, first, last))
            have = _by_start(stored.read(symbol, first, last))
            rows += len(want)
            missing = [t for t in want if t not in have]
            # What closed after the last tick may be stored as well.
            other = [t for t, row in have.items() if t in want and row != want[t]]
            wrong += [f"{symbol} {iso_utc(t)} missing" for t in missing]
            wrong += [f"{symbol} {iso_utc(t)} differs" for t in other]
    detail = f"{rows:,} candles as a faultless exchange gives them" if not wrong else _first(wrong)
    return Finding("every candle is stored, as it was", not wrong, detail)


def _features(settings: Settings, start_ms: int, last_tick_ms: int) -> Finding:
    wrong, rows = [], 0
    with (
        _reference(start_ms, last_tick_ms) as (store, first, last),
        tempfile.TemporaryDirectory() as folder,
        open_warehouse(Path(folder) / "reference.duckdb") as connection,
    ):
        refresh_features(connection, store, SYMBOLS, first, last)
        # The first rows of a store have no bars before them.
        wanted = read_features(connection, SYMBOLS, first.time_range.start).to_pylist()
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        found = read_features(connection, SYMBOLS, first.time_range.start).to_pylist()
    have = {(row["symbol"], row["start_time"]): row for row in found}
    for row in wanted:
        rows += 1
        mine = have.get((row["symbol"], row["start_time"]))
        if mine is None or not all(_same(mine[name], row[name]) for name in FEATURE_NAMES):
            wrong.append(f"{row['symbol']} {iso_utc(row['start_time'])}")
    twice = len(found) - len(have)
    ok = not wrong and not twice
    detail = f"{rows:,} rows as computed at once, none twice"
    detail = detail if ok else f"{_first(wrong)}, {twice} twice"
    return Finding("every row of features is right", ok, detail)


def _gaps(settings: Settings) -> Finding:
    gaps = Ledger(settings.warehouse, BybitClient.name, HOUR).open_gaps()
    told = [f"{symbol}: {gap}" for symbol, found in gaps.items() for gap in found]
    return Finding("no gap is recorded as open", not told, _first(told) if told else "none")


def _forecasts(settings: Settings, start_ms: int) -> Finding:
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        wrong = audit_forecasts(connection)
        made = connection.execute(
            "SELECT symbol, made_at FROM forecasts WHERE made_at >= $start", {"start": start_ms}
        ).fetchall()
    hours = {made_at for _, made_at in made}
    wrong += [f"made at {iso_utc(at)}" for at in sorted(hours) if at % HOUR.milliseconds]
    others = len(made) - len(set(made))  # another champion's of the same hour stands beside
    detail = f"{len(made):,} forecasts of {len(hours):,} hours, {others} by a second version"
    detail = _first(wrong) if wrong else detail
    return Finding("no forecast is made twice", not wrong, detail)


@contextlib.contextmanager
def _reference(start_ms: int, last_tick_ms: int) -> Iterator[tuple[KlineStore, Month, Month]]:
    """Yield the candles that an exchange without faults has closed by the last tick."""
    first = Month.containing(start_ms).shift(1 - MONTHS)
    last = Month.containing(last_tick_ms)
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_exchange(clock=Clock(last_tick_ms, speed=0)) as url,
        BybitClient(url) as client,
    ):
        store = KlineStore(Path(folder), HOUR)
        refresh_klines(client, store, SYMBOLS, first, last)
        yield store, first, last


def _by_start(table: Any) -> dict[int, dict[str, float]]:  # noqa: ANN401 - pyarrow has no types
    return {row["start_time"]: row for row in table.to_pylist()}


def _same(mine: float | None, theirs: float | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return math.isclose(mine, theirs, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _first(wrong: Collection[str]) -> str:
    return f"{len(wrong)}: {'; '.join(list(wrong)[:3])}"
