"""The catalog of features: it drives the SQL, the tables' columns and the model's signature.

An expression sees one row per candle with `close`, `volume`, `change` (close less the previous
close) and `log_return`, the last two null unless the previous candle is exactly one interval
older. `{full:n}` stands for "the last n rows are n consecutive candles", `{w:n}` for the window
of the last n rows. A formula is null where its window is not full: no row is ever dropped.

Of a market that closes, the previous candle is the last that there is, however old, and
`{full:n}` stands for "there are n rows": an hour of trading follows the last one of the day before.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """One feature of one symbol's candles."""

    name: str
    """Column name."""
    unit: str
    """Unit of the values."""
    warmup: int
    """Candles needed before the first value, the current one included."""
    formula: str
    """Definition for people."""
    sql: str
    """Expression over the columns named in the module's docstring."""


CATALOG: tuple[Feature, ...] = (
    Feature(
        "log_return",
        unit="ratio, natural logarithm",
        warmup=2,
        formula="ln(close[t] / close[t-1])",
        sql="log_return",
    ),
    Feature(
        "volatility",
        unit="standard deviation of log_return per bar",
        warmup=25,
        formula="sample standard deviation of log_return over the last 24 bars",
        sql="CASE WHEN {full:25} THEN stddev_samp(log_return) OVER {w:24} END",
    ),
    Feature(
        "volume_ma_ratio",
        unit="ratio",
        warmup=24,
        formula="volume[t] / mean of volume over the last 24 bars; null without any volume",
        sql="CASE WHEN {full:24} THEN volume / nullif(avg(volume) OVER {w:24}, 0) END",
    ),
    Feature(
        "price_ma_ratio",
        unit="ratio",
        warmup=24,
        formula="close[t] / mean of close over the last 24 bars",
        sql="CASE WHEN {full:24} THEN close / avg(close) OVER {w:24} END",
    ),
    Feature(
        "rsi",
        unit="0 to 100",
        warmup=15,
        formula="100 * gains / (gains + losses) over the last 14 changes of close, simple means "
        "(Cutler's form of Wilder 1978); 50 in a flat market",
        sql="CASE WHEN {full:15} THEN coalesce(100 * sum(greatest(change, 0)) OVER {w:14} "
        "/ nullif(sum(abs(change)) OVER {w:14}, 0), 50) END",
    ),
)
"""The chapter's five features, in the order of every tensor's feature axis."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in CATALOG)
"""Names in the order of the catalog."""

WARMUP_BARS: int = max(feature.warmup for feature in CATALOG)
"""Candles that must be read to compute the last of them."""
