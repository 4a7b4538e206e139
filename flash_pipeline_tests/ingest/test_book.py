"""When gaps are put on record: after the first request, before the files."""

import threading

import pytest

from flash_pipeline.errors import WarehouseLocked
from flash_pipeline.ingest import ledger as ledgers
from flash_pipeline.ingest.book import GapBook
from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.ingest.ledger import Ledger
from flash_pipeline.storage.klines import KlineStore

NOW = "2024-06-02T05:30Z"
GAP = Gap(3_600_000, 7_200_000, GapCause.EXCHANGE_GAP, 1, 1)


@pytest.fixture
def source(market, series):
    return market(BTCUSDT=series("2024-06-01", 48, absent=(7, 8)))


def test_a_kill_between_the_files_and_the_end_loses_no_gap(
    refresh, source, store, ledger, monkeypatch
):
    write_month = KlineStore.write_month

    def killed(self, *arguments, **options):
        write_month(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KlineStore, "write_month", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(source, NOW, "2024-06", ledger=ledger)
    assert store.months("BTCUSDT")
    (gap,) = ledger.open_gaps()["BTCUSDT"]
    assert gap.candles(ledger.interval) == 2


def test_the_warehouse_is_not_opened_before_the_first_request(refresh, source, ledger, monkeypatch):
    refresh(source, NOW, "2024-06", ledger=ledger)
    opened_after = []
    open_warehouse = ledgers.open_warehouse

    def noted(*arguments, **options):
        opened_after.append(len(source.asked))
        return open_warehouse(*arguments, **options)

    monkeypatch.setattr(ledgers, "open_warehouse", noted)
    refresh(source, NOW, "2024-06", ledger=ledger)
    assert opened_after
    assert min(opened_after) >= 1


def test_a_warehouse_that_another_holds_keeps_no_whole_candles_away(
    refresh, market, series, store, ledger, monkeypatch
):
    source = market(BTCUSDT=series("2024-06-01", 48))
    ledger.replace_open_gaps({"ETHUSDT": [GAP]})

    def locked(*_arguments, **_options):
        raise WarehouseLocked("held")

    monkeypatch.setattr(ledgers, "open_warehouse", locked)
    with pytest.raises(WarehouseLocked):
        refresh(source, NOW, "2024-06", ledger=ledger)
    assert store.read_all("BTCUSDT").num_rows == 29


def test_reading_asks_for_no_right_to_write(ledger, monkeypatch):
    ledger.replace_open_gaps({"BTCUSDT": [GAP]})
    asked = []
    open_warehouse = ledgers.open_warehouse

    def noted(*arguments, **options):
        asked.append(options["read_only"])
        return open_warehouse(*arguments, **options)

    monkeypatch.setattr(ledgers, "open_warehouse", noted)
    assert ledger.open_gaps() == {"BTCUSDT": [GAP]}
    assert asked == [True]


def test_many_symbols_at_once_share_a_few_transactions(ledger, monkeypatch):
    written = []
    replace = Ledger.replace_open_gaps

    def noted(self, gaps):
        written.append(len(gaps))
        replace(self, gaps)

    monkeypatch.setattr(Ledger, "replace_open_gaps", noted)
    book = GapBook(ledger)
    start = threading.Barrier(8)

    def record(symbol):
        start.wait()
        book.record(symbol, [GAP])
        book.record(symbol, [GAP])

    threads = [threading.Thread(target=record, args=(f"S{n}USDT",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.open_gaps()) == 8
    assert len(written) < 16


def test_gaps_that_are_on_record_as_they_are_are_not_written_again(ledger, monkeypatch):
    GapBook(ledger).record("BTCUSDT", [GAP])
    monkeypatch.setattr(Ledger, "replace_open_gaps", None)
    GapBook(ledger).record("BTCUSDT", [GAP])
