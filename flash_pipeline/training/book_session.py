"""One session on order books: every model on the same windows, and a registered challenger.

    books ──► windows, split by day ──► joint (per seed), axial ──► the best joint is registered
                                   └──► imbalance, order flow, state  and all held-out forecasts
                                                                      go into `BookResults`

Shape letters: N windows, H horizons, K movements.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.errors import BundleMismatch, DataError
from flash_pipeline.model.grid_config import OrderBookConfig
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.order_book import BookSeries
from flash_pipeline.order_book.dataset import BookWindows
from flash_pipeline.order_book.features import FEATURES, BookScale
from flash_pipeline.order_book.labels import classify
from flash_pipeline.order_book.prepared import PreparedBook
from flash_pipeline.settings import Settings
from flash_pipeline.training.book_models import (
    fit_regressions,
    forecasts_of,
    gather_attention,
    prepare_for,
    train_variants,
)
from flash_pipeline.training.book_recipes import BookRecipe
from flash_pipeline.training.book_results import BookResults, results_folder
from flash_pipeline.training.bundle import default_device
from flash_pipeline.training.ceilings import require_gpu
from flash_pipeline.training.checkpoint import Checkpoint, kept
from flash_pipeline.training.figures import loss_curve
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.runtime import fitting_threads
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.tracking.sequences import (
    FINGERPRINT_TAG,
    ORDER_BOOK_MODEL,
    RegisteredSequence,
    find_sequence,
    load_sequence_bundle,
    point_sequence,
    register_sequence_model,
    sequence_at,
)

CHAMPION_NAME = "champion"
"""Name of the registered champion's forecasts, where they could be made."""

CHECKPOINTS = "order_book"
"""Folder below those of the settings that holds the checkpoints of a session's trainings."""


@dataclass(frozen=True)
class BookSession:
    """What a session gave."""

    model: RegisteredSequence
    """The challenger."""
    results: BookResults
    """Held-out forecasts of every model."""
    history: tuple[Epoch, ...]
    """Epochs of the registered training; empty where it was found in the registry."""
    story: str
    """In words: what was trained."""


def run_book_session(
    settings: Settings,
    series: Sequence[BookSeries],
    recipe: BookRecipe,
    *,
    synthetic: bool,
    tags: Mapping[str, str],
    force: bool = False,
    device: torch.device | None = None,
) -> BookSession:
    """Train all models on the same windows, register the best joint one, and store the forecasts.

    All share windows, split and loss, and are judged by the windows' last labels; the neural ones
    learn from every snapshot's, and share early stopping and budget too. What
    was trained already, by the same recipe on the same books by the same code, is taken as it is.
    A session that was killed goes on from its checkpoints where it is asked for again: finished
    trainings are read, the one that was running continues, with the losses and weights of a session
    that was never killed.

    Parameters
    ----------
    series : sequence of BookSeries
        One for each symbol of the recipe, in its order.
    synthetic : bool
        Whether a simulator made the books.
    tags : mapping
        Further tags of the MLflow run and the version.
    force : bool
        Train although an equal session exists.

    Raises
    ------
    NotEnoughHistory, DataError
        As for `prepare_book`.
    GpuUnavailable
        As for `require_gpu`.
    TrainingDiverged, OutOfMemory
        As for `fit`; nothing is registered then. Of a training that diverged no checkpoint stays.
    """
    fingerprint = recipe.fingerprint(snapshot_of(series))
    known = None if force else find_sequence(settings, ORDER_BOOK_MODEL, fingerprint)
    if known is not None:
        stored = _stored_results(settings, known)
        if stored is not None:
            point_sequence(settings, ORDER_BOOK_MODEL, "challenger", known.version)
            return BookSession(known, stored, (), "trained before on exactly these books")
    if device is None:
        require_gpu(settings, recipe.name)
    folder, minutes = settings.checkpoints / CHECKPOINTS, recipe.train.checkpoint_minutes
    checkpoint = Checkpoint(folder, fingerprint, "random weights", minutes)
    checkpoint.remove_others()
    device = device or default_device()
    with fitting_threads(recipe.model.d_model), kept(checkpoint):
        return _run(
            settings, series, recipe, fingerprint, device, tags, synthetic, checkpoint, known
        )


