"""The models of order books on one set of windows: trained, fitted, asked, looked into.

Shape letters: N windows, H horizons.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.model.grid_analysis import last_moment_attention
from flash_pipeline.model.grid_config import LayoutName, OrderBookConfig
from flash_pipeline.model.imbalance import (
    BookRegression,
    LogisticImbalance,
    LogisticOrderFlow,
    LogisticState,
    SizeScale,
)
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.order_book import BookSeries
from flash_pipeline.order_book.dataset import BookWindowConfig, BookWindows
from flash_pipeline.order_book.features import MID_MOVE
from flash_pipeline.order_book.prepared import PreparedBook, prepare_book
from flash_pipeline.training.book_recipes import VARIANTS, BookRecipe
from flash_pipeline.training.book_results import BookAttention
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.loop import Fitted, fit
from flash_pipeline.training.runtime import seeded
from flash_pipeline.training.source import CutBatches

LOOKED_AT = 64
"""Held-out windows whose attention is gathered, at most."""

JUDGED = 512
"""Validation windows that an epoch is judged by, at most, evenly over the range. At full size there
are some 2,900 and each shares 97 % of its snapshots with the next: to judge by all of them took as
long as the epoch's training, for a choice between a few epochs on the same windows."""

_REGRESSED = 1_024  # windows whose regressors are made at a time
_FORECAST_TOKENS = 2**18
_SCALED = 4_096  # snapshots that inputs are standardised by


def prepare_for(
    recipe: BookRecipe, series: Sequence[BookSeries], device: torch.device
) -> PreparedBook:
    """Return the recipe's windows of some books, split by day."""
    config = BookWindowConfig(
        recipe.model.history_length,
        recipe.model.n_levels,
        recipe.horizons,
        (0.0,) * len(recipe.horizons),
        recipe.cadence_ms,
        recipe.stride,
    )
    return prepare_book(series, config, recipe.split, flat=recipe.flat, device=device)


def batches_of(book: PreparedBook) -> CutBatches:
    """Return the windows as a training takes them."""
    windows = book.windows
    return CutBatches(
        windows.batch,
        windows.device,
        book.config.history_length,
        targets=windows.labels,
        has_gaps=windows.has_gaps,
    )


@dataclass(frozen=True)
class BookTraining:
    """One trained model."""

    model: OrderBookModel
    """With the weights of its best epoch."""
    fitted: Fitted
    """Its epochs, and how its steps ran."""
    seed: int
    """Of weights and order."""
    seconds: float
    """How long it took; after a resume with what was done up to the checkpoint."""
    judged: int
    """Validation windows that its epochs were judged by."""
    resumed: str | None = None
    """Where a checkpoint let it go on, in words; None where it ran through."""

    @property
    def loss(self) -> float:
        """Best validation loss, over the windows that were judged."""
        return min(epoch.validation_loss for epoch in self.fitted.history)

    def facts(self) -> dict[str, Any]:
        """Return what a report tells of it."""
        return {
            "validation_loss": self.loss,
            "epochs": [dataclasses.asdict(epoch) for epoch in self.fitted.history],
            "attention": self.fitted.attention,
            "form": self.fitted.form,
            "parameters": self.model.n_parameters,
            "layers": self.model.config.n_layers,
            "supervision": self.model.config.supervision,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "judged": self.judged,
            "resumed": self.resumed,
        }


def train_variants(
    book: PreparedBook, recipe: BookRecipe, checkpoint: Checkpoint | None = None
) -> dict[str, BookTraining]:
    """Train every variant and return them by layout.

    The joint model is trained from every seed; the one of the lowest validation loss is kept.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        Each training has one of its members: of a killed session those that are finished are not
        trained again, and the one that was running goes on.
    """
    seeds, count = recipe.train.seeds, recipe.train.seeds + len(VARIANTS) - 1

    def train(number: int, layout: LayoutName, seed: int) -> BookTraining:
        own = None if checkpoint is None else checkpoint.member(number, count)
        return train_one(book, recipe, recipe.variant(layout), seed, own)

    first = recipe.train.seed
    joint = [train(number, "joint", first + number) for number in range(seeds)]
    trained = {"joint": min(joint, key=lambda each: each.loss)}
    for number, layout in enumerate(VARIANTS[1:], seeds):
        trained[layout] = train(number, layout, first)
    return trained


