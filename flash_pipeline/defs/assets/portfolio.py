"""The whole market: its candles, its panel, the portfolio model and the report."""

import dagster as dg
import numpy as np
from pydantic import Field

from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.market_resource import MarketResource
from flash_pipeline.defs.metadata import link, picture, prose, refresh_metadata, span
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.ingest.funding import refresh_funding
from flash_pipeline.market import Interval, Month
from flash_pipeline.portfolio import FEATURES, MarketPanel, read_panel
from flash_pipeline.portfolio.candidates import perpetuals, stored_symbols
from flash_pipeline.portfolio.panel import describe
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore

GROUP = "portfolio"
"""Name of the group."""


@config_of("portfolio_report")
class PortfolioCosts(dg.Config):
    """What trading costs in the portfolio's backtest, and how its rivals are estimated."""

    fee_rate: float = Field(
        default=0.00055, ge=0, le=0.05, description="Taker fee as a fraction of the notional."
    )
    slippage_rate: float = Field(
        default=0.0002, ge=0, le=0.05, description="Slippage as a fraction of the notional."
    )
    estimation_hours: int = Field(
        default=720,
        ge=48,
        description="Trailing hours that inverse volatility and minimum variance are estimated on.",
    )
    funding: bool = Field(default=True, description="Charge the stored funding at its settlements.")


@config_of("market_panel")
class FundingConfig(dg.Config):
    """What is fetched beside the candles."""

    funding: bool = Field(default=True, description="Fetch the funding of the market's members.")


@dg.asset(group_name=GROUP, kinds={"bybit", "parquet"}, pool="duckdb")
def market_candles(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    market: MarketResource,
    exchange: ExchangeResource,
) -> dg.MaterializeResult:
    """Hourly candles of every perpetual that trades or was delisted, for the panel's months."""
    settings, recipe = pipeline.settings(), market.resolve()
    store = KlineStore(settings.klines, Interval.HOUR_1)
    with exchange.sources(settings, recipe.instruments) as sources:
        listed = perpetuals(sources.bybit.ever_listed())
        symbols = sorted({*listed, *stored_symbols(settings.klines)})
        last = Month.containing(sources.now())
        first = last.shift(1 - recipe.months - recipe.warmup)
        refresh = refresh_klines(sources.bybit, store, symbols, first, last, require_candles=False)
    context.log.info(
        f"market_candles: {refresh.rows:,} candles of {len(symbols)} instruments, "
        f"{refresh.requests} requests, {refresh.files_written} files written"
    )
    return dg.MaterializeResult(
        metadata={
            **refresh_metadata(refresh),
            "instruments": len(symbols),
            "first_month": str(first),
            "path": dg.MetadataValue.path(settings.klines),
        }
    )


@dg.asset(deps=[market_candles], group_name=GROUP, kinds={"parquet", "arrow"})
def market_panel(
    context: dg.AssetExecutionContext,
    config: FundingConfig,
    pipeline: PipelineResource,
    market: MarketResource,
    exchange: ExchangeResource,
) -> dg.MaterializeResult:
    """Hours by assets: the most traded instruments as of each date, their inputs and prices."""
    settings, recipe = pipeline.settings(), market.resolve()
    store = KlineStore(settings.klines, Interval.HOUR_1)
    symbols = stored_symbols(settings.klines)
    newest = max((store.months(symbol)[-1:] for symbol in symbols), default=[])
    last = newest[0] if newest else Month.containing(0)
    first = last.shift(1 - recipe.months)
    panel = read_panel(store, symbols, first, last, recipe.universe, warmup=recipe.warmup)
    panel.save(settings.market_panel)
    if config.funding:
        with exchange.sources(settings, recipe.instruments) as sources:
            refresh_funding(
                sources.bybit, FundingStore(settings.funding), panel.symbols, first, last
            )
    context.log.info(f"market_panel: {describe(panel)}")
    members_T = panel.member_TA.sum(axis=1)
    comings = np.flatnonzero(np.isfinite(panel.close_TA[0]))
    leavers = np.flatnonzero(np.isnan(panel.close_TA[-1]))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(panel.snapshot),
        metadata={
            "dagster/row_count": len(panel.start_time_T),
            "assets": len(panel.symbols),
            "symbols": dg.MetadataValue.json(list(panel.symbols)),
            "candidates": len(symbols),
            "members": f"{int(members_T.min())} to {int(members_T.max())} at a time",
            "listed_within": len(panel.symbols) - len(comings),
            "gone_at_the_end": len(leavers),
            "tokens": int(panel.present_TA.sum()),
            "inputs": dg.MetadataValue.json(list(FEATURES)),
            "span": span(int(panel.start_time_T[0]), int(panel.start_time_T[-1])),
            "synthetic": panel.synthetic,
            "snapshot": panel.snapshot,
            "path": dg.MetadataValue.path(settings.market_panel),
        },
    )


