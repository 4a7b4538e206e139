"""What the UI shows of an asset beside its description: owner, tags, columns, freshness."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from flash_pipeline import __version__
from flash_pipeline.bybit import INSTRUMENT_SCHEMA, TICKER_SCHEMA
from flash_pipeline.defs.assets.backtest import PREDICTIONS_SCHEMA
from flash_pipeline.defs.assets.market_data import FEATURES_SCHEMA
from flash_pipeline.defs.assets.model import WINDOWS_SCHEMA
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import column_schema
from flash_pipeline.features import CATALOG
from flash_pipeline.market import CANDLE_SCHEMA, FUNDING_SCHEMA, MARK_CANDLE_SCHEMA
from flash_pipeline.order_book.snapshots import BOOK_SCHEMA
from flash_pipeline.training.sources import code_hash

DATA, RESEARCH = "team:data", "team:research"

HOURLY_FRESHNESS = dg.FreshnessPolicy.time_window(
    warn_window=timedelta(hours=2), fail_window=timedelta(hours=3)
)
"""What every hour makes: a warning after one missed run, a failure (red) after two."""

REFERENCE_FRESHNESS = dg.FreshnessPolicy.time_window(
    warn_window=timedelta(hours=9), fail_window=timedelta(hours=17)
)
"""The same of what is refreshed every 8 hours."""


@dataclass(frozen=True)
class Card:
    """What the assets of a group have in common."""

    owner: str
    """Team that answers for them."""
    domain: str
    """What they are about."""
    cadence: str
    """How often they are materialized."""


CARDS: Mapping[str, Card] = {
    "market_data": Card(DATA, domain="market", cadence="hourly"),
    "reference": Card(DATA, domain="market", cadence="8-hourly"),
    "model": Card(RESEARCH, domain="model", cadence="hourly"),
    "verdict": Card(RESEARCH, domain="trading", cadence="hourly"),
    "evaluation": Card(RESEARCH, domain="evaluation", cadence="on-request"),
    "audits": Card(RESEARCH, domain="evaluation", cadence="on-request"),
    "order_book": Card(RESEARCH, domain="order-book", cadence="on-request"),
    "portfolio": Card(RESEARCH, domain="portfolio", cadence="on-request"),
}
"""By group."""

_OF_BYBIT = (
    *("instruments", "funding", "mark_klines", "tickers"),
    *("order_book_snapshots", "market_candles"),
)
SOURCES = dict.fromkeys(_OF_BYBIT, "bybit") | {
    "klines": "exchange",  # Yahoo Finance too, where a symbol is taken from there
}
"""Assets whose rows come from outside; all others are computed here."""

CADENCES = {"baselines": "on-request"}
"""Where an asset is apart from its group."""

FRESHNESS: Mapping[str, dg.FreshnessPolicy] = {
    **dict.fromkeys(("klines", "features", "forecasts", "champion"), HOURLY_FRESHNESS),
    **dict.fromkeys(("funding", "mark_klines", "tickers"), REFERENCE_FRESHNESS),
}
"""What turns red when it is late."""

SCHEMAS: Mapping[str, dg.TableSchema] = {
    "instruments": column_schema(INSTRUMENT_SCHEMA),
    "klines": column_schema(CANDLE_SCHEMA),
    "features": FEATURES_SCHEMA,
    "funding": column_schema(FUNDING_SCHEMA),
    "mark_klines": column_schema(MARK_CANDLE_SCHEMA),
    "tickers": column_schema(TICKER_SCHEMA),
    "order_book_snapshots": column_schema(BOOK_SCHEMA),
    "market_candles": column_schema(CANDLE_SCHEMA),
    "window_tensors": WINDOWS_SCHEMA,
    "backtest_report": PREDICTIONS_SCHEMA,
}
"""Columns that are known before an asset is materialized. Those of the forecasts and their record
belong to packages that import torch: these assets show them once they are materialized."""


def _code_versions() -> dict[str, str]:
    """Return what the UI compares to tell an asset made by older code, where that is useful."""
    formulas = "\n".join(f"{each.name} {each.sql}" for each in CATALOG)
    training = code_hash()
    return {
        "features": hashlib.sha256(formulas.encode()).hexdigest()[:16],
        "window_tensors": training,
        "trained_model": training,
        "baselines": training,
        "walk_forward_plan": training,
        "backtest_report": __version__,
        "order_book_model": training,
        "portfolio_model": training,
    }


_CODE_VERSIONS = _code_versions()


def with_card(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return an asset's specification with owner, tags, columns, freshness and code version."""
    name, card = spec.key.to_user_string(), CARDS[spec.group_name or ""]
    schema = {"dagster/column_schema": SCHEMAS[name]} if name in SCHEMAS else {}
    return spec.merge_attributes(
        owners=[card.owner],
        tags={
            "domain": card.domain,
            "cadence": CADENCES.get(name, card.cadence),
            "source": SOURCES.get(name, "computed"),
        },
        metadata={**schema, **column_lineage(name)},
    ).replace_attributes(
        freshness_policy=FRESHNESS.get(name), code_version=_CODE_VERSIONS.get(name)
    )
