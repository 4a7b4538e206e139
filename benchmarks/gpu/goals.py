"""What the model should reach on an H200, row by row.

Training steps, a year of predictions, and attention kernels; each beside its goal, and beside what
the same work takes with standard attention.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.gpu.bench import LATE, OUT_OF_MEMORY, Bench, Row
from benchmarks.gpu.flops import STEP_FORMULA
from benchmarks.gpu.kernels import FAST, SLOW, TOLERANCE, fastest, rivals
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, find, memory_cell, million, not_run, time_cell
from benchmarks.gpu.works import (
    PROJECT,
    RECIPE,
    STANDARD,
    Attention,
    Form,
    chapter_config,
    described,
    full_config,
    recipe_config,
    step_head,
    train_row,
)
from benchmarks.gpu.year import DIFFERENCE, ONE_PASS, year_rows
from flash_pipeline.model.config import AttentionName, ModelConfig

STEP_GOAL_MS = 7.0
LONG_GOAL_MS = 30.0
YEAR_GOAL_MS = 5.0
GIANT_GOAL_MS = 700.0

_WIDE = 128
_FIRST = 6  # own steps before the attention goals: those that no result has had time for so far


@dataclasses.dataclass(frozen=True)
class _Step:
    """A training step, and what it should reach."""

    variant: str
    """How it is done."""
    config: ModelConfig
    """With what model; its positions are the bars of a window."""
    batch: int
    """Windows."""
    goal_ms: float | None = None
    """At most so long."""
    form: Form = "captured"
    """How it runs."""
    autocast: bool = True
    """Whether in bf16 on a GPU."""


def _rows(bench: Bench) -> Iterator[Row]:
    """Yield the rows in the order of their worth: a year, the goals, then what they are held to."""
    for row in year_rows(bench):
        goal = YEAR_GOAL_MS if row["variant"] == ONE_PASS else None
        yield _goal(bench, row, goal) if row["variant"] != DIFFERENCE else row
    own, standard = _own_steps(bench), _other_steps(bench)
    for step in own[:_FIRST]:
        yield _step(bench, step)
    yield from _kernels(bench)
    for step in (*standard, *own[_FIRST:]):
        yield _step(bench, step)


def _own_steps(bench: Bench) -> list[_Step]:
    """Return the project's own steps, those that decide about a goal first."""
    batch, length, long, giant = _sizes(bench)
    own, own_long = recipe_config(bench, length), recipe_config(bench, long)
    own_giant = _giant_config(bench, giant)
    sliding = dataclasses.replace(own_long, span="sliding", window=bench.pick(2_048, 64, 8))
    whole = dataclasses.replace(own_giant, span="full", supervision="last")
    steps = [
        _Step(f"{PROJECT}, sliding", sliding, batch, LONG_GOAL_MS),
        _Step(RECIPE, full_config(bench, length), batch, STEP_GOAL_MS),
        _Step(f"{RECIPE}, eager", full_config(bench, length), batch, form="own"),
        _Step(PROJECT, own, batch, STEP_GOAL_MS),
        _Step(PROJECT, own_long, batch, LONG_GOAL_MS),
        _Step(PROJECT, own_giant, 1, GIANT_GOAL_MS),
        _Step(f"{PROJECT}, full span", whole, 1, GIANT_GOAL_MS),
    ]
    if own.head_size < _WIDE <= own.d_model:  # the widest heads that the kernels are fastest with
        wide = [
            _Step(f"{PROJECT}, heads of {_WIDE}", _widened(config), batch, goal_ms)
            for config, goal_ms in ((own_long, LONG_GOAL_MS), (own, STEP_GOAL_MS))
        ]
        name = f"{PROJECT}, sliding, heads of {_WIDE}"
        steps[1:1] = [_Step(name, _widened(sliding), batch, LONG_GOAL_MS), *wide]
    if whole.head_size < _WIDE <= whole.d_model:  # every token sees all, so assets see one another
        wide_whole = _widened(whole)
        steps.append(_Step(f"{PROJECT}, full span", wide_whole, 1, GIANT_GOAL_MS))
    return steps


