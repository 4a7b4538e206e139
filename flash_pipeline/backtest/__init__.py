"""What forecasts would have earned: sizing, an honest ledger, measures, and a report.

    predictions ──► signals ──► engine.simulate ──► metrics ──► report
                                benchmark.buy_and_hold ──┘         └── figures, page, verdict

Decisions are made at a bar's close and filled at the next bar's open; every held position is
marked to market at every close.
"""

from flash_pipeline.backtest.account import Account, Lots
from flash_pipeline.backtest.benchmark import buy_and_hold
from flash_pipeline.backtest.context import FoldRow, ReportContext
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.engine import simulate
from flash_pipeline.backtest.figures import four_panel
from flash_pipeline.backtest.funding import KnownFunding, funding_on_bars, known_funding
from flash_pipeline.backtest.metrics import Metrics, drawdown, summarise
from flash_pipeline.backtest.prices import Prices, turnover_from_volume
from flash_pipeline.backtest.report import Report, write_report
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.sharpe import (
    Moments,
    Trials,
    deflated_sharpe,
    expected_best_sharpe,
    moments,
    probabilistic_sharpe,
)
from flash_pipeline.backtest.signals import (
    allocation_weights,
    capped,
    direction_weights,
    hold_cohorts,
    quantile_weights,
    regression_weights,
)
from flash_pipeline.backtest.sweep import Sweep, simulate_many
from flash_pipeline.backtest.verdict import Rivals, Verdict, ahead_of, judge

__all__ = [
    "Account",
    "BacktestResult",
    "Costs",
    "FoldRow",
    "KnownFunding",
    "Lots",
    "Metrics",
    "Moments",
    "Prices",
    "Report",
    "ReportContext",
    "Rivals",
    "Sweep",
    "Trials",
    "Verdict",
    "ahead_of",
    "allocation_weights",
    "buy_and_hold",
    "capped",
    "deflated_sharpe",
    "direction_weights",
    "drawdown",
    "expected_best_sharpe",
    "four_panel",
    "funding_on_bars",
    "hold_cohorts",
    "judge",
    "known_funding",
    "moments",
    "probabilistic_sharpe",
    "quantile_weights",
    "regression_weights",
    "simulate",
    "simulate_many",
    "summarise",
    "turnover_from_volume",
    "write_report",
]
