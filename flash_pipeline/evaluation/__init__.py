"""What a model's forecasts are worth: out of sample, after costs, beside the champion's."""

from flash_pipeline.evaluation.contest import (
    Beside,
    Contest,
    evaluate_challenger,
    require_dates,
)
from flash_pipeline.evaluation.drift import FeatureDrift, drift_warnings, feature_drift
from flash_pipeline.evaluation.entrants import Contestant
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
    LIVE_TABLE,
    LiveCheck,
    backtest_forecasts,
    check_live,
    live_record,
    record_live,
    scored_forecasts,
)
from flash_pipeline.evaluation.promotion import Decision, History, decide_promotion
from flash_pipeline.evaluation.promotion_log import (
    PROMOTIONS_SCHEMA,
    PROMOTIONS_TABLE,
    read_history,
    read_promotions,
    settle,
)
from flash_pipeline.evaluation.rivals import Field, Rival, gather_rivals
from flash_pipeline.evaluation.rollback import roll_back
from flash_pipeline.evaluation.settlement import Settlement, settle_contest
from flash_pipeline.evaluation.terms import Terms
from flash_pipeline.evaluation.trading import load_funding
from flash_pipeline.evaluation.tried import Tried
from flash_pipeline.evaluation.watch import watch_features, watch_forecasts

__all__ = [
    "FORECASTS_TABLE",
    "FORECAST_SCHEMA",
    "LIVE_SCHEMA",
    "LIVE_TABLE",
    "PROMOTIONS_SCHEMA",
    "PROMOTIONS_TABLE",
    "Beside",
    "Contest",
    "Contestant",
    "Decision",
    "FeatureDrift",
    "Field",
    "ForecastRecord",
    "GateRules",
    "History",
    "LiveCheck",
    "Rival",
    "Settlement",
    "Terms",
    "Tried",
    "audit_forecasts",
    "backtest_forecasts",
    "check_live",
    "decide_promotion",
    "drift_warnings",
    "evaluate_challenger",
    "feature_drift",
    "gather_rivals",
    "latest_forecasts",
    "live_record",
    "load_funding",
    "make_forecast",
    "read_history",
    "read_promotions",
    "record_forecast",
    "record_live",
    "require_dates",
    "roll_back",
    "score_forecasts",
    "scored_forecasts",
    "settle",
    "settle_contest",
    "watch_features",
    "watch_forecasts",
]
