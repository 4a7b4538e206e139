"""Training and inference throughput, and the share of what the hardware can do."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Row, Work
from benchmarks.gpu.flops import STEP_FORMULA, forward_flops
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, million, number, time_cell
from benchmarks.gpu.works import (
    PROJECT,
    RECIPE,
    SEED,
    Form,
    backend_of,
    chapter_config,
    described,
    full_config,
    recipe_config,
    step_head,
    throughput,
    train_row,
)
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader


def matmul_tflops(bench: Bench) -> Row:
    """Return the row of a square matrix product in bf16: the peak that MFU is a share of."""
    size = bench.pick(8192, 1024, 64)
    head = {"work": f"matrix product {size:,}^3", "dtype": str(bench.dtype).removeprefix("torch.")}
    return bench.row(head, lambda: _matmul(bench, size)) | {"mfu": None}


def _matmul(bench: Bench, size: int) -> Row:
    def make() -> Work:
        a, b = (torch.randn(size, size, device=bench.device).to(bench.dtype) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    measured = bench.attempt(make)
    return measured.row() | throughput(measured, 0, 2.0 * size**3)


def _rows(bench: Bench) -> Iterator[Row]:
    peak = matmul_tflops(bench)
    yield peak
    length, long = bench.pick((2_048, 8_192), (256, 512), (32, 64))
    batch = bench.pick(16, 4, 2)
    chapter = chapter_config(bench, length)
    yield _train(bench, peak, "chapter's model, eager", chapter, batch)
    own, recipe = recipe_config(bench, length), full_config(bench, length)
    long_own = recipe_config(bench, long)
    for name, config in ((PROJECT, own), (RECIPE, recipe), (PROJECT, long_own)):
        yield _train(bench, peak, name, config, batch)
    for name, config in (("chapter's model", chapter), (PROJECT, own), (RECIPE, recipe)):
        yield _infer(bench, peak, name, config, 4 * batch)


def _train(bench: Bench, peak: Row, name: str, config: ModelConfig, batch: int) -> Row:
    form: Form = "captured" if config.supervision == "dense" else "eager"
    head = {"work": f"train: {name}", "batch": batch, "length": config.max_seq_len}
    head |= step_head(form)
    row = bench.row(head, lambda: train_row(bench, config, batch, form=form))
    return row | _mfu(row, peak)


def _infer(bench: Bench, peak: Row, name: str, config: ModelConfig, batch: int) -> Row:
    head = {"work": f"predict: {name}", "batch": batch, "length": config.max_seq_len}
    row = bench.row(head, lambda: _predict(bench, config, batch))
    return row | _mfu(row, peak)


def _predict(bench: Bench, config: ModelConfig, batch: int) -> Row:
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
    return {
        "form": "eager",
        "dtype": "bf16" if bench.cuda else "float32",
        "attention": used[0] if used else config.attention,
        **measured.row(),
        **throughput(measured, batch * length, forward_flops(config, batch, length)),
    }


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
        PROJECT: described(recipe_config(bench, 2048), max_seq_len="the length"),
        "training": "forward, backward, gradient clipping, AdamW; `captured`: compiled and "
        "captured as a CUDA graph, another batch cut from the resident panel inside it each time, "
        "the weights' average moved along",
        RECIPE: "the model, batch and step of `full_recipe()`",
        "inference": "predictions of the last bar, from windows on the device",
        "MFU": "of the rate of the first row, measured in the same run",
    }


PART = Part(
    "throughput",
    "Throughput and model FLOP utilisation",
    _configuration,
    STEP_FORMULA,
    15,
    _rows,
    _tables,
)
