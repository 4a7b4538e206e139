"""Times the steps of the chain on this machine: `make bench`.

A year of hourly candles of five symbols from the embedded exchange (simulated, clock frozen), in a
temporary home. Prints hardware, versions and the median of several runs of each step; figures of a
shared machine are noisy, so compare them within one run.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from flash_pipeline.bybit import BybitClient
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.features import FEATURE_NAMES, read_features, refresh_features
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.market import Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.recipes import DEFAULT_SYMBOLS, demo_recipe
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import (
    WindowFrame,
    chronological_split,
    panel_from_features,
    write_windows,
)
from flash_pipeline.windows.dataset import WindowBatches

FIRST, LAST = Month(2023, 7), Month(2024, 6)
NOW = parse_instant("2024-06-30T23:30:00Z")
HOUR_MS = 3_600_000


def main() -> None:
    """Run the steps and print their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each step")
    runs = parser.parse_args().runs
    packages = ("torch", "duckdb", "pyarrow", "numpy", "dagster")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    with tempfile.TemporaryDirectory() as folder:
        store = backfill(Path(folder), runs)
        frame = features_and_windows(Path(folder), store, runs)
        batches(frame, runs)
        recipe = demo_recipe()
        split = chronological_split(frame, recipe.split)
        report("train the demo recipe", 1, lambda: train(frame, split, recipe))


def backfill(home: Path, runs: int) -> KlineStore:
    """Time a year's backfill and an hour's append, over HTTP on loopback."""

    def fetch(place: Path, now: int) -> None:
        with embedded_exchange(clock=Clock(now, speed=0)) as url, BybitClient(url) as client:
            store = KlineStore(place, Interval.HOUR_1)
            refresh_klines(client, store, DEFAULT_SYMBOLS, FIRST, LAST)

    places = iter(home / f"klines{i}" for i in range(runs))
    report("backfill 43,915 candles", runs, lambda: fetch(next(places), NOW))
    later = iter(NOW + (i + 1) * HOUR_MS for i in range(runs))
    place = home / "klines0"
    report("append an hour of candles", runs, lambda: fetch(place, next(later)))
    return KlineStore(place, Interval.HOUR_1)


def features_and_windows(home: Path, store: KlineStore, runs: int) -> WindowFrame:
    """Time the features of a year, a refresh that changes nothing, and the windows."""

    def compute(path: Path) -> None:
        with open_warehouse(path) as connection:
            refresh_features(connection, store, DEFAULT_SYMBOLS, FIRST, LAST)

    paths = iter(home / f"warehouse{i}.duckdb" for i in range(runs))
    report("features of a year", runs, lambda: compute(next(paths)))
    warehouse = home / "warehouse0.duckdb"
    report("features, nothing changed", runs, lambda: compute(warehouse))
    with open_warehouse(warehouse) as connection:
        table = read_features(connection, DEFAULT_SYMBOLS, 0)

    def cut() -> WindowFrame:
        panel = panel_from_features(table, DEFAULT_SYMBOLS, FEATURE_NAMES, Interval.HOUR_1)
        return write_windows(
            panel, home / "windows", lookback=128, horizon=24, stride=128, synthetic=True
        )

    report("panel and window blocks", runs, cut)
    return cut()


def batches(frame: WindowFrame, runs: int) -> None:
    """Time the cutting of every window into batches of 256."""
    cutter = WindowBatches(
        frame, np.nan_to_num(frame.x_BKSF), np.array(frame.y_BKS), torch.device("cpu")
    )
    parts = torch.split(torch.arange(len(frame.anchor_N)), 256)

    def cut() -> None:
        for part in parts:
            cutter.batch(part)

    median = report(f"cut {len(frame.anchor_N):,} windows of 128 bars", runs, cut)
    print(f"{'':34} {len(frame.anchor_N) / median:10,.0f} windows/s")


def report(name: str, runs: int, step: Callable[[], object]) -> float:
    """Run a step several times, print and return the median seconds."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"{name:34} {median * 1e3:10,.1f} ms   (median of {runs})")
    return median


if __name__ == "__main__":
    main()
