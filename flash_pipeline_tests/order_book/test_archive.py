import io
import json
import zipfile
from datetime import date
from functools import partial

import numpy as np
import pytest

from flash_pipeline.errors import (
    AccessDenied,
    DataError,
    ExchangeFault,
    InvalidConfig,
    InvalidInput,
)
from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.exchange.book_archive import BookArchive, archive_lines
from flash_pipeline.market import parse_instant
from flash_pipeline.order_book import archive as archive_module
from flash_pipeline.order_book import archive_transport, fetch_day, read_archive
from flash_pipeline.order_book.archive import (
    archive_folder,
    archive_path,
    host_name,
    is_simulated,
)
from flash_pipeline.transport import HttpTransport
from flash_pipeline_tests.order_book.conftest import START, line, plain_rebuild, random_stream
from flash_pipeline_tests.transport.conftest import WireServer, _http

BIDS, ASKS = [(99, 1), (98, 2)], [(101, 1), (102, 2)]
FIRST = line("snapshot", 0, 7, BIDS, ASKS)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cadence", [100, 1000])
def test_is_the_book_that_a_plain_rebuild_gives(archive, monkeypatch, seed, cadence):
    monkeypatch.setattr(archive_module, "_CHUNK_BYTES", 3000)  # lines cross the ends of blocks
    lines = random_stream(seed)
    series = read_archive(archive(lines), levels=8, cadence_ms=cadence)
    expected = plain_rebuild(lines, 8, cadence)
    assert series.time_T.tolist() == list(expected)
    price = series.price_TLS()
    for t, (bids, asks) in enumerate(expected.values()):
        for side, levels in enumerate((bids, asks)):
            assert price[t, :, side].tolist() == [p for p, _ in levels]
            assert series.book_TLS2[t, :, side, 1].tolist() == [s for _, s in levels]


def test_prices_are_relative_to_the_mid_in_whole_half_ticks(archive):
    series = read_archive(archive([FIRST]), levels=2, tick_size=0.5)
    assert series.mid_T.tolist() == [100.0]
    assert series.book_TLS2[0].tolist() == [[[-2, 1], [2, 1]], [[-4, 2], [4, 2]]]
    assert series.book_TLS2.dtype == np.float32


def test_the_last_of_several_sizes_of_one_line_stays(archive):
    later = line("delta", 1000, 8, [(99, 5), (99, 0), (99, 6)], [])
    assert read_archive(archive([FIRST, later]), levels=2).book_TLS2[1, 0, 0, 1] == 6


def test_size_0_deletes_and_a_snapshot_starts_anew(archive):
    lines = [
        line("snapshot", 0, 7, [(97, 9), *BIDS], ASKS),
        line("delta", 1000, 8, [(98, 0)], []),
        line("snapshot", 2000, 1, [(50, 1), (49, 1)], [(51, 1), (52, 1)]),
    ]
    series = read_archive(archive(lines), levels=2)
    assert series.price_TLS()[:, :, 0].tolist() == [[99, 98], [99, 97], [50, 49]]


def damaged() -> list:
    stream = [line("delta", 1000 * n, 7 + n, [(90, n)], []) for n in range(1, 6)]
    again = line("snapshot", 6000, 50, BIDS, ASKS)
    return [FIRST, *stream, again, line("delta", 7000, 51, [(90, 1)], [])]


