"""Whether models of an order book find the signal that the simulator plants.

    python benchmarks/gpu/book_signal.py --out OUT            about 12 minutes on an H200
    python benchmarks/gpu/book_signal.py --small --out OUT    a minute on a CPU

Trains the order-book model (joint attention over all levels and snapshots), its axial variant,
and logistic regressions on imbalance, on order flow and on the state (volatility, spread, past
moves and both), on the same windows of simulated (or stored) books, and compares them on held-out
days: log loss, accuracy, Matthews' and rank correlation, and the differences to logistic imbalance
and to logistic state with block-bootstrap intervals. With `--no-lean` the simulated flow knows
nothing of the price: a control. Writes `book_signal.json` and `probabilities.npz`, and prints a
table.

It needs torch, numpy and pyarrow alone: the packages of the project that would ask for more are
replaced by bare ones before anything is imported from them.
"""

import argparse
import json
import sys
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PROJECT = Path(__file__).resolve().parents[2]


def _bare_packages() -> None:
    """Import modules without the packages around them, which ask for a server and a database."""
    sys.path.insert(0, str(PROJECT))
    for name in ("exchange", "order_book", "windows", "features", "evaluation"):
        full = f"flash_pipeline.{name}"
        if full not in sys.modules:
            package = types.ModuleType(full)
            package.__path__ = [str(PROJECT / "flash_pipeline" / name)]
            sys.modules[full] = package


if __name__ == "__main__":
    _bare_packages()

from flash_pipeline.evaluation.book_scores import (  # noqa: E402
    REFERENCE,
    STATE,
    HeldOut,
    Score,
    as_json,
    score,
    verdict,
)
from flash_pipeline.exchange.simulation.flow_model import NO_LEAN  # noqa: E402
from flash_pipeline.exchange.simulation.market import SimulatedMarket  # noqa: E402
from flash_pipeline.model.imbalance import (  # noqa: E402
    BookRegression,
    LogisticImbalance,
    LogisticOrderFlow,
    LogisticState,
    SizeScale,
)
from flash_pipeline.model.order_book import OrderBookModel  # noqa: E402
from flash_pipeline.order_book.dataset import BookWindowConfig  # noqa: E402
from flash_pipeline.order_book.features import FEATURES, MID_MOVE  # noqa: E402
from flash_pipeline.order_book.prepared import PreparedBook, prepare_book  # noqa: E402
from flash_pipeline.order_book.simulated import simulate_book  # noqa: E402
from flash_pipeline.order_book.snapshots import BookSeries  # noqa: E402
from flash_pipeline.order_book.store import BookStore, day_start  # noqa: E402
from flash_pipeline.windows.split import SplitConfig  # noqa: E402

HORIZONS = (1, 10, 30)
FIRST_DAY = date(2026, 3, 1)


@dataclass
class Options:
    """Sizes; the defaults are those of the GPU run."""

    symbols: tuple[str, ...] = ("BTCUSDT",)
    hours: float = 24.0 * 9
    levels: int = 50
    history: int = 64
    stride: int = 5
    d_model: int = 128
    n_heads: int = 1
    n_layers: int = 3
    batch: int = 32
    epochs: int = 3
    rate: float = 5e-4
    limit_s: float = 600.0
    no_lean: bool = False


