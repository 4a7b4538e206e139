"""The order book: stored snapshots, the model with what stands beside it, and the report."""

import dataclasses
import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.metadata import link, picture, prose, span
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.order_book import (
    ARCHIVE_URL,
    ArchivedDays,
    BookSeries,
    BookStore,
    archive_transport,
)
from flash_pipeline.order_book.quality import book_problems
from flash_pipeline.order_book.store import DAY_MS, day_of
from flash_pipeline.settings import Settings
from flash_pipeline.training.book_recipes import BookRecipe, get_book_recipe

if TYPE_CHECKING:
    from flash_pipeline.evaluation.book_report import BookReport

GROUP = "order_book"
"""Name of the group: no part of the hourly run."""


class BookResource(dg.ConfigurableResource):
    """The recipe of the order book's model, its defaults overridden where a field is given."""

    recipe: str | None = Field(
        default=None, description="auto, demo or full; by default what FLASH_PIPELINE_RECIPE says."
    )
    symbols: list[str] | None = Field(
        default=None, description="Perpetuals; one model serves them all."
    )
    hours: float | None = Field(
        default=None, gt=0, description="Hours simulated, up to the last midnight (UTC)."
    )
    levels: int | None = Field(default=None, ge=1, description="Levels of each side, at least 1.")
    history: int | None = Field(
        default=None, ge=1, description="Snapshots of a window, at least 1."
    )
    stride: int | None = Field(
        default=None, ge=1, description="Snapshots between windows, at least 1."
    )
    epochs: int | None = Field(default=None, ge=1, description="Passes over the training windows.")
    windows_per_epoch: int | None = Field(
        default=None, ge=1, description="Windows drawn for a pass."
    )
    seeds: int | None = Field(
        default=None,
        ge=1,
        description="Trainings of the joint model; the best by validation is kept.",
    )

    def resolve(self) -> BookRecipe:
        """Return the recipe with this run's overrides, checked."""
        recipe = get_book_recipe(self.recipe or Settings.from_environment().recipe)
        own = {"symbols": self.symbols and tuple(self.symbols), "hours": self.hours}
        own["stride"] = self.stride
        model = {"n_levels": self.levels, "history_length": self.history}
        train = {
            "epochs": self.epochs,
            "windows_per_epoch": self.windows_per_epoch,
            "seeds": self.seeds,
        }
        return dataclasses.replace(
            recipe,
            model=dataclasses.replace(recipe.model, **_given(model)),
            train=dataclasses.replace(recipe.train, **_given(train)),
            **_given(own),
        )


@config_of("order_book_snapshots")
class SnapshotsConfig(dg.Config):
    """Where the snapshots come from, where a real exchange is configured."""

    archive_days: list[str] = Field(
        default=[],
        description="Days (YYYY-MM-DD) to fetch from Bybit's archive of order books; by default "
        "what flash_pipeline collect-book has stored is used as it is.",
    )
    archive_url: str = Field(
        default=ARCHIVE_URL,
        description="Host that serves the archive: Bybit's, a mirror, or an embedded exchange, "
        "whose books are stored as simulated ones.",
    )
    strict: bool = Field(
        default=False,
        description="Refuse a damaged day of the archive; by default what is damaged is a gap.",
    )


@config_of("order_book_model")
class BookTrainingConfig(dg.Config):
    """Whether an equal training is repeated."""

    force: bool = Field(default=False, description="Train although an equal training exists.")


