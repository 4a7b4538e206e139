"""What a model's forecasts are worth: out of sample, after costs, beside the champion's."""

from flash_pipeline.evaluation.contest import (
    Contest,
    Contestant,
    evaluate_challenger,
    require_dates,
)
from flash_pipeline.evaluation.drift import FeatureDrift, feature_drift
from flash_pipeline.evaluation.forecasts import (
    FORECAST_SCHEMA,
    FORECASTS_TABLE,
    ForecastRecord,
    audit_forecasts,
    latest_forecasts,
    make_forecast,
    record_forecast,
    score_forecasts,
)
from flash_pipeline.evaluation.gate import GateRules
from flash_pipeline.evaluation.live import (
    LIVE_SCHEMA,
    LiveCheck,
    backtest_forecasts,
    check_live,
    live_record,
    scored_forecasts,
)
from flash_pipeline.evaluation.promotion import Decision, History, decide_promotion
from flash_pipeline.evaluation.promotion_log import (
    PROMOTIONS_TABLE,
    read_history,
    read_promotions,
    roll_back,
    settle,
)
from flash_pipeline.evaluation.rivals import Rival, fit_rivals

__all__ = [
    "FORECASTS_TABLE",
    "FORECAST_SCHEMA",
    "LIVE_SCHEMA",
    "PROMOTIONS_TABLE",
    "Contest",
    "Contestant",
    "Decision",
    "FeatureDrift",
    "ForecastRecord",
    "GateRules",
    "History",
    "LiveCheck",
    "Rival",
    "audit_forecasts",
    "backtest_forecasts",
    "check_live",
    "decide_promotion",
    "evaluate_challenger",
    "feature_drift",
    "fit_rivals",
    "latest_forecasts",
    "live_record",
    "make_forecast",
    "read_history",
    "read_promotions",
    "record_forecast",
    "require_dates",
    "roll_back",
    "score_forecasts",
    "scored_forecasts",
    "settle",
]
