"""What a model's forecasts are worth: out of sample, after costs, beside the champion's."""

from flash_pipeline.evaluation.contest import (
    Contest,
    Contestant,
    evaluate_challenger,
    require_dates,
)
from flash_pipeline.evaluation.forecasts import (
    FORECAST_SCHEMA,
    FORECASTS_TABLE,
    ForecastRecord,
    audit_forecasts,
    latest_forecasts,
    make_forecast,
    record_forecast,
)
from flash_pipeline.evaluation.promotion import Decision, decide_promotion

__all__ = [
    "FORECASTS_TABLE",
    "FORECAST_SCHEMA",
    "Contest",
    "Contestant",
    "Decision",
    "ForecastRecord",
    "audit_forecasts",
    "decide_promotion",
    "evaluate_challenger",
    "latest_forecasts",
    "make_forecast",
    "record_forecast",
    "require_dates",
]
