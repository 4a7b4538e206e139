"""Asset checks: what must hold before anything downstream is built, and what is worth a look."""

from collections.abc import Sequence

import dagster as dg

from flash_pipeline.defs.assets import order_book, portfolio
from flash_pipeline.defs.checks import evaluation, freshness, market

CHECKS: Sequence[dg.AssetChecksDefinition] = [
    market.klines_keep_the_contract,
    market.klines_are_complete,
    market.klines_are_plausible,
    market.mark_klines_keep_the_contract,
    market.mark_klines_are_complete,
    market.funding_keeps_the_contract,
    market.features_match_the_candles,
    freshness.features_are_fresh,
    market.newest_window_is_fresh,
    evaluation.champion_does_not_leak,
    evaluation.forecasts_are_unique,
    freshness.forecasts_are_fresh,
    evaluation.live_forecasts_keep_the_backtests_promise,
    evaluation.features_have_not_drifted,
    *order_book.CHECKS,
    *portfolio.CHECKS,
]
"""Every check of the project."""