@dg.asset(deps=[market_panel], group_name=GROUP, kinds={"pytorch", "mlflow"}, pool="training")
def portfolio_model(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, market: MarketResource
) -> dg.MaterializeResult:
    """Joint and axial attention trained walk-forward on net Sharpe; the chosen one registered."""
    from flash_pipeline.training.portfolio_figures import loss_curves
    from flash_pipeline.training.portfolio_session import run_portfolio

    settings, recipe = pipeline.settings(), market.resolve()
    panel = MarketPanel.load(settings.market_panel)
    tags = {"dagster_run_id": context.run.run_id, "dagster_asset": "portfolio_model"}
    decisions, story, url = run_portfolio(settings, panel, recipe, tags=tags)
    facts = decisions.facts
    context.log.info(f"portfolio_model: version {facts['version']}, {story}")
    rows = [
        dg.TableRecord(
            {
                "fold": fit["fold"],
                "training": fit["training"],
                "validation_loss": min(look["validation_loss"] for look in fit["history"]),
                "best_step": fit["best_step"],
                "seconds": fit["seconds"],
                "resumed": fit["resumed"] or "no",
            }
        )
        for fit in facts["fits"]
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(str(facts["version"])),
        metadata={
            "version": facts["version"],
            "story": story,
            "recipe": recipe.name,
            "budget": facts["budget"],
            "trainings": dg.MetadataValue.table(rows),
            "chosen": dg.MetadataValue.json(list(facts["chosen"])),
            "folds": dg.MetadataValue.json(list(facts["folds"])),
            "loss": picture(loss_curves(facts["fits"]), "loss"),
            "tokens_of_a_window": str(recipe.model.lookback * len(decisions.symbols)),
            "attention": facts["fits"][-1]["attention"],
            "mlflow_run": link(url),
            "snapshot": panel.snapshot,
        },
    )


@dg.asset(deps=[portfolio_model], group_name=GROUP, kinds={"numpy", "html"}, pool="training")
def portfolio_report(
    context: dg.AssetExecutionContext,
    config: PortfolioCosts,
    pipeline: PipelineResource,
    market: MarketResource,
) -> dg.MaterializeResult:
    """The model beside equal weight, inverse volatility and minimum variance, at equal costs."""
    from flash_pipeline.backtest import Costs
    from flash_pipeline.evaluation.portfolio import RivalConfig
    from flash_pipeline.evaluation.portfolio_session import report_portfolio

    settings, recipe = pipeline.settings(), market.resolve()
    told = report_portfolio(
        settings,
        Costs(fee_rate=config.fee_rate, slippage_rate=config.slippage_rate),
        RivalConfig(config.estimation_hours, recipe.model.asset_cap),
        funding=config.funding,
    )
    report, verdict = told.report, told.report.numbers["verdict"]
    context.log.info(f"portfolio_report: {verdict['headline']} {told.champion}")
    return dg.MaterializeResult(
        metadata={
            "verdict": prose(f"{verdict['headline']} {verdict['detail']}"),
            "champion": told.champion,
            "portfolio": picture(report.pictures["report.png"], "portfolio"),
            "attention": picture(report.pictures["attention.png"], "attention across assets"),
            "traders": dg.MetadataValue.table([dg.TableRecord(row) for row in told.rows]),
            "report": dg.MetadataValue.path(report.folder / "report.html"),
            "report_in_mlflow": link(told.url),
            "assumptions": dg.MetadataValue.json(dict(report.numbers["assumptions"])),
            "synthetic": report.numbers["synthetic"],
        }
    )


@dg.asset_check(asset=market_panel, blocking=True)
def panel_keeps_the_contract(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No NaN where a token is present, no hour missing, prices above zero."""
    from flash_pipeline.defs.checks.outcome import problems_result
    from flash_pipeline.portfolio.audit import audit_panel

    return problems_result(audit_panel(MarketPanel.load(pipeline.settings().market_panel)))


@dg.asset_check(asset=portfolio_model)
def decisions_keep_the_caps(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every weight is finite, within both caps, and 0 for an asset that was not there."""
    from flash_pipeline.defs.checks.outcome import problems_result
    from flash_pipeline.portfolio.audit import audit_weights
    from flash_pipeline.training.portfolio_session import Decisions

    settings = pipeline.settings()
    decisions = Decisions.load(settings.portfolio)
    panel = MarketPanel.load(settings.market_panel)
    model = decisions.facts["recipe"]["model"]
    problems = [
        f"{name}: {problem}"
        for name, weights_NA in decisions.weights.items()
        for problem in audit_weights(
            panel,
            decisions.start_time_N,
            weights_NA,
            asset_cap=model["asset_cap"],
            gross_cap=model["head_options"]["gross_cap"],
        )
    ]
    return problems_result(problems)


CHECKS = (panel_keeps_the_contract, decisions_keep_the_caps)
"""Checks of the group."""
