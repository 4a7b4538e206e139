"""A portfolio model beside simple allocations, on the same dates, prices and costs.

Shape letters: N decisions, T hours of the backtest, A assets, E hours of an estimation.

    decisions of the model ──┐
    equal weight, inverse    ├──► backtest.simulate ──► measures, Sharpe beside equal, verdict
    volatility, minimum      │
    variance, cash ──────────┘
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.backtest import BacktestResult, Costs, Metrics, summarise
from flash_pipeline.errors import InvalidConfig, SchemaMismatch
from flash_pipeline.evaluation.portfolio_venue import Venue
from flash_pipeline.evaluation.statistics import (
    Interval,
    block_length,
    bootstrap,
    stationary_weights,
)
from flash_pipeline.portfolio import MarketPanel
from flash_pipeline.training.portfolio_session import Decisions

Floats = npt.NDArray[np.float64]

MODEL, EQUAL, CASH = "Model", "Equal weight", "Cash"
"""Names in the report; the model is each fold's best by validation."""

HOURS_PER_YEAR = 8760.0
LEAST_DAYS = 20
"""Days below which no interval is given."""


@dataclass(frozen=True)
class RivalConfig:
    """How the simple allocations are estimated: on the past of each decision alone.

    Raises
    ------
    InvalidConfig
        If there are too few hours, or a cap is not above 0.
    """

    estimation_hours: int = 720
    """Trailing hours of returns, at least 48."""
    asset_cap: float = 0.25
    """Largest weight of minimum variance, above 0; at least 1 / the number of assets is allowed."""

    def __post_init__(self) -> None:
        if self.estimation_hours < 48:
            raise InvalidConfig(f"estimation_hours is {self.estimation_hours}: expected 48 or more")
        if not self.asset_cap > 0:
            raise InvalidConfig(f"asset_cap is {self.asset_cap}: expected a number above 0")


@dataclass(frozen=True)
class PortfolioVerdict:
    """What the backtest shows, for people and for machines."""

    outcome: str
    """`no_position`, `no_edge`, `worse`, `loss` or `some_evidence`."""
    headline: str
    """A few words that stand alone."""
    detail: str
    """Why, with the numbers, and what it does not show."""


@dataclass(frozen=True, eq=False)
class Study:
    """Everyone's backtest on the same dates."""

    results: Mapping[str, BacktestResult]
    """By name: the model, its variants, and the simple allocations."""
    metrics: Mapping[str, Metrics]
    """Their measures."""
    ahead: Mapping[str, Interval]
    """Yearly Sharpe ratio less that of equal weight, of daily returns, with its interval."""
    variants: Interval | None
    """Sharpe ratio of the joint variant less that of the axial one."""
    seeds: Mapping[str, float]
    """Sharpe ratio of every training, by variant and seed: how far luck moves it."""
    verdict: PortfolioVerdict
    """In words."""
    funding: str
    """Which funding was charged, in words."""
    member_TA: npt.NDArray[np.bool_]
    """Who belonged to the market in each hour of the backtest."""


def rival_weights(
    panel: MarketPanel, rows: Sequence[int], config: RivalConfig
) -> dict[str, Floats]:
    """Return the weights [N, A] of simple allocations, decided at the close of some hours.

    Equal weight holds every asset that is there. Inverse volatility and minimum variance are
    estimated anew at each decision on the `estimation_hours` before it, over the assets that have
    all of these hours; where there are fewer than two, they hold equal weights. Minimum variance
    is skfolio's, long only and fully invested, with the shrunk covariance of Ledoit and Wolf
    (2004, "A well-conditioned estimator for large-dimensional covariance matrices").

    Look-ahead: nothing later than the decision's own close is read.
    """
    shape = (len(rows), len(panel.symbols))
    weights = {
        name: np.zeros(shape) for name in (EQUAL, "Inverse volatility", "Minimum variance", CASH)
    }
    present_TA = panel.present_TA
    for n, row in enumerate(rows):
        there = np.flatnonzero(present_TA[row])
        if not len(there):
            continue
        weights[EQUAL][n, there] = 1 / len(there)
        past_EA = panel.close_TA[max(0, row - config.estimation_hours) : row + 1]
        whole = there[np.isfinite(past_EA[:, there]).all(axis=0)]
        if len(past_EA) <= config.estimation_hours or len(whole) < 2:
            for name in ("Inverse volatility", "Minimum variance"):
                weights[name][n] = weights[EQUAL][n]
            continue
        return_EA = past_EA[1:, whole] / past_EA[:-1, whole] - 1
        inverse_A = 1 / np.maximum(return_EA.std(axis=0, ddof=1), 1e-12)
        weights["Inverse volatility"][n, whole] = inverse_A / inverse_A.sum()
        weights["Minimum variance"][n, whole] = minimum_variance(return_EA, config.asset_cap)
    return weights


