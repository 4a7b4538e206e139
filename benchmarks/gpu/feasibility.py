"""The chapter's feasibility table: which lengths can be trained with which attention.

A training step of the chapter's model at its four configurations. Where a batch does not fit, a
single window is tried.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import OUT_OF_MEMORY, Bench, Row
from benchmarks.gpu.flops import STEP_FORMULA
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import NOTHING, Table, distinct, find, note_cell, number
from benchmarks.gpu.works import chapter_config, described, train_row
from flash_pipeline.model.config import AttentionName, ModelConfig

CASES: tuple[tuple[str, int, str, str], ...] = (
    ("1 month hourly", 720, "feasible", "fast"),
    ("3 months hourly", 2_160, "slow", "fast"),
    ("1 week of 15 min x 10 assets", 6_720, "slow", "fast"),
    ("1 year hourly", 8_760, "OOM", "feasible"),
)
"""Name, steps, and the chapter's words for standard attention and for FlashAttention."""

_STANDARD_32, _STANDARD_16 = "standard, float32", "standard, bf16"

FORMS: dict[str, tuple[AttentionName, bool]] = {
    _STANDARD_32: ("reference", False),
    _STANDARD_16: ("reference", True),
    "sdpa_flash": ("sdpa_flash", True),
    "sdpa_cudnn": ("sdpa_cudnn", True),
    "flash_attn": ("flash_attn", True),
    "flash_attn_4": ("flash_attn_4", True),
    "auto": ("auto", True),
}
"""Columns: attention backend, and whether autocast is on."""

CPU_FORMS: dict[str, tuple[AttentionName, bool]] = {
    _STANDARD_32: ("reference", False),
    "sdpa": ("sdpa", False),
}
"""Columns without a GPU."""


def _batch(bench: Bench) -> int:
    return bench.pick(16, 1, 2)


def _cases(bench: Bench) -> tuple[tuple[str, int, str, str], ...]:
    return bench.pick(CASES, CASES[:2], (("tiny", 60, "feasible", "fast"),))


def _rows(bench: Bench) -> Iterator[Row]:
    for name, steps, standard, flash in _cases(bench):
        words = {"chapter_standard": standard, "chapter_flash": flash}
        for form, (attention, autocast) in (FORMS if bench.cuda else CPU_FORMS).items():
            # cuDNN and flash-attn-4 have no dropout; alike for all, so that they compare.
            config = chapter_config(bench, steps, attention=attention, dropout=0.0)
            head = {"case": name, "steps": steps, "backend": form, "length": steps}
            yield bench.row(head, functools.partial(_step, bench, config, autocast)) | words


def _step(bench: Bench, config: ModelConfig, autocast: bool) -> Row:
    """Return the row of a step on a batch, else on a single window."""
    row = train_row(bench, config, _batch(bench), autocast=autocast)
    if row["note"] == OUT_OF_MEMORY:
        row = train_row(bench, config, 1, autocast=autocast)
    return row


def _tables(rows: Sequence[Row]) -> list[Table]:
    forms = [str(form) for (form,) in distinct(rows, "backend")]
    header = ["windows of", "chapter: standard / flash", *forms]
    cells = []
    for case, steps in distinct(rows, "case", "steps"):
        found = {form: find(rows, case=case, backend=form) for form in forms}
        first = next(row for row in found.values() if row)
        words = f"{first['chapter_standard']} / {first['chapter_flash']}"
        largest = max(row["batch"] for row in found.values() if row)
        lines = [_cell(row, largest) for row in found.values()]
        cells.append([f"{case} ({steps:,})", words, *lines])
    return [Table("A training step: ms, peak GiB", header, cells)]


def _cell(row: Row | None, batch: int) -> str:
    if row is None:
        return NOTHING
    if row["ms"] is None:
        return note_cell(row["note"])
    memory = "" if row["peak_gib"] is None else f", {number(row['peak_gib'])} GiB"
    smaller = "" if row["batch"] == batch else f" (out of memory at {batch}; this is batch 1)"
    return f"{number(row['ms'])} ms{memory}{smaller}"


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "model": described(chapter_config(bench, 64), max_seq_len="as in the row"),
        "dropout": "0 for all, since cuDNN and flash-attn-4 have none",
        "batch": f"{_batch(bench)} windows; 1 where that is out of memory",
        "step": "eager: forward, backward, gradient clipping, AdamW; bf16 autocast on a GPU but "
        "for standard float32",
        "standard": "backend `reference`: softmax in float32 with the T x T matrix in memory",
    }


PART = Part(
    "feasibility",
    "The chapter's feasibility table",
    _configuration,
    STEP_FORMULA,
    25,
    _rows,
    _tables,
)
