"""Every attention backend at every length, and whether `auto` picks the fastest.

With `--write-speeds` the times become the table that `auto` goes by. The backends that can win are
measured first, at the lengths that trainings have before the longest; the others follow in what
time is left, each up to the length at which it is far behind.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from benchmarks.gpu.bench import LATE, LEFT_OUT, REFUSED, Bench, Measured, Row
from benchmarks.gpu.flops import ATTENTION_FORMULA, attention_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import NOTHING, Table, distinct, find, not_run, number, time_cell
from benchmarks.gpu.works import STANDARD, Attention, throughput
from flash_pipeline.model.attention import choose_backend
from flash_pipeline.model.config import SpanName
from flash_pipeline.model.refusals import BACKENDS, AttentionCall, refusal
from flash_pipeline.model.speeds import shipped_speeds

WINDOW = 342
"""Bars that a layer sees under `sliding`: six layers then reach 2,047 bars."""

TOLERANCE = 1.03
"""`auto` should take at most this many times the fastest backend's time."""

FAST = ("flash_attn_4", "sdpa_cudnn", "flash_attn", "sdpa_flash", "flex")
"""Backends that may be the fastest, the likely one first: losers are timed once."""

SLOW = ("sdpa", "sdpa_efficient", STANDARD, "reference", "tiled")
"""The others; `sdpa` runs one of the fast ones, or takes a mask."""

_SPANS: tuple[SpanName, ...] = ("causal", "sliding", "full")
_WORTH: tuple[SpanName, ...] = ("sliding", "full", "causal")
_BEHIND = 4.0  # times the fastest, from which a backend is not measured at the next length


def rivals(bench: Bench, shape: Attention, backends: Sequence[str]) -> list[Row]:
    """Return the rows of some backends on one shape, each measured once in a run of the suite."""
    rows: list[Row] = []
    for backend in backends:
        best = fastest(rows)
        rows.append(_row(bench, shape, backend, best["ms"] if best else None))
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
    best: dict[Attention, float] = {}
    for shape in _shapes(bench):
        rows = rivals(bench, shape, FAST)
        yield from rows
        winner = fastest(rows)
        if winner is not None:
            best[shape] = winner["ms"]
    behind: dict[tuple[object, ...], str] = {}
    for shape in _shapes(bench):
        for backend in SLOW:
            series = (shape.span, shape.n_heads, backend)
            row = _row(bench, shape, backend, best.get(shape), behind.get(series))
            yield row
            if row["ms"] and shape in best and row["ms"] > _BEHIND * best[shape]:
                times = f"{row['ms'] / best[shape]:.0f} x slower at {shape.length:,} bars"
                behind.setdefault(series, f"{LEFT_OUT}: {times}")