DAMAGES = {
    "missing": lambda lines: lines.pop(3),
    "torn": lambda lines: lines.__setitem__(3, json.dumps(lines[3])[:60]),
    "crossed": lambda lines: lines.__setitem__(3, line("delta", 3000, 10, [(101, 4)], [])),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_an_error_that_names_the_line(archive, kind):
    lines = damaged()
    DAMAGES[kind](lines)
    with pytest.raises(DataError, match=f"line 4.*{kind}|{kind}: line 4"):
        read_archive(archive(lines), levels=2)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_a_gap_up_to_the_next_snapshot_where_that_is_asked(archive, kind):
    lines = damaged()
    DAMAGES[kind](lines)
    series = read_archive(archive(lines), levels=2, strict=False)
    assert ((series.time_T - START) // 1000).tolist() == [0, 1, 6, 7]
    assert kind in [gap.kind for gap in series.gaps]
    gap = next(gap for gap in series.gaps if gap.kind in ("missing", "crossed"))
    assert (gap.start - START, gap.end - START) == (2000, 6000)


def test_a_file_that_is_cut_short_is_an_error_and_otherwise_ends_there(archive):
    lines = [*damaged()[:4], json.dumps(damaged()[4])[:70]]
    with pytest.raises(DataError, match="line 5 is torn"):
        read_archive(archive(lines), levels=2)
    series = read_archive(archive(lines), levels=2, strict=False)
    assert len(series) == 4
    assert [gap.kind for gap in series.gaps] == ["torn"]


def test_too_few_levels_are_an_error_or_nan_with_a_gap(archive):
    path = archive([FIRST])
    with pytest.raises(DataError, match="2 levels on a side, asked for 3"):
        read_archive(path, levels=3)
    series = read_archive(path, levels=3, strict=False)
    assert np.isnan(series.book_TLS2[0, 2]).all()
    assert [gap.kind for gap in series.gaps] == ["thin"]


def test_silence_is_an_error_or_a_gap_and_never_a_stale_book(archive):
    path = archive([FIRST, line("delta", 20_000, 8, [(90, 1)], [])])
    with pytest.raises(DataError, match="no line for 20000 ms"):
        read_archive(path, levels=2)
    series = read_archive(path, levels=2, strict=False)
    assert ((series.time_T - START) // 1000).tolist() == [0, 1, 2, 3, 4, 5, 20]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line("delta", 1000, 8, [], [], s="ETHUSDT"), "line 2: another symbol than BTCUSDT"),
        (line("delta", -5, 8, [], []), "line 2: its time"),
        (line("delta", 1000, 8, [(99, -1)], []), "line 2: a size below 0"),
        (line("delta", 1000, 8, [(-99, 1)], []), "line 2: a price that is not above 0"),
        (line("update", 1000, 8, [], []), "line 2: a type other"),
        (line("delta", 1000, 8, [], [], b=[["99"]]), "line 2: a level that is no pair"),
        (line("delta", 1000, 8, [], [], b=[["99", "x"]]), "no number"),
        (line("delta", 1000, 8, [], [], u=None), "line 2: a line without ts, data or u"),
        (line("delta", 1000, 8, [], [], u="8"), "another shape"),
        (line("delta", 1000, 8, [], [], b="99"), "another shape"),
    ],
)
def test_other_lines_are_refused_whatever_is_recorded(archive, bad, message):
    for strict in (True, False):
        with pytest.raises(DataError, match=message):
            read_archive(archive([FIRST, bad]), levels=2, strict=strict)


def test_names_depths_and_broken_files_are_refused(archive, tmp_path):
    with pytest.raises(InvalidInput, match="not named"):
        read_archive(tmp_path / "book.zip", levels=2)
    with pytest.raises(InvalidInput, match="levels=201"):
        read_archive(archive([FIRST]), levels=201)
    broken = tmp_path / "2026-03-10_BTCUSDT_ob200.data.zip"
    broken.write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DataError, match="cannot be read"):
        read_archive(broken, levels=2)


def test_the_path_is_that_of_the_public_archive():
    assert archive_path("BTCUSDT", date(2024, 6, 1)) == (
        "/orderbook/linear/BTCUSDT/2024-06-01_BTCUSDT_ob500.data.zip"
    )
    assert archive_path("BTCUSDT", date(2025, 8, 20)).endswith("_ob200.data.zip")


def test_a_simulated_archive_shows_what_the_market_has(tmp_path):
    market = SimulatedMarket(seed=7)
    start = parse_instant("2026-03-10")
    book = BookArchive("ETHUSDT", start, 200)
    path = tmp_path / f"{book.member}.zip"
    with zipfile.ZipFile(path, "w") as file:
        lines = archive_lines(market.order_flow("ETHUSDT"), book, 700)  # two blocks
        file.writestr(book.member, b"".join(lines))
    series = read_archive(path, levels=50)
    assert len(series) == 700
    assert series.gaps == ()
    flow = market.order_flow("ETHUSDT")
    ((_, bids, asks),) = flow.depth(range(start // 100 + 6500, start // 100 + 6501), 50)
    for side, depth, sign in ((0, bids, -1), (1, asks, 1)):
        columns = np.flatnonzero(depth.orders[0])[::sign][:50]
        step = flow.ticks_per_step * 0.01
        assert np.allclose(series.price_TLS()[650, :, side], (columns + depth.first) * step)


def test_deltas_without_a_snapshot_are_a_gap_from_the_first_of_them(archive):
    series = read_archive(archive(damaged()[1:4]), levels=2, strict=False)
    assert len(series) == 0
    assert [(gap.kind, gap.start, gap.end) for gap in series.gaps] == [
        ("missing", START + 1000, START + 1000)
    ]


def test_a_day_is_fetched_once_and_whole(tmp_path, monkeypatch):
    short = partial(archive_lines, updates=3)
    monkeypatch.setattr("flash_pipeline.exchange.book_archive.archive_lines", short)
    clock = Clock(parse_instant("2026-03-11T12:00Z"), speed=0)
    with embedded_exchange(clock=clock) as url, archive_transport(url) as transport:
        path = fetch_day(transport, "BTCUSDT", date(2026, 3, 10), tmp_path)
    assert len(read_archive(path, levels=50)) == 3
    assert is_simulated(path)
    with archive_transport("http://127.0.0.1:9") as gone:  # nobody is asked again
        assert fetch_day(gone, "BTCUSDT", date(2026, 3, 10), tmp_path) == path
        own = tmp_path / path.name
        own.write_bytes(zipped())
        assert fetch_day(gone, "BTCUSDT", date(2026, 3, 10), tmp_path) == own
    assert not is_simulated(own)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://LOCALHOST:8123/", "localhost_8123"),
        ("http://localhost:80", "localhost"),
        ("https://localhost:80", "localhost_80"),
        ("http://[::1]:8123", "%5B__1%5D_8123"),
        ("https://mirror.example/by/bit/", "mirror.example%2Fby%2Fbit"),
        ("https://mirror.example/../..", "mirror.example%2F..%2F.."),
    ],
)
def test_a_host_is_named_as_a_file_may_be(tmp_path, url, name):
    assert host_name(url) == name
    assert archive_folder(tmp_path, url) == tmp_path / "archive" / name


