"""Every attention backend at every length, and whether `auto` picks the fastest.

With `--write-speeds` the times become the table that `auto` goes by.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import NOT_RUN, REFUSED, Bench, Row
from benchmarks.gpu.flops import ATTENTION_FORMULA, attention_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import NOTHING, Table, distinct, find, number, time_cell
from benchmarks.gpu.works import STANDARD, Attention, throughput
from flash_pipeline.model.attention import choose_backend
from flash_pipeline.model.config import SpanName
from flash_pipeline.model.refusals import BACKENDS, AttentionCall, refusal

WINDOW = 342
"""Bars that a layer sees under `sliding`: six layers then reach 2,047 bars."""

TOLERANCE = 1.03
"""`auto` should take at most this many times the fastest backend's time."""

ORDER = (
    "flash_attn_4",
    "sdpa_cudnn",
    "flash_attn",
    "sdpa_flash",
    "flex",
    "sdpa",
    "sdpa_efficient",
    "tiled",
    "reference",
    STANDARD,
)
"""Backends as they are measured, the likely fastest first: losers are timed once."""

_SPANS: tuple[tuple[SpanName, int | None], ...] = (
    ("causal", None),
    ("sliding", WINDOW),
    ("full", None),
)
_LONGEST = {"tiled": 2_048, "reference": 2_048, STANDARD: 8_192, "sdpa_efficient": 32_768}
"""Beyond these they are far behind, and their time is better spent on the others."""


def speeds(rows: Sequence[Row], hardware: str, versions: dict[str, str]) -> dict[str, Any]:
    """Return the table that `flash_pipeline.model.speeds` reads: forward and backward, bf16."""
    table = []
    for heads, span, length, batch in distinct(rows, "head_size", "span", "length", "batch"):
        wanted = {"head_size": heads, "span": span, "length": length}
        timed = {
            row["backend"]: row["ms"]
            for row in rows
            if all(row[name] == value for name, value in wanted.items())
            and row["ms"]
            and row["backend"] in BACKENDS
        }
        if timed:
            tokens = int(str(length)) * int(str(batch))
            table.append({**wanted, "tokens": tokens, "ms": timed})
    return {"hardware": hardware, "versions": versions, "rows": table}


def rivals(bench: Bench, shape: Attention) -> list[Row]:
    """Return the rows of all backends on one shape, measured once in a run of the suite."""
    rows: list[Row] = bench.once(("rivals", shape), lambda: list(_rivals(bench, shape)))
    return rows


def fastest(rows: Sequence[Row]) -> Row | None:
    """Return the row of the backend with the shortest time; None where nothing ran."""
    timed = [row for row in rows if row["ms"] and row["backend"] in BACKENDS]
    return min(timed, key=lambda row: row["ms"], default=None)


def _lengths(bench: Bench) -> tuple[int, ...]:
    return bench.pick((512, 2_048, 8_192, 32_768, 204_800), (512, 2_048), (64,))


def _heads(bench: Bench) -> tuple[tuple[int, int], ...]:
    return bench.pick(((8, 32), (4, 64), (2, 128)), ((4, 32), (2, 64)), ((2, 16),))


def _tokens(bench: Bench) -> int:
    return bench.pick(65_536, 2_048, 128)