@dg.asset(group_name=GROUP, kinds={"bybit", "parquet"})
def order_book_snapshots(
    context: dg.AssetExecutionContext,
    config: SnapshotsConfig,
    pipeline: PipelineResource,
    order_book: BookResource,
    exchange: ExchangeResource,
) -> dg.MaterializeResult:
    """Snapshots of the order books: simulated, fetched from the archive, or as collected."""
    settings, recipe = pipeline.settings(), order_book.resolve()
    store = BookStore(settings.order_book)
    if not settings.bybit_urls:
        store.require_kind(synthetic=True)
        _simulate(store, recipe)
    elif config.archive_days:
        with exchange.tried_again():
            _fetch(context, store, recipe, config)
    elif store.synthetic():  # which an embedded exchange that is configured may have served
        with exchange.sources(settings) as sources:
            store.require_kind(synthetic=sources.bybit.is_synthetic())
    _require_books(store, recipe)
    series = read_books(settings, recipe)
    rows: list[dict[str, str | int]] = [
        {
            "symbol": each.symbol,
            "snapshots": len(each),
            "levels": each.levels,
            "from": span(int(each.time_T[0]), int(each.time_T[-1])),
            "gaps": len(each.gaps),
        }
        for each in series
    ]
    context.log.info(f"order_book_snapshots: {sum(len(each) for each in series):,} snapshots")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(len(each) for each in series),
            "books": dg.MetadataValue.table([dg.TableRecord(row) for row in rows]),
            "synthetic": store.synthetic() is not False,
            "cadence_ms": str(recipe.cadence_ms),
            "path": dg.MetadataValue.path(store.folder),
        }
    )


@dg.asset(
    deps=[order_book_snapshots], group_name=GROUP, kinds={"pytorch", "mlflow"}, pool="training"
)
def order_book_model(
    context: dg.AssetExecutionContext,
    config: BookTrainingConfig,
    pipeline: PipelineResource,
    order_book: BookResource,
) -> dg.MaterializeResult:
    """The order-book model, its axial variant and the regressions, on the same windows."""
    from flash_pipeline.training.book_results import results_folder
    from flash_pipeline.training.book_session import run_book_session

    settings, recipe = pipeline.settings(), order_book.resolve()
    store = BookStore(settings.order_book)
    session = run_book_session(
        settings,
        read_books(settings, recipe),
        recipe,
        synthetic=store.synthetic() is not False,
        tags={"dagster_run_id": context.run.run_id, "dagster_asset": "order_book_model"},
        force=config.force,
    )
    facts = session.results.facts
    trainings = [
        {
            "model": name,
            "validation loss": round(each["validation_loss"], 5),
            "parameters": each["parameters"],
            "seconds": each["seconds"],
            "resumed": each["resumed"] or "no",
            "attention": each["attention"],
        }
        for name, each in facts["trainings"].items()
    ]
    context.log.info(f"order_book_model: version {session.model.version}, {session.story}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{session.model.name}/{session.model.version}"),
        metadata={
            "story": session.story,
            "model_version": session.model.version,
            "mlflow_run": link(session.model.url),
            "trainings": dg.MetadataValue.table([dg.TableRecord(row) for row in trainings]),
            "windows": dg.MetadataValue.json(facts["windows"]),
            "validation_windows_judged": facts["judged"],
            "held_out": facts["held_out"],
            "tokens": str(facts["levels"] * 2 * facts["history_length"]),
            "validation_loss": facts["trainings"]["joint"]["validation_loss"],
            "synthetic": facts["synthetic"],
            "path": dg.MetadataValue.path(results_folder(settings)),
        },
    )


