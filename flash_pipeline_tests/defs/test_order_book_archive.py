"""The asset of the snapshots on Bybit's archive of order books, as the embedded exchange serves it.

The instrument is launched ten minutes before a midnight, so that the file of its first day has six
hundred lines and not 86,400.
"""

import dataclasses
import json
import zipfile
from datetime import date

import dagster as dg
import numpy as np
import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.assets.order_book import (
    CHECKS,
    BookResource,
    SnapshotsConfig,
    order_book_snapshots,
)
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.exchange.book_archive import BookArchives
from flash_pipeline.exchange.faults import Faults, FaultSpec
from flash_pipeline.exchange.simulation.listings import LISTINGS
from flash_pipeline.market import parse_instant
from flash_pipeline.order_book import BookSeries, BookStore

DAY, LEVELS = date(2026, 3, 10), 50
LAUNCH, NOON = parse_instant("2026-03-10T23:50Z"), parse_instant("2026-03-11T12:00Z")
NAME = f"{DAY}_BTCUSDT_ob200.data"
NOBODY = "http://127.0.0.1:9"


def late_market() -> SimulatedMarket:
    spec = next(each for each in LISTINGS if each.instrument.symbol == "BTCUSDT")
    instrument = dataclasses.replace(spec.instrument, launch_ms=LAUNCH)
    return SimulatedMarket(listings=[dataclasses.replace(spec, instrument=instrument)])


@pytest.fixture(scope="module")
def archive_bytes() -> bytes:
    archives = BookArchives(late_market())
    found = archives.find("BTCUSDT", f"{NAME}.zip", NOON)
    assert found is not None
    return archives.read(found)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", NOBODY)
    return tmp_path


@pytest.fixture
def laid_down(home, archive_bytes):
    """Put a day's file, changed line by line, where fetched ones lie."""

    def laid_down(change=lambda lines: lines, cut: int | None = None):
        path = home / "order_book" / "archive" / f"{NAME}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive_bytes)
        with zipfile.ZipFile(path) as file:
            lines = [json.loads(line) for line in file.read(NAME).splitlines()]
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(NAME, "\n".join(json.dumps(each) for each in change(lines)) + "\n")
        path.write_bytes(path.read_bytes()[:cut])
        return path

    return laid_down


def materialize(url: str = NOBODY, *, levels: int = LEVELS, **given) -> dg.ExecuteInProcessResult:
    config = SnapshotsConfig(archive_days=[str(DAY)], archive_url=url, **given)
    return dg.materialize(
        [order_book_snapshots, *CHECKS],
        resources={
            "pipeline": PipelineResource(recipe="demo"),
            "order_book": BookResource(recipe="demo", levels=levels),
            "exchange": ExchangeResource(retry_delay_s=0),
        },
        run_config=dg.RunConfig(ops={"order_book_snapshots": config}),
        raise_on_error=False,
    )


def read(home) -> BookSeries:
    return BookStore(home / "order_book").read_day("BTCUSDT", DAY)


def passed(result) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


class Hand:
    """Elapsed time that a test sets; the exchange's clock follows it."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def test_the_rebuilt_day_is_what_polls_at_the_same_times_show(home):
    hand, cut_once = Hand(), Faults(FaultSpec(rate=1.0, burst=1, kinds=("truncated_json",)))
    clock = Clock(LAUNCH, monotonic_ns=hand)
    polled = {}
    with embedded_exchange(market=late_market(), clock=clock) as url, BybitClient(url) as client:
        for second in (0, 1, 59, 60, 333, 599):  # either side of a minute, and both ends
            hand.ns = second * 1_000_000_000
            polled[LAUNCH + 1000 * second] = client.order_book("BTCUSDT", LEVELS)
    noon = Clock(NOON, speed=0)
    with embedded_exchange(market=late_market(), clock=noon, faults=cut_once) as url:
        result = materialize(url)
    assert result.success, failure_reason(result)
    assert cut_once.counts["truncated_json"] == 1  # an answer that was cut off is asked for again
    assert passed(result) == {"books_are_sound": True, "no_delta_is_missing": True}
    stored = read(home)
    assert stored.time_T.tolist() == list(range(LAUNCH, LAUNCH + 600_000, 1000))
    price_TLS = stored.price_TLS()
    for time, answer in polled.items():
        t = int(np.searchsorted(stored.time_T, time))
        assert answer.time == time
        for side, levels in enumerate((answer.bids, answer.asks)):
            expected = np.array(levels, dtype=np.float64)
            np.testing.assert_allclose(price_TLS[t, :, side], expected[:, 0], rtol=1e-12)
            np.testing.assert_array_equal(
                stored.book_TLS2[t, :, side, 1], expected[:, 1].astype(np.float32)
            )
    assert BookStore(home / "order_book").synthetic() is False


def test_a_day_that_is_stored_is_neither_asked_for_nor_read_again(home, laid_down):
    path = laid_down()  # a file of one's own is taken as it is, without a request
    assert materialize().success
    stored = BookStore(home / "order_book").path("BTCUSDT", DAY)
    before = stored.stat().st_mtime_ns
    path.unlink()
    assert materialize().success
    assert stored.stat().st_mtime_ns == before
    laid_down()
    assert materialize(levels=LEVELS + 1).success  # what is stored is not deep enough
    assert read(home).levels == LEVELS + 1


def without_a_line(lines):
    return lines[:299] + lines[300:]


def with_a_crossed_line(lines):
    lines[299]["data"]["b"] = [["99999999", "1"]]
    return lines


@pytest.mark.parametrize(
    ("change", "kind"), [(without_a_line, "missing"), (with_a_crossed_line, "crossed")]
)
def test_damage_is_a_gap_that_a_check_shows_or_an_error(home, laid_down, change, kind):
    laid_down(change)
    result = materialize(strict=True)
    assert f"{kind}: line 300" in failure_reason(result)
    assert BookStore(home / "order_book").days("BTCUSDT") == []
    result = materialize()
    assert result.success
    assert passed(result) == {"books_are_sound": True, "no_delta_is_missing": False}
    stored = read(home)
    # Nothing is known from the last whole line's instant on, since no snapshot follows.
    assert stored.time_T.tolist() == list(range(LAUNCH, LAUNCH + 298_000, 1000))
    assert [gap.kind for gap in stored.gaps] == [kind]
    assert f"{kind}: line 300" in failure_reason(materialize(strict=True))
    assert len(read(home)) == 298  # as it was


def test_a_file_that_was_cut_off_stores_nothing_and_says_how_to_go_on(home, laid_down):
    path = laid_down(cut=20_000)
    for strict in (True, False):
        reason = failure_reason(materialize(strict=strict))
        assert f"{path} cannot be read: " in reason
        assert "delete it to have it fetched again" in reason
    assert BookStore(home / "order_book").days("BTCUSDT") == []


def test_a_day_of_which_nothing_can_be_rebuilt_is_an_error(home, laid_down):
    laid_down(lambda lines: lines[1:])  # the deltas without the snapshot
    reason = failure_reason(materialize())
    assert f"holds no snapshot of BTCUSDT on {DAY}: missing from" in reason
    assert BookStore(home / "order_book").days("BTCUSDT") == []
