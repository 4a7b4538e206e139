"""What forecasts of an order book's mid price are worth on held-out windows.

Shape letters: N windows, H horizons, K movements (down, flat, up), T instants, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidInput
from flash_pipeline.evaluation.bootstrap import mean_deviations

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

REFERENCE = "imbalance"
"""Name of the forecaster that every other one is compared with: logistic imbalance."""

STATE = "state"
"""Name of the harder one: logistic regression on volatility, spread, past moves and flow too."""

BLOCK_MS = 3_600_000
"""Least mean length of the bootstrap's blocks, where the held-out range has four of them: what is
gained follows the volatility, which stays for hours."""

RESAMPLES = 2_000
LEVEL = 0.95
"""Of the intervals."""

_SEED = 58
_LEAST = 1e-7  # of a probability, before its logarithm


@dataclass(frozen=True)
class HeldOut:
    """Held-out windows, in the order of their time."""

    time_N: npt.NDArray[np.int64]
    """When each ends, ms since the epoch; windows of several symbols may share an instant."""
    label_NH: Labels
    """0 down, 1 flat, 2 up, below 0 unknown."""
    move_NH: Floats
    """Move of the mid price, basis points; NaN unknown."""
    horizons: tuple[int, ...]
    """Snapshots ahead."""
    stride_ms: int
    """Milliseconds from one instant to the next."""
    cadence_ms: int
    """Milliseconds between two snapshots."""
    history_length: int
    """Snapshots of a window."""


@dataclass(frozen=True)
class Score:
    """How one forecaster did at one horizon."""

    model: str
    """Name of the forecaster."""
    horizon: int
    """Snapshots ahead; 0 stands for all horizons together."""
    windows: int
    """Windows with a known label."""
    log_loss: float
    """Mean of -ln p of what happened; ln 3 = 1.0986 for one that knows nothing of the classes."""
    accuracy: float
    """Share of the windows whose likeliest movement came."""
    mcc: float
    """Matthews' correlation of three classes (Gorodkin 2004, "Comparing two K-category assignments
    by a K-category correlation coefficient"): 1 perfect, 0 chance or always the same class."""
    rank_correlation: float
    """Spearman's, of p(up) - p(down) and the move; NaN where either does not vary."""
    gain: float
    """Log loss of the reference less its own: above 0 it is better."""
    gain_low: float
    """Lower end of the 95 % interval of that."""
    gain_high: float
    """Upper end."""
    direction_gain: float
    """The same of the direction alone: where the mid price moved, -ln of the share of p(up) +
    p(down) that was given to where it went. Knowing when it will move earns nothing here."""
    direction_low: float
    """Lower end of its 95 % interval."""
    direction_high: float
    """Upper end."""

    @property
    def wins(self) -> bool:
        """Whether it is better than the reference by an interval that excludes zero."""
        return self.gain_low > 0


def score(
    held: HeldOut, forecasts: Mapping[str, npt.NDArray[np.float32]], reference: str = REFERENCE
) -> list[Score]:
    """Return the scores of every forecaster, over all horizons together first.

    Parameters
    ----------
    forecasts : mapping of str to array [N, H, 3]
        Probabilities by the name of the forecaster, the reference among them.
    reference : str
        Whom the others are compared with, window by window.

    Raises
    ------
    InvalidInput
        If the reference is missing, or probabilities have another shape or are no such.
    """
    if reference not in forecasts:
        raise InvalidInput(f"forecasts of {sorted(forecasts)}: expected {reference!r} among them")
    losses = {name: window_losses(held, p_NHK) for name, p_NHK in forecasts.items()}
    turns = {name: direction_losses(held, p_NHK) for name, p_NHK in forecasts.items()}
    rows = []
    for h in (None, *range(len(held.horizons))):
        for name, p_NHK in forecasts.items():
            gained = difference(held, losses[name], losses[reference], h)
            turned = difference(held, turns[name], turns[reference], h)
            rows.append(_score(held, name, p_NHK, losses[name], h, gained + turned))
    return rows


