"""Move the signals by a bar: a PnL that does not change does not come from them.

Shape letters: T bars, S symbols.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flash_pipeline import backtest
from flash_pipeline.backtest import Costs, Prices
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.predictor import Predictions

AUDIT = "shift"

Floats = npt.NDArray[np.float64]


def audit_shift(
    bundle: ModelBundle,
    told: Predictions,
    prices: Prices,
    costs: Costs,
    rng: np.random.Generator,
) -> AuditResult:
    """Trade a model's signals as they are, a bar early and a bar late.

    The three PnLs must differ. That alone would let a signal pass that was moved already, so it
    is asked as well what depends on what: a position on no later prediction, a bar's return on no
    later price and no position decided at its own close.

    Parameters
    ----------
    bundle : ModelBundle
        The model, which says how its predictions are sized.
    told : Predictions
        One row per bar of the prices.
    prices : Prices
        Opens and closes.
    costs : Costs
        Of the trades.
    rng : numpy.random.Generator
        What later predictions and prices are spoiled with.

    Returns
    -------
    AuditResult
        Figures: the net return of the signals `early`, `as_is` and `late`. Not checked where the
        model holds no position.
    """
    weights_TS = trading.size_positions(bundle, told)
    weights_TS[np.isnan(prices.close_TS)] = 0.0
    if not weights_TS.any():
        return not_checked(AUDIT, "the model holds no position")
    cap = trading.gross_cap(bundle)

    def returns(asked_TS: Floats, traded: Prices = prices) -> Floats:
        return backtest.simulate(asked_TS, traded, costs, gross_cap=cap).returns_T

    figures = {
        name: float(np.prod(1 + returns(_moved(weights_TS, bars))) - 1)
        for name, bars in (("early", -1), ("as_is", 0), ("late", 1))
    }
    bar = len(weights_TS) // 2
    guilty = _peeking(bundle, told, bar, rng)
    base_T = returns(weights_TS)
    opposite_TS = weights_TS.copy()
    opposite_TS[bar] = -opposite_TS[bar]
    if not np.array_equal(returns(opposite_TS)[: bar + 1], base_T[: bar + 1]):
        guilty.append("a bar earns by the position decided at its own close")
    if not np.array_equal(
        returns(weights_TS, _spoiled(prices, bar, rng))[: bar + 1], base_T[: bar + 1]
    ):
        guilty.append("a bar's return depends on later prices")
    if len(set(figures.values())) < len(figures):
        guilty.append("the PnL is the same with the signals moved by a bar")
    words = "; ".join(guilty) or (
        f"net return {figures['as_is']:+.2%}, {figures['late']:+.2%} with the signals a bar late "
        f"and {figures['early']:+.2%} a bar early; no position or return depends on what follows"
    )
    return AuditResult(AUDIT, not guilty, words, figures)


def _peeking(
    bundle: ModelBundle, told: Predictions, bar: int, rng: np.random.Generator
) -> list[str]:
    """Say whether a position up to a bar depends on a prediction made after it."""
    later_T = np.arange(len(told.value_NS)) > bar
    order_T = np.where(later_T, _permuted(later_T, rng), np.arange(len(later_T)))
    quantiles = told.quantiles_NSQ
    other = Predictions(told.value_NS[order_T], None if quantiles is None else quantiles[order_T])
    mine_TS, others_TS = (trading.size_positions(bundle, each)[: bar + 1] for each in (told, other))
    if np.array_equal(mine_TS, others_TS):
        return []
    return ["a position depends on later predictions"]


def _permuted(chosen_T: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    place_T = np.arange(len(chosen_T))
    place_T[chosen_T] = rng.permutation(place_T[chosen_T])
    return place_T


def _moved(weights_TS: Floats, bars: int) -> Floats:
    """Return every row so many bars later, earlier where negative; no position comes in."""
    moved_TS = np.zeros_like(weights_TS)
    if bars > 0:
        moved_TS[bars:] = weights_TS[:-bars]
    elif bars < 0:
        moved_TS[:bars] = weights_TS[-bars:]
    else:
        moved_TS[:] = weights_TS
    return moved_TS


def _spoiled(prices: Prices, bar: int, rng: np.random.Generator) -> Prices:
    """Return the prices with those after a bar changed at random."""
    factor_TS = np.exp(rng.normal(0, 0.2, prices.close_TS.shape))
    factor_TS[: bar + 1] = 1.0
    names = ("open_TS", "close_TS", "low_TS", "high_TS", "turnover_TS")
    known = {name: getattr(prices, name) for name in names if getattr(prices, name) is not None}
    return replace(prices, **{name: laid_TS * factor_TS for name, laid_TS in known.items()})
