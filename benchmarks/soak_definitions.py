"""What the soak's `dagster dev` loads: the project's definitions, small, with short days."""

import os

import dagster as dg

from flash_pipeline import definitions
from flash_pipeline.defs import retention
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource

DAY_VARIABLE = "SOAK_DAY_MS"
"""Milliseconds that a day of the exchange takes: what is so old has grown a day old."""

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MONTHS = 2

retention._DAY_MS = int(os.environ.get(DAY_VARIABLE, retention._DAY_MS))

defs = dg.Definitions(
    assets=definitions.defs.assets,
    asset_checks=definitions.defs.asset_checks,
    jobs=definitions.defs.jobs,
    executor=definitions.defs.executor,
    schedules=definitions.defs.schedules,
    sensors=definitions.defs.sensors,
    loggers=definitions.defs.loggers,
    resources={
        **(definitions.defs.resources or {}),
        "pipeline": PipelineResource(
            recipe="demo", symbols=list(SYMBOLS), lookback=32, months=MONTHS, epochs=1
        ),
        "exchange": ExchangeResource(retry_delay_s=3.0),
    },
)