@dg.asset(deps=[order_book_model], group_name=GROUP, kinds={"numpy", "html"})
def order_book_report(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Held-out scores beside the regressions, what the model looks at, and who is champion."""
    from flash_pipeline.evaluation.book_report import CAPTIONS, score_table, write_book_report
    from flash_pipeline.training.book_results import BookResults, results_folder
    from flash_pipeline.training.tracking.sequences import (
        ORDER_BOOK_MODEL,
        add_sequence_report,
        sequence_version,
        settle_champion,
    )

    settings = pipeline.settings()
    results = BookResults.load(results_folder(settings))
    made_at = day_of(int(results.time_N[-1]))
    folder = settings.reports / f"order-book-{made_at}-v{results.facts['version']}"
    report = write_book_report(folder, results)
    model = sequence_version(settings, ORDER_BOOK_MODEL, results.facts["version"])
    add_sequence_report(settings, model, folder, report.figures())
    story = settle_champion(settings, ORDER_BOOK_MODEL, model.version, report.edge)
    context.log.info(f"order_book_report: {report.verdict}; {story}")
    shown = {
        name.removesuffix(".png"): picture(report.pictures[name], CAPTIONS[name])
        for name in CAPTIONS
    }
    return dg.MaterializeResult(
        metadata={
            "verdict": prose(report.verdict),
            "champion": story,
            "scores": dg.MetadataValue.table([dg.TableRecord(row) for row in score_table(report)]),
            "report": dg.MetadataValue.path(folder / "report.html"),
            "mlflow_run": link(model.url),
            "synthetic": results.facts["synthetic"],
            **shown,
            **_plotted(report),
        }
    )


@dg.asset_check(asset=order_book_snapshots, blocking=True)
def books_are_sound(pipeline: PipelineResource, order_book: BookResource) -> dg.AssetCheckResult:
    """No book is crossed, every level lies beyond the one before, times ascend."""
    problems = [
        problem
        for each in read_books(pipeline.settings(), order_book.resolve())
        for problem in book_problems(each)
    ]
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems[:5]) or None,
        metadata={"problems": len(problems)},
    )


@dg.asset_check(asset=order_book_snapshots)
def no_delta_is_missing(
    pipeline: PipelineResource, order_book: BookResource
) -> dg.AssetCheckResult:
    """No update was skipped, torn or crossed on the way; windows leave such times out."""
    kinds = ("missing", "torn", "crossed")
    gaps = [
        gap
        for each in read_books(pipeline.settings(), order_book.resolve())
        for gap in each.gaps
        if gap.kind in kinds
    ]
    return dg.AssetCheckResult(
        passed=not gaps,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(map(str, gaps[:5])) or None,
        metadata={"gaps": len(gaps)},
    )


CHECKS = (books_are_sound, no_delta_is_missing)
"""Checks of the snapshots."""


def read_books(settings: Settings, recipe: BookRecipe) -> list[BookSeries]:
    """Return all stored snapshots of the recipe's symbols.

    Where they are simulated because no exchange is configured, the recipe's hours alone.
    """
    store = BookStore(settings.order_book)
    found = [store.read(symbol, date(2018, 1, 1), date(9999, 1, 1)) for symbol in recipe.symbols]
    if settings.bybit_urls or not store.synthetic():
        return found
    end = max(int(each.time_T[-1]) for each in found) + recipe.cadence_ms
    return [each.between(end - _span_ms(recipe), end) for each in found]


def _simulate(store: BookStore, recipe: BookRecipe) -> None:
    from flash_pipeline.exchange.simulation.market import SimulatedMarket
    from flash_pipeline.order_book.simulated import simulate_book

    market = SimulatedMarket()
    end = int(datetime.now(UTC).timestamp() * 1000) // DAY_MS * DAY_MS
    for symbol in recipe.symbols:
        store.write(
            simulate_book(
                market.order_flow(symbol),
                end - _span_ms(recipe),
                end,
                levels=recipe.model.n_levels,
                cadence_ms=recipe.cadence_ms,
            ),
            synthetic=True,
        )


def _fetch(
    context: dg.AssetExecutionContext, store: BookStore, recipe: BookRecipe, config: SnapshotsConfig
) -> None:
    """Rebuild the books of the days that the configuration names, unless they are stored."""
    archived = ArchivedDays(
        store, recipe.model.n_levels, recipe.cadence_ms, config.archive_url, config.strict
    )
    days = [_parse_day(text) for text in config.archive_days]
    with archive_transport(config.archive_url) as transport:
        for symbol, day in itertools.product(recipe.symbols, days):
            story = "is rebuilt" if archived.add(transport, symbol, day) else "is stored already"
            context.log.info(f"order_book_snapshots: {symbol} on {day} {story}")


def _require_books(store: BookStore, recipe: BookRecipe) -> None:
    for symbol in recipe.symbols:
        if not store.days(symbol):
            raise NotEnoughHistory(
                f"{store.folder} holds no book of {symbol}: run flash_pipeline collect-book for "
                "some days, or name archive_days"
            )


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidConfig(f"archive_days has {text!r}: expected YYYY-MM-DD") from error


def _span_ms(recipe: BookRecipe) -> int:
    return int(recipe.hours * 3_600_000) // recipe.cadence_ms * recipe.cadence_ms


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _plotted(report: "BookReport") -> dict[str, float]:
    """Return the measures that the UI draws over time."""
    return {
        f"{row.model}/{measure}": getattr(row, measure)
        for row in report.scores
        if row.horizon == 0
        for measure in ("log_loss", "accuracy", "mcc", "gain")
        if getattr(row, measure) == getattr(row, measure)
    }