def minimum_variance(return_EA: Floats, asset_cap: float) -> Floats:
    """Return the long-only weights [A] of least variance, which add up to 1.

    Parameters
    ----------
    return_EA : array [E, A]
        Simple returns of at least two assets, none of them NaN.
    asset_cap : float
        Largest weight; 1 / A where that is more.

    Raises
    ------
    InvalidConfig
        If skfolio is not installed.
    """
    try:
        from skfolio.moments import LedoitWolf
        from skfolio.optimization import MeanRisk
        from skfolio.prior import EmpiricalPrior
    except ImportError as error:
        raise InvalidConfig(
            f"minimum variance needs skfolio ({error}): pip install 'flash-pipeline[portfolio]'"
        ) from error

    most = max(asset_cap, 1 / return_EA.shape[1])
    # In percent: a covariance of hourly returns lies near a solver's tolerance.
    model = MeanRisk(
        max_weights=most, prior_estimator=EmpiricalPrior(covariance_estimator=LedoitWolf())
    )
    weights_A = np.clip(np.asarray(model.fit(100 * return_EA).weights_, np.float64), 0.0, most)
    return np.asarray(weights_A / weights_A.sum())


def study_portfolio(
    panel: MarketPanel,
    decisions: Decisions,
    costs: Costs,
    rivals: RivalConfig,
    funding: pa.Table | None = None,
) -> Study:
    """Trade the decisions and the simple allocations, and judge them.

    Parameters
    ----------
    panel : MarketPanel
        That the decisions were made on.
    decisions : Decisions
        Of the trainings.
    costs : Costs
        The same for everyone.
    rivals : RivalConfig
        How the simple allocations are estimated.
    funding : pa.Table or None
        As for `known_funding`; None charges none.

    Raises
    ------
    SchemaMismatch
        If the decisions are of another panel.
    """
    if decisions.facts["snapshot"] != panel.snapshot:
        raise SchemaMismatch(
            f"the decisions are of the panel {decisions.facts['snapshot']}, the stored one is "
            f"{panel.snapshot}: materialize portfolio_model again"
        )
    rows = np.searchsorted(panel.start_time_T, decisions.start_time_N).tolist()
    recipe = decisions.facts["recipe"]
    gross_cap = float(recipe["model"]["head_options"]["gross_cap"])
    variants = sorted({fit["variant"] for fit in decisions.facts["fits"]}, reverse=True)
    everyone: dict[str, Floats] = {MODEL: decisions.chosen_NA}
    everyone |= {f"{name.capitalize()} attention": decisions.best_of(name) for name in variants}
    everyone |= rival_weights(panel, rows, rivals)
    venue = Venue.open(panel, rows, int(recipe["horizon"]), costs, funding)
    results = {name: venue.trade(weights, gross_cap) for name, weights in everyone.items()}
    metrics = {name: summarise(result, HOURS_PER_YEAR) for name, result in results.items()}
    equal = results[EQUAL]
    ahead = {n: sharpe_difference(r, equal) for n, r in results.items() if n not in (EQUAL, CASH)}
    pair = [results[f"{name.capitalize()} attention"] for name in variants]
    seeds = {
        name: summarise(venue.trade(weights, gross_cap), HOURS_PER_YEAR).sharpe_annual
        for name, weights in decisions.weights.items()
    }
    return Study(
        results,
        metrics,
        ahead,
        sharpe_difference(pair[0], pair[1]) if len(pair) == 2 else None,
        seeds,
        judge_portfolio(metrics[MODEL], metrics[EQUAL], ahead[MODEL], synthetic=panel.synthetic),
        venue.told,
        panel.member_TA[venue.first : venue.last + 1],
    )


