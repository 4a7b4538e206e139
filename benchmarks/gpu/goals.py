"""What the model should reach on an H200, row by row.

Training steps, a year of predictions, and attention kernels; each beside its goal, and beside what
the same work takes with standard attention.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import NOT_RUN, OUT_OF_MEMORY, Bench, Measured, Row, Work
from benchmarks.gpu.flops import STEP_FORMULA
from benchmarks.gpu.kernels import TOLERANCE, fastest, rivals
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, distinct, find, memory_cell, million, time_cell
from benchmarks.gpu.works import (
    SEED,
    Attention,
    Form,
    backend_of,
    chapter_config,
    described,
    recipe_config,
    throughput,
    train_row,
)
from flash_pipeline.model.config import ModelConfig
from flash_pipeline.model.streaming import stream
from flash_pipeline.model.trader import FlashAttentionTrader

STEP_GOAL_MS = 7.0
LONG_GOAL_MS = 30.0
YEAR_GOAL_MS = 5.0
GIANT_GOAL_MS = 700.0

_PROJECT = "project's form"
_BATCH_OF_WINDOWS = 256
_SAMPLE = 16
_ROUNDING = 1e-5  # of the predictions' size: float32 sums in another order


def _rows(bench: Bench) -> Iterator[Row]:
    yield from _steps(bench)
    yield from _year(bench)
    yield from _kernels(bench)


def _steps(bench: Bench) -> Iterator[Row]:
    batch = bench.pick(16, 2, 2)
    length, long, giant = bench.pick((2_048, 8_192, 204_800), (256, 512, 2_048), (32, 48, 64))
    small = bench.pick({"d_model": 128, "n_heads": 2, "n_layers": 4, "d_ff": 512}, {}, {})
    chapter, long_chapter = chapter_config(bench, length), chapter_config(bench, long)
    yield _step(bench, "standard, float32", _with(chapter, "reference"), batch, autocast=False)
    if bench.cuda:
        yield _step(bench, "standard, bf16", _with(chapter, "reference"), batch)
    yield _step(bench, *_flash(bench, chapter), batch)
    own = recipe_config(bench, length)
    yield _step(bench, _PROJECT, own, batch, "captured", STEP_GOAL_MS)
    dtype = "bf16" if bench.cuda else "float32"
    yield _step(bench, f"standard, {dtype}", _with(long_chapter, "reference"), batch)
    own_long = recipe_config(bench, long)
    yield _step(bench, _PROJECT, own_long, batch, "captured", LONG_GOAL_MS)
    own_giant = recipe_config(bench, giant, **small)
    yield _step(bench, _PROJECT, own_giant, 1, "captured", GIANT_GOAL_MS)
    for n_heads in bench.pick((2, 1), (2,), (2,)):  # every token sees all: assets see one another
        whole = dataclasses.replace(own_giant, span="full", supervision="last", n_heads=n_heads)
        if n_heads == 2:
            yield _step(bench, *_flash(bench, whole), 1)
        yield _step(bench, f"{_PROJECT}, full span", whole, 1, "captured", GIANT_GOAL_MS)
    reaching = dataclasses.replace(own_long, span="sliding", window=bench.pick(2_048, 64, 8))
    yield _step(bench, f"{_PROJECT}, sliding", reaching, batch, "captured", LONG_GOAL_MS)
    if own.head_size < 128 <= own.d_model:  # the widest heads that the kernels are fastest with
        n_heads = own.d_model // 128
        for config, goal in ((own, STEP_GOAL_MS), (own_long, LONG_GOAL_MS)):
            wide = dataclasses.replace(config, n_heads=n_heads)
            yield _step(bench, f"{_PROJECT}, heads of 128", wide, batch, "captured", goal)


def _with(config: ModelConfig, attention: Any) -> ModelConfig:  # noqa: ANN401  (a backend's name)
    return dataclasses.replace(config, attention=attention)


def _flash(bench: Bench, config: ModelConfig) -> tuple[str, ModelConfig]:
    """Return the form with PyTorch's own flash attention, or what it picks without a GPU."""
    name = "sdpa_flash" if bench.cuda else "sdpa"
    return f"{name}, eager", _with(config, name)


