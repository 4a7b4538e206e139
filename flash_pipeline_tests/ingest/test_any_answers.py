"""Whatever a source answers, what is stored is true: a property over scripted faults."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.ingest import Ledger, refresh_klines
from flash_pipeline.ingest.audit import audit_completeness, audit_klines
from flash_pipeline.market import CandleAnswer, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline_tests.ingest.conftest import FakeSource, make_series

HOUR = 3_600_000
JUNE = Month(2024, 6)
FIRST, CLOSED, WINDOW = parse_instant("2024-06-01"), 60, 25
NOW = FIRST + CLOSED * HOUR + 1_234_567
TRUTH = make_series("2024-06-01", 200)


@dataclass(frozen=True)
class Fault:
    """What happens to one answer."""

    lost: frozenset[int]
    """Hours left out."""
    repeated: frozenset[int]
    """Hours answered twice."""
    order: int
    """Seed of the rows' order; 0 for the right one."""


@dataclass(frozen=True)
class Jump:
    """The one moment at which the source's clock is off."""

    hours: int
    """By how much."""
    window: int | None
    """In the first answer of which window; None for the reading at the beginning."""


FAULTS = st.builds(
    Fault,
    lost=st.frozensets(st.integers(0, CLOSED - 1), max_size=CLOSED),
    repeated=st.frozensets(st.integers(0, CLOSED - 1), max_size=5),
    order=st.integers(0, 3),
)
JUMPS = st.builds(
    Jump,
    hours=st.sampled_from([-72, -50, -1, 0, 1, 72]),
    window=st.none() | st.integers(0, CLOSED // WINDOW),
)


def faulty(source: FakeSource, faults: list[Fault], jump: Jump) -> None:
    """Let the first three answers of each window have one of the faults."""
    answered: Counter[int] = Counter()
    if jump.window is None:
        source.clock = [NOW + jump.hours * HOUR]

    def distort(asked, answer):
        if asked.interval is Interval.DAY_1:
            return answer
        window, count = (asked.window.start - FIRST) // HOUR, answered[asked.window.start]
        answered[asked.window.start] += 1
        jumps = jump.window is not None and (window, count) == (WINDOW * jump.window, 0)
        as_of = answer.as_of + jump.hours * HOUR * jumps
        starts = answer.candles["start_time"].to_numpy()
        rows = np.flatnonzero(starts + HOUR <= as_of)
        if faults and count < 3:
            fault = faults[(window + 7 * count) % len(faults)]
            hours = (starts[rows] - FIRST) // HOUR
            rows = rows[~np.isin(hours, list(fault.lost))]
            rows = np.append(rows, rows[np.isin(rows + window, list(fault.repeated))])
            if fault.order:
                np.random.default_rng(fault.order).shuffle(rows)
        return CandleAnswer(answer.candles.take(pa.array(rows, pa.int64())), as_of)

    source.distort = distort


@settings(max_examples=40, deadline=None)
@given(faults=st.lists(FAULTS, max_size=8), jump=JUMPS, runs=st.integers(1, 3))
def test_what_is_stored_is_true_and_what_is_not_is_on_record(faults, jump, runs):
    with TemporaryDirectory() as folder:
        store = KlineStore(Path(folder) / "klines", Interval.HOUR_1)
        ledger = Ledger(Path(folder) / "warehouse.duckdb", "fake", Interval.HOUR_1)
        source = FakeSource({"BTCUSDT": TRUTH}, now_ms=NOW, most_candles=WINDOW)
        faulty(source, faults, jump)
        for _ in range(runs):
            done = refresh_klines(
                source, store, ["BTCUSDT"], JUNE, JUNE, ledger=ledger, require_candles=False
            )
            closed_end = Interval.HOUR_1.floor(done.now)  # earlier for a clock that was behind
            held = store.read_all("BTCUSDT")
            starts = held["start_time"].to_numpy()
            assert held.equals(TRUTH.take(pa.array((starts - FIRST) // HOUR)))  # none made up
            assert closed_end <= FIRST + CLOSED * HOUR
            assert audit_klines(store, ["BTCUSDT"], closed_end=closed_end) == []
            gaps = ledger.open_gaps()
            for gap in gaps.get("BTCUSDT", []):
                assert gap.last_start < closed_end  # what has not closed is no gap
                assert not ((starts >= gap.first_start) & (starts <= gap.last_start)).any()
            assert audit_completeness(store, ["BTCUSDT"], gaps, closed_end=closed_end) == []
        # Once the source behaves again, one more refresh has everything.
        source.distort = lambda _, answer: answer
        refresh_klines(source, store, ["BTCUSDT"], JUNE, JUNE, ledger=ledger)
        assert store.read_all("BTCUSDT").equals(TRUTH.slice(0, CLOSED))
        assert ledger.open_gaps() == {}
