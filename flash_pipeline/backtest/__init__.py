"""What forecasts would have earned: sizing, an honest ledger, measures, and a report.

    predictions ──► signals ──► engine.simulate ──► metrics ──► report
                                benchmark.buy_and_hold ──┘         └── figures, verdict

Decisions are made at a bar's close and filled at the next bar's open; every held position is
marked to market at every close.
"""

from flash_pipeline.backtest.benchmark import buy_and_hold
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.engine import simulate
from flash_pipeline.backtest.figures import four_panel
from flash_pipeline.backtest.metrics import Metrics, drawdown, summarise
from flash_pipeline.backtest.prices import Prices
from flash_pipeline.backtest.report import Report, ReportContext, write_report
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.signals import (
    allocation_weights,
    direction_weights,
    hold_cohorts,
    quantile_weights,
    regression_weights,
)
from flash_pipeline.backtest.verdict import Verdict, judge

__all__ = [
    "BacktestResult",
    "Costs",
    "Metrics",
    "Prices",
    "Report",
    "ReportContext",
    "Verdict",
    "allocation_weights",
    "buy_and_hold",
    "direction_weights",
    "drawdown",
    "four_panel",
    "hold_cohorts",
    "judge",
    "quantile_weights",
    "regression_weights",
    "simulate",
    "summarise",
    "write_report",
]