SMALL = Options(
    hours=6.0, levels=24, history=8, stride=10, d_model=32, n_layers=2, epochs=4, rate=2e-3
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it."""
    options, out, books, layouts, seeds = _parse(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began = time.monotonic()
    series = _stored(books, options) if books else _simulated(options)
    _say(began, f"{sum(len(each) for each in series):,} snapshots")
    config = BookWindowConfig(
        options.history,
        options.levels,
        HORIZONS,
        (0.0,) * len(HORIZONS),
        stride=options.stride,
    )
    book = prepare_book(series, config, SplitConfig(train=0.67, validation=0.11), device=device)
    ranges = [len(part) for part in (book.split.train_N, book.split.validation_N)]
    _say(began, f"windows {ranges} and {len(book.split.test_N)} held out, {book.test_days}")
    told: dict[str, np.ndarray] = {}
    story: dict[str, Any] = {}
    for name, regression in _regressions(book, options).items():
        regression.to(device).fit(_parts(book, book.split.train_N, 1024))
        told[name] = _probabilities(book, regression, book.split.test_N, 1024)
        _say(began, f"{name} fitted")
    for layout in layouts:
        for seed in range(seeds):
            name = layout if not seed else f"{layout}, seed {seed}"
            model, story[name] = _train(book, options, layout, seed, device, began)
            told[name] = _probabilities(book, model, book.split.test_N, 4 * options.batch)
    held = _held(book, options)
    rows = {name: score(held, told, name) for name in (REFERENCE, STATE)}
    for reference in rows:
        _print(rows[reference], reference)
        for name in story:
            print(f"{name}: {verdict(rows[reference], name, reference)}")
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "options": vars(options),
        "thresholds_bp": list(book.config.threshold_bp),
        "held_out": book.test_days,
        "windows": [*ranges, len(book.split.test_N)],
        "training": story,
        "scores": as_json(rows[REFERENCE]),
        "scores_over_state": as_json(rows[STATE]),
        "verdicts": {
            name: [verdict(rows[reference], name, reference) for reference in rows]
            for name in story
        },
        "seconds": time.monotonic() - began,
    }
    (out / "book_signal.json").write_text(json.dumps(result, indent=2) + "\n")
    np.savez_compressed(
        out / "probabilities.npz",
        time=book.windows.time_N[book.split.test_N],
        label=book.windows.label_NH[book.split.test_N],
        move=book.windows.move_NH[book.split.test_N],
        **{name: p.astype(np.float16) for name, p in told.items()},
    )
    return 0


def _print(rows: Sequence[Score], reference: str) -> None:
    for row in rows:
        print(
            f"{row.model:16s} horizon {row.horizon or 'all'!s:>4} log loss {row.log_loss:.4f} "
            f"accuracy {row.accuracy:.3f} mcc {row.mcc:.3f} rank {row.rank_correlation:.3f} "
            f"over {reference} {row.gain:+.4f} [{row.gain_low:+.4f}, {row.gain_high:+.4f}] "
            f"direction {row.direction_gain:+.4f} "
            f"[{row.direction_low:+.4f}, {row.direction_high:+.4f}]"
        )


def _parse(
    arguments: Sequence[str] | None,
) -> tuple[Options, Path, Path | None, list[str], int]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--books", type=Path, help="folder of stored books, else simulated ones")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--layouts", default="joint,axial")
    parser.add_argument("--seeds", type=int, default=1)
    for name, default in vars(Options()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true", default=None)
        else:
            kind = str if name == "symbols" else type(default)
            parser.add_argument(option, type=kind, default=None)
    given = vars(parser.parse_args(arguments))
    options = SMALL if given["small"] else Options()
    chosen = {name: given[name] for name in vars(options) if given[name] is not None}
    if "symbols" in chosen:
        chosen["symbols"] = tuple(chosen["symbols"].split(","))
    options = Options(**{**vars(options), **chosen})
    given["out"].mkdir(parents=True, exist_ok=True)
    return options, given["out"], given["books"], given["layouts"].split(","), given["seeds"]


def _simulated(options: Options) -> list[BookSeries]:
    market = SimulatedMarket(lean=NO_LEAN if options.no_lean else None)
    start = day_start(FIRST_DAY)
    end = start + int(options.hours * 3_600_000)
    return [
        simulate_book(market.order_flow(symbol), start, end, levels=options.levels)
        for symbol in options.symbols
    ]


def _stored(folder: Path, options: Options) -> list[BookSeries]:
    store = BookStore(folder)
    last = datetime.now(UTC).date() + timedelta(days=1)
    return [store.read(symbol, date(2018, 1, 1), last) for symbol in options.symbols]


def _regressions(book: PreparedBook, options: Options) -> dict[str, BookRegression]:
    scale = next(iter(book.scales.values()))
    size = SizeScale(scale.log_size_mean, scale.log_size_sd)
    count = len(HORIZONS)
    return {
        "imbalance": LogisticImbalance(options.levels, count, size),
        "order flow": LogisticOrderFlow(count, MID_MOVE, size, book.price_step),
        "state": LogisticState(
            options.history, options.levels, count, MID_MOVE, size, book.price_step
        ),
    }


def _parts(book: PreparedBook, index_N: np.ndarray, size: int) -> Any:  # noqa: ANN401
    for part in torch.split(torch.from_numpy(index_N).to(book.windows.device), size):
        yield tuple(book.windows.batch(part))


def _probabilities(book: PreparedBook, model: Any, index_N: np.ndarray, size: int) -> np.ndarray:  # noqa: ANN401
    neural = isinstance(model, OrderBookModel)
    found = []
    for x, valid, _ in _parts(book, index_N, size):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=neural and x.is_cuda):
            found.append(model.predict(x, valid).float().cpu())
    return np.asarray(torch.cat(found).numpy())


def _train(
    book: PreparedBook,
    options: Options,
    layout: str,
    seed: int,
    device: torch.device,
    began: float,
) -> tuple[OrderBookModel, dict[str, Any]]:
    torch.manual_seed(seed)
    model = OrderBookModel(
        options.levels,
        options.history,
        n_features=len(FEATURES),
        n_horizons=len(HORIZONS),
        d_model=options.d_model,
        d_ff=4 * options.d_model,
        n_heads=options.n_heads,
        n_layers=options.n_layers + (layout == "axial") * (options.n_layers % 2),
        layout=layout,
    ).to(device)
    train_N = book.split.train_N
    model.fit_scale(*book.windows.snapshots(train_N[:: max(1, len(train_N) // 4096)]))
    optimizer = torch.optim.AdamW(
        model.parameters(), options.rate, weight_decay=0.01, fused=device.type == "cuda"
    )
    steps = len(train_N) // options.batch
    generator, done = torch.Generator().manual_seed(seed), 0
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    start = time.monotonic()
    for epoch in range(options.epochs):
        order = torch.randperm(len(train_N), generator=generator)[: steps * options.batch]
        losses = []
        model.train()
        for part in torch.from_numpy(train_N)[order].to(device).split(options.batch):
            for group in optimizer.param_groups:
                group["lr"] = options.rate * _schedule(done, steps * options.epochs)
            losses.append(_step(model, optimizer, tuple(book.windows.batch(part))))
            done += 1
            if time.monotonic() - start > options.limit_s:
                break
        validation = _validation_loss(book, model.eval(), options)
        history.append({"train": float(torch.stack(losses).mean()), "validation": validation})
        _say(began, f"{layout} seed {seed} epoch {epoch + 1}: {history[-1]}")
        if best is None or validation < best[0]:
            best = validation, {k: v.clone() for k, v in model.state_dict().items()}
        if time.monotonic() - start > options.limit_s:
            break
    assert best is not None
    model.load_state_dict(best[1])
    seconds = time.monotonic() - start
    facts = {
        "attention": str(model.attention_choice),
        "parameters": model.n_parameters,
        "tokens": model.config.n_cells * options.history,
        "steps": done,
        "seconds": seconds,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
        "epochs": history,
    }
    return model, facts


def _step(model: OrderBookModel, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:  # noqa: ANN401
    x, valid, label = batch
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        loss = model.loss(model(x, valid), label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def _schedule(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def _validation_loss(book: PreparedBook, model: OrderBookModel, options: Options) -> float:
    index_N = book.split.validation_N
    p_NHK = torch.from_numpy(_probabilities(book, model, index_N, 4 * options.batch))
    label_NH = torch.from_numpy(book.windows.label_NH[index_N])
    return float(model.loss(p_NHK.clamp(min=1e-7).log(), label_NH))


def _held(book: PreparedBook, options: Options) -> HeldOut:
    windows, test_N = book.windows, book.split.test_N
    return HeldOut(
        windows.time_N[test_N],
        windows.label_NH[test_N],
        windows.move_NH[test_N],
        HORIZONS,
        options.stride * book.config.cadence_ms,
        book.config.cadence_ms,
        options.history,
    )


def _say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
