"""Backfills that are killed at any moment, and run again."""

import random
import subprocess
import sys
import time
from contextlib import contextmanager
from hashlib import sha256

import pytest

from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import parse_instant

NOW = parse_instant("2024-06-30T23:30:00Z")
KILLS = 10
BACKFILL = """
import sys
from pathlib import Path

from flash_pipeline.bybit import BybitClient
from flash_pipeline.ingest import Ledger, refresh_klines
from flash_pipeline.market import Interval, Month
from flash_pipeline.storage.klines import KlineStore

url, home = sys.argv[1], Path(sys.argv[2])
store = KlineStore(home / "klines", Interval.HOUR_1)
ledger = Ledger(home / "warehouse.duckdb", "bybit", Interval.HOUR_1)
symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
print("ready", flush=True)
with BybitClient(url) as client:
    refresh_klines(client, store, symbols, Month(2023, 7), Month(2024, 6), ledger=ledger)
"""


@contextmanager
def _started(url, home):
    command = [sys.executable, "-c", BACKFILL, url, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


def _finish(url, home):
    """Run a backfill to its end, and return its seconds and the digests of its files."""
    with _started(url, home) as process:
        started = time.perf_counter()
        assert process.wait(timeout=60) == 0
        took = time.perf_counter() - started
    return took, {
        str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest() for path in _files(home)
    }


def _files(home):
    return sorted(home.glob("klines/symbol=*/month=*.parquet"))


@pytest.mark.slow
def test_a_backfill_killed_at_any_moment_is_finished_by_the_next(tmp_path):
    draws = random.Random(20241122)
    market = SimulatedMarket(seed=7)
    with embedded_exchange(market=market, clock=Clock(NOW, speed=0)) as url:
        _finish(url, tmp_path / "warm")
        seconds, whole = _finish(url, tmp_path / "whole")
        assert len(whole) == 60
        midway = 0
        for n in range(KILLS):
            home = tmp_path / str(n)
            with _started(url, home) as process:
                if n % 2:  # while files are written
                    wanted = draws.randrange(1, len(whole))
                    while process.poll() is None and len(_files(home)) < wanted:
                        time.sleep(0.0005)
                else:
                    time.sleep(draws.uniform(0.0, seconds))
                process.kill()
            midway += 0 < len(_files(home)) < len(whole)
            assert _finish(url, home)[1] == whole
    assert midway >= 3
