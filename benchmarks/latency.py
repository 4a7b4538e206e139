"""Times single calls of the low-latency model: `python -m benchmarks.latency`.

One window of 512 bars in, a forecast for every symbol out, 10,000 times. On a GPU a call is the
copy of the window from pinned memory, the model, and the copy of the forecast back, waited for. On
a CPU with the two threads that the goal is stated for, and with one: threads that meet at the end
of every product wait for whatever else runs on the machine, so the shortest call is printed too.
Where the time is limited, every variant has an equal share of what is left when its turn comes: one
that compiles for long, or is slow, takes no other's calls.
"""

import argparse
import functools
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.bench import LATE, LEFT_OUT, REFUSED, Bench, Row, explain
from benchmarks.gpu.part import Part
from benchmarks.gpu.suite import run_parts
from benchmarks.gpu.tables import Table, note_cell, number
from benchmarks.gpu.works import SEED, described
from flash_pipeline.model.export import LastBar, export_onnx, export_package, load_onnx
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.recipes import Recipe, low_latency_recipe

GPU_GOAL_MS, CPU_GOAL_MS = 0.3, 8.0

MODEL, LAST = "model.predict", "last bar's query alone"
COMPILED, AHEAD, GRAPH, ONNX = "torch.compile", "AOTInductor", "CUDA graph", "ONNX Runtime"

LEAST_CALLS = 1_000
"""Calls that a variant makes beyond its share of the time, for the sake of a p99.9."""

Call = Callable[[], object]


