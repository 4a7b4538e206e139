"""The memory and speed tables of the chapter that the model grew from, measured.

The chapter prints the memory of one float32 score matrix, and times on an A100 without a batch
size; so compare the ratios. Here: heads and head size of its model, bf16, full attention; memory is
what a call adds to its operands, for one window, and times are of 65,536 tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.flops import ATTENTION_FORMULA, attention_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import NOTHING, Table, distinct, find, note_cell, number, time_cell
from benchmarks.gpu.works import STANDARD, Attention, Phase, throughput

PRINTED_MB: dict[int, tuple[float, float]] = {
    512: (1.0, 0.1),
    2048: (16, 0.4),
    8192: (256, 1.6),
    32768: (4096, 6.4),
}
"""The chapter's memory by length: standard attention and FlashAttention, MB."""

PRINTED_MS: dict[tuple[str, int], tuple[float, float, float]] = {
    ("forward", 2048): (100, 45, 25),
    ("forward", 8192): (1600, 180, 95),
    ("backward", 2048): (300, 135, 70),
    ("backward", 8192): (4800, 540, 280),
}
"""The chapter's times by phase and length: standard, FlashAttention, FlashAttention-2, ms."""

BACKENDS = (STANDARD, "sdpa_flash", "flash_attn", "sdpa_cudnn", "flash_attn_4")
"""What is measured; `sdpa_flash` is the FlashAttention-2 that PyTorch ships."""

CPU_BACKENDS = (STANDARD, "sdpa", "tiled")
"""What is measured without a GPU."""

_MEMORY_PHASES: tuple[Phase, ...] = ("forward", "both")
_SPEED_PHASES: tuple[Phase, ...] = ("forward", "backward")
_MIB = 2**10  # of a GiB


def _heads(bench: Bench) -> tuple[int, int]:
    return bench.pick((8, 32), (4, 32), (2, 8))


def _backends(bench: Bench) -> tuple[str, ...]:
    return BACKENDS if bench.cuda else CPU_BACKENDS


def _tokens(bench: Bench) -> int:
    return bench.pick(65_536, 2_048, 64)


def _lengths(bench: Bench) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the lengths of the memory table and those of the speed table."""
    memory: tuple[int, ...] = bench.pick(tuple(PRINTED_MB), (), (32, 64))
    return memory, bench.pick((2048, 8192), (512, 2048), (32,))


def _rows(bench: Bench) -> Iterator[Row]:
    n_heads, head_size = _heads(bench)
    memory, speed = _lengths(bench)
    for length in memory:
        for backend in _backends(bench):
            shape = Attention(1, length, n_heads, head_size)
            for phase in _MEMORY_PHASES:
                yield _row(bench, "memory", shape, backend, phase)
    for length in speed:
        for backend in _backends(bench):
            shape = Attention(max(1, _tokens(bench) // length), length, n_heads, head_size)
            for phase in _SPEED_PHASES:
                yield _row(bench, "speed", shape, backend, phase)


def _row(bench: Bench, table: str, shape: Attention, backend: str, phase: Phase) -> Row:
    head = {
        "table": table,
        "phase": phase,
        "length": shape.length,
        "batch": shape.batch,
        "backend": backend,
    }
    return bench.row(head, lambda: _measure(bench, shape, backend, phase))


def _measure(bench: Bench, shape: Attention, backend: str, phase: Phase) -> Row:
    measured = bench.attempt(lambda: shape.work(bench, backend, phase), setup_counts=False)
    counted = attention_flops(
        shape.batch,
        shape.length,
        shape.n_heads,
        shape.head_size,
        shape.span,
        forward=phase != "backward",
        backward=phase != "forward",
    )
    return measured.row() | throughput(measured, shape.batch * shape.length, counted)


def _tables(rows: Sequence[Row]) -> list[Table]:
    layouts = {"memory": _memory_table, "speed": _speed_table}
    chosen = {name: [row for row in rows if row["table"] == name] for name in layouts}
    return [layouts[name](found) for name, found in chosen.items() if found]


def _memory_table(rows: Sequence[Row]) -> Table:
    header = ["length", "chapter: standard / flash, MB"]
    names = [str(name) for (name,) in distinct(rows, "backend")]
    header += [f"{backend}, MiB" for backend in names]
    cells = []
    for (length,) in distinct(rows, "length"):
        assert isinstance(length, int)
        printed = PRINTED_MB.get(length)
        line = [f"{length:,}", f"{printed[0]:,g} / {printed[1]:g}" if printed else NOTHING]
        for backend in names:
            found = [row for row in rows if row["length"] == length and row["backend"] == backend]
            line.append(" / ".join(dict.fromkeys(_mib(row) for row in found)))
        cells.append(line)
    return Table("Memory beyond the operands: forward / forward and backward", header, cells)


def _mib(row: Row | None) -> str:
    if row is None or row["peak_gib"] is None:
        return note_cell(row["note"] if row else "")
    return number(row["peak_gib"] * _MIB)


def _speed_table(rows: Sequence[Row]) -> Table:
    header = ["call", "chapter: standard / flash / flash-2, ms"]
    names = [str(name) for (name,) in distinct(rows, "backend")]
    header += [f"{backend}, ms" for backend in names]
    cells = []
    for length, phase, batch in distinct(rows, "length", "phase", "batch"):
        printed = PRINTED_MS.get((str(phase), int(str(length))))
        base = find(rows, length=length, phase=phase, backend=STANDARD)
        line = [f"{phase}, {batch} x {length:,}", _printed(printed)]
        for backend in names:
            row = find(rows, length=length, phase=phase, backend=backend)
            line.append(time_cell(row) + _ratio(row, base))
        cells.append(line)
    return Table("Time; in brackets how many times faster than standard", header, cells)


def _printed(printed: tuple[float, ...] | None) -> str:
    if printed is None:
        return NOTHING
    times = " / ".join(f"{ms:,g}" for ms in printed)
    return f"{times} ({printed[0] / printed[1]:.1f}x, {printed[0] / printed[2]:.1f}x)"


def _ratio(row: Row | None, base: Row | None) -> str:
    if row is None or base is None or row is base or not (row["ms"] and base["ms"]):
        return ""
    return f" ({base['ms'] / row['ms']:.1f}x)"


def _configuration(bench: Bench) -> dict[str, Any]:
    n_heads, head_size = _heads(bench)
    return {
        "attention": f"{n_heads} heads x {head_size}, {bench.dtype}, full, no dropout",
        "memory": "batch of 1; peak beyond q, k, v and the output's gradient; a GPU's alone",
        "speed": f"batch x length = {_tokens(bench):,} tokens; the backward pass alone is timed "
        "again and again on one graph",
    }


PART = Part(
    "chapter",
    "The chapter's memory and speed tables",
    _configuration,
    ATTENTION_FORMULA,
    20,
    _rows,
    _tables,
)