def _step(
    bench: Bench,
    variant: str,
    config: ModelConfig,
    batch: int,
    form: Form = "eager",
    goal_ms: float | None = None,
    *,
    autocast: bool = True,
) -> Row:
    row = train_row(bench, config, batch, form=form, autocast=autocast)
    name = f"train step, {batch} x {config.max_seq_len:,}"
    shape = f"{config.n_layers} layers, {config.n_heads} heads x {config.head_size}"
    return {"work": name, "variant": variant, "shape": shape} | row | _goal(bench, row, goal_ms)


def _goal(bench: Bench, row: Row, goal_ms: float | None) -> Row:
    """Return the goal and whether it is met; goals are stated for the full sizes alone."""
    if goal_ms is None or bench.scale != "full":
        return {"goal": None, "met": None}
    return {"goal": f"{goal_ms:g} ms", "met": None if not row["ms"] else row["ms"] <= goal_ms}


def _year(bench: Bench) -> Iterator[Row]:
    """Predict a year window by window and in one sliding pass, and compare the two."""
    length, hours = bench.pick((2_048, 8_760), (256, 1_000), (32, 50))
    plain = recipe_config(bench, length)
    window = (length - 1) // plain.n_layers + 1  # the layers together reach one window
    config = dataclasses.replace(plain, span="sliding", window=window)
    results: dict[str, Tensor] = {}
    used: list[str] = []

    def as_windows() -> Work:
        model, x_TI = _model(bench, config), _series(bench, config, hours)
        return lambda: _keep(bench, results, used, "windows", model, lambda: _cut(model, x_TI))

    def one_pass() -> Work:
        model, x_TI = _model(bench, config), _series(bench, config, hours)

        def predict() -> Tensor:
            return model.head.predict(stream(model, x_TI))[length - 1 :]

        return lambda: _keep(bench, results, used, "stream", model, predict)

    name = f"predictions for {hours:,} h at {length:,} bars"
    shape = f"{config.n_layers} layers of {window} bars, {config.n_heads} heads"
    for variant, make, goal in (
        ("as windows", as_windows, None),
        ("as one sliding pass", one_pass, YEAR_GOAL_MS),
    ):
        measured = bench.attempt(make)
        row = measured.row() | throughput(measured, hours, 0.0) | {"tflops": None}
        attention = used[-1] if used else config.attention
        head = {"work": name, "variant": variant, "shape": shape, "attention": attention}
        yield head | row | _goal(bench, row, goal)
    yield _difference(bench, config, results, name, shape)


def _keep(
    bench: Bench,
    results: dict[str, Tensor],
    used: list[str],
    name: str,
    model: FlashAttentionTrader,
    predict: Any,  # noqa: ANN401
) -> None:
    with bench.autocast(), torch.no_grad():
        results[name] = predict()
        used[:] = [backend_of(model)]


def _model(bench: Bench, config: ModelConfig) -> FlashAttentionTrader:
    torch.manual_seed(SEED)
    return FlashAttentionTrader(config).to(bench.device).eval()


def _series(bench: Bench, config: ModelConfig, hours: int) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    bars = hours + config.max_seq_len - 1
    return torch.randn(bars, config.input_dim, generator=generator).to(bench.device)


def _cut(model: FlashAttentionTrader, x_TI: Tensor) -> Tensor:
    """Return predictions_NS of every window of the series, batch by batch."""
    windows_NLI = x_TI.unfold(0, model.config.max_seq_len, 1).transpose(1, 2)
    parts = torch.split(windows_NLI, _BATCH_OF_WINDOWS)
    return torch.cat([model.predict(part.contiguous()) for part in parts])


