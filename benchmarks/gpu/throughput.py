"""Training and inference throughput, and the share of what the hardware can do."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Row, Work
from benchmarks.gpu.flops import STEP_FORMULA, forward_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, million, number, time_cell
from benchmarks.gpu.works import (
    SEED,
    backend_of,
    chapter_config,
    described,
    recipe_config,
    throughput,
    train_row,
)
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader

_OWN = "project's form"


def matmul_tflops(bench: Bench) -> Row:
    """Return the row of a square matrix product in bf16: the peak that MFU is a share of."""
    return bench.once("matmul", lambda: _matmul(bench))


def _matmul(bench: Bench) -> Row:
    size = bench.pick(8192, 1024, 64)

    def make() -> Work:
        a, b = (torch.randn(size, size, device=bench.device).to(bench.dtype) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    measured = bench.attempt(make)
    row = {"work": f"matrix product {size:,}^3", "dtype": str(bench.dtype).removeprefix("torch.")}
    return row | measured.row() | throughput(measured, 0, 2.0 * size**3) | {"mfu": None}


def _rows(bench: Bench) -> Iterator[Row]:
    peak = matmul_tflops(bench)
    yield peak
    length, long = bench.pick((2_048, 8_192), (256, 512), (32, 64))
    batch = bench.pick(16, 4, 2)
    chapter = chapter_config(bench, length)
    yield _train(bench, peak, "chapter's model, eager", chapter, batch)
    own = recipe_config(bench, length)
    window = (length - 1) // own.n_layers + 1
    sliding = recipe_config(bench, length, span="sliding", window=window)
    long_own = recipe_config(bench, long)
    for name, config in ((_OWN, own), (f"{_OWN}, sliding", sliding), (_OWN, long_own)):
        yield _train(bench, peak, name, config, batch)
    yield _infer(bench, peak, "chapter's model", chapter, 4 * batch)
    yield _infer(bench, peak, _OWN, own, 4 * batch)
    yield _infer(bench, peak, f"{_OWN}, sliding", sliding, 4 * batch)


def _train(bench: Bench, peak: Row, name: str, config: ModelConfig, batch: int) -> Row:
    captured = config.supervision == "dense"
    row = train_row(bench, config, batch, form="captured" if captured else "eager")
    return {"work": f"train: {name}"} | row | _mfu(row, peak)


def _infer(bench: Bench, peak: Row, name: str, config: ModelConfig, batch: int) -> Row:
    used: list[str] = []

    def make() -> Work:
        torch.manual_seed(SEED)
        model = FlashAttentionTrader(config).to(bench.device).eval()
        x_BTI = torch.randn(batch, config.max_seq_len, config.input_dim, device=bench.device)

        def work() -> None:
            with bench.autocast():
                model.predict(x_BTI)
            used[:] = [backend_of(model)]

        return work

    length = config.max_seq_len
    measured = bench.attempt(make)
    row = {
        "work": f"predict: {name}",
        "batch": batch,
        "length": length,
        "form": "eager",
        "dtype": "bf16" if bench.cuda else "float32",
        "attention": used[0] if used else config.attention,
        **measured.row(),
        **throughput(measured, batch * length, forward_flops(config, batch, length)),
    }
    return row | _mfu(row, peak)


def _mfu(row: Row, peak: Row) -> Row:
    if not (row["tflops"] and peak["tflops"]):
        return {"mfu": None}
    return {"mfu": round(row["tflops"] / peak["tflops"], 4)}


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["work", "batch x length", "form", "attention", "ms"]
    header += ["M tokens/s", "TFLOP/s", "MFU", "peak GiB"]
    cells = [
        [
            row["work"],
            f"{row['batch']} x {row['length']:,}" if "batch" in row else "",
            row.get("form", ""),
            row.get("attention", ""),
            time_cell(row),
            million(row["tokens_per_s"]) if row["tokens_per_s"] else "",
            number(row["tflops"]),
            f"{100 * row['mfu']:.1f} %" if row["mfu"] else "",
            number(row["peak_gib"]),
        ]
        for row in rows
    ]
    return [Table("", header, cells)]


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "chapter's model": described(chapter_config(bench, 2048), max_seq_len="the length"),
        _OWN: described(recipe_config(bench, 2048), max_seq_len="the length"),
        "training": "forward, backward, gradient clipping, AdamW; `captured`: compiled and "
        "captured as a CUDA graph, the batch cut from the resident panel inside it",
        "inference": "predictions of the last bar, from windows on the device",
        "MFU": "of the rate of the first row, measured in the same run",
    }


PART = Part(
    "throughput",
    "Throughput and model FLOP utilisation",
    _configuration,
    STEP_FORMULA,
    40,
    _rows,
    _tables,
)