def train_one(
    book: PreparedBook,
    recipe: BookRecipe,
    config: OrderBookConfig,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> BookTraining:
    """Train one model on the training windows, and leave it with its best weights.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        As for `fit`.
    """
    began = time.monotonic()
    train_N, judged_N = book.split.train_N, thinned(book.split.validation_N, JUDGED)
    with seeded(seed):
        model = OrderBookModel.of(config).to(book.windows.device)
        thinned_N = train_N[:: max(1, len(train_N) // _SCALED)]
        model.fit_scale(*book.windows.snapshots(thinned_N))
        fitted = fit(
            model,
            batches_of(book),
            train_N,
            judged_N,
            dataclasses.replace(recipe.train, seed=seed),
            epochs=recipe.train.epochs,
            checkpoint=checkpoint,
        )
    seconds, resumed = time.monotonic() - began, None
    if checkpoint is not None:
        seconds, resumed = seconds + checkpoint.seconds_before, checkpoint.resumed
    return BookTraining(model.eval(), fitted, seed, seconds, len(judged_N), resumed)


def thinned(index_N: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return at most so many of the positions, evenly, the first and the last among them."""
    chosen = np.linspace(0, len(index_N) - 1, min(len(index_N), most)).round()
    return index_N[chosen.astype(np.int64)]


def fit_regressions(book: PreparedBook) -> dict[str, BookRegression]:
    """Return logistic imbalance, order flow and state, fitted on the training windows."""
    scale = next(iter(book.scales.values()))  # of log sizes all symbols have one
    size = SizeScale(scale.log_size_mean, scale.log_size_sd)
    config, count = book.config, len(book.config.horizons)
    models: dict[str, BookRegression] = {
        "imbalance": LogisticImbalance(config.levels, count, size),
        "order flow": LogisticOrderFlow(count, MID_MOVE, size, book.price_step),
        "state": LogisticState(
            config.history_length, config.levels, count, MID_MOVE, size, book.price_step
        ),
    }
    for model in models.values():
        model.to(book.windows.device).fit(_parts(book.windows, book.split.train_N, _REGRESSED))
    return models


def forecasts_of(
    book: PreparedBook | BookWindows,
    model: OrderBookModel | BookRegression,
    index_N: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the probabilities [N, H, 3] of windows."""
    windows = book.windows if isinstance(book, PreparedBook) else book
    config = windows.config
    rows = max(1, _FORECAST_TOKENS // (config.history_length * config.levels * 2))
    neural = isinstance(model, OrderBookModel)
    found: list[Tensor] = []
    for x, valid, _ in _parts(windows, index_N, rows):
        with torch.autocast("cpu", enabled=False) if not neural else autocast(x.device):
            found.append(model.predict(x, valid).float().cpu())
    return np.asarray(torch.cat(found).numpy(), np.float32)


def gather_attention(book: PreparedBook, model: OrderBookModel) -> BookAttention:
    """Return where the last snapshot looked, mean over spread-out held-out windows and heads."""
    chosen = book.split.test_N[:: max(1, len(book.split.test_N) // LOOKED_AT)][:LOOKED_AT]
    cells: list[Tensor] = []
    lags: list[Tensor] = []
    for x, valid, _ in _parts(book.windows, chosen, 4):
        with autocast(x.device):  # the kernels of the training; in float32 a GPU has none as fast
            seen = last_moment_attention(model, x, valid)
        cells.append(seen.by_cell_LBHGK.mean(2))
        lags.append(seen.by_lag_LBHT.mean(2))
    return BookAttention(
        np.asarray(torch.cat(cells, 1).mean(1).cpu().numpy(), np.float32),
        np.asarray(torch.cat(lags, 1).mean(1).cpu().numpy(), np.float32),
        len(chosen),
    )


def _parts(
    windows: BookWindows, index_N: npt.NDArray[np.int64], rows: int
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    for part in torch.split(torch.from_numpy(index_N).to(windows.device), rows):
        batch = windows.batch(part)
        yield batch.book_BTLSF, batch.valid_BTLS, batch.label_BH