def _rows(bench: Bench) -> Iterator[Row]:
    for span, window in _SPANS:
        for n_heads, head_size in _heads(bench):
            for length in _lengths(bench):
                batch = max(1, _tokens(bench) // length)
                seen = None if window is None else min(window, length // 2)
                shape = Attention(batch, length, n_heads, head_size, span, seen)
                yield from rivals(bench, shape)


def _rivals(bench: Bench, shape: Attention) -> Iterator[Row]:
    """Measure the backends against one another on one shape."""
    call = AttentionCall(
        bench.device,
        bench.dtype,
        shape.head_size,
        shape.length,
        causal=shape.span != "full",
        window=shape.window,
    )
    chosen = choose_backend(call).name
    best: float | None = None
    for backend in ORDER:
        row = _row(bench, shape, call, backend, best)
        best = min(filter(None, (best, row["ms"])), default=None)
        yield row | {"auto": backend == chosen}


def _row(
    bench: Bench, shape: Attention, call: AttentionCall, backend: str, best: float | None
) -> Row:
    head = {
        "heads": shape.n_heads,
        "head_size": shape.head_size,
        "span": shape.span,
        "window": shape.window,
        "length": shape.length,
        "batch": shape.batch,
        "backend": backend,
    }
    why = _unwanted(bench, shape, call, backend)
    if why is not None:
        empty = {"ms": None, "peak_gib": None, "runs": 0, "note": why}
        return head | empty | {"tokens_per_s": None, "tflops": None}
    measured = bench.attempt(
        lambda: bench.captured(shape.work(bench, backend, "both")), rival_ms=best
    )
    counted = attention_flops(
        shape.batch, shape.length, shape.n_heads, shape.head_size, shape.span, shape.window
    )
    return head | measured.row() | throughput(measured, shape.batch * shape.length, counted)


def _unwanted(bench: Bench, shape: Attention, call: AttentionCall, backend: str) -> str | None:
    """Return why a backend is not measured on a shape; None where it is."""
    for name in BACKENDS:
        if name == backend:
            reason = refusal(name, call)
            if reason is not None:
                return f"{REFUSED}: {reason}"
    if shape.length > _LONGEST.get(backend, shape.length):
        return f"{NOT_RUN}: too slow at this length"
    if backend == "flex" and shape.span != "sliding" and bench.scale == "full":
        return f"{NOT_RUN}: compiled for each shape, so measured with a window only"
    return None


def _tables(rows: Sequence[Row]) -> list[Table]:
    names = [name for name in ORDER if any(row["ms"] for row in rows if row["backend"] == name)]
    return [
        _table([row for row in rows if row["span"] == span], names, str(span))
        for (span,) in distinct(rows, "span")
    ]


def _table(rows: Sequence[Row], names: Sequence[str], span: str) -> Table:
    header = ["heads, batch x length", *names, "fastest", "`auto`"]
    cells = []
    for case in distinct(rows, "heads", "head_size", "batch", "length"):
        heads, size, batch, length = case
        shape = dict(zip(("heads", "head_size", "batch", "length"), case, strict=True))
        found = [row for row in rows if all(row[key] == value for key, value in shape.items())]
        times = [time_cell(find(found, backend=name)) for name in names]
        best = fastest(found)
        rate = f"{best['backend']}, {number(best['tflops'])} TFLOP/s" if best else NOTHING
        cells.append([f"{heads} x {size}, {batch} x {length:,}", *times, rate, _auto(found, best)])
    seen = "" if span != "sliding" else f" ({rows[-1]['window']} bars)" if rows else ""
    return Table(f"Forward and backward, ms: {span}{seen}", header, cells)


def _auto(rows: Sequence[Row], best: Row | None) -> str:
    """Say what `auto` picks here and what that costs beyond the fastest."""
    chosen = find(rows, auto=True)
    if chosen is None or best is None or not chosen["ms"]:
        return NOTHING
    ratio = chosen["ms"] / best["ms"]
    verdict = "within 3 %" if ratio <= TOLERANCE else f"{100 * (ratio - 1):.0f} % slower"
    return f"{chosen['backend']}: {verdict}"


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "attention": f"{bench.dtype}, no mask, no dropout, forward and backward, operands included "
        "in the memory; replayed as a CUDA graph, as in a captured step: the time of the device, "
        "without Python's",
        "batch": f"batch x length = {_tokens(bench):,} tokens, at least one row",
        "sliding": f"each bar sees {WINDOW} bars, itself included (half the length where shorter)",
        "auto": "the backend that `choose_backend` names, by its time in the same run",
    }


PART = Part("kernels", "Attention backends", _configuration, ATTENTION_FORMULA, 120, _rows, _tables)