def window_losses(held: HeldOut, p_NHK: npt.NDArray[np.float32]) -> Floats:
    """Return -ln p of what happened, [N, H]; NaN where that is not known."""
    if p_NHK.shape != (*held.label_NH.shape, 3) or not (np.abs(p_NHK.sum(-1) - 1) < 1e-3).all():
        raise InvalidInput(
            f"probabilities have the shape {p_NHK.shape}: expected {(*held.label_NH.shape, 3)}, "
            "each three of which sum to 1"
        )
    known_NH = held.label_NH >= 0
    label_NH = np.where(known_NH, held.label_NH, 0)
    p_NH = np.take_along_axis(p_NHK.astype(np.float64), label_NH[..., None], -1)[..., 0]
    return np.where(known_NH, -np.log(np.maximum(p_NH, _LEAST)), np.nan)


def direction_losses(held: HeldOut, p_NHK: npt.NDArray[np.float32]) -> Floats:
    """Return -ln of the probability given to where the price went, of those of a move, [N, H].

    NaN where it did not move or that is not known.
    """
    ends_NH2 = np.maximum(p_NHK[..., [0, 2]].astype(np.float64), _LEAST)
    given_NH2 = ends_NH2 / ends_NH2.sum(-1, keepdims=True)
    p_NH = np.where(held.label_NH == 2, given_NH2[..., 1], given_NH2[..., 0])
    moved_NH = (held.label_NH == 0) | (held.label_NH == 2)
    return np.where(moved_NH, -np.log(p_NH), np.nan)