def _run(
    settings: Settings,
    series: Sequence[BookSeries],
    recipe: BookRecipe,
    fingerprint: str,
    device: torch.device,
    tags: Mapping[str, str],
    synthetic: bool,
    checkpoint: Checkpoint,
    known: RegisteredSequence | None,
) -> BookSession:
    book = prepare_for(recipe, series, device)
    champion = _champion_forecasts(settings, series, book)
    forecasts = {
        name: forecasts_of(book, model, book.split.test_N)
        for name, model in fit_regressions(book).items()
    }
    trained = train_variants(book, recipe, checkpoint)
    forecasts |= {
        name: forecasts_of(book, each.model, book.split.test_N) for name, each in trained.items()
    }
    joint = trained["joint"]
    details = describe(book, recipe, series, synthetic=synthetic)
    example = book.windows.batch(_index(book, book.split.test_N[:1]))
    model = register_sequence_model(
        settings,
        ORDER_BOOK_MODEL,
        GridBundle.of(joint.model, details),
        params={"recipe": recipe.to_dict()},
        metrics={"validation_loss": joint.loss, "seconds": joint.seconds},
        figures={"loss.png": loss_curve(joint.fitted.history, title="Loss of the joint model")},
        tags={
            **tags,
            FINGERPRINT_TAG: fingerprint,
            "recipe": recipe.name,
            "attention": joint.fitted.attention,
            "resumed": joint.resumed or "no",
        },
        example=example.book_BTLSF.cpu().numpy(),
        known=known,
    )
    facts = {
        **details,
        "version": model.version,
        "champion": champion[0],
        "trainings": {name: each.facts() for name, each in trained.items()},
        "held_out": book.test_days,
        "stride_ms": recipe.stride * recipe.cadence_ms,
        "judged": joint.judged,
        "windows": [
            len(part) for part in (book.split.train_N, book.split.validation_N, book.split.test_N)
        ],
    }
    test_N = book.split.test_N
    results = BookResults(
        book.windows.time_N[test_N],
        book.windows.symbol_N[test_N],
        book.windows.label_NH[test_N],
        book.windows.move_NH[test_N],
        forecasts | champion[1],
        gather_attention(book, joint.model),
        facts,
    )
    results.save(results_folder(settings))
    return BookSession(model, results, joint.fitted.history, "trained on new books")


def snapshot_of(series: Sequence[BookSeries]) -> str:
    """Return a hash of the books, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for each in series:
        digest.update(f"{each.symbol} {len(each)} {each.levels}\n".encode())
        digest.update(np.ascontiguousarray(each.time_T).tobytes())
        digest.update(np.ascontiguousarray(each.mid_T).tobytes())
        digest.update(np.ascontiguousarray(each.book_TLS2).tobytes())
    return digest.hexdigest()[:16]


def describe(
    book: PreparedBook, recipe: BookRecipe, series: Sequence[BookSeries], *, synthetic: bool
) -> dict[str, Any]:
    """Return what a bundle says of its inputs, its outputs, and what it was fitted on."""
    windows, split = book.windows, book.split
    return {
        "recipe": recipe.name,
        "symbols": list(windows.symbols),
        "inputs": list(FEATURES),
        "levels": book.config.levels,
        "history_length": book.config.history_length,
        "cadence_ms": book.config.cadence_ms,
        "horizons": list(book.config.horizons),
        "threshold_bp": list(book.config.threshold_bp),
        "scales": {symbol: scale.to_json() for symbol, scale in book.scales.items()},
        "snapshot": snapshot_of(series),
        "synthetic": synthetic,
        "train_from": int(windows.time_N[split.train_N[0]]),
        "train_until": int(windows.label_end_N[split.train_N].max()),
        "seen_until": int(windows.label_end_N[split.validation_N].max()),
        "tested_from": int(windows.time_N[split.test_N[0]]),
    }


def comparable(bundle: GridBundle, book: PreparedBook) -> bool:
    """Say whether a stored model's forecasts of the held-out windows can be compared with others.

    Not where it predicts something else, of other symbols, horizons, windows or classes (another
    threshold would put some held-out move into another class), and not where it has seen some of
    the held-out range.
    """
    mine, config, details = book.config, bundle.config, bundle.details
    same = (
        isinstance(config, OrderBookConfig)
        and config.n_levels == mine.levels
        and config.history_length == mine.history_length
        and details.get("horizons") == list(mine.horizons)
        and details.get("cadence_ms") == mine.cadence_ms
        and set(book.windows.symbols) <= set(details.get("scales", {}))
    )
    windows, test_N = book.windows, book.split.test_N
    start = int(windows.time_N[test_N[0]])
    if not same or int(details.get("seen_until", start + 1)) > start:
        return False
    theirs_NH = classify(windows.move_NH[test_N], details["threshold_bp"])
    return np.array_equal(theirs_NH, windows.label_NH[test_N])


def _champion_forecasts(
    settings: Settings, series: Sequence[BookSeries], book: PreparedBook
) -> tuple[str | None, dict[str, npt.NDArray[np.float32]]]:
    """Return the champion's version and its forecasts of the held-out windows, by its own scales.

    No forecasts where they cannot be compared.
    """
    champion = sequence_at(settings, ORDER_BOOK_MODEL)
    if champion is None:
        return None, {}
    try:
        bundle = load_sequence_bundle(settings, ORDER_BOOK_MODEL)
    except BundleMismatch:
        return champion.version, {}
    if not comparable(bundle, book):
        return champion.version, {}
    scales = {name: BookScale(**each) for name, each in bundle.details["scales"].items()}
    windows = BookWindows(series, scales, book.config, book.windows.device)
    model = bundle.model(book.windows.device)
    assert isinstance(model, OrderBookModel)
    return champion.version, {CHAMPION_NAME: forecasts_of(windows, model, book.split.test_N)}


def _stored_results(settings: Settings, known: RegisteredSequence) -> BookResults | None:
    """Return the stored results of a version; None where they are another's or unreadable."""
    try:
        results = BookResults.load(results_folder(settings))
    except DataError:
        return None
    return results if results.facts.get("version") == known.version else None


def _index(book: PreparedBook, index_N: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(index_N).to(book.windows.device)
