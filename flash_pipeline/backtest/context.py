"""What a report is told beside the results: assumptions, folds, trials."""

from dataclasses import dataclass

from flash_pipeline.backtest.account import Account
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.openings import openings
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.sharpe import Trials
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.market import Interval, iso_utc


@dataclass(frozen=True)
class ReportContext:
    """What the numbers of a report rest on.

    Raises
    ------
    InvalidConfig
        If the horizon or `rebalance_every` is below 1.
    """

    interval: Interval
    """Length of a bar; gives the bars per year."""
    costs: Costs
    """Costs of strategy and benchmark alike."""
    horizon: int
    """Bars that a forecast looks ahead and its cohort is held."""
    model_version: str
    """Version of the registered model, or another name of what made the predictions."""
    synthetic: bool
    """Whether the prices come from the market simulator."""
    funding: str = "not charged"
    """Which funding was charged, in words: see `funding.known_funding`."""
    account: Account | None = None
    """The account that was simulated; None for that of `Account()`."""
    rebalance_every: int = 1
    """Bars between trades; 1 for averaged cohorts."""
    trials: Trials | None = None
    """How many models were tried, for the deflated Sharpe ratio; None if it is not known."""
    remarks: tuple[tuple[str, str], ...] = ()
    """Further rows of the assumptions: a name and a few words each."""

    def __post_init__(self) -> None:
        for name in ("horizon", "rebalance_every"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: expected at least 1 bar")


@dataclass(frozen=True)
class FoldRow:
    """One fold of a walk-forward, as the report's table shows it; NaN where not defined."""

    name: str
    """Number or name of the fold."""
    first_made_at: int
    """First date predicted, ms since the epoch, UTC."""
    last_made_at: int
    """Last date predicted, ms since the epoch, UTC."""
    rank_ic: float
    """Rank IC of the fold's predictions."""
    rank_ic_low: float
    """Lower end of its interval."""
    rank_ic_high: float
    """Upper end of its interval."""
    net_return_fraction: float
    """Return of the fold's backtest after costs."""
    sharpe_annual: float
    """Sharpe ratio of the fold's backtest."""


def period(result: BacktestResult) -> str:
    """Return the time that a result covers, in words."""
    return f"{iso_utc(int(result.start_time_T[0]))} to {iso_utc(result.end_time)}"


def assumptions(result: BacktestResult, context: ReportContext) -> list[tuple[str, str]]:
    """Return what the numbers rest on, by a name for people."""
    costs, account, waited = context.costs, context.account or Account(), openings(result)
    impact = (
        f"{costs.impact:g} times the volatility and the root of the share of the bar's turnover"
        if costs.impact
        else "none"
    )
    return [
        ("Period", period(result)),
        ("Bars", f"{len(result.returns_T):,} of {context.interval.minutes:,} minutes"),
        ("Execution", "decided at a bar's close, filled at the next bar's open"),
        ("Signals", f"forecasts {context.horizon} bars ahead, {_held(context)}"),
        ("Exchange fee", f"{costs.mean_fee_rate:.4%} of the traded notional"),
        ("Maker fills", f"{costs.maker_share:.0%} of the traded notional"),
        ("Slippage", f"{costs.slippage_rate:.4%} of the traded notional"),
        ("Market impact", impact),
        ("Funding", context.funding),
        ("Capital", f"{account.capital:,.0f} USDT, in {_quantities(account)}"),
        ("Liquidation", _liquidation(result, account)),
        ("Marking", "every held position at every close; open positions are not sold at the end"),
        *([] if waited is None else [("Where a symbol has no bar", str(waited))]),
        ("Annualised with", f"{context.interval.bars_per_year:,.0f} bars per year"),
        ("Benchmark", "equal weights bought at the first open, same costs, never rebalanced"),
        ("Model version", context.model_version),
        ("Market", "synthetic, from the simulator" if context.synthetic else "recorded candles"),
        *context.remarks,
    ]


def assumption_figures(result: BacktestResult, context: ReportContext) -> dict[str, object]:
    """Return the same for machines."""
    costs, account, waited = context.costs, context.account or Account(), openings(result)
    return {
        "start_time": iso_utc(int(result.start_time_T[0])),
        "end_time": iso_utc(result.end_time),
        "interval": context.interval.value,
        "bars_per_year": context.interval.bars_per_year,
        "horizon_bars": context.horizon,
        "rebalance_every_bars": context.rebalance_every,
        "fee_rate": costs.fee_rate,
        "maker_fee_rate": costs.maker_fee_rate,
        "maker_share": costs.maker_share,
        "slippage_rate": costs.slippage_rate,
        "impact": costs.impact,
        "capital": account.capital,
        "maintenance_rate": account.maintenance_rate,
        "lots": account.lots is not None,
        "funding_charged": result.funding_TS is not None,
        "funding": context.funding,
        "openings": None if waited is None else waited.as_json(),
        "model_version": context.model_version,
        "synthetic": context.synthetic,
        "remarks": dict(context.remarks),
    }


def _quantities(account: Account) -> str:
    return "any fraction" if account.lots is None else "whole lots"


def _liquidation(result: BacktestResult, account: Account) -> str:
    where = "at opens and closes" if result.prices.low_TS is None else "at the bar's worst price"
    return f"at a margin of {account.maintenance_rate:.2%} of the notional, looked for {where}"


def _held(context: ReportContext) -> str:
    if context.rebalance_every > 1:
        return f"all of the capital follows one of them for {context.rebalance_every} bars"
    if context.horizon > 1:
        return f"held for {context.horizon} bars, each with 1/{context.horizon} of the capital"
    return "held for one bar"
