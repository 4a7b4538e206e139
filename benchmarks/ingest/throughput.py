"""Candles stored in a second, client and server each in a process of its own."""

import statistics
import time
from pathlib import Path

import requests
from common import SYMBOLS, Home, Result, cpu_seconds, exchange_process, print_table, recording

from flash_pipeline.bybit import BybitClient
from flash_pipeline.market import Month

RUNS = 5
LATENCY_MS = 50
_NOW = "2024-06-30T23:30:00Z"
_RECORDED_FROM, _LAST = Month(2021, 11), Month(2024, 6)


def measure(root: Path, runs: int = RUNS) -> Result:
    """Time backfills of a recording and of a simulation, and one with a latency."""
    replay = ("--replay", str(recording()), "--now", _NOW)
    result = {
        **_rate(root / "replay", "recorded", runs, *replay),
        **_rate(root / "simulated", "simulated", runs, "--now", _NOW),
        **_latency(root / "late", *replay),
    }
    print_table(f"Throughput, {len(SYMBOLS)} symbols, {_RECORDED_FROM} to {_LAST}", result.items())
    return result


def _rate(root: Path, name: str, runs: int, *options: str) -> Result:
    """Time backfills into new homes after one that warms the server and is not counted."""
    seconds, server, candles = [], 0.0, 0
    client_before = 0.0
    with exchange_process(*options) as (url, process):
        for n in range(runs + 1):
            if n == 1:
                server, client_before = cpu_seconds(process.pid), time.process_time()
            took, candles = _backfill(root / str(n), url)
            seconds.append(took)
        server = cpu_seconds(process.pid) - server
        client = time.process_time() - client_before
    median = statistics.median(seconds[1:])
    thousands = candles * runs / 1000
    return {
        f"{name}: candles stored": candles,
        f"{name}: seconds, median of {runs}": round(median, 3),
        f"{name}: candles per second": round(candles / median),
        f"{name}: first run, candles per second": round(candles / seconds[0]),
        f"{name}: server ms per 1000 candles": round(server / thousands * 1000, 2),
        f"{name}: client ms per 1000 candles": round(client / thousands * 1000, 2),
    }


def _latency(root: Path, *options: str) -> Result:
    """Count the windows in flight where every answer is late."""
    late = f"rate=1,burst=1000000,kinds=latency,latency_ms={LATENCY_MS}"
    with exchange_process(*options, "--faults", late) as (url, _):
        took, candles = _backfill(root, url)
        report = requests.get(f"{url}/faults", timeout=10).json()
    return {
        f"{LATENCY_MS} ms latency: most windows in flight": report["most_in_flight"],
        f"{LATENCY_MS} ms latency: candles per second": round(candles / took),
    }


def _backfill(folder: Path, url: str) -> tuple[float, int]:
    """Return the seconds and the candles of one backfill into a new home."""
    with BybitClient(url) as client:
        started = time.perf_counter()
        done = Home(folder).refresh(client, SYMBOLS, _RECORDED_FROM, _LAST)
        return time.perf_counter() - started, done.rows
