"""Times window tensors: blocks against one row per window: `python -m benchmarks.windows`.

A year of hourly candles of five symbols and five features, windows of 2,048 bars. The naive layout
stores every window as a row of its own; it is written for a slice of the year and its bytes and
seconds are scaled to all windows. Cutting takes random batches out of the resident panel, of 16
windows as a training step does, and of 256; naive, a batch of 16 rows is read from the file. On the
CPU with the two threads that the goal is stated for, and with one for each core.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.gpu.bench import LEAST_RUNS, Bench, Row
from benchmarks.gpu.part import Part
from benchmarks.gpu.suite import run_parts
from benchmarks.gpu.tables import Table, number
from benchmarks.gpu.works import HORIZON, SEED, make_batches, synthetic_panel
from flash_pipeline.training.recipes import full_recipe
from flash_pipeline.training.runtime import fitting_threads, usable_cores
from flash_pipeline.windows import Panel, WindowFrame, read_windows, write_windows
from flash_pipeline.windows.blocks import BLOCKS_FILE, INDEX_FILE

GOAL_BYTES = 2_000_000
GOAL_RATE = 100_000.0
GOAL_THREADS = 2

BLOCKS, NAIVE = "blocks", "one row per window"

_BATCHES = (16, 256)
_DRAWS = 20


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--windows", type=Path, help="stored windows in place of synthetic ones")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, "tiny" if options.tiny else "full", options.windows)
    with fitting_threads(full_recipe().model.d_model):
        run_parts([PART], bench, options.out)


def _rows(bench: Bench) -> Iterator[Row]:
    lookback, bars, sliced = bench.pick((2_048, 8_760, 128), (2_048, 8_760, 128), (16, 100, 8))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if bench.windows is None:
            panel = synthetic_panel(bars)
        else:
            stored = read_windows(bench.windows)
            panel, lookback = _panel(stored), stored.lookback
        frame, row = _write(panel, folder / "blocks", lookback, stride=lookback, windows=None)
        yield row
        windows = len(frame.anchor_N)
        piece = _slice(panel, lookback + max(sliced, HORIZON))
        naive, row = _write(piece, folder / "naive", lookback, stride=1, windows=windows)
        yield row
        yield _read(naive, folder / "naive" / BLOCKS_FILE)
        for count in sorted({GOAL_THREADS, max(GOAL_THREADS, usable_cores())}):
            with _threads(count):
                yield from (_cut(frame, torch.device("cpu"), size) for size in _BATCHES)
        if bench.cuda:
            yield from (_cut(frame, bench.device, size) for size in _BATCHES)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _panel(frame: WindowFrame) -> Panel:
    """Return the panel that a frame was cut from; closes are not stored, so labels differ."""
    x_TSF = np.array(frame.along_time(frame.x_BKSF))
    closes = np.ones(x_TSF.shape[:2])
    return Panel(frame.symbols, frame.features, frame.interval, frame.start_time_T, x_TSF, closes)


def _slice(panel: Panel, bars: int) -> Panel:
    return Panel(
        panel.symbols,
        panel.features,
        panel.interval,
        panel.start_time_T[:bars],
        panel.x_TSF[:bars],
        panel.close_TS[:bars],
    )


def _write(
    panel: Panel, folder: Path, lookback: int, *, stride: int, windows: int | None
) -> tuple[WindowFrame, Row]:
    """Write a layout; scale its bytes and seconds where only a slice of the windows is written."""
    frame, seconds = None, []
    for _ in range(LEAST_RUNS if windows is None else 1):
        start = time.perf_counter()
        frame = write_windows(
            panel, folder, lookback=lookback, horizon=HORIZON, stride=stride, synthetic=True
        )
        seconds.append(time.perf_counter() - start)
    assert frame is not None
    written = len(frame.anchor_N)
    scale = 1.0 if windows is None else windows / written
    stored = sum((folder / name).stat().st_size for name in (BLOCKS_FILE, INDEX_FILE))
    return frame, {
        "work": "write",
        "layout": BLOCKS if windows is None else NAIVE,
        "device": "disk",
        "windows": written if windows is None else windows,
        "measured_windows": written,
        "bytes": round(stored * scale),
        "seconds": float(f"{statistics.median(seconds) * scale:.4g}"),
        "windows_per_s": float(f"{written / statistics.median(seconds):.4g}"),
    }


def _cut(frame: WindowFrame, device: torch.device, size: int) -> Row:
    """Cut batches out of the panel, which lies on the device."""
    batches = make_batches(frame, device)
    parts = [part.to(device) for part in _draws(frame, size)]

    def cut(draw: int) -> None:
        next(batches.batches(parts[draw : draw + 1]))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    place = "cuda" if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return _cutting(BLOCKS, place, cut, len(parts[0]))


def _read(frame: WindowFrame, path: Path) -> Row:
    """Read windows of the naive layout from their file, a row group each."""
    parts = _draws(frame, _BATCHES[0])

    def read(draw: int) -> None:
        table = pq.ParquetFile(path).read_row_groups(parts[draw].tolist(), columns=["x"])
        torch.from_numpy(table["x"].combine_chunks().to_numpy_ndarray().copy())

    return _cutting(NAIVE, "disk", read, len(parts[0]))


def _draws(frame: WindowFrame, size: int) -> list[torch.Tensor]:
    """Return random batches of window positions."""
    generator = torch.Generator().manual_seed(SEED)
    count = len(frame.anchor_N)
    return [torch.randperm(count, generator=generator)[:size] for _ in range(_DRAWS)]


def _cutting(layout: str, device: str, cut: Callable[[int], None], size: int) -> Row:
    for draw in range(LEAST_RUNS):
        cut(draw)
    seconds = []
    for draw in range(_DRAWS):
        start = time.perf_counter()
        cut(draw)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "work": "cut",
        "layout": layout,
        "device": device,
        "windows": size,
        "measured_windows": size * _DRAWS,
        "bytes": None,
        "seconds": float(f"{median:.4g}"),
        "windows_per_s": float(f"{size / median:.4g}"),
    }


def _tables(rows: Sequence[Row]) -> list[Table]:
    written = [row for row in rows if row["work"] == "write"]
    cut = [row for row in rows if row["work"] == "cut"]
    return [
        Table(
            "A year of windows on disk",
            ["layout", "windows", "MB", "write, s", "measured on"],
            [
                [
                    row["layout"],
                    f"{row['windows']:,}",
                    number(row["bytes"] / 1e6),
                    number(row["seconds"]),
                    "all"
                    if row["windows"] == row["measured_windows"]
                    else f"{row['measured_windows']:,} windows, scaled",
                ]
                for row in written
            ],
        ),
        Table(
            "Batches of random windows",
            ["layout", "from", "windows in a batch", "windows/s"],
            [
                [
                    row["layout"],
                    row["device"],
                    str(row["windows"]),
                    number(row["windows_per_s"]),
                ]
                for row in cut
            ],
        ),
    ]


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "windows": str(bench.windows.name if bench.windows else "synthetic, seeded"),
        "batches": f"random windows of the panel, medians of {_DRAWS} batches",
        "goals": f"at most {GOAL_BYTES / 1e6:g} MB a year; at least {GOAL_RATE:,.0f} windows/s "
        f"on {GOAL_THREADS} cores",
        "compression": "zstd in both layouts",
    }


PART = Part("windows", "Window tensors", _configuration, "", 5, _rows, _tables)

if __name__ == "__main__":
    main()
