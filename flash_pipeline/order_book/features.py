"""What a model reads of each level: relative price, log size, age, and the mid price's move.

Shape letters: T snapshots, L levels, S sides (bid, ask), F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.order_book.labels import segment_starts
from flash_pipeline.order_book.snapshots import BookSeries

FEATURES = ("relative_price", "log_size", "age", "mid_move")
"""Order of the feature axis; `mid_move` is the same for all levels of a snapshot."""

MID_MOVE = FEATURES.index("mid_move")

OLDEST_S = 60.0
"""A level that has not changed for longer is as old as this."""


@dataclass(frozen=True)
class BookScale:
    """What features are divided by, learnt from training snapshots alone.

    Raises
    ------
    InvalidConfig
        If a value is not above 0.
    """

    price_bp: float
    """Root mean square of a level's distance from the mid price, in basis points of that."""
    log_size_mean: float
    """Mean of ln(1 + size / size_unit)."""
    log_size_sd: float
    """Its standard deviation."""
    size_unit: float
    """Median size, base coin."""

    def __post_init__(self) -> None:
        for name in ("price_bp", "log_size_sd", "size_unit"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidConfig(f"{name}={value} of a book's scale: expected more than 0")

    @classmethod
    def fit(cls, series: BookSeries) -> Self:
        """Return the scale of snapshots, of which there must be some.

        Raises
        ------
        NotEnoughHistory
            If there are none.
        """
        if not len(series):
            raise NotEnoughHistory(f"no snapshots of {series.symbol} to learn a scale from")
        size = series.book_TLS2[..., 1]
        unit = float(np.nanmedian(size))
        log_size = np.log1p(size / unit)
        return cls(
            price_bp=float(np.sqrt(np.nanmean(_price_bp(series) ** 2))),
            log_size_mean=float(np.nanmean(log_size)),
            log_size_sd=float(np.nanstd(log_size)) or 1.0,
            size_unit=unit,
        )

    def to_json(self) -> dict[str, float]:
        """Return the values, for a bundle; `BookScale(**values)` is the inverse."""
        return asdict(self)


def book_features(
    series: BookSeries, scale: BookScale, cadence_ms: int | None = None
) -> npt.NDArray[np.float32]:
    """Return the features of every level of every snapshot, of its past and present alone.

    Parameters
    ----------
    cadence_ms : int or None
        Milliseconds between two snapshots: where a run ends, ages and moves begin anew. None: the
        series is one run.

    Returns
    -------
    array [T, L, S, 4]
        float32. The price less mid in basis points, over `scale.price_bp`: below 0 for bids. The
        standardised ln(1 + size / unit). The age: ln(1 + seconds since the size at that price was
        last seen to change) over ln(1 + `OLDEST_S`), 0 to 1; a level that comes into view is new.
        The move of the mid price since the snapshot before, in the unit of the relative price, 0
        at the first of a run. All of a level that does not exist are 0.
    """
    x_TLSF = np.empty((*series.book_TLS2.shape[:3], len(FEATURES)), np.float32)
    x_TLSF[..., 0] = _price_bp(series) / scale.price_bp
    log_size = np.log1p(series.book_TLS2[..., 1] / np.float32(scale.size_unit))
    x_TLSF[..., 1] = (log_size - scale.log_size_mean) / scale.log_size_sd
    age = np.minimum(level_ages(series, cadence_ms), OLDEST_S)
    x_TLSF[..., 2] = np.log1p(age) / np.log1p(OLDEST_S)
    x_TLSF[..., MID_MOVE] = (mid_moves(series, cadence_ms) / scale.price_bp)[:, None, None]
    x_TLSF[~level_valid(series)] = 0.0
    return x_TLSF


def level_valid(series: BookSeries) -> npt.NDArray[np.bool_]:
    """Return which levels exist, [T, L, S]."""
    return np.asarray(np.isfinite(series.book_TLS2).all(axis=-1))


def mid_moves(series: BookSeries, cadence_ms: int | None = None) -> npt.NDArray[np.float64]:
    """Return the move of the mid price since the snapshot before, basis points of that, [T].

    0 at the first snapshot of a run: see `book_features`.
    """
    move_T = np.zeros(len(series))
    move_T[1:] = (series.mid_T[1:] / series.mid_T[:-1] - 1) * 1e4
    return np.where(_run_starts(series, cadence_ms) == np.arange(len(series)), 0.0, move_T)


def level_ages(series: BookSeries, cadence_ms: int | None = None) -> npt.NDArray[np.float32]:
    """Return for how long each level has been seen with its size, seconds, [T, L, S].

    A function of the snapshots up to its own: nothing is looked ahead. All levels of a side are
    sorted by price and snapshot; a run of one price and size through neighbouring snapshots is
    one level's life. It ends with a run of snapshots: what was not seen is not known.
    """
    run_T = _run_starts(series, cadence_ms)
    steps, levels = series.book_TLS2.shape[:2]
    age_TLS = np.zeros((steps, levels, 2), np.float32)
    if not steps:
        return age_TLS
    # Whole numbers, also where the tick size changes to a part of what it was.
    unit = series.tick_T.min() / 2
    ticks = np.rint(np.nan_to_num(series.price_TLS()) / unit).astype(np.int64)
    row = np.repeat(np.arange(steps, dtype=np.int64), levels)
    for side in range(2):
        price = ticks[:, :, side].ravel()
        size = series.book_TLS2[:, :, side, 1].ravel()
        order = np.argsort((price - price.min()) * steps + row, kind="stable")
        price, size, at = price[order], size[order], row[order]
        same = (np.diff(price) == 0) & (np.diff(at) == 1) & (size[1:] == size[:-1])
        same &= run_T[at[1:]] == run_T[at[:-1]]
        starts = np.where(np.append(False, same), 0, np.arange(len(at)))
        since = series.time_T[at[np.maximum.accumulate(starts)]]
        age = np.empty(len(at), np.float32)
        age[order] = (series.time_T[at] - since) / 1000.0
        age_TLS[:, :, side] = age.reshape(steps, levels)
    return age_TLS


def imbalance(
    series: BookSeries, first: int = 0, last: int | None = None
) -> npt.NDArray[np.float64]:
    """Return (bid - ask) / (bid + ask) of the sizes at the levels `first` to `last` - 1, [T].

    -1 to 1; NaN where no such level exists.
    """
    size = np.nansum(series.book_TLS2[:, first:last, :, 1].astype(np.float64), axis=1)
    total = size.sum(axis=1)
    return np.asarray(
        np.divide(size[:, 0] - size[:, 1], total, where=total > 0, out=np.full(len(series), np.nan))
    )


def fit_scales(series: Sequence[BookSeries], stop: int) -> dict[str, BookScale]:
    """Return the scale of each symbol, learnt from the snapshots before an instant (ms).

    Prices and the unit of sizes have a scale by symbol; mean and deviation of the log sizes are
    those of all symbols together, so that whoever turns them back needs no symbol.

    Raises
    ------
    NotEnoughHistory
        If a symbol has no snapshot before it.
    """
    seen = {each.symbol: each.between(0, stop) for each in series}
    own = {symbol: BookScale.fit(each) for symbol, each in seen.items()}
    if len(own) < 2:
        return own
    log_size = np.concatenate(
        [np.log1p(seen[s].book_TLS2[..., 1].ravel() / own[s].size_unit) for s in own]
    )
    mean, deviation = float(np.nanmean(log_size)), float(np.nanstd(log_size)) or 1.0
    return {
        symbol: replace(scale, log_size_mean=mean, log_size_sd=deviation)
        for symbol, scale in own.items()
    }


def price_step(series: Sequence[BookSeries], scales: Mapping[str, BookScale]) -> float:
    """Return the least difference of two prices in the unit of the relative price, above 0."""
    return min(
        float((each.tick_T / each.mid_T).min()) * 1e4 / scales[each.symbol].price_bp
        for each in series
        if len(each)
    )


def _run_starts(series: BookSeries, cadence_ms: int | None) -> npt.NDArray[np.int64]:
    if cadence_ms is None:
        return np.zeros(len(series), np.int64)
    return segment_starts(series.time_T, cadence_ms)


def _price_bp(series: BookSeries) -> npt.NDArray[np.float32]:
    factor = (series.tick_T / series.mid_T * 1e4).astype(np.float32)
    return np.asarray(series.book_TLS2[..., 0] * factor[:, None, None])
