"""How time and memory grow with length: attention alone, and a whole training step."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import OUT_OF_MEMORY, Bench, Row
from benchmarks.gpu.flops import ATTENTION_FORMULA, STEP_FORMULA, attention_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, distinct, find, memory_cell, time_cell
from benchmarks.gpu.works import (
    STANDARD,
    Attention,
    described,
    recipe_config,
    throughput,
    train_row,
)
from flash_pipeline.model.config import AttentionName

BACKENDS = (STANDARD, "sdpa_flash", "flash_attn", "sdpa_cudnn", "flash_attn_4")
"""Columns; in the model, `standard` is the backend `reference`."""

CPU_BACKENDS = (STANDARD, "sdpa", "tiled")
"""Columns without a GPU."""


def _lengths(bench: Bench) -> tuple[int, ...]:
    full = (2_048, 8_192, 32_768, 65_536, 131_072, 204_800)
    return bench.pick(full, (512, 1_024, 2_048, 4_096), (32, 64))


def _sizes(bench: Bench) -> dict[str, int]:
    full = {"d_model": 128, "n_heads": 2, "n_layers": 4, "d_ff": 512}
    small = {"d_model": 64, "n_heads": 1, "n_layers": 2, "d_ff": 128}
    return bench.pick(full, small, {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16})


def _backends(bench: Bench) -> tuple[str, ...]:
    return BACKENDS if bench.cuda else CPU_BACKENDS


def _rows(bench: Bench) -> Iterator[Row]:
    for work in ("attention", "step"):
        spent: set[str] = set()  # what is out of memory at one length is so at the next
        for length in _lengths(bench):
            best: float | None = None
            for backend in reversed(_backends(bench)):
                if backend in spent:
                    yield _skipped(work, length, backend)
                    continue
                head = {"work": work, "length": length, "backend": backend}
                row = bench.row(
                    head, functools.partial(_measure, bench, work, length, backend, best)
                )
                if row["note"] == OUT_OF_MEMORY:
                    spent.add(backend)
                best = min(filter(None, (best, row["ms"])), default=None)
                yield row


def _measure(bench: Bench, work: str, length: int, backend: str, best: float | None) -> Row:
    if work == "step":
        attention: AttentionName = "reference" if backend == STANDARD else backend  # type: ignore[assignment]
        config = recipe_config(bench, length, attention=attention, **_sizes(bench))
        return train_row(bench, config, 1)
    sizes = _sizes(bench)
    n_heads = sizes["n_heads"]
    head_size = sizes["d_model"] // n_heads
    shape = Attention(1, length, n_heads, head_size, "causal")
    measured = bench.attempt(
        lambda: shape.work(bench, backend, "both"), setup_counts=False, rival_ms=best
    )
    counted = attention_flops(1, length, n_heads, head_size, "causal")
    return measured.row() | throughput(measured, length, counted)


def _skipped(work: str, length: int, backend: str) -> Row:
    return {
        "work": work,
        "length": length,
        "backend": backend,
        "ms": None,
        "peak_gib": None,
        "runs": 0,
        "note": OUT_OF_MEMORY,
    }


def _tables(rows: Sequence[Row]) -> list[Table]:
    names = [name for name in (*BACKENDS, *CPU_BACKENDS[1:]) if find(rows, backend=name)]
    tables = []
    for work, title in (
        ("attention", "Attention alone, one row, causal, forward and backward: ms, peak GiB"),
        ("step", "A whole training step of one window: ms, peak GiB"),
    ):
        cells = []
        for (length,) in distinct([row for row in rows if row["work"] == work], "length"):
            found = [find(rows, work=work, length=length, backend=name) for name in names]
            cells.append([f"{length:,}", *(_cell(row) for row in found)])
        tables.append(Table(title, ["length", *names], cells))
    return tables


def _cell(row: Row | None) -> str:
    time = time_cell(row)
    if row is None or row["ms"] is None or row["peak_gib"] is None:
        return time
    return f"{time}, {memory_cell(row)}"


def _configuration(bench: Bench) -> dict[str, Any]:
    sizes = _sizes(bench)
    return {
        "attention": f"{sizes['n_heads']} heads x {sizes['d_model'] // sizes['n_heads']}, "
        f"{bench.dtype}, causal, batch of 1; memory beyond the operands",
        "model": described(recipe_config(bench, 64, **sizes), max_seq_len="the length"),
        "step": "eager, batch of 1: forward, backward, gradient clipping, AdamW; memory with "
        "weights and optimizer",
    }


PART = Part(
    "growth",
    "Growth with length",
    _configuration,
    f"{ATTENTION_FORMULA}. {STEP_FORMULA}",
    40,
    _rows,
    _tables,
)
