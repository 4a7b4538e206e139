"""The assets: candles, features, windows, model and verdict, and what stands beside them."""

from collections.abc import Sequence

import dagster as dg

from flash_pipeline.defs.assets import (
    audits,
    backtest,
    champion,
    forecasts,
    live,
    market_data,
    model,
    order_book,
    portfolio,
    reference,
    walk_forward,
)
from flash_pipeline.defs.cards import with_card

_WRITTEN: Sequence[dg.AssetsDefinition] = [
    market_data.instruments,
    market_data.klines,
    market_data.features,
    reference.funding,
    reference.mark_klines,
    reference.tickers,
    model.window_tensors,
    model.trained_model,
    model.baselines,
    backtest.backtest_report,
    champion.champion,
    forecasts.forecasts,
    live.live_record,
    audits.leak_audits,
    walk_forward.walk_forward_plan,
    walk_forward.walk_forward_folds,
    walk_forward.walk_forward,
    order_book.order_book_snapshots,
    order_book.order_book_model,
    order_book.order_book_report,
    portfolio.market_candles,
    portfolio.market_panel,
    portfolio.portfolio_model,
    portfolio.portfolio_report,
]

ASSETS: Sequence[dg.AssetsDefinition] = list(dg.map_asset_specs(with_card, _WRITTEN))
"""Every asset of the project, with what the UI shows of it before it is materialized."""

ON_REQUEST = (walk_forward.GROUP, audits.GROUP, order_book.GROUP, portfolio.GROUP)
"""Groups that are materialized when someone asks for them."""

HOURLY: Sequence[dg.AssetKey] = [
    asset.key
    for asset in ASSETS
    if asset.group_names_by_key[asset.key] not in {reference.GROUP, *ON_REQUEST}
    and asset.key != model.baselines.key
]
"""What every hour needs: all but the reference data, the registered baselines, without which the
report fits its own, and what is run when someone asks for it."""
