"""The assets: candles, features, windows, model and verdict, and what stands beside them."""

from collections.abc import Sequence

import dagster as dg

from flash_pipeline.defs.assets import backtest, champion, forecasts, market_data, model, reference

ASSETS: Sequence[dg.AssetsDefinition] = [
    market_data.instruments,
    market_data.klines,
    market_data.features,
    reference.funding,
    reference.mark_klines,
    reference.tickers,
    model.window_tensors,
    model.trained_model,
    backtest.backtest_report,
    champion.champion,
    forecasts.forecasts,
]
"""Every asset of the project."""

HOURLY: Sequence[dg.AssetKey] = [
    asset.key for asset in ASSETS if asset.group_names_by_key[asset.key] != reference.GROUP
]
"""What every hour needs: all but the reference data, which a forecast does not wait for."""
