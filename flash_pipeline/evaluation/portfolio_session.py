"""From stored decisions to a written report and to who is champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flash_pipeline.backtest import Costs
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.evaluation.portfolio import (
    RivalConfig,
    Study,
    sharpe_difference,
    study_portfolio,
    trade_decisions,
)
from flash_pipeline.evaluation.portfolio_report import PortfolioReport, write_portfolio_report
from flash_pipeline.evaluation.trading import load_funding
from flash_pipeline.market import parse_instant
from flash_pipeline.portfolio import MarketPanel
from flash_pipeline.settings import Settings
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.portfolio_session import Decisions, decide_with


@dataclass(frozen=True)
class Reported:
    """What became of a report."""

    report: PortfolioReport
    """As written."""
    champion: str
    """Who is champion now and why, in words."""
    rows: tuple[Mapping[str, Any], ...]
    """Everyone's main measures, for a table."""
    url: str
    """Page of the model's MLflow run."""


def report_portfolio(
    settings: Settings, costs: Costs, rivals: RivalConfig, *, funding: bool = True
) -> Reported:
    """Judge the stored decisions, write the report, log it, and settle who is champion.

    The first model that has a report becomes champion; a later one only where its Sharpe ratio on
    its last fold's test range is above the champion's, with an interval that excludes zero, and
    the champion has not seen that range.

    Parameters
    ----------
    settings : Settings
        Where panel and decisions lie.
    costs, rivals
        As for `study_portfolio`.
    funding : bool
        Charge what is stored of the funding.

    Raises
    ------
    NotEnoughHistory
        If there is no panel, or there are no decisions.
    SchemaMismatch
        If the decisions are of another panel.
    """
    from flash_pipeline.training.tracking import CHAMPION
    from flash_pipeline.training.tracking.sequences import (
        PORTFOLIO_MODEL,
        add_sequence_report,
        find_sequence,
        load_sequence_bundle,
        sequence_at,
        settle_champion,
    )

    panel = MarketPanel.load(settings.market_panel)
    decisions = Decisions.load(settings.portfolio)
    table = load_funding(FundingStore(settings.funding), panel.symbols) if funding else None
    study = study_portfolio(panel, decisions, costs, rivals, table)
    report = write_portfolio_report(
        settings.portfolio_report, study, decisions, costs, rivals, synthetic=panel.synthetic
    )
    version = str(decisions.facts["version"])
    champion = sequence_at(settings, PORTFOLIO_MODEL, CHAMPION)
    edge = None
    if champion is not None and champion.version != version:
        bundle = load_sequence_bundle(settings, PORTFOLIO_MODEL, CHAMPION)
        edge = edge_over(bundle, panel, decisions, costs)
    story = settle_champion(settings, PORTFOLIO_MODEL, version, edge)
    model = find_sequence(settings, PORTFOLIO_MODEL, decisions.facts["fingerprint"])
    if model is not None:
        add_sequence_report(settings, model, report.folder, _figures(study))
    return Reported(report, story, tuple(_rows(study)), "" if model is None else model.url)


def edge_over(
    champion: GridBundle, panel: MarketPanel, decisions: Decisions, costs: Costs
) -> tuple[float, float] | None:
    """Return the interval of the Sharpe ratio of new decisions less that of the champion's.

    On the last fold's test range. None where they cannot be compared: the champion has seen some
    of that range, has none of the panel's assets, or the range is too short for an interval.
    """
    recipe = decisions.facts["recipe"]
    own_N = np.flatnonzero(decisions.fold_N == decisions.fold_N[-1])
    start = parse_instant(decisions.facts["folds"][-1]["test"]["from"])
    if int(champion.details.get("seen_until", start + 1)) > start:
        return None
    rows = np.searchsorted(panel.start_time_T, decisions.start_time_N[own_N]).tolist()
    try:
        theirs_NA = decide_with(champion, panel, rows)
    except FlashPipelineError:
        return None
    gross = champion.config.to_dict()["head_options"]["gross_cap"]
    caps = (recipe["model"]["head_options"]["gross_cap"], gross)
    mine, theirs = (
        trade_decisions(panel, rows, weights, horizon=recipe["horizon"], costs=costs, gross_cap=cap)
        for weights, cap in zip((decisions.chosen_NA[own_N], theirs_NA), caps, strict=True)
    )
    interval = sharpe_difference(mine, theirs)
    return None if np.isnan(interval.low) else (interval.low, interval.high)


def _figures(study: Study) -> dict[str, float]:
    figures = {}
    for name, metrics in study.metrics.items():
        for field in ("sharpe_annual", "total_return_fraction", "turnover_per_year_multiple"):
            value = float(getattr(metrics, field))
            if np.isfinite(value):
                figures[f"{name.lower().replace(' ', '_')}/{field}"] = value
    return figures


def _rows(study: Study) -> list[dict[str, Any]]:
    rows = []
    for name, metrics in study.metrics.items():
        ahead = study.ahead.get(name)
        shown = {
            "trader": name,
            "total_return": metrics.total_return_fraction,
            "sharpe": metrics.sharpe_annual,
            "max_drawdown": metrics.max_drawdown_fraction,
            "turnover_per_year": metrics.turnover_per_year_multiple,
            "costs": metrics.total_costs_fraction,
            "sharpe_less_equal_weight": None if ahead is None else ahead.value,
            "low": None if ahead is None else ahead.low,
            "high": None if ahead is None else ahead.high,
        }
        rows.append(
            {
                key: None if isinstance(v, float) and not np.isfinite(v)
                else round(v, 4) if isinstance(v, float) else v
                for key, v in shown.items()
            }
        )  # fmt: skip
    return rows
