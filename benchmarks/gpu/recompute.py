"""Recomputing activations in the backward pass instead of keeping them: what it costs and saves."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.flops import STEP_FORMULA
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, memory_cell, million, time_cell
from benchmarks.gpu.works import described, recipe_config, train_row


def _rows(bench: Bench) -> Iterator[Row]:
    small = bench.pick((64, 2_048), (8, 256), (2, 32))
    long = bench.pick((1, 65_536), (1, 2_048), (1, 64))
    for batch, length in (small, long):
        config = recipe_config(bench, length)
        for recompute in (False, True):
            head = {"recompute": recompute, "batch": batch, "length": length}
            measure = functools.partial(train_row, bench, config, batch, recompute=recompute)
            yield bench.row(head, measure)


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["batch x length", "activations", "ms", "peak GiB", "M tokens/s"]
    cells = [
        [
            f"{row['batch']} x {row['length']:,}",
            "computed again" if row["recompute"] else "kept",
            time_cell(row),
            memory_cell(row),
            million(row["tokens_per_s"]),
        ]
        for row in rows
    ]
    return [Table("A training step, eager", header, cells)]


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "model": described(recipe_config(bench, 64), max_seq_len="the length"),
        "step": "eager: forward, backward, gradient clipping, AdamW; memory with weights and "
        "optimizer",
    }


PART = Part(
    "recompute", "Activation checkpointing", _configuration, STEP_FORMULA, 5, _rows, _tables
)
