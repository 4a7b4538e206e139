"""Move the signals by a bar: a PnL that does not change does not come from them.

Shape letters: T bars, S symbols.
"""

from collections.abc import Callable
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

_ROUNDING = 1e-12  # of a bar's return: the fills of all bars are solved at once

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]


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
    if not _same(returns(opposite_TS)[: bar + 1], base_T[: bar + 1]):
        guilty.append("a bar earns by the position decided at its own close")
    if not _same(returns(weights_TS, _spoiled(prices, bar, rng))[: bar + 1], base_T[: bar + 1]):
        guilty.append("a bar's return depends on later prices")
    if len(set(figures.values())) < len(figures):
        guilty.append("the PnL is the same with the signals moved by a bar")
    words = "; ".join(guilty) or (
        f"net return {figures['as_is']:+.2%}, {figures['late']:+.2%} with the signals a bar late "
        f"and {figures['early']:+.2%} a bar early; no position or return depends on what follows"
    )
    return AuditResult(AUDIT, not guilty, words, figures)


def _same(found_T: Floats, expected_T: Floats) -> bool:
    return bool(np.allclose(found_T, expected_T, rtol=0, atol=_ROUNDING, equal_nan=True))


def _peeking(
    bundle: ModelBundle, told: Predictions, bar: int, rng: np.random.Generator
) -> list[str]:
    """Say whether a position up to a bar depends on a prediction made after it.

    The later ones are exchanged for others of the same head: in another order, larger, smaller,
    of the other sign, redrawn, unknown. So a statistic over the whole range shows as well, though
    it may not depend on their order, as a root mean square, a quantile or a rank does not.
    """
    mine_TS = trading.size_positions(bundle, told)[: bar + 1]
    head, later = told.rows(slice(bar + 1)), told.rows(slice(bar + 1, None))
    changed = [
        name
        for name, other in _others(bundle, later, rng).items()
        if not np.array_equal(
            trading.size_positions(bundle, Predictions.joined([head, other]))[: bar + 1], mine_TS
        )
    ]
    return [f"a position depends on later predictions ({', '.join(changed)})"] if changed else []


def _others(
    bundle: ModelBundle, told: Predictions, rng: np.random.Generator
) -> dict[str, Predictions]:
    """Return other predictions that the head could have made, by what was done to them."""
    value_TS, kind = told.value_NS, bundle.config.head
    order_T = rng.permutation(len(value_TS))
    drawn_TS = rng.uniform(-1, 1, value_TS.shape).astype(value_TS.dtype)
    others = {"permuted": _of(told, lambda v: v[order_T])}
    if kind == "direction":
        values = {
            "larger": np.clip(0.5 + 5 * (value_TS - 0.5), 0, 1),
            "smaller": 0.5 + 0.2 * (value_TS - 0.5),
            "of the other sign": 1 - value_TS,
            "redrawn": (1 + drawn_TS) / 2,
        }
    elif kind == "allocation":
        cap = trading.gross_cap(bundle)
        values = {
            "larger": _capped(5 * value_TS, cap),
            "smaller": 0.2 * value_TS,
            "of the other sign": -value_TS,
            "redrawn": _capped(drawn_TS, cap),
        }
    else:
        factor_TS = np.exp(3 * drawn_TS)
        others |= {
            "larger": _of(told, lambda v: 5 * v),
            "smaller": _of(told, lambda v: 0.2 * v),
            "of the other sign": _flipped(told),
            "redrawn": _of(
                told, lambda v: v * factor_TS.reshape(factor_TS.shape + (1,) * (v.ndim - 2))
            ),
        }
        values = {}
    others |= {name: Predictions(laid.astype(value_TS.dtype)) for name, laid in values.items()}
    return {**others, "unknown": _of(told, lambda v: np.full_like(v, np.nan))}


def _of(told: Predictions, change: Callable[[Floats32], Floats32]) -> Predictions:
    quantiles = told.quantiles_NSQ
    return Predictions(change(told.value_NS), None if quantiles is None else change(quantiles))


def _flipped(told: Predictions) -> Predictions:
    """Return predictions of the other sign, the quantiles still ascending."""
    quantiles = told.quantiles_NSQ
    return Predictions(-told.value_NS, None if quantiles is None else -quantiles[..., ::-1])


def _capped(weight_TS: Floats32, cap: float) -> Floats32:
    limited_TS = np.clip(weight_TS, -1, 1)
    gross_T1 = np.nansum(np.abs(limited_TS), axis=1, keepdims=True)
    return np.asarray(limited_TS * (cap / np.maximum(gross_T1, cap)), dtype=weight_TS.dtype)


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
