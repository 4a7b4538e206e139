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
from flash_pipeline.order_book import ARCHIVE_URL, BookSeries, BookStore
from flash_pipeline.order_book.archive import archive_folder
from flash_pipeline_tests.order_book.conftest import made_series
from flash_pipeline_tests.transport.conftest import WireServer, _http

DAY, LEVELS = date(2026, 3, 10), 50
LAUNCH, NOON = parse_instant("2026-03-10T23:50Z"), parse_instant("2026-03-11T12:00Z")
NAME = f"{DAY}_BTCUSDT_ob200.data"
NOBODY, MIRROR = "http://127.0.0.1:9", "http://127.0.0.1:9/mirror"


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

    def laid_down(change=lambda lines: lines, cut: int | None = None, url: str = NOBODY):
        path = archive_folder(home / "order_book", url) / f"{NAME}.zip"
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
    config = SnapshotsConfig(**{"archive_days": [str(DAY)], "archive_url": url, **given})
    return dg.materialize(
        [order_book_snapshots, *CHECKS],
        resources={
            "pipeline": PipelineResource(recipe="demo"),
            "order_book": BookResource(recipe="demo", levels=levels, hours=0.05),
            "exchange": ExchangeResource(retry_delay_s=0),
        },
        run_config=dg.RunConfig(ops={"order_book_snapshots": config}),
        raise_on_error=False,
    )


def metadata(result, name: str):
    (event,) = result.asset_materializations_for_node("order_book_snapshots")
    return event.metadata[name].value


def synthetic(result) -> bool:
    return metadata(result, "synthetic")


def written(home) -> int:
    return BookStore(home / "order_book").path("BTCUSDT", DAY).stat().st_mtime_ns


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
    store = BookStore(home / "order_book")
    assert synthetic(result) is store.synthetic() is True
    assert metadata(result, "dagster/row_count") == 600, "all that is stored, whatever the hours"
    store.path("BTCUSDT", DAY).unlink()
    again = materialize(url)  # of the file that was kept: nobody serves it any longer
    assert again.success, failure_reason(again)
    assert synthetic(again) is store.synthetic() is True
    before = written(home)
    # Bybit's own are real: that is known without asking it.
    assert "holds simulated order books" in failure_reason(materialize(ARCHIVE_URL))
    assert written(home) == before


def test_simulated_books_are_refused_where_real_ones_are_stored(home, laid_down):
    laid_down()
    result = materialize()
    assert synthetic(result) is BookStore(home / "order_book").synthetic() is False
    before = written(home)
    with embedded_exchange(market=late_market(), clock=Clock(NOON, speed=0)) as url:
        for _ in range(2):  # fetched, and kept
            reason = failure_reason(materialize(url))
            assert "holds real order books and the exchange serves simulated ones" in reason
    assert written(home) == before
    assert BookStore(home / "order_book").synthetic() is False


def test_stored_simulated_books_are_used_where_the_exchange_simulates_too(home, monkeypatch):
    BookStore(home / "order_book").write(made_series(20, LEVELS), synthetic=True)
    server = WireServer(_http(b'{"retCode":0,"retMsg":"OK","result":{},"time":1773100800000}'))
    try:
        monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", server.url)
        assert "holds simulated order books" in failure_reason(materialize(archive_days=[]))
    finally:
        server.close()
    with embedded_exchange(clock=Clock(NOON, speed=0)) as url:
        monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", url)
        result = materialize(archive_days=[])
    assert result.success, failure_reason(result)
    assert synthetic(result) is True


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


def test_each_host_has_files_and_days_of_its_own(home, laid_down):
    laid_down(without_a_line, url=MIRROR)
    assert materialize(MIRROR).success
    assert len(read(home)) == 298
    laid_down()
    laid_down(lambda lines: lines[:-1], url=ARCHIVE_URL)
    assert materialize().success  # another host
    assert len(read(home)) == 600
    assert materialize(ARCHIVE_URL).success  # Bybit's own folder
    assert len(read(home)) == 599


def test_a_day_with_gaps_is_rebuilt_when_its_file_is_another(home, laid_down, archive_bytes):
    server = WireServer(_http(archive_bytes))
    try:
        path = laid_down(without_a_line, url=server.url)
        assert materialize(server.url).success
        before = written(home)
        assert materialize(server.url).success
        assert written(home) == before, "the file is the same"
        path.write_bytes(archive_bytes)
        assert materialize(server.url).success
        assert (len(read(home)), read(home).gaps) == (600, ())
        laid_down(without_a_line, url=server.url)
        assert materialize(server.url).success
        assert len(read(home)) == 298
        assert len(server.requests) == 0
        path.unlink()
        assert materialize(server.url).success
        assert (len(read(home)), read(home).gaps) == (600, ())
        assert len(server.requests) == 1
        assert materialize(server.url).success
        assert len(server.requests) == 1
    finally:
        server.close()


def test_a_day_that_was_collected_or_added_to_is_replaced(home, laid_down):
    store = BookStore(home / "order_book")
    store.write(made_series(5, LEVELS), synthetic=False)
    laid_down()
    assert materialize().success
    rebuilt = read(home).time_T.tolist()
    assert len(rebuilt) == 600
    store.write(store.with_stored(made_series(5, LEVELS)), synthetic=False)
    assert len(read(home)) == 605
    assert materialize().success
    assert read(home).time_T.tolist() == rebuilt


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