def _other_steps(bench: Bench) -> list[_Step]:
    """Return the steps that the project's are held against."""
    batch, length, long, giant = _sizes(bench)
    chapter, long_chapter = chapter_config(bench, length), chapter_config(bench, long)
    whole = dataclasses.replace(_giant_config(bench, giant), span="full", supervision="last")
    flash: AttentionName = "sdpa_flash" if bench.cuda else "sdpa"
    steps = [
        _Step("standard, float32", _with(chapter, "reference"), batch, None, "eager", False),
        _Step(f"{flash}, eager", _with(chapter, flash), batch, form="eager"),
        _Step(f"{flash}, eager", _with(whole, flash), 1, form="eager"),
    ]
    half = "standard, bf16" if bench.cuda else "standard, float32"
    steps.insert(1, _Step(half, _with(long_chapter, "reference"), batch, form="eager"))
    if bench.cuda:
        steps.insert(1, _Step(half, _with(chapter, "reference"), batch, form="eager"))
    return steps


def _sizes(bench: Bench) -> tuple[int, int, int, int]:
    """Return the batch, and the bars of the short, the long and the giant windows."""
    return bench.pick((16, 2_048, 8_192, 204_800), (2, 256, 512, 2_048), (2, 32, 48, 64))


def _giant_config(bench: Bench, length: int) -> ModelConfig:
    small = bench.pick({"d_model": 128, "n_heads": 2, "n_layers": 4, "d_ff": 512}, {}, {})
    return recipe_config(bench, length, **small)


def _with(config: ModelConfig, attention: AttentionName) -> ModelConfig:
    return dataclasses.replace(config, attention=attention)


def _widened(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, n_heads=config.d_model // _WIDE)


def _step(bench: Bench, step: _Step) -> Row:
    config = step.config
    head = {
        "work": f"train step, {step.batch} x {config.max_seq_len:,}",
        "variant": step.variant,
        "shape": f"{config.n_layers} layers, {_counted(config.n_heads)} x {config.head_size}",
        **step_head(step.form),
    }

    def measure() -> Row:
        return train_row(bench, config, step.batch, form=step.form, autocast=step.autocast)

    return _goal(bench, bench.row(head, measure), step.goal_ms)


def _counted(n_heads: int) -> str:
    return "1 head" if n_heads == 1 else f"{n_heads} heads"


def _goal(bench: Bench, row: Row, goal_ms: float | None) -> Row:
    """Add the goal and whether it is met; goals are stated for the full sizes alone."""
    if goal_ms is None or bench.scale != "full":
        return row | {"goal": None, "met": None}
    return row | {"goal": f"{goal_ms:g} ms", "met": None if not row["ms"] else row["ms"] <= goal_ms}


def _kernels(bench: Bench) -> Iterator[Row]:
    heads = bench.pick(((8, 32), (2, 128)), ((4, 32),), ((2, 16),))
    batch, length = bench.pick((8, 8_192), (1, 2_048), (2, 64))
    names = (*FAST, STANDARD) if bench.cuda else SLOW
    for n_heads, head_size in heads:
        shape = Attention(batch, length, n_heads, head_size, "causal")
        named = f"attention, {batch} x {length:,}, {n_heads} heads x {head_size}"
        rows = rivals(bench, shape, names)
        best, chosen = fastest(rows), find(rows, auto=True)
        for row in rows:
            if row["ms"] or row["note"] in (OUT_OF_MEMORY, LATE):
                head = {
                    "work": named,
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


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the rows as they read best: steps by length, the slowest first, then the others.

    What is out of memory is slower than all; a comparison without a time stands last.
    """
    kinds = ("train step", "predictions", "attention")

    def place(row: Row) -> tuple[int, int, str, float]:
        kind = next(i for i, name in enumerate(kinds) if row["work"].startswith(name))
        ms = row["ms"] or (math.inf if row["note"] == OUT_OF_MEMORY else -math.inf)
        return kind, row.get("length", 0), row["work"], -ms

    return sorted(rows, key=place)


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["work", "variant", "shape", "attention", "ms", "goal", "met"]
    header += ["peak GiB", "M tokens/s"]
    cells, late = [], []
    before = ""
    for row in in_order(rows):
        if row["note"] == LATE:
            late.append(f"{row['work']}, {row['variant']}")
            continue
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
    return [Table("", header, cells, not_run(late))]


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
        PROJECT: "compiled and captured as a CUDA graph on a GPU; "
        f"{described(recipe_config(bench, 2048), max_seq_len='the length')}",
        "step": "forward, backward, gradient clipping, AdamW; bf16 autocast but for float32; the "
        "project's own also moves the weights' average, and cuts other windows at each call",
        RECIPE: "the model, batch and step of `full_recipe()`",
        "predictions": "sliding span whose layers together reach one window; M tokens/s counts "
        "predictions",
        "goals": f"stated for an NVIDIA H200; attention: at most {TOLERANCE} x the fastest backend",
    }


PART = Part("goals", "Goals", _configuration, STEP_FORMULA, 150, _rows, _tables)
