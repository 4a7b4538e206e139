"""What is wrong with stored snapshots, whatever wrote them.

Shape letters: T snapshots, L levels, S sides.
"""

import numpy as np

from flash_pipeline.market import iso_utc
from flash_pipeline.order_book.snapshots import BookSeries


def book_problems(series: BookSeries) -> list[str]:
    """Return what makes books unusable, a line each: none for sound ones.

    Times that do not ascend; a side without its best price; a best bid at or above the best ask;
    a level that is no further out than the one before it, or that follows an absent one; a size
    that is not above 0; a mid price or tick size that is not.
    """
    time_T, price_TLS, size_TLS = series.time_T, series.book_TLS2[..., 0], series.book_TLS2[..., 1]
    there_TLS = np.isfinite(price_TLS)
    outwards_TLS = price_TLS * np.array([-1.0, 1.0], np.float32)
    nearer_TLS = np.diff(outwards_TLS, axis=1) <= 0
    faults = {
        "its time is not after the one before": np.diff(time_T, prepend=time_T[:1] - 1) <= 0,
        "a side has no best price": ~there_TLS[:, 0].all(axis=1),
        "the book is crossed": price_TLS[:, 0, 0] >= price_TLS[:, 0, 1],
        "levels are out of order": (nearer_TLS & there_TLS[:, 1:]).any(axis=(1, 2)),
        "a level follows an absent one": (there_TLS[:, 1:] & ~there_TLS[:, :-1]).any(axis=(1, 2)),
        "a size is not above 0": (there_TLS & ~(size_TLS > 0)).any(axis=(1, 2)),
        "mid price or tick size is not above 0": ~((series.mid_T > 0) & (series.tick_T > 0)),
    }
    return [
        f"{series.symbol} at {iso_utc(int(time_T[np.argmax(bad_T)]))}: {what} "
        f"({int(bad_T.sum())} snapshots)"
        for what, bad_T in faults.items()
        if bad_T.any()
    ]