def trade_decisions(
    panel: MarketPanel,
    rows: Sequence[int],
    weights_NA: Floats,
    *,
    horizon: int,
    costs: Costs,
    gross_cap: float,
) -> BacktestResult:
    """Trade one portfolio's decisions without funding; arguments as for `study_portfolio`.

    Raises
    ------
    NotEnoughHistory
        If no hour follows the first decision.
    """
    return Venue.open(panel, rows, horizon, costs, None).trade(weights_NA, gross_cap)


def sharpe_difference(result: BacktestResult, other: BacktestResult) -> Interval:
    """Return the yearly Sharpe ratio of one less that of the other, with its interval.

    Of daily net returns on the same dates, both drawn together by the stationary bootstrap: see
    `statistics.bootstrap`. Fewer than `LEAST_DAYS` days have no interval. Who holds nothing has
    the ratio 0.
    """
    a_D, b_D = _daily(result), _daily(other)
    columns_DC = np.stack([np.ones_like(a_D), a_D, a_D**2, b_D, b_D**2], axis=1)
    drawn = None
    if len(a_D) >= LEAST_DAYS:
        drawn = stationary_weights(len(a_D), block_length(1, len(a_D)))
    return bootstrap(columns_DC, _sharpe_of_sums, drawn)


def judge_portfolio(
    model: Metrics, equal: Metrics, ahead: Interval, *, synthetic: bool
) -> PortfolioVerdict:
    """Say what a backtest shows: an edge only where the interval over equal weight excludes zero.

    Parameters
    ----------
    model, equal : Metrics
        Of the model and of equal weight, net of costs.
    ahead : Interval
        Of `sharpe_difference`.
    synthetic : bool
        Whether the market was simulated, which the detail then says.
    """
    outcome = "no_edge"
    if model.time_in_market_fraction == 0:
        outcome = "no_position"
    elif ahead.high < 0:
        outcome = "worse"
    elif ahead.low > 0:
        outcome = "some_evidence" if model.total_return_fraction > 0 else "loss"
    headlines = {
        "no_position": "No position was taken.",
        "no_edge": "No edge over equal weight.",
        "worse": "Worse than equal weight.",
        "loss": "Ahead of equal weight, and a loss.",
        "some_evidence": "Some evidence of an edge over equal weight in this period.",
    }
    span = f"from {ahead.low:+.2f} to {ahead.high:+.2f}"
    if math.isnan(ahead.low):
        span = f"not known: fewer than {LEAST_DAYS} days"
    sentences = [
        f"The model returned {model.total_return_fraction:+.2%} after costs, equal weight "
        f"{equal.total_return_fraction:+.2%}.",
        f"Its Sharpe ratio less that of equal weight is {ahead.value:+.2f}; the 95 % interval is "
        f"{span}.",
    ]
    if synthetic:
        sentences.append(
            "The market was synthetic and has no predictable return: an edge here would be luck, "
            "and none of this says anything about a real market."
        )
    return PortfolioVerdict(outcome, headlines[outcome], " ".join(sentences))


def _daily(result: BacktestResult) -> Floats:
    days = len(result.returns_T) // 24
    return np.asarray((1 + result.returns_T[: 24 * days].reshape(days, 24)).prod(axis=1) - 1)


def _sharpe_of_sums(sums_C: Floats) -> Floats:
    count = sums_C[..., 0]

    def sharpe(total: Floats, square: Floats) -> Floats:
        mean = total / count
        variance = square / count - mean**2
        flat = variance <= 1e-18
        return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))

    first, second = sharpe(sums_C[..., 1], sums_C[..., 2]), sharpe(sums_C[..., 3], sums_C[..., 4])
    return np.asarray((first - second) * math.sqrt(365))
