"""The order book's and the whole market's model: training, predictions, growth with length."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from benchmarks.gpu.bench import OUT_OF_MEMORY, Bench, Row, Work
from benchmarks.gpu.part import Part
from benchmarks.gpu.tables import Table, distinct, find, memory_cell, million, time_cell
from benchmarks.gpu.works import SEED, STANDARD
from flash_pipeline.model.config import AttentionName, HeadOptions
from flash_pipeline.model.grid import GridModel
from flash_pipeline.model.grid_config import GridConfig, OrderBookConfig, PortfolioConfig
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.book_recipes import full_book_recipe
from flash_pipeline.training.optimizer import make_optimizer
from flash_pipeline.training.portfolio_recipes import full_portfolio
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.source import GridBatches
from flash_pipeline.training.step import make_step

WorkName = Literal["train step", "prediction"]

BOOK, MARKET = "order book", "portfolio"
WIDE, ISSUE = "1 head x 128", "8 heads x 16"
SHIPPED = "2 heads x 64, causal"
"""As the recipes `full` of both have it."""

_SPARE = 4  # moments beyond a window, so that steps have several to cut


@dataclasses.dataclass(frozen=True)
class _Case:
    """One row beside a goal."""

    model: str
    """Whose."""
    work: WorkName
    """What is done."""
    variant: str
    """In which form."""
    config: GridConfig
    """With what model."""
    captured: bool = True
    """Whether a step is compiled and captured."""
    goal_ms: float | None = None
    """At most so long."""
    goal_gib: float | None = None
    """In at most so much memory."""


def _rows(bench: Bench) -> Iterator[Row]:
    for case in _cases(bench):
        head = {"table": "goals", "model": case.model, "work": case.work, "variant": case.variant}
        measure = functools.partial(_measure, bench, case.config, case.work, case.captured)
        yield _judged(bench, case, bench.row(head, measure))
    yield from _growth(bench)


def _cases(bench: Bench) -> list[_Case]:
    cases = []
    goals: dict[str, dict[WorkName, dict[str, float]]] = {
        BOOK: {"train step": {"goal_ms": 150}, "prediction": {"goal_ms": 40, "goal_gib": 0.5}},
        MARKET: {"train step": {"goal_ms": 700}, "prediction": {"goal_ms": 150, "goal_gib": 1}},
    }
    for model, tokens in ((BOOK, 100_096), (MARKET, 204_800)):
        own = _config(bench, model, tokens)
        wide, narrow = _heads(own, 1), _heads(own, 8)
        causal: Any = {"span": "causal", "supervision": "dense"}
        for work in ("train step", "prediction"):
            aim: Any = goals[model][work]
            cases += [
                _Case(model, work, WIDE, wide, **aim),
                _Case(model, work, "2 heads x 64", _heads(own, 2), **aim),
                _Case(model, work, f"{WIDE}, causal", dataclasses.replace(wide, **causal), **aim),
                _Case(model, work, SHIPPED, dataclasses.replace(_heads(own, 2), **causal), **aim),
                _Case(model, work, f"{WIDE}, axial", dataclasses.replace(wide, layout="axial")),
                _Case(model, work, f"{ISSUE}, eager", narrow, captured=False),
            ]
    return cases


def _config(bench: Bench, model: str, tokens: int) -> GridConfig:
    """Return a configuration of at least so many tokens; of a few at other scales."""
    sizes: dict[str, Any] = bench.pick(
        {"d_model": 128, "d_ff": 512, "n_heads": 1, "n_layers": 4},
        {"d_model": 32, "d_ff": 64, "n_heads": 1, "n_layers": 2},
        {"d_model": 16, "d_ff": 16, "n_heads": 1, "n_layers": 2},
    )
    tokens = bench.pick(tokens, tokens // 50, tokens // 2_500)
    cells = bench.pick(100, 20, 4)
    moments = -(-tokens // cells)
    if model == BOOK:
        book = full_book_recipe().model
        shipped = {"n_features": book.n_features, "n_horizons": book.n_horizons}
        return OrderBookConfig(cells // 2, moments, **shipped, **sizes)
    # One window's return has no Sharpe ratio; this objective has a gradient with one.
    options = HeadOptions(objective="mean_variance")
    inputs = full_portfolio().model.n_features
    return PortfolioConfig(cells, moments, n_features=inputs, head_options=options, **sizes)


def _heads(config: GridConfig, n_heads: int) -> GridConfig:
    return dataclasses.replace(config, n_heads=n_heads)


def _growth(bench: Bench) -> Iterator[Row]:
    """Yield the rows of growth, the longest length first to be out of memory ending a line."""
    lengths = (10_000, 25_000, 50_000, 100_000, 200_000, 400_000)
    for model in (BOOK, MARKET):
        for work in ("train step", "prediction"):
            spent: set[str] = set()
            for tokens in bench.pick(lengths, lengths[:4], lengths[3:5]):
                for name in ("auto", STANDARD):
                    head = {"table": "growth", "model": model, "work": work, "backend": name}
                    head["length"] = _tokens(_config(bench, model, tokens))
                    if name in spent:
                        yield head | _nothing(OUT_OF_MEMORY)
                        continue
                    attention: AttentionName = "reference" if name == STANDARD else "auto"
                    own = _config(bench, model, tokens)
                    config = dataclasses.replace(own, attention=attention)
                    kind: WorkName = "train step" if work == "train step" else "prediction"
                    measure = functools.partial(_measure, bench, config, kind, False)
                    row = bench.row(head, measure)
                    if row["note"] == OUT_OF_MEMORY:
                        spent.add(name)
                    yield row


def _tokens(config: GridConfig) -> int:
    return config.n_cells * config.max_moments


def _nothing(note: str) -> Row:
    return {"ms": None, "peak_gib": None, "runs": 0, "note": note, "tokens_per_s": None}


def _measure(bench: Bench, config: GridConfig, work: WorkName, captured: bool) -> Row:
    used: list[str] = []

    def make() -> Work:
        torch.manual_seed(SEED)
        model = _model(config).to(bench.device)
        if work == "prediction":
            return _prediction(bench, model, used)
        return _step(bench, model, captured, used)

    measured = bench.attempt(make)
    rate = None if measured.ms is None else float(f"{_tokens(config) / measured.ms * 1e3:.4g}")
    return {
        "tokens": _tokens(config),
        "attention": used[0] if used else config.attention,
        "form": used[1] if used else "eager",
        **measured.row(),
        "tokens_per_s": rate,
    }


def _model(config: GridConfig) -> OrderBookModel | PortfolioModel:
    if isinstance(config, OrderBookConfig):
        return OrderBookModel.of(config)
    assert isinstance(config, PortfolioConfig)
    return PortfolioModel.of(config)


def _input_shape(config: GridConfig) -> tuple[int, ...]:
    if isinstance(config, OrderBookConfig):
        return config.n_levels, 2, config.n_features
    return config.n_cells, config.n_features


def _prediction(bench: Bench, model: OrderBookModel | PortfolioModel, used: list[str]) -> Work:
    config = model.config
    x = torch.randn(1, config.max_moments, *_input_shape(config), device=bench.device)

    def work() -> None:
        with bench.autocast():
            model.predict(x)
        used[:] = [model.attention_choice.name, "eager"]

    return work


def _step(bench: Bench, model: GridModel, captured: bool, used: list[str]) -> Work:
    config = model.config
    moments = config.max_moments + _SPARE
    x = torch.randn(moments, *_input_shape(config))
    if isinstance(config, OrderBookConfig):
        targets = torch.randint(0, 3, (moments, config.n_horizons))
    else:
        targets = 0.01 * torch.randn(moments, config.n_cells)
    end_W = torch.arange(config.max_moments - 1, moments)
    batches = GridBatches(x, None, targets, end_W, config.max_moments, bench.device)
    train = TrainConfig(epochs=1, warm_epochs=1, batch_size=1, compile=captured)
    step = make_step(model.train(), batches, make_optimizer(model, train), train)
    calls = iter(range(1_000_000))
    index_W1 = torch.arange(len(end_W), device=bench.device)[:, None]

    def work() -> None:
        step(index_W1[next(calls) % len(index_W1)])
        used[:] = [step.attention.name, step.form.partition(":")[0]]

    return work


def _judged(bench: Bench, case: _Case, row: Row) -> Row:
    """Add the goals and whether they are met; they are stated for the full sizes alone."""
    if case.goal_ms is None or bench.scale != "full":
        return row | {"goal": None, "met": None}
    memory = "" if case.goal_gib is None else f", {case.goal_gib:g} GiB"
    met = None
    if row["ms"]:
        small = case.goal_gib is None or (row["peak_gib"] or 0) <= case.goal_gib
        met = row["ms"] <= case.goal_ms and small
    return row | {"goal": f"{case.goal_ms:g} ms{memory}", "met": met}


def _tables(rows: Sequence[Row]) -> list[Table]:
    header = ["model", "work", "variant", "tokens", "form", "attention", "ms", "peak GiB"]
    header += ["goal", "met", "M tokens/s"]
    cells = [
        [
            row["model"],
            row["work"],
            row["variant"],
            f"{row['tokens']:,}",
            row["form"],
            row["attention"],
            time_cell(row),
            memory_cell(row) if row["ms"] else "",
            row["goal"] or "",
            {True: "yes", False: "no", None: ""}[row["met"]],
            million(row["tokens_per_s"]) if row["tokens_per_s"] else "",
        ]
        for row in rows
        if row["table"] == "goals"
    ]
    return [Table("At the chapter's sizes", header, cells), _growth_table(rows)]


def _growth_table(rows: Sequence[Row]) -> Table:
    grown = [row for row in rows if row["table"] == "growth"]
    columns = distinct(grown, "work", "backend")
    cells = [
        [str(model), f"{length:,}"]
        + [
            _cell(find(grown, model=model, length=length, work=work, backend=backend))
            for work, backend in columns
        ]
        for model, length in distinct(grown, "model", "length")
    ]
    header = ["model", "tokens", *(f"{work}, {backend}" for work, backend in columns)]
    return Table("Growth with length, eager: ms, peak GiB", header, cells)


def _cell(row: Row | None) -> str:
    time = time_cell(row)
    if row is None or row["ms"] is None or row["peak_gib"] is None:
        return time
    return f"{time}, {memory_cell(row)}"


def _configuration(bench: Bench) -> dict[str, Any]:
    return {
        "order book": str(_config(bench, BOOK, 100_096).to_dict()),
        "portfolio": str(_config(bench, MARKET, 204_800).to_dict()),
        "step": "one window: forward, backward, gradient clipping, AdamW; bf16 autocast on a GPU; "
        "memory with weights and optimizer",
        "prediction": "one window, eager, no gradients; memory with weights and input",
        "causal": "every moment teaches, and the prediction runs its last layer in full",
        STANDARD: "backend `reference`: softmax in float32 with the T x T matrix in memory",
    }


PART = Part("sequences", "Order book and whole market", _configuration, "", 90, _rows, _tables)