def difference(
    held: HeldOut, own_NH: Floats, other_NH: Floats, horizon: int | None
) -> tuple[float, float, float]:
    """Return by how much the other's loss is higher, and the 95 % interval of that.

    Differences of an instant are averaged over horizons and symbols, so that what moves together
    counts once; the mean over instants is resampled by the stationary bootstrap, in blocks of at
    least `BLOCK_MS`, a window's length and twice the longest label's reach, and of a quarter of
    the held-out instants where that is less (`bootstrap.mean_deviations`).

    Parameters
    ----------
    own_NH, other_NH : array
        Of `window_losses` or `direction_losses`.
    horizon : int or None
        Position of the horizon; None for the mean over all.

    Returns
    -------
    tuple of float
        Mean, low, high; of equal forecasts (0, 0, 0).
    """
    chosen = slice(None) if horizon is None else slice(horizon, horizon + 1)
    gain_NH = (other_NH - own_NH)[:, chosen]
    known_N = ~np.isnan(gain_NH).all(axis=1)
    instants, place_N = np.unique(held.time_N[known_N], return_inverse=True)
    if not len(instants):
        return float("nan"), float("nan"), float("nan")
    count_T = np.bincount(place_N)
    gain_T = np.bincount(place_N, weights=np.nanmean(gain_NH[known_N], axis=1)) / count_T
    mean = float(gain_T.mean())
    if not gain_T.any():
        return 0.0, 0.0, 0.0
    ahead = held.horizons[-1 if horizon is None else horizon]
    per_instant = held.stride_ms / held.cadence_ms
    block = max(2 * ahead, held.history_length, BLOCK_MS / held.cadence_ms) / per_instant
    block = max(1.0, min(block, len(gain_T) / 4))
    deviation_R = mean_deviations(
        gain_T,
        block=block,
        resamples=RESAMPLES,
        rng=np.random.default_rng(_SEED),
        reach=max(1, round(ahead / per_instant)),
    )
    low, high = np.quantile(deviation_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # The deviation of the sample from the truth is as likely on the one side as on the other.
    return mean, mean - float(high), mean - float(low)


def calibration(
    held: HeldOut, p_NHK: npt.NDArray[np.float32], bins: int = 10
) -> list[dict[str, float]]:
    """Return how often what was forecast came, by the probability that it was given.

    Probabilities of all windows, horizons and movements together, in bins of equal counts.

    Returns
    -------
    list of dict
        `forecast` and `observed` (means), and `count`.
    """
    known_NH = held.label_NH >= 0
    p_M = p_NHK[known_NH].astype(np.float64).ravel()
    hit_M = (held.label_NH[known_NH][:, None] == np.arange(3)).ravel()
    order = np.argsort(p_M, kind="stable")
    return [
        {
            "forecast": float(p_M[part].mean()),
            "observed": float(hit_M[part].mean()),
            "count": len(part),
        }
        for part in np.array_split(order, min(bins, max(1, len(order))))
        if len(part)
    ]


def verdict(rows: Sequence[Score], model: str, reference: str = REFERENCE) -> str:
    """Return in a sentence whether a model beats the reference of its scores, over all horizons."""
    own = next(row for row in rows if row.model == model and row.horizon == 0)
    span = f"{own.gain:.4f} [{own.gain_low:.4f}, {own.gain_high:.4f}] nats of log loss a window"
    span += (
        f", by {own.direction_gain:.4f} [{own.direction_low:.4f}, {own.direction_high:.4f}] "
        "on the direction of moves alone"
    )
    if own.wins:
        return f"beats logistic {reference} by {span}"
    if own.gain_high < 0:
        return f"is worse than logistic {reference}: {span}"
    return f"has no edge over logistic {reference}: {span}"


def as_json(rows: Sequence[Score]) -> list[dict[str, Any]]:
    """Return scores as plain values, None for NaN."""
    return [
        {key: None if value != value else value for key, value in asdict(row).items()}
        for row in rows
    ]


def _score(
    held: HeldOut,
    name: str,
    p_NHK: npt.NDArray[np.float32],
    loss_NH: Floats,
    horizon: int | None,
    gained: tuple[float, ...],
) -> Score:
    chosen = range(len(held.horizons)) if horizon is None else (horizon,)
    known_NH = held.label_NH >= 0
    each: list[tuple[float, float, float, float]] = []
    for h in chosen:
        known_N = known_NH[:, h]
        label_M, p_MK = held.label_NH[known_N, h], p_NHK[known_N, h]
        told_M = p_MK.argmax(axis=1)
        lean_M = (p_MK[:, 2] - p_MK[:, 0]).astype(np.float64)
        each.append(
            (
                float(np.nanmean(loss_NH[:, h])) if known_N.any() else np.nan,
                float((told_M == label_M).mean()) if known_N.any() else np.nan,
                matthews(label_M, told_M),
                _rank_correlation(lean_M, held.move_NH[known_N, h]),
            )
        )
    log_loss, accuracy, mcc, rank = np.asarray(each).mean(axis=0).tolist()
    return Score(
        model=name,
        horizon=0 if horizon is None else held.horizons[horizon],
        windows=int(known_NH[:, list(chosen)].any(axis=1).sum()),
        log_loss=log_loss,
        accuracy=accuracy,
        mcc=mcc,
        rank_correlation=rank,
        gain=gained[0],
        gain_low=gained[1],
        gain_high=gained[2],
        direction_gain=gained[3],
        direction_low=gained[4],
        direction_high=gained[5],
    )


def matthews(label_M: Labels, told_M: Labels) -> float:
    """Return Matthews' correlation of three classes; 0 where either never varies."""
    table = np.bincount(label_M * 3 + told_M, minlength=9).reshape(3, 3).astype(np.float64)
    total, right = table.sum(), np.trace(table)
    came, told = table.sum(axis=1), table.sum(axis=0)
    below = np.sqrt((total**2 - (came**2).sum()) * (total**2 - (told**2).sum()))
    return float((right * total - came @ told) / below) if below > 0 else 0.0


def _rank_correlation(lean_M: Floats, move_M: Floats) -> float:
    if len(lean_M) < 2 or not np.ptp(lean_M) or not np.ptp(move_M):
        return float("nan")
    return float(np.corrcoef(_ranks(lean_M), _ranks(move_M))[0, 1])


def _ranks(values_M: Floats) -> Floats:
    """Return ranks, ties sharing their mean."""
    _, place_M, count = np.unique(values_M, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place_M], np.float64)
