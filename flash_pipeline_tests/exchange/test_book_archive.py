import io
import json
import zipfile
from itertools import islice

from flash_pipeline.exchange.book_archive import BookArchive, BookArchives, archive_lines
from flash_pipeline.market import parse_instant

DAY = parse_instant("2026-03-10")
DAY_MS = 86_400_000


def test_a_file_is_a_snapshot_and_then_deltas(market):
    book = BookArchive("XRPUSDT", DAY, 200)
    text = b"".join(archive_lines(market.order_flow("XRPUSDT"), book, 5))
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["type"] for line in lines] == ["snapshot"] + ["delta"] * 4
    assert [line["ts"] for line in lines] == [DAY + 1000 * n for n in range(5)]
    first = lines[0]["data"]["u"]
    assert [line["data"]["u"] for line in lines] == list(range(first, first + 5))
    assert {line["topic"] for line in lines} == {"orderbook.200.XRPUSDT"}
    bids, asks = ([float(p) for p, _ in lines[0]["data"][name]] for name in "ba")
    assert (len(bids), len(asks)) == (200, 200)
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    sizes = [size for _, size in lines[1]["data"]["b"]]
    assert "0" in sizes


def test_a_day_begins_with_the_listing(market):
    launch = market.instruments["ASTERUSDT"].launch_ms
    book = BookArchive("ASTERUSDT", launch - launch % DAY_MS, 200)
    (lines,) = islice(archive_lines(market.order_flow("ASTERUSDT"), book, 3), 1)
    assert json.loads(lines.splitlines()[0])["ts"] == launch


def test_only_days_that_are_over_have_a_file(market):
    archives = BookArchives(market)
    name = "2026-03-10_BTCUSDT_ob200.data.zip"
    assert archives.find("BTCUSDT", name, DAY + DAY_MS) == BookArchive("BTCUSDT", DAY, 200)
    assert archives.find("BTCUSDT", name.replace("200", "500"), DAY + DAY_MS).levels == 500
    for symbol, wrong, now in (
        ("BTCUSDT", name, DAY + DAY_MS - 1),
        ("ETHUSDT", name, DAY + DAY_MS),
        ("BTCUSDT", name.replace("200", "50"), DAY + DAY_MS),
        ("BTCUSDT", name.replace("03-10", "13-10"), DAY * 2),
        ("BTCUSDT", name.replace("2026", "2019"), DAY + DAY_MS),
        ("NOPEUSDT", name.replace("BTC", "NOPE"), DAY + DAY_MS),
    ):
        assert archives.find(symbol, wrong, now) is None


def test_is_served_under_the_archive_s_path(get, monkeypatch):
    monkeypatch.setattr(
        "flash_pipeline.exchange.book_archive.archive_lines",
        lambda _flow, archive: iter([archive.member.encode(), b"\n"]),
    )
    folder = "/orderbook/linear/BTCUSDT/"
    answer = get(folder + "2026-03-08_BTCUSDT_ob500.data.zip")
    assert answer.status_code == 200
    assert answer.headers["X-Flash-Pipeline-Market"] == "simulated"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.namelist() == ["2026-03-08_BTCUSDT_ob500.data"]
        assert file.read(file.namelist()[0]) == b"2026-03-08_BTCUSDT_ob500.data\n"
    assert get(folder + "2026-03-10_BTCUSDT_ob500.data.zip").status_code == 404
