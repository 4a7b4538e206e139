"""The orders that bring an account to its targets, all bars at once.

An order at an open is the target less what the last one has drifted to, and the drift depends on
what the last order cost: a recursion from bar to bar. It is solved as a fixed point instead. Each
pass takes the costs of the pass before, and as a cost moves the next order by no more than its own
size, an error shrinks by the cost rate with every pass: four or five of them reach the last bit.

K fills, the bars at whose open is traded · S symbols
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.prices import BLOCK, FloatArray

DUST = 1e-12
"""Orders below this fraction of the equity are rounding and are not sent."""

CONVERGED = 1e-12
"""Change of a cost, a fraction of the equity, at which the passes end: the error left is smaller by
the cost rate once more."""

MOST_PASSES = 60
"""Impact on thin markets may take more than this; then bars are gone through one by one."""


@dataclass(frozen=True, eq=False)
class Fills:
    """What is filled at each open, in fractions of the equity there, before costs."""

    held_SK: FloatArray
    """Signed position after the fill."""
    order_SK: FloatArray
    """Signed traded notional."""
    rate: float | FloatArray
    """Costs of an order, a fraction of its notional: one rate for all, or [S, K] with impact."""
    cost_K: FloatArray
    """Costs of all orders."""
    turnover_K: FloatArray
    """Sum of the sizes of the orders."""
    gross_K: FloatArray
    """Sum of the sizes of the positions."""


@dataclass(frozen=True, eq=False)
class Course:
    """What is wanted at each fill and where the prices go from there, before costs."""

    target_SK: FloatArray
    """Position wanted after each fill, a fraction of the equity before it."""
    gross_K: FloatArray
    """Sum of its sizes."""
    ratio_SK: FloatArray
    """Price at the next fill over that at this one."""
    funding_K: FloatArray | None
    """Funding that the position pays until the next fill, in the same fractions; None for none."""


def solve_orders(course: Course, rate: float, impact_SK: FloatArray | None) -> Fills | None:
    """Return orders whose costs agree with the drift that they cause.

    Parameters
    ----------
    course : Course
        Targets and prices of K fills.
    rate : float
        Fee and slippage, a fraction of the traded notional.
    impact_SK : array [S, K] or None
        Factor of `impact_scale`; NaN counts as none here.

    Returns
    -------
    Fills or None
        None where the passes do not converge.
    """
    n_symbols, n_fills = course.target_SK.shape
    order_SK = np.empty_like(course.target_SK)
    cost_K, turnover_K = np.zeros(n_fills), np.empty(n_fills)
    rates = rate if impact_SK is None else np.full_like(order_SK, rate)
    scratch = np.empty((2, n_symbols, min(BLOCK, n_fills)))
    drifted_S, equity = np.zeros(n_symbols), 1.0
    for start in range(0, n_fills, BLOCK):
        part = slice(start, start + BLOCK)
        moved_SK, size_SK = scratch[:, :, : n_fills - start]
        block = _Block(
            target_SK=course.target_SK[:, part],
            moved_SK=np.multiply(course.target_SK[:, part], course.ratio_SK[:, part], out=moved_SK),
            growth_K=1 + moved_SK.sum(axis=0) - course.target_SK[:, part].sum(axis=0),
            drifted_S=drifted_S,
            impact_SK=None if impact_SK is None else equity**0.5 * impact_SK[:, part],
            order_SK=order_SK[:, part],
            size_SK=size_SK,
            cost_K=cost_K[part],
        )
        if course.funding_K is not None:
            block.growth_K[:] -= course.funding_K[part]
        equity_K = _converge(block, rate)
        if equity_K is None:
            return None
        _drop_dust(block)
        np.sum(size_SK, axis=0, out=turnover_K[part])
        if block.impact_SK is not None and isinstance(rates, np.ndarray):
            rates[:, part] += np.nan_to_num(block.impact_SK) * np.sqrt(size_SK * equity_K)
        growth = max(float(block.growth_K[-1] - block.cost_K[-1]), 0.0)
        equity *= float(equity_K[-1]) * growth
        drifted_S = moved_SK[:, -1] / growth if growth > 0 else np.zeros_like(drifted_S)
    return Fills(course.target_SK, order_SK, rates, cost_K, turnover_K, course.gross_K)


@dataclass(frozen=True, eq=False)
class _Block:
    """Fills that are solved together; the last three are filled in."""

    target_SK: FloatArray
    moved_SK: FloatArray
    """The position's value at the next fill."""
    growth_K: FloatArray
    """Growth until the next fill, had this one cost nothing."""
    drifted_S: FloatArray
    """What the block before left at the first fill."""
    impact_SK: FloatArray | None
    order_SK: FloatArray
    size_SK: FloatArray
    """Sizes of the orders."""
    cost_K: FloatArray


def _converge(block: _Block, rate: float) -> FloatArray | None:
    """Fill in a block; return the equity at each fill, 1 at the first."""
    order_SK, size_SK, cost_K = block.order_SK, block.size_SK, block.cost_K
    order_SK[:, 0] = block.target_SK[:, 0] - block.drifted_S
    equity_K = np.empty_like(cost_K)
    equity_K[0] = 1.0
    for _ in range(MOST_PASSES):
        growth_K = _floored(block.growth_K - cost_K)
        np.multiply(block.moved_SK[:, :-1], _inverse(growth_K[:-1]), out=size_SK[:, 1:])
        np.subtract(block.target_SK[:, 1:], size_SK[:, 1:], out=order_SK[:, 1:])
        np.abs(order_SK, out=size_SK)
        change_K = rate * size_SK.sum(axis=0)
        if block.impact_SK is not None:
            np.cumprod(growth_K[:-1], out=equity_K[1:])
            change_K += np.sqrt(equity_K) * np.nansum(block.impact_SK * size_SK**1.5, axis=0)
            change_K[equity_K <= 0] = 0.0  # where nothing is left, nothing has to converge
        change_K -= cost_K
        cost_K += change_K
        if max(-change_K.min(), change_K.max()) <= CONVERGED:
            np.cumprod(growth_K[:-1], out=equity_K[1:])
            return equity_K
    return None


def _drop_dust(block: _Block) -> None:
    sent_SK = block.size_SK >= DUST
    if not sent_SK.all():
        block.order_SK[:] *= sent_SK
        block.size_SK[:] *= sent_SK


def _floored(growth_K: FloatArray) -> FloatArray:
    """Return growths of at least 0, in place."""
    return np.asarray(np.maximum(growth_K, 0.0, out=growth_K))


def _inverse(growth_K: FloatArray) -> FloatArray:
    """Return 1 / growth, and 0 where nothing is left."""
    if growth_K.size and growth_K.min() > 0:
        return np.asarray(1 / growth_K)
    return np.divide(1.0, growth_K, out=np.zeros_like(growth_K), where=growth_K > 0)