def main() -> None:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cpu", action="store_true", help="the CPU, on a machine with a GPU")
    parser.add_argument("--minutes", type=float, help="time for all calls together")
    parser.add_argument(
        "--missing", action="store_true", help="only what this day's result lacks, added to it"
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cuda = torch.cuda.is_available() and not options.cpu
    bench = Bench(torch.device("cuda" if cuda else "cpu"), "tiny" if options.tiny else "full")
    run_parts([PART], bench, options.out, options.minutes, missing=options.missing)


def _recipe(bench: Bench) -> Recipe:
    recipe = low_latency_recipe()
    if bench.scale != "tiny":
        return recipe
    return recipe.with_data(lookback=16).with_model(d_model=16, d_ff=16, n_layers=1)


def _calls(bench: Bench) -> int:
    return bench.pick(10_000, 200, 5)


def _rows(bench: Bench) -> Iterator[Row]:
    recipe = _recipe(bench)
    torch.manual_seed(SEED)
    model = FlashAttentionTrader(recipe.model).to(bench.device).eval()
    # What may reach the goal first, what has to be compiled last.
    variants = (GRAPH, LAST, MODEL, AHEAD, COMPILED) if bench.cuda else (
        AHEAD, ONNX, LAST, MODEL, COMPILED)  # fmt: skip
    cases = [
        (threads, name) for threads in ((None,) if bench.cuda else (2, 1)) for name in variants
    ]
    for place, (threads, variant) in enumerate(cases):
        head = {"variant": variant, "threads": threads}
        until = _share(bench.deadline, len(cases) - place)
        measure = functools.partial(_measure, bench, model, recipe, variant, threads, until)
        with _threads(threads):
            row = bench.row(head, measure)
        yield _judged(bench, row)


def _share(deadline: float, left: int) -> float:
    """Return when the first of the variants that are left has had its share of the time."""
    now = time.monotonic()
    return now + (deadline - now) / left


def _measure(
    bench: Bench,
    model: FlashAttentionTrader,
    recipe: Recipe,
    variant: str,
    threads: int | None,
    until: float,
) -> Row:
    if bench.late:
        return _nothing(LATE)
    if variant in (AHEAD, COMPILED) and bench.scale == "tiny":
        return _nothing(f"{LEFT_OUT}: compiling takes longer than a test may")
    if variant == ONNX and importlib.util.find_spec("onnxruntime") is None:
        return _nothing(f"{REFUSED}: the extra `latency` is not installed")
    try:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            call = _call(bench, model, recipe.data.lookback, variant, threads or 1, Path(folder))
            seconds = _seconds(call, _calls(bench), bench, until)
    except Exception as error:  # noqa: BLE001  (an exporter may raise anything at all)
        return _nothing(explain(error))
    ms = np.array(seconds) * 1e3
    p50, p99, p999 = np.percentile(ms, [50, 99, 99.9])
    return {
        "ms": float(f"{p50:.4g}"),
        "p99": float(f"{p99:.4g}"),
        "p999": float(f"{p999:.4g}"),
        "least": float(f"{ms.min():.4g}"),
        "runs": len(ms),
        "note": "",
    }


def _nothing(note: str) -> Row:
    return {"ms": None, "p99": None, "p999": None, "least": None, "runs": 0, "note": note}


def _seconds(call: Call, count: int, bench: Bench, until: float) -> list[float]:
    """Return what each call took: fewer than `count` of them where the time does not reach."""
    for _ in range(max(3, count // 100)):
        call()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        enough = len(seconds) >= LEAST_CALLS and time.monotonic() > until
        if enough or bench.late:
            break
    return seconds


def _call(
    bench: Bench,
    model: FlashAttentionTrader,
    n_bars: int,
    variant: str,
    threads: int,
    folder: Path,
) -> Call:
    x_1TI = torch.randn(1, n_bars, model.config.input_dim)
    if variant == ONNX:
        with torch.inference_mode(False):
            export_onnx(model, n_bars, folder / "model.onnx")
        run, array = load_onnx(folder / "model.onnx", threads), x_1TI.numpy()
        return lambda: run(array)
    function = _function(bench, model, n_bars, variant, folder)
    if not bench.cuda:
        return lambda: function(x_1TI)
    pinned_1TI, there_1TI = x_1TI.pin_memory(), x_1TI.to(bench.device)
    if variant == GRAPH:
        return _graph_call(bench, function, pinned_1TI, there_1TI)
    return lambda: function(there_1TI.copy_(pinned_1TI, non_blocking=True)).cpu()


def _graph_call(
    bench: Bench, function: Callable[[Tensor], Tensor], pinned_1TI: Tensor, there_1TI: Tensor
) -> Call:
    """Return the copy there, a replayed graph of the model, and the copy back."""
    kept: list[Tensor] = []

    def once() -> None:
        kept[:] = [function(there_1TI)]

    replay = bench.captured(once)

    def call() -> Tensor:
        there_1TI.copy_(pinned_1TI, non_blocking=True)
        replay()
        return kept[0].cpu()

    return call


def _function(
    bench: Bench, model: FlashAttentionTrader, n_bars: int, variant: str, folder: Path
) -> Callable[[Tensor], Tensor]:
    if variant == AHEAD:
        with torch.inference_mode(False):
            return export_package(model, n_bars, folder / "model.pt2")
    if variant == MODEL:
        return _in_half(bench, model.predict)
    last = LastBar(model, n_bars, "auto" if bench.cuda else "sdpa")
    if variant == LAST:
        return _in_half(bench, last)
    return _in_half(bench, torch.compile(last, dynamic=False))


def _in_half(bench: Bench, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function under bf16 autocast on a GPU, with no cache that a graph would outlive."""
    if not bench.cuda:
        return function

    def run(x_1TI: Tensor) -> Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            return function(x_1TI)

    return run


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _judged(bench: Bench, row: Row) -> Row:
    goal = GPU_GOAL_MS if bench.cuda else CPU_GOAL_MS
    if bench.scale != "full" or row["threads"] == 1:
        return row | {"goal": None, "met": None}
    return row | {"goal": f"{goal:g} ms", "met": None if row["ms"] is None else row["ms"] <= goal}


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["variant", "threads", "p50, ms", "p99", "p99.9", "shortest", "calls", "goal", "met"]
    cells = [
        [
            row["variant"],
            str(row["threads"] or ""),
            *(
                [number(row[name]) for name in ("ms", "p99", "p999", "least")]
                if row["ms"]
                else [note_cell(row["note"]), "", "", ""]
            ),
            f"{row['runs']:,}" if row["runs"] else "",
            row["goal"] or "",
            {True: "yes", False: "no", None: ""}[row["met"]],
        ]
        for row in rows
    ]
    return [Table("One prediction", header, cells)]


def _configuration(bench: Bench) -> dict[str, Any]:
    recipe = _recipe(bench)
    return {
        "model": described(recipe.model),
        "call": f"a window of {recipe.data.lookback} bars to forecasts of all symbols; on a GPU "
        "copied there and back; bf16 on a GPU, but for AOTInductor, float32 elsewhere",
        LAST: "of the last layer, and the MLP behind it for that bar alone: the same prediction; "
        f"so do {COMPILED}, {AHEAD}, {GRAPH} and {ONNX}",
    }


PART = Part("latency", "Latency of one prediction", _configuration, "", 60, _rows, _tables)


if __name__ == "__main__":
    main()