def test_the_files_of_bybit_lie_in_no_folder_of_a_host(tmp_path):
    for url in ("https://quote-saver.bycsi.com", "https://Quote-Saver.bycsi.com:443/"):
        assert archive_folder(tmp_path, url) == tmp_path / "archive"


@pytest.mark.parametrize("url", ["", "mirror.example", "file:///tmp", "http://", "http://.."])
def test_a_url_without_a_host_is_refused(url):
    with pytest.raises(InvalidConfig, match="expected such as https://quote-saver"):
        host_name(url)


@pytest.fixture
def served():
    """Start a server that gives these answers, the last for ever."""
    servers = []

    def serve(*answers):
        servers.append(WireServer(*answers))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def zipped(lines=(FIRST,)):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("day.data", "\n".join(map(json.dumps, lines)) + "\n")
    return buffer.getvalue()


PAGE = b"<html>come back later</html>"
PASSING = {
    "no answer": b"",
    "a busy server": _http(b"", status="503 Service Unavailable"),
    "too many requests": _http(b"", status="429 Too Many Requests"),
    "a torn file": _http(zipped()[:20], length=len(zipped())),
    "the half of a file": _http(zipped()[:20]),
    "a page in place of the file": _http(PAGE, "Content-Type: text/html"),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again_and_nothing_of_it_is_stored(served, tmp_path, answer):
    server = served(answer, answer, _http(zipped()))
    with HttpTransport([server.url], sleep=lambda _: None) as transport:
        path = fetch_day(transport, "BTCUSDT", date(2026, 3, 10), tmp_path)
    assert len(server.requests) == 3
    assert path.read_bytes() == zipped()
    assert not is_simulated(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_transport_of_the_archive_tries_again(served, tmp_path):
    server = served(PASSING["a busy server"], _http(zipped()))
    with archive_transport(server.url) as transport:
        fetch_day(transport, "BTCUSDT", date(2026, 3, 10), tmp_path)
    assert len(server.requests) == 2


def test_what_lasts_is_given_up_in_words(served, tmp_path):
    server = served(PASSING["a page in place of the file"])
    with (
        HttpTransport([server.url], sleep=lambda _: None) as transport,
        pytest.raises(ExchangeFault, match="answered 28 bytes that are no whole zip"),
    ):
        fetch_day(transport, "BTCUSDT", date(2026, 3, 10), tmp_path)
    assert len(server.requests) == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"), [("404 Not Found", DataError), ("403 Forbidden", AccessDenied)]
)
def test_what_stays_refused_is_asked_for_once(served, tmp_path, status, error):
    server = served(_http(b"{}", status=status))
    with HttpTransport([server.url]) as transport, pytest.raises(error):
        fetch_day(transport, "BTCUSDT", date(2026, 3, 10), tmp_path)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_day_that_the_archive_lacks_is_named(tmp_path):
    clock = Clock(parse_instant("2026-03-10T12:00Z"), speed=0)
    with embedded_exchange(clock=clock) as url, HttpTransport([url], attempts=1) as transport:
        for day in (date(2026, 3, 10), date(2019, 1, 1)):
            with pytest.raises(DataError, match=f"no book of BTCUSDT on {day}"):
                fetch_day(transport, "BTCUSDT", day, tmp_path)
    assert list(tmp_path.iterdir()) == []
