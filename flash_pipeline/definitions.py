"""What `workspace.yaml` loads: every asset, check, job, schedule and resource."""

import dagster as dg

from flash_pipeline.defs.alerts import ALERTS
from flash_pipeline.defs.assets import ASSETS
from flash_pipeline.defs.assets.order_book import BookResource
from flash_pipeline.defs.assets.walk_forward import predictions_are_not_flat
from flash_pipeline.defs.checks import CHECKS
from flash_pipeline.defs.jobs import (
    audit,
    backfill,
    evaluate,
    full_retrain,
    hourly,
    order_book,
    portfolio,
    refresh,
)
from flash_pipeline.defs.loggers import console
from flash_pipeline.defs.market_resource import MarketResource
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.defs.retention import daily_retention, retention

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=[*CHECKS, predictions_are_not_flat],
    jobs=[refresh, full_retrain, backfill, evaluate, audit, retention, order_book, portfolio],
    # One process for a run: starting one per step takes longer than most steps, and the lock on
    # the home is the process's.
    executor=dg.in_process_executor,
    schedules=[hourly, daily_retention],
    sensors=ALERTS,
    loggers={"console": console},
    resources={
        "pipeline": PipelineResource(),
        "market": MarketResource(),
        "order_book": BookResource(),
        "exchange": ExchangeResource(),
    },
)