def _difference(
    bench: Bench, config: ModelConfig, results: dict[str, Tensor], name: str, shape: str
) -> Row:
    """Compare the two ways; equal if they differ by no more than twice the dtype's own error.

    That error is of the windows' predictions against float32 with reference attention, on a
    sample.
    """

    def exact() -> Work:
        model = _model(bench, _with(config, "reference"))
        x_TI = _series(bench, config, hours)[: _SAMPLE + config.max_seq_len - 1]
        return lambda: results.update(exact=_cut(model, x_TI))

    hours = len(results.get("windows", ()))
    measured = bench.attempt(exact)
    row: Row = {"work": name, "variant": "largest difference between the two", "shape": shape}
    row |= {"attention": "", "tokens_per_s": None, "tflops": None, "goal": "equal", "met": None}
    if set(results) != {"windows", "stream", "exact"}:
        note = measured.note or f"{NOT_RUN}: one of the two failed"
        return row | Measured(note=note).row()
    windows_NS, stream_NS = results["windows"].float(), results["stream"].float()
    difference = (windows_NS - stream_NS).abs().max().item()
    own = (windows_NS[:_SAMPLE] - results["exact"]).abs().max().item()
    size = windows_NS.square().mean().sqrt().item()
    return {
        **row,
        **Measured().row(),
        "met": difference <= 2 * own + _ROUNDING * size,
        "difference": float(f"{difference:.3g}"),
        "own_error": float(f"{own:.3g}"),
        "rms": float(f"{size:.3g}"),
    }


def _kernels(bench: Bench) -> Iterator[Row]:
    heads = bench.pick(((8, 32), (2, 128)), ((4, 32),), ((2, 16),))
    batch, length = bench.pick((8, 8_192), (1, 2_048), (2, 64))
    for n_heads, head_size in heads:
        rows = rivals(bench, Attention(batch, length, n_heads, head_size, "causal"))
        best, chosen = fastest(rows), find(rows, auto=True)
        for row in rows:
            if row["ms"] or row["note"] == OUT_OF_MEMORY:
                head = {
                    "work": f"attention, {batch} x {length:,}, {n_heads} heads x {head_size}",
                    "variant": row["backend"],
                    "shape": "causal, forward and backward",
                    "attention": row["backend"],
                }
                yield head | row | _pick(row, chosen, best)


def _pick(row: Row, chosen: Row | None, best: Row | None) -> Row:
    """Return whether `auto`'s backend is near enough to the fastest, on its own row."""
    if row is not chosen or best is None:
        return {"goal": None, "met": None}
    return {
        "variant": f"{row['backend']} (auto)",
        "goal": f"{TOLERANCE * best['ms']:.3g} ms",
        "met": bool(row["ms"]) and row["ms"] <= TOLERANCE * best["ms"],
    }


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["work", "variant", "shape", "attention", "ms", "goal", "met"]
    header += ["peak GiB", "M tokens/s"]
    cells = []
    before = ""
    works = [work for (work,) in distinct(rows, "work")]
    for row in sorted(rows, key=lambda row: works.index(row["work"])):
        work = "" if row["work"] == before else row["work"]
        before = row["work"]
        cells.append(
            [
                work,
                row["variant"],
                row["shape"],
                row["attention"],
                _time(row),
                row["goal"] or "",
                {True: "yes", False: "no", None: ""}[row["met"]],
                memory_cell(row) if row["ms"] else "",
                million(row["tokens_per_s"]) if row["tokens_per_s"] else "",
            ]
        )
    return [Table("", header, cells)]


def _time(row: Row) -> str:
    if "difference" not in row:
        return time_cell(row)
    return (
        f"{row['difference']:.1e} (own error of the dtype {row['own_error']:.1e}, "
        f"predictions {row['rms']:.1e})"
    )


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "standard, SDPA flash": "eager; "
        f"{described(chapter_config(bench, 2048), max_seq_len='the length')}",
        _PROJECT: "compiled and captured as a CUDA graph on a GPU; "
        f"{described(recipe_config(bench, 2048), max_seq_len='the length')}",
        "step": "forward, backward, gradient clipping, AdamW; bf16 autocast but for float32",
        "predictions": "sliding span whose layers together reach one window; M tokens/s counts "
        "predictions",
        "goals": f"stated for an NVIDIA H200; attention: at most {TOLERANCE} x the fastest backend",
    }


PART = Part("goals", "Goals", _configuration, STEP_FORMULA, 100, _rows, _tables)