def _shapes(bench: Bench) -> list[Attention]:
    """Return the shapes in the order of their worth: short ones, and wide heads first."""
    shapes = []
    for length in _lengths(bench):
        batch = max(1, _tokens(bench) // length)
        for span in _WORTH:
            window = min(WINDOW, length // 2) if span == "sliding" else None
            shapes += [
                Attention(batch, length, n_heads, head_size, span, window)
                for n_heads, head_size in reversed(_heads(bench))
            ]
    return shapes


def _row(
    bench: Bench, shape: Attention, backend: str, best: float | None, behind: str | None = None
) -> Row:
    """Return the row of a backend; `behind` says why it is not measured any more."""
    head = {
        "heads": shape.n_heads,
        "head_size": shape.head_size,
        "span": shape.span,
        "window": shape.window,
        "length": shape.length,
        "batch": shape.batch,
        "backend": backend,
    }
    call = AttentionCall(
        bench.device,
        bench.dtype,
        shape.head_size,
        shape.length,
        causal=shape.span != "full",
        window=shape.window,
    )

    def measure() -> Row:
        why = _unwanted(bench, shape, call, backend) or behind
        if why is not None:
            return Measured(note=why).row() | {"tokens_per_s": None, "tflops": None}
        key = ("rival", shape, backend)
        return bench.once(key, lambda: _measure(bench, shape, backend, best))

    # A stored row too is told what `auto` chooses by the table at hand.
    return bench.row(head, measure) | {"auto": backend == choose_backend(call).name}


def _measure(bench: Bench, shape: Attention, backend: str, best: float | None) -> Row:
    measured = bench.attempt(
        lambda: bench.captured(shape.work(bench, backend, "both")), rival_ms=best
    )
    counted = attention_flops(
        shape.batch, shape.length, shape.n_heads, shape.head_size, shape.span, shape.window
    )
    return measured.row() | throughput(measured, shape.batch * shape.length, counted)


def _unwanted(bench: Bench, shape: Attention, call: AttentionCall, backend: str) -> str | None:
    """Return why a backend is not measured on a shape at all; None where it is."""
    for name in BACKENDS:
        if name == backend:
            reason = refusal(name, call)
            if reason is not None:
                return f"{REFUSED}: {reason}"
    if backend == "flex" and shape.span != "sliding" and bench.scale == "full":
        return f"{LEFT_OUT}: compiled for each shape, so measured with a window only"
    return None


def _tables(rows: Sequence[Row]) -> list[Table]:
    found = {span: [row for row in rows if row["span"] == span] for span in _SPANS}
    return [_table(those, span) for span, those in found.items() if those]


def _table(rows: Sequence[Row], span: str) -> Table:
    """Lay a span out: columns of the backends that ran, rows of the shapes that they ran on."""
    ran = {row["backend"] for row in rows if row["ms"]}
    names = [name for name in (*FAST, *SLOW) if name in ran]
    cells, late = [], []
    for size, length in sorted(cast(Any, distinct(rows, "head_size", "length"))):
        found = [row for row in rows if row["head_size"] == size and row["length"] == length]
        shape = f"{found[0]['heads']} x {size}, {found[0]['batch']} x {length:,}"
        best = fastest(found)
        if best is None:
            late += [shape] if find(found, note=LATE) else []
            continue
        times = [time_cell(find(found, backend=name)) for name in names]
        rate = f"{best['backend']}, {number(best['tflops'])} TFLOP/s"
        cells.append([shape, *times, rate, _auto(found, best)])
    window = max((row["window"] or 0 for row in rows), default=0)
    seen = f" ({window} bars)" if window else ""
    header = ["heads, batch x length", *names, "fastest", "`auto`"]
    return Table(f"Forward and backward, ms: {span}{seen}", header, cells, not_run(late))


def _auto(rows: Sequence[Row], best: Row | None) -> str:
    """Say what `auto` picks here and what that costs beyond the fastest."""
    chosen = find(rows, auto=True)
    if chosen is None or best is None or not chosen["ms"]:
        return NOTHING
    ratio = chosen["ms"] / best["ms"]
    verdict = "within 3 %" if ratio <= TOLERANCE else f"{100 * (ratio - 1):.0f} % slower"
    return f"{chosen['backend']}: {verdict}"


def _configuration(bench: Bench) -> dict[str, Any]:
    table = shipped_speeds()
    return {
        "attention": f"{bench.dtype}, no mask, no dropout, forward and backward, operands included "
        "in the memory; replayed as a CUDA graph, as in a captured step: the time of the device, "
        "without Python's",
        "batch": f"batch x length = {_tokens(bench):,} tokens, at least one row",
        "sliding": f"each bar sees {WINDOW} bars, itself included (half the length where shorter)",
        "auto": "the backend that `choose_backend` names, by its time in the same run; it goes by "
        f"the table at hand, of {table.hardware}, {len(table.rows)} shapes",
    }


PART = Part("kernels", "Attention backends", _configuration, ATTENTION_FORMULA, 100, _rows, _tables)
