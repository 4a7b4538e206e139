"""The challenger's backtest report."""

from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow.parquet as pq
from pydantic import Field

from flash_pipeline.bybit import read_instruments
from flash_pipeline.defs.assets.market_data import klines
from flash_pipeline.defs.assets.model import trained_model, window_tensors
from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import link, picture, prose, span, table, version_links
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import FileDamaged
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.windows import chronological_split, read_windows

if TYPE_CHECKING:
    from flash_pipeline.backtest import Costs, Metrics, Report
    from flash_pipeline.evaluation import Contest, Terms
    from flash_pipeline.settings import Settings

_SHOWN = 20  # newest predictions in the preview


@config_of("backtest_report")
class CostsConfig(dg.Config):
    """What trading costs in the backtest, what bounds it, and who it is compared with."""

    fee_rate: float = Field(
        default=0.00055,
        ge=0,
        le=0.05,
        description="Taker fee as a fraction of the notional; Bybit linear 0.055 %.",
    )
    maker_fee_rate: float = Field(
        default=0.0002,
        ge=0,
        le=0.05,
        description="Maker fee as a fraction of the notional; Bybit linear 0.02 %.",
    )
    maker_share: float = Field(
        default=0.0, ge=0, le=1, description="Part of the notional filled as maker, 0 to 1."
    )
    slippage_rate: float = Field(
        default=0.0002,
        ge=0,
        le=0.05,
        description="Slippage as a fraction of the notional, 0 to 0.05: half the spread.",
    )
    impact: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Market impact: this times the bar's volatility and the square root of the "
        "order's share of the bar's turnover. About 1 by measurement; 0 charges none.",
    )
    capital: float = Field(
        default=10_000.0, gt=0, description="Starting equity, quote coin: decides lots and impact."
    )
    maintenance_rate: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="Margin that the exchange keeps, a fraction of the notional; at or below it "
        "the account is liquidated.",
    )
    gross_cap: float | None = Field(
        default=None,
        gt=0,
        description="Largest sum of the sizes of the positions, in multiples of the equity; larger "
        "ones are scaled down. By default 1, or an allocation model's own cap.",
    )
    symbol_cap: float | None = Field(
        default=None,
        gt=0,
        description="Largest size of one position, in multiples of the equity; by default none.",
    )
    lots: bool = Field(
        default=True, description="Order in the exchange's quantity steps and minimum notionals."
    )
    funding: bool = Field(default=True, description="Charge the stored funding at its settlements.")
    baselines: list[str] | None = Field(
        default=None,
        description="Of zero, last_value, seasonal, ridge, boosting, dlinear; by default all.",
    )

    def costs(self) -> "Costs":
        """Return what a trade costs."""
        from flash_pipeline.backtest import Costs

        return Costs(
            fee_rate=self.fee_rate,
            slippage_rate=self.slippage_rate,
            maker_fee_rate=self.maker_fee_rate,
            maker_share=self.maker_share,
            impact=self.impact,
        )

    def terms(self, settings: "Settings", symbols: tuple[str, ...]) -> "Terms":
        """Return what is traded under, with the lots and the funding that are stored.

        A file that cannot be read is told in `unread` and charges nothing: the forecasts go on.
        """
        from flash_pipeline.backtest import Account
        from flash_pipeline.evaluation import Terms, load_funding

        store, unread = FundingStore(settings.funding), {}
        instruments = funding = None
        try:
            instruments = read_instruments(settings.instruments) if self.lots else None
        except FileDamaged as error:
            unread["Lots"] = str(error)
        try:
            funding = load_funding(store, symbols) if self.funding else None
        except FileDamaged as error:
            unread["Funding"] = str(error)
        return Terms(
            costs=self.costs(),
            account=Account(capital=self.capital, maintenance_rate=self.maintenance_rate),
            gross_cap=self.gross_cap,
            symbol_cap=self.symbol_cap,
            instruments=instruments,
            funding=funding,
            unread=unread,
        )


@dg.asset(
    deps=[trained_model, window_tensors, klines],
    group_name="verdict",
    kinds={"numpy", "html"},
    pool="training",
)
def backtest_report(
    context: dg.AssetExecutionContext, config: CostsConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The challenger's forecasts traded on dates it has not seen, after costs, and the report.

    Beside it, on the same dates and terms: the champion, the baselines, buy and hold. The report
    lies below `reports/` and with the model's run in MLflow; costs are set in the launchpad.
    """
    from flash_pipeline.evaluation import Beside, Tried, evaluate_challenger, gather_rivals
    from flash_pipeline.evaluation.fold_rows import fold_rows
    from flash_pipeline.evaluation.walk_plan import JOINED_FILE
    from flash_pipeline.training.baseline_session import ready_baselines
    from flash_pipeline.training.baselines import BASELINES
    from flash_pipeline.training.tracking import CHALLENGER, Registry
    from flash_pipeline.training.tracking.trials import backtest_sharpes, trained_models

    settings, store = pipeline.settings(), pipeline.store(pipeline.settings())
    frame = read_windows(settings.windows)
    terms = config.terms(settings, frame.symbols)
    for name, reason in terms.unread.items():
        context.log.warning(f"backtest_report: {name.lower()} left out: {reason}")
    registry = Registry(settings)
    challenger = registry.require(CHALLENGER)
    rival = registry.rival_of(challenger)
    names = list(BASELINES) if config.baselines is None else config.baselines
    ranges = pipeline.resolve().split
    split = chronological_split(frame, ranges)
    ready = ready_baselines(registry, frame, split, ranges, names)
    field = gather_rivals(frame, split, ready.baselines, ready.left_out)
    for name, reason in field.absent.items():
        context.log.warning(f"backtest_report: no baseline {name}: {reason}")
    joined = settings.walk_forward / JOINED_FILE
    contest, report = evaluate_challenger(
        frame,
        store,
        terms,
        settings.reports,
        (challenger.version, challenger.bundle),
        (rival.version, rival.opened) if rival is not None else None,
        field.rivals,
        beside=Beside(
            folds=fold_rows(joined, frame, store, terms),
            tried=Tried(trained_models(registry), backtest_sharpes(registry, challenger)),
            remarks=field.remarks,
        ),
    )
    contest.save(settings.contest)
    figures = {k: v for k, v in report.figures().items() if v is not None}
    registry.add_report(challenger, report.folder, figures, contest.made_at)
    context.log.info(f"backtest_report: {report.verdict.headline}")
    predicted = pq.read_table(report.folder / "predictions.parquet")
    return dg.MaterializeResult(
        metadata={
            "verdict": prose(f"{report.verdict.headline} {report.verdict.detail}"),
            "equity": picture(report.png, "equity and drawdown"),
            "dagster/row_count": predicted.num_rows,
            "dagster/column_schema": PREDICTIONS_SCHEMA,
            **column_lineage("backtest_report"),
            **version_links(registry, challenger),
            "newest": table(predicted.slice(max(0, predicted.num_rows - _SHOWN))),
            "report": dg.MetadataValue.path(report.folder / "report.html"),
            "report_in_mlflow": link(registry.report_url(challenger, "report.html")),
            "traders": _traders(contest, report),
            "assumptions": dg.MetadataValue.json(dict(report.assumptions)),
            "dates": contest.anchors,
            "span": span(contest.first_made_at, contest.last_made_at),
            "model_version": challenger.version,
            **{f"strategy/{name}": value for name, value in figures.items()},
            **{f"quality/{name}": v for name, v in contest.challenger.quality.items() if v == v},
        }
    )


PREDICTIONS_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("made_at", "int64", "close of the last bar seen, ms since the epoch, UTC"),
        dg.TableColumn("symbol", "string", "instrument"),
        dg.TableColumn("prediction", "float", "of the challenger, in the unit of its head"),
        dg.TableColumn("label", "float", "log return over the horizon; null where unknown"),
        dg.TableColumn("model_version", "string", "the challenger's"),
    ]
)
"""Columns of a report's `predictions.parquet`."""


def _traders(contest: "Contest", report: "Report") -> dg.TableMetadataValue:
    """Return what everyone earned on the same dates and terms, as a table."""
    champion = contest.champion
    everyone: dict[str, Metrics] = {f"challenger {contest.challenger.version}": report.strategy}
    if champion is not None:
        everyone[f"champion {champion.version}"] = champion.metrics
    everyone |= {"buy and hold": report.buy_and_hold, **report.baselines}
    return dg.MetadataValue.table(
        [dg.TableRecord({"trader": name, **_row(metrics)}) for name, metrics in everyone.items()]
    )


_SHOWN_MEASURES = {
    "total_return_fraction": "return",
    "sharpe_annual": "Sharpe",
    "max_drawdown_fraction": "drawdown",
    "mean_return_t": "t of mean",
    "turnover_per_year_multiple": "turnover/y",
    "total_costs_fraction": "costs",
    "total_funding_fraction": "funding",
}
"""Measures of a trader in the table, fractions of the equity where they are shares, each with a
name so short that the sentences beside the table stay within the page."""


def _row(metrics: "Metrics") -> dict[str, Any]:
    values = metrics.as_json()
    return {
        name: None if values[measure] is None else round(float(values[measure] or 0.0), 4)
        for measure, name in _SHOWN_MEASURES.items()
    }
